/*
 * vm_fault_litmus: what the threads of a test of snapshots agree on.
 */
/** The page in which one thread counts up, and the one to which another copies that. */
export const X_PAGE = 3;
export const Y_PAGE = 50;
/** VM_PROT_READ and VM_PROT_WRITE. */
export const RW_ALL = 3;
