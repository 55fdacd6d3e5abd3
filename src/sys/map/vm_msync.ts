/*
 * vm_msync: what is done to the files that an address space shows.
 *
 *      entry ──> (shadow ──> ...) object of a file      the lowest one of the chain
 *
 *      vm_map_sync        what was written goes to the files
 *      vm_map_revalidate  what others have made of the files is seen
 *      vm_map_willneed    pages come in before they are asked for
 *      vm_map_file        the file behind a page
 *      msync              the system call
 *
 * Stores to a private mapping are in a shadow, which has no file: syncing it writes what others
 * have stored to the file, and nothing of its own.  Memory that is of no file is passed over.
 *
 * What lies under a window that may write is taken to be written to, at each sync anew.
 *
 * The map is locked while the file of an entry is looked up, and not while it is read or
 * written: what happens to the map meanwhile happens after.
 */
import { EBUSY, EINVAL, ENOMEM } from '../machine/errno.ts';
import { NULL } from '../machine/struct.ts';
import {
  KERN_INVALID_ADDRESS,
  KERN_SUCCESS,
  MAP_ENTRY_IS_SUB_MAP,
  MAP_ENTRY_USER_WIRED,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import { MS_ASYNC, MS_INVALIDATE } from '../h/mman.ts';
import { OBJT_VNODE, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { vm_object_deallocate, vm_object_reference_locked } from '../object/vm_object.ts';
import { object_page_seen } from '../object/vm_object_page.ts';
import {
  cluster_pages,
  VM_PAGER_OK,
  vm_pager_has_page,
  vm_pager_page_in,
} from '../object/vm_pager.ts';
import { vnode_revalidate, vnode_sync } from '../object/vnode_sync.ts';
import { vm_page_count_min } from '../page/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { bank_pieces } from './vm_bank.ts';
import { vm_file_cut } from './vm_file_cut.ts';
import { vm_map_lock_read, vm_map_unlock_read } from './vm_map.ts';
import { entry_object } from './vm_map_entry.ts';
import type { There } from './vm_map_range.ts';
import { entry_covers, map_header, vm_map_lookup_entry } from './vm_map_tree.ts';
import { fails, range_of, type Sysret, succeeds } from './vm_mmap.ts';
import { windows_written } from './vm_window.ts';

const entry = vm_map_entry;
const object = vm_object;

/** A file as a part of a map shows it. A reference to its object is in this CPU's hand. */
interface Part {
  readonly o: vm_object_t;
  /** Pages of the object. */
  readonly first: number;
  readonly end: number;
  /** The page of the map behind the part. */
  readonly next: number;
}
/** The first part of a range of a map that shows a file; null: none does. */
function part_from(mp: vm_map_t, start: number, end: number): Part | null {
  vm_map_lock_read(mp);
  const header = map_header(mp);
  let e = vm_map_lookup_entry(mp, start);
  if (!entry_covers(mp, e, start)) e = entry.next[e];
  let part: Part | null = null;
  for (; part === null && e !== header && entry.start[e] < end; e = entry.next[e]) {
    const [from, to] = [Math.max(start, entry.start[e]), Math.min(end, entry.end[e])];
    part = part_of(e, from, to);
  }
  vm_map_unlock_read(mp);
  return part;
}
function part_of(e: vm_map_entry_t, from: number, to: number): Part | null {
  let o = entry_object(e);
  if (o === NULL) return null;
  let first = from - entry.start[e] + entry.offset[e];
  mtx_lock(object.lock, o);
  for (let below = object.backing[o]; below !== NULL; below = object.backing[o]) {
    first += object.backing_offset[o];
    mtx_lock(object.lock, below);
    mtx_unlock(object.lock, o);
    o = below;
  }
  const file = object.type[o] === OBJT_VNODE;
  if (file) vm_object_reference_locked(o);
  mtx_unlock(object.lock, o);
  return file ? { o, first, end: first + to - from, next: to } : null;
}
/** Calls `each` for the parts of a range that show files. The first errno; no lock is held. */
function each_part(mp: vm_map_t, start: number, end: number, each: (p: Part) => number): number {
  let error = 0;
  for (let at = start; at < end; ) {
    const part = part_from(mp, at, end);
    if (part === null) break;
    const failed = each(part);
    if (error === 0) error = failed;
    vm_object_deallocate(part.o);
    at = part.next;
  }
  return error;
}
/** Whether what the caller means is there: asked with the map locked. -KERN_* if it is not. */
function asked(mp: vm_map_t, there: There | undefined): number {
  if (there === undefined) return KERN_SUCCESS;
  vm_map_lock_read(mp);
  const is = there(mp);
  vm_map_unlock_read(mp);
  return is ? KERN_SUCCESS : -KERN_INVALID_ADDRESS;
}

/** How files are written. */
export interface Sync {
  /** Until they are kept where they are. Else pages that somebody has in work are passed over. */
  readonly wait: boolean;
  /** Their pages go, and the next use reads them. */
  readonly invalidate: boolean;
}
/**
 * Writes what the files that a range shows lack.  0; the errno of the first page that could not
 * be written, which is as it was, while all others were; or -KERN_INVALID_ADDRESS.
 */
export function vm_map_sync(
  mp: vm_map_t,
  start: number,
  end: number,
  how: Sync,
  there?: There,
): number {
  const wrong = asked(mp, there);
  if (wrong !== KERN_SUCCESS) return wrong;
  return each_part(mp, start, end, ({ o, first, end: last }) => {
    windows_written(o);
    const error = vnode_sync(o, { first, end: last, ...how });
    vm_file_cut(o);
    return error;
  });
}
/** Pages that hold what their files had go, so that the next use reads them. As vm_map_sync. */
export function vm_map_revalidate(mp: vm_map_t, start: number, end: number, there?: There): number {
  const wrong = asked(mp, there);
  if (wrong !== KERN_SUCCESS) return wrong;
  return each_part(mp, start, end, ({ o, first, end: last }) => {
    windows_written(o);
    const error = vnode_revalidate(o, first, last);
    vm_file_cut(o);
    return error;
  });
}
/** The object of the file behind a page of a map, with a reference in hand; NULL: none. */
export function vm_map_file(mp: vm_map_t, at: number): { o: vm_object_t; first: number } | null {
  return part_from(mp, at, at + 1);
}
/**
 * Brings pages of the files that a range shows in, in clusters, until all are there or memory is
 * short.  It is a favour: what cannot be read is left to whoever uses it.
 */
export function vm_map_willneed(mp: vm_map_t, start: number, end: number): void {
  each_part(mp, start, end, ({ o, first, end: last }) => {
    mtx_lock(object.lock, o);
    for (let i = first; i < last && i < object.size[o] && !vm_page_count_min(); i++) {
      if (object_page_seen(o, i) !== 0 || !vm_pager_has_page(o, i)) continue;
      if (vm_pager_page_in(o, i, cluster_pages(), true) !== VM_PAGER_OK) break;
    }
    mtx_unlock(object.lock, o);
    return 0;
  });
}

// --- the system call ----------------------------------------------------------------------------

/** What keeps a range from being synced: an errno, or 0. */
function range_error(mp: vm_map_t, start: number, end: number, invalidate: boolean): number {
  vm_map_lock_read(mp);
  let error = 0;
  let e = vm_map_lookup_entry(mp, start);
  for (let at = start; error === 0 && at < end; e = entry.next[e]) {
    if (!entry_covers(mp, e, at)) error = ENOMEM;
    else if (entry.eflags[e] & MAP_ENTRY_IS_SUB_MAP) error = EINVAL;
    else if (invalidate && entry.eflags[e] & MAP_ENTRY_USER_WIRED) error = EBUSY;
    at = entry.end[e];
  }
  vm_map_unlock_read(mp);
  return error;
}
/** The pages of the entry around a page. */
function entry_around(mp: vm_map_t, at: number): { start: number; end: number } {
  vm_map_lock_read(mp);
  const e = vm_map_lookup_entry(mp, at);
  const there = entry_covers(mp, e, at);
  const all = there ? { start: entry.start[e], end: entry.end[e] } : { start: at, end: at + 1 };
  vm_map_unlock_read(mp);
  return all;
}
export function sys_msync(mp: vm_map_t, [address, length, flags]: readonly number[]): Sysret {
  if ((flags & ~(MS_ASYNC | MS_INVALIDATE)) !== 0) return fails(EINVAL);
  if (flags === (MS_ASYNC | MS_INVALIDATE)) return fails(EINVAL);
  const r = range_of(address, Math.max(length, 1));
  if (r.wraps) return fails(EINVAL);
  const how = { wait: (flags & MS_ASYNC) === 0, invalidate: (flags & MS_INVALIDATE) !== 0 };
  const pieces = [...bank_pieces(mp, r.first, r.last)];
  const pages = pieces.reduce((n, { start, end }) => n + end - start, 0);
  if (pages !== r.last - r.first) return fails(ENOMEM); // addresses without a bank
  const ranges = length === 0 ? [entry_around(mp, pieces[0].start)] : pieces;
  for (const { start, end } of ranges) {
    const error = range_error(mp, start, end, how.invalidate);
    if (error !== 0) return fails(error);
  }
  for (const { start, end } of ranges) {
    const error = vm_map_sync(mp, start, end, how);
    if (error !== 0) return fails(error);
  }
  return succeeds();
}
