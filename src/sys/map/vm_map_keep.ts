/*
 * vm_map_keep: threads that keep address spaces, and how a space is destroyed.
 *
 *      vm_map_keep      the reference in this CPU's hand is its thread's from here on
 *      vm_map_unkeep    the thread lets go of the space
 *      vm_map_destroy   nothing is mapped any more, and it is gone
 *
 * A thread that works with a space keeps it: a bit for its CPU in the record, which is one
 * reference, however often it asks.  So a thread may hold on to the record without being in the
 * kernel, and may look whether the space is gone.  When it leaves the machine or dies, its bits
 * are taken away in all spaces, and with the last reference a space ends.
 *
 * A destroyed space has nothing mapped.  Its record stays as long as a thread keeps it,
 * which so finds it gone, and no other space in its place.
 */
import { thr } from '../machine/cpu.ts';
import { elem, NULL } from '../machine/struct.ts';
import { KERN_SUCCESS, vm_map, vm_map_root, type vm_map_t } from '../h/vm_map.ts';
import { tlb_forget } from '../pmap/pmap_tlb.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import {
  map_root,
  vm_map_anchor,
  vm_map_deallocate,
  vm_map_lock,
  vm_map_unanchor,
  vm_map_unlock,
} from './vm_map.ts';
import { vm_region_unmap_all } from './vm_region.ts';

const map = vm_map;
const root = vm_map_root;

const bit = (cpu: number): number => 1 << (cpu & 31);

/** Whether the thread of a CPU keeps the space. */
export function vm_map_kept(mp: vm_map_t, cpu: number): boolean {
  return (map.keepers[elem(mp, cpu >> 5)] & bit(cpu)) !== 0;
}
/** The reference in this CPU's hand is its thread's, or given up if that has one already. */
export function vm_map_keep(mp: vm_map_t): void {
  const r = map_root();
  mtx_lock(root.lock, r);
  const kept = vm_map_kept(mp, thr.cpu);
  if (!kept) {
    const at = elem(mp, thr.cpu >> 5);
    undo_begin(root.lock, r);
    save(map.keepers, at);
    map.keepers[at] |= bit(thr.cpu);
    vm_map_anchor(mp);
    undo_end();
  }
  mtx_unlock(root.lock, r);
  if (kept) vm_map_deallocate(mp);
}
/**
 * A reference, in hand, to what may be a map that the thread of a CPU keeps.  False: it is none, or
 * that keeps it no more.
 */
export function vm_map_kept_reference(mp: vm_map_t, cpu: number): boolean {
  const r = map_root();
  mtx_lock(root.lock, r);
  let at = root.first[r];
  while (at !== NULL && at !== mp) at = map.next[at];
  const kept = at !== NULL && vm_map_kept(mp, cpu);
  if (kept) {
    undo_begin(root.lock, r);
    save(map.refs, mp);
    map.refs[mp]++;
    vm_map_unanchor(mp); // what a record would let go of
    undo_end();
  }
  mtx_unlock(root.lock, r);
  return kept;
}
/** This thread lets go of the space. False: it did not keep it. */
export function vm_map_unkeep(mp: vm_map_t): boolean {
  const r = map_root();
  // First: its translations are of a pmap that may end with the reference.
  if (vm_map_kept(mp, thr.cpu)) tlb_forget(map.pmap[mp]);
  mtx_lock(root.lock, r);
  const kept = vm_map_kept(mp, thr.cpu);
  if (kept) take_away(mp, thr.cpu);
  mtx_unlock(root.lock, r);
  if (kept) vm_map_deallocate(mp);
  return kept;
}
/** A CPU keeps the map no more: its reference is in this one's hand. The list is locked. */
function take_away(mp: vm_map_t, cpu: number): void {
  const at = elem(mp, cpu >> 5);
  undo_begin(root.lock, map_root());
  save(map.keepers, at);
  map.keepers[at] &= ~bit(cpu);
  vm_map_unanchor(mp);
  undo_end();
}
/** A thread that leaves, or died, keeps no space. Lines of the life tables. */
export function vm_map_keep_leave(): void {
  vm_map_keep_reap(thr.cpu);
}
export function vm_map_keep_reap(cpu: number): void {
  const r = map_root();
  if (r === 0) return;
  for (;;) {
    mtx_lock(root.lock, r);
    let mp = root.first[r];
    while (mp !== NULL && !vm_map_kept(mp, cpu)) mp = map.next[mp];
    if (mp !== NULL) take_away(mp, cpu);
    mtx_unlock(root.lock, r);
    if (mp === NULL) return;
    vm_map_deallocate(mp);
  }
}
/**
 * The space is gone for all threads that keep it, and nothing is mapped there.  A KERN_* code:
 * KERN_BUSY, a window is open, and nothing has changed.
 */
export function vm_map_destroy(mp: vm_map_t): number {
  vm_map_lock(mp);
  const result = vm_region_unmap_all(mp);
  if (result === KERN_SUCCESS) {
    undo_begin(map.lock, mp);
    save(map.gone, mp);
    map.gone[mp] = 1;
    undo_end();
  }
  vm_map_unlock(mp);
  return result;
}
