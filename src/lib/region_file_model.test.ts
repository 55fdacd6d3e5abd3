/*
 * Shows: a file that is mapped shared and private in several spaces has what a plain array has,
 * through forks, windows, syncs, changes of its length and of its contents from outside, in a
 * machine with room and in one that has less memory than the file has bytes.
 * By what means: seeded operations beside the array (region_file.fuzz.ts), the walkers.
 */
import { test } from 'node:test';
import { SEED } from '../sys/machine/seed.test.lib.ts';
import { run } from './region_file.fuzz.ts';

for (const n of [0, 1, 2]) test(`a file of 24 pages, ${n}`, () => run(SEED + n, 3000));
test('as programs run', () => run(SEED + 3, 3000, { INVARIANTS: false }));
test('in a machine that checks the rules of locks', () => run(SEED + 5, 400, { checked: true }));
test('larger than the memory', () => run(SEED + 4, 2000, { memory: '2M', pages: 600 }));
