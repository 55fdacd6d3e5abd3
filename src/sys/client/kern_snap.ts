/*
 * kern_snap: what of an address space goes to a file, and comes from one.
 *
 *      space ──fork──> copy ──> snap_regions, snap_next, snap_read ──> file
 *      file ──> fresh map ──> snap_write  ...  snap_show ──> space
 *
 * Saving.  A copy of one moment is made first (space_fork), which nobody else knows: so its pages
 * stay as they are while others go on writing to the space.  Its objects are searched for
 * pages that have contents, in memory or with a pager; a page that was never used is found
 * nowhere, and is not made.  What a pager has is brought in by a fault that asks for no
 * right: so regions that may not be read are saved like others.
 *
 * What several spaces share (VM_INHERIT_SHARE) is shared with the copy as well, and is read as it
 * is when its turn comes.
 *
 * Loading.  Everything goes to a map that nobody else knows, and that this thread keeps: if it
 * dies, all of it goes.  Only when the file was read to its end, and every checksum was
 * right, the space shows what that map has, all regions in one hold of its lock
 * (vm_region_map_all): other threads see an empty space, or all of it.
 */
import { bytes_in, bytes_out } from '../machine/bytes.ts';
import { away_begin, away_end, poll } from '../machine/cpu.ts';
import { ENOMEM } from '../machine/errno.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { NULL } from '../machine/struct.ts';
import {
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  MADV_RANDOM,
  MADV_SEQUENTIAL,
  MAP_ENTRY_BEHAV_RANDOM,
  MAP_ENTRY_BEHAV_SEQUENTIAL,
  VM_MAP_MAX,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import { OBJT_DEFAULT, OBJT_SWAP, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { VM_PROT_ALL, VM_PROT_NONE, VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { to_address } from '../map/vm_bank.ts';
import { fault_errno, vm_frame } from '../map/vm_copy.ts';
import { vm_fault } from '../map/vm_fault.ts';
import { vm_map_lock_read, vm_map_unlock_read } from '../map/vm_map.ts';
import { vmspace_alloc } from '../map/vm_map_fork.ts';
import { vm_map_keep, vm_map_unkeep } from '../map/vm_map_keep.ts';
import type { Mapping } from '../map/vm_map_insert.ts';
import { vm_map_madvise } from '../map/vm_map_range.ts';
import { vm_map_lookup } from '../map/vm_map_tree.ts';
import { user_min, with_memory } from '../map/vm_mmap.ts';
import {
  type Region,
  type RegionWanted,
  vm_region_is,
  vm_region_map,
  vm_region_map_all,
  vm_regions,
} from '../map/vm_region.ts';
import { object_seen, vm_object_seen } from '../object/vm_object_chain.ts';
import { vm_page_sleep_if_busy } from '../object/vm_object_page.ts';
import { object_index } from '../object/vm_object.ts';
import { vm_page_deactivate, vm_page_wirings } from '../page/vm_pageq.ts';
import { radix_next } from '../pmap/vm_radix.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { SNAP_NORMAL, SNAP_RANDOM, SNAP_SEQUENTIAL, type SnapRegion } from './snap_file.ts';

const map = vm_map;
const entry = vm_map_entry;
const object = vm_object;

/** A region of a map, and what a file says of it. */
export interface SnapPlace extends SnapRegion {
  /** Its first page in the map. */
  readonly start: number;
}
/**
 * Runs an operation of a store while others may have what this CPU caches, and wait for no answer
 * of it.  Throws if the machine was stopped meanwhile.
 */
export function snap_io(run: () => number): number {
  away_begin();
  const result = run();
  away_end();
  return result;
}

// --- saved ---------------------------------------------------------------------------------------

/** All regions of a copy, by address. */
export function snap_regions(mp: vm_map_t): SnapPlace[] {
  return vm_regions(mp)
    .map((r) => {
      vm_map_lock_read(mp);
      const e = vm_map_lookup(mp, r.start);
      const vpn = to_address(mp, r.start) / PAGE_SIZE;
      const seen = e === NULL ? NOTHING : of_entry(e);
      vm_map_unlock_read(mp);
      return { ...seen, name: r.name, start: r.start, vpn, pages: r.end - r.start };
    })
    .sort((a, b) => a.vpn - b.vpn);
}
const NOTHING = { prot: 0, inheritance: 0, advice: SNAP_NORMAL };
function of_entry(e: vm_map_entry_t): typeof NOTHING {
  const flags = entry.eflags[e];
  let advice = SNAP_NORMAL;
  if (flags & MAP_ENTRY_BEHAV_RANDOM) advice = SNAP_RANDOM;
  if (flags & MAP_ENTRY_BEHAV_SEQUENTIAL) advice = SNAP_SEQUENTIAL;
  return { prot: entry.protection[e], inheritance: entry.inheritance[e], advice };
}
/** What a page of a copy shows: the topmost object, NULL if there is none, and its page. */
interface Shown {
  readonly o: vm_object_t;
  readonly i: number;
  /** The first page of the map that shows something else. */
  readonly end: number;
}
function shown_at(mp: vm_map_t, at: number): Shown {
  vm_map_lock_read(mp);
  const e = vm_map_lookup(mp, at);
  const o = e === NULL ? (NULL as vm_object_t) : entry.object[e];
  const shown =
    e === NULL
      ? { o, i: 0, end: at + 1 }
      : { o, i: at - entry.start[e] + entry.offset[e], end: entry.end[e] };
  vm_map_unlock_read(mp); // nobody else changes a copy: its objects stay
  return shown;
}
/** The first page from `at` to before `end` that may have contents; `end`: none has. */
export function snap_next(mp: vm_map_t, at: number, end: number): number {
  let from = at;
  while (from < end) {
    poll();
    const shown = shown_at(mp, from);
    const last = Math.min(shown.end, end);
    const found = shown.o === NULL ? last : from + next_in(shown.o, shown.i, last - from);
    if (found < last) return found;
    from = last;
  }
  return end;
}
/** How many pages from page `first` of an object on have none that may have contents, of n. */
function next_in(top: vm_object_t, first: number, n: number): number {
  let o = top;
  let i = first;
  let least = n;
  mtx_lock(object.lock, o);
  for (;;) {
    const kept = object.type[o] === OBJT_DEFAULT || object.type[o] === OBJT_SWAP;
    // A page or a place in the swap area is in the index; others have what their pager has.
    const next = kept ? radix_next(object_index(o), i) : i;
    if (next >= 0 && next < object.size[o]) least = Math.min(least, next - i);
    const below = object.backing[o];
    if (below === NULL || least === 0) break;
    i += object.backing_offset[o];
    mtx_lock(object.lock, below);
    mtx_unlock(object.lock, o);
    o = below;
  }
  mtx_unlock(object.lock, o);
  return least;
}
/** Beside errnos: the page has no contents. */
export const SNAP_NONE = -1;
/** Copies a page of a copy to byte `to` of `into`. 0, SNAP_NONE, or an errno. */
export function snap_read(mp: vm_map_t, at: number, into: Uint8Array, to: number): number {
  const { o, i } = shown_at(mp, at);
  if (o === NULL) return SNAP_NONE;
  let came = false;
  for (;;) {
    const m = vm_object_seen(o, i);
    if (m !== 0) {
      const of = object_seen.o;
      const slept = vm_page_sleep_if_busy(m, of);
      if (!slept) bytes_out(into, to, m * PAGE_SIZE, PAGE_SIZE);
      // Nobody else has asked for it: it is the first to go again.
      if (!slept && came && vm_page_wirings(m) === 0) vm_page_deactivate(m);
      mtx_unlock(object.lock, of);
      if (slept) continue;
      return 0;
    }
    if (object_seen.away === NULL) return SNAP_NONE;
    came = true;
    const kern = vm_fault(mp, at, VM_PROT_NONE);
    if (kern !== KERN_SUCCESS) return fault_errno(kern);
  }
}

// --- loaded --------------------------------------------------------------------------------------

const ANYTHING: Omit<Mapping, 'protection'> = {
  object: NULL as vm_object_t,
  offset: 0,
  max_protection: VM_PROT_ALL,
  cow: 0,
};
/** A map that nobody else knows, and that this thread keeps, with the limit of a space. */
export function snap_map(of: vm_map_t): vm_map_t {
  let made = NULL as vm_map_t;
  with_memory(() => {
    made = vmspace_alloc(user_min(), VM_MAP_MAX, map.limit[of]);
    return made === NULL ? KERN_RESOURCE_SHORTAGE : KERN_SUCCESS;
  });
  if (made !== NULL) vm_map_keep(made);
  return made;
}
export { vm_map_unkeep as snap_map_drop };
/** Maps a region of a file there; its first page, or -KERN_*. */
export function snap_region_map(mp: vm_map_t, { name, vpn, pages }: SnapRegion): number {
  const what = { ...ANYTHING, protection: VM_PROT_READ | VM_PROT_WRITE };
  let start = 0;
  const kern = with_memory(() => {
    const made = vm_region_map(mp, { name, pages, vpn, what });
    if (typeof made === 'number') return made;
    start = made.start;
    return KERN_SUCCESS;
  });
  return kern === KERN_SUCCESS ? start : -kern;
}
/** Makes a page of that map what lies at byte `from` of `bytes`. 0, or an errno. */
export function snap_write(mp: vm_map_t, at: number, bytes: Uint8Array, from: number): number {
  const frame = vm_frame(mp, at, true);
  if (frame < 0) return -frame === KERN_RESOURCE_SHORTAGE ? ENOMEM : fault_errno(-frame);
  bytes_in(frame * 4, bytes, from, PAGE_SIZE);
  return 0;
}
/**
 * A space, in which nothing is mapped, shows from here on what that map has: the regions of a
 * file.  A KERN_* code: KERN_FAILURE, something is mapped in it; then nothing has changed.
 */
export function snap_show(mp: vm_map_t, loaded: vm_map_t, places: readonly SnapPlace[]): number {
  const wanted = places.map((r): RegionWanted => {
    vm_map_lock_read(loaded);
    const e = vm_map_lookup(loaded, r.start);
    const what: Mapping = {
      ...ANYTHING,
      object: entry.object[e],
      offset: entry.offset[e] + r.start - entry.start[e],
      protection: r.prot,
      inheritance: r.inheritance,
    };
    vm_map_unlock_read(loaded);
    return { name: r.name, pages: r.pages, vpn: r.vpn, what };
  });
  let made: readonly Region[] = [];
  const kern = with_memory(() => {
    const all = vm_region_map_all(mp, wanted);
    if (typeof all === 'number') return all;
    made = all;
    return KERN_SUCCESS;
  });
  for (const [i, { start, end, id }] of made.entries()) {
    const { advice } = places[i];
    const how = advice === SNAP_RANDOM ? MADV_RANDOM : MADV_SEQUENTIAL;
    // It is a favour: without memory for it there is none.
    if (advice !== SNAP_NORMAL) {
      vm_map_madvise(mp, start, end, how, (of) => vm_region_is(of, start, id));
    }
  }
  return kern;
}
