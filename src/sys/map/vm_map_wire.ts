/*
 * vm_map_wire: pages of a range are in memory, and stay there.
 *
 *      vm_map_wire      every page comes in and is wired: its entry counts one wiring more
 *      vm_map_unwire    one less
 *
 *      entry      wired_count 0       1               2, 3, ...
 *      its pages                      wired once      no change
 *
 * Each entry counts how often it is wired; only the first wiring and the end of the last one touch
 * pages.  A program's (USER) is one of them at most, MAP_ENTRY_USER_WIRED says so: it may lock a
 * range as often as it likes, and unlocks it once.  The others are the kernel's (SYSTEM): what has
 * one of these stays in the map, and whoever wants to take it out waits.
 *
 * A wired page is not reclaimed: a look that meets it on a queue takes it off, and nobody writes it
 * but a sync of its file.  Its translation stays too, save where a right is taken away; then the
 * next access faults, and finds the page.
 *
 * How a range is wired.  All its entries are in transition, by this thread; so nobody cuts, merges
 * or deletes one.  Pages that are mapped are wired where they are, some at a time.  For one that is
 * not, the map is let go of, and it is faulted in as if it were written to, so that it lies in the
 * topmost object: a store finds nothing to copy later, and nothing can come above the page, so that
 * it is found again by its place.  In the end, with the map locked again, each entry counts the
 * wiring, or gives the pages back.
 *
 * Deaths.  An entry in transition carries one wiring that does not count yet:
 *
 *      wired_count 0     its first `wired` pages; the word goes up in the section that wires them
 *      wired_count > 0   that is one of these
 *
 * A thread that dies leaves that, and whoever meets the entry takes it back (entry_back_out).
 * Ending the last wiring goes the same way: wired_count 0, `wired` all pages, and down from the
 * last one.  What a program locked is the space's, and stays when a thread dies; what a thread
 * wired for itself is in a record (vm_hold.ts).
 *
 * Unlike BSD: a private mapping that may not be written to is copied when it is wired, too; there
 * that comes with mprotect, which may then fail.
 */
import { thr as thr_ } from '../machine/cpu.ts';
import { panic } from '../machine/panic.ts';
import { field_word, NULL } from '../machine/struct.ts';
import { vm_hold, type vm_hold_t } from '../h/vm_hold.ts';
import {
  KERN_INVALID_ADDRESS,
  KERN_INVALID_ARGUMENT,
  KERN_NO_SPACE,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  MAP_ENTRY_IN_TRANSITION,
  MAP_ENTRY_IS_SUB_MAP,
  MAP_ENTRY_NEEDS_COPY,
  MAP_ENTRY_NEEDS_WAKEUP,
  MAP_ENTRY_NOFAULT,
  MAP_ENTRY_USER_WIRED,
  VM_MAP_WIRE_HOLESOK,
  VM_MAP_WIRE_USER,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import { OBJT_DEVICE, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PAGE_VALID, PG_FICTITIOUS, vm_page } from '../h/vm_page.ts';
import { VM_PROT_COPY, VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { object_page } from '../object/vm_object_page.ts';
import { vm_page_counted, vm_page_unwire_list, vm_page_wire_list } from '../page/vm_page_wire.ts';
import { vm_page_loans, vm_page_wirable } from '../page/vm_pageq.ts';
import { pmap_frames } from '../pmap/pmap.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { vm_fault } from './vm_fault.ts';
import {
  vm_map_assert_locked,
  vm_map_lock,
  vm_map_lock_downgrade,
  vm_map_lock_read,
  vm_map_transition_end,
  vm_map_unlock,
  vm_map_unlock_read,
  vm_map_wakeup,
} from './vm_map.ts';
import { entry_held } from './vm_map_entry.ts';
import { cut_edges, entries_wait, first_from, map_clamp, merge, within } from './vm_map_range.ts';
import { entry_covers, vm_map_lookup_entry } from './vm_map_tree.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const thr = thr_;
const map = vm_map;
const entry = vm_map_entry;
const hold = vm_hold;
const object = vm_object;
const page = vm_page;

/** How often a page that was faulted in may be gone again before memory is said to be short. */
const PATIENCE = 64;
/** Pages that are wired, or unwired, in one hold of their object's lock, at most. */
const FRAMES = 256;
/** Room for those of an entry. Of each call: nothing that is in it stays. */
function room(e: vm_map_entry_t): Int32Array {
  return new Int32Array(Math.min(FRAMES, entry.end[e] - entry.start[e]));
}
const NO_HOLD = NULL as vm_hold_t;

// --- wiring ------------------------------------------------------------------------------------

/**
 * Wires a range, as `flags` says (VM_MAP_WIRE_*).  KERN_INVALID_ADDRESS a page is not mapped, or
 * not for any use, and holes are not passed over; KERN_NO_SPACE a page is wired in as many places
 * as can be; else as a fault of the page that could not be had.  Then nothing is wired that was not
 * before.  The caller holds no lock; it may sleep.
 */
export function vm_map_wire(mp: vm_map_t, start: number, end: number, flags: number): number {
  vm_map_lock(mp);
  const result = vm_map_wire_locked(mp, start, end, flags);
  vm_map_unlock(mp);
  return result;
}
/**
 * The same for a map that is locked exclusively, and may be let go of and locked again.  `h`: the
 * record in which this thread notes what it has wired.
 */
export function vm_map_wire_locked(
  mp: vm_map_t,
  from: number,
  to: number,
  flags: number,
  h = NO_HOLD,
): number {
  const { start, end } = map_clamp(mp, from, to);
  if (start >= end) return from < to ? outside(flags) : KERN_SUCCESS;
  if (start > from || end < to) if (outside(flags) !== KERN_SUCCESS) return outside(flags);
  while (entries_wait(mp, start, end, false));
  const bad = wire_range_bad(mp, start, end, flags);
  if (bad !== KERN_SUCCESS) return bad;
  if (!cut_edges(mp, start, end)) return KERN_RESOURCE_SHORTAGE;
  const mine: vm_map_entry_t[] = [];
  for (let e = first_from(mp, start); within(mp, e, end); e = entry.next[e]) {
    if (!concerned(e) || (flags & VM_MAP_WIRE_USER && by_user(e))) continue;
    begin(mp, e);
    mine.push(e);
  }
  const result = pages_in(mp, mine);
  let wanted = false;
  for (const e of mine) {
    const asked = result === KERN_SUCCESS ? complete(mp, e, flags, h) : entry_back_out(mp, e);
    wanted = wanted || asked;
  }
  if (h !== NO_HOLD && result === KERN_SUCCESS) hold_to(mp, h, end);
  merge(mp, start, end);
  if (wanted) vm_map_wakeup(mp);
  return result;
}
/** What a range is answered with that goes beyond the map. */
function outside(flags: number): number {
  return flags & VM_MAP_WIRE_HOLESOK ? KERN_SUCCESS : KERN_INVALID_ADDRESS;
}
function by_user(e: vm_map_entry_t): boolean {
  return (entry.eflags[e] & MAP_ENTRY_USER_WIRED) !== 0;
}
/** Whether wirings of an entry count: a submap has none, a fault in a NOFAULT entry is an error. */
function concerned(e: vm_map_entry_t): boolean {
  if (entry.eflags[e] & (MAP_ENTRY_IS_SUB_MAP | MAP_ENTRY_NOFAULT)) return false;
  return entry.wired_count[e] > 0 || (entry.protection[e] & (VM_PROT_READ | VM_PROT_WRITE)) !== 0;
}
/** What keeps a range from being wired: a KERN_* code. The map is locked in some way. */
export function wire_range_bad(mp: vm_map_t, start: number, end: number, flags: number): number {
  const holes = (flags & VM_MAP_WIRE_HOLESOK) !== 0;
  if (!holes && !whole(mp, start, end)) return KERN_INVALID_ADDRESS;
  for (let e = first_from(mp, start); within(mp, e, end); e = entry.next[e]) {
    if (entry.eflags[e] & MAP_ENTRY_IS_SUB_MAP) {
      if (!holes) return KERN_INVALID_ARGUMENT;
    } else if (!holes && !concerned(e) && (entry.eflags[e] & MAP_ENTRY_NOFAULT) === 0) {
      return KERN_INVALID_ADDRESS;
    }
  }
  return KERN_SUCCESS;
}
/** Whether every page of a range is mapped. The map is locked in some way. */
function whole(mp: vm_map_t, start: number, end: number): boolean {
  let at = start;
  for (let e = vm_map_lookup_entry(mp, at); at < end; e = entry.next[e]) {
    if (!entry_covers(mp, e, at)) return false;
    at = entry.end[e];
  }
  return true;
}
/** An entry is in transition, with one wiring that is not complete. */
function begin(mp: vm_map_t, e: vm_map_entry_t): void {
  undo_begin(map.lock, mp);
  save(entry.eflags, e);
  save(entry.transition, e);
  entry.eflags[e] |= MAP_ENTRY_IN_TRANSITION;
  entry.transition[e] = thr.tid;
  if (entry.wired_count[e] > 0) {
    save(entry.wired_count, e);
    entry.wired_count[e]++;
  }
  undo_end();
}
/** The wiring is complete. True: somebody sleeps for the entry. */
function complete(mp: vm_map_t, e: vm_map_entry_t, flags: number, h: vm_hold_t): boolean {
  const wanted = (entry.eflags[e] & MAP_ENTRY_NEEDS_WAKEUP) !== 0;
  undo_begin(map.lock, mp);
  save(entry.eflags, e);
  save(entry.transition, e);
  entry.eflags[e] &= ~(MAP_ENTRY_IN_TRANSITION | MAP_ENTRY_NEEDS_WAKEUP);
  if (flags & VM_MAP_WIRE_USER) entry.eflags[e] |= MAP_ENTRY_USER_WIRED;
  entry.transition[e] = 0;
  if (entry.wired_count[e] === 0) {
    save(entry.wired_count, e);
    save(entry.wired, e);
    save(map.wired, mp);
    entry.wired_count[e] = 1;
    entry.wired[e] = 0;
    map.wired[mp] += entry.end[e] - entry.start[e];
  }
  if (h !== NO_HOLD) {
    save(hold.to, h);
    hold.to[h] = entry.end[e];
  }
  undo_end();
  return wanted;
}
function hold_to(mp: vm_map_t, h: vm_hold_t, to: number): void {
  undo_begin(map.lock, mp);
  save(hold.to, h);
  hold.to[h] = to;
  undo_end();
}
/**
 * Wires all pages of entries that are in transition and not wired yet.  The map is locked
 * exclusively; if a page has to be faulted in it is let go of and locked again.
 */
function pages_in(mp: vm_map_t, mine: readonly vm_map_entry_t[]): number {
  let result = KERN_SUCCESS;
  let shared = false;
  for (const e of mine) {
    if (entry.wired_count[e] > 0) continue;
    const frames = room(e);
    for (let tries = 0; result === KERN_SUCCESS; ) {
      if (entry.wired[e] === entry.end[e] - entry.start[e]) break;
      const came = some_in(mp, e, frames);
      if (came > 0) {
        tries = 0;
        continue;
      }
      if (came === TOO_OFTEN) {
        result = KERN_NO_SPACE;
        break;
      }
      const vpn = entry.start[e] + entry.wired[e];
      if (!shared) vm_map_lock_downgrade(mp);
      shared = true;
      vm_map_unlock_read(mp);
      result = ++tries > PATIENCE ? KERN_RESOURCE_SHORTAGE : vm_fault(mp, vpn, VM_PROT_COPY);
      vm_map_lock_read(mp);
    }
    if (result !== KERN_SUCCESS) break;
  }
  if (shared) {
    vm_map_unlock_read(mp);
    vm_map_lock(mp);
  }
  return result;
}
/** Of some_in: the next page is mapped, and cannot be wired once more. */
const TOO_OFTEN = -1;
/**
 * Wires the next pages of an entry, if the very next one is mapped: returns how many, or TOO_OFTEN.
 */
function some_in(mp: vm_map_t, e: vm_map_entry_t, frames: Int32Array): number {
  const o = entry.object[e];
  if (o === NULL || entry.eflags[e] & MAP_ENTRY_NEEDS_COPY) return 0;
  const vpn = entry.start[e] + entry.wired[e];
  const i = entry.offset[e] + entry.wired[e];
  const pm = map.pmap[mp];
  const word = field_word(entry.wired, e);
  mtx_lock(object.lock, o);
  const n = pmap_frames(pm, vpn, entry.end[e], frames);
  let k = 0;
  let room = true;
  while (k < n && room && idle_here(frames[k], o, i + k)) {
    room = vm_page_wirable(frames[k]);
    if (room) k++;
  }
  if (k > 0) vm_page_wire_list(frames, 0, k, word);
  mtx_unlock(object.lock, o);
  return k > 0 || room ? k : TOO_OFTEN;
}
/**
 * Whether page m, which is mapped, is page `i` of a locked object as a store may find it: idle, and
 * not lent.
 */
function idle_here(m: number, o: vm_object_t, i: number): boolean {
  if (page.owner[m] !== o || page.index[m] !== i) {
    return (page.flags[m] & PG_FICTITIOUS) !== 0 && object.type[o] === OBJT_DEVICE;
  }
  return page.busy[m] === 0 && (page.state[m] & PAGE_VALID) !== 0 && vm_page_loans(m) === 0;
}

// --- unwiring ----------------------------------------------------------------------------------

/**
 * Ends one wiring of a range: for USER of those entries that the program has locked, without
 * regard to the others; for SYSTEM all must have one: KERN_INVALID_ARGUMENT.  KERN_INVALID_ADDRESS:
 * a page is not mapped, and holes are not passed over.  KERN_RESOURCE_SHORTAGE: no memory to cut an
 * entry.  Then nothing has changed.
 */
export function vm_map_unwire(mp: vm_map_t, from: number, to: number, flags: number): number {
  vm_map_lock(mp);
  const result = vm_map_unwire_locked(mp, from, to, flags);
  vm_map_unlock(mp);
  return result;
}
/**
 * The same for a map that is locked exclusively, and may be let go of and locked again if somebody
 * works on an entry.
 */
export function vm_map_unwire_locked(
  mp: vm_map_t,
  from: number,
  to: number,
  flags: number,
): number {
  const user = (flags & VM_MAP_WIRE_USER) !== 0;
  const { start, end } = map_clamp(mp, from, to);
  if (start >= end) return from < to ? outside(flags) : KERN_SUCCESS;
  if (start > from || end < to) if (outside(flags) !== KERN_SUCCESS) return outside(flags);
  while (entries_wait(mp, start, end, false));
  if (outside(flags) !== KERN_SUCCESS && !whole(mp, start, end)) return KERN_INVALID_ADDRESS;
  let some = false;
  for (let e = first_from(mp, start); within(mp, e, end); e = entry.next[e]) {
    if (user) some = some || by_user(e);
    else if (concerned(e) && !entry_held(e)) return KERN_INVALID_ARGUMENT;
    else some = true;
  }
  if (!some) return KERN_SUCCESS;
  if (!cut_edges(mp, start, end)) return KERN_RESOURCE_SHORTAGE;
  for (let e = first_from(mp, start); within(mp, e, end); e = entry.next[e]) {
    if (user ? by_user(e) : concerned(e)) entry_unwire(mp, e, user);
  }
  merge(mp, start, end);
  if (!user) vm_map_wakeup(mp); // whoever waits to take them out
  return KERN_SUCCESS;
}
/**
 * Ends one wiring of an entry: the program's, if `user` says so; `h`: the record of the one that
 * ends.  The map is locked exclusively.
 */
export function entry_unwire(mp: vm_map_t, e: vm_map_entry_t, user: boolean, h = NO_HOLD): void {
  vm_map_assert_locked(mp);
  const last = entry.wired_count[e] === 1;
  undo_begin(map.lock, mp);
  save(entry.eflags, e);
  if (user) entry.eflags[e] &= ~MAP_ENTRY_USER_WIRED;
  count_down(mp, e, last);
  if (h !== NO_HOLD) {
    save(hold.to, h);
    hold.to[h] = entry.start[e];
  }
  undo_end();
  if (last) pages_out(mp, e);
  if (last) vm_map_transition_end(mp, e);
}
/** An entry counts one wiring less; with the last one its pages are still to go. In a section. */
function count_down(mp: vm_map_t, e: vm_map_entry_t, last: boolean): void {
  save(entry.wired_count, e);
  if (entry.wired_count[e] <= 0) panic('vm_map_unwire: wire count is zero', mp * 4, e * 4);
  entry.wired_count[e]--;
  if (!last) return;
  save(entry.transition, e);
  save(entry.wired, e);
  save(map.wired, mp);
  entry.eflags[e] |= MAP_ENTRY_IN_TRANSITION; // its word is saved
  entry.transition[e] = thr.tid;
  entry.wired[e] = entry.end[e] - entry.start[e];
  map.wired[mp] -= entry.wired[e];
}
/**
 * Takes back what an entry in transition has of a wiring that did not come to its end.  True:
 * somebody sleeps for the entry.  The map is locked exclusively.
 */
export function entry_back_out(mp: vm_map_t, e: vm_map_entry_t): boolean {
  const counted = entry.wired_count[e];
  if (counted > 0) {
    undo_begin(map.lock, mp);
    save(entry.eflags, e);
    count_down(mp, e, counted === 1);
    undo_end();
  }
  if (counted <= 1) pages_out(mp, e);
  return vm_map_transition_end(mp, e);
}
/** The pages of an entry that are wired for its transition are so no more, from the last down. */
function pages_out(mp: vm_map_t, e: vm_map_entry_t): void {
  const word = field_word(entry.wired, e);
  const frames = room(e);
  for (let left = vm_page_counted(word); left > 0; ) {
    if (entry.object[e] === NULL) panic('vm_map_unwire: pages of no object', mp * 4, e * 4);
    const from = Math.max(0, left - frames.length);
    some_out(mp, e, from, left - from, frames);
    left = from;
  }
}
/** The same of n pages from number `k` of the entry on. */
function some_out(mp: vm_map_t, e: vm_map_entry_t, k: number, n: number, frames: Int32Array): void {
  const o = entry.object[e];
  const i = entry.offset[e] + k;
  const vpn = entry.start[e] + k;
  mtx_lock(object.lock, o);
  // Most of them are mapped; that they are the object's is what counts.
  const mapped = pmap_frames(map.pmap[mp], vpn, vpn + n, frames);
  for (let at = 0; at < n; at++) {
    const m = frames[at];
    const here = at < mapped && page.owner[m] === o && page.index[m] === i + at;
    if (!here) frames[at] = object_page(o, i + at);
  }
  vm_page_unwire_list(frames, 0, n, field_word(entry.wired, e));
  mtx_unlock(object.lock, o);
}
