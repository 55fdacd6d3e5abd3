/*
 * Shows: threads that fork, write and drop at once on chains with common ancestors see what
 * they wrote and nothing else, and those who are killed in the middle of it lose nothing of
 * the others, nor a page, a node or a reference.
 * Pages that come from a pager, are cached, worked on and removed by two threads at once in too
 * little memory hold what the pager gives.
 * By what means: two workers beside their models (vm_object.test.worker.ts), some of them killed
 * and replaced; the walkers afterwards.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { churn } from '../machine/kills.test.lib.ts';
import { SEED, ways } from '../machine/seed.test.lib.ts';
import { Crew, type Job } from '../machine/workers.test.lib.ts';
import {
  done_word,
  SPACE_PAGES,
  SPACES,
  space_fork,
  space_make,
  space_write,
  spaces_check,
  spaces_end,
  spaces_make,
  stop_word,
} from './object_spaces.test.lib.ts';
import { PQ_CACHE, pageq_count } from '../page/vm_pageq.ts';
import { test_pager_object } from './test_pager.test.lib.ts';
import { vm_object_deallocate } from './vm_object.ts';
import { object_cache_free } from './vm_object_cache.ts';
import { vm_object_check } from './vm_object_check.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
type Churn = Job<{ n: number }>;
const WORKERS = 2;
/** Two workers on chains with common ancestors; `kills` of them die. */
async function together(kills: number, seed: number, INVARIANTS: boolean): Promise<void> {
  const options = { INVARIANTS, WITNESS: INVARIANTS };
  const { handle } = boot({ memory: '16M', cpus: WORKERS + 1, options, fresh: true });
  spaces_make();
  const crew = new Crew<{ n: number }>(new URL('./vm_object.test.worker.ts', import.meta.url));
  const count = SPACES / WORKERS;
  space_make(0);
  for (let i = 0; i < SPACE_PAGES; i += 3) space_write(0, i, i + 1);
  for (let s = 1; s < SPACES; s += 5) space_fork(0, s);
  const start = (i: number, n: number): Churn =>
    crew.start(handle, 'churn', { seed: seed + n, first: i * count, count });
  const words = { done: done_word(), stop: stop_word() };
  await churn({ crew, workers: WORKERS, start, kills, seed, ...words, work: 3000 });
  spaces_check();
  spaces_end();
}
/** Two workers on the pages of objects that have more than memory has; `kills` of them die. */
async function pages_together(kills: number, seed: number): Promise<void> {
  const options = { INVARIANTS: true };
  const { handle } = boot({ memory: '2M', cpus: WORKERS + 1, options, fresh: true });
  spaces_make(); // for the words that tell the workers to stop
  const objects = [1, 2, 3].map((n) => test_pager_object(200, n));
  const crew = new Crew<{ n: number }>(new URL('./vm_object.test.worker.ts', import.meta.url));
  const start = (_: number, n: number): Churn =>
    crew.start(handle, 'pages', { seed: seed + n, objects });
  const words = { done: done_word(), stop: stop_word() };
  await churn({ crew, workers: WORKERS, start, kills, seed, ...words, work: 5000 });
  vm_object_check(() => 0);
  object_cache_free();
  assert.equal(pageq_count(PQ_CACHE), 0);
  for (const o of objects) vm_object_deallocate(o);
  spaces_end();
}
test('two threads on pages from a pager, in too little memory', () => pages_together(0, SEED));
test('the same, and threads are killed', () => pages_together(8, SEED + 1));

test('two threads on the same chains', () => together(0, SEED, true));
for (const INVARIANTS of ways([true, false])) {
  const how = INVARIANTS ? 'with INVARIANTS' : 'as programs run';
  test(`threads killed in the middle of it, ${how}`, () => together(8, SEED, INVARIANTS));
}
