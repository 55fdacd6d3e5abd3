/*
 * Shows: while superpages are made and ended by two pmaps on the same run of pages, no thread
 * reads or writes a page by a translation that was taken back, no store comes after the right to
 * write was taken away, and threads that are killed meanwhile leave tables and tags right.
 * By what means: three threads (pmap_views.test.lib.ts, as a superpage), some killed and replaced;
 * the walkers afterwards.
 */
import { afterEach, test } from 'node:test';
import { abandon, shutdown } from '../boot/whole.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { together } from './pmap_smp.test.lib.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
for (const INVARIANTS of [true, false]) {
  const how = INVARIANTS ? 'with INVARIANTS' : 'as programs run';
  test(`threads on the same superpages, some of them killed, ${how}`, async () => {
    await together({ kills: 5, seed: SEED, INVARIANTS, superpage: true });
  });
}
