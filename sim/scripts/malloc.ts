/*
 * malloc: blocks of all kinds are taken, resized, handed over and freed.
 *
 * Sizes cross from one class to the next, and into whole pages, while one CPU
 * reclaims all memory.  At the end the account must come out even.
 */
import { M_NOWAIT, M_ZERO } from '../../src/sys/kmem/kern_malloc.ts';
import { burst, clear, reclaim, resize, setup, swap } from '../malloc_ops.ts';
import { check_account } from '../account.ts';
import type { SimScript } from '../script.ts';

export const script: SimScript = {
  help: 'malloc: blocks of all sizes cross CPUs while one reclaims; the account is even',
  victim: 1,
  kill_seeds: 1,
  setup: () => setup(),
  ops: (cpu) =>
    cpu === 0
      ? [swap(0, 100), reclaim, clear(2), resize(0, 5000), burst(6, 2000)]
      : [swap(2, 16), swap(0, 9000, M_NOWAIT | M_ZERO), resize(1, 700), burst(6, 2000), clear(0)],
  check: check_account,
};
