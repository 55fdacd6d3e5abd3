/*
 * vm_fault_smp: two workers on address spaces, some of them killed and replaced, for a test and
 * for a stress program.
 *
 * Of the cut that a fork is: one worker counts in x, another copies x to y, this thread forks.
 * No copy has y ahead of x.
 *
 * With `slots` there is a swap area with room for so many pages, and the workers send pages out.
 */
import assert from 'node:assert/strict';
import { boot } from '../boot/whole.ts';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { counter_get, counters } from '../machine/counter.ts';
import { churn, kill_in_turn, work_done } from '../machine/kills.test.lib.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { Crew, type Job, within } from '../machine/workers.test.lib.ts';
import { KERN_FAILURE, KERN_SUCCESS } from '../h/vm_map.ts';
import { done_word, map_drop, maps_make, stop_word } from './vm_map.test.lib.ts';
import { X_PAGE, Y_PAGE } from './vm_fault_litmus.test.lib.ts';
import { swap_up } from './vm_swap.test.lib.ts';
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

type Work = Job<{ n: number }>;
const WORKER = new URL('./vm_fault.test.worker.ts', import.meta.url);
/** Two threads on spaces of their own, forked from one another's. Returns the operations done. */
export async function spaces_churn(
  kills: number,
  seed: number,
  INVARIANTS: boolean,
  slots = 0,
): Promise<number> {
  const workers = 2;
  const options = { INVARIANTS, WITNESS: INVARIANTS };
  const { handle } = boot({ memory: '16M', cpus: workers + 1, options, fresh: true });
  maps_make();
  if (slots > 0) swap_up(slots);
  const crew = new Crew<{ n: number }>(WORKER);
  const paging = slots > 0;
  const count = SPACES / workers;
  const start = (i: number, n: number): Work =>
    crew.start(handle, 'churn', { seed: seed + n, first: i * count, count, paging });
  const words = { done: done_word(), stop: stop_word() };
  await churn({ crew, workers, start, kills, seed, ...words, work: 3000 });
  const all = atomic_load(done_word());
  if (slots > 0) assert.ok(counted('v_swappgsout') > 0 && counted('v_swappgsin') > 0);
  spaces_check();
  spaces_end();
  return all;
}
function counted(name: string): number {
  const counter = counters.find((c) => c.name === `vm.stats.vm.${name}`);
  assert.ok(counter);
  return counter_get(counter);
}
/** Copies that are taken, and how often one may be refused for a CPU that is silent. */
const COPIES = 40;
const SILENT_MAX = 2000;
/** Two threads write to one space, which this one copies. Returns the operations done. */
export async function snapshots(
  kills: number,
  seed: number,
  INVARIANTS: boolean,
  slots = 0,
): Promise<number> {
  const workers = 2;
  const options = { INVARIANTS, WITNESS: INVARIANTS };
  const { handle } = boot({ memory: '16M', cpus: workers + 1, options, fresh: true });
  maps_make();
  if (slots > 0) swap_up(slots);
  const paging = slots > 0;
  assert.ok(space_make(0));
  assert.equal(space_map(0, 0, WINDOW), KERN_SUCCESS);
  const crew = new Crew<{ n: number }>(WORKER);
  const start = (part: number, n: number): Work =>
    crew.start(handle, 'writer', { seed: seed + n, part, of: workers, paging });
  const jobs = Array.from({ length: workers }, (_, i) => start(i, i));
  const draw = dice(seed);
  let [taken, silent] = [0, 0];
  try {
    await within(Promise.all(jobs.map((j) => j.up)), 'the workers');
    const next = (i: number, n: number): Work => start(i, workers + n);
    const killing = kill_in_turn({ jobs, kills, draw, done: done_word(), start: next });
    let over = kills === 0;
    void killing.finally(() => (over = true));
    for (let n = 0; taken < COPIES || !over; n++) {
      await work_done(kills === 0 ? jobs : [], done_word(), 32); // the killed end, too
      const result = space_fork(0, 1);
      // On a loaded host a CPU may be silent for longer than a fork waits: once more.
      if (result === KERN_FAILURE) assert.ok(++silent < SILENT_MAX, `${taken} copies`);
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
  const all = atomic_load(done_word());
  if (slots > 0) assert.ok(counted('v_swappgsout') > 0 && counted('v_swappgsin') > 0);
  spaces_check();
  spaces_end();
  return all;
}
