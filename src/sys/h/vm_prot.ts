/*
 * vm_prot (header): what may be done with mapped memory.
 */
export const VM_PROT_NONE = 0;
export const VM_PROT_READ = 1;
export const VM_PROT_WRITE = 2;
