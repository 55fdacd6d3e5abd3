/*
 * kern_detect: detectors, which look at a block of malloc before it is given out.
 *
 *      malloc ── bucket hidden ──> malloc_slow ── detect_alloc ──> memguard, redzone, stacks, or
 *                                                        nobody: malloc_undetected
 *      free ── page marked ──> free_checked ── detect_free ──> whose it is, or free_undetected
 *
 * Off they cost nothing.  While one is on (uma_root.detect) the fast path of malloc finds, on each
 * CPU, a bucket that has neither items nor room, so every small request comes by the slow path
 * and asks here.  A CPU that is in its fast path at that moment may finish one request.
 *
 * A block that is a detector's lies on a page that is marked: PK_MARKED beside the page's kind,
 * set before the block is given out.  So its free never goes by the fast path, also when all
 * detectors are off by then; blocks on pages without the mark cost nothing there.  The
 * mark stays until the page is given back: that a page has one means no more than that free asks.
 *
 * Read next: kern_detect_chain.ts, in which order they are asked.
 */
import { atomic_and, atomic_or } from '../machine/atomic.ts';
import { field_word } from '../machine/struct.ts';
import { KMEM_CLASSES } from '../h/malloc.ts';
import { PK_MARK_BLOCK, vm_page } from '../h/vm_page.ts';
import { mcache_hide } from '../uma/uma_cache.ts';
import { uma, uma_root } from '../uma/uma_int.ts';

/** Has a detector, one of MD_*, look at every block from now on, or at none. */
export function detect_set(which: number, on: boolean): void {
  const w = field_word(uma_root.detect, uma());
  if (!on) atomic_and(w, ~which);
  else if (atomic_or(w, which) === 0) mcache_hide(KMEM_CLASSES);
}
/** Whether a detector looks. */
export function detect_on(which: number): boolean {
  return (uma_root.detect[uma()] & which) !== 0;
}
/** Marks page m: a block on it, in the caller's hand, is a detector's. */
export function page_mark(m: number): void {
  const marked = (vm_page.info[m] & PK_MARK_BLOCK) !== 0;
  if (!marked) atomic_or(field_word(vm_page.info, 0) + m, PK_MARK_BLOCK);
}
