/*
 * Shows: no thread ever reads or writes a page through a translation that was taken back, after
 * the page became another one; no store comes after the right to write was taken away; and
 * threads that are killed in the middle of it leave tables, lists and tags right.
 * By what means: three threads on two pmaps and one object (pmap_views.test.lib.ts), some
 * killed and replaced; the walkers afterwards.
 */
import { afterEach, test } from 'node:test';
import { abandon, shutdown } from '../boot/whole.ts';
import { SEED, ways } from '../machine/seed.test.lib.ts';
import { together } from './pmap_smp.test.lib.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
for (const INVARIANTS of ways([true, false])) {
  const how = INVARIANTS ? 'with INVARIANTS' : 'as programs run';
  test(`threads on the same pages, ${how}`, async () => {
    await together({ kills: 0, seed: SEED, INVARIANTS });
  });
  test(`threads killed in the middle of it, ${how}`, async () => {
    await together({ kills: 8, seed: SEED + 1, INVARIANTS });
  });
}
