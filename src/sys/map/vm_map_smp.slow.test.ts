/*
 * Shows: threads that change one map at once see in their parts of it what they did and nothing
 * else, wait for one another where an entry is in transition, and those who are killed in the
 * middle lose nothing of the others, nor an entry, an object or a page.
 * By what means: two workers beside their models (vm_map.test.worker.ts), some of them killed and
 * replaced; the walkers afterwards.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, shutdown } from '../boot/whole.ts';
import { SEED, ways } from '../machine/seed.test.lib.ts';
import { together } from './vm_map_smp.test.lib.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
test('two threads on one map', async () => {
  assert.ok((await together({ kills: 0, seed: SEED, INVARIANTS: true, work: 6000 })) > 0);
});
for (const INVARIANTS of ways([true, false])) {
  const how = INVARIANTS ? 'with INVARIANTS' : 'as programs run';
  test(`threads killed in the middle of it, ${how}`, async () => {
    assert.ok((await together({ kills: 8, seed: SEED + 1, INVARIANTS, work: 3000 })) > 0);
  });
}
