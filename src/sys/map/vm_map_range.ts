/*
 * vm_map_range: what is done to a range of a map.
 *
 *      vm_map_protect, _max      what may be done with the pages, and what at most
 *      vm_map_inherit            what a fork makes of them
 *      vm_map_madvise            how they will be used
 *      vm_map_delete, _remove    they are mapped no more
 *      vm_map_check_protection   a question
 *
 * Ranges are clamped to the map.  Holes are passed over.
 *
 * What is under a window stays as it is: KERN_BUSY (vm_window.ts).
 *
 * All or nothing.  First everything that may forbid it is looked at.  Then the edges are cut,
 * which may fail for want of memory; then translations are taken back, which may fail because a
 * CPU is silent; in both cases what was cut is merged again.  What follows cannot fail.
 *
 * Translations lose their rights before the entries do: a thread that dies in between leaves
 * less mapped than the entries allow, and faults make that good.  Nobody faults meanwhile,
 * because the map is locked.
 */
import { panic } from '../machine/panic.ts';
import { NULL } from '../machine/struct.ts';
import { sysctl_get, sysctl_uint } from '../machine/sysctl_decl.ts';
import {
  KERN_BUSY,
  KERN_FAILURE,
  KERN_INVALID_ADDRESS,
  KERN_INVALID_ARGUMENT,
  KERN_PROTECTION_FAILURE,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  MADV_AUTOSYNC,
  MADV_BEHIND,
  MADV_CORE,
  MADV_DONTNEED,
  MADV_FREE,
  MADV_NOCORE,
  MADV_NORMAL,
  MADV_NOSYNC,
  MADV_RANDOM,
  MADV_SEQUENTIAL,
  MADV_WILLNEED,
  MAP_ENTRY_BEHAV_RANDOM,
  MAP_ENTRY_BEHAV_SEQUENTIAL,
  MAP_ENTRY_IN_TRANSITION,
  MAP_ENTRY_IS_SUB_MAP,
  MAP_ENTRY_NOCOREDUMP,
  MAP_ENTRY_NOSYNC,
  VM_INHERIT_SHARE,
  VM_INHERIT_ZERO,
  VM_MAP_USER,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import { OBJ_ONEMAPPING, vm_object, type vm_object_t } from '../h/vm_object.ts';
import type { pmap_t } from '../h/pmap.ts';
import { VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { vm_object_collapse } from '../object/vm_object_chain.ts';
import { vm_object_madvise, vm_object_page_remove } from '../object/vm_object_range.ts';
import { pmap_protect, pmap_release, pmap_remove } from '../pmap/pmap.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { item_in_hand } from '../uma/uma_keg.ts';
import {
  vm_map_assert_locked,
  vm_map_entry_wait,
  vm_map_lock,
  vm_map_lock_read,
  vm_map_unlock,
  vm_map_unlock_read,
} from './vm_map.ts';
import {
  entry_held,
  entry_object,
  entry_unlink,
  vm_map_clip_start,
  vm_map_simplify_entry,
} from './vm_map_entry.ts';
import { vm_map_pmap_enter } from './vm_map_prefault.ts';
import { entry_covers, map_header, vm_map_lookup_entry } from './vm_map_tree.ts';
import { holds_settle } from './vm_hold.ts';
import { entry_unwire } from './vm_map_wire.ts';
import { regions_end } from './vm_region.ts';
import { pcpu as pcpu_, thr as thr_ } from '../machine/cpu.ts';
import { run_over, windows_forbid, windows_forbid_share, windows_settle } from './vm_window.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const thr = thr_;
const pcpu = pcpu_;
const map = vm_map;
const entry = vm_map_entry;
const object = vm_object;

const protect_ms = sysctl_uint('vm.protect_ms', {
  value: 1000,
  unit: 'ms',
  help: 'How long a loss of the right to write waits for the answer of every CPU',
});
/** How long taking the right to write away waits for answers, ms. */
export function vm_map_protect_ms(): number {
  return sysctl_get(protect_ms);
}

// --- ranges ------------------------------------------------------------------------------------

/**
 * Whether what the caller means is in the range still: asked with the map locked, before anything
 * is changed.  If it is not: KERN_INVALID_ADDRESS.
 */
export type There = (mp: vm_map_t) => boolean;

/** A range clamped to the map; empty where nothing is left of it. */
export function map_clamp(
  mp: vm_map_t,
  start: number,
  end: number,
): { start: number; end: number } {
  const header = map_header(mp);
  const last = Math.min(end, entry.start[header]);
  return { start: Math.min(Math.max(start, entry.end[header]), last), end: last };
}
/** The first entry that has pages from `start` on, perhaps the header. */
export function first_from(mp: vm_map_t, start: number): vm_map_entry_t {
  const e = vm_map_lookup_entry(mp, start);
  return entry_covers(mp, e, start) ? e : entry.next[e];
}
/** Whether an entry is there and begins before `end`. */
export function within(mp: vm_map_t, e: vm_map_entry_t, end: number): boolean {
  return e !== map_header(mp) && entry.start[e] < end;
}
/** Cuts the entries at both edges. False: no memory, and nothing has changed. */
export function cut_edges(mp: vm_map_t, start: number, end: number): boolean {
  const first = vm_map_lookup_entry(mp, start);
  if (entry_covers(mp, first, start) && !vm_map_clip_start(mp, first, start)) return false;
  const last = vm_map_lookup_entry(mp, end);
  if (!entry_covers(mp, last, end) || vm_map_clip_start(mp, last, end)) return true;
  merge(mp, start, start);
  return false;
}
/** Merges what can be merged in a range, and at its edges. */
export function merge(mp: vm_map_t, start: number, end: number): void {
  merge_from(mp, first_from(mp, start), end);
}
function merge_from(mp: vm_map_t, first: vm_map_entry_t, end: number): void {
  for (let e = first; within(mp, e, end + 1); e = entry.next[e]) vm_map_simplify_entry(mp, e);
}
/**
 * Waits until nobody works on an entry of the range, and with `wired` until the kernel has none of
 * it wired.  True: it did, and all may be different.
 */
export function entries_wait(mp: vm_map_t, start: number, end: number, wired: boolean): boolean {
  for (let e = first_from(mp, start); within(mp, e, end); e = entry.next[e]) {
    const moving = (entry.eflags[e] & MAP_ENTRY_IN_TRANSITION) !== 0;
    if (!moving && !(wired && entry_held(e))) continue;
    vm_map_entry_wait(mp, e);
    return true;
  }
  return false;
}
/** Stores a word of an entry. The map is locked exclusively. */
function change(mp: vm_map_t, e: vm_map_entry_t, f: typeof entry.eflags, value: number): void {
  if (f[e] === value) return;
  undo_begin(map.lock, mp);
  save(f, e);
  f[e] = value;
  undo_end();
}

// --- protection ------------------------------------------------------------------------------

/**
 * Makes `prot` the protection of a range; with `set_max` what it may be at most, and of the
 * protection what is in both.  KERN_FAILURE: a CPU did not answer in time, and nothing has
 * changed.
 */
export function vm_map_protect(
  mp: vm_map_t,
  from: number,
  to: number,
  prot: number,
  set_max = false,
  there?: There,
): number {
  return protect_range(mp, from, to, { prot, max: set_max ? prot : null, keep: set_max }, there);
}
/** Makes `prot` the protection of a range and `max` what it may be at most, in one step. */
export function vm_map_protect_max(
  mp: vm_map_t,
  from: number,
  to: number,
  prot: number,
  max: number,
): number {
  return protect_range(mp, from, to, { prot: prot & max, max, keep: false });
}
/** A change of protection. */
interface Protect {
  readonly prot: number;
  /** What it may be at most; null: that stays. */
  readonly max: number | null;
  /** Only rights that an entry has stay. */
  readonly keep: boolean;
}
function protect_range(
  mp: vm_map_t,
  from: number,
  to: number,
  how: Protect,
  there?: There,
): number {
  vm_map_lock(mp);
  const { start, end } = map_clamp(mp, from, to);
  while (entries_wait(mp, start, end, false) || windows_settle(mp, start, end));
  let result = KERN_SUCCESS;
  if (there !== undefined && !there(mp)) result = KERN_INVALID_ADDRESS;
  else if (start < end) result = protect(mp, start, end, how);
  vm_map_unlock(mp);
  return result;
}
function protect(mp: vm_map_t, start: number, end: number, how: Protect): number {
  const { prot, max, keep } = how;
  let less = false;
  for (let e = first_from(mp, start); within(mp, e, end); e = entry.next[e]) {
    if (entry.eflags[e] & MAP_ENTRY_IS_SUB_MAP) return KERN_INVALID_ARGUMENT;
    if (((max ?? prot) & ~entry.max_protection[e]) !== 0) return KERN_PROTECTION_FAILURE;
    if ((entry.protection[e] & ~prot) !== 0) less = true;
  }
  if (windows_forbid(mp, start, end, prot, keep)) return KERN_BUSY;
  if (!cut_edges(mp, start, end)) return KERN_RESOURCE_SHORTAGE;
  const pm = map.pmap[mp];
  if (less && pm !== NULL && pmap_protect(pm, start, end, prot, vm_map_protect_ms()) >= 0) {
    merge(mp, start, end);
    return KERN_FAILURE;
  }
  const first = first_from(mp, start);
  for (let e = first; within(mp, e, end); e = entry.next[e]) {
    const now = keep ? entry.protection[e] & prot : prot;
    // Of what could only be written to no right may be left.
    const none = keep && (now & (VM_PROT_READ | VM_PROT_WRITE)) === 0;
    if (none && pm !== NULL) pmap_remove(pm, entry.start[e], entry.end[e]);
    undo_begin(map.lock, mp);
    save(entry.protection, e);
    save(entry.max_protection, e);
    entry.protection[e] = now;
    if (max !== null) entry.max_protection[e] = max;
    undo_end();
  }
  merge_from(mp, first, end);
  return KERN_SUCCESS;
}
/**
 * Whether every page of a range is mapped and may be used as `prot` says.  Says nothing of
 * whether it can be had.  The map is locked in some way.
 */
export function vm_map_check_protection(
  mp: vm_map_t,
  start: number,
  end: number,
  prot: number,
): boolean {
  let at = start;
  for (let e = vm_map_lookup_entry(mp, at); at < end; e = entry.next[e]) {
    if (!entry_covers(mp, e, at)) return false;
    if ((entry.protection[e] & prot) !== prot) return false;
    at = entry.end[e];
  }
  return true;
}

// --- inheritance and advice --------------------------------------------------------------------

/** Says what a fork makes of a range: VM_INHERIT_*. */
export function vm_map_inherit(
  mp: vm_map_t,
  from: number,
  to: number,
  how: number,
  there?: There,
): number {
  if (how < VM_INHERIT_SHARE || how > VM_INHERIT_ZERO) return KERN_INVALID_ARGUMENT;
  vm_map_lock(mp);
  const forbid = how === VM_INHERIT_SHARE ? windows_forbid_share : undefined;
  const set = (e: vm_map_entry_t): void => change(mp, e, entry.inheritance, how);
  const result = each_changed(mp, from, to, set, there, forbid);
  vm_map_unlock(mp);
  return result;
}
/** Changes each entry of a range by `set`, which cannot fail. */
function each_changed(
  mp: vm_map_t,
  from: number,
  to: number,
  set: (e: vm_map_entry_t) => void,
  there?: There,
  forbid?: typeof windows_forbid_share,
): number {
  const { start, end } = map_clamp(mp, from, to);
  if (start >= end) return KERN_SUCCESS;
  while (entries_wait(mp, start, end, false) || windows_settle(mp, start, end));
  if (there !== undefined && !there(mp)) return KERN_INVALID_ADDRESS;
  if (forbid?.(mp, start, end)) return KERN_BUSY;
  if (!cut_edges(mp, start, end)) return KERN_RESOURCE_SHORTAGE;
  for (let e = first_from(mp, start); within(mp, e, end); e = entry.next[e]) {
    if ((entry.eflags[e] & MAP_ENTRY_IS_SUB_MAP) === 0) set(e);
  }
  merge(mp, start, end);
  return KERN_SUCCESS;
}
/** Flags of an entry that advice clears and sets. */
const ADVICE = new Map([
  [MADV_NORMAL, [MAP_ENTRY_BEHAV_SEQUENTIAL | MAP_ENTRY_BEHAV_RANDOM, 0]],
  [MADV_SEQUENTIAL, [MAP_ENTRY_BEHAV_RANDOM, MAP_ENTRY_BEHAV_SEQUENTIAL]],
  [MADV_RANDOM, [MAP_ENTRY_BEHAV_SEQUENTIAL, MAP_ENTRY_BEHAV_RANDOM]],
  [MADV_NOSYNC, [0, MAP_ENTRY_NOSYNC]],
  [MADV_AUTOSYNC, [MAP_ENTRY_NOSYNC, 0]],
  [MADV_NOCORE, [0, MAP_ENTRY_NOCOREDUMP]],
  [MADV_CORE, [MAP_ENTRY_NOCOREDUMP, 0]],
]);
/** Advice that is about the pages that are there. */
const ABOUT_PAGES: readonly number[] = [MADV_WILLNEED, MADV_DONTNEED, MADV_FREE, MADV_BEHIND];
/**
 * Says how a range will be used: MADV_*.  What is about the pages that are there goes to the
 * objects, and cuts no entry.
 */
export function vm_map_madvise(
  mp: vm_map_t,
  from: number,
  to: number,
  advice: number,
  there?: There,
): number {
  const flags = ADVICE.get(advice);
  if (flags !== undefined) {
    const [clear, set] = flags;
    vm_map_lock(mp);
    const advise = (e: vm_map_entry_t): void =>
      change(mp, e, entry.eflags, (entry.eflags[e] & ~clear) | set);
    const result = each_changed(mp, from, to, advise, there);
    vm_map_unlock(mp);
    return result;
  }
  if (!ABOUT_PAGES.includes(advice)) return KERN_INVALID_ARGUMENT;
  if (map.runs[mp] !== NULL) {
    vm_map_lock(mp);
    while (windows_settle(mp, from, to));
    vm_map_unlock(mp);
  }
  vm_map_lock_read(mp);
  if (there !== undefined && !there(mp)) {
    vm_map_unlock_read(mp);
    return KERN_INVALID_ADDRESS;
  }
  const { start, end } = map_clamp(mp, from, to);
  if (advice !== MADV_WILLNEED && run_over(mp, start, end) !== NULL) {
    vm_map_unlock_read(mp);
    return KERN_BUSY;
  }
  for (let e = first_from(mp, start); within(mp, e, end); e = entry.next[e]) {
    const o = entry_object(e);
    if (o === NULL) continue;
    const first = Math.max(start, entry.start[e]);
    const n = Math.min(end, entry.end[e]) - first;
    vm_object_madvise(o, entry.offset[e] + first - entry.start[e], n, advice);
    if (advice === MADV_WILLNEED) vm_map_pmap_enter(mp, e, first, n);
  }
  vm_map_unlock_read(mp);
  return KERN_SUCCESS;
}

// --- delete ------------------------------------------------------------------------------------

/** Takes a range out of a map. */
export function vm_map_remove(mp: vm_map_t, from: number, to: number): number {
  vm_map_lock(mp);
  const { start, end } = map_clamp(mp, from, to);
  const result = start < end ? vm_map_delete(mp, start, end) : KERN_SUCCESS;
  vm_map_unlock(mp);
  return result;
}
/**
 * The same for a range inside a map that is locked exclusively, and may be let go of and locked
 * again.  KERN_RESOURCE_SHORTAGE: no memory to cut an entry; KERN_BUSY: a window is open there;
 * nothing has changed.
 */
export function vm_map_delete(mp: vm_map_t, start: number, end: number): number {
  vm_map_assert_locked(mp);
  while (delete_wait(mp, start, end));
  return vm_map_delete_now(mp, start, end);
}
/**
 * Waits for what a range must not be deleted with.  True: the map was let go of and locked again,
 * and all may be different.
 */
export function delete_wait(mp: vm_map_t, start: number, end: number): boolean {
  return entries_wait(mp, start, end, true) || windows_settle(mp, start, end);
}
/**
 * vm_map_delete, in the hold in which delete_wait had nothing to wait for.  KERN_BUSY may be the
 * window of a thread that died since.
 */
export function vm_map_delete_now(mp: vm_map_t, start: number, end: number): number {
  if (run_over(mp, start, end) !== NULL) return KERN_BUSY;
  if (!within(mp, first_from(mp, start), end)) return KERN_SUCCESS;
  if (!cut_edges(mp, start, end)) return KERN_RESOURCE_SHORTAGE;
  for (let e = first_from(mp, start); within(mp, e, end); e = entry.next[e]) {
    if (entry.wired_count[e] > 0) entry_unwire(mp, e, true); // the program's, and no other one
  }
  const pm = map.pmap[mp];
  if (pm !== NULL) pmap_remove(pm, start, end);
  for (let e = first_from(mp, start); within(mp, e, end); ) {
    const above = entry.next[e];
    entry_unlink(mp, e);
    if (entry.eflags[e] & MAP_ENTRY_IS_SUB_MAP || entry.object[e] === NULL) {
      e = above;
      continue;
    }
    pages_go(entry.object[e], entry.offset[e], entry.offset[e] + entry.end[e] - entry.start[e]);
    e = above;
  }
  return KERN_SUCCESS;
}
/**
 * An entry that showed these pages is out of its map.  Other entries show other parts of the
 * object, each page is shown once at most: these are of no use any more.  Done with the map
 * locked still, because the next mapping may be more of the same object.
 */
function pages_go(o: vm_object_t, first: number, end: number): void {
  mtx_lock(object.lock, o);
  const gone = object.refs[o] !== 1 && (object.flags[o] & OBJ_ONEMAPPING) !== 0;
  mtx_unlock(object.lock, o);
  if (!gone) return; // with its last reference all of them go
  vm_object_collapse(o);
  vm_object_page_remove(o, first, end);
}
/** All that a map has goes, for its end: its entries, then its pmap. */
export function map_empty(mp: vm_map_t): void {
  const header = map_header(mp);
  vm_map_lock(mp);
  holds_settle(mp); // who has something wired refers to the map: only the dead are left
  // No edge to cut, and a window would have a reference: it cannot fail.
  const gone = vm_map_delete(mp, entry.end[header], entry.start[header]);
  if (gone !== KERN_SUCCESS) panic('vm_map: it ends with a window', mp * 4, gone);
  regions_end(mp);
  vm_map_unlock(mp);
  if (map.pmap[mp] === NULL || map.kind[mp] !== VM_MAP_USER) return;
  vm_map_lock(mp);
  const pm = map.pmap[mp];
  undo_begin(map.lock, mp);
  save(map.pmap, mp);
  save(pcpu.in_hand_items, thr.pc);
  map.pmap[mp] = NULL as pmap_t;
  item_in_hand(pm);
  undo_end();
  vm_map_unlock(mp);
  pmap_release(pm);
}
