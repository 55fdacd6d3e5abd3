/*
 * Shows: threads that map, write, protect and fork at once on memory with common ancestors see what
 * they wrote and nothing else; a fork is one cut through the stores of all threads; and threads
 * that are killed in the middle of it lose nothing of the others, nor a page, an entry, a table or
 * a reference.
 * By what means: two or three workers beside their models, some of them killed and replaced; the
 * walkers afterwards.  Of the cut: one thread counts in x, another copies x to y, a third forks:
 * no copy has y ahead of x.
 */
import { afterEach, test } from 'node:test';
import { abandon, shutdown } from '../boot/whole.ts';
import { SEED, ways } from '../machine/seed.test.lib.ts';
import { snapshots, spaces_churn } from './vm_fault_smp.test.lib.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
for (const INVARIANTS of ways([true, false])) {
  const how = INVARIANTS ? 'with INVARIANTS' : 'as programs run';
  test(`two threads and spaces of their own, ${how}`, async () => {
    await spaces_churn(0, SEED, INVARIANTS);
  });
  test(`threads killed in the middle of it, ${how}`, async () => {
    await spaces_churn(6, SEED + 1, INVARIANTS);
  });
  test(`a fork is one cut, ${how}`, async () => {
    await snapshots(0, SEED + 2, INVARIANTS);
  });
  test(`while writers are killed, ${how}`, async () => {
    await snapshots(4, SEED + 3, INVARIANTS);
  });
}
