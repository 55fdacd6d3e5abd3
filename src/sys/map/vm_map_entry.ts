/*
 * vm_map_entry: entries are made, cut, merged, and let go of.
 *
 *      zone ──> hand ──> ring and tree ──> list of this CPU ──> hand ──> zone
 *            create    link            unlink             process_deferred
 *
 * At every moment a record leads to an entry, and with it to the reference that it has to its
 * object: the hand of a CPU, a ring, or the list of those that a CPU took out.  Each step is
 * one undo section.  A thread that dies leaves an entry on one side or on the other.
 *
 * A cut (clip) makes one entry two, so that what is done to a range is done to whole entries.
 * If nothing was mapped yet, the object is made before that: the halves share it, and can be
 * merged again.  Simplifying makes one of neighbours that differ in nothing.
 *
 * Locks: the map exclusively, unless something else is said.
 */
import { pcpu as pcpu_, pcpu_of, type pcpu_t, thr as thr_ } from '../machine/cpu.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { NULL } from '../machine/struct.ts';
import { M_NORECLAIM, M_NOWAIT, M_USE_RESERVE } from '../h/malloc_flags.ts';
import type { zone_t } from '../h/uma.ts';
import {
  MAP_ENTRY_GROWS_DOWN,
  MAP_ENTRY_GROWS_UP,
  MAP_ENTRY_IN_TRANSITION,
  MAP_ENTRY_IS_SUB_MAP,
  MAP_ENTRY_KERNEL,
  MAP_ENTRY_NEEDS_COPY,
  VM_MAP_SYSTEM,
  MAP_ENTRY_USER_WIRED,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  vm_map_root,
  type vm_map_root_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import { OBJT_DEFAULT, vm_object, type vm_object_t } from '../h/vm_object.ts';
import {
  object_anonymous,
  vm_object_allocate,
  vm_object_anchor,
  vm_object_deallocate,
  vm_object_reference,
  vm_object_unanchor,
} from '../object/vm_object.ts';
import { vm_object_split } from '../object/vm_object_chain.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_begin_private, undo_end } from '../sync/undo.ts';
import { zone_give_hand, zone_take_hand } from '../uma/uma_core.ts';
import { hand_item, item_in_hand, item_settle } from '../uma/uma_keg.ts';
import { map_root, vm_map_assert_locked } from './vm_map.ts';
import { map_header, tree_gap, tree_in, tree_out } from './vm_map_tree.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const thr = thr_;
const pcpu = pcpu_;
const opt = opt_;
const map = vm_map;
const entry = vm_map_entry;
const object = vm_object;

/** The zone of entries, or of those of system maps. */
function zone_for(kernel: boolean): zone_t {
  const r = map_root();
  return (kernel ? vm_map_root.kentries[r] : vm_map_root.entries[r]) as zone_t;
}
function zone_of(e: vm_map_entry_t): zone_t {
  return zone_for((entry.eflags[e] & MAP_ENTRY_KERNEL) !== 0);
}

// --- made, and linked --------------------------------------------------------------------------

/** For tests: says, under FAILPOINTS, whether an entry or an object is refused. */
export const map_failpoint: { refuse: (() => boolean) | null } = { refuse: null };
function refused(): boolean {
  return opt.FAILPOINTS && (map_failpoint.refuse?.() ?? false);
}
/**
 * An entry in this CPU's hand, in no map; the caller fills it in. NULL: no memory.  One of a system
 * map (`kernel`) reclaims nothing, and may be of those that are kept aside.
 */
export function entry_create(kernel = false): vm_map_entry_t {
  if (refused()) return NULL as vm_map_entry_t;
  const e = entry_take(kernel);
  if (e === NULL) return e;
  checked_fresh(e, entry.sizeof);
  entry.map[e] = NULL as vm_map_t;
  entry.eflags[e] = kernel ? MAP_ENTRY_KERNEL : 0;
  entry.wired_count[e] = 0;
  entry.wired[e] = 0;
  entry.transition[e] = 0;
  entry.lastr[e] = 0;
  entry.avail_ssize[e] = 0;
  entry.grow_prot[e] = 0;
  entry.stack[e] = 0;
  entry.offset[e] = 0;
  entry.object[e] = NULL as vm_object_t;
  checked_publish(e);
  return e;
}
function entry_take(kernel: boolean): vm_map_entry_t {
  const z = zone_for(kernel);
  if (!kernel) return zone_take_hand(z, M_NOWAIT) as vm_map_entry_t;
  const flags = M_NOWAIT | M_NORECLAIM;
  return (zone_take_hand(z, flags) || zone_take_hand(z, flags | M_USE_RESERVE)) as vm_map_entry_t;
}
/** Gives the entry on top of this CPU's hand back unused. */
export function entry_discard(e: vm_map_entry_t): void {
  zone_give_hand(zone_of(e), e);
}
/** What an entry leads to: an object with a reference of its own, NULL: none. */
export function entry_object(e: vm_map_entry_t): vm_object_t {
  const none = entry.eflags[e] & (MAP_ENTRY_IS_SUB_MAP | MAP_ENTRY_KERNEL);
  return none ? (NULL as vm_object_t) : entry.object[e];
}
/**
 * The entry on top of this CPU's hand comes into the ring behind `after`; the reference to its
 * object, in hand too, is the entry's from here on.  Inside a section.
 */
function ring_in(mp: vm_map_t, after: vm_map_entry_t, e: vm_map_entry_t): void {
  if (opt.INVARIANTS && hand_item() !== e) panic('vm_map: the entry is not in hand', e * 4);
  const above = entry.next[after];
  const o = entry_object(e);
  save(entry.next, after);
  save(entry.prev, above);
  save(map.nentries, mp);
  save(pcpu.in_hand_items, thr.pc);
  entry.prev[e] = after;
  entry.next[e] = above;
  entry.map[e] = mp;
  entry.next[after] = e;
  entry.prev[above] = e;
  map.nentries[mp]++;
  item_settle();
  if (o !== NULL) vm_object_anchor(o);
}
/** An entry leaves the ring for the list of those that this CPU took out. Inside a section. */
function ring_out(mp: vm_map_t, e: vm_map_entry_t): void {
  const { pc } = thr;
  const [above, below] = [entry.next[e], entry.prev[e]];
  save(entry.next, below);
  save(entry.prev, above);
  save(entry.next, e);
  save(entry.map, e);
  save(map.nentries, mp);
  save(pcpu.map_dying, pc);
  entry.next[below] = above;
  entry.prev[above] = below;
  map.nentries[mp]--;
  entry.next[e] = pcpu.map_dying[pc] as vm_map_entry_t;
  pcpu.map_dying[pc] = e;
  entry.map[e] = NULL as vm_map_t;
}
/** The entry in hand becomes part of the map, behind `after`. */
export function entry_link(mp: vm_map_t, after: vm_map_entry_t, e: vm_map_entry_t): void {
  undo_begin(map.lock, mp);
  save(map.size, mp);
  ring_in(mp, after, e);
  map.size[mp] += entry.end[e] - entry.start[e];
  undo_end();
  tree_in(mp, e);
}
/**
 * The n entries on top of this CPU's hand, from `first` to `last` by `next` and back by `prev`,
 * come into the ring behind `after` in one section.  They show nothing yet, and the tree is made
 * anew by the caller.
 */
export function entries_ring(
  mp: vm_map_t,
  after: vm_map_entry_t,
  first: vm_map_entry_t,
  last: vm_map_entry_t,
  n: number,
): void {
  if (opt.INVARIANTS && hand_item() !== last) panic('vm_map: the entry is not in hand', last * 4);
  const above = entry.next[after];
  entry.prev[first] = after;
  entry.next[last] = above;
  let pages = 0;
  for (let e = first; e !== above; e = entry.next[e]) {
    pages += entry.end[e] - entry.start[e];
    entry.map[e] = mp;
  }
  undo_begin(map.lock, mp);
  save(map.size, mp);
  save(map.nentries, mp);
  save(entry.next, after);
  save(entry.prev, above);
  save(pcpu.in_hand_items, thr.pc);
  map.size[mp] += pages;
  map.nentries[mp] += n;
  entry.next[after] = first;
  entry.prev[above] = last;
  item_settle(n);
  undo_end();
}
/** The entry is no part of the map any more; what it led to is let go of at the unlock. */
export function entry_unlink(mp: vm_map_t, e: vm_map_entry_t): void {
  const [above, below] = [entry.next[e], entry.prev[e]];
  undo_begin(map.lock, mp);
  save(map.size, mp);
  ring_out(mp, e);
  map.size[mp] -= entry.end[e] - entry.start[e];
  undo_end();
  tree_out(mp, e, above);
  tree_gap(mp, below);
}
/** An entry ends at `end` from here on; what lies between is free. */
export function entry_grow(mp: vm_map_t, e: vm_map_entry_t, end: number): void {
  undo_begin(map.lock, mp);
  save(map.size, mp);
  save(entry.end, e);
  map.size[mp] += end - entry.end[e];
  entry.end[e] = end;
  undo_end();
  tree_gap(mp, e);
}

// --- let go of ---------------------------------------------------------------------------------

/** Lets go of what this CPU took out of maps. It may sleep; inside no section. */
export function vm_map_process_deferred(): void {
  const { pc } = thr;
  while (pcpu.map_dying[pc] !== 0) {
    undo_begin_private();
    const e = dying_take(pc);
    undo_end();
    dying_end(e);
  }
}
/** The first entry on a list comes into this CPU's hand, and so does its reference. */
function dying_take(pc: pcpu_t): vm_map_entry_t {
  const e = pcpu.map_dying[pc] as vm_map_entry_t;
  const o = entry_object(e);
  save(pcpu.map_dying, pc);
  save(pcpu.in_hand_items, thr.pc);
  pcpu.map_dying[pc] = entry.next[e];
  item_in_hand(e);
  if (o !== NULL) vm_object_unanchor(o);
  return e;
}
function dying_end(e: vm_map_entry_t): void {
  const o = entry_object(e);
  if (o !== NULL) vm_object_deallocate(o);
  zone_give_hand(zone_of(e), e);
}
/** What a dead CPU took out and did not let go of. */
export function entries_reap(r: vm_map_root_t, cpu: number): void {
  const pc = pcpu_of(cpu);
  for (;;) {
    let e = NULL as vm_map_entry_t;
    // A settler that died here before is undone by this lock: its sections change that record.
    mtx_lock(vm_map_root.lock, r);
    if (pcpu.map_dying[pc] !== 0) {
      undo_begin(vm_map_root.lock, r);
      e = dying_take(pc);
      undo_end();
    }
    mtx_unlock(vm_map_root.lock, r);
    if (e === NULL) return;
    dying_end(e);
  }
}

// --- objects -----------------------------------------------------------------------------------

/** Gives an entry that has none an object. False: no memory, and nothing has changed. */
export function vm_map_entry_make_object(mp: vm_map_t, e: vm_map_entry_t): boolean {
  vm_map_assert_locked(mp);
  if (entry.object[e] !== NULL) return true;
  if (refused()) return false;
  const o = vm_object_allocate(OBJT_DEFAULT, entry.end[e] - entry.start[e]);
  if (o === NULL) return false;
  undo_begin(map.lock, mp);
  save(entry.object, e);
  save(entry.offset, e);
  entry.object[e] = o;
  entry.offset[e] = 0;
  vm_object_anchor(o);
  undo_end();
  return true;
}
/**
 * Makes what an entry shows its own, where it NEEDS_COPY: it gets a shadow of its object, if
 * others see that.  False: no memory, and nothing has changed.
 */
export function vm_map_entry_shadow(mp: vm_map_t, e: vm_map_entry_t): boolean {
  vm_map_assert_locked(mp);
  const o = entry.object[e];
  if ((entry.eflags[e] & MAP_ENTRY_NEEDS_COPY) === 0) return true;
  if (o === NULL || alone(o)) {
    undo_begin(map.lock, mp);
    save(entry.eflags, e);
    entry.eflags[e] &= ~MAP_ENTRY_NEEDS_COPY;
    undo_end();
    return true;
  }
  const shadow = entry_shadow_object(e);
  if (shadow === NULL) return false;
  entry_shadowed(mp, e, shadow, MAP_ENTRY_NEEDS_COPY);
  return true;
}
/** Whether an entry is all that refers to its object, so that nobody else comes to see it. */
function alone(o: vm_object_t): boolean {
  mtx_lock(object.lock, o);
  const only = object.refs[o] === 1 && object_anonymous(o);
  mtx_unlock(object.lock, o);
  return only;
}
/** A shadow of what an entry shows, in hand. NULL: no memory. */
export function entry_shadow_object(e: vm_map_entry_t): vm_object_t {
  if (refused()) return NULL as vm_object_t;
  const o = entry.object[e];
  vm_object_reference(o); // becomes the shadow's
  const shadow = vm_object_split(o, entry.offset[e], entry.end[e] - entry.start[e]);
  if (shadow === NULL) vm_object_deallocate(o);
  return shadow;
}
/** The entry shows that shadow, in hand so far, in place of the object below it. */
export function entry_shadowed(
  mp: vm_map_t,
  e: vm_map_entry_t,
  shadow: vm_object_t,
  clear: number,
): void {
  const o = entry.object[e];
  undo_begin(map.lock, mp);
  save(entry.object, e);
  save(entry.offset, e);
  save(entry.eflags, e);
  entry.object[e] = shadow;
  entry.offset[e] = 0;
  entry.eflags[e] &= ~clear;
  vm_object_anchor(shadow);
  vm_object_unanchor(o);
  undo_end();
  vm_object_deallocate(o);
}

// --- cut and merged ----------------------------------------------------------------------------

/** All that two halves of an entry have in common. */
export function entry_like(e: vm_map_entry_t, from: vm_map_entry_t): void {
  entry.object[e] = entry.object[from];
  entry.eflags[e] = entry.eflags[from];
  entry.protection[e] = entry.protection[from];
  entry.max_protection[e] = entry.max_protection[from];
  entry.inheritance[e] = entry.inheritance[from];
  entry.wired_count[e] = entry.wired_count[from];
  entry.transition[e] = entry.transition[from];
  entry.avail_ssize[e] = entry.avail_ssize[from];
  entry.grow_prot[e] = entry.grow_prot[from];
}
/**
 * Makes page `vpn` the first page of e: what lies before becomes an entry of its own.  False:
 * no memory, and nothing has changed.
 */
export function vm_map_clip_start(mp: vm_map_t, e: vm_map_entry_t, vpn: number): boolean {
  return vpn <= entry.start[e] || cut(mp, e, vpn, true);
}
/**
 * Makes e end before page `vpn`: what lies behind becomes an entry of its own.  False: no
 * memory, and nothing has changed.
 */
export function vm_map_clip_end(mp: vm_map_t, e: vm_map_entry_t, vpn: number): boolean {
  return vpn >= entry.end[e] || cut(mp, e, vpn, false);
}
/** Cuts e in two before page `vpn`; the new entry is the lower half, or the upper one. */
function cut(mp: vm_map_t, e: vm_map_entry_t, vpn: number, lower: boolean): boolean {
  vm_map_assert_locked(mp);
  const kernel = map.kind[mp] === VM_MAP_SYSTEM;
  const made = entry_create(kernel);
  if (made === NULL) return false;
  if (!kernel && !vm_map_entry_make_object(mp, e)) {
    entry_discard(made);
    return false;
  }
  const o = entry_object(e);
  if (o !== NULL) vm_object_reference(o);
  const first = vpn - entry.start[e];
  entry_like(made, e);
  entry.start[made] = lower ? entry.start[e] : vpn;
  entry.end[made] = lower ? vpn : entry.end[e];
  entry.offset[made] = entry.offset[e] + (lower ? 0 : first);
  undo_begin(map.lock, mp);
  if (lower) {
    save(entry.start, e);
    save(entry.offset, e);
    ring_in(mp, entry.prev[e], made);
    entry.start[e] = vpn;
    entry.offset[e] += first;
  } else {
    save(entry.end, e);
    ring_in(mp, e, made);
    entry.end[e] = vpn;
  }
  undo_end();
  tree_in(mp, made);
  if (!lower) tree_gap(mp, e);
  return true;
}
/** Whether the kernel has an entry wired, and not just the program. */
export function entry_held(e: vm_map_entry_t): boolean {
  return entry.wired_count[e] > (entry.eflags[e] & MAP_ENTRY_USER_WIRED ? 1 : 0);
}
/** Whether two neighbours differ in nothing but their place. */
function like(mp: vm_map_t, a: vm_map_entry_t, b: vm_map_entry_t): boolean {
  const header = map_header(mp);
  if (a === header || b === header || entry.end[a] !== entry.start[b]) return false;
  const o = entry.object[a];
  const flags = entry.eflags[a];
  if (o !== entry.object[b] || flags !== entry.eflags[b]) return false;
  if (flags & (MAP_ENTRY_IN_TRANSITION | MAP_ENTRY_IS_SUB_MAP)) return false;
  // Whoever ends a wiring of the kernel's finds the edges of its range, and needs no memory.
  if (entry_held(a)) return false;
  const length = entry.end[a] - entry.start[a];
  if (o !== NULL && entry.offset[a] + length !== entry.offset[b]) return false;
  if (flags & (MAP_ENTRY_GROWS_DOWN | MAP_ENTRY_GROWS_UP)) {
    if (entry.avail_ssize[a] !== entry.avail_ssize[b]) return false;
    if (entry.grow_prot[a] !== entry.grow_prot[b]) return false;
  }
  return (
    entry.protection[a] === entry.protection[b] &&
    entry.max_protection[a] === entry.max_protection[b] &&
    entry.inheritance[a] === entry.inheritance[b] &&
    entry.wired_count[a] === entry.wired_count[b]
  );
}
/** Merges e with its neighbours where they are alike. The entry that is passed stays. */
export function vm_map_simplify_entry(mp: vm_map_t, e: vm_map_entry_t): void {
  const below = entry.prev[e];
  if (like(mp, below, e)) {
    const above = entry.next[below];
    undo_begin(map.lock, mp);
    save(entry.start, e);
    save(entry.offset, e);
    ring_out(mp, below);
    entry.start[e] = entry.start[below];
    entry.offset[e] = entry.offset[below];
    undo_end();
    tree_out(mp, below, above);
  }
  const above = entry.next[e];
  if (like(mp, e, above)) {
    const behind = entry.next[above];
    undo_begin(map.lock, mp);
    save(entry.end, e);
    ring_out(mp, above);
    entry.end[e] = entry.end[above];
    undo_end();
    tree_out(mp, above, behind);
    tree_gap(mp, e);
  }
}
