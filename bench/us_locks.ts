/*
 * us_locks: the façade's locks as a competitor. One operation is one pair.
 *
 *      mutex     lock, unlock
 *      read      lockRead, unlockRead
 *      nested    the same, while another rwlock is read
 *      again     the same, while this rwlock is read
 *      write     lockWrite, unlockWrite
 *
 * Nobody contends.  Two of 64 CPU slots have read some lock: the second is a
 * thread that read once and sits in its event loop, so that a writer has two rows
 * to look at.
 */
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { attach, boot } from '../src/lib/index.ts';
import { serve, timed } from './child.ts';

if (isMainThread) await main();
else {
  const machine = attach(workerData);
  machine.rwlock('other').read(() => {});
  parentPort?.once('message', () => machine.detach());
  parentPort?.postMessage('read');
}

async function main(): Promise<void> {
  const machine = boot({ memory: '64M', cpus: 64 });
  const second = machine.adopt(
    new Worker(new URL(import.meta.url), { workerData: machine.handle }),
  );
  await once(second, 'message');
  second.unref();
  const mutex = machine.mutex('mutex');
  const lock = machine.rwlock('lock');
  const other = machine.rwlock('other');

  function mutexes(ops: number): void {
    for (let i = 0; i < ops; i++) {
      mutex.lock();
      mutex.unlock();
    }
  }
  function reads(ops: number): void {
    for (let i = 0; i < ops; i++) {
      lock.lockRead();
      lock.unlockRead();
    }
  }
  function writes(ops: number): void {
    for (let i = 0; i < ops; i++) {
      lock.lockWrite();
      lock.unlockWrite();
    }
  }
  await serve(
    {
      mutex: (ops) => timed(ops, mutexes),
      read: (ops) => timed(ops, reads),
      nested: (ops) => other.read(() => timed(ops, reads)),
      again: (ops) => lock.read(() => timed(ops, reads)),
      write: (ops) => timed(ops, writes),
    },
    'kmem',
  );
  process.exit(0);
}
