/*
 * vm_object_cache: pages of objects that are as good as free.
 *
 *      in use ──> object_page_cache ──> cache queue ──> page_select_cache ──> free
 *         ^                                  |
 *         '──────── found again, used <──────'
 *
 * A page whose contents a store has too need not be kept, and need not be thrown away before its
 * memory is wanted.  Until then it stays its object's, on the cache queue: a lookup finds it,
 * and whoever makes it busy, fills, wires or activates it takes it off (v_reactivated).  While
 * it is there it is clean, mapped nowhere, not wired and not busy: only just before it is freed.
 *
 * A request for a page of an object that finds no free page takes one from here.  It may hold
 * locks of objects, which come before the lock of the queues: so the object of a cached page is
 * only tried, and one that this CPU has locked itself is passed over, because the caller may be
 * about to use what it has just found there.  Who holds no lock (the reclaiming of memory)
 * finds them all.
 */
import { opt } from '../machine/opt.ts';
import { NULL } from '../machine/struct.ts';
import { tlb_owed } from '../machine/tlb_ack.ts';
import { PG_UNMANAGED, vm_page } from '../h/vm_page.ts';
import { vm_object, type vm_object_t } from '../h/vm_object.ts';
import { mtx_assert, mtx_owned, mtx_trylock, mtx_unlock } from '../sync/kern_mutex.ts';
import {
  PQ_CACHE,
  page_queue,
  pageq_cached,
  vm_page_cache,
  vm_page_wirings,
} from '../page/vm_pageq.ts';
import { page_dirty } from './vm_launder.ts';
import { object_page_free, page_valid } from './vm_object_page.ts';
import { vm_pager_has_page } from './vm_pager.ts';

const object = vm_object;
const page = vm_page;

/**
 * Puts page m of the locked object on the cache queue.  False: its contents would be lost, or
 * somebody uses it; while a CPU owes an answer to a shoot-down no page is believed to be clean.
 * Whoever mapped it has taken the mappings away.
 */
export function object_page_cache(m: number, o: vm_object_t): boolean {
  if (opt.INVARIANTS) mtx_assert(object.lock, o);
  const dirty = page_dirty(m) || tlb_owed();
  const used = page.busy[m] !== 0 || page.map_pmap[m] !== 0 || vm_page_wirings(m) !== 0;
  if (dirty || used || !page_valid(m) || page.flags[m] & PG_UNMANAGED) return false;
  if (!vm_pager_has_page(o, page.index[m])) return false;
  if (page_queue(m) !== PQ_CACHE) vm_page_cache(m);
  return true;
}
/** Frees one page of the cache queue. False: there is none that can be had. */
export function page_select_cache(): boolean {
  if (tlb_owed()) return false; // what is freed now waits in limbo: nothing is won
  let o = NULL as vm_object_t;
  const m = pageq_cached((at) => {
    o = page.owner[at] as vm_object_t;
    if (mtx_owned(object.lock, o) || !mtx_trylock(object.lock, o)) return false;
    if (page.busy[at] === 0) return true;
    mtx_unlock(object.lock, o); // a thread died that was about to free it
    return false;
  });
  if (m === 0) return false;
  // Taken with the queues locked: the page is on that queue still.
  object_page_free(m, o);
  mtx_unlock(object.lock, o);
  return true;
}
/** Frees all pages of the cache queue that can be had. Returns how many. */
export function object_cache_free(): number {
  let n = 0;
  while (page_select_cache()) n++;
  return n;
}
