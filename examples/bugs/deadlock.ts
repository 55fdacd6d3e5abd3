/*
 * deadlock: two threads take two mutexes in opposite orders, and wait for each other for ever.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { isMainThread, parentPort, type Worker, workerData } from 'node:worker_threads';
import { attach, boot } from '../../src/lib/index.ts';

const machine = isMainThread ? boot({ memory: '8M', cpus: 4 }) : attach(workerData);
const [ada, grace] = [machine.mutex('ada'), machine.mutex('grace')];

if (isMainThread) {
  ada.lock();
  const worker = machine.worker<Worker>(new URL(import.meta.url));
  worker.once('message', () => {
    grace.lock(); // the fault: the other thread takes them the other way round
  });
  console.log('see what process', process.pid, 'does');
} else {
  grace.lock();
  parentPort?.postMessage('grace is mine');
  await sleep(1000);
  ada.lock();
}
