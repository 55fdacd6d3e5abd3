/*
 * Shows: guarded blocks hold what was stored, whatever is switched meanwhile; each touch beside
 * them and after their free is seen, and told with the right block; none within one is.
 * By what means: seeded operations beside a model (memguard.fuzz.ts).
 */
import { test } from 'node:test';
import { SEED } from '../machine/seed.test.lib.ts';
import { run } from './memguard.fuzz.ts';

test('operations beside a model', () => {
  for (let i = 0; i < 3; i++) run(SEED + i, 4000);
});
