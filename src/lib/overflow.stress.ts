/*
 * Stack overflows without end: for KMEM_STRESS_SECONDS (default 60) recursions run out
 * of stack in every kind of call, in the main thread and in workers at once, one of
 * them with a small stack, beside a thread that goes on; machines with and without the
 * checks in turn.  After each turn nothing may be left (overflow.test.lib.ts).
 */
import { once } from 'node:events';
import type { Worker } from 'node:worker_threads';
import { boot } from './index.ts';
import { type Overflowed, overflow, TRIED_CALLS } from './overflow.test.lib.ts';

const seconds = Number(process.env.KMEM_STRESS_SECONDS ?? 60);
const end = performance.now() + seconds * 1000;
const FILE = new URL('./overflow.test.worker.ts', import.meta.url);
const KINDS = Object.keys(TRIED_CALLS);
let refused = 0;
let done = 0;
let worked = 0;

function count(kind: string, s: Overflowed): void {
  if (s.wrong !== '' || s.open !== 0) throw new Error(`${kind}: ${JSON.stringify(s)}`);
  refused += s.refused;
  done += s.done;
}
for (let turn = 0; performance.now() < end; turn++) {
  const checks = turn % 2 === 1;
  const options = { INVARIANTS: checks, WITNESS: checks };
  const machine = boot({ memory: '64M', cpus: 6, fresh: true, options });
  const start = (workerData: object, resourceLimits = {}): Promise<unknown> => {
    const worker = machine.worker<Worker>(FILE, { workerData, resourceLimits });
    return once(worker, 'message').then(([message]) => message as unknown);
  };
  const beside = start({ id: 'w', rounds: 0, ms: 2000 });
  const others = [
    start({ id: 'a', rounds: 1, ms: 0 }),
    start({ id: 's', rounds: 1, ms: 0 }, { stackSizeMb: 0.5 }),
  ];
  for (const kind of KINDS) count(kind, overflow(machine, kind, 'm', 1 + (turn % 3)));
  for (const seen of (await Promise.all(others)) as Record<string, Overflowed>[]) {
    for (const [kind, s] of Object.entries(seen)) count(kind, s);
  }
  worked += (await beside) as number;
  await machine.endWorkers();
  machine.check();
  machine.shutdown();
}
console.log(`${refused} calls refused for want of stack, ${done} done, ${worked} beside them`);
