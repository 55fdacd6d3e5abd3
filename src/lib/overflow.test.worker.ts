/*
 * A worker of the overflow tests: lets recursions overflow in every kind of call, or
 * works on beside threads that do, and posts what it saw.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach } from './index.ts';
import { type Overflowed, overflow, TRIED_CALLS } from './overflow.test.lib.ts';

interface Start {
  readonly id: string;
  /** How often each kind overflows; 0: this worker never does. */
  readonly rounds: number;
  /** Milliseconds to work beside them. */
  readonly ms: number;
}
const { id, rounds, ms } = workerData as Start;
const machine = attach(workerData);

/** Takes and gives back, and waits for nobody. Returns how often. */
function work(): number {
  const t = machine.type('beside');
  const R = machine.records('beside', { x: 'f64' }, { capacity: 500 });
  const q = machine.queue('beside', { of: t, capacity: 4 });
  let n = 0;
  for (const end = performance.now() + ms; performance.now() < end; n++) {
    const at = t.alloc(16 + ((n * 61) % 7000));
    const item = R.alloc();
    q.push(at);
    R.free(item);
    const back = q.pop();
    if (back !== undefined) t.free(back);
    machine.chain(new Uint8Array(3000)).free();
    machine.rwlock('overflow').read(() => {});
  }
  q.dispose();
  R.dispose();
  return n;
}

if (rounds === 0) parentPort?.postMessage(work());
else {
  const seen: Record<string, Overflowed> = {};
  for (const kind of Object.keys(TRIED_CALLS)) seen[kind] = overflow(machine, kind, id, rounds);
  parentPort?.postMessage(seen);
}
machine.detach();
