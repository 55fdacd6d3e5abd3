/*
 * vm_window_pages: how the pages under a window come to lie side by side in memory.
 *
 *      look      where are they?     one is missing: it is faulted in, with nothing locked
 *                                    one is lent:    it is broken off (vm_object_loan.ts)
 *                                    side by side:   they are wired where they are
 *      gather    a run of free pages is taken, and the contents move there:
 *
 *        1   all pages are made busy                   who faults now waits
 *        2   nobody maps them any more, and all CPUs have answered: no store is under way
 *        3   page by page, from the last one down: copied, replaced, wired
 *
 * Up to the end of step 2 everything can be taken back, and nothing is lost but translations.  In
 * step 3 nothing can fail.  A thread that dies leaves pages that were moved and pages that were
 * not, each whole; what is wired is counted in the run (vm_window.ts).
 *
 * Of memory beyond the direct map (vm_kern.ts) it is the same: its pages are wired by the kernel
 * once, which moves with them, and a page that has moved gets its translation at the next touch.
 *
 * The map is locked exclusively all the while; objects are locked one at a time.  Two threads that
 * gather pages of the same objects for different maps do not wait for each other: the one that
 * finds a page busy lets go of everything before it sleeps.
 */
import { EBUSY, EFAULT, ENOMEM, ETIMEDOUT } from '../machine/errno.ts';
import { mem, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { kernel_parts } from '../machine/parts.ts';
import { NULL } from '../machine/struct.ts';
import {
  KERN_SUCCESS,
  MAP_ENTRY_NEEDS_COPY,
  MAP_ENTRY_USER_WIRED,
  VM_INHERIT_SHARE,
  VM_MAP_SYSTEM,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import { OBJ_ONEMAPPING, OBJT_DEAD, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PG_FICTITIOUS, PG_UNMANAGED, PK_OBJECT, VM_ALLOC_NORMAL, vm_page } from '../h/vm_page.ts';
import { VM_PROT_COPY, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { object_seen, vm_object_seen } from '../object/vm_object_chain.ts';
import {
  object_page_busy,
  object_page_seen,
  object_page_wakeup,
  vm_page_sleep_if_busy,
} from '../object/vm_object_page.ts';
import { object_page_replace, object_page_replaced } from '../object/vm_object_replace.ts';
import { vm_page_alloc_run, vm_page_free_run } from '../page/vm_page.ts';
import { vm_page_alloc_busy, vm_page_hand_busy } from '../page/vm_page_busy.ts';
import { vm_page_split } from '../page/vm_page_lend.ts';
import {
  vm_page_activate,
  vm_page_loans,
  vm_page_wirable,
  vm_page_wire_counted,
  vm_page_wire_run,
  vm_page_wirings,
} from '../page/vm_pageq.ts';
import { pmap_remove, pmap_remove_all } from '../pmap/pmap.ts';
import { tlb_wait_all } from '../pmap/pmap_tlb.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { UMA_JUNK } from '../uma/uma_keg.ts';
import type { KeptPages } from './vm_contig.ts';
import { fault_errno } from './vm_copy.ts';
import { type Coming, fault_ahead, still_coming, vm_fault_ahead } from './vm_fault.ts';
import { vm_map_protect_ms } from './vm_map_range.ts';
import { entry_covers, vm_map_lookup_entry } from './vm_map_tree.ts';

const map = vm_map;
const entry = vm_map_entry;
const object = vm_object;
const page = vm_page;

/** Of pages_look: they are not side by side. */
export const SCATTERED = 0;
/** Beside -errno: a page is wired as often as it can be. */
export const TOO_OFTEN = -1001;
/** Beside -errno: pages_fault first, then everything is to be looked up again. */
export const AGAIN = -1000;

/* Of this thread: what pages_fault is to see to, and what pages_look has seen so far. */
const wanted = {
  vpn: 0,
  end: 0,
  access: 0,
  busy: 0,
  o: NULL as vm_object_t,
  first: 0,
  last: 0,
  scattered: false,
  device: false,
  full: false,
};

// --- looking -----------------------------------------------------------------------------------

/**
 * Whether a window needs the pages in the topmost object of an entry, because stores of others go
 * there: through this mapping, or through another one of the same object.
 */
function own(e: vm_map_entry_t): boolean {
  if (entry.protection[e] & VM_PROT_WRITE) return true;
  if (entry.inheritance[e] === VM_INHERIT_SHARE) return true;
  const o = entry.object[e];
  if (o === NULL || entry.eflags[e] & MAP_ENTRY_NEEDS_COPY) return false;
  mtx_lock(object.lock, o);
  const others = object.refs[o] > 1 && (object.flags[o] & OBJ_ONEMAPPING) === 0;
  mtx_unlock(object.lock, o);
  return others;
}
/**
 * The page of memory behind page `vpn` of an entry; its object, object_seen.o, is locked then.  0:
 * there is none that will do, and nothing is locked.
 */
function page_of(e: vm_map_entry_t, vpn: number, top: boolean): number {
  const o = entry.object[e];
  if (o === NULL || (top && entry.eflags[e] & MAP_ENTRY_NEEDS_COPY)) return 0;
  return vm_object_seen(o, vpn - entry.start[e] + entry.offset[e], top);
}
/** Page `vpn` is missing, or busy: pages_fault sees to it. Nothing but the map is locked. */
function again(e: vm_map_entry_t, vpn: number, access: number, busy: number): number {
  wanted.vpn = vpn;
  wanted.end = entry.end[e];
  wanted.access = access;
  wanted.busy = busy;
  wanted.o = object_seen.o;
  return AGAIN;
}
/**
 * The page of memory that is the first of a range, if the others follow it; SCATTERED if not;
 * AGAIN, TOO_OFTEN or -EFAULT.  The map is locked, and the range is mapped so that `prot` is
 * allowed.  What is not behind a mapping of this map alone may change at once.
 */
export function pages_look(mp: vm_map_t, start: number, end: number, prot: number): number {
  wanted.first = 0;
  wanted.scattered = false;
  wanted.device = false;
  wanted.full = false;
  for (let vpn = start; vpn < end; ) {
    const e = vm_map_lookup_entry(mp, vpn);
    const last = Math.min(end, entry.end[e]);
    const error = own(e) ? look_top(e, vpn, last, prot) : look_each(e, vpn, last, prot);
    if (error !== 0) return error;
    vpn = last;
  }
  if (wanted.full) return TOO_OFTEN;
  if (!wanted.scattered) return wanted.first;
  return wanted.device ? -EFAULT : SCATTERED; // the kernel's own pages move nowhere
}
/** Where the pages of a range lie in the topmost objects of its entries. The map is locked. */
export function pages_place(mp: vm_map_t, start: number, end: number): KeptPages[] {
  const places: KeptPages[] = [];
  for (let e = vm_map_lookup_entry(mp, start), at = start; at < end; e = entry.next[e]) {
    if (!entry_covers(mp, e, at)) break; // unmapped meanwhile
    const to = Math.min(end, entry.end[e]);
    const by = entry.offset[e] - entry.start[e];
    if (entry.object[e] !== NULL) places.push({ o: entry.object[e], first: at + by, end: to + by });
    at = to;
  }
  return places;
}
/** Notes that page m is the next one of the range. */
function looked_at(m: number): void {
  if (wanted.first === 0) wanted.first = m;
  else if (m !== wanted.last + 1) wanted.scattered = true;
  wanted.last = m;
  if (!vm_page_wirable(m)) wanted.full = true;
  if (page.flags[m] & PG_FICTITIOUS) wanted.device = true;
}
/** Of pages that are all wanted in the topmost object, in one hold of its lock. */
function look_top(e: vm_map_entry_t, from: number, to: number, prot: number): number {
  const o = entry.object[e];
  const ready = o !== NULL && (entry.eflags[e] & MAP_ENTRY_NEEDS_COPY) === 0;
  if (!ready || object.type[o] === OBJT_DEAD) return again(e, from, prot | VM_PROT_COPY, 0);
  const offset = entry.offset[e] - entry.start[e];
  const size = object.size[o] - offset;
  let [m, vpn] = [0, from];
  mtx_lock(object.lock, o);
  for (; vpn < to; vpn++) {
    m = vpn < size ? object_page_seen(o, vpn + offset) : 0;
    if (m === 0 || page.busy[m] !== 0 || vm_page_loans(m) > 0) break;
    looked_at(m);
  }
  mtx_unlock(object.lock, o);
  object_seen.o = o;
  if (vpn === to) return 0;
  return again(e, vpn, prot | VM_PROT_COPY, page.busy[m] !== 0 ? m : 0);
}
function look_each(e: vm_map_entry_t, from: number, to: number, prot: number): number {
  for (let vpn = from; vpn < to; vpn++) {
    const m = page_of(e, vpn, false);
    if (m === 0) return again(e, vpn, prot, 0);
    const busy = page.busy[m] !== 0;
    const lent = vm_page_loans(m) > 0;
    if (!busy) looked_at(m);
    mtx_unlock(object.lock, object_seen.o);
    if (lent) return again(e, vpn, prot | VM_PROT_COPY, 0);
    if (busy) return again(e, vpn, prot, m);
  }
  return 0;
}
/** Sees to what AGAIN was said for, at most up to page `end`. 0, or -errno. Nothing is locked. */
export function pages_fault(mp: vm_map_t, end: number, coming: Coming): number {
  if (wanted.busy !== 0) {
    // A record of an object stays one, and its lock a lock, whatever becomes of the object.
    mtx_lock(object.lock, wanted.o);
    vm_page_sleep_if_busy(wanted.busy, wanted.o);
    mtx_unlock(object.lock, wanted.o);
    return 0;
  }
  if (!still_coming(coming, wanted.vpn)) return -ENOMEM;
  const last = Math.min(end, wanted.end);
  for (let vpn = wanted.vpn; vpn < last; vpn += fault_ahead.pages) {
    const kernel = map.kind[mp] === VM_MAP_SYSTEM ? kernel_parts.kernel_fault : undefined;
    const result = kernel
      ? kernel(mp, vpn, wanted.access & ~VM_PROT_COPY)
      : vm_fault_ahead(mp, vpn, wanted.access, last - vpn);
    if (kernel) fault_ahead.pages = 1;
    if (result !== KERN_SUCCESS) return -fault_errno(result);
  }
  return 0;
}

// --- wiring ------------------------------------------------------------------------------------

/**
 * Wires the pages of a range, which are side by side from page `first` on, from the last one down,
 * and counts them in the word `count`.  0, or AGAIN: one is not there any more.
 */
export function pages_wire(
  mp: vm_map_t,
  start: number,
  end: number,
  first: number,
  count: number,
): number {
  for (let last = end; last > start; ) {
    const e = vm_map_lookup_entry(mp, last - 1);
    const from = Math.max(start, entry.start[e]);
    const done = own(e)
      ? wire_entry(e, from, last, first + from - start, count)
      : wire_each(e, from, last, first + from - start, count);
    if (!done) return AGAIN;
    last = from;
  }
  return 0;
}
/** Whether a page of a locked object may be wired where it is. */
function holdable(m: number): boolean {
  return page.busy[m] === 0 && vm_page_loans(m) === 0 && vm_page_wirable(m);
}
/** Of pages that are all in the topmost object, in one hold of its lock. */
function wire_entry(
  e: vm_map_entry_t,
  from: number,
  to: number,
  first: number,
  count: number,
): boolean {
  const o = entry.object[e];
  const i = from - entry.start[e] + entry.offset[e];
  object_seen.o = o;
  mtx_lock(object.lock, o);
  let there = true;
  for (let k = 0; k < to - from && there; k++) {
    const m = first + k;
    there = holdable(m) && object_page_seen(o, i + k) === m;
  }
  if (there) vm_page_wire_run(first, to - from, count);
  mtx_unlock(object.lock, o);
  // It is looked at again, not faulted in: wherever it is by now.
  return there || again(e, from, 0, first) === 0;
}
function wire_each(
  e: vm_map_entry_t,
  from: number,
  to: number,
  first: number,
  count: number,
): boolean {
  for (let vpn = to - 1; vpn >= from; vpn--) {
    const m = first + vpn - from;
    const there = page_of(e, vpn, false);
    const good = there === m && holdable(m);
    if (good) vm_page_wire_counted(m, count);
    if (there !== 0) mtx_unlock(object.lock, object_seen.o);
    if (!good) {
      again(e, vpn, 0, m);
      return false;
    }
  }
  return true;
}

/**
 * Nobody noted stores through a window that may write at its n pages from `frame` on: it is taken
 * that each was written to.
 */
export function pages_written(frame: number, n: number): void {
  for (let m = frame; m < frame + n; m++) page.mod[m] = 1;
}

// --- moving ------------------------------------------------------------------------------------

/** A run of n free pages, in hand. 0: none. */
export function pages_run(n: number): number {
  return vm_page_alloc_run(n, VM_ALLOC_NORMAL);
}
/** It is not needed. */
export function pages_run_free(frame: number, n: number): void {
  vm_page_free_run(frame, n);
}
/**
 * Moves the pages of a range to the run of pages from `frame` on that is in hand, wires them there
 * and counts them in the word `count`.  0; or AGAIN, -EBUSY, -ETIMEDOUT, and nothing has moved.
 * The run is not in hand any more.
 */
export function pages_gather(
  mp: vm_map_t,
  start: number,
  end: number,
  frame: number,
  count: number,
): number {
  const n = end - start;
  const old: number[] = [];
  const error = gather_busy(mp, start, end, old);
  if (error !== 0) {
    for (const m of old) idle(m);
    pages_run_free(frame, n);
    return error;
  }
  pmap_remove(map.pmap[mp], start, end);
  if (!unmapped(old)) {
    for (const m of old) idle(m);
    pages_run_free(frame, n);
    return -ETIMEDOUT;
  }
  for (let k = n - 1; k >= 0; k--) {
    const m = old[k];
    const o = page.owner[m] as vm_object_t; // stays so while it is busy
    mtx_lock(object.lock, o);
    const to = vm_page_hand_busy(PK_OBJECT, o, page.index[m]);
    if (to !== frame + k) panic('vm_window: the run in hand is another one', to, frame + k);
    vm_page_split(m, to, false); // a program may have it locked
    object_page_replace(m, to, o);
    vm_page_split(m, to, true);
    vm_page_wire_counted(to, count);
    object_page_wakeup(to, o);
    object_page_replaced(m);
    mtx_unlock(object.lock, o);
  }
  return 0;
}
/** Makes all pages of a range busy. 0, or why that cannot be: those in `old` are busy. */
function gather_busy(mp: vm_map_t, start: number, end: number, old: number[]): number {
  let e = vm_map_lookup_entry(mp, start);
  let top = own(e);
  for (let vpn = start; vpn < end; vpn++) {
    if (vpn === entry.end[e]) {
      e = entry.next[e];
      top = own(e);
    }
    const m = page_of(e, vpn, top);
    if (m === 0) return again(e, vpn, entry.protection[e] | (top ? VM_PROT_COPY : 0), 0);
    const o = object_seen.o;
    const busy = page.busy[m] !== 0;
    const lent = vm_page_loans(m) > 0;
    // By a window of another map, or by the kernel. What just this program has locked may move.
    const held = vm_page_wirings(m) !== (locked(e) ? 1 : own_wirings(m));
    if (!busy && !held && !lent) {
      object_page_busy(m, o);
      old.push(m);
    }
    mtx_unlock(object.lock, o);
    if (lent) return again(e, vpn, entry.protection[e] | VM_PROT_COPY, 0);
    if (busy) return again(e, vpn, 0, m);
    if (held) return -EBUSY;
  }
  return 0;
}
/** How often a page is wired because it is the kernel's: of its objects each is, once. */
function own_wirings(m: number): number {
  return page.flags[m] & PG_UNMANAGED ? 1 : 0;
}
/** Whether an entry is wired once, by its program. */
function locked(e: vm_map_entry_t): boolean {
  return entry.wired_count[e] === 1 && (entry.eflags[e] & MAP_ENTRY_USER_WIRED) !== 0;
}
/** A page is busy no more. */
function idle(m: number): void {
  const o = page.owner[m] as vm_object_t;
  mtx_lock(object.lock, o);
  object_page_wakeup(m, o);
  mtx_unlock(object.lock, o);
}
/** Takes busy pages away from whoever maps them. False: a CPU is silent. */
function unmapped(pages: readonly number[]): boolean {
  for (const m of pages) if (page.map_pmap[m] !== NULL) pmap_remove_all(m);
  // A store by a translation that somebody took back before may be under way, too.
  return tlb_wait_all(vm_map_protect_ms()) < 0;
}

// --- moving away -------------------------------------------------------------------------------

/**
 * Makes those of n pages from `frame` on busy that can move, and takes them away from whoever maps
 * them.  They are wired by the caller.  None: a CPU is silent.
 */
export function pages_loosen(frame: number, n: number): number[] {
  const all: number[] = [];
  for (let m = frame; m < frame + n; m++) {
    if (page.flags[m] & PG_FICTITIOUS) continue;
    const o = page.owner[m] as vm_object_t; // of a wired page it is an object always
    mtx_lock(object.lock, o);
    const alone = vm_page_wirings(m) === 1 + own_wirings(m);
    const mine = page.owner[m] === o && page.busy[m] === 0 && alone;
    if (mine) {
      object_page_busy(m, o);
      all.push(m);
    }
    mtx_unlock(object.lock, o);
  }
  if (unmapped(all)) return all;
  for (const m of all) idle(m);
  return [];
}
/**
 * Moves these to any free pages, and fills what they leave, which nobody gets before all have
 * moved. Where there are none they stay.
 */
export function pages_poison(pages: readonly number[]): void {
  const left: number[] = [];
  for (const m of pages) {
    const o = page.owner[m] as vm_object_t;
    mtx_lock(object.lock, o);
    const to = vm_page_alloc_busy(PK_OBJECT, o, page.index[m], VM_ALLOC_NORMAL);
    if (to === 0) object_page_wakeup(m, o);
    else {
      vm_page_split(m, to, false); // the kernel's own stay wired
      object_page_replace(m, to, o);
      vm_page_split(m, to, true);
      if (own_wirings(m) === 0) vm_page_activate(to);
      object_page_wakeup(to, o);
      mem.I32.fill(UMA_JUNK, page_word(m), page_word(m) + PAGE_WORDS);
      left.push(m);
    }
    mtx_unlock(object.lock, o);
  }
  for (const m of left) object_page_replaced(m);
}
