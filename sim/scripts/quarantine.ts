/*
 * quarantine: freed large blocks between their owner, the ring and the page floor.
 *
 * Three CPUs allocate and free blocks of pages of many sizes, more than the ring has
 * pages for, so that blocks enter it and leave it all the time, and reclaim.  One dies
 * anywhere: every page is in the ring, free, or of a block that is counted.
 */
import { uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { quarantine_check } from '../../src/sys/kmem/kern_quarantine.ts';
import { check_account } from '../account.ts';
import { clear, setup, swap } from '../malloc_ops.ts';
import type { SimScript } from '../script.ts';

const reclaim = (): void => void uma_reclaim();

export const script: SimScript = {
  help: 'freed large blocks wait in a ring; a CPU dies anywhere on the way',
  cpus: 3,
  options: { QUARANTINE: true },
  victim: 1,
  kill_seeds: 1,
  setup,
  ops: (cpu) =>
    cpu === 2
      ? [swap(4, 20_000), swap(4, 9000), reclaim, swap(4, 30_000), clear(4)]
      : [swap(cpu, 9000), swap(cpu, 20_000), swap(cpu, 5000), swap(cpu, 12_000), clear(cpu)],
  check() {
    quarantine_check();
    uma_reclaim();
    return check_account();
  },
};
