/*
 * Shows: several threads that allocate, free, resize and poke blocks of one type, while a third one
 * switches memguard on and off, see each stray access and no other, and find what they stored; a
 * thread that dies at any moment leaves what was its program's, and nothing half made.
 * By what means: worker threads, some of them killed and replaced, a model in each, the walkers.
 * Every point of a death: sim/scripts/memguard*.ts.  A million operations: memguard.stress.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { SEED } from '../machine/seed.test.lib.ts';
import { guard_down } from './memguard.test.lib.ts';
import { guard_churn } from './memguard_smp.test.lib.ts';

afterEach(() => guard_down());
const how = { seed: SEED, steps: 10_000, switches: 100, kills: 0, INVARIANTS: false };

test('two threads play, and memguard is switched on and off', async () => {
  const { n, traps, guarded, plain } = await guard_churn(how);
  assert.equal(n, 2 * how.steps);
  assert.ok(traps > 0 && guarded > 0 && plain > 0, `${traps} ${guarded} ${plain}`);
});
test('killed at any moment', async () => {
  const { n } = await guard_churn({ ...how, kills: 3, INVARIANTS: true });
  assert.ok(n > 0);
});
