/*
 * kva: blocks beyond the memory, as a program uses them.
 *
 *      const at = type.alloc(2 ** 20, { contiguous: false });
 *      machine.store32(at + 4096, 7);                      translated, page by page
 *      machine.copyIn(at, bytes);
 *      machine.bytes(at, 16);                              EFAULT: there is no view of it
 *
 * Where no run of free pages is long enough, such a block has addresses beyond the memory, and its
 * pages lie anywhere.  Loads, stores, copies and fills take them as any others; what needs one flat
 * piece of memory (bytes, index, the whole-memory views) cannot.
 *
 * A number that comes from a program may be anything: what no block has is refused.
 */
import { EFAULT } from '../sys/machine/errno.ts';
import { PAGE_SIZE } from '../sys/machine/memory.ts';
import type { malloc_type_t } from '../sys/h/malloc.ts';
import { KVA_END } from '../sys/h/vm_kern.ts';
import {
  free_virtual,
  malloc_virtual,
  virtual_access,
  virtual_pages,
} from '../sys/kmem/kern_malloc_virtual.ts';
import { inKernel } from './context.ts';
import { kmemError } from './errors.ts';

/** What the rest of the façade asks of it. */
export interface Kva {
  /** A block of zeros for a type: its address, 0: no memory, or it is too small for that. */
  alloc(size: number, t: malloc_type_t, flags: number): number;
  /** Gives it back. False: no block begins there. */
  free(at: number, t: malloc_type_t): boolean;
  /** Bytes that the block at an address has; 0: none begins there. */
  size(at: number): number;
  /** Where in the memory `n` bytes within a page are now, until the next call. Throws EFAULT. */
  place(op: string, at: number, n: number, write: boolean): number;
  /**
   * Calls `move` for each piece of a range that lies in one: where in the memory it is, its length,
   * and how many bytes came before.  Throws EFAULT before anything is moved.
   */
  each(op: string, at: number, n: number, write: boolean, move: Move): void;
}
export type Move = (at: number, n: number, done: number) => void;

function each(op: string, at: number, n: number, write: boolean, move: Move): void {
  if (inKernel(op, () => virtual_access(at, n, write, move))) return;
  const text = `no ${n} bytes were allocated at ${at}, beyond the memory`;
  throw kmemError(EFAULT, op, text, { address: at, size: n });
}
const pageOf = (at: number): number => (at % PAGE_SIZE === 0 ? at / PAGE_SIZE : -1);
function size(at: number): number {
  const page = pageOf(at);
  if (page < 0 || page >= KVA_END) return 0;
  return inKernel('block', () => virtual_pages(page)) * PAGE_SIZE;
}
export const kva: Kva = {
  alloc: (size, t, flags) => malloc_virtual(size, t, flags) * PAGE_SIZE,
  free(at, t) {
    if (size(at) === 0) return false;
    free_virtual(pageOf(at), t);
    return true;
  },
  size,
  place(op, at, n, write) {
    let found = 0;
    each(op, at, n, write, (where) => {
      found = where;
    });
    return found;
  },
  each,
};
