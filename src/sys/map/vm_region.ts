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
 * A region is placed behind the one before it, with a page between that stays unmapped.  Lower
 * addresses are looked at only when there is no room above, so that an address which a thread
 * kept by mistake means nothing for a long time.
 */
import { pcpu, thr } from '../machine/cpu.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { elem, NULL } from '../machine/struct.ts';
import { zone_declared } from '../machine/zone_decl.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import type { zone_t } from '../h/uma.ts';
import {
  KERN_INVALID_ADDRESS,
  KERN_NO_SPACE,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  vm_map,
  vm_map_root,
  type vm_map_t,
} from '../h/vm_map.ts';
import { REGION_HALF, REGION_READY, vm_region, type vm_region_t } from '../h/vm_region.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { zone_give_hand, zone_take_hand } from '../uma/uma_core.ts';
import { item_in_hand, item_settle } from '../uma/uma_keg.ts';
import { uma_zcreate } from '../uma/uma_zone.ts';
import { bank_bind, bank_findspace, bank_room, type Room, VPN_MAX } from './vm_bank.ts';
import {
  map_root,
  vm_map_lock,
  vm_map_lock_read,
  vm_map_unlock,
  vm_map_unlock_read,
} from './vm_map.ts';
import { type Mapping, range_free, vm_map_insert } from './vm_map_insert.ts';
import { vm_map_delete } from './vm_map_range.ts';

const map = vm_map;
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
  save(pcpu.in_hand_items, thr.pc);
  region.next[r] = map.regions[mp];
  region.map[r] = mp;
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
  region.map[r] = NULL as vm_map_t;
  item_in_hand(r);
  undo_end();
  zone_give_hand(zone(), r);
}
function set_state(mp: vm_map_t, r: vm_region_t, state: number): void {
  undo_begin(map.lock, mp);
  save(region.state, r);
  region.state[r] = state;
  undo_end();
}
/** The pages of a record go, and then the record. A KERN_* code; if it is none, all stays. */
function take_out(mp: vm_map_t, r: vm_region_t): number {
  set_state(mp, r, REGION_HALF);
  const result = vm_map_delete(mp, region.start[r], region.end[r]);
  if (result === KERN_SUCCESS) end(mp, r);
  else set_state(mp, r, REGION_READY);
  return result;
}
/** What threads that died left half done goes. The map is locked exclusively. */
function mend(mp: vm_map_t): void {
  for (let r = map.regions[mp]; r !== NULL; ) {
    const next = region.next[r];
    if (region.state[r] === REGION_HALF) take_out(mp, r);
    r = next;
  }
}
/** All records of a map go; their pages are gone. The map is locked exclusively. */
export function regions_end(mp: vm_map_t): void {
  while (map.regions[mp] !== NULL) end(mp, map.regions[mp]);
}
/** A fork has the same regions. Both maps are locked exclusively. False: no memory. */
export function regions_copy(from: vm_map_t, to: vm_map_t): boolean {
  for (let r = map.regions[from]; r !== NULL; r = region.next[r]) {
    if (region.state[r] !== REGION_READY) continue;
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
  while (r !== NULL && !(region.state[r] === REGION_READY && suits(r))) r = region.next[r];
  return r;
}
/** A region of a space, as it is at one moment. */
export interface Region {
  /** UTF-8. */
  readonly name: Uint8Array;
  /** First page, and first page beyond. */
  readonly start: number;
  readonly end: number;
}
function seen(r: vm_region_t): Region {
  return { name: vm_region_name(r), start: region.start[r], end: region.end[r] };
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
    if (region.state[r] === REGION_READY) all.push(seen(r));
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
}
/**
 * Maps a region, unless there is one of that name: then that is the answer.  Or a KERN_* code:
 * KERN_NO_SPACE for a place that is taken, for no place, or for more pages than the space may
 * have; KERN_RESOURCE_SHORTAGE.
 */
export function vm_region_map(mp: vm_map_t, want: RegionWanted): Region | number {
  vm_map_lock(mp);
  mend(mp);
  const { name } = want;
  const there = name.length === 0 ? (NULL as vm_region_t) : find(mp, (r) => same(r, name));
  const result = there === NULL ? map_new(mp, want) : seen(there);
  vm_map_unlock(mp);
  return result;
}
function map_new(mp: vm_map_t, { name, pages, vpn, what }: RegionWanted): Region | number {
  const room = vpn < 0 ? room_for(mp, pages) : bank_room(mp, vpn, pages);
  if (room === null) return KERN_NO_SPACE;
  const last = room.page + pages;
  const free = range_free(mp, room.page, last);
  if (free !== KERN_SUCCESS) return free;
  const r = make(name, room.page, last, REGION_HALF);
  if (r === NULL) return KERN_RESOURCE_SHORTAGE;
  bank_bind(mp, room);
  link(mp, r);
  const result = vm_map_insert(mp, room.page, last, what);
  if (result !== KERN_SUCCESS) {
    end(mp, r);
    bank_bind(mp, room, false);
    return result;
  }
  undo_begin(map.lock, mp);
  save(region.state, r);
  save(map.cursor, mp);
  region.state[r] = REGION_READY;
  if (vpn < 0) map.cursor[mp] = last + 1;
  undo_end();
  return seen(r);
}
function room_for(mp: vm_map_t, pages: number): Room | null {
  // A page before and a page after are nobody's.
  const from = Math.max(map.cursor[mp], 1);
  const found = bank_findspace(mp, pages + 1, from, VPN_MAX, 1);
  return found ?? bank_findspace(mp, pages + 1, 1, VPN_MAX, 1);
}
/**
 * Unmaps the region that begins at a page.  A KERN_* code: KERN_INVALID_ADDRESS if there is none,
 * KERN_BUSY if a window is open; then it stays.
 */
export function vm_region_unmap(mp: vm_map_t, start: number): number {
  vm_map_lock(mp);
  mend(mp);
  const r = find(mp, (at) => region.start[at] === start);
  const result = r === NULL ? KERN_INVALID_ADDRESS : take_out(mp, r);
  vm_map_unlock(mp);
  return result;
}
