/*
 * vm_contig_gather: the pages of one place become a run, by moving away or freeing what is there.
 *
 *      place    | . o o . d c . o |        . free   o of an object   d dirty   c as good as free
 *      run      '-------'                  the pages had so far, from the first one up
 *
 * Page after page joins the run in this CPU's hand (vm_page_contig.ts), so that nobody else gets
 * it while the next ones are still in work.  A free page is taken.  A page of an object moves:
 *
 *      1   some pages of the place become busy            who faults now waits
 *      2   nobody maps them any more, and all CPUs have answered, within 1 ms
 *      3   one by one: copied to a free page elsewhere, replaced, joined
 *
 * so that its contents, its place on its queue, its slot of the swap area and its marks are those
 * that it had, and it is mapped again where it is used.  If a CPU is silent they are busy no more,
 * and the place is abandoned: others may have such a page in use for as long as they like.  Where
 * there is no free page elsewhere, or pages are not to move, a page is freed: what is clean at
 * once, what is dirty after it was written.
 *
 * An abandoned place gives back all that joined.  Nothing is lost and nothing is half done: a page
 * that moved has moved.
 *
 * Locks.  None is held by the caller.  Objects are locked one at a time; nobody is waited for
 * while pages are busy, save for those answers.
 */
import { counter_add, counter_here } from '../machine/counter.ts';
import { poll, thr } from '../machine/cpu.ts';
import { NULL } from '../machine/struct.ts';
import { OBJ_DEAD, OBJT_DEAD, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PK_CACHE, PK_FREE, PK_LIMBO, PK_MASK, PK_OBJECT, vm_page } from '../h/vm_page.ts';
import { object_page_busy, object_page_wakeup, page_valid } from '../object/vm_object_page.ts';
import { object_page_left, object_page_relocate } from '../object/vm_object_replace.ts';
import { vm_page_free_count } from '../page/vm_page.ts';
import { vm_page_hand_busy } from '../page/vm_page_busy.ts';
import { vm_page_cache_empty } from '../page/vm_page_cache.ts';
import {
  vm_page_alloc_outside,
  vm_page_run_begin,
  vm_page_run_join,
  vm_page_run_length,
  vm_page_run_release,
  vm_page_run_take,
} from '../page/vm_page_contig.ts';
import { vm_page_limbo_free } from '../page/vm_page_limbo.ts';
import { PQ_CACHE, page_queue } from '../page/vm_pageq.ts';
import { pmap_remove_all } from '../pmap/pmap.ts';
import { tlb_wait_all } from '../pmap/pmap_tlb.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { contig_loose } from './vm_contig.ts';
import {
  v_contig_abandoned,
  v_contig_freed,
  v_contig_moved,
  v_contig_silent,
  v_contig_written,
} from './vm_contig_vars.ts';
import { pageout_free } from './vm_pageout.ts';
import { page_evict } from './vm_pageout_scan.ts';
import { pageout_launders } from './vm_pageout_vars.ts';

const object = vm_object;
const page = vm_page;

/** Pages that are busy at a time. */
const SOME = 16;
/** How long the answer of a CPU is waited for, ms. */
const ANSWER_MS = 1;
/** Pages that are freed elsewhere at a time, where the free queues have none to spare. */
const SPARE = 8;

/** How the pages of a place are had. */
export interface GatherWays {
  /** Pages of objects move; else, or where there is no room, they are freed. */
  readonly move: boolean;
  /** It may write, sleep, and wait for the answers of CPUs. */
  readonly wait: boolean;
  /** The class of the request. */
  readonly req: number;
}
/** The page because of which this thread's last place was abandoned. */
export const gather_failed = { page: 0 };

function kind_of(m: number): number {
  return page.info[m] & PK_MASK;
}
/**
 * The n pages from `first` on as a run in hand.  False: one of them stays, gather_failed.page, and
 * what had joined is free again.
 */
export function contig_gather(first: number, n: number, ways: GatherWays): boolean {
  const wrote = counter_here(pageout_launders);
  vm_page_run_begin(first);
  // A page may be taken by others each time it has become free: not for ever.
  for (let turns = 0; turns < n * 2 + SOME && vm_page_run_length() < n; turns++) {
    poll();
    if (!next(first, n, ways)) break;
  }
  counter_add(v_contig_written, counter_here(pageout_launders) - wrote);
  const got = vm_page_run_length();
  if (got === n) return true;
  gather_failed.page = first + got;
  vm_page_run_release(first, got);
  counter_add(v_contig_abandoned, 1);
  return false;
}
/** One step: pages join, or one is free now and joins at the next step. False: it stays. */
function next(first: number, n: number, ways: GatherWays): boolean {
  const m = first + vm_page_run_length();
  switch (kind_of(m)) {
    case PK_FREE:
      return vm_page_run_take(m, ways.req) || kind_of(m) !== PK_FREE || spare(ways);
    case PK_CACHE:
      return page.owner[m] === thr.cpu && vm_page_cache_empty() > 0;
    case PK_LIMBO:
      return vm_page_limbo_free() > 0;
    case PK_OBJECT: {
      const cached = page_queue(m) === PQ_CACHE;
      const moved = ways.move && !cached ? move_some(m, first, n, ways) : NONE;
      return moved !== NONE ? moved > 0 : evicted(m, ways);
    }
    default:
      return false;
  }
}
/** The free queues have no more than others need: pages are freed anywhere. */
function spare(ways: GatherWays): boolean {
  if (!ways.wait) return false;
  const before = vm_page_free_count();
  pageout_free(SPARE);
  vm_page_cache_empty();
  return vm_page_free_count() > before;
}
/** Frees a page of an object. */
function evicted(m: number, ways: GatherWays): boolean {
  if (!contig_loose(m) || !page_evict(m, ways.wait)) return false;
  counter_add(v_contig_freed, 1);
  vm_page_limbo_free();
  vm_page_cache_empty();
  return true;
}

// --- moving -------------------------------------------------------------------------------------

/** Of move_some: no page could be moved. Beside it: a CPU is silent. */
const NONE = 0;
const SILENT = -1;
/**
 * Moves pages away from `m` on, the next one of the run, which is to have n from `first` on.  How
 * many joined; NONE, SILENT.
 */
function move_some(m: number, first: number, n: number, ways: GatherWays): number {
  const held: number[] = [];
  for (let at = m; at < Math.min(m + SOME, first + n); at++) {
    if (kind_of(at) === PK_FREE) continue;
    if (!hold(at)) break;
    held.push(at);
  }
  if (held.length === 0) return NONE;
  for (const at of held) if (page.map_pmap[at] !== NULL) pmap_remove_all(at);
  // A store by a translation that was taken back before may be under way, too.
  if (tlb_wait_all(ways.wait ? ANSWER_MS : 0) >= 0) {
    for (const at of held) idle(at);
    counter_add(v_contig_silent, 1);
    return SILENT;
  }
  let [at, moved] = [m, 0];
  for (; moved < held.length; at++) {
    const joined = at === held[moved] ? move(at, first, n, ways) : vm_page_run_take(at, ways.req);
    if (!joined) break;
    if (at === held[moved]) moved++;
  }
  for (const left of held.slice(moved)) idle(left);
  return at > m ? at - m : NONE;
}
/** Makes a page of an object busy, if it may move. */
function hold(m: number): boolean {
  const o = page.owner[m] as vm_object_t; // a hint: records of objects stay what they are
  if (!contig_loose(m) || o === NULL) return false;
  mtx_lock(object.lock, o);
  const ended = (object.flags[o] & OBJ_DEAD) !== 0 || object.type[o] === OBJT_DEAD;
  const good = page.owner[m] === o && contig_loose(m) && !ended && page_valid(m);
  if (good) object_page_busy(m, o);
  mtx_unlock(object.lock, o);
  return good;
}
/** A page is busy no more. */
function idle(m: number): void {
  const o = page.owner[m] as vm_object_t;
  mtx_lock(object.lock, o);
  object_page_wakeup(m, o);
  mtx_unlock(object.lock, o);
}
/** A busy page, which nobody maps, moves, and joins the run. False: there is no page for it. */
function move(m: number, first: number, n: number, ways: GatherWays): boolean {
  if (vm_page_alloc_outside(first, first + n, ways.req) === 0) return false;
  const o = page.owner[m] as vm_object_t; // stays so while it is busy
  mtx_lock(object.lock, o);
  const to = vm_page_hand_busy(PK_OBJECT, o, page.index[m]);
  object_page_relocate(m, to, o);
  object_page_left(m);
  mtx_unlock(object.lock, o);
  vm_page_run_join(m);
  counter_add(v_contig_moved, 1);
  return true;
}
