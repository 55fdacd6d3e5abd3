/*
 * vm_wire_limits: how much memory programs may lock, and what they map while all is to be locked.
 *
 *      RLIMIT_MEMLOCK (vmspace_limits)        pages that one space may have locked
 *      vm.max_wired                           the same of all, with those of windows and of loans
 *
 * Pages that are locked already count twice where a range is locked again, as in BSD.
 *
 * After mlockall(MCL_FUTURE) whoever maps something locks it: mmap, the break, regions.  If that
 * fails the mapping goes again, and the call fails.  What nobody may use is mapped without it.  A
 * stack that grows is locked as far as it can be (vm_map_stack.ts).
 */
import { EAGAIN, ENOMEM } from '../machine/errno.ts';
import {
  KERN_SUCCESS,
  VM_MAP_WIRE_HOLESOK,
  VM_MAP_WIRE_USER,
  vm_map,
  type vm_map_t,
} from '../h/vm_map.ts';
import { vm_map_wire } from './vm_map_wire.ts';
import { wired_max, wired_room } from './vm_window.ts';

const map = vm_map;
const ALL = VM_MAP_WIRE_USER | VM_MAP_WIRE_HOLESOK;

/** What the limit of the space, and that of a single call, say to n pages more: ENOMEM, or 0. */
export function wire_over_own(mp: vm_map_t, n: number): number {
  return n > wired_max() || map.wired[mp] + n > map.wire_limit[mp] ? ENOMEM : 0;
}
/** The same of all limits: an errno, or 0. */
export function wire_over_limit(mp: vm_map_t, n: number): number {
  return wire_over_own(mp, n) || (n > wired_room() ? EAGAIN : 0);
}
/**
 * Locks pages that were just mapped from `start` up to `end`, if the program wants that of all that
 * is mapped.  An errno, or 0: then nothing is locked that was not, and the caller unmaps them.
 */
export function vm_future_wire(mp: vm_map_t, start: number, end: number): number {
  if (map.wire_future[mp] === 0) return 0;
  const over = wire_over_limit(mp, end - start);
  if (over !== 0) return over;
  return vm_map_wire(mp, start, end, ALL) === KERN_SUCCESS ? 0 : ENOMEM;
}
