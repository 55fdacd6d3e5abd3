/*
 * Shows: no thread ever reads or writes a page through a translation that was taken back, after
 * the page became another one; no store comes after the right to write was taken away; and
 * threads that are killed in the middle of it leave tables, lists and tags right.
 * By what means: three threads on two pmaps and one object (pmap_views.test.lib.ts), some
 * killed and replaced; the walkers afterwards.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { kill_in_turn } from '../machine/kills.test.lib.ts';
import { dice, SEED } from '../machine/seed.test.lib.ts';
import { Crew, type Job, until, within } from '../machine/workers.test.lib.ts';
import { counter_get, counters } from '../machine/counter.ts';
import { done_word, stop_word, views_check, views_end, views_make } from './pmap_views.test.lib.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
type Use = Job<{ n: number }>;
const WORKERS = 3;
const count = (name: string): number => {
  const c = counters.find((k) => k.name === name);
  assert.ok(c, name);
  return counter_get(c);
};
async function together(kills: number, seed: number, INVARIANTS: boolean): Promise<void> {
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
  assert.ok(count('vm.stats.tlb.shootdowns') > 100);
  views_check();
  views_end();
}
for (const INVARIANTS of [true, false]) {
  const how = INVARIANTS ? 'with INVARIANTS' : 'as programs run';
  test(`threads on the same pages, ${how}`, () => together(0, SEED, INVARIANTS));
  test(`threads killed in the middle of it, ${how}`, () => together(8, SEED + 1, INVARIANTS));
}
