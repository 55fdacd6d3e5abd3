/*
 * kern_swap: the calls of a program on swap areas, as swapctl(2) has them.
 */
export { swap_off } from '../map/vm_swapoff.ts';
export { swap_on } from '../object/swap_on.ts';
