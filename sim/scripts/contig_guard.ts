/*
 * contig_guard: blocks with a guard page on each side are made, handed over and freed by two CPUs.
 *
 * Whoever dies where: each guard is one of a block that there is, and no page is lost.
 */
import { guards_check, guards_proof } from '../../src/sys/page/vm_guard.ts';
import { check_account } from '../account.ts';
import { clear, setup, swap, swap_guarded } from '../malloc_ops.ts';
import type { SimScript } from '../script.ts';

export const script: SimScript = {
  help: 'guarded blocks: made, handed over and freed; each guard has its block',
  victim: 1,
  kill_seeds: 2,
  setup: () => setup(),
  ops: (cpu) =>
    cpu === 0
      ? [swap_guarded(0, 5000), swap(1, 9000), swap_guarded(1, 4096), clear(0)]
      : [swap_guarded(1, 9000), swap_guarded(0, 4096), clear(1), swap(0, 5000)],
  check() {
    guards_proof();
    if (guards_check() > 0) return 'a guard was written to';
    return check_account();
  },
};
