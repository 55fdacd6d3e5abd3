/*
 * vm_contig: free pages side by side, where memory is full of pages that may go.
 *
 *      memory    | o o k o . o o d . o k o . o |     k the kernel's, or held    . free
 *                         '---------'                o of an object             d dirty
 *                          n pages
 *
 * Reclaiming by age frees pages all over the memory: of many free ones hardly any are neighbours.
 * So whoever wants n of them in a row looks for the place where that costs least.  What is free
 * costs nothing, an unused page little, one in use more, one that is to be written first most.
 * What the kernel has, what is wired or busy, and what has no store with room, cannot go at all.
 * The pages of that place are freed one by one.  If one of them turns out to stay, what went
 * before it is free all the same, and the next place is looked for behind it.
 *
 * Others may take what is free before the caller does: it tries again, some times.
 *
 * Locks.  None is held by the caller.  Places are samples; a page is decided about with its object
 * locked (page_evict).  It may write, and sleep.
 */
import { NULL } from '../machine/struct.ts';
import type { vm_object_t } from '../h/vm_object.ts';
import { PG_FICTITIOUS, PG_UNMANAGED, PK_FREE, PK_MASK, PK_OBJECT, vm_page } from '../h/vm_page.ts';
import { page_dirty } from '../object/vm_launder.ts';
import { vm_page_cache_empty } from '../page/vm_page_cache.ts';
import { vm_page_limbo_free } from '../page/vm_page_limbo.ts';
import { PQ_ACTIVE, page_queue, vm_page_wirings } from '../page/vm_pageq.ts';
import { phys_root, vm_phys } from '../page/vm_phys.ts';
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
/** What it would cost to free page m; Infinity: it stays. A sample. */
function cost(m: number, kept: readonly KeptPages[]): number {
  if (is_free(m)) return 0;
  const object = (page.info[m] & PK_MASK) === PK_OBJECT && page.owner[m] !== NULL;
  if (!object || page.busy[m] !== 0 || vm_page_wirings(m) > 0) return Number.POSITIVE_INFINITY;
  if (page.flags[m] & (PG_UNMANAGED | PG_FICTITIOUS)) return Number.POSITIVE_INFINITY;
  if (is_kept(m, kept)) return Number.POSITIVE_INFINITY;
  const used = page_queue(m) === PQ_ACTIVE ? COST_USED : COST_UNUSED;
  return page_dirty(m) ? used + COST_DIRTY : used;
}
/**
 * The first of the n pages in a row from page `from` on that cost least, the highest ones of those
 * that cost as much; 0: there are none.
 */
function cheapest(from: number, end: number, n: number, kept: readonly KeptPages[]): number {
  const costs = new Float64Array(n); // of the last n pages, in a ring
  let [sum, run, found, least] = [0, 0, 0, Number.POSITIVE_INFINITY];
  for (let m = from; m < end; m++) {
    const c = cost(m, kept);
    if (c === Number.POSITIVE_INFINITY) {
      [sum, run] = [0, 0];
      continue;
    }
    if (run >= n) sum -= costs[m % n];
    costs[m % n] = c;
    sum += c;
    if (++run < n || sum > least) continue;
    least = sum;
    found = m - n + 1;
  }
  return found;
}
/**
 * Frees pages until n of them lie side by side, if that can be done without those in `kept`, which
 * the caller needs.  Whether pages came free: the caller asks for its run again then.
 */
export function vm_contig_free(n: number, kept: readonly KeptPages[]): boolean {
  const ph = phys_root();
  let freed = vm_page_limbo_free() + vm_page_cache_empty();
  for (let from = phys.low[ph], tries = 0; tries < PLACES; tries++) {
    const first = cheapest(from, phys.high[ph], n, kept);
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
