/*
 * The second thread of told.test.ts: it waits behind the first one, for what that was
 * told and could not use.  Nothing but a wake-up ends its sleeps.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach } from './index.ts';
import { slices } from './wait.ts';

slices.sleepMs = slices.asyncMs = slices.mostMs = slices.firstMs = 3_600_000;
const { kmem, job } = workerData as { kmem: never; job: string };
const machine = attach(kmem);
const q = machine.queue('q', { capacity: 2 });
const m = machine.mutex('m');
const c = machine.condition('c');
let open = false;
const jobs: Record<string, () => unknown> = {
  pop: () => q.pop(),
  popAsync: () => q.popAsync(),
  push: () => {
    q.push(9);
    return 'pushed';
  },
  wait: () => m.run(() => c.wait(m)),
  waitAsync: async () => {
    m.lock();
    const wait = c.waitAsync(m, () => open);
    open = true; // it sleeps by now, and was asked before and after it had queued
    await wait;
    m.unlock();
    return true;
  },
  lock: () => m.run(() => 'locked'),
};
const done = jobs[job]; // everything is made: only the wait is left
parentPort?.postMessage(machine.cpu);
Promise.resolve(done()).then((got) => {
  machine.detach();
  parentPort?.postMessage(got);
});
