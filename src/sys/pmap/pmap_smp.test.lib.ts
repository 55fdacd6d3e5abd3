/*
 * pmap_smp: three threads on two pmaps and one object, some of them killed and replaced, for a
 * test and for a stress program.
 */
import assert from 'node:assert/strict';
import { boot } from '../boot/whole.ts';
import { atomic_load } from '../machine/atomic.ts';
import { counter_get, counters } from '../machine/counter.ts';
import { churn } from '../machine/kills.test.lib.ts';
import { Crew, type Job } from '../machine/workers.test.lib.ts';
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
  const start = (_: number, n: number): Use => crew.start(handle, 'use', { seed: seed + n });
  const words = { done: done_word(), stop: stop_word() };
  await churn({ crew, workers: WORKERS, start, kills, seed, ...words, work: 10_000 });
  const all = atomic_load(done_word());
  assert.ok(count('vm.stats.tlb.shootdowns') > 100);
  views_check();
  views_end();
  return all;
}
