/*
 * The other threads of line.test.ts: many tasks each, in one event loop, on what all
 * threads share.  Each answers with what its tasks got, in the order of their answers.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach } from './index.ts';
import { slices } from './wait.ts';

export interface LineStart {
  readonly kmem: unknown;
  readonly job: string;
  readonly tasks: number;
  /** Nothing but wake-ups ends a sleep. */
  readonly told?: boolean;
}
const start = workerData as LineStart;
if (start.told) slices.asyncMs = slices.sleepMs = 3_600_000;
const machine = attach(start.kmem as never);
const z = machine.zone('z', { size: 4096, limit: 8 });
const q = machine.queue('q', { capacity: 8 });
const m = machine.mutex('m');
const stop = machine.queue('stop', { capacity: 8 });

/** Items that this thread has not given back; z.used is a sample, which may miss some. */
let held = 0;
const jobs: Record<string, (i: number) => Promise<unknown>> = {
  alloc: async () => {
    const item = await z.allocAsync();
    held++;
    setImmediate(() => {
      z.free(item);
      held--;
    });
  },
  pop: () => q.popAsync(),
  push: (i) => q.pushAsync(i),
  lock: async () => {
    await m.lockAsync();
    m.unlock();
  },
};
if (start.job === 'hammer') {
  // A thread that leaves the mutex hardly a moment.
  parentPort?.postMessage('up');
  let rounds = 0;
  for (; stop.tryPop() === undefined; rounds++) {
    m.lock();
    for (let i = 0; i < 2000; i++);
    m.unlock();
  }
  machine.detach();
  parentPort?.postMessage(rounds);
} else {
  const turns: number[] = [];
  const got: unknown[] = [];
  const all = Array.from({ length: start.tasks }, async (_, i) => {
    got.push(await jobs[start.job](i));
    turns.push(i);
  });
  parentPort?.postMessage('up');
  Promise.all(all).then(async () => {
    while (held > 0) await new Promise((go) => setTimeout(go, 2));
    machine.detach();
    parentPort?.postMessage({ turns, got });
  });
}
