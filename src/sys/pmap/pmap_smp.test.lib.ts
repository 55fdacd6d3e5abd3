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
import {
  done_word,
  stop_word,
  view_renew,
  view_whole,
  views_check,
  views_end,
  views_make,
} from './pmap_views.test.lib.ts';

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
  /** On pages that are a superpage now and then. */
  superpage?: boolean;
}): Promise<number> {
  const { kills, seed, INVARIANTS } = o;
  const options = { INVARIANTS, WITNESS: INVARIANTS };
  const superpage = o.superpage ?? false;
  const set = { 'vm.pmap.pg_ps_enabled': Number(superpage) };
  const memory = superpage ? '24M' : '4M';
  const { handle } = boot({ memory, cpus: WORKERS + 1, options, fresh: true, set });
  assert.ok(views_make(superpage));
  const crew = new Crew<{ n: number }>(new URL('./pmap.test.worker.ts', import.meta.url));
  const start = (_: number, n: number): Use =>
    crew.start(handle, superpage ? 'super' : 'use', { seed: seed + n });
  const words = { done: done_word(), stop: stop_word() };
  await churn({
    crew,
    workers: WORKERS,
    start,
    kills,
    seed,
    ...words,
    work: superpage ? 1500 : 10_000,
  });
  const all = atomic_load(done_word());
  assert.ok(count('vm.stats.tlb.shootdowns') > 100);
  if (superpage) {
    const before = count('vm.pmap.pde.promotions');
    view_renew();
    view_whole(0);
    assert.ok(count('vm.pmap.pde.promotions') > before, 'all that was left behind is no obstacle');
  }
  views_check();
  views_end();
  return all;
}
