/*
 * A worker of checked.slow.test.ts: uses what the façade has until it is killed, or for
 * so many rounds and then detaches; with `stay` when it is told to.  The one before it
 * may have been killed with a lock in its hand, which it recovers.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach, KmemError } from './index.ts';

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
  take(mutex, () => mutex.lock());
  mutex.unlock();
  take(rw, () => rw.lockWrite());
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

function take(lock: { recover(mend: () => void): boolean }, call: () => unknown): void {
  for (;;) {
    try {
      call();
      return;
    } catch (e) {
      if (!(e instanceof KmemError && e.code === 'EOWNERDEAD')) throw e;
      lock.recover(() => {});
    }
  }
}
function leave(): void {
  machine.detach();
  parentPort?.postMessage('left');
}
