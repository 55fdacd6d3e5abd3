/*
 * Shows: threads that map, write, protect and fork at once on memory with common ancestors see what
 * they wrote and nothing else; a fork is one cut through the stores of all threads; and threads
 * that are killed in the middle of it lose nothing of the others, nor a page, an entry, a table or
 * a reference.
 * By what means: two or three workers beside their models, some of them killed and replaced; the
 * walkers afterwards.  Of the cut: one thread counts in x, another copies x to y, a third forks:
 * no copy has y ahead of x.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { counter_get, counters } from '../machine/counter.ts';
import { kill_in_turn } from '../machine/kills.test.lib.ts';
import { dice, SEED } from '../machine/seed.test.lib.ts';
import { Crew, type Job, sleep, within } from '../machine/workers.test.lib.ts';
import { KERN_FAILURE, KERN_SUCCESS } from '../h/vm_map.ts';
import { done_word, map_drop, maps_make, stop_word } from './vm_map.test.lib.ts';
import { X_PAGE, Y_PAGE } from './vm_fault_litmus.test.lib.ts';
import {
  SPACES,
  space_first,
  space_fork,
  space_make,
  space_map,
  spaces_check,
  spaces_end,
  WINDOW,
} from './vm_space.test.lib.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
type Work = Job<{ n: number }>;
const WORKER = new URL('./vm_fault.test.worker.ts', import.meta.url);
/** Waits until so much more was done, or a worker ended: which says why. */
async function work(jobs: readonly Work[], n: number): Promise<void> {
  const until = atomic_load(done_word()) + n;
  let ended = false;
  const ends = jobs.map((j) => j.done.finally(() => (ended = true)));
  const enough = (async () => {
    while (atomic_load(done_word()) < until && !ended) await sleep(2);
  })();
  await within(Promise.race([enough, ...ends]), `${n} operations`);
}
async function churn(kills: number, seed: number, INVARIANTS: boolean): Promise<void> {
  const workers = 2;
  const options = { INVARIANTS, WITNESS: INVARIANTS };
  const { handle } = boot({ memory: '16M', cpus: workers + 1, options, fresh: true });
  maps_make();
  const crew = new Crew<{ n: number }>(WORKER);
  const count = SPACES / workers;
  const start = (i: number, n: number): Work =>
    crew.start(handle, 'churn', { seed: seed + n, first: i * count, count });
  const jobs = Array.from({ length: workers }, (_, i) => start(i, i));
  const draw = dice(seed);
  try {
    await within(Promise.all(jobs.map((j) => j.up)), 'the workers');
    const next = (i: number, n: number): Work => start(i, workers + n);
    await kill_in_turn({ jobs, kills, draw, done: done_word(), start: next });
    await work(jobs, 3000);
    atomic_store(stop_word(), 1);
    await within(Promise.all(jobs.map((j) => j.done)), 'the workers');
  } finally {
    await crew.end();
  }
  spaces_check();
  spaces_end();
}
for (const INVARIANTS of [true, false]) {
  const how = INVARIANTS ? 'with INVARIANTS' : 'as programs run';
  test(`two threads and spaces of their own, ${how}`, () => churn(0, SEED, INVARIANTS));
  test(`threads killed in the middle of it, ${how}`, () => churn(8, SEED + 1, INVARIANTS));
}

async function snapshots(kills: number, seed: number, INVARIANTS: boolean): Promise<void> {
  const workers = 2;
  const options = { INVARIANTS, WITNESS: INVARIANTS };
  const { handle } = boot({ memory: '16M', cpus: workers + 1, options, fresh: true });
  maps_make();
  assert.ok(space_make(0));
  assert.equal(space_map(0, 0, WINDOW), KERN_SUCCESS);
  const crew = new Crew<{ n: number }>(WORKER);
  const start = (part: number, n: number): Work =>
    crew.start(handle, 'writer', { seed: seed + n, part, of: workers });
  const jobs = Array.from({ length: workers }, (_, i) => start(i, i));
  const draw = dice(seed);
  let [taken, silent] = [0, 0];
  try {
    await within(Promise.all(jobs.map((j) => j.up)), 'the workers');
    const next = (i: number, n: number): Work => start(i, workers + n);
    const killing = kill_in_turn({ jobs, kills, draw, done: done_word(), start: next });
    let over = kills === 0;
    void killing.finally(() => (over = true));
    for (let n = 0; n < 60 || !over; n++) {
      await work(kills === 0 ? jobs : [], 32); // the killed end, too
      const result = space_fork(0, 1);
      if (result === KERN_FAILURE) silent++;
      else {
        assert.equal(result, KERN_SUCCESS);
        taken++;
        // Of killed writers the one may begin again from 1 while the other has not looked yet.
        if (kills === 0) {
          const [x, y] = [space_first(1, X_PAGE), space_first(1, Y_PAGE)];
          assert.ok(y <= x, `copy ${n}: y is ${y}, x is ${x}`);
        }
        map_drop(1);
      }
    }
    await killing;
    atomic_store(stop_word(), 1);
    await within(Promise.all(jobs.map((j) => j.done)), 'the workers');
  } finally {
    await crew.end();
  }
  const shootdowns = counters.find((c) => c.name === 'vm.stats.tlb.shootdowns');
  assert.ok(shootdowns && counter_get(shootdowns) > 0);
  assert.ok(taken > 20, `${taken} copies, ${silent} times a CPU was silent`);
  spaces_check();
  spaces_end();
}
for (const INVARIANTS of [true, false]) {
  const how = INVARIANTS ? 'with INVARIANTS' : 'as programs run';
  test(`a fork is one cut, ${how}`, () => snapshots(0, SEED + 2, INVARIANTS));
  test(`while writers are killed, ${how}`, () => snapshots(6, SEED + 3, INVARIANTS));
}
