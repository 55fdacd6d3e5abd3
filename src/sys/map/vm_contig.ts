/*
 * vm_contig: where in memory n pages side by side cost least.
 *
 *      memory    | o o k o . o o d . o k o . o |     k the kernel's, or held    . free
 *                         '---------'                o of an object             d dirty
 *                          n pages
 *
 * Reclaiming by age frees pages all over the memory: of many free ones hardly any are neighbours.
 * So whoever wants n of them in a row looks for the place where that costs least.  What is free
 * costs nothing.  Where pages are to be freed (vm_contig_free) an unused page costs little, one in
 * use more, one that is to be written first most; where they are to move (vm_contig_gather.ts) all
 * cost the same.  What the kernel has, what is wired or busy, and what has no store with room,
 * cannot go at all.
 *
 * vm_contig_free has pages moved first, if enough are free.  Else it frees those of a place one by
 * one.  If one of them turns out to stay, what went before it is free all the same, and the next
 * place is looked for behind it.  Others may take what is free before the caller does: it tries
 * again, some times.
 *
 * Locks.  None is held by the caller.  Places are samples; a page is decided about with its object
 * locked (page_evict).  It may write, and sleep.
 */
import { kernel_parts } from '../machine/parts.ts';
import { NULL } from '../machine/struct.ts';
import type { vm_object_t } from '../h/vm_object.ts';
import {
  PG_FICTITIOUS,
  PG_UNMANAGED,
  PK_FREE,
  PK_MASK,
  PK_OBJECT,
  VM_ALLOC_NORMAL,
  vm_page,
} from '../h/vm_page.ts';
import { page_dirty } from '../object/vm_launder.ts';
import { vm_page_free_count, vm_page_free_run, vm_page_reserve } from '../page/vm_page.ts';
import { vm_page_cache_empty } from '../page/vm_page_cache.ts';
import { vm_page_limbo_free } from '../page/vm_page_limbo.ts';
import { PQ_ACTIVE, page_queue, vm_page_wirings } from '../page/vm_pageq.ts';
import { phys_root, type RunLimits, vm_phys } from '../page/vm_phys.ts';
import './vm_contig_vars.ts'; // every thread declares them
import { page_evict } from './vm_pageout_scan.ts';

const page = vm_page;
const phys = vm_phys;

/** What it costs to free a page: unused and clean, used, dirty. */
const COST_UNUSED = 1;
const COST_USED = 4;
const COST_DIRTY = 16;
/** Places that are tried. */
const PLACES = 8;

/** Pages of an object that are to stay: those from index `first` up to `end`. */
export interface KeptPages {
  readonly o: vm_object_t;
  readonly first: number;
  readonly end: number;
}
function is_kept(m: number, kept: readonly KeptPages[]): boolean {
  const o = page.owner[m];
  const i = page.index[m];
  return kept.some((k) => k.o === o && i >= k.first && i < k.end);
}
function is_free(m: number): boolean {
  return (page.info[m] & PK_MASK) === PK_FREE;
}
/** Whether page m is one of an object that may move or go. A sample. */
export function contig_loose(m: number): boolean {
  const object = (page.info[m] & PK_MASK) === PK_OBJECT && page.owner[m] !== NULL;
  if (!object || page.busy[m] !== 0 || vm_page_wirings(m) > 0) return false;
  return (page.flags[m] & (PG_UNMANAGED | PG_FICTITIOUS)) === 0;
}
/** What it would cost to free page m; Infinity: it stays. A sample. */
function cost(m: number, kept: readonly KeptPages[]): number {
  if (is_free(m)) return 0;
  if (!contig_loose(m) || is_kept(m, kept)) return Number.POSITIVE_INFINITY;
  const used = page_queue(m) === PQ_ACTIVE ? COST_USED : COST_UNUSED;
  return page_dirty(m) ? used + COST_DIRTY : used;
}
/**
 * The first of the n pages in a row within the limits that cost least by `cost_of`, the highest
 * ones of those that cost as much; 0: there are none.
 */
export function contig_cheapest(
  n: number,
  limits: RunLimits,
  cost_of: (m: number) => number,
): number {
  const costs = new Float64Array(n); // of the last n pages, in a ring
  let [sum, run, found, least] = [0, 0, 0, Number.POSITIVE_INFINITY];
  const { low, high } = contig_bounds(limits);
  for (let m = low; m < high; m++) {
    const c = cost_of(m);
    if (c === Number.POSITIVE_INFINITY) {
      [sum, run] = [0, 0];
      continue;
    }
    if (run >= n) sum -= costs[m % n];
    costs[m % n] = c;
    sum += c;
    if (++run < n || sum > least || !contig_fits(m - n + 1, n, limits)) continue;
    least = sum;
    found = m - n + 1;
  }
  return found;
}
/** The part of memory that has pages, within the limits. */
export function contig_bounds({ low, high }: RunLimits): { low: number; high: number } {
  const ph = phys_root();
  return { low: Math.max(low, phys.low[ph]), high: Math.min(high, phys.high[ph]) };
}
/** Whether a run of n pages may begin at page m: its alignment, and no boundary in it. */
export function contig_fits(m: number, n: number, { align, boundary }: RunLimits): boolean {
  if (m % align !== 0) return false;
  return boundary === 0 || Math.floor(m / boundary) === Math.floor((m + n - 1) / boundary);
}
/** Makes n free pages lie side by side by moving others, where there is room for those. */
function moved(n: number): boolean {
  if (vm_page_free_count() < n + vm_page_reserve(VM_ALLOC_NORMAL)) return false;
  const m = kernel_parts.contig_run?.(n, VM_ALLOC_NORMAL, false) ?? 0;
  if (m === 0) return false;
  vm_page_free_run(m, n);
  return true;
}
/**
 * Frees pages until n of them lie side by side, if that can be done without those in `kept`, which
 * the caller needs.  Whether pages came free: the caller asks for its run again then.
 */
export function vm_contig_free(n: number, kept: readonly KeptPages[]): boolean {
  if (moved(n)) return true;
  const ph = phys_root();
  let freed = vm_page_limbo_free() + vm_page_cache_empty();
  for (let from = phys.low[ph], tries = 0; tries < PLACES; tries++) {
    const limits = { low: from, high: phys.high[ph], align: 1, boundary: 0 };
    const first = contig_cheapest(n, limits, (m) => cost(m, kept));
    if (first === 0) break;
    let m = first;
    for (; m < first + n; m++) {
      if (is_free(m)) continue;
      if (!page_evict(m)) break;
      freed++;
    }
    if (m === first + n) break;
    from = m + 1;
  }
  return vm_page_limbo_free() + vm_page_cache_empty() + freed > 0;
}
