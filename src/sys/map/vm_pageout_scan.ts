/*
 * vm_pageout_scan: which pages lose their memory.
 *
 *                used                        not used, act_count is 0
 *           .------------ active <---.    .------------------.
 *           '-------------> |        | used                  v
 *                           |        '----------------- inactive ──> written ──> as good as free
 *                           '──── act_count goes down        clean ──────────────> or free
 *
 * Two looks.  The first goes through the inactive queue: a page that was used becomes active, one
 * that is clean becomes as good as free, one that is dirty is written first, in a cluster with its
 * neighbours, by whoever looks.  While pages are not wanted badly it is let go round once before
 * that.  The second goes through the active queue until enough pages are inactive: use raises a
 * page's count, each look that finds it unused lowers it, and at 0 the page becomes inactive.
 *
 * Both work from the head of a queue and page by page (vm_pageq.ts).  A page is met with its object
 * locked, and after each that lock is let go of: nothing is remembered from one to the next, so
 * that a scan may be one of many and may die anywhere.  What this CPU has locked itself is passed
 * over; a page that is wired leaves its queue.
 *
 * Why the mappings go first.  A page that looks clean may be written to by a translation that some
 * CPU has, between the look and the moment it counts as good as free.  So all translations are
 * taken away, and then it is looked at once more; a page whose answer a CPU owes still is left.
 *
 * Whoever asks says how many pages are wanted (`shortage`), how many clusters may be written
 * (`budget`) and the how-manieth try it is (`pass`); what was got stands in `gained`.
 */
import { counter_add } from '../machine/counter.ts';
import { poll } from '../machine/cpu.ts';
import { EAGAIN, ENOSPC } from '../machine/errno.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { NULL } from '../machine/struct.ts';
import { sysctl_get } from '../machine/sysctl_decl.ts';
import { tlb_owed } from '../machine/tlb_ack.ts';
import { OBJ_DEAD, OBJT_DEAD, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { SWAP_FULL } from '../h/swap.ts';
import { PAGE_DIRTY, PK_MASK, PK_OBJECT, vm_page } from '../h/vm_page.ts';
import { object_anonymous } from '../object/vm_object.ts';
import { object_page_cache } from '../object/vm_object_cache.ts';
import { object_page_free, page_valid } from '../object/vm_object_page.ts';
import { swap_full } from '../object/swap_area.ts';
import { swap_prepare } from '../object/swap_on.ts';
import { object_page_launder, page_dirty } from '../object/vm_launder.ts';
import { vm_page_count_min } from '../page/vm_page.ts';
import {
  ACT_INIT,
  PQ_ACTIVE,
  PQ_CACHE,
  PQ_INACTIVE,
  page_act,
  page_lapped,
  page_queue,
  pageq_count,
  pageq_first,
  vm_page_activate,
  vm_page_age,
  vm_page_requeue,
  vm_page_unqueue_wired,
  vm_page_wirings,
} from '../page/vm_pageq.ts';
import { pmap_remove_all, pmap_ts_referenced } from '../pmap/pmap.ts';
import { tlb_wait_all } from '../pmap/pmap_tlb.ts';
import { mtx_assert, mtx_lock, mtx_owned, mtx_trylock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import {
  defer_swapspace_pageouts,
  disable_swapspace_pageouts,
  pageout_algorithm,
  pageout_inactive_target,
  pageout_launders,
  pageout_lock_miss,
  v_dfree,
  v_pdpages,
} from './vm_pageout_vars.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const object = vm_object;
const page = vm_page;
const opt = opt_;

/** What a use adds to a page's count. */
const ACT_ADVANCE = 3;
/** What a look adds that finds it used. */
const ACT_USED = 1;
/** What a look takes away that does not. */
const ACT_DECLINE = 1;
const ACT_MAX = 64;
/** How long a CPU may be silent before a scan goes on without its answer, ms. */
const ANSWER_MS = 20;
/** From this try on a page grows old at the first look that finds it unused. */
export const PASS_URGENT = 2;

/** A scan: what is asked of it, and what it has done. Of this thread, while it runs. */
export interface Scan {
  /** The how-manieth try it is; 0: pages are not wanted badly. */
  readonly pass: number;
  /** Pages that are wanted still. */
  shortage: number;
  /** Clusters that may be written still. */
  budget: number;
  /** Pages of the inactive queue that could not be decided, or have no place to go to. */
  additional: number;
  /** Pages that became free or as good as free. */
  gained: number;
  /** Dirty pages that were left because nothing more may be written. */
  dirty: number;
  /** The swap area has no room: this was seen. */
  full: boolean;
  /** A CPU does not answer: this was seen. */
  silent: boolean;
}
/** A new one. */
export function scan_of(pass: number, shortage: number, budget: number): Scan {
  return { pass, shortage, budget, additional: 0, gained: 0, dirty: 0, full: false, silent: false };
}

/** With the queues locked: takes the object of page m, unless it is in use. */
function object_had(m: number): boolean {
  const o = page.owner[m] as vm_object_t;
  // This CPU's own: the caller may be about to use what it has just found there.
  if (mtx_owned(object.lock, o) || !mtx_trylock(object.lock, o)) return false;
  if (page.owner[m] === o) return true;
  mtx_unlock(object.lock, o); // the page moved to another object meanwhile
  return false;
}
/** Beside page numbers: the first page cannot be had now. */
const MISSED = -1;
/**
 * The first page of a queue, with its object locked; MISSED; 0: none.  Where the object is in use
 * the page goes to the end, and its object is waited for with nothing locked: many pages may be
 * of the same one, and a look that passes over them all finds nothing.
 */
function first_of(q: number): number {
  poll();
  const m = pageq_first(q, object_had);
  if (m !== 0) counter_add(v_pdpages, 1);
  if (m >= 0) return m;
  counter_add(pageout_lock_miss, 1);
  const o = page.owner[-m] as vm_object_t; // a hint: records of objects stay what they are
  if (o === NULL || mtx_owned(object.lock, o)) return MISSED;
  mtx_lock(object.lock, o);
  if (is_of(-m, o, q)) return -m;
  mtx_unlock(object.lock, o);
  return MISSED;
}
/** Whether a page is one of that object, and on that queue. The object is locked. */
function is_of(m: number, o: vm_object_t, q: number): boolean {
  if ((page.info[m] & PK_MASK) !== PK_OBJECT || page.owner[m] !== o) return false;
  return page_queue(m) === q;
}
/** Whether the object of a page is ending: what it has goes with it. */
function ending(o: vm_object_t): boolean {
  return (object.flags[o] & OBJ_DEAD) !== 0 || object.type[o] === OBJT_DEAD;
}
function used_more(m: number): number {
  return Math.min(ACT_MAX, Math.max(page_act(m), ACT_INIT) + ACT_USED + ACT_ADVANCE);
}

// --- the inactive queue --------------------------------------------------------------------------

/** Looks through the inactive queue, at each page once at most, until enough came free. */
export function inactive_scan(s: Scan): void {
  for (let left = pageq_count(PQ_INACTIVE); left > 0 && s.shortage > 0; left--) {
    const m = first_of(PQ_INACTIVE);
    if (m === 0) return;
    if (m < 0) {
      s.additional++;
      continue;
    }
    const o = page.owner[m] as vm_object_t;
    inactive_page(s, m, o);
    mtx_unlock(object.lock, o);
  }
  if (s.full) swap_prepare(); // for the next look: now nothing is locked
}
/** Decides about one page. Its object is locked, and is so again afterwards. */
function inactive_page(s: Scan, m: number, o: vm_object_t): void {
  if (vm_page_unqueue_wired(m)) return;
  if (page.busy[m] !== 0 || ending(o)) return leave(s, m);
  if (pmap_ts_referenced(m)) return void vm_page_age(m, PQ_INACTIVE, PQ_ACTIVE, used_more(m));
  if (!page_valid(m)) {
    object_page_free(m, o);
    counter_add(v_dfree, 1);
    return got(s);
  }
  if (!page_dirty(m)) {
    if (cached(s, m, o)) return got(s);
    if (tlb_owed()) return leave(s, m);
    if (given_up(m, o)) {
      object_page_free(m, o);
      counter_add(v_dfree, 1);
      return got(s);
    }
    // Written to until a moment ago, or no store has it any more.
  }
  launder(s, m, o);
}
function got(s: Scan): void {
  s.shortage--;
  s.gained++;
}
/**
 * Nothing can be done with a page: others have it, or it has no place to go to.  Another one is to
 * become inactive in its stead: else such pages are the whole queue in the end, and those that are
 * active, and could go, are never looked at.
 */
function leave(s: Scan, m: number): void {
  s.additional++;
  vm_page_requeue(m);
}
/**
 * Makes a page that looks clean as good as free; false: it is not clean, as it turns out, or a
 * CPU that has used it owes an answer.
 */
function cached(s: Scan, m: number, o: vm_object_t): boolean {
  pmap_remove_all(m);
  if (!s.silent) s.silent = tlb_wait_all(ANSWER_MS) >= 0; // once: the others are not to wait, too
  return object_page_cache(m, o);
}
/**
 * Whether the contents of a page that `cached` did not take need not be kept: anonymous memory is
 * dirty until a slot has it, so a clean page without one was given up by advice.  It is zero when
 * it is used again, unless an object below has an older one: then it is kept.
 */
function given_up(m: number, o: vm_object_t): boolean {
  if (page_dirty(m) || page.slot[m] !== 0 || !object_anonymous(o)) return false;
  const used = page.busy[m] !== 0 || page.map_pmap[m] !== NULL || vm_page_wirings(m) !== 0;
  return !used && object.backing[o] === NULL;
}
/** Has a dirty page written, if its time has come. */
function launder(s: Scan, m: number, o: vm_object_t): void {
  if (s.pass === 0 && !page_lapped(m)) return vm_page_requeue(m, true);
  if (!may_launder(s, m, o)) {
    s.dirty++;
    return leave(s, m);
  }
  if (s.budget <= 0) {
    s.dirty++;
    return vm_page_requeue(m);
  }
  dirty_note(m, o);
  counter_add(pageout_launders, 1);
  const error = object_page_launder(m, o);
  if (opt.INVARIANTS) mtx_assert(object.lock, o);
  // The lock was let go of: nothing that was known of the page holds any more.
  if (error === ENOSPC) s.full = true;
  else s.budget--;
  if (!is_of(m, o, PQ_INACTIVE) || ending(o)) return;
  if (error !== 0) {
    s.dirty++;
    // One that cannot be written is in nobody's way; a silent CPU may answer soon.
    return error === EAGAIN ? vm_page_requeue(m) : vm_page_activate(m);
  }
  if (page.busy[m] !== 0 || page_dirty(m)) return vm_page_requeue(m);
  if (pmap_ts_referenced(m)) return void vm_page_age(m, PQ_INACTIVE, PQ_ACTIVE, used_more(m));
  if (cached(s, m, o)) got(s);
  else vm_page_requeue(m);
}
/** Anonymous memory goes to the swap area only if that has room, and is wanted. */
function may_launder(s: Scan, m: number, o: vm_object_t): boolean {
  if (!object_anonymous(o)) return true;
  if (page.slot[m] === 0 && (s.full || swap_full() === SWAP_FULL)) return false;
  if (sysctl_get(disable_swapspace_pageouts) !== 0) return false;
  return sysctl_get(defer_swapspace_pageouts) === 0 || vm_page_count_min();
}
/** A page that was written to, or that no store has, is dirty as a whole. */
function dirty_note(m: number, o: vm_object_t): void {
  if ((page.state[m] & PAGE_DIRTY) === PAGE_DIRTY) return;
  undo_begin(object.lock, o);
  save(page.state, m);
  page.state[m] |= PAGE_DIRTY;
  undo_end();
}

// --- one page ------------------------------------------------------------------------------------

/**
 * Frees page m, if it is an object's, and may go: whether it was used does not matter.  One that no
 * store has as it is is written, or stays without `write`.  The caller holds no mutex.  True: it is
 * free, or will be when each CPU has answered.
 */
export function page_evict(m: number, write = true): boolean {
  const o = page.owner[m] as vm_object_t;
  if ((page.info[m] & PK_MASK) !== PK_OBJECT || o === NULL || page.owner[m] !== o) return false;
  mtx_lock(object.lock, o);
  const gone = is_of(m, o, page_queue(m)) && tidied(m, o, write);
  if (gone) {
    object_page_free(m, o);
    counter_add(v_dfree, 1);
  }
  mtx_unlock(object.lock, o);
  return gone;
}
/**
 * Whether page m may be freed and nothing is lost, after it was written if need be.  Its object is
 * locked; that may be let go of meanwhile.
 */
function tidied(m: number, o: vm_object_t, write: boolean): boolean {
  const held = (): boolean => page.busy[m] !== 0 || vm_page_wirings(m) > 0 || ending(o);
  if (held()) return false;
  if (!page_valid(m)) return true;
  const s = scan_of(PASS_URGENT, 1, 1);
  if (!page_dirty(m) && (cached(s, m, o) || (!tlb_owed() && given_up(m, o)))) return true;
  // Clean, but written to a moment ago, or a page that no store has any more.
  if (!write || tlb_owed() || !may_launder(s, m, o)) return false;
  dirty_note(m, o);
  counter_add(pageout_launders, 1);
  if (object_page_launder(m, o) !== 0) return false;
  if (!is_of(m, o, page_queue(m)) || held() || page_dirty(m)) return false;
  return cached(s, m, o);
}
/**
 * Makes as many pages of a queue as can be as good as free, whether they were used or not; dirty
 * ones are written.  At each page that is there now it looks once at most.
 */
export function queue_launder(q: number): void {
  for (let left = pageq_count(q); left > 0; left--) {
    const m = first_of(q);
    if (m === 0) return;
    if (m < 0) continue;
    const o = page.owner[m] as vm_object_t;
    if (!tidied(m, o, true)) {
      if (is_of(m, o, q)) vm_page_requeue(m);
    } else if (!page_valid(m)) object_page_free(m, o);
    mtx_unlock(object.lock, o);
  }
}

// --- the cache queue -----------------------------------------------------------------------------

/**
 * Frees pages that are as good as free, the first ones first, while `more` says so.  Returns how
 * many.  Fewer while a CPU owes an answer: what is freed then is free only later.
 */
export function cache_scan(more: () => boolean): number {
  let freed = 0;
  for (let left = pageq_count(PQ_CACHE); left > 0 && more(); left--) {
    if (tlb_wait_all(ANSWER_MS) >= 0) break;
    const m = first_of(PQ_CACHE);
    if (m === 0) break;
    if (m < 0) continue;
    const o = page.owner[m] as vm_object_t;
    if (page.busy[m] === 0 && !ending(o)) {
      object_page_free(m, o);
      freed++;
    }
    mtx_unlock(object.lock, o);
  }
  counter_add(v_dfree, freed);
  return freed;
}

// --- the active queue ----------------------------------------------------------------------------

/** Looks through the active queue, at each page once at most, until enough pages are inactive. */
export function active_scan(s: Scan): void {
  let wanted =
    Math.max(s.shortage, 0) + pageout_inactive_target() - pageq_count(PQ_INACTIVE) + s.additional;
  const by_count = s.pass < PASS_URGENT && sysctl_get(pageout_algorithm) === 0;
  for (let left = pageq_count(PQ_ACTIVE); left > 0 && wanted > 0; left--) {
    const m = first_of(PQ_ACTIVE);
    if (m === 0) return;
    if (m < 0) continue;
    const o = page.owner[m] as vm_object_t;
    if (active_page(m, o, by_count)) wanted--;
    mtx_unlock(object.lock, o);
  }
}
/** Decides about one page, whose object is locked. True: it is inactive from here on. */
function active_page(m: number, o: vm_object_t, by_count: boolean): boolean {
  if (vm_page_unqueue_wired(m)) return false;
  if (page.busy[m] !== 0 || ending(o)) {
    vm_page_requeue(m);
    return false;
  }
  if (pmap_ts_referenced(m)) {
    const act = Math.min(ACT_MAX, page_act(m) + ACT_USED + ACT_ADVANCE);
    vm_page_age(m, PQ_ACTIVE, PQ_ACTIVE, act);
    return false;
  }
  const act = page_act(m) - Math.min(page_act(m), ACT_DECLINE);
  const old = !by_count || act === 0;
  return vm_page_age(m, PQ_ACTIVE, old ? PQ_INACTIVE : PQ_ACTIVE, act) && old;
}
/**
 * Looks at up to n active pages although nobody needs any, so that `used` and `inactive` mean
 * something when somebody does.  A page that is old loses its mappings, which is cheap while
 * nothing presses: its next use is seen, and is a fault.
 */
export function stats_scan(n: number): void {
  for (let left = Math.min(n, pageq_count(PQ_ACTIVE)); left > 0; left--) {
    const m = first_of(PQ_ACTIVE);
    if (m === 0) return;
    if (m < 0) continue;
    const o = page.owner[m] as vm_object_t;
    if (active_page(m, o, true)) pmap_remove_all(m);
    mtx_unlock(object.lock, o);
  }
}
