/*
 * kern_contig: contigmalloc(9), large blocks that lie where the caller says.
 *
 *      contigmalloc(size, type, flags, low, high, alignment, boundary)
 *
 *      low  |. . .  | block | . . . | block would cross |. . .|  high
 *                   '- a multiple of the alignment      '- a multiple of the boundary
 *
 * Every block of malloc is contiguous here.  What contigmalloc adds is where it lies, and what it
 * does when memory is full: malloc reclaims what allocators keep and takes the run that is there,
 * or waits; contigmalloc makes one, by moving pages of objects or by paging them out
 * (map/vm_contig_alloc.ts).  It does not wait for others to free memory.
 *
 * The block is a large block of its type: it counts there, is within vm.kmem_size, and free(9)
 * gives it back as well as contigfree.  Its place in the budget is had first, and left again if
 * there are no pages, so that a refusal costs nothing and leaks nothing.
 *
 * vm.old_contigmalloc chooses between the algorithms at each call.
 */
import { life } from '../machine/life.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { sysctl_get } from '../machine/sysctl_decl.ts';
import type { malloc_type_t } from '../h/malloc.ts';
import { M_DRAIN, M_WAITOK, M_ZERO } from '../h/malloc_flags.ts';
import { VM_ALLOC_NORMAL, VM_ALLOC_ZERO } from '../h/vm_page.ts';
import { vm_page_alloc_contig } from '../map/vm_contig_alloc.ts';
import { vm_contig_old } from '../map/vm_contig_old.ts';
import { old_contigmalloc } from '../map/vm_contig_vars.ts';
import { guard_make } from '../page/vm_guard.ts';
import type { RunLimits } from '../page/vm_phys.ts';
import { kernel_enter, kernel_leave, kernel_threw } from '../sync/subr_trap.ts';
import { budget_enter, budget_leave } from '../uma/uma_budget.ts';
import { free, malloc_of_pages, malloc_usable_size } from './kern_malloc.ts';

/**
 * `size` bytes side by side, rounded to pages: a word address from byte `low` to before byte
 * `high`, a multiple of `alignment` bytes, in which no multiple of `boundary` bytes lies (0: none).
 * Both are powers of two.  With `guard` a page on each side of it is a guard (vm_guard.ts), and it
 * is aligned to its pages alone.  The word `anchor` leads to it, unless that is 0, from the section
 * on that counts it.  M_WAITOK may sleep, and write pages; 0: there is no such block.
 */
export function contigmalloc(
  size: number,
  t: malloc_type_t,
  flags: number,
  low: number,
  high: number,
  alignment: number,
  boundary: number,
  guard = false,
  anchor = 0,
): number {
  if (!(size > 0)) panic('contigmalloc: size', size);
  if (!power_of_two(alignment)) panic('contigmalloc: alignment', alignment);
  if (boundary !== 0 && !power_of_two(boundary)) panic('contigmalloc: boundary', boundary);
  if (boundary !== 0 && boundary < PAGE_SIZE) return 0; // each page has such an edge
  const limits: RunLimits = {
    low: Math.ceil(low / PAGE_SIZE),
    high: Math.floor(high / PAGE_SIZE),
    align: Math.max(1, alignment / PAGE_SIZE),
    boundary: boundary / PAGE_SIZE,
  };
  const outer = kernel_enter();
  let p = 0;
  try {
    const pages = (n: number, how: number): number =>
      guard ? guarded(n, t, how, limits) : run(n, n, how, limits);
    p = malloc_of_pages(size, t, flags, pages, anchor);
  } catch (e) {
    kernel_threw(e, outer, 'contigmalloc');
  }
  kernel_leave(outer);
  return p;
}
function power_of_two(n: number): boolean {
  return n >= 1 && Number.isInteger(Math.log2(n));
}
/** The block has a guard on each side, which count for nobody. */
function guarded(n: number, t: malloc_type_t, flags: number, limits: RunLimits): number {
  const m = run(n + 2, n, flags, limits);
  if (m === 0) return 0;
  guard_make(m, m + 1, t);
  guard_make(m + n + 1, m + 1, t);
  return m + 1;
}
/** A run of n pages in hand, `counted` of them within the budget. 0: none. */
function run(n: number, counted: number, flags: number, limits: RunLimits): number {
  if (!budget_enter(counted)) return 0;
  const req = VM_ALLOC_NORMAL | (flags & M_ZERO ? VM_ALLOC_ZERO : 0);
  const wait = (flags & M_WAITOK) !== 0;
  const old = sysctl_get(old_contigmalloc) !== 0;
  const once = (): number =>
    old ? vm_contig_old(n, req, limits, wait) : vm_page_alloc_contig(n, req, limits, wait);
  let m = once();
  // What allocators keep lies between the pages that can go.
  if (m === 0 && life.reclaim((flags & (M_WAITOK | M_DRAIN)) !== 0) > 0) m = once();
  if (m === 0) budget_leave(counted);
  return m;
}
/** Gives a block of contigmalloc back: `size` is what was asked for. */
export function contigfree(p: number, size: number, t: malloc_type_t): void {
  const has = malloc_usable_size(p);
  if (Math.ceil(size / PAGE_SIZE) * PAGE_SIZE !== has) panic('contigfree: size', size, has);
  free(p, t);
}
