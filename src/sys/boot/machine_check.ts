/*
 * machine_check: proves the structures of a machine that a program asks about.
 *
 * Threads of the program are at rest, as it says; those of the kernel that page out are made to
 * hold still meanwhile.
 */
import { reap_all } from '../machine/death.ts';
import { registry_check } from '../client/kern_registry.ts';
import { quarantine_check } from '../kmem/kern_quarantine.ts';
import { kernel_parts } from '../machine/parts.ts';
import { pageout_still } from '../map/vm_pageout_still.ts';
import { sysctl_check } from '../observe/sysctl_tree.ts';
import { guards_check, guards_proof } from '../page/vm_guard.ts';
import { sleepq_check } from '../sync/subr_sleepqueue.ts';
import { uma_check } from '../uma/uma_check.ts';

/** Panics if something is wrong; `spaces`: proves address spaces, in a machine that has these. */
export function machine_check(spaces: (() => void) | undefined): void {
  pageout_still(() => {
    reap_all(); // what the dead had in their hands is no damage
    uma_check();
    guards_check();
    guards_proof();
    quarantine_check();
    kernel_parts.memguard?.check();
    sleepq_check();
    sysctl_check();
    registry_check();
    spaces?.();
  });
}
