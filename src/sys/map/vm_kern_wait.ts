/*
 * vm_kern_wait: kernel addresses that are waited for.
 *
 *      kmem_alloc_wait ── no place ── needs_wakeup := 1 ── sleeps
 *      kmem_free_wakeup ── gives back ── needs_wakeup? ── := 0, wakes all who wait there
 *
 * A part of kernel_map has an end (kmem_suballoc), so that what is made of it has a limit:
 * arguments, pipes, buffers.  Who finds it full waits until somebody gives something back.  Almost
 * never does anybody wait, so what is given back wakes nobody unless a sleeper has said that it is
 * there (vm.stats.kmem.wakeups counts the others).  The word is set, the map looked at once more,
 * and let go of after the count of wake-ups was read: none is lost.  One that dies with its sender
 * is made good by the slices of the sleep.
 *
 * In a pageable map memory is a program's: zeros that come when they are touched, and may be
 * written to the swap area.
 *
 * NetBSD has five ways to ask for addresses; all of them are one call here, uvm_km_valloc1.
 *
 *      uvm_km_valloc(map, n)                      none: 0
 *      uvm_km_valloc_align(map, n, align)         at a multiple of so many pages
 *      uvm_km_valloc_prefer(map, n, prefer)       large pages begin there as they do from page
 *                                                 number `prefer` on
 *      uvm_km_valloc_wait, _prefer_wait           sleep until there is a place
 */
import { counter_add } from '../machine/counter.ts';
import { host_can_block } from '../machine/host.ts';
import { NULL } from '../machine/struct.ts';
import { M_WAITOK } from '../h/malloc_flags.ts';
import {
  KERN_SUCCESS,
  MAP_NOFAULT,
  VM_INHERIT_NONE,
  VM_MAP_SYSTEM,
  VM_SUPER_PAGES,
  vm_map,
  vm_map_entry,
  type vm_map_t,
} from '../h/vm_map.ts';
import type { vm_object_t } from '../h/vm_object.ts';
import { VM_PROT_ALL, VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { kmem_alloc_nofault, kmem_alloc_touched, kmem_free, kmem_shortage } from './vm_kern.ts';
import { v_kmem_waits, v_kmem_wakeups } from './vm_kern_vars.ts';
import { vm_map_lock, vm_map_unlock, vm_map_unlock_and_wait, vm_map_wakeup } from './vm_map.ts';
import { vm_map_insert } from './vm_map_insert.ts';
import { vm_map_remove } from './vm_map_range.ts';
import { type Alignment, ANYWHERE, map_header, vm_map_findspace } from './vm_map_tree.ts';

const map = vm_map;
const entry = vm_map_entry;

/** How long a wait lasts before it looks again, ms: a wake-up may have died with its sender. */
const SLICE_MS = 1000;

/** Of uvm_km_valloc1: no place is preferred to another. */
export const UVM_UNKNOWN_OFFSET = -1;
/** Do not sleep. */
export const UVM_KMF_NOWAIT = 1;
/** Addresses alone: nobody may touch them before he maps something there. */
export const UVM_KMF_VAONLY = 2;

/** n addresses of a map of the kernel, of either kind; 0: no place, -1: no memory for an entry. */
function find(mp: vm_map_t, n: number, how: Alignment, va_only: boolean): number {
  if (map.kind[mp] === VM_MAP_SYSTEM) {
    if (!va_only) return kmem_alloc_touched(mp, n, how) || lack(mp, n, how);
    return kmem_alloc_nofault(mp, n) || lack(mp, n, how);
  }
  vm_map_lock(mp);
  const at = vm_map_findspace(mp, 0, n, undefined, how);
  const result =
    at < 0
      ? KERN_SUCCESS
      : vm_map_insert(mp, at, at + n, {
          object: NULL as vm_object_t,
          offset: 0,
          protection: VM_PROT_READ | VM_PROT_WRITE,
          max_protection: VM_PROT_ALL,
          cow: va_only ? MAP_NOFAULT : 0,
          inheritance: VM_INHERIT_NONE,
        });
  vm_map_unlock(mp);
  if (result !== KERN_SUCCESS) return -1;
  return at < 0 ? 0 : at;
}
/** Why a system map gave no addresses: 0, no place; -1, no memory. */
function lack(mp: vm_map_t, n: number, how: Alignment): number {
  vm_map_lock(mp);
  const there = vm_map_findspace(mp, 0, n, undefined, how) >= 0;
  vm_map_unlock(mp);
  return there ? -1 : 0;
}
/**
 * Sleeps until something of the map is given back, unless there is a place for n pages by now.
 * False: the map is smaller than that.
 */
function room_wait(mp: vm_map_t, n: number, how: Alignment): boolean {
  vm_map_lock(mp);
  const header = map_header(mp);
  const possible = n <= entry.start[header] - entry.end[header];
  if (!possible || vm_map_findspace(mp, 0, n, undefined, how) >= 0) {
    vm_map_unlock(mp);
    return possible;
  }
  undo_begin(map.lock, mp);
  save(map.needs_wakeup, mp);
  map.needs_wakeup[mp] = 1;
  undo_end();
  counter_add(v_kmem_waits, 1);
  vm_map_unlock_and_wait(mp, SLICE_MS);
  return true;
}

/**
 * n addresses of a map of the kernel, at a multiple of `align` pages, a power of two, and as
 * `prefer` lies in its large page; their pages are zeros and come when they are touched.  Unless
 * `flags` say UVM_KMF_NOWAIT it sleeps until there is a place.  0: there never will be, or there
 * is no memory.
 */
export function uvm_km_valloc1(
  mp: vm_map_t,
  n: number,
  align: number,
  prefer: number,
  flags: number,
): number {
  const colour = prefer !== UVM_UNKNOWN_OFFSET;
  const step = Math.max(align, colour ? VM_SUPER_PAGES : 1);
  const how = step > 1 ? { align: step, phase: colour ? prefer & (step - 1) : 0 } : ANYWHERE;
  const nowait = (flags & UVM_KMF_NOWAIT) !== 0 || !host_can_block();
  for (let tries = 0; ; tries++) {
    const at = find(mp, n, how, (flags & UVM_KMF_VAONLY) !== 0);
    if (at > 0) return at;
    if (nowait) return 0;
    const on = at === 0 ? room_wait(mp, n, how) : kmem_shortage(M_WAITOK, tries);
    if (!on) return 0;
  }
}
export function uvm_km_valloc(mp: vm_map_t, n: number): number {
  return uvm_km_valloc1(mp, n, 1, UVM_UNKNOWN_OFFSET, UVM_KMF_NOWAIT);
}
export function uvm_km_valloc_align(mp: vm_map_t, n: number, align: number): number {
  return uvm_km_valloc1(mp, n, align, UVM_UNKNOWN_OFFSET, UVM_KMF_NOWAIT);
}
export function uvm_km_valloc_prefer(mp: vm_map_t, n: number, prefer: number): number {
  return uvm_km_valloc1(mp, n, 1, prefer, UVM_KMF_NOWAIT);
}
export function uvm_km_valloc_wait(mp: vm_map_t, n: number): number {
  return uvm_km_valloc1(mp, n, 1, UVM_UNKNOWN_OFFSET, 0);
}
export function uvm_km_valloc_prefer_wait(mp: vm_map_t, n: number, prefer: number): number {
  return uvm_km_valloc1(mp, n, 1, prefer, 0);
}
/**
 * n pages of a map of the kernel; sleeps until there is a place. 0: the map is smaller than that.
 */
export function kmem_alloc_wait(mp: vm_map_t, n: number): number {
  return uvm_km_valloc_wait(mp, n);
}
/**
 * Gives n pages of a map of the kernel back, and wakes those who wait for a place there, if there
 * are any.  False: an entry could not be cut.
 */
export function kmem_free_wakeup(mp: vm_map_t, at: number, n: number): boolean {
  const system = map.kind[mp] === VM_MAP_SYSTEM;
  const done = system ? kmem_free(mp, at, n) : vm_map_remove(mp, at, at + n) === KERN_SUCCESS;
  vm_map_lock(mp);
  const wanted = map.needs_wakeup[mp] !== 0;
  if (wanted) {
    undo_begin(map.lock, mp);
    save(map.needs_wakeup, mp);
    map.needs_wakeup[mp] = 0;
    undo_end();
  }
  vm_map_unlock(mp);
  if (wanted) {
    counter_add(v_kmem_wakeups, 1);
    vm_map_wakeup(mp);
  }
  return done;
}
