/*
 * lock_parts: what watches the locks, as parts of the kernel (machine/parts.ts).
 *
 * WITNESS proves their order, the profiler measures them, and in a checked boot a guard on every
 * field asks whether its lock is held.  boot/whole.ts puts them into the table of parts.
 */
import type { KernelParts } from '../machine/parts.ts';
import { checked_boot, checked_fresh, checked_publish, checked_quiet } from './checked.ts';
import {
  prof_acquired,
  prof_acquisitions,
  prof_boot,
  prof_contended,
  prof_released,
  prof_reset,
  prof_stats,
} from './lock_prof.ts';
import {
  witness_badstacks,
  witness_boot,
  witness_checkorder,
  witness_fullgraph,
  witness_init,
  witness_lock,
  witness_sleep,
  witness_unlock,
} from './witness.ts';

export const lock_parts: Omit<KernelParts, 'checked_letters' | 'panic_dump'> = {
  witness_boot,
  witness_init,
  witness_checkorder,
  witness_lock,
  witness_unlock,
  witness_sleep,
  witness_badstacks,
  witness_fullgraph,
  prof_boot,
  prof_contended,
  prof_acquired,
  prof_released,
  prof_stats,
  prof_reset,
  prof_acquisitions,
  checked_boot,
  checked_fresh,
  checked_publish,
  checked_quiet,
};
