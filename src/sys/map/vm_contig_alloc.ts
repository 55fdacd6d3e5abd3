/*
 * vm_contig_alloc: a run of pages from a memory that may be full.
 *
 *      pass 0    free pages alone, then with those that are set aside for objects, then with those
 *                that are as good as free                                       nothing sleeps
 *      pass 1    the place where least is in the way: it moves elsewhere
 *      pass 2    places from the highest down: what is there is written and freed
 *
 * Pass 2 is FreeBSD's algorithm of 2004: the pages of one place only are laundered, synchronously,
 * and each leaves the free queues as it comes.  What it does to a program is to take away memory
 * that it uses.  Pass 1 takes nothing away, writes nothing, and needs as many free pages as the run
 * has; `vm.contig_relocate` = 0 leaves it out.  (FreeBSD remembers the place of its last success;
 * here the tree of runs finds what is free.)
 *
 * The run is in this CPU's hand, each page with PG_ZERO if it is zero.  After a failure there are
 * as many free pages as before, or more.  A request that may not wait moves and frees what is clean
 * and does not write, and makes one try where others make several.
 */
import { sysctl_get } from '../machine/sysctl_decl.ts';
import { counter_add } from '../machine/counter.ts';
import { PK_CACHE, PK_FREE, PK_MASK, vm_page } from '../h/vm_page.ts';
import { thr } from '../machine/cpu.ts';
import { swap_prepare } from '../object/swap_on.ts';
import {
  vm_page_alloc_run,
  vm_page_free_count,
  vm_page_free_run,
  vm_page_reserve,
} from '../page/vm_page.ts';
import { vm_page_cache_empty } from '../page/vm_page_cache.ts';
import { vm_page_limbo_free } from '../page/vm_page_limbo.ts';
import { PQ_ACTIVE, PQ_CACHE, PQ_INACTIVE, page_queue, pageq_count } from '../page/vm_pageq.ts';
import type { RunLimits } from '../page/vm_phys.ts';
import { vm_reserv_break } from '../page/vm_reserv.ts';
import { contig_bounds, contig_cheapest, contig_fits, contig_loose } from './vm_contig.ts';
import { contig_gather, gather_failed, type GatherWays } from './vm_contig_gather.ts';
import { contig_relocate, v_contig_failed, v_contig_requests } from './vm_contig_vars.ts';

const page = vm_page;

/** Places that are tried in a pass by a request that may wait. */
const PLACES = 8;
/** Passes of the algorithm of 2004 that launder. */
const LAUNDER_PASSES = 2;

/**
 * Takes n pages side by side within the limits, in hand.  `wait`: it may sleep and write.  0: there
 * is no such run.  Panics on an alignment or a boundary that is no power of two.  The caller holds
 * no lock.
 */
export function vm_page_alloc_contig(
  n: number,
  req: number,
  limits: RunLimits,
  wait: boolean,
): number {
  counter_add(v_contig_requests, 1);
  const m = alloc(n, req, limits, wait);
  if (m === 0) counter_add(v_contig_failed, 1);
  return m;
}
/** The same anywhere in memory. */
export function contig_run(n: number, req: number, wait: boolean): number {
  return vm_page_alloc_contig(n, req, ANYWHERE, wait);
}
const ANYWHERE: RunLimits = { low: 0, high: 2 ** 31, align: 1, boundary: 0 };
function alloc(n: number, req: number, limits: RunLimits, wait: boolean): number {
  const free = vm_page_alloc_run(n, req, limits);
  if (free !== 0) return free;
  const { low, high } = contig_bounds(limits);
  if (high - low < n || (limits.boundary !== 0 && n > limits.boundary)) return 0;
  if (vm_page_limbo_free() + vm_page_cache_empty() > 0) {
    const again = vm_page_alloc_run(n, req, limits);
    if (again !== 0) return again;
  }
  while (vm_reserv_break() > 0) {
    const again = vm_page_alloc_run(n, req, limits);
    if (again !== 0) return again;
  }
  const loose = pageq_count(PQ_INACTIVE) + pageq_count(PQ_ACTIVE) + pageq_count(PQ_CACHE);
  if (loose === 0 || vm_page_free_count() + loose < n) return 0; // nothing can go, or not enough
  const tries = wait ? PLACES : 1;
  const cached = downward(n, limits, tries, is_cached, { move: false, wait: false, req });
  if (cached !== 0) return cached;
  // Its maps would lie in the place that is being made.
  if (wait && (sysctl_get(contig_relocate) === 0 || few(n, req))) swap_prepare();
  if (sysctl_get(contig_relocate) !== 0) {
    const moved = cheapest(n, limits, tries, { move: true, wait, req });
    if (moved !== 0) return moved;
  }
  for (let pass = 0; pass < (wait ? LAUNDER_PASSES : 1); pass++) {
    const freed = downward(n, limits, tries, contig_loose, { move: false, wait, req });
    if (freed !== 0) return freed;
  }
  return 0;
}
/** Whether there is no room to move n pages to. */
function few(n: number, req: number): boolean {
  return vm_page_free_count() < n + vm_page_reserve(req);
}
/** Gives back a run that vm_page_alloc_contig gave. It may have been written to. */
export function vm_page_release_contig(m: number, n: number): void {
  vm_page_free_run(m, n);
}
/** Whether page m is free, or in this CPU's own cache. */
function is_free(m: number): boolean {
  const kind = page.info[m] & PK_MASK;
  return kind === PK_FREE || (kind === PK_CACHE && page.owner[m] === thr.cpu);
}
function is_cached(m: number): boolean {
  return page_queue(m) === PQ_CACHE && contig_loose(m);
}
/**
 * Places from the highest one down whose pages are free or `good`.  A page that is neither ends the
 * place, and the next one is below it.
 */
function downward(
  n: number,
  limits: RunLimits,
  tries: number,
  good: (m: number) => boolean,
  ways: GatherWays,
): number {
  const { low, high } = contig_bounds(limits);
  let first = high - n;
  for (let left = tries; left > 0; ) {
    while (first >= low && !contig_fits(first, n, limits)) first--;
    if (first < low) return 0;
    let m = first + n - 1;
    while (m >= first && (is_free(m) || good(m))) m--;
    if (m < first) {
      if (contig_gather(first, n, ways)) return first;
      m = gather_failed.page;
      left--;
    }
    first = m - n;
  }
  return 0;
}
/** Places by what is in the way there, least first; a page that stayed is passed over. */
function cheapest(n: number, limits: RunLimits, tries: number, ways: GatherWays): number {
  const stayed = new Set<number>();
  const cost = (m: number): number => {
    if (is_free(m)) return 0;
    return contig_loose(m) && !stayed.has(m) ? 1 : Number.POSITIVE_INFINITY;
  };
  for (let left = tries; left > 0; left--) {
    const first = contig_cheapest(n, limits, cost);
    if (first === 0) return 0;
    if (contig_gather(first, n, ways)) return first;
    stayed.add(gather_failed.page);
  }
  return 0;
}
