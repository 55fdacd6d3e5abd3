/*
 * kern_space: address spaces as programs have them: by name, kept by threads, with named regions.
 *
 *      registry 'space' ──> map <── keepers         a reference each
 *                            │
 *                            ├── regions            names for ranges of pages
 *                            └── entries, pmap      what is mapped there
 *
 * The name is an entry of the registry (kern_registry_parts.ts); a thread that asked for the space
 * keeps it (map/vm_map_keep.ts).  Destroying comes first, then the name goes; an entry whose space
 * is gone is ended by the next thread that looks it up.
 *
 * Page numbers are the map's; addresses are bytes, of 48 bits (map/vm_bank.ts).
 */
import { ENOMEM, EOPNOTSUPP } from '../machine/errno.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { get64, NULL } from '../machine/struct.ts';
import {
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  MADV_BEHIND,
  MAP_COPY_ON_WRITE,
  MAP_ENTRY_USER_WIRED,
  MAP_SUPERPAGES,
  VM_MAP_MAX,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import type { vm_loan_t } from '../h/vm_loan.ts';
import type { vm_object_t } from '../h/vm_object.ts';
import { VM_PROT_ALL } from '../h/vm_prot.ts';
import { type reg_entry_t, reg_space } from '../h/registry.ts';
import { vnode, type vnode_t } from '../h/vm_vnode.ts';
import { vm_object_deallocate } from '../object/vm_object.ts';
import { object_vnode, vnode_open } from '../object/vm_vnode.ts';
import { vnode_look } from '../object/vnode_sync.ts';
import { to_address, to_page } from '../map/vm_bank.ts';
import { vm_file_truncate } from '../map/vm_file_cut.ts';
import { vm_loan_again } from '../map/vm_loan_object.ts';
import { vm_loan_why, vm_unloan } from '../map/vm_loan.ts';
import { loan_pages_in } from '../map/vm_loan_where.ts';
import {
  vm_map_lock_read,
  vm_map_reference,
  vm_map_unlock_read,
  vm_map_wait,
} from '../map/vm_map.ts';
import { vmspace_alloc, vmspace_fork } from '../map/vm_map_fork.ts';
import { vm_map_keep, vm_map_unkeep } from '../map/vm_map_keep.ts';
import { vm_resident } from '../map/vm_mincore.ts';
import {
  type Sync,
  vm_map_file,
  vm_map_revalidate,
  vm_map_sync,
  vm_map_willneed,
} from '../map/vm_msync.ts';
import { user_min, with_memory } from '../map/vm_mmap.ts';
import {
  type There,
  vm_map_inherit,
  vm_map_madvise,
  vm_map_protect,
  vm_map_protect_max,
} from '../map/vm_map_range.ts';
import { vm_map_lookup } from '../map/vm_map_tree.ts';
import {
  type Region,
  vm_region_find,
  vm_region_is,
  vm_region_map,
  vm_region_unmap,
  vm_regions,
} from '../map/vm_region.ts';
import { pmap_supers } from '../pmap/pmap_super.ts';
import { registry_end } from './kern_registry.ts';
import { part_space } from './kern_registry_parts.ts';

export {
  LOAN_FREE as SPACE_LOAN_FREE,
  loan_copied as space_loan_copied,
  vm_loan as space_lend,
  vm_loan_drop as space_loan_drop,
  vm_loan_refer as space_loan_refer,
  vm_loan_why as space_lend_why,
  vm_unloan as space_unloan,
} from '../map/vm_loan.ts';
export { page_address as space_address } from '../map/vm_bank.ts';
export { vm_frame as space_frame } from '../map/vm_copy.ts';
export { vnode_lost_touch as space_unwritten } from '../object/vm_vnode.ts';
export {
  sys_mlockall as space_lock_all,
  sys_munlockall as space_unlock_all,
  vm_lock as space_lock,
  vm_lock_room as space_lock_room,
  vm_unlock as space_unlock,
} from '../map/vm_mlock.ts';
export { vmspace_limit_pages as space_limit } from '../map/vm_unix.ts';
export { vm_map_destroy as space_destroy } from '../map/vm_map_keep.ts';
export { vm_region_there as space_there } from '../map/vm_region.ts';
export {
  PAGEIN_PENDING,
  pagein_ask as space_ask,
  pagein_result as space_asked,
} from '../map/vm_pagein.ts';
export { vm_rss_limit as space_limit_resident } from '../map/vm_rss.ts';

const map = vm_map;
const entry = vm_map_entry;

// --- by name -------------------------------------------------------------------------------------

/** Makes the space of an entry, which may have so many bytes mapped. False: no memory. */
export function space_make(e: reg_entry_t, limit: number): boolean {
  const pages = Math.min(Math.floor(limit / PAGE_SIZE), VM_MAP_MAX);
  const mp = vmspace_alloc(user_min(), VM_MAP_MAX, pages);
  if (mp === NULL) return false;
  part_space(e, mp);
  return true;
}
/** Whether the space of an entry was destroyed. The registry is locked. */
export function space_gone(e: reg_entry_t): boolean {
  return map.gone[reg_space.map[e]] !== 0;
}
/**
 * Ends the entry of a space.  The space is in hand and does not end with it, because the registry
 * is locked: that is for space_drop, afterwards.
 */
export function space_end(e: reg_entry_t): vm_map_t {
  const mp = reg_space.map[e];
  vm_map_reference(mp);
  registry_end(e);
  return mp;
}
export { vm_map_deallocate as space_drop } from '../map/vm_map.ts';
/** This thread keeps the space of an entry. The registry is locked. */
export function space_keep(e: reg_entry_t): vm_map_t {
  const mp = reg_space.map[e];
  vm_map_reference(mp);
  vm_map_keep(mp);
  return mp;
}
/** This thread lets go of a space. */
export function space_let_go(mp: vm_map_t): void {
  vm_map_unkeep(mp);
}
/** Gives an entry that is being made a space that this thread keeps. */
export function space_name(e: reg_entry_t, mp: vm_map_t): void {
  vm_map_reference(mp);
  part_space(e, mp);
}
/**
 * A copy of a space at one moment, which this thread keeps; of what it may be used for not more
 * than `prot`.  Or -KERN_*: KERN_BUSY if a window is open and `refuse` says so.
 */
export function space_fork(mp: vm_map_t, prot: number, refuse: boolean): number {
  let made = 0;
  const forked = with_memory(() => {
    made = vmspace_fork(mp, refuse);
    return made < 0 ? -made : KERN_SUCCESS;
  });
  if (forked !== KERN_SUCCESS) return -forked;
  const child = made as vm_map_t;
  vm_map_keep(child);
  for (const { start, end } of prot === VM_PROT_ALL ? [] : vm_regions(child)) {
    const less = with_memory(() => vm_map_protect_max(child, start, end, prot, prot));
    if (less === KERN_SUCCESS) continue;
    vm_map_unkeep(child);
    return -less;
  }
  return child;
}

// --- regions -------------------------------------------------------------------------------------

/** A region as it is at one moment. */
export interface SpaceRegion extends Region {
  /** Of its first byte. */
  readonly address: number;
  /** VM_PROT_* and VM_INHERIT_* of its first page. */
  readonly prot: number;
  readonly inheritance: number;
  /** Pages of it that are locked. */
  readonly locked: number;
  /** Superpages in it. */
  readonly supers: number;
}
function region_of(mp: vm_map_t, r: Region): SpaceRegion {
  vm_map_lock_read(mp);
  const e = vm_map_lookup(mp, r.start);
  const seen = {
    ...r,
    address: to_address(mp, r.start),
    prot: e === NULL ? 0 : entry.protection[e],
    inheritance: e === NULL ? 0 : entry.inheritance[e],
    locked: e === NULL ? 0 : locked_in(e, r.start, r.end),
    supers: pmap_supers(map.pmap[mp], r.start, r.end),
  };
  vm_map_unlock_read(mp);
  return seen;
}
/** Pages from `start` up to `end` that a program has locked; `first` is the first entry there. */
function locked_in(first: vm_map_entry_t, start: number, end: number): number {
  let pages = 0;
  for (let e = first; entry.start[e] < end; e = entry.next[e]) {
    if ((entry.eflags[e] & MAP_ENTRY_USER_WIRED) === 0) continue;
    pages += Math.min(end, entry.end[e]) - Math.max(start, entry.start[e]);
  }
  return pages;
}
/** All regions, by address, and how many of their pages are lent. */
export function space_regions(mp: vm_map_t): (SpaceRegion & { readonly lent: number })[] {
  return vm_regions(mp).map((r) => ({ ...region_of(mp, r), lent: loan_pages_in(mp, r) }));
}
/** The region of a name, or around an address; null: there is none. */
export function space_region(mp: vm_map_t, by: Uint8Array | number): SpaceRegion | null {
  const found = vm_region_find(mp, typeof by === 'number' ? to_page(mp, by) : by);
  return found && region_of(mp, found);
}
/** What of a file a region is to show. */
export interface SpaceFile {
  /** A reference to its object is in this CPU's hand. */
  readonly object: vm_object_t;
  /** Page of the file. */
  readonly offset: number;
  /** Whether stores go to the file; else to copies. */
  readonly shared: boolean;
  /** What may be done with it ever. */
  readonly max: number;
}
/**
 * The object of the file at a path, opened for writing too if `write` says so; a reference to it is
 * in this CPU's hand.  Or the errno, negated.
 */
export function space_open(path: string, write: boolean): number {
  const v = vnode_open(path, write);
  return v < 0 ? v : vnode.object[v as vnode_t];
}
export { vm_object_deallocate as space_close } from '../object/vm_object.ts';
/** Bytes that the file of such an object has now, or the errno, negated. */
export function space_file_bytes(o: vm_object_t): number {
  const error = vnode_look(o);
  return error === 0 ? get64(vnode.size, object_vnode(o)) : -error;
}
/** A region that is to be mapped. */
export interface SpaceRegionWanted {
  readonly file?: SpaceFile;
  /** Loans that this thread holds, whose pages it is to show. */
  readonly loans?: readonly vm_loan_t[];
  /** UTF-8; of no bytes: none. */
  readonly name: Uint8Array;
  readonly pages: number;
  /** Of the first byte; -1: anywhere. */
  readonly address: number;
  readonly prot: number;
  readonly inheritance: number;
  /** Of superpages, where they can be. */
  readonly superpages: boolean;
}
/**
 * Maps memory that is zero, a file, or copies of what was lent, or finds the region of that name.
 * Or a KERN_* code; or -ENOMEM: a limit of loans (vm_loan_why).  The reference to the object of a
 * file is used up.
 */
export function space_map(mp: vm_map_t, want: SpaceRegionWanted): SpaceRegion | number {
  const { name, pages, address, prot, inheritance, file, loans, superpages } = want;
  const own = loans === undefined && (file === undefined || file.shared);
  const what = {
    object: file?.object ?? (NULL as vm_object_t),
    offset: file?.offset ?? 0,
    protection: prot,
    max_protection: file?.max ?? VM_PROT_ALL,
    cow: (own ? 0 : MAP_COPY_ON_WRITE) | (superpages ? MAP_SUPERPAGES : 0),
    inheritance,
  };
  const vpn = address < 0 ? -1 : address / PAGE_SIZE;
  let made: Region | null = null;
  const kern = with_memory(() => {
    const lent: vm_loan_t[] = [];
    if (loans !== undefined && vm_loan_again(loans, lent) !== 0) {
      return vm_loan_why.room < 0 ? KERN_RESOURCE_SHORTAGE : -ENOMEM;
    }
    const got = vm_region_map(mp, { name, pages, vpn, what, loans: loans && lent });
    for (const l of lent) vm_unloan(l); // what is not shown
    if (typeof got === 'number') return got;
    made = got;
    return KERN_SUCCESS;
  });
  const region = made as Region | null;
  if (file !== undefined && region?.made !== true) vm_object_deallocate(file.object);
  return region === null ? kern : region_of(mp, region);
}
/** The object of the file behind a region's first page, and which page of it that is. */
export function space_file(mp: vm_map_t, start: number): { o: vm_object_t; first: number } | null {
  const part = vm_map_file(mp, start);
  if (part !== null) vm_object_deallocate(part.o);
  return part;
}

// --- what is done to a region --------------------------------------------------------------------

/*
 * A KERN_* code each: KERN_INVALID_ADDRESS, it is there no more, whatever is mapped in its place,
 * and nothing has changed.
 */

/** Its pages, and its number. */
export interface RegionKey {
  readonly start: number;
  readonly end: number;
  readonly id: number;
}
function is_there({ start, id }: RegionKey): There {
  return (mp) => vm_region_is(mp, start, id);
}
/** Says what may be done with its pages. */
export function space_protect(mp: vm_map_t, of: RegionKey, prot: number): number {
  const { start, end } = of;
  return with_memory(() => vm_map_protect(mp, start, end, prot, false, is_there(of)));
}
/** Says how they will be used: MADV_*. */
export function space_advise(mp: vm_map_t, of: RegionKey, advice: number): number {
  return with_memory(() => vm_map_madvise(mp, of.start, of.end, advice, is_there(of)));
}
/** Brings its pages in before they are asked for, if it shows a file. */
export function space_willneed(mp: vm_map_t, { start, end }: RegionKey): void {
  vm_map_willneed(mp, start, end);
}
/** Pages of it were used in turn, and will not be again soon: a favour to others. */
export function space_behind(mp: vm_map_t, of: RegionKey, start: number, end: number): void {
  vm_map_madvise(mp, start, end, MADV_BEHIND, is_there(of));
}
/** Writes what its files lack: 0, an errno, or -KERN_INVALID_ADDRESS. */
export function space_sync(mp: vm_map_t, of: RegionKey, how: Sync): number {
  return vm_map_sync(mp, of.start, of.end, how, is_there(of));
}
/** What others have made of its files is seen from here on. As space_sync. */
export function space_revalidate(mp: vm_map_t, of: RegionKey): number {
  return vm_map_revalidate(mp, of.start, of.end, is_there(of));
}
/** Makes the file that it shows so many bytes long. 0, or an errno: EOPNOTSUPP, it shows none. */
export function space_truncate(mp: vm_map_t, { start }: RegionKey, bytes: number): number {
  const part = vm_map_file(mp, start);
  if (part === null) return EOPNOTSUPP;
  const error = vm_file_truncate(part.o, bytes);
  vm_object_deallocate(part.o);
  return error;
}
/** Bytes of the file that it shows, as far as this machine has seen; -1: it shows none. */
export function space_file_size(mp: vm_map_t, start: number): number {
  const part = vm_map_file(mp, start);
  if (part === null) return -1;
  const bytes = get64(vnode.size, object_vnode(part.o));
  vm_object_deallocate(part.o);
  return bytes;
}
/** Which of its pages are in memory: MINCORE_*, a byte each; null: it is not mapped any more. */
export function space_resident(mp: vm_map_t, { start, end }: RegionKey): Uint8Array | null {
  return vm_resident(mp, start, end - start);
}
/** How often something that a call may wait for has ended in a space. */
export function space_seen(mp: vm_map_t): number {
  return map.wait_seq[mp];
}
/** Sleeps until something has since `seen`, at most `ms`. */
export function space_wait(mp: vm_map_t, seen: number, ms: number): void {
  vm_map_wait(mp, seen, ms);
}
/** Says what forks make of them: VM_INHERIT_*. */
export function space_inherit(mp: vm_map_t, of: RegionKey, how: number): number {
  return with_memory(() => vm_map_inherit(mp, of.start, of.end, how, is_there(of)));
}
/** Unmaps a region. */
export function space_unmap(mp: vm_map_t, { start, id }: RegionKey): number {
  return vm_region_unmap(mp, start, id);
}
