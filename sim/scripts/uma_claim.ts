/*
 * uma_claim: a sleeping CPU's caches are taken by one that dies over it.
 *
 * CPU 0 fills its caches and goes to sleep; CPU 1 claims them and moves the
 * buckets.  If it dies inside the claim, CPU 0 must wake up all the same, with
 * caches that are whole.
 */
import { tsleep } from '../../src/sys/sync/subr_sleepqueue.ts';
import { check_account } from '../account.ts';
import { burst, reclaim, setup } from '../malloc_ops.ts';
import { type SimScript, scratch } from '../script.ts';

const nap = (): void => {
  tsleep(scratch(), 'a nap', 0.5, () => true);
};

export const script: SimScript = {
  help: 'uma: a drainer dies while it holds the caches of a sleeping CPU',
  victim: 1,
  kill_seeds: 1,
  setup: () => setup(),
  ops: (cpu) => (cpu === 0 ? [burst(6, 1000), nap, burst(6, 1000), nap] : [reclaim, reclaim]),
  check: check_account,
};
