/*
 * Shows redzones under load: threads take, poke, resize, hand over and free blocks, and every poke
 * is told when its block goes, with side, count and address, and nothing else is; redzones are
 * switched all the while; threads are killed and lose nothing but what they had.  A tenth of
 * what redzone.stress.ts plays.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SEED } from '../machine/seed.test.lib.ts';
import { PLACES } from './redzone.model.ts';
import { play_redzones } from './redzone_smp.test.lib.ts';

for (const INVARIANTS of [false, true]) {
  const game = { seed: SEED, INVARIANTS, workers: 2, killed: 0, switches: 50 };
  test(`each poke is told, INVARIANTS ${INVARIANTS}`, async (t) => {
    const tally = await play_redzones({ ...game, steps: 50_000 });
    t.diagnostic(JSON.stringify(tally));
    assert.ok(tally.pokes > PLACES && tally.reports > PLACES && tally.blocks > tally.zoned);
  });
  test(`several zones for a size, INVARIANTS ${INVARIANTS}`, async () => {
    await play_redzones({ ...game, steps: 10_000, killed: 1, zones: 5 });
  });
  test(`threads that are killed, INVARIANTS ${INVARIANTS}`, async (t) => {
    const tally = await play_redzones({ ...game, steps: 20_000, killed: 3 });
    t.diagnostic(JSON.stringify(tally));
  });
}
