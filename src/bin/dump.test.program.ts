/*
 * A program for dump.slow.test.ts: so many machines, one in each thread, with blocks in them.  It
 * says what vmstat says of each, then either its event loop runs and it listens, or it is stuck:
 * with its control socket open, or without ever having had one.
 */
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { boot } from '../lib/index.ts';

const [, , does, count] = process.argv;
const machine = boot({ memory: '4M', cpus: 3 });
const n = isMainThread ? 0 : (workerData as number);
const type = machine.type(`of thread ${n}`);
for (let i = 1; i < 100; i++) type.alloc(i * (n + 30));
machine.zone('conn', { size: 96 }).alloc();
if (does !== 'stuck') await machine.listen();
const id = (machine.handle.id >>> 0).toString(16);
const own = { id, m: machine.vmstat('m'), z: machine.vmstat('z') };

if (isMainThread) {
  const all = [own];
  for (let i = 1; i < Number(count); i++) {
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: i, argv: [does] });
    all.push((await once(worker, 'message'))[0]);
  }
  setInterval(() => {}, 1000);
  process.stdout.write(`${JSON.stringify(all)}\n`, () => {
    while (does !== 'listen');
  });
} else {
  parentPort?.postMessage(own);
  setInterval(() => {}, 1000);
}
