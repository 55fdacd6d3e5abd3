/*
 * vm_map_check: proves all maps of a quiet machine.
 *
 * Of each: entries stand in the ring once, in order, inside the bounds, without overlap, and
 * say that they are this map's; so many as it counts, and so many pages; the tree has the same
 * entries in the same order, is balanced, and every sum of it is right; the hint is an entry.
 *
 * What is mapped in its page tables is what its entries show.
 *
 * Of all: the list is whole; the references to a map are its windows, the notes in the hands of
 * CPUs, those of threads that keep it and what the caller knows of; named parts lie apart; every
 * entry that was given out is in a ring or among those that some CPU took out; and these are what
 * leads to memory objects (vm_object_check).
 */
import { cpu_slots, pcpu, pcpu_of } from '../machine/cpu.ts';
import { panic } from '../machine/panic.ts';
import { checked_quiet } from '../machine/parts.ts';
import { elem, NULL } from '../machine/struct.ts';
import {
  MAP_ENTRY_COW,
  MAP_ENTRY_IN_TRANSITION,
  MAP_ENTRY_KERNEL,
  MAP_ENTRY_NEEDS_COPY,
  VM_MAP_USER,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  vm_map_root,
  type vm_map_t,
} from '../h/vm_map.ts';
import { vm_loan, type vm_loan_t } from '../h/vm_loan.ts';
import {
  OBJ_ONEMAPPING,
  OBJT_DEVICE,
  OBJT_LOAN,
  vm_object,
  type vm_object_t,
} from '../h/vm_object.ts';
import { vm_region } from '../h/vm_region.ts';
import { PG_FICTITIOUS, vm_page } from '../h/vm_page.ts';
import { VM_PROT_NONE, VM_PROT_WRITE } from '../h/vm_prot.ts';
import type { zone_t } from '../h/uma.ts';
import { device_page } from '../object/vm_device.ts';
import { object_page, page_valid } from '../object/vm_object_page.ts';
import { vm_object_check } from '../object/vm_object_check.ts';
import { pmap_check } from '../pmap/pmap_check.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { zone_present } from '../uma/uma_stats.ts';
import { kern_anchors, kern_check, kern_entry, kern_objects } from './vm_kern_check.ts';
import { map_root, vm_map_lock_read, vm_map_unlock_read } from './vm_map.ts';
import { entry_object } from './vm_map_entry.ts';
import { kernel_map_there } from './vm_kern_vars.ts';
import { vm_map_kept } from './vm_map_keep.ts';
import { vm_map_check_protection } from './vm_map_range.ts';
import { map_header, vm_map_lookup } from './vm_map_tree.ts';
import { vm_regions } from './vm_region.ts';
import { vm_loan_check } from './vm_loan_check.ts';
import { vm_window_check } from './vm_window_check.ts';
import { vm_wire_check } from './vm_wire_check.ts';

const map = vm_map;
const entry = vm_map_entry;
const page = vm_page;

/** The entries of a map, lowest first. */
export function map_entries(mp: vm_map_t): vm_map_entry_t[] {
  const header = map_header(mp);
  const all: vm_map_entry_t[] = [];
  for (let e = entry.next[header]; e !== header; e = entry.next[e]) all.push(e);
  return all;
}
/** Every map on the list, newest first. */
export function maps_all(): vm_map_t[] {
  const all: vm_map_t[] = [];
  let prev = NULL as vm_map_t;
  for (let mp = vm_map_root.first[map_root()]; mp !== NULL; mp = map.next[mp]) {
    if (map.prev[mp] !== prev) panic('vm_map_check: link back', mp * 4);
    all.push(mp);
    prev = mp;
  }
  const count = vm_map_root.count[map_root()];
  if (all.length !== count) panic('vm_map_check: maps', all.length, count);
  return all;
}
/** Proves one map.  It is locked here, so that what a dead thread left half done is settled. */
export function vm_map_check(mp: vm_map_t): void {
  vm_map_lock_read(mp);
  prove(mp);
  vm_map_unlock_read(mp);
}
function prove(mp: vm_map_t): void {
  const ring = ring_check(mp);
  const tree: vm_map_entry_t[] = [];
  walk(map.root[mp], NULL as vm_map_entry_t, tree);
  if (tree.length !== ring.length) panic('vm_map_check: tree', tree.length, ring.length);
  for (const [i, e] of ring.entries()) {
    if (tree[i] !== e) panic('vm_map_check: order of the tree', i, e * 4);
  }
  const hint = map.hint[mp];
  if (hint !== NULL && !ring.includes(hint)) panic('vm_map_check: hint', hint * 4);
}
function ring_check(mp: vm_map_t): vm_map_entry_t[] {
  const header = map_header(mp);
  const ring: vm_map_entry_t[] = [];
  let size = 0;
  for (let e = header; ; ) {
    const above = entry.next[e];
    if (entry.prev[above] !== e) panic('vm_map_check: ring, link back', above * 4);
    if (entry.map[e] !== mp) panic('vm_map_check: an entry of another map', e * 4);
    const gap = entry.start[above] - entry.end[e];
    if (gap < 0) panic('vm_map_check: entries overlap', entry.end[e], entry.start[above]);
    if (entry.adj_free[e] !== gap) panic('vm_map_check: hole', entry.adj_free[e], gap);
    if (above === header) break;
    e = above;
    ring.push(e);
    if (ring.length > map.nentries[mp]) panic('vm_map_check: more entries than counted', mp * 4);
    size += entry_check(e);
  }
  if (ring.length !== map.nentries[mp]) {
    panic('vm_map_check: entries', map.nentries[mp], ring.length);
  }
  if (size !== map.size[mp]) panic('vm_map_check: size', map.size[mp], size);
  return ring;
}
/** Proves what an entry says; returns its pages. */
function entry_check(e: vm_map_entry_t): number {
  const n = entry.end[e] - entry.start[e];
  if (n <= 0) panic('vm_map_check: an empty entry', entry.start[e], entry.end[e]);
  if ((entry.protection[e] & ~entry.max_protection[e]) !== 0) {
    panic('vm_map_check: more than it may be', entry.protection[e], entry.max_protection[e]);
  }
  const flags = entry.eflags[e];
  if (flags & MAP_ENTRY_NEEDS_COPY && (flags & MAP_ENTRY_COW) === 0) {
    panic('vm_map_check: NEEDS_COPY without COW', e * 4);
  }
  const moving = (flags & MAP_ENTRY_IN_TRANSITION) !== 0;
  if (moving !== (entry.transition[e] !== 0)) panic('vm_map_check: transition', e * 4);
  if (entry.wired_count[e] < 0 || entry.offset[e] < 0) panic('vm_map_check: below 0', e * 4);
  return n;
}
/** Proves a subtree and adds its entries to `all`, in order. Returns its height. */
function walk(e: vm_map_entry_t, above: vm_map_entry_t, all: vm_map_entry_t[]): number {
  if (e === NULL) return 0;
  if (entry.parent[e] !== above) panic('vm_map_check: tree, link back', e * 4);
  const [l, r] = [entry.left[e], entry.right[e]];
  const left = walk(l, e, all);
  all.push(e);
  const right = walk(r, e, all);
  if (Math.abs(left - right) > 1) panic('vm_map_check: balance', left, right);
  const height = Math.max(left, right) + 1;
  if (entry.height[e] !== height) panic('vm_map_check: height', entry.height[e], height);
  const free = Math.max(
    entry.adj_free[e],
    l === NULL ? 0 : entry.max_free[l],
    r === NULL ? 0 : entry.max_free[r],
  );
  if (entry.max_free[e] !== free) panic('vm_map_check: largest hole', entry.max_free[e], free);
  return height;
}

/** Whether page m is what an object shows as its page i. */
function shows(o: vm_object_t, i: number, m: number): boolean {
  if (page.flags[m] & PG_FICTITIOUS) {
    return vm_object.type[o] === OBJT_DEVICE && device_page(o, i) === m;
  }
  const lent = vm_object.type[o] === OBJT_LOAN && i >= 0 && i < vm_object.size[o];
  if (lent && vm_loan.frames[elem(vm_object.loan[o] as vm_loan_t, i)] === m) return true;
  return page.owner[m] === o && page.index[m] === i;
}
/**
 * Whether an object that several entries show has a page i with contents, to which any of them
 * may write: those below it must not be seen.  Where one entry shows it, a thread that died may
 * have left a translation to the page below, which is the same until the entry writes to it.
 */
function hides(o: vm_object_t, i: number): boolean {
  mtx_lock(vm_object.lock, o);
  const m = object_page(o, i);
  const several = vm_object.refs[o] > 1 && (vm_object.flags[o] & OBJ_ONEMAPPING) === 0;
  mtx_unlock(vm_object.lock, o);
  return several && m !== 0 && page_valid(m);
}
/**
 * Proves what is mapped: each translation is of the page that the entry there shows; it may be
 * written to only if the entry allows that and the page is its own.
 */
function mappings_check(mp: vm_map_t): void {
  const pm = map.pmap[mp];
  if (pm === NULL) return;
  if (map.kind[mp] !== VM_MAP_USER) return kernel_mappings_check(mp);
  vm_map_lock_read(mp);
  pmap_check(pm, (at, m, write) => mapping_check(vm_map_lookup(mp, at), at, m, write));
  vm_map_unlock_read(mp);
}
/** The same of kernel_map, and of all maps in it, which share its page tables. */
function kernel_mappings_check(mp: vm_map_t): void {
  if (mp !== kernel_map_there()) return;
  const found: { at: number; m: number; write: boolean }[] = [];
  pmap_check(map.pmap[mp], (at, m, write) => void found.push({ at, m, write }));
  for (const { at, m, write } of found) {
    const e = kern_entry(mp, at);
    checked_quiet(true);
    mapping_check(e, at, m, write);
    checked_quiet(false);
  }
}
/** A translation to page m, by the entry there. */
function mapping_check(e: vm_map_entry_t, at: number, m: number, write: boolean): void {
  if (e === NULL) panic('vm_map_check: a translation where nothing is mapped', at, m);
  let i = entry.offset[e] + at - entry.start[e];
  let o = entry.object[e];
  const top = shows(o, i, m);
  while (o !== NULL && !shows(o, i, m)) {
    if (o === entry.object[e] && !(entry.eflags[e] & MAP_ENTRY_NEEDS_COPY) && hides(o, i)) {
      panic('vm_map_check: a translation to a page below the one shown', at, m);
    }
    i += vm_object.backing_offset[o];
    o = vm_object.backing[o];
  }
  if (o === NULL) panic('vm_map_check: a translation to a page of something else', at, m);
  const may = top && (entry.eflags[e] & MAP_ENTRY_NEEDS_COPY) === 0;
  if (write && (!may || (entry.protection[e] & VM_PROT_WRITE) === 0)) {
    panic('vm_map_check: a translation that may be written to', at, m);
  }
  if (entry.protection[e] === VM_PROT_NONE) panic('vm_map_check: no right at all', at, m);
}
/**
 * Proves all maps, and all memory objects.  `anchored`: how many references to a map stand in
 * records; `objects`: how many to an object, besides those of entries.
 */
export function vm_maps_check(
  anchored: (mp: vm_map_t) => number = () => 0,
  objects: (o: vm_object_t) => number = () => 0,
): void {
  checked_quiet(true);
  const all = maps_all();
  const windows = vm_window_check(all);
  checked_quiet(true);
  const refs = new Map<number, number>();
  for (const mp of all) {
    refs.set(mp, anchored(mp) + (windows.get(mp) ?? 0) + kern_anchors(mp));
  }
  const shown = new Map<number, number>();
  let entries = 0;
  let kentries = 0;
  const count = (e: vm_map_entry_t): void => {
    if (entry.eflags[e] & MAP_ENTRY_KERNEL) kentries++;
    else entries++;
    const o = entry_object(e);
    if (o !== NULL) shown.set(o, (shown.get(o) ?? 0) + 1);
  };
  for (const mp of all) {
    vm_map_check(mp);
    mappings_check(mp);
    checked_quiet(true);
    for (const e of map_entries(mp)) count(e);
  }
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const pc = pcpu_of(cpu);
    for (let e = pcpu.map_dying[pc] as vm_map_entry_t; e !== NULL; e = entry.next[e]) count(e);
    for (let i = 0; i < pcpu.in_hand_maps[pc]; i++) {
      const mp = pcpu.in_hand_map[elem(pc, i)];
      if (!refs.has(mp)) panic('vm_map_check: a reference to no map', mp * 4);
      refs.set(mp, (refs.get(mp) ?? 0) + 1);
    }
  }
  for (const mp of all) {
    let found = refs.get(mp) ?? 0;
    for (let cpu = 0; cpu < cpu_slots(); cpu++) if (vm_map_kept(mp, cpu)) found++;
    if (found !== map.refs[mp]) panic('vm_map_check: references', map.refs[mp], found);
  }
  entries_given(vm_map_root.entries[map_root()] as zone_t, entries);
  const kernel = vm_map_root.kentries[map_root()] as zone_t;
  if (kernel !== NULL) entries_given(kernel, kentries);
  regions_check(all);
  checked_quiet(false);
  vm_wire_check(all);
  kern_check();
  vm_object_check((o) => (shown.get(o) ?? 0) + kern_objects(o) + objects(o));
  vm_loan_check();
}
function entries_given(z: zone_t, found: number): void {
  const { used } = zone_present(z);
  if (used !== found) panic('vm_map_check: entries given out', used, found);
}
/**
 * Named parts: ready, inside their map, apart, mapped, each name once; every record is of a map.
 */
function regions_check(all: readonly vm_map_t[]): void {
  let records = 0;
  for (const mp of all) {
    const parts = vm_regions(mp);
    const names = new Set<string>();
    for (let r = map.regions[mp]; r !== NULL; r = vm_region.next[r]) records++;
    for (const [i, { name, start, end }] of parts.entries()) {
      const text = String(name);
      if (names.has(text)) panic('vm_map_check: two parts of a name', mp * 4, text);
      if (name.length > 0) names.add(text);
      const above = parts[i + 1]?.start ?? entry.start[map_header(mp)];
      if (start >= end || end > above) panic('vm_map_check: a part', mp * 4, start, end);
      if (!vm_map_check_protection(mp, start, end, 0)) {
        panic('vm_map_check: a region is not mapped', mp * 4, start, end);
      }
    }
  }
  const used = zone_present(vm_map_root.regions[map_root()] as zone_t).used;
  if (used !== records) panic('vm_map_check: parts given out', used, records);
}
