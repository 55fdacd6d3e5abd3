/*
 * vm_file_cut: what becomes of pages that are held in place when their file becomes shorter.
 *
 *      file      | 0 | 1 | 2 | 3 |   ──>   | 0 | 1 |
 *      space A   | 0 | 1 | 2 | 3 |         | 0 | 1 |   locked: 2 and 3 are so no more, and gone
 *      window            '---'             EBUSY, and the file is as long as before
 *
 * A lock is a wish of a program, who may cut the file as well: so pages behind the new end are
 * unlocked in all spaces, as BSD takes them away whoever has them wired; the page in which the file
 * ends stays locked.  When the file is longer again the new pages are not locked.  A window cannot
 * be taken back like this, because its thread stores without asking: it is in the way.
 *
 * The file is cut first (object/vnode_sync.ts), with its locked pages kept behind its end; then
 * each space is locked by itself, and its entries there; then the pages go.  So a thread that dies
 * on the way leaves pages that are locked behind the end, as does an entry that another thread is
 * just about to lock or unlock.  Whoever syncs or cuts the file next does the rest.
 */
import { NULL } from '../machine/struct.ts';
import {
  KERN_SUCCESS,
  MAP_ENTRY_IN_TRANSITION,
  MAP_ENTRY_IS_SUB_MAP,
  MAP_ENTRY_USER_WIRED,
  VM_MAP_WIRE_NOHOLES,
  VM_MAP_WIRE_USER,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import type { vm_object_t } from '../h/vm_object.ts';
import { vm_page } from '../h/vm_page.ts';
import { vm_window, vm_window_root, vm_window_run } from '../h/vm_window.ts';
import { vnode_beyond, vnode_trim, vnode_truncate } from '../object/vnode_sync.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { maps_each } from './vm_map.ts';
import { vm_map_unwire_locked } from './vm_map_wire.ts';
import { with_memory } from './vm_mmap.ts';
import { map_header } from './vm_map_tree.ts';
import { window_root } from './vm_window.ts';

const entry = vm_map_entry;
const page = vm_page;
const window = vm_window;
const run = vm_window_run;
const root = vm_window_root;

/** Whether a window shows a page of an object, which is locked, from number `from` on. */
function windows_on(o: vm_object_t, from: number): boolean {
  const r = window_root();
  let shown = false;
  mtx_lock(root.lock, r);
  for (let w = root.first[r]; w !== NULL && !shown; w = window.next[w]) {
    // Of one that is being opened only the last pages are its own.
    const u = window.run[w];
    const last = run.frame[u] + run.pages[u];
    for (let m = last - run.wired[u]; m < last && !shown; m++) {
      shown = page.owner[m] === o && page.index[m] >= from; // a wired page stays its object's
    }
  }
  mtx_unlock(root.lock, r);
  return shown;
}
/** As vnode_truncate: EBUSY is for windows, and locks behind the new end go. */
export function vm_file_truncate(o: vm_object_t, bytes: number): number {
  const error = vnode_truncate(o, bytes, windows_on);
  if (error === 0) vm_file_cut(o);
  return error;
}
/**
 * Unlocks pages that lie behind the end of a file in all spaces, and frees them.  The caller refers
 * to its object and holds no lock.
 */
export function vm_file_cut(o: vm_object_t): void {
  const first = vnode_beyond(o);
  if (first < 0) return;
  with_memory(() => {
    let result = KERN_SUCCESS;
    maps_each((mp) => {
      if (result === KERN_SUCCESS) result = unlock(mp, o, first);
    }, true);
    return result;
  });
  vnode_trim(o);
}
/** In one space, which is locked exclusively. A KERN_* code. */
function unlock(mp: vm_map_t, o: vm_object_t, first: number): number {
  const header = map_header(mp);
  for (let e = entry.next[header]; e !== header; e = entry.next[e]) {
    if (!locked(e, o)) continue;
    const by = entry.start[e] - entry.offset[e];
    const [start, end] = [Math.max(entry.start[e], first + by), entry.end[e]];
    if (start >= end) continue;
    const flags = VM_MAP_WIRE_USER | VM_MAP_WIRE_NOHOLES;
    const result = vm_map_unwire_locked(mp, start, end, flags);
    if (result !== KERN_SUCCESS) return result;
    e = header; // entries were cut, and perhaps merged: from the first one again
  }
  return KERN_SUCCESS;
}
/** Whether a program has an entry locked that shows an object, and nobody works on it. */
function locked(e: vm_map_entry_t, o: vm_object_t): boolean {
  const flags = entry.eflags[e];
  if (flags & (MAP_ENTRY_IS_SUB_MAP | MAP_ENTRY_IN_TRANSITION)) return false;
  return entry.object[e] === o && (flags & MAP_ENTRY_USER_WIRED) !== 0;
}
