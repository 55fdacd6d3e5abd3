/*
 * Mutex, rw, sx, sleep queues and aborts hammered by three workers for
 * KMEM_STRESS_SECONDS (default 60), in turns, with and without the assembled
 * helper and with WITNESS: invariants inside, exact sums at the end, nobody
 * stuck.  A worker that makes no progress for STUCK_MS ends the run.
 */
import assert from 'node:assert/strict';
import { atomic_load } from '../machine/atomic.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { field_word } from '../machine/struct.ts';
import { sleep, within } from '../machine/workers.test.lib.ts';
import { sleepq_check, wakeup } from './subr_sleepqueue.ts';
import {
  area,
  type area_t,
  bring_up,
  leave,
  progress_of,
  start,
  stop_jobs,
  the_area,
} from './sync.test.lib.ts';
import { witness_reports } from './witness.ts';

const STUCK_MS = 5000;
const LOOK_MS = 250;
const seconds = Number(process.env.KMEM_STRESS_SECONDS ?? 60);
const first_seed = Number(process.argv[2] ?? SEED);

interface Kind {
  readonly name: string;
  readonly jobs: readonly (readonly [string, Record<string, unknown>])[];
  check(t: area_t, sum: (name: string) => number): void;
}
const tokens = (cv: boolean): Kind => ({
  name: cv ? 'condvar' : 'msleep',
  jobs: [
    ['tokens', { put: true, cv }],
    ['tokens', { put: false, cv }],
    ['tokens', { put: false, cv }],
  ],
  check: (t, sum) => assert.equal(area.tokens[t], sum('put') - sum('got')),
});
const shared = (sx: boolean): Kind => ({
  name: sx ? 'sx' : 'rw',
  jobs: [
    ['rw', { sx }],
    ['rw', { sx }],
    ['rw', { sx }],
  ],
  check: (t, sum) => {
    assert.equal(area.x[t], sum('writes') + sum('upgrades'));
    assert.equal(area.y[t], area.x[t]);
    assert.equal(atomic_load(t + (sx ? area.sx : area.rw)) & ~3, 0);
  },
});
const kinds: Kind[] = [
  {
    name: 'mutex',
    jobs: [
      ['mutex', {}],
      ['mutex', {}],
      ['mutex', {}],
    ],
    check: (t, sum) => {
      assert.equal(area.a[t], sum('n'));
      assert.equal(area.b[t], sum('n'));
      assert.equal(atomic_load(t + area.mtx), 0);
    },
  },
  shared(false),
  shared(true),
  tokens(false),
  tokens(true),
];

/** Ends when the time is over; throws if some worker stands still. */
async function watch(t: area_t, cpus: number[], ms: number, what: string): Promise<number> {
  const end = performance.now() + ms;
  const last = cpus.map(() => 0);
  const moved = cpus.map(() => performance.now());
  while (performance.now() < end) {
    await sleep(LOOK_MS);
    for (const [i, cpu] of cpus.entries()) {
      const now = progress_of(t, cpu);
      if (now !== last[i]) moved[i] = performance.now();
      last[i] = now;
      if (performance.now() - moved[i] > STUCK_MS) throw new Error(`cpu${cpu} is stuck: ${what}`);
    }
  }
  return last.reduce((a, b) => a + b, 0);
}

async function run(kind: Kind, seed: number, ms: number, round: number): Promise<number> {
  const atomics = round % 3 === 1 ? 'atomics' : 'wasm';
  const what = `${kind.name} by ${atomics}${round % 3 === 2 ? ' with WITNESS' : ''}, seed ${seed}`;
  const handle = bring_up({ atomics, options: { WITNESS: round % 3 === 2 } });
  const t = the_area();
  const jobs = kind.jobs.map(([job, args], i) => start(handle, job, { ...args, seed: seed + i }));
  const cpus = await within(Promise.all(jobs.map((j) => j.up)), what);
  const operations = await watch(t, cpus, ms, what);
  stop_jobs(t);
  const waker = setInterval(() => wakeup(field_word(area.tokens, t)), 20);
  const counts = await within(Promise.all(jobs.map((j) => j.done)), what);
  clearInterval(waker);
  const sum = (name: string): number => counts.reduce((n, c) => n + Number(c[name] ?? 0), 0);
  kind.check(t, sum);
  assert.equal(witness_reports(), 0, what);
  sleepq_check();
  leave();
  console.log(`${what}: ${operations} operations`);
  return operations;
}

const end = performance.now() + seconds * 1000;
const turn_ms = Math.max(1000, Math.min(10_000, (seconds * 1000) / (kinds.length * 3)));
let total = 0;
let round = 0;
do {
  for (const kind of kinds) {
    if (round > 0 && performance.now() > end) break;
    total += await run(kind, first_seed + round, turn_ms, round);
  }
  round++;
} while (performance.now() < end);
console.log(`${(total / 1e6).toFixed(1)} M operations in ${round} rounds, 3 workers`);
process.exit(0);
