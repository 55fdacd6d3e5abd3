/*
 * malloc_bare: malloc without INVARIANTS, by the fast paths that programs run.
 *
 * Buckets are filled, handed over between CPUs and their zone, and taken back
 * while one CPU drains the other's caches.
 */
import { burst, clear, reclaim, setup, swap } from '../malloc_ops.ts';
import { check_account } from '../account.ts';
import type { SimScript } from '../script.ts';

export const script: SimScript = {
  help: 'malloc: fast paths, buckets handed over and drained; the account is even',
  options: { INVARIANTS: false },
  victim: 1,
  kill_seeds: 1,
  setup: () => setup(),
  ops: (cpu) =>
    cpu === 0
      ? [burst(12, 1000), swap(0, 1000), reclaim, clear(0), reclaim]
      : [swap(0, 1000), burst(12, 1000), clear(0), burst(9, 500), reclaim],
  check: check_account,
};
