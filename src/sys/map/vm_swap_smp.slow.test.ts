/*
 * Shows: threads that map, write, protect and fork at once see what they wrote and nothing else
 * while each sends pages of all of them out to the swap area; a fork is one cut still; threads that
 * are killed in the middle of it, paging among the rest, lose no page of the others and no slot.
 * By what means: as vm_fault_smp.slow.test.ts, with a swap area, one that is full at times among
 * them; the walkers, which compare the slots in use with those that objects have.
 */
import { afterEach, test } from 'node:test';
import { abandon, shutdown } from '../boot/whole.ts';
import { SEED, ways } from '../machine/seed.test.lib.ts';
import { snapshots, spaces_churn } from './vm_fault_smp.test.lib.ts';

const ROOMY = 1000;
const NARROW = 100;

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
for (const INVARIANTS of ways([true, false])) {
  const how = INVARIANTS ? 'with INVARIANTS' : 'as programs run';
  test(`spaces whose pages go out, ${how}`, async () => {
    await spaces_churn(0, SEED, INVARIANTS, ROOMY);
  });
  test(`threads killed in the middle of it, ${how}`, async () => {
    await spaces_churn(6, SEED + 1, INVARIANTS, INVARIANTS ? ROOMY : NARROW);
  });
  test(`a fork is one cut, ${how}`, async () => {
    await snapshots(0, SEED + 2, INVARIANTS, NARROW);
  });
  test(`while writers are killed, ${how}`, async () => {
    await snapshots(4, SEED + 3, INVARIANTS, ROOMY);
  });
}
