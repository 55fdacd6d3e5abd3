/*
 * vm_region: regions of an address space, which threads find by name.
 *
 *      HALF ──> READY ──> HALF ──> (no record)
 *        record, then mapping        mapping, then record
 *
 * Mapping links the record first, half made, then maps the pages, then says that it is ready;
 * unmapping goes the other way.  So there is no moment at which pages are mapped that nobody
 * finds.  All of it is done in one hold of the map's lock: a record that is half made when the
 * lock is taken was left by a thread that died, and its pages go.
 *
 * Several regions can be mapped at once (vm_region_map_all): each says that it is one of them, and
 * the map that they are not all there yet.  One word of the map makes all of them ready.
 *
 * A region has a number, which no other region of its space gets.  A thread that keeps the pages of
 * one in mind has to look whether it is there still, because they may be another one's by now; a
 * count of the regions that have ended says when there is something to look for.
 *
 * A region is placed behind the one before it, with a page between that stays unmapped.  Lower
 * addresses are looked at only when there is no room above, so that an address which a thread
 * kept by mistake means nothing for a long time.
 */
import { pcpu, thr } from '../machine/cpu.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { elem, NULL } from '../machine/struct.ts';
import { zone_declared } from '../machine/zone_decl.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import type { zone_t } from '../h/uma.ts';
import {
  KERN_BUSY,
  KERN_FAILURE,
  KERN_INVALID_ADDRESS,
  KERN_NO_SPACE,
  KERN_OUT_OF_BOUNDS,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  MAP_SUPERPAGES,
  VM_SUPER_PAGES,
  vm_map,
  vm_map_entry,
  vm_map_root,
  type vm_map_t,
} from '../h/vm_map.ts';
import type { vm_object_t } from '../h/vm_object.ts';
import {
  REGION_HALF,
  REGION_JOINT,
  REGION_READY,
  vm_region,
  type vm_region_t,
} from '../h/vm_region.ts';
import { vm_loan, type vm_loan_t } from '../h/vm_loan.ts';
import { vm_object_deallocate, vm_object_reference } from '../object/vm_object.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { zone_give_hand, zone_take_hand } from '../uma/uma_core.ts';
import { item_in_hand, item_settle } from '../uma/uma_keg.ts';
import { uma_zcreate } from '../uma/uma_zone.ts';
import { bank_bind, bank_findspace, bank_room, type Room, to_address, VPN_MAX } from './vm_bank.ts';
import {
  map_root,
  vm_map_lock,
  vm_map_lock_read,
  vm_map_unlock,
  vm_map_unlock_read,
} from './vm_map.ts';
import { vm_loan_object } from './vm_loan_object.ts';
import { type Mapping, range_free, vm_map_insert } from './vm_map_insert.ts';
import { delete_wait, vm_map_delete_now } from './vm_map_range.ts';
import { map_header, vm_map_lookup } from './vm_map_tree.ts';
import { vm_future_wire } from './vm_wire_limits.ts';
import { windows_settle } from './vm_window.ts';

const map = vm_map;
const entry = vm_map_entry;
const region = vm_region;

const Z_REGIONS = zone_declared('VM REGION', 'Named regions of address spaces');
const zone = (): zone_t => vm_map_root.regions[map_root()] as zone_t;

/** Makes the zone. */
export function vm_region_startup(): void {
  vm_map_root.regions[map_root()] = uma_zcreate(Z_REGIONS, region.sizeof * 4);
}

// --- records -----------------------------------------------------------------------------------

/** A record in this CPU's hand. NULL: no memory. */
function make(name: Uint8Array, start: number, end: number, state: number): vm_region_t {
  const r = zone_take_hand(zone(), M_NOWAIT) as vm_region_t;
  if (r === NULL) return r;
  checked_fresh(r, region.sizeof);
  region.start[r] = start;
  region.end[r] = end;
  region.state[r] = state;
  region.map[r] = NULL as vm_map_t;
  region.id[r] = 0;
  region.name_bytes[r] = name.length;
  for (let i = 0; i < name.length; i += 4) {
    region.name[elem(r, i >> 2)] =
      name[i] | ((name[i + 1] ?? 0) << 8) | ((name[i + 2] ?? 0) << 16) | ((name[i + 3] ?? 0) << 24);
  }
  checked_publish(r);
  return r;
}
/** The record on top of the hand is the map's. */
function link(mp: vm_map_t, r: vm_region_t): void {
  undo_begin(map.lock, mp);
  save(map.regions, mp);
  save(map.region_ids, mp);
  save(pcpu.in_hand_items, thr.pc);
  region.next[r] = map.regions[mp];
  region.map[r] = mp;
  region.id[r] = ++map.region_ids[mp];
  map.regions[mp] = r;
  item_settle();
  undo_end();
}
/** A record of the map is free. */
function end(mp: vm_map_t, r: vm_region_t): void {
  let before = NULL as vm_region_t;
  for (let at = map.regions[mp]; at !== r; at = region.next[at]) before = at;
  undo_begin(map.lock, mp);
  if (before === NULL) {
    save(map.regions, mp);
    map.regions[mp] = region.next[r];
  } else {
    save(region.next, before);
    region.next[before] = region.next[r];
  }
  save(pcpu.in_hand_items, thr.pc);
  save(region.map, r);
  save(map.region_ends, mp);
  region.map[r] = NULL as vm_map_t;
  map.region_ends[mp]++;
  item_in_hand(r);
  undo_end();
  zone_give_hand(zone(), r);
}
/** Whether a record stands for a region: it is not half made, nor one of several that are. */
function is_ready(r: vm_region_t): boolean {
  const state = region.state[r];
  return state === REGION_READY || (state === REGION_JOINT && map.joint[region.map[r]] === 0);
}
function set_joint(mp: vm_map_t, joint: number): void {
  undo_begin(map.lock, mp);
  save(map.joint, mp);
  map.joint[mp] = joint;
  undo_end();
}
function set_state(mp: vm_map_t, r: vm_region_t, state: number): void {
  undo_begin(map.lock, mp);
  save(region.state, r);
  region.state[r] = state;
  undo_end();
}
/**
 * The pages of a record go, and then the record: all in this hold, so nobody else sees it half
 * done.  There is nothing to wait for.  A KERN_* code; if it is none, all stays.
 */
function take_out(mp: vm_map_t, r: vm_region_t): number {
  set_state(mp, r, REGION_HALF);
  const result = vm_map_delete_now(mp, region.start[r], region.end[r]);
  if (result === KERN_SUCCESS) end(mp, r);
  else set_state(mp, r, REGION_READY);
  return result;
}
/** delete_wait for the pages of a record: if it is true, the record may be no more. */
function wait_for(mp: vm_map_t, r: vm_region_t): boolean {
  return delete_wait(mp, region.start[r], region.end[r]);
}
/**
 * What threads that died left half done goes. The map is locked exclusively, and may be let go of
 * and locked again.
 */
export function vm_region_mend(mp: vm_map_t): void {
  for (let r = map.regions[mp]; r !== NULL; ) {
    const half = !is_ready(r);
    if (half && wait_for(mp, r)) r = map.regions[mp];
    else {
      const next = region.next[r];
      if (half) take_out(mp, r);
      r = next;
    }
  }
  if (map.joint[mp] !== 0) joint_end(mp);
}
/** The last of those that were mapped at once and are not all there is gone. */
function joint_end(mp: vm_map_t): void {
  for (let r = map.regions[mp]; r !== NULL; r = region.next[r]) if (!is_ready(r)) return;
  set_joint(mp, 0);
}
/**
 * Nothing is mapped any more, and there are no regions.  A KERN_* code: KERN_BUSY, a window is
 * open, and nothing has changed.  The map is locked exclusively, and may be let go of and locked
 * again.  A thread that dies in between leaves no region whose pages are gone: all are half done
 * by then.
 */
export function vm_region_unmap_all(mp: vm_map_t): number {
  const header = map_header(mp);
  const [min, max] = [entry.end[header], entry.start[header]];
  for (;;) {
    do vm_region_mend(mp);
    while (delete_wait(mp, min, max));
    for (let r = map.regions[mp]; r !== NULL; r = region.next[r]) set_state(mp, r, REGION_HALF);
    // No edge to cut: nothing else can fail.
    const result = vm_map_delete_now(mp, min, max);
    if (result === KERN_SUCCESS) {
      regions_end(mp);
      return result;
    }
    for (let r = map.regions[mp]; r !== NULL; r = region.next[r]) set_state(mp, r, REGION_READY);
    if (!windows_settle(mp, min, max)) return result;
  }
}
/** All records of a map go; their pages are gone. The map is locked exclusively. */
export function regions_end(mp: vm_map_t): void {
  while (map.regions[mp] !== NULL) end(mp, map.regions[mp]);
}
/**
 * A fork has the same regions, but for those of which it has no pages (VM_INHERIT_NONE).  Both maps
 * are locked exclusively. False: no memory.
 */
export function regions_copy(from: vm_map_t, to: vm_map_t): boolean {
  for (let r = map.regions[from]; r !== NULL; r = region.next[r]) {
    if (!is_ready(r)) continue;
    if (vm_map_lookup(to, region.start[r]) === NULL) continue;
    const copy = make(vm_region_name(r), region.start[r], region.end[r], REGION_READY);
    if (copy === NULL) return false;
    link(to, copy);
  }
  return true;
}

// --- found ---------------------------------------------------------------------------------------

/** The bytes of a region's name. The map is locked in some way. */
export function vm_region_name(r: vm_region_t): Uint8Array {
  const n = region.name_bytes[r];
  return Uint8Array.from({ length: n }, (_, i) => region.name[elem(r, i >> 2)] >>> ((i & 3) * 8));
}
function same(r: vm_region_t, name: Uint8Array): boolean {
  if (region.name_bytes[r] !== name.length) return false;
  const there = vm_region_name(r);
  return name.every((b, i) => there[i] === b);
}
function find(mp: vm_map_t, suits: (r: vm_region_t) => boolean): vm_region_t {
  let r = map.regions[mp];
  while (r !== NULL && !(is_ready(r) && suits(r))) r = region.next[r];
  return r;
}
/** A region of a space, as it is at one moment. */
export interface Region {
  /** UTF-8. */
  readonly name: Uint8Array;
  /** First page, and first page beyond. */
  readonly start: number;
  readonly end: number;
  /** Its number; and how many regions of the map had ended by then. */
  readonly id: number;
  readonly ends: number;
  /** It was mapped by this call. */
  readonly made?: boolean;
}
function seen(r: vm_region_t): Region {
  const ends = map.region_ends[region.map[r]];
  return {
    name: vm_region_name(r),
    start: region.start[r],
    end: region.end[r],
    id: region.id[r],
    ends,
  };
}
/** Whether the region of that number is there still. The map is locked in some way. */
export function vm_region_is(mp: vm_map_t, start: number, id: number): boolean {
  return find(mp, (at) => region.start[at] === start && region.id[at] === id) !== NULL;
}
/**
 * How many regions had ended when that one was seen to be there still; null: it is there no more.
 * Takes the map's lock, shared.
 */
export function vm_region_there(mp: vm_map_t, start: number, id: number): number | null {
  vm_map_lock_read(mp);
  const ends = vm_region_is(mp, start, id) ? map.region_ends[mp] : null;
  vm_map_unlock_read(mp);
  return ends;
}
/** The region of a name, or around a page; null: there is none. Takes the map's lock, shared. */
export function vm_region_find(mp: vm_map_t, by: Uint8Array | number): Region | null {
  vm_map_lock_read(mp);
  const r = find(mp, (at) =>
    typeof by === 'number' ? by >= region.start[at] && by < region.end[at] : same(at, by),
  );
  const found = r === NULL ? null : seen(r);
  vm_map_unlock_read(mp);
  return found;
}
/** All regions of a space, by address. Takes the map's lock, shared. */
export function vm_regions(mp: vm_map_t): Region[] {
  vm_map_lock_read(mp);
  const all: Region[] = [];
  for (let r = map.regions[mp]; r !== NULL; r = region.next[r]) {
    if (is_ready(r)) all.push(seen(r));
  }
  vm_map_unlock_read(mp);
  return all.sort((a, b) => a.start - b.start);
}

// --- mapped --------------------------------------------------------------------------------------

/** A region that is wanted. */
export interface RegionWanted {
  /** UTF-8; of no bytes: it has none, and is found by its address. */
  readonly name: Uint8Array;
  readonly pages: number;
  /** Page number of its addresses; -1: anywhere. */
  readonly vpn: number;
  readonly what: Mapping;
  /**
   * Loans that this thread holds: their pages are shown, one after another.  Each is taken off the
   * list when it is not the thread's any more.
   */
  readonly loans?: vm_loan_t[];
}
/**
 * Maps a region, unless there is one of that name: then that is the answer, and the reference to
 * an object that was to be mapped is in hand still.  So it is with a KERN_* code:
 * KERN_NO_SPACE for a place that is taken, for no place, or for more pages than the space may
 * have; KERN_OUT_OF_BOUNDS for a place that has no bank; KERN_INVALID_ADDRESS for pages that
 * nobody may map, and in a space that was destroyed; KERN_RESOURCE_SHORTAGE; KERN_FAILURE for pages
 * that are to be locked, and cannot be.
 */
export function vm_region_map(mp: vm_map_t, want: RegionWanted): Region | number {
  vm_map_lock(mp);
  if (map.gone[mp] !== 0) {
    vm_map_unlock(mp);
    return KERN_INVALID_ADDRESS;
  }
  vm_region_mend(mp);
  const { name } = want;
  const there = name.length === 0 ? (NULL as vm_region_t) : find(mp, (r) => same(r, name));
  if (there !== NULL || map.wire_future[mp] === 0) {
    const result = there === NULL ? map_new(mp, want) : seen(there);
    vm_map_unlock(mp);
    return result;
  }
  // If it goes again, so does the reference that it is given.
  const o = want.what.object;
  if (o !== NULL) vm_object_reference(o);
  const result = map_new(mp, want);
  vm_map_unlock(mp);
  const got = typeof result === 'number' ? result : locked(mp, result);
  if (o !== NULL && (typeof result === 'number' || typeof got !== 'number')) {
    vm_object_deallocate(o);
  }
  return got;
}
/** A region that was just mapped, locked; or it goes again. */
function locked(mp: vm_map_t, r: Region): Region | number {
  if (vm_future_wire(mp, r.start, r.end) === 0) return r;
  vm_region_unmap(mp, r.start, r.id); // errno: by now it may be gone
  return KERN_FAILURE;
}
/**
 * Maps regions where nothing is mapped, all of them or none: so that nobody sees some.  They have
 * places; the caller keeps what they show.  Or a KERN_* code, as for one; KERN_FAILURE: something
 * is mapped there.
 */
export function vm_region_map_all(
  mp: vm_map_t,
  all: readonly RegionWanted[],
): readonly Region[] | number {
  vm_map_lock(mp);
  if (map.gone[mp] === 0) vm_region_mend(mp);
  let result = map.gone[mp] === 0 ? KERN_SUCCESS : KERN_INVALID_ADDRESS;
  if (map.size[mp] !== 0 || map.regions[mp] !== NULL) result = KERN_FAILURE;
  const made: Region[] = [];
  if (result === KERN_SUCCESS) {
    set_joint(mp, 1);
    for (const want of all) {
      const one = map_one(mp, want);
      if (typeof one !== 'number') made.push(one);
      else result = one;
      if (result !== KERN_SUCCESS) break;
    }
    if (result === KERN_SUCCESS) set_joint(mp, 0);
    else vm_region_mend(mp);
  }
  vm_map_unlock(mp);
  return result === KERN_SUCCESS ? made : result;
}
/** One of several. */
function map_one(mp: vm_map_t, want: RegionWanted): Region | number {
  const o = want.what.object;
  if (o !== (NULL as vm_object_t)) vm_object_reference(o);
  const made = map_new(mp, want, REGION_JOINT);
  if (typeof made === 'number' && o !== NULL) vm_object_deallocate(o);
  return made;
}
/** The region is `ready` when it is there: REGION_READY, or REGION_JOINT. */
function map_new(mp: vm_map_t, want: RegionWanted, ready = REGION_READY): Region | number {
  const { name, pages, vpn, what } = want;
  const room = vpn < 0 ? room_for(mp, pages, what) : bank_room(mp, vpn, pages);
  if (room === null) return vpn < 0 ? KERN_NO_SPACE : KERN_OUT_OF_BOUNDS;
  const last = room.page + pages;
  const free = range_free(mp, room.page, last);
  if (free !== KERN_SUCCESS) return free;
  const r = make(name, room.page, last, REGION_HALF);
  if (r === NULL) return KERN_RESOURCE_SHORTAGE;
  bank_bind(mp, room);
  link(mp, r);
  const result = insert(mp, room.page, last, want);
  if (result !== KERN_SUCCESS) {
    end(mp, r);
    bank_bind(mp, room, false);
    return result;
  }
  undo_begin(map.lock, mp);
  save(region.state, r);
  save(map.cursor, mp);
  region.state[r] = ready;
  if (vpn < 0) map.cursor[mp] = last + 1;
  undo_end();
  return { ...seen(r), made: true };
}
/** Maps what is wanted: all of it, or nothing. A KERN_* code. */
function insert(mp: vm_map_t, first: number, last: number, want: RegionWanted): number {
  const { what, loans } = want;
  if (loans === undefined) return vm_map_insert(mp, first, last, what);
  let at = first;
  let result = KERN_SUCCESS;
  while (loans.length > 0 && result === KERN_SUCCESS) {
    const end = at + vm_loan.pages[loans[0]];
    const object = vm_loan_object(loans[0]);
    if (object === NULL) result = KERN_RESOURCE_SHORTAGE;
    else {
      loans.shift();
      result = vm_map_insert(mp, at, end, { ...what, object });
      if (result === KERN_SUCCESS) at = end;
      else vm_object_deallocate(object);
    }
  }
  if (result !== KERN_SUCCESS) vm_map_delete_now(mp, first, last);
  return result;
}
/**
 * The page number of addresses that the cursor means, a page of the map: two behind the last
 * page of a region, whose bank has a name for sure.
 */
function cursor_vpn(mp: vm_map_t): number {
  const cursor = map.cursor[mp];
  return cursor === 0 ? 0 : to_address(mp, cursor - 2) / PAGE_SIZE + 2;
}
function room_for(mp: vm_map_t, pages: number, { cow, offset }: Mapping): Room | null {
  // A page before and a page after are nobody's.
  const from = Math.max(cursor_vpn(mp), 1);
  const find = (least: number, align: number): Room | null =>
    bank_findspace(mp, pages + 1, least, VPN_MAX, align, offset % align);
  const large = cow & MAP_SUPERPAGES && pages >= VM_SUPER_PAGES;
  const aligned = large ? (find(from, VM_SUPER_PAGES) ?? find(1, VM_SUPER_PAGES)) : null;
  return aligned ?? find(from, 1) ?? find(1, 1);
}
const AGAIN = -1;
/**
 * Unmaps the region that begins at a page, if it has that number.  A KERN_* code:
 * KERN_INVALID_ADDRESS if there is none, KERN_BUSY if a window is open; then it stays.
 */
export function vm_region_unmap(mp: vm_map_t, start: number, id: number): number {
  vm_map_lock(mp);
  let result = AGAIN;
  while (result === AGAIN) {
    vm_region_mend(mp);
    const r = find(mp, (at) => region.start[at] === start && region.id[at] === id);
    if (r === NULL) result = KERN_INVALID_ADDRESS;
    else if (!wait_for(mp, r)) {
      const last = region.end[r];
      result = take_out(mp, r);
      if (result === KERN_BUSY && windows_settle(mp, start, last)) result = AGAIN;
    }
  }
  vm_map_unlock(mp);
  return result;
}
