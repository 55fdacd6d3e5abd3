/*
 * A worker of checked.slow.test.ts: uses what the façade has until it is killed, or for
 * so many rounds and then detaches; with `stay` when it is told to.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach } from './index.ts';

const { rounds, stay = false } = workerData as { rounds: number; stay?: boolean };
const machine = attach(workerData);
const zone = machine.zone('shared', { size: 96 });
const type = machine.type('shared');
const mutex = machine.mutex('shared');
const rw = machine.rwlock('shared');
const records = machine.records('points', { x: 'f64', hp: 'i32' }, { capacity: 700 });
parentPort?.postMessage('up');
for (let i = 0; i < rounds; i++) {
  const item = zone.alloc();
  const point = records.tryAlloc();
  type.free(type.alloc(1 + ((i * 37) % 6000)));
  mutex.lock();
  mutex.unlock();
  rw.lockWrite();
  rw.unlockWrite();
  machine.chain(new Uint8Array(100 * (i % 50))).free();
  if (i % 20 === 0) machine.sysctl('vm.stats.vm.v_free_count');
  if (i % 50 === 0) machine.vmstat('z');
  if (point !== undefined) records.free(point);
  zone.free(item);
}
if (stay) {
  parentPort?.once('message', leave);
  parentPort?.postMessage('stays');
} else leave();

function leave(): void {
  machine.detach();
  parentPort?.postMessage('left');
}
