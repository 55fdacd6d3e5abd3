/*
 * malloc_low: the same where a dozen pages are free.
 *
 * Most requests find no memory, or find it after reclaiming what the other CPU
 * holds idle: kegs grow and are drained all the time, buckets are refused, and
 * counters may find no memory either.
 */
import { burst, clear, resize, setup, swap } from '../malloc_ops.ts';
import { check_account } from '../account.ts';
import type { SimScript } from '../script.ts';

export const script: SimScript = {
  help: 'malloc: kegs grow and drain where memory is short; the account is even',
  victim: 1,
  kill_seeds: 1,
  setup: () => setup(8),
  ops: (cpu) =>
    cpu === 0
      ? [burst(6, 3000), swap(0, 9000), resize(0, 200), burst(4, 100), clear(0)]
      : [swap(0, 300), burst(9, 2000), swap(1, 20000), clear(1), burst(3, 5000)],
  check: check_account,
};
