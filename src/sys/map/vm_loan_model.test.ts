/*
 * Shows: what is lent stays as it was for the borrower, whatever its owner does; spaces hold what
 * was written to them, whatever is lent; no lent page may be written to, each is lent as often as
 * loans have it, none is free or owned twice.  By what means: seeded operations beside a model
 * (vm_loan.fuzz.ts), the walkers.
 */
import { test } from 'node:test';
import { SEED } from '../machine/seed.test.lib.ts';
import { run } from './vm_loan.fuzz.ts';

test('spaces and loans of their pages', () => run(SEED, 1500));
test('as programs run', () => run(SEED + 1, 1500, { INVARIANTS: false }));
test('in a machine that is too small', () => run(SEED + 2, 1000, { memory: '2M' }));
test('in a machine that checks the rules of locks', () => run(SEED + 3, 100, { checked: true }));
