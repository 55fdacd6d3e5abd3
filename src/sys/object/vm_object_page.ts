/*
 * vm_object_page: the pages of an object.
 *
 *      object_page_alloc    free -> busy, not found -> busy, found by its number
 *      object_page_remove   found -> busy, not found
 *      object_page_free     found -> free; what a store has of it stays
 *      object_page_drop     found -> free; that goes too
 *      object_page_move     found here -> found there, under both locks
 *
 * A page that is lent is not freed by the two: it is the loans' alone then (vm_object_loan.ts).
 *
 * The index of an object leads to a page by its number; the page says whose it is, and which
 * number it has.  Both must agree: an entry whose page says otherwise is stale, as if it
 * were not there.  Where the index leads to a slot of the swap area no page is in memory
 * (vm_object_slot.ts).  That makes a move safe: first the other index leads to the page too, then
 * the page changes its mind and leaves the first index, in one section.  A CPU that dies in
 * between leaves a stale entry and nothing else; `moving` in its record says in which object.
 *
 * A page is busy only while the lock is let go with the page in work.  Who finds it busy
 * sleeps (vm_page_sleep_if_busy) and looks it up again: nothing that was read before may be
 * believed afterwards.
 *
 * Locks: all calls want the object locked; what leaves it may sleep, lets go of it meanwhile.
 */
import { sim_point } from '../machine/atomic.ts';
import { counter_add, counter_get, counter_u64 } from '../machine/counter.ts';
import { pcpu as pcpu_, thr as thr_ } from '../machine/cpu.ts';
import { v_reaps } from '../machine/death.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { elem, field_word, NULL } from '../machine/struct.ts';
import { W_VMPBUSY } from '../machine/wmesg.ts';
import type { zone_t } from '../h/uma.ts';
import { vm_loan, type vm_loan_t } from '../h/vm_loan.ts';
import {
  PAGE_DIRTY,
  PAGE_VALID,
  PG_FICTITIOUS,
  PG_UNMANAGED,
  PG_WANTED,
  PG_ZERO,
  PK_LOAN,
  PK_MASK,
  PK_OBJECT,
  SLOT_TWICE,
  VM_ALLOC_WIRED,
  VM_ALLOC_ZERO,
  vm_page,
} from '../h/vm_page.ts';
import {
  OBJ_COLORED,
  OBJT_DEVICE,
  OBJT_LOAN,
  OBJT_PHYS,
  vm_object,
  vm_object_root,
  type vm_object_t,
} from '../h/vm_object.ts';
import { mtx_assert, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { msleep, wakeup } from '../sync/subr_sleepqueue.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { pmap_zero_page } from '../page/vm_page.ts';
import {
  vm_page_busy,
  vm_page_forget,
  vm_page_free_busy,
  vm_page_idle,
  vm_page_unbusy,
} from '../page/vm_page_busy.ts';
import { pmap_remove_all } from '../pmap/pmap.ts';
import { vm_reserv_end } from '../page/vm_reserv.ts';
import {
  PQ_CACHE,
  PQ_NONE,
  page_queue,
  vm_page_activate,
  vm_page_held,
  vm_page_loans,
  vm_page_owner_wire,
  vm_page_unqueue,
  vm_page_unwire_all,
  vm_page_wirings,
} from '../page/vm_pageq.ts';
import { swap_free_old, swap_note_old } from './swap_area.ts';
import { device_page } from './vm_device.ts';
import { object_index, object_root } from './vm_object.ts';
import { object_frame } from './vm_object_reserv.ts';
import { page_select_cache } from './vm_object_cache.ts';
import { object_slot, object_slots_free, object_swaps } from './vm_object_slot.ts';
import {
  radix_clear,
  radix_end,
  radix_lookup,
  radix_next,
  radix_peek,
  radix_replace,
  radix_reserve,
  radix_store,
  radix_trim,
} from '../pmap/vm_radix.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const thr = thr_;
const pcpu = pcpu_;
const opt = opt_;
const object = vm_object;
const page = vm_page;
const SLICE_MS = 250;
const v_pfree = counter_u64('vm.stats.vm.v_pfree', 'Pages freed because their object ended');

/** Beyond every page of an object. */
const INDEX_END = 2 ** 31;
const nodes = (): zone_t => vm_object_root.nodes[object_root()] as zone_t;

/** Whether page m says that it is page `i` of the object. */
function says(m: number, o: vm_object_t, i: number): boolean {
  return page.owner[m] === o && page.index[m] === i && (page.info[m] & PK_MASK) === PK_OBJECT;
}
/** Page `i` of the object, 0: it has none. Of a device, the page that it shows there. */
export function object_page(o: vm_object_t, i: number): number {
  if (opt.INVARIANTS) mtx_assert(object.lock, o);
  const m = radix_lookup(object_index(o), i);
  if (m > 0) return says(m, o, i) ? m : 0;
  if (m < 0) return 0;
  return object.type[o] === OBJT_DEVICE ? device_page(o, i) : 0;
}
/** The first page from number `i` on; its number is page.index. 0: none. */
export function object_page_next(o: vm_object_t, i: number): number {
  for (let at = i; ; at++) {
    at = radix_next(object_index(o), at);
    if (at < 0) return 0;
    const m = object_page(o, at);
    if (m !== 0) return m;
  }
}
/** How the reaper sees whether a page that was busy has an owner. Takes the object's lock. */
export function object_page_unowned(m: number): boolean {
  const o = page.owner[m] as vm_object_t;
  if (o === NULL) return true;
  mtx_lock(object.lock, o);
  const found = radix_peek(object_index(o), page.index[m]) === m;
  mtx_unlock(object.lock, o);
  return !found;
}

// --- coming ----------------------------------------------------------------------------------

/**
 * A new page `i`, busy and found.  `req` as for vm_page_get; with VM_ALLOC_WIRED it is wired.
 * PG_ZERO in its flags says whether it is zero.  Pages that are as good as free are taken for
 * it, but none of an object that this CPU has locked.  0: no memory for it or for the index.
 * Never sleeps.
 */
export function object_page_alloc(o: vm_object_t, i: number, req: number): number {
  let m = page_alloc(o, i, req);
  while (m === 0 && page_select_cache()) m = page_alloc(o, i, req);
  return m;
}
function page_alloc(o: vm_object_t, i: number, req: number): number {
  const t = object_index(o);
  // Before the page says whose it is: it may be the very one that a stale entry leads to.
  const there = place_free(o, i, 'vm_page_insert');
  if (!radix_reserve(t, i, nodes())) return 0;
  const m = object_frame(o, i, req & ~VM_ALLOC_WIRED);
  if (m === 0) {
    radix_trim(t, i, nodes());
    return 0;
  }
  if (object.type[o] === OBJT_PHYS) page.flags[m] |= PG_UNMANAGED;
  enter(o, i, m, there);
  if (req & VM_ALLOC_WIRED) vm_page_owner_wire(m);
  return m;
}
/** What the index has where page `i` is to be entered: nothing, a stale entry or a slot. */
export function place_free(o: vm_object_t, i: number, call: string): number {
  let there = radix_lookup(object_index(o), i);
  if (there < 0 && -there & SLOT_TWICE) {
    object_slot(o, i); // is settled
    there = radix_lookup(object_index(o), i);
  }
  if (there > 0 && says(there, o, i)) panic(`${call}: page already inserted`, i, there);
  return there;
}
/** The index leads to the page from here on. Its nodes are there; `there` is what stands there. */
function enter(o: vm_object_t, i: number, m: number, there: number): void {
  const t = object_index(o);
  undo_begin(object.lock, o);
  if (there === 0) radix_store(t, i, m);
  else radix_replace(t, i, m);
  if (there < 0) {
    save(page.slot, m);
    page.slot[m] = -there;
  }
  if (there <= 0) {
    save(object.resident, o);
    object.resident[o]++;
  }
  undo_end();
}
/**
 * Page `i`, found or new, busy by this CPU unless `busy` is false, wired if `req` says so.
 * With VM_ALLOC_ZERO in `req` one that is new, or has no contents yet, is zero; one that has is
 * as it was.  It may sleep for a busy page, with the lock let go.  0: no memory.
 */
export function object_page_grab(o: vm_object_t, i: number, req: number, busy = true): number {
  for (;;) {
    const m = object_page(o, i);
    if (m !== 0 && vm_page_sleep_if_busy(m, o)) continue;
    if (m !== 0) {
      // Whoever made it may have died before it was filled.
      if (req & VM_ALLOC_ZERO && !page_valid(m)) pmap_zero_page(m);
      if (req & VM_ALLOC_WIRED) vm_page_owner_wire(m);
      if (busy) object_page_busy(m, o);
      return m;
    }
    const fresh = object_page_alloc(o, i, req);
    if (fresh === 0) return 0;
    if (req & VM_ALLOC_ZERO && (page.flags[fresh] & PG_ZERO) === 0) pmap_zero_page(fresh);
    if (!busy) object_page_wakeup(fresh, o);
    return fresh;
  }
}

// --- contents --------------------------------------------------------------------------------

/** Whether a page has contents: one whose CPU died before it was filled has none. */
export function page_valid(m: number): boolean {
  return (page.state[m] & PAGE_VALID) !== 0 || fictitious(m);
}
/** It is about to be used: it is not as good as free any more. */
function uncache(m: number): void {
  if (page_queue(m) === PQ_CACHE) vm_page_activate(m);
}
function fictitious(m: number): boolean {
  return (page.flags[m] & PG_FICTITIOUS) !== 0;
}
/** A page of the object has contents from here on; `dirty`: newer than what a store may have. */
export function object_page_filled(m: number, o: vm_object_t, dirty = true): void {
  if (opt.INVARIANTS && fictitious(m)) panic('vm_page_filled: a page of a device', m);
  uncache(m);
  undo_begin(object.lock, o);
  save(page.state, m);
  page.state[m] = PAGE_VALID | (dirty ? PAGE_DIRTY : page.state[m] & PAGE_DIRTY);
  undo_end();
}
/**
 * A page of the object that is busy by this CPU, and new, has contents from here on that no store
 * has, and is busy no more.
 */
export function object_page_ready(m: number, o: vm_object_t): void {
  if (opt.INVARIANTS && fictitious(m)) panic('vm_page_filled: a page of a device', m);
  if (opt.INVARIANTS) mtx_assert(object.lock, o);
  page.state[m] = PAGE_VALID | PAGE_DIRTY; // who dies here leaves a busy page, and it is that still
  vm_page_idle(m);
  page_flash(m);
}
/**
 * Page `i` of the object, if it has contents; one that has none, and is idle, is freed.  Of an
 * object that shows a loan it may be one of that: see object_page_borrowed.
 */
export function object_page_seen(o: vm_object_t, i: number): number {
  const m = object_page(o, i);
  if (m === 0 && object.type[o] === OBJT_LOAN) return loan_page(o, i);
  if (m === 0 || page_valid(m) || page.busy[m] !== 0) return m;
  page_of_dead_free(m, o, false);
  return 0;
}
/** The page that the loan of an object has for page `i`. */
function loan_page(o: vm_object_t, i: number): number {
  return i < object.size[o] ? vm_loan.frames[elem(object.loan[o] as vm_loan_t, i)] : 0;
}
/**
 * Whether page m, which is seen in a locked object, is that of another one, or nobody's, by a loan:
 * so it is there and does not change as long as the object lives.  All else that is said of it is
 * guarded by another lock.
 */
export function object_page_borrowed(m: number, o: vm_object_t): boolean {
  if (object.type[o] !== OBJT_LOAN) return false;
  return page.owner[m] !== o || (page.info[m] & PK_MASK) !== PK_OBJECT;
}
/** Frees a page whose wirings, if it has any but loans, are those of the dead. */
function page_of_dead_free(m: number, o: vm_object_t, drop: boolean): void {
  if (vm_page_held(m) !== 0 && counter_get(v_reaps) > 0) vm_page_unwire_all(m);
  object_page_free(m, o, drop);
}

// --- busy ------------------------------------------------------------------------------------

/** Makes a page of the object busy by this CPU; nobody has it busy. One of a device never is. */
export function object_page_busy(m: number, o: vm_object_t): void {
  if (fictitious(m)) return;
  uncache(m);
  undo_begin(object.lock, o);
  vm_page_busy(m);
  undo_end();
}
/** It is busy no more: whoever sleeps for it looks again. */
export function object_page_wakeup(m: number, o: vm_object_t): void {
  if (fictitious(m)) return;
  undo_begin(object.lock, o);
  vm_page_unbusy(m);
  undo_end();
  page_flash(m);
}
/** Wakes those who sleep for a page that was busy. */
export function page_flash(m: number): void {
  if ((page.flags[m] & PG_WANTED) === 0) return;
  page.flags[m] &= ~PG_WANTED;
  wakeup(field_word(page.busy, m));
}
/**
 * Sleeps if the page is busy.  True: it did, and the page may be another one's, or none,
 * by now: the caller looks everything up again.  The object stays locked, or is so again.
 */
export function vm_page_sleep_if_busy(m: number, o: vm_object_t): boolean {
  if (page.busy[m] === 0 || object_page_borrowed(m, o)) return false;
  if (page.busy[m] === thr.tid) panic('vm_page_sleep: busy by this CPU itself', m);
  page.flags[m] |= PG_WANTED;
  // errno: whatever ended the sleep, the page is looked up again
  msleep(field_word(page.busy, m), object.lock, o, W_VMPBUSY, SLICE_MS);
  return true;
}

// --- going -----------------------------------------------------------------------------------

/**
 * Takes a page out of the object: it is busy by this CPU, and nobody finds it; one that is lent is
 * of kind PK_LOAN then.  With `drop` its slot is in this CPU's hand, else the index leads to that.
 */
export function object_page_remove(m: number, o: vm_object_t, drop = false): void {
  const t = object_index(o);
  const i = page.index[m];
  const slot = page.slot[m];
  if (radix_lookup(t, i) !== m) panic('vm_page_remove: not found there', m, i);
  undo_begin(object.lock, o);
  if (page.busy[m] !== thr.tid) vm_page_busy(m);
  if (slot !== 0 && !drop) radix_replace(t, i, -slot);
  else radix_clear(t, i);
  if (slot !== 0) {
    save(page.slot, m);
    page.slot[m] = 0;
    if (drop) swap_note_old(slot);
  }
  if (vm_page_loans(m) > 0) {
    save(page.info, m);
    page.info[m] = PK_LOAN;
  }
  save(object.resident, o);
  object.resident[o]--;
  undo_end();
  if (slot !== 0 && drop) swap_free_old();
}
/** Frees a page of the object whose contents nobody wants any more, as object_page_free. */
export function object_page_drop(m: number, o: vm_object_t): void {
  object_page_free(m, o, true);
}
/**
 * Frees a page of the object, which nobody has busy; who maps it loses it.  What the swap area has
 * of it stays there, unless `drop` is set.
 */
export function object_page_free(m: number, o: vm_object_t, drop = false): void {
  const i = page.index[m];
  if (vm_page_held(m) !== 0) panic('vm_page_free: freeing wired page', m, vm_page_wirings(m));
  const lent = vm_page_loans(m) > 0;
  pmap_remove_all(m);
  if (page_queue(m) !== PQ_NONE && page.busy[m] !== thr.tid) {
    // Who dies here leaves a page of the object, which the reaper finds, and puts on a queue again.
    undo_begin(object.lock, o);
    vm_page_busy(m);
    undo_end();
  }
  vm_page_unqueue(m);
  object_page_remove(m, o, drop);
  if (opt.SIM) sim_point(m);
  page_flash(m);
  vm_page_forget(m);
  if (lent) vm_page_idle(m);
  else vm_page_free_busy(m);
  radix_trim(object_index(o), i, nodes());
}
/**
 * Frees all pages of an object that is ending.  It may sleep for busy ones.  Who has a page wired
 * refers to its object, so that here only wirings of the dead are left.
 */
export function object_pages_free(o: vm_object_t): void {
  let freed = 0;
  for (let m = object_page_next(o, 0); m !== 0; ) {
    const i = page.index[m];
    if (!vm_page_sleep_if_busy(m, o)) {
      page_of_dead_free(m, o, true);
      freed++;
    }
    m = object_page_next(o, i);
  }
  counter_add(v_pfree, freed);
  if (object.flags[o] & OBJ_COLORED) vm_reserv_end(o);
  object_stale_out(o);
  object_slots_free(o, 0, INDEX_END);
  radix_end(object_index(o), nodes());
}
/**
 * Frees the pages of an object whose contents are gone.  Those that are wired are mapped no more,
 * and stay as long as the object.
 */
export function object_pages_revoke(o: vm_object_t): void {
  for (let m = object_page_next(o, 0); m !== 0; ) {
    const i = page.index[m];
    const slept = vm_page_sleep_if_busy(m, o);
    const wired = !slept && vm_page_held(m) !== 0;
    if (wired) pmap_remove_all(m);
    else if (!slept) object_page_drop(m, o);
    m = object_page_next(o, wired ? i + 1 : i);
  }
  object_slots_free(o, 0, INDEX_END);
}

// --- moving ----------------------------------------------------------------------------------

/**
 * Makes page m of `from` page `i` of `to`, where there is none.  Both are locked, `to` as the
 * first; the page is not busy.  False: no memory for the index.  What maps it stays.
 */
export function object_page_move(
  m: number,
  from: vm_object_t,
  to: vm_object_t,
  i: number,
): boolean {
  const was = page.index[m];
  uncache(m);
  const there = place_free(to, i, 'vm_page_rename');
  if (there < 0) panic('vm_page_rename: the swap area has the page there', i, -there);
  if (!radix_reserve(object_index(to), i, nodes())) return false;
  if (page.slot[m] !== 0) object_swaps(to);
  pcpu.moving[thr.pc] = to;
  enter(to, i, m, there); // it does not count yet: the page says that it is the other one's
  undo_begin(object.lock, from);
  save(page.owner, m);
  save(page.index, m);
  save(page.state, m);
  save(object.resident, from);
  if (radix_clear(object_index(from), was) !== m) panic('vm_page_rename: not found', m, was);
  page.owner[m] = to;
  page.index[m] = i;
  if (page.slot[m] === 0) page.state[m] |= PAGE_DIRTY; // a store knows it by the other object
  object.resident[from]--;
  undo_end();
  pcpu.moving[thr.pc] = 0;
  radix_trim(object_index(from), was, nodes());
  return true;
}
/**
 * Page m, which is lent and has left the object `from`, becomes page `i` of `to`, which shows it.
 * Both are locked.  False: no memory for the index.  What maps it stays.
 */
export function object_page_adopt(
  m: number,
  from: vm_object_t,
  to: vm_object_t,
  i: number,
): boolean {
  const there = place_free(to, i, 'vm_page_adopt');
  if (!radix_reserve(object_index(to), i, nodes())) return false;
  pcpu.moving[thr.pc] = to;
  enter(to, i, m, there); // it does not count yet: the page says that it is nobody's
  undo_begin(object.lock, from);
  for (const f of [page.owner, page.index]) save(f, m);
  save(page.info, m);
  save(page.state, m);
  page.owner[m] = to;
  page.index[m] = i;
  page.info[m] = PK_OBJECT;
  page.state[m] = PAGE_VALID | PAGE_DIRTY;
  undo_end();
  pcpu.moving[thr.pc] = 0;
  return true;
}
/** Takes the stale entry out that a dead CPU may have left in the object, and settles slots. */
export function object_stale_out(o: vm_object_t): void {
  const t = object_index(o);
  for (let i = radix_next(t, 0); i >= 0; i = radix_next(t, i + 1)) {
    if (radix_lookup(t, i) < 0) {
      object_slot(o, i);
      continue;
    }
    if (says(radix_lookup(t, i), o, i)) continue;
    undo_begin(object.lock, o);
    radix_clear(t, i);
    save(object.resident, o);
    object.resident[o]--;
    undo_end();
    radix_trim(t, i, nodes());
  }
}
