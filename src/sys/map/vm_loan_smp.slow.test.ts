/*
 * Shows: what a loan showed first it shows until it is given back, while other threads store to
 * the same pages, lend them as well, unmap them, open windows onto them and copy their space; what
 * is stored is found; and who is killed in the middle of it costs the others nothing, nor is a
 * page, a loan or a reference lost.  By what means: two workers on one space, each with every
 * other page, beside what they stored there; the walkers afterwards.
 */
import { afterEach, test } from 'node:test';
import { abandon, shutdown } from '../boot/whole.ts';
import { SEED, ways } from '../machine/seed.test.lib.ts';
import { loans_churn } from './vm_loan_smp.test.lib.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
for (const INVARIANTS of ways([true, false])) {
  const how = INVARIANTS ? 'with INVARIANTS' : 'as programs run';
  test(`two threads and their loans, ${how}`, async (t) => {
    const { done, made } = await loans_churn(0, SEED, INVARIANTS);
    t.diagnostic(`${done} operations, ${made} loans`);
  });
  test(`some of them killed, ${how}`, async (t) => {
    const { done } = await loans_churn(6, SEED + 1, INVARIANTS);
    t.diagnostic(`${done} operations`);
  });
}
