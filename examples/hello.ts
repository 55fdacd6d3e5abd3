/*
 * hello: two threads, one heap.  A worker writes into memory that the main
 * thread allocated; nothing is copied and nothing is posted but the handle.
 */
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { type Address, attach, boot } from '../src/lib/index.ts';

if (isMainThread) {
  const machine = boot({ memory: '64M' });
  const greetings = machine.type('greetings'); // a row in vmstat -m
  const at = greetings.alloc(64, { zero: true });
  machine.roots.set('greeting', at); // other threads find it by name
  const worker = machine.adopt(new Worker(import.meta.filename, { workerData: machine.handle }));
  worker.on('exit', () => {
    console.log(machine.readText(at, 26));
    greetings.free(at);
    machine.shutdown();
  });
} else {
  const machine = attach(workerData);
  machine.writeText(machine.roots.get<Address>('greeting') ?? 0, 'hello from another thread!', 64);
  machine.detach();
}
