/*
 * A program for uncaught.test.ts: an error that nobody catches ends it, in this thread or in a
 * worker of it; or a promise that is rejected.
 */
import { isMainThread, workerData } from 'node:worker_threads';
import { type Address, attach, boot, type Machine } from './index.ts';

function wrong(machine: Machine): void {
  const type = machine.type('sessions');
  type.free((type.alloc(100) + 16) as Address);
}
const [, , what, folder] = process.argv;
if (!isMainThread) wrong(attach(workerData));
else {
  const machine = boot({ memory: '4M', cpus: 3, dump: folder });
  if (what === 'worker') machine.worker(new URL(import.meta.url));
  else if (what === 'promise') Promise.resolve(machine).then(wrong);
  else if (what === 'left') {
    machine.shutdown();
    throw new Error('without a machine');
  } else wrong(machine);
}
