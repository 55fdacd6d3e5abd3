/*
 * Shows: what programs do to their address spaces by system calls, loads and stores is what bytes
 * in arrays would be, through forks that share, copy, leave out or make zero; and where memory is
 * short a call that is refused has changed nothing.
 * By what means: seeded operations beside a model (vm_syscalls.fuzz.ts), every byte compared now
 * and then, the walkers.
 */
import { test } from 'node:test';
import { SEED } from '../machine/seed.test.lib.ts';
import { run } from './vm_syscalls.fuzz.ts';

for (const n of [0, 1, 2, 3]) {
  test(`four spaces and their models, ${n}`, () => run(SEED + n, 6000));
}
for (const n of [4, 5]) {
  test(`in a machine that is too small, ${n}`, () => run(SEED + n, 6000, '2M'));
}
