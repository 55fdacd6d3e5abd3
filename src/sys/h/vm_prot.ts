/*
 * vm_prot (header): what may be done with mapped memory.
 */
export const VM_PROT_NONE = 0;
export const VM_PROT_READ = 1;
export const VM_PROT_WRITE = 2;
export const VM_PROT_EXECUTE = 4;
/** With another right, to a fault: a page that later stores of others go to, too. */
export const VM_PROT_COPY = 8;
export const VM_PROT_ALL = VM_PROT_READ | VM_PROT_WRITE | VM_PROT_EXECUTE;
