/*
 * vm_kern_fault: a kernel address beyond the memory is touched, and has no translation.
 *
 *      kernel_map ── entry of kmem_alloc     its pages are mapped as long as it is there
 *                 ── of uvm_km_valloc1       a page of zeros comes now, and stays
 *                 ── of kmem_alloc_nofault   an error of the kernel
 *                 ── a submap                system: likewise; pageable: as in a program's space
 *
 * So nothing is copied, and nothing looked for below: the only object is the kernel's.  The map
 * stays locked while the page is made, so that nobody gives the address back meanwhile; where
 * there is no page everything is let go of, memory is got back, and it begins anew.
 *
 * Whoever asks for a program asks kernacc first, which tells without a touch.
 */
import { counter_add } from '../machine/counter.ts';
import { panic } from '../machine/panic.ts';
import { NULL } from '../machine/struct.ts';
import { M_WAITOK } from '../h/malloc_flags.ts';
import { KVA_BASE } from '../h/vm_kern.ts';
import {
  KERN_INVALID_ADDRESS,
  KERN_PROTECTION_FAILURE,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  MAP_ENTRY_IN_TRANSITION,
  MAP_ENTRY_NOFAULT,
  VM_MAP_SYSTEM,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import { vm_object, type vm_object_t } from '../h/vm_object.ts';
import { vm_page } from '../h/vm_page.ts';
import { VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import {
  object_page,
  object_page_filled,
  page_valid,
  vm_page_sleep_if_busy,
} from '../object/vm_object_page.ts';
import { pmap_zero_page } from '../page/vm_page.ts';
import { vm_page_zero_ahead } from '../page/vm_page_cache.ts';
import { vm_page_owner_wire, vm_page_wirings } from '../page/vm_pageq.ts';
import { pmap_enter, pmap_extract } from '../pmap/pmap.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { vm_fault } from './vm_fault.ts';
import {
  kern_page_make,
  kernel_object,
  kernel_pmap,
  kmem_object,
  kmem_shortage,
} from './vm_kern.ts';
import { v_kmem_faults } from './vm_kern_vars.ts';
import { vm_map_check_protection } from './vm_map_range.ts';
import { vm_map_lock, vm_map_lock_read, vm_map_unlock, vm_map_unlock_read } from './vm_map.ts';
import { entry_submap } from './vm_map_insert.ts';
import { map_header, vm_map_lookup } from './vm_map_tree.ts';

const map = vm_map;
const entry = vm_map_entry;
const object = vm_object;
const page = vm_page;

/** Beside the KERN_* codes: everything was let go of, and is to be looked up again. */
const AGAIN = -1;

/**
 * Makes page number `vpn` of a system map usable for `access`, by this or another CPU.  A KERN_*
 * code. The caller holds no lock; it may sleep.
 */
export function kernel_fault(top: vm_map_t, vpn: number, access: number): number {
  for (let tries = 0; ; tries++) {
    vm_page_zero_ahead();
    const { mp, e } = entry_at(top, vpn);
    if (map.kind[mp] !== VM_MAP_SYSTEM) return vm_fault(mp, vpn, access);
    const result = e === NULL ? KERN_INVALID_ADDRESS : resolve(e, vpn, access);
    vm_map_unlock(mp);
    if (result === AGAIN) page_wait(vpn);
    else if (result !== KERN_RESOURCE_SHORTAGE || !kmem_shortage(M_WAITOK, tries)) return result;
  }
}
/** The system map that has the page, locked, and its entry; or a pageable one, not locked. */
function entry_at(top: vm_map_t, vpn: number): { mp: vm_map_t; e: vm_map_entry_t } {
  let mp = top;
  if (map.kind[mp] !== VM_MAP_SYSTEM) return { mp, e: NULL as vm_map_entry_t };
  vm_map_lock(mp);
  for (;;) {
    const e = vm_map_lookup(mp, vpn);
    const sub = e === NULL ? (NULL as vm_map_t) : entry_submap(e);
    if (sub === NULL) return { mp, e };
    if (map.kind[sub] === VM_MAP_SYSTEM) vm_map_lock(sub);
    vm_map_unlock(mp);
    mp = sub;
    if (map.kind[sub] !== VM_MAP_SYSTEM) return { mp, e: NULL as vm_map_entry_t };
  }
}
/** Gives the page its translation. The map is locked. */
function resolve(e: vm_map_entry_t, vpn: number, access: number): number {
  const flags = entry.eflags[e];
  if (flags & MAP_ENTRY_IN_TRANSITION) return KERN_INVALID_ADDRESS; // comes, or goes
  if (flags & MAP_ENTRY_NOFAULT) panic('vm_fault: on nofault entry', vpn);
  const rights = access & (VM_PROT_READ | VM_PROT_WRITE);
  if ((entry.protection[e] & rights) !== rights) return KERN_PROTECTION_FAILURE;
  const o = entry.object[e];
  mtx_lock(object.lock, o);
  const result = show(o, vpn, rights);
  mtx_unlock(object.lock, o);
  return result;
}
/** The same with the object locked. */
function show(o: vm_object_t, vpn: number, access: number): number {
  const m = object_page(o, vpn - KVA_BASE);
  if (m === 0) {
    if (kern_page_make(o, vpn, access) === 0) return KERN_RESOURCE_SHORTAGE;
    counter_add(v_kmem_faults, 1);
    return KERN_SUCCESS;
  }
  if (page.busy[m] !== 0) return AGAIN;
  // Whoever made it may have died on the way.
  if (!page_valid(m)) {
    pmap_zero_page(m);
    object_page_filled(m, o);
  }
  if (vm_page_wirings(m) === 0) vm_page_owner_wire(m);
  const prot = VM_PROT_READ | VM_PROT_WRITE;
  const done = pmap_enter(kernel_pmap(), vpn, m, prot, true, access);
  return done ? KERN_SUCCESS : KERN_RESOURCE_SHORTAGE;
}
/**
 * Sleeps while a page of a system map is busy: the thread that made it died, and is not settled.
 */
function page_wait(vpn: number): void {
  for (const o of [kernel_object(), kmem_object()]) {
    mtx_lock(object.lock, o);
    const m = object_page(o, vpn - KVA_BASE);
    if (m !== 0) vm_page_sleep_if_busy(m, o);
    mtx_unlock(object.lock, o);
  }
}

/**
 * Whether n kernel addresses from page number `at` on are there and may be used so, as far as can
 * be told without a touch: those that nobody may touch are only if something is mapped there.
 */
export function kernacc(top: vm_map_t, at: number, n: number, prot: number): boolean {
  for (let vpn = at; vpn < at + n; ) {
    const { mp, e } = entry_at(top, vpn);
    if (map.kind[mp] !== VM_MAP_SYSTEM) {
      vm_map_lock_read(mp);
      const end = Math.min(at + n, entry.start[map_header(mp)]);
      const ok = vm_map_check_protection(mp, vpn, end, prot);
      vm_map_unlock_read(mp);
      if (!ok) return false;
      vpn = end;
      continue;
    }
    const end = e === NULL ? vpn : Math.min(at + n, entry.end[e]);
    const ok = end > vpn && accessible(e, vpn, end, prot);
    vm_map_unlock(mp);
    if (!ok) return false;
    vpn = end;
  }
  return true;
}
function accessible(e: vm_map_entry_t, from: number, end: number, prot: number): boolean {
  const flags = entry.eflags[e];
  if (flags & MAP_ENTRY_IN_TRANSITION || (entry.protection[e] & prot) !== prot) return false;
  if ((flags & MAP_ENTRY_NOFAULT) === 0) return true;
  for (let at = from; at < end; at++) if (pmap_extract(kernel_pmap(), at) === 0) return false;
  return true;
}
