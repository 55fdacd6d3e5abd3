/*
 * vm_swapoff: a swap area goes while its pages are in use.
 *
 *      closing      no slot of it is given any more
 *      page in      object by object: what has slots in it comes into memory, dirty, so that it
 *                   will go elsewhere when it has to go
 *      end          when none of its slots is in use, the area is no more
 *
 * It is refused where the pages would find no room, and given up where they find none meanwhile,
 * or one of them cannot be read: then the area is in use again, with what it still has.  One CPU
 * at a time does this.  One that dies leaves the area closing, and the call can be made again.
 *
 * Objects are looked through again and again, because a page may come to an object that was seen
 * already: from a copy of it that ends.  Slots that are on their way are waited for.
 */
import { EBUSY, EINVAL, ENOMEM, EWOULDBLOCK } from '../machine/errno.ts';
import { M, machine } from '../machine/header.ts';
import { STORE_READ } from '../machine/store.ts';
import { NULL } from '../machine/struct.ts';
import { W_SWAPOFF } from '../machine/wmesg.ts';
import type { vm_store_t } from '../h/vm_store.ts';
import { SWAP_CLUSTER, SWAP_UP, swap_area, type swap_area_t } from '../h/swap.ts';
import {
  OBJ_DEAD,
  OBJT_SWAP,
  vm_object,
  vm_object_root,
  type vm_object_t,
} from '../h/vm_object.ts';
import {
  object_root,
  vm_object_deallocate,
  vm_object_reference_locked,
} from '../object/vm_object.ts';
import { object_swap_in } from '../object/swap_pager.ts';
import {
  swap_area_close,
  swap_area_end,
  swap_areas,
  swap_avail,
  swap_leave,
  swap_left,
} from '../object/swap_area.ts';
import { swap_store_end } from '../object/swap_on.ts';
import { vm_store_drop, vm_store_make, vm_store_path, vm_store_same } from '../object/vm_store.ts';
import { vm_page_free_count, vm_wait } from '../page/vm_page.ts';
import { PQ_CACHE, pageq_count } from '../page/vm_pageq.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { tsleep } from '../sync/subr_sleepqueue.ts';
import { vm_pageout_direct } from './vm_pageout.ts';

const area = swap_area;
const object = vm_object;

/** Pages that stay free when all of an area has come in; of a small machine this share. */
const MARGIN_PAGES = 128;
const MARGIN_SHARE = 32;
/** How long slots that are on their way are waited for, ms: then all is looked through again. */
const PAUSE_MS = 10;
/** Passes in which nothing moved, after which it is given up. */
const PASSES = 200;

/**
 * The area in the file that is at a path now, whichever path it was opened by; or, if that is none
 * or cannot be opened, the one that was opened by this path.  NULL: there is none.
 */
function area_at(path: string): swap_area_t {
  const all = swap_areas();
  const s = all.length > 0 ? vm_store_make(path, STORE_READ) : 0;
  const same = s > 0 ? all.find((a) => vm_store_same(area.store[a], s as vm_store_t)) : undefined;
  if (s > 0) vm_store_drop(s as vm_store_t);
  const named = (a: swap_area_t): boolean => vm_store_path(area.store[a]) === path;
  return same ?? all.find(named) ?? (NULL as swap_area_t);
}
/**
 * Takes an area out of use.  0; EINVAL: none is in that file; EBUSY: another CPU takes one out of
 * use, or slots stay on their way; ENOMEM: no room for its pages; another errno: of its store.
 */
export function swap_off(path: string): number {
  const a = area_at(path);
  if (a === NULL) return EINVAL;
  if (!swap_leave()) return EBUSY;
  const error = area_leave(a);
  swap_left();
  return error;
}
function area_leave(a: swap_area_t): number {
  swap_area_close(a);
  if (!room_for(area.used[a])) return stays(a, ENOMEM);
  const { store, flags } = { store: area.store[a], flags: area.flags[a] };
  for (let idle = 0; !swap_area_end(a); ) {
    const was = area.used[a];
    const error = page_in_all(area.first[a], area.end[a]);
    if (error !== 0) return stays(a, error);
    if (area.used[a] < was) idle = 0;
    else if (++idle > PASSES) return stays(a, EBUSY);
    else tsleep(a, W_SWAPOFF, PAUSE_MS, () => area.used[a] > 0);
  }
  swap_store_end(store, flags);
  return 0;
}
function stays(a: swap_area_t, error: number): number {
  swap_area_close(a, SWAP_UP);
  return error;
}
/** Whether so many pages find room in memory and in the other areas. None always do. */
function room_for(pages: number): boolean {
  if (pages === 0) return true;
  const margin = Math.min(MARGIN_PAGES, Math.floor(machine.npages[M] / MARGIN_SHARE));
  return vm_page_free_count() + pageq_count(PQ_CACHE) + swap_avail() >= pages + margin;
}
/** All pages in slots from `first` to before `end` come into memory. 0, or an errno. */
function page_in_all(first: number, end: number): number {
  for (const o of objects_seen()) {
    if (!refer(o)) continue;
    let error = object_swap_in(o, first, end);
    // What came in is dirty, and goes to another area: not back into this one.
    while (error === ENOMEM && memory_comes()) error = object_swap_in(o, first, end);
    vm_object_deallocate(o);
    if (error !== 0) return error;
  }
  return 0;
}
/** Gets pages back, or waits until another CPU does. False: none can be had. */
function memory_comes(): boolean {
  for (let vain = 0; vain < PASSES; vain++) {
    if (vm_pageout_direct(SWAP_CLUSTER) > 0) return true;
    const error = vm_wait(PAUSE_MS);
    if (error === 0) return true;
    if (error !== EWOULDBLOCK) return false; // no other CPU is there
  }
  return false;
}
/** The objects that there are now. Each may have ended when it is looked at. */
function objects_seen(): vm_object_t[] {
  const r = object_root();
  const seen: vm_object_t[] = [];
  mtx_lock(vm_object_root.lock, r);
  for (let o = vm_object_root.first[r]; o !== NULL; o = object.next[o]) seen.push(o);
  mtx_unlock(vm_object_root.lock, r);
  return seen;
}
/** Refers to an object that has slots, unless it ends. */
function refer(o: vm_object_t): boolean {
  if (object.type[o] !== OBJT_SWAP) return false; // a hint: what it gets now is for the next pass
  mtx_lock(object.lock, o);
  const lives = object.refs[o] > 0 && (object.flags[o] & OBJ_DEAD) === 0;
  if (lives) vm_object_reference_locked(o);
  mtx_unlock(object.lock, o);
  return lives;
}
