/*
 * Test driver: two threads that lend pages of one space, and store to them; this one copies the
 * space.  Some of them are killed.
 */
import assert from 'node:assert/strict';
import { NULL } from '../machine/struct.ts';
import { vm_loan } from '../h/vm_loan.ts';
import { vm_loan_drop } from './vm_loan.ts';
import { loans_all } from './vm_loan_check.ts';
import { spaces_check, spaces_end } from './vm_space.test.lib.ts';
import { space_churn } from './vm_space_churn.test.lib.ts';

const WORKER = new URL('./vm_loan.test.worker.ts', import.meta.url);
const COPIES = 20;

/** Returns the operations done, and the loans that those made who were not killed. */
export async function loans_churn(
  kills: number,
  seed: number,
  INVARIANTS: boolean,
): Promise<{ done: number; made: number }> {
  const how = { kills, seed, INVARIANTS, copies: COPIES, set: { 'vm.loan_max': 1000 } };
  const { done, all } = await space_churn<{ n: number; made: number }>(WORKER, how);
  const made = all.reduce((sum, one) => sum + one.made, 0);
  assert.ok(made > 0, 'nothing was lent');
  const left = loans_all().filter((l) => vm_loan.object[l] === NULL);
  assert.ok(
    left.length <= kills,
    'who leaves has no loan any more, nor has a dead thread, but one that it was making storage',
  );
  spaces_check();
  for (const l of left) vm_loan_drop(l);
  spaces_end();
  return { done, made };
}
