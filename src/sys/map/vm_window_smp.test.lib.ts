/*
 * Test driver: two threads with windows on one space, which this one copies, some of them killed.
 */
import assert from 'node:assert/strict';
import { spaces_check, spaces_end } from './vm_space.test.lib.ts';
import { space_churn } from './vm_space_churn.test.lib.ts';
import { windows_all } from './vm_window_check.ts';

const WORKER = new URL('./vm_window.test.worker.ts', import.meta.url);
const COPIES = 30;

/** Returns the operations done, and the windows that those opened who were not killed. */
export async function windows_churn(
  kills: number,
  seed: number,
  INVARIANTS: boolean,
): Promise<{ done: number; opened: number }> {
  const how = { kills, seed, INVARIANTS, copies: COPIES };
  const { done, all } = await space_churn<{ n: number; opened: number }>(WORKER, how);
  const opened = all.reduce((sum, one) => sum + one.opened, 0);
  assert.ok(opened > 0, 'no window was opened');
  assert.deepEqual(windows_all(), [], 'who leaves has no window any more, nor has a dead thread');
  spaces_check();
  spaces_end();
  return { done, opened };
}
