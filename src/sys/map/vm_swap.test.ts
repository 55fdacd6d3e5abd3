/*
 * Shows: whatever goes out to the swap area comes back as it was, through copies, writes, and
 * chains that collapse over what is out there; slots are had by pages and by nobody else; a full
 * area loses nothing.
 * By what means: seeded programs beside a model, with the walkers.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SEED } from '../machine/seed.test.lib.ts';
import { run } from './vm_swap.fuzz.ts';

test('spaces whose pages are out by lot hold what their model says', () => {
  for (let k = 0; k < 3; k++) {
    const seed = SEED * 3 + k;
    const { written, failed, freed } = run(seed, 4000);
    assert.ok(written > 100 && freed > 100, `seed ${seed}: ${written} written, ${freed} freed`);
    if (seed % 3 === 0) assert.ok(failed > 0, `seed ${seed}: the area was never full`);
  }
});
