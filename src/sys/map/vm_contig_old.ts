/*
 * vm_contig_old: how contiguous memory was had before 2004, to compare with (vm.old_contigmalloc).
 *
 *      1   upward: the first n pages side by side that are free or as good as free
 *      2   those that are as good as free become free; if one cannot, 1 from the next page on
 *      3   all n leave the free queues together; if one is taken meanwhile, the same
 *      4   there is no such place: everything on the inactive queue is laundered, then everything
 *          on the active queue, and once more from 1; twice at most
 *
 * It finds a place by luck: what it launders lies all over the memory, and the kernel's pages in
 * between stay.  Pages leave the free queues when all of them are free, and not before, so that a
 * restart has nothing to give back.
 *
 * Locks.  None is held by the caller.  Objects of pages that are as good as free are only tried.
 */
import { NULL } from '../machine/struct.ts';
import { vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PK_FREE, PK_MASK, vm_page } from '../h/vm_page.ts';
import { object_page_free } from '../object/vm_object_page.ts';
import { vm_page_cache_empty } from '../page/vm_page_cache.ts';
import { vm_page_run_whole } from '../page/vm_page_contig.ts';
import { vm_page_limbo_free } from '../page/vm_page_limbo.ts';
import { PQ_ACTIVE, PQ_CACHE, PQ_INACTIVE, page_queue } from '../page/vm_pageq.ts';
import type { RunLimits } from '../page/vm_phys.ts';
import { mtx_owned, mtx_trylock, mtx_unlock } from '../sync/kern_mutex.ts';
import { contig_bounds, contig_fits, contig_loose } from './vm_contig.ts';
import { queue_launder } from './vm_pageout_scan.ts';

const object = vm_object;
const page = vm_page;

/** Times that everything is laundered. */
const LAUNDERS = 2;

/** As vm_page_alloc_contig; without `wait` nothing is laundered. */
export function vm_contig_old(n: number, req: number, limits: RunLimits, wait: boolean): number {
  for (let left = wait ? LAUNDERS : 0; ; left--) {
    vm_page_limbo_free();
    vm_page_cache_empty();
    const m = found(n, req, limits);
    if (m !== 0 || left === 0) return m;
    queue_launder(PQ_INACTIVE);
    queue_launder(PQ_ACTIVE);
  }
}
function is_free(m: number): boolean {
  return (page.info[m] & PK_MASK) === PK_FREE;
}
/** Steps 1 to 3. */
function found(n: number, req: number, limits: RunLimits): number {
  const { low, high } = contig_bounds(limits);
  let run = 0; // pages before `m` that will do
  for (let m = low; m < high; m++) {
    const good = is_free(m) || (page_queue(m) === PQ_CACHE && contig_loose(m));
    run = good ? run + 1 : 0;
    const first = m - n + 1;
    if (run < n || !contig_fits(first, n, limits)) continue;
    if (cached_free(first, n) && vm_page_run_whole(first, n, req)) return first;
  }
  return 0;
}
/** Frees those of n pages that are as good as free. False: one of them is in use. */
function cached_free(first: number, n: number): boolean {
  for (let m = first; m < first + n; m++) {
    if (is_free(m)) continue;
    const o = page.owner[m] as vm_object_t; // a hint: records of objects stay what they are
    if (!contig_loose(m) || o === NULL) return false;
    if (mtx_owned(object.lock, o) || !mtx_trylock(object.lock, o)) return false;
    const there = page.owner[m] === o && page_queue(m) === PQ_CACHE && contig_loose(m);
    if (there) object_page_free(m, o);
    mtx_unlock(object.lock, o);
    if (!there) return false;
  }
  vm_page_limbo_free();
  vm_page_cache_empty();
  return true;
}
