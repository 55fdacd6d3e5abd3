/*
 * Shows: windows share runs and are refused by the ranges of others and by nothing else; what is
 * stored by addresses and through them is the same memory; and what is under a window stays,
 * through forks, changes and the end of its space. By what means: seeded operations beside a model
 * (vm_window.fuzz.ts), the walkers.
 */
import { test } from 'node:test';
import { SEED } from '../machine/seed.test.lib.ts';
import { run } from './vm_window.fuzz.ts';

for (const n of [0, 1]) {
  test(`five spaces and their windows, ${n}`, () => run(SEED + n, 5000));
  const plain = { INVARIANTS: false };
  test(`as programs run, ${n}`, () => run(SEED + 2 + n, 5000, plain));
  test(`in a machine that is too small, ${n}`, () => run(SEED + 4 + n, 5000, { memory: '2M' }));
}
test('in a machine that checks the rules of locks', () => run(SEED + 6, 1000, { checked: true }));
