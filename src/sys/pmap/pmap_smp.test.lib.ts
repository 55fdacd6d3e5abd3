/*
 * pmap_smp: three threads on two pmaps and one object, some of them killed and replaced, for a
 * test and for a stress program.
 */
import assert from 'node:assert/strict';
import { boot } from '../boot/whole.ts';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { counter_get, counters } from '../machine/counter.ts';
import { kill_in_turn } from '../machine/kills.test.lib.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { Crew, type Job, until, within } from '../machine/workers.test.lib.ts';
import { done_word, stop_word, views_check, views_end, views_make } from './pmap_views.test.lib.ts';

type Use = Job<{ n: number }>;
const WORKERS = 3;
const count = (name: string): number => {
  const c = counters.find((k) => k.name === name);
  assert.ok(c, name);
  return counter_get(c);
};
/** Three threads, of which so many die one after the other. Returns the operations done. */
export async function together(o: {
  kills: number;
  seed: number;
  INVARIANTS: boolean;
}): Promise<number> {
  const { kills, seed, INVARIANTS } = o;
  const options = { INVARIANTS, WITNESS: INVARIANTS };
  const { handle } = boot({ memory: '4M', cpus: WORKERS + 1, options, fresh: true });
  assert.ok(views_make());
  const crew = new Crew<{ n: number }>(new URL('./pmap.test.worker.ts', import.meta.url));
  const start = (n: number): Use => crew.start(handle, 'use', { seed: seed + n });
  const jobs = Array.from({ length: WORKERS }, (_, i) => start(i));
  const draw = dice(seed);
  try {
    await within(Promise.all(jobs.map((j) => j.up)), 'the workers');
    const next = (_i: number, n: number): Use => start(WORKERS + n);
    await kill_in_turn({ jobs, kills, draw, done: done_word(), start: next });
    const done = atomic_load(done_word());
    const work = until(() => atomic_load(done_word()) - done > 10_000, 'work');
    await Promise.race([work, ...jobs.map((j) => j.done)]); // who ends by now says why
    atomic_store(stop_word(), 1);
    await within(Promise.all(jobs.map((j) => j.done)), 'the workers');
  } finally {
    await crew.end();
  }
  const all = atomic_load(done_word());
  assert.ok(count('vm.stats.tlb.shootdowns') > 100);
  views_check();
  views_end();
  return all;
}
