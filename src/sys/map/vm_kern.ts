/*
 * vm_kern: kernel addresses beyond the memory are given out, filled, and taken back.
 *
 *      kmem_alloc           pages of zeros that stay, side by side in addresses if not in memory
 *      kmem_malloc          the same for malloc, whose flags say what may be waited for
 *      kmem_alloc_placed    pages side by side in memory, too, where the caller says (memguard.ts)
 *      kmem_alloc_nofault   addresses alone: a touch is an error of the kernel
 *      uvm_km_valloc1       addresses whose pages come, as zeros, when they are touched
 *      kmem_free            all of these go back
 *      kmem_suballoc        a map of its own for a part of them (waited for: vm_kern_wait.ts)
 *
 * An entry of kernel_map is what one call gave: entries are not merged, so that giving one back
 * needs no memory, and neither does a map that must grow when there is none: its entries come from
 * a zone that reclaims nothing and of which KMAP_ENTRIES_KEPT items are kept aside.
 *
 * Whose is it.  An entry that a thread fills or empties is in transition, with its tid, and all
 * that is done to its pages is done with the map let go.  One section makes it the caller's, one
 * takes it back; what the caller wants to change with that, a count of its own for one, changes in
 * the same section.  If the thread dies, its entries in transition are emptied (kmem_reap); what
 * was the program's stays.
 *
 *      reserve ──> in transition ──> pages ──> settle ──> the caller's
 *      kmem_free: the caller's ──> in transition ──> no pages ──> no entry
 *
 * Pages belong to kernel_object or kmem_object, wired once each, and are mapped wired; nobody
 * writes them out, moves or frees them, but for a window, which moves them side by side.  Page
 * tables are the kernel's, shared by all its maps.
 *
 * Locks.  A system map has a mutex (class 'kernel map'), held for no more than a change of its ring
 * or one page.  The allocator is called with it held, so it reclaims nothing then.
 *
 * Read next: vm_kern_fault.ts (translations), vm_kern_wait.ts (maps that are waited for).
 */
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { pcpu as pcpu_, thr as thr_, tid_cpu } from '../machine/cpu.ts';
import { tid_alive } from '../machine/death.ts';
import { EWOULDBLOCK } from '../machine/errno.ts';
import { host_can_block } from '../machine/host.ts';
import { life } from '../machine/life.ts';
import { panic } from '../machine/panic.ts';
import { field_word, NULL } from '../machine/struct.ts';
import { vector } from '../machine/vectors.ts';
import { zone_declared } from '../machine/zone_decl.ts';
import { M_NORECLAIM, M_NOWAIT, M_WAITOK } from '../h/malloc_flags.ts';
import type { pmap_t } from '../h/pmap.ts';
import { UMA_ZONE_NOFREE, type zone_t } from '../h/uma.ts';
import {
  KMAP_ENTRIES_KEPT,
  KVA_BASE,
  KVA_END,
  vm_kern_root,
  type vm_kern_root_t,
} from '../h/vm_kern.ts';
import {
  MAP_ENTRY_IN_TRANSITION,
  MAP_ENTRY_IS_SUB_MAP,
  MAP_ENTRY_KERNEL,
  MAP_ENTRY_NOFAULT,
  VM_INHERIT_NONE,
  VM_MAP_MAX,
  VM_MAP_PAGED,
  VM_MAP_SYSTEM,
  VM_SUPER_PAGES,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  vm_map_root,
  type vm_map_t,
} from '../h/vm_map.ts';
import { OBJT_PHYS, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PG_UNMANAGED, PG_ZERO, VM_ALLOC_SYSTEM, VM_ALLOC_ZERO, vm_page } from '../h/vm_page.ts';
import { VM_PROT_ALL, VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { vm_object_allocate, vm_object_anchor } from '../object/vm_object.ts';
import { object_cluster_alloc } from '../object/vm_object_cluster.ts';
import {
  object_page,
  object_page_alloc,
  object_page_free,
  object_page_next,
  object_page_ready,
  vm_page_sleep_if_busy,
} from '../object/vm_object_page.ts';
import { pmap_zero_page, vm_page_count, vm_wait } from '../page/vm_page.ts';
import { vm_page_zero_ahead } from '../page/vm_page_cache.ts';
import {
  vm_page_owner_wire,
  vm_page_unwire_all,
  vm_page_unwire_kernel,
  vm_page_wire_new,
} from '../page/vm_pageq.ts';
import {
  pmap_enter,
  pmap_enter_kernel,
  pmap_extract,
  pmap_pinit,
  pmap_remove,
} from '../pmap/pmap.ts';
import { mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_KERNEL_MAP } from '../sync/lock_order.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { uma, uma_root } from '../uma/uma_int.ts';
import { item_settle } from '../uma/uma_keg.ts';
import { uma_prealloc, uma_zcreate_nowait, uma_zone_reserve } from '../uma/uma_zone.ts';
import { kern_root, kernel_map_there } from './vm_kern_vars.ts';
import { map_root, vm_map_anchor, vm_map_create, vm_map_lock, vm_map_unlock } from './vm_map.ts';
import {
  entry_create,
  entry_discard,
  entry_link,
  entry_unlink,
  vm_map_clip_end,
  vm_map_clip_start,
} from './vm_map_entry.ts';
import { entry_submap } from './vm_map_insert.ts';
import {
  type Alignment,
  ANYWHERE,
  entry_covers,
  map_header,
  vm_map_findspace,
  vm_map_lookup,
  vm_map_lookup_entry,
} from './vm_map_tree.ts';
import { run_over, windows_settle } from './vm_window.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const thr = thr_;
const pcpu = pcpu_;
const root = vm_kern_root;
const map = vm_map;
const entry = vm_map_entry;
const object = vm_object;
const page = vm_page;

const Z_MAPS = zone_declared('KMAP', 'Maps of kernel addresses');
const Z_ENTRIES = zone_declared('KMAP ENTRY', 'What is where in a map of kernel addresses');
const init = vector('vm_kmap_zinit', (mp: vm_map_t) => {
  mtx_init(map.lock, mp, LC_KERNEL_MAP);
  return 0;
});
/** What a caller changes, and saves, in the section that makes an entry its, or takes it back. */
type Also = (e: vm_map_entry_t) => void;
/** Where n free addresses begin that a request gets, -1: nowhere. The map is locked. */
export type Place = (mp: vm_map_t, n: number) => number;
const lowest =
  (how: Alignment): Place =>
  (mp, n) =>
    vm_map_findspace(mp, 0, n, undefined, how);
const LOWEST = lowest(ANYWHERE);
/** Pages that are made or freed in one hold of the object. */
const BATCH = 16;
/** How often a request that may not sleep reclaims. */
const TRIES = 8;
const WAIT_SLICE_MS = 250;
/** Kernel memory may be read and written. */
const KERNEL_PROT = VM_PROT_READ | VM_PROT_WRITE;

// --- the map, when somebody wants it ------------------------------------------------------------

/** kernel_map, which is made when it is wanted first. NULL: no memory for it. */
export function kernel_map(): vm_map_t {
  const mp = kernel_map_there();
  return mp !== NULL ? mp : kernel_map_make(kern_root());
}
/** Each step is there from the section on that anchors it: after a death the next one goes on. */
function kernel_map_make(r: vm_kern_root_t): vm_map_t {
  mtx_lock(root.lock, r);
  const made = zones_make() && pmap_make(r) && objects_make(r) && map_make(r);
  mtx_unlock(root.lock, r);
  // Who dies before this had a section open, perhaps: nobody believes what it stored.
  if (made) atomic_store(field_word(root.ready, r), 1);
  return kernel_map_there();
}
function zones_make(): boolean {
  const m = map_root();
  const zone = (name: string, of: typeof vm_map_root.system, size: number, extra: object) => {
    // Whoever died while it made the zone is undone by this lock: so its word is not read before.
    mtx_lock(uma_root.lock, uma());
    const there = of[m] !== 0;
    mtx_unlock(uma_root.lock, uma());
    if (there) return true;
    const anchor = field_word(of, m);
    return uma_zcreate_nowait(name, size * 4, { flags: UMA_ZONE_NOFREE, anchor, ...extra }) !== 0;
  };
  if (!zone(Z_MAPS, vm_map_root.system, map.sizeof, { init, align: 63 })) return false;
  if (!zone(Z_ENTRIES, vm_map_root.kentries, entry.sizeof, { align: 31 })) return false;
  const z = vm_map_root.kentries[m] as zone_t;
  uma_zone_reserve(z, KMAP_ENTRIES_KEPT);
  return uma_prealloc(z, KMAP_ENTRIES_KEPT) === 0;
}
function pmap_make(r: vm_kern_root_t): boolean {
  if (root.pmap[r] !== NULL) return true;
  const pm = pmap_pinit();
  if (pm === NULL) return false;
  undo_begin(root.lock, r);
  save(root.pmap, r);
  save(pcpu.in_hand_items, thr.pc);
  root.pmap[r] = pm;
  item_settle();
  undo_end();
  return true;
}
function objects_make(r: vm_kern_root_t): boolean {
  for (const place of [root.object, root.kmem]) {
    if (place[r] !== NULL) continue;
    const o = vm_object_allocate(OBJT_PHYS, KVA_END - KVA_BASE);
    if (o === NULL) return false;
    undo_begin(root.lock, r);
    save(place, r);
    place[r] = o;
    vm_object_anchor(o);
    undo_end();
  }
  return true;
}
function map_make(r: vm_kern_root_t): boolean {
  if (root.map[r] !== NULL) return true;
  // The first one is nobody's: what goes just beyond the memory is found, and the index of an
  // object, which has no node for a first page alone, does not lose and get it again and again.
  const mp = vm_map_create(root.pmap[r], KVA_BASE + 1, KVA_END, VM_MAP_MAX, VM_MAP_SYSTEM);
  if (mp === NULL) return false;
  undo_begin(root.lock, r);
  save(root.map, r);
  root.map[r] = mp;
  vm_map_anchor(mp);
  undo_end();
  return true;
}
/** Translations of kernel addresses. There is a kernel_map. */
export function kernel_pmap(): pmap_t {
  return root.pmap[kern_root()];
}
/** The object of pages that kmem_alloc gives. There is a kernel_map. */
export function kernel_object(): vm_object_t {
  return root.object[kern_root()];
}
/** The object of pages that malloc has beyond the memory. There is a kernel_map. */
export function kmem_object(): vm_object_t {
  return root.kmem[kern_root()];
}

// --- addresses -----------------------------------------------------------------------------------

/** An entry that this thread has in transition, and what it says. */
interface Ours {
  readonly e: vm_map_entry_t;
  readonly start: number;
  readonly end: number;
  readonly o: vm_object_t;
}
/**
 * n addresses of a system map, in transition by this thread: what they show is told by `eflags`
 * and `o`.  null: no place, or no entry.
 */
function reserve(
  mp: vm_map_t,
  n: number,
  eflags: number,
  o: vm_object_t,
  place = LOWEST,
): Ours | null {
  if (n < 1) panic('kmem: no addresses are asked for', n);
  if (map.kind[mp] !== VM_MAP_SYSTEM) panic('kmem: no system map', mp * 4);
  if (atomic_load(field_word(root.orphans, kern_root())) !== 0) orphans_end();
  const e = entry_create(true);
  if (e === NULL) return null;
  vm_map_lock(mp);
  const at = place(mp, n);
  if (at < 0) {
    vm_map_unlock(mp);
    entry_discard(e);
    return null;
  }
  entry.start[e] = at;
  entry.end[e] = at + n;
  entry.eflags[e] |= eflags | MAP_ENTRY_IN_TRANSITION;
  entry.transition[e] = thr.tid;
  entry.protection[e] = KERNEL_PROT;
  entry.max_protection[e] = VM_PROT_ALL;
  entry.inheritance[e] = VM_INHERIT_NONE;
  entry.object[e] = o;
  entry.offset[e] = at - KVA_BASE;
  entry_link(mp, vm_map_lookup_entry(mp, at), e);
  const ours = mine(e);
  vm_map_unlock(mp);
  return ours;
}
/**
 * An entry in transition by this thread is the caller's from here on.  `also` changes, and saves,
 * what is to change with that.  Returns its first page number.
 */
function settle(mp: vm_map_t, { e, start }: Ours, wired: number, also?: Also): number {
  vm_map_lock(mp);
  mine(e);
  undo_begin(map.lock, mp);
  save(entry.eflags, e);
  save(entry.transition, e);
  save(entry.wired_count, e);
  entry.eflags[e] &= ~MAP_ENTRY_IN_TRANSITION;
  entry.transition[e] = 0;
  entry.wired_count[e] = wired;
  also?.(e);
  undo_end();
  vm_map_unlock(mp);
  return start;
}
/** What an entry says that this thread has in transition: it stays so. Its map is locked. */
function mine(e: vm_map_entry_t): Ours {
  if (entry.transition[e] !== thr.tid) panic('kmem: not in transition here', entry.start[e]);
  return { e, start: entry.start[e], end: entry.end[e], o: entry.object[e] };
}
/** The entry at `at`, which this thread has in transition. */
function ours_at(mp: vm_map_t, at: number): Ours {
  vm_map_lock(mp);
  const e = vm_map_lookup(mp, at);
  if (e === NULL) panic('kmem: no entry', at);
  const ours = mine(e);
  vm_map_unlock(mp);
  return ours;
}
/** The entry at `at`, in transition by this thread (kmem_hold), goes with what it shows. */
export function kmem_discard(mp: vm_map_t, at: number): void {
  discard(mp, ours_at(mp, at));
}
/** Takes what an entry shows away, and then the entry, which is in transition here. */
function discard(mp: vm_map_t, { e, start, end, o }: Ours): void {
  if (o !== NULL) pages_free(o, start, end);
  vm_map_lock(mp);
  mine(e);
  entry_unlink(mp, e);
  vm_map_unlock(mp);
}

/** n addresses of a system map that nobody may touch before he maps something there. 0: none. */
export function kmem_alloc_nofault(mp: vm_map_t, n: number, superpage_align = false): number {
  const how = superpage_align ? { align: VM_SUPER_PAGES, phase: 0 } : ANYWHERE;
  const ours = reserve(mp, n, MAP_ENTRY_NOFAULT, NULL as vm_object_t, lowest(how));
  return ours === null ? 0 : settle(mp, ours, 0);
}
/**
 * n addresses of a system map whose pages come when they are touched (vm_kern_fault.ts). 0: none.
 */
export function kmem_alloc_touched(mp: vm_map_t, n: number, how: Alignment = ANYWHERE): number {
  const ours = reserve(mp, n, 0, kernel_object(), lowest(how));
  return ours === null ? 0 : settle(mp, ours, 0);
}
/**
 * A map of n addresses of a system map, with entries and a lock of its own: `kind` VM_MAP_SYSTEM,
 * or VM_MAP_PAGED.  It stays for good.  NULL: no place, or no memory.
 */
export function kmem_suballoc(
  parent: vm_map_t,
  n: number,
  kind: number,
  superpage_align = false,
): vm_map_t {
  if (kind !== VM_MAP_SYSTEM && kind !== VM_MAP_PAGED) panic('kmem_suballoc: kind', kind);
  const how = superpage_align ? { align: VM_SUPER_PAGES, phase: 0 } : ANYWHERE;
  const ours = reserve(parent, n, MAP_ENTRY_NOFAULT, NULL as vm_object_t, lowest(how));
  if (ours === null) return NULL as vm_map_t;
  const { e, start, end } = ours;
  const sub = vm_map_create(kernel_pmap(), start, end, n, kind);
  if (sub === NULL) {
    discard(parent, ours);
    return sub;
  }
  vm_map_lock(parent);
  mine(e);
  undo_begin(map.lock, parent);
  for (const f of [entry.eflags, entry.transition]) save(f, e);
  save(entry.object, e);
  entry.eflags[e] = MAP_ENTRY_KERNEL | MAP_ENTRY_IS_SUB_MAP;
  entry.transition[e] = 0;
  entry.object[e] = sub as number as vm_object_t;
  vm_map_anchor(sub);
  undo_end();
  vm_map_unlock(parent);
  return sub;
}

// --- pages -----------------------------------------------------------------------------------

/** n pages of zeros, wired and mapped, at page number `at`. Returns how many there are now. */
function pages_make(o: vm_object_t, at: number, n: number): number {
  vm_page_zero_ahead();
  mtx_lock(object.lock, o);
  const ms: number[] = [];
  while (ms.length < n) {
    const m = zeros_make(o, at + ms.length);
    if (m === 0) break;
    ms.push(m);
  }
  vm_page_wire_new(ms);
  const made = pmap_enter_kernel(kernel_pmap(), at, ms, KERNEL_PROT);
  for (const m of ms.slice(made)) {
    vm_page_unwire_all(m);
    object_page_free(m, o);
  }
  mtx_unlock(object.lock, o);
  return made;
}
/** A page of zeros for an address, not wired yet. Its object is locked. 0: no memory. */
function zeros_make(o: vm_object_t, at: number): number {
  const m = object_page_alloc(o, at - KVA_BASE, VM_ALLOC_SYSTEM | VM_ALLOC_ZERO);
  if (m === 0) return 0;
  if ((page.flags[m] & PG_ZERO) === 0) pmap_zero_page(m);
  object_page_ready(m, o);
  return m;
}
/**
 * The same side by side in memory, as many of them as there is a run for: the others are made one
 * by one.  `whole`: all of them, or none.
 */
function run_make(o: vm_object_t, at: number, n: number, whole: boolean): number {
  mtx_lock(object.lock, o);
  const ms = object_cluster_alloc(o, at - KVA_BASE, 0, n - 1, whole);
  let i = 0;
  for (const m of ms) {
    page.flags[m] |= PG_UNMANAGED;
    vm_page_owner_wire(m);
    pmap_zero_page(m);
    object_page_ready(m, o);
    if (i >= 0) i = pmap_enter(kernel_pmap(), at + i, m, KERNEL_PROT, true) ? i + 1 : -1;
  }
  mtx_unlock(object.lock, o);
  return i;
}
/** The page of memory where what n addresses show lies in one piece; 0: it does not. */
export function kmem_run(at: number, n: number): number {
  const first = pmap_extract(kernel_pmap(), at);
  for (let i = 1; i < n; i++) if (pmap_extract(kernel_pmap(), at + i) !== first + i) return 0;
  return first;
}
/** One such page, where there is none. Its object is locked. 0: no memory. */
export function kern_page_make(o: vm_object_t, at: number, access = 0): number {
  const m = zeros_make(o, at);
  if (m === 0) return 0;
  vm_page_owner_wire(m);
  if (pmap_enter(kernel_pmap(), at, m, KERNEL_PROT, true, access)) return m;
  vm_page_unwire_all(m);
  object_page_free(m, o);
  return 0;
}
/** Frees the pages that addresses from `start` up to `end` show. It may sleep. */
function pages_free(o: vm_object_t, start: number, end: number): void {
  pmap_remove(kernel_pmap(), start, end);
  const last = end - KVA_BASE;
  mtx_lock(object.lock, o);
  for (let i = start - KVA_BASE; i < last; ) {
    const ms = idle_pages(o, i, last);
    if (ms.length === 0) break;
    i = page.index[ms[ms.length - 1]] + 1;
    vm_page_unwire_kernel(ms);
    for (const m of ms) object_page_free(m, o);
    if (i === last) break;
    mtx_unlock(object.lock, o);
    mtx_lock(object.lock, o);
  }
  mtx_unlock(object.lock, o);
}
/** The next pages of an object that there are, not too many. Waits for those that are busy. */
function idle_pages(o: vm_object_t, first: number, last: number): number[] {
  const ms: number[] = [];
  for (let i = first; i < last && ms.length < BATCH; ) {
    const m = object_page(o, i) || object_page_next(o, i);
    if (m === 0 || page.index[m] >= last) break;
    if (vm_page_sleep_if_busy(m, o)) {
      ms.length = 0; // it was let go of
      i = first;
    } else {
      ms.push(m);
      i = page.index[m] + 1;
    }
  }
  return ms;
}
/**
 * Nothing more is to be had: gets memory back as far as `flags` allow.  False: the request fails.
 * `tries` counts those that found something and yet not enough.
 */
export function kmem_shortage(flags: number, tries: number): boolean {
  if (flags & M_NORECLAIM) return false;
  const wait = (flags & M_WAITOK) !== 0;
  if ((wait || tries < TRIES) && life.reclaim(wait) > 0) return true;
  if (!wait || !host_can_block()) return false;
  const error = vm_wait(WAIT_SLICE_MS);
  return error === 0 || error === EWOULDBLOCK;
}

/**
 * n pages of zeros of an object of the kernel.  `also` changes what is to change when they become
 * the caller's.  The first page number; 0: none.
 */
function alloc(
  mp: vm_map_t,
  n: number,
  flags: number,
  o: vm_object_t,
  also?: Also,
  run = false,
): number {
  if (n > vm_page_count()) return 0; // to wait would never help
  let ours = reserve(mp, n, 0, o);
  for (let tries = 0; ours === null && tries < TRIES; tries++) {
    if (!kmem_shortage((flags & ~M_WAITOK) | M_NOWAIT, tries)) return 0;
    ours = reserve(mp, n, 0, o);
  }
  if (ours === null) return 0;
  const at = ours.start;
  const made = run ? run_make(o, at, n, false) : 0;
  if (made < 0) {
    discard(mp, ours); // no memory for a page table
    return 0;
  }
  for (let done = made, tries = 0; done < n; ) {
    const got = pages_make(o, at + done, Math.min(BATCH, n - done));
    done += got;
    if (got > 0) tries = 0;
    else if (!kmem_shortage(flags, tries++)) {
      discard(mp, ours);
      return 0;
    }
  }
  return settle(mp, ours, 1, also);
}
/** n pages of zeros at addresses of a system map, side by side. May sleep. 0: none. */
export function kmem_alloc(mp: vm_map_t, n: number): number {
  return alloc(mp, n, M_WAITOK, kernel_object());
}
/** The same, side by side in memory, too, if there is a run of free pages. `flags` as malloc's. */
export function kmem_alloc_run(mp: vm_map_t, n: number, flags: number): number {
  return alloc(mp, n, flags, kernel_object(), undefined, true);
}
/**
 * n pages of zeros, side by side in memory, at addresses that `place` finds.  Memory is reclaimed
 * for it once, if `flags` allow that.  0: no such place, or no such pages.
 */
export function kmem_alloc_placed(
  mp: vm_map_t,
  n: number,
  flags: number,
  place: Place,
  also: Also,
): number {
  const o = kernel_object();
  const ours = n > vm_page_count() ? null : reserve(mp, n, 0, o, place);
  if (ours === null) return 0;
  let made = run_make(o, ours.start, n, true);
  const more = made === 0 && kmem_shortage((flags & ~M_WAITOK) | M_NOWAIT, 0);
  if (more) made = run_make(o, ours.start, n, true);
  if (made === n) return settle(mp, ours, 1, also);
  discard(mp, ours);
  return 0;
}
/** The same for malloc: `flags` are its. */
export function kmem_malloc(mp: vm_map_t, n: number, flags: number, also?: Also): number {
  return alloc(mp, n, flags, kmem_object(), also);
}

/**
 * What `look` says of the entry of kernel_map that kmem_malloc gave at page number `at`; 0: none
 * begins there.
 */
export function kmem_block(at: number, look: (e: vm_map_entry_t) => number): number {
  const mp = kernel_map_there();
  if (mp === NULL) return 0;
  vm_map_lock(mp);
  const e = vm_map_lookup(mp, at);
  const is = e !== NULL && entry.start[e] === at && entry.object[e] === kmem_object();
  const found = is && entry.transition[e] === 0 ? look(e) : 0;
  vm_map_unlock(mp);
  return found;
}

/** Whether pages from `first` to before `end` are of one block that kmem_malloc gave. */
export function kmem_inside(first: number, end: number): boolean {
  const mp = kernel_map_there();
  if (mp === NULL) return false;
  vm_map_lock(mp);
  const e = vm_map_lookup(mp, first);
  const is = e !== NULL && entry.end[e] >= end && entry.object[e] === kmem_object();
  const inside = is && entry.transition[e] === 0;
  vm_map_unlock(mp);
  return inside;
}

// --- and back --------------------------------------------------------------------------------

/**
 * Gives n addresses of a system map back, whatever they show: what one call gave, or several, or a
 * part of one.  `also` changes what is to change when they are the caller's no more.  False: a
 * part was to be cut off, and there was no entry for the rest, or a window is open there: nothing
 * of that part has changed.
 */
export function kmem_free(mp: vm_map_t, at: number, n: number, also?: Also): boolean {
  const end = at + n;
  for (let from = at; from < end; ) {
    const ours = take_back(mp, from, end, from === at ? also : undefined);
    if (ours === null) return false;
    from = ours.end;
    discard(mp, ours);
  }
  return true;
}
/**
 * The entry at `from`, cut at `end`, is in transition by this thread.  null: it could not be cut,
 * or is under a window.
 */
function take_back(mp: vm_map_t, from: number, end: number, also?: Also): Ours | null {
  vm_map_lock(mp);
  while (windows_settle(mp, from, end)); // of the dead
  const e = vm_map_lookup_entry(mp, from);
  if (!entry_covers(mp, e, from)) panic('kmem_free: nothing was allocated there', from);
  if (entry.eflags[e] & (MAP_ENTRY_IN_TRANSITION | MAP_ENTRY_IS_SUB_MAP)) {
    panic('kmem_free: not to be freed', from, entry.eflags[e]);
  }
  const free = run_over(mp, from, Math.min(end, entry.end[e])) === NULL;
  const cut = free && vm_map_clip_start(mp, e, from) && vm_map_clip_end(mp, e, end);
  if (cut) kmem_hold(mp, e, also);
  const ours = cut ? mine(e) : null;
  vm_map_unlock(mp);
  return ours;
}

/**
 * The entry e is in transition by this thread, from the section on in which `also` changes, too.
 * The map is locked.
 */
export function kmem_hold(mp: vm_map_t, e: vm_map_entry_t, also?: Also): void {
  undo_begin(map.lock, mp);
  save(entry.eflags, e);
  save(entry.transition, e);
  entry.eflags[e] |= MAP_ENTRY_IN_TRANSITION;
  entry.transition[e] = thr.tid;
  also?.(e);
  undo_end();
}

// --- deaths ------------------------------------------------------------------------------------

/** kernel_map and all system maps in it. There is a kernel_map. */
export function system_maps(): vm_map_t[] {
  const all = [root.map[kern_root()]];
  for (const mp of all) {
    const header = map_header(mp);
    vm_map_lock(mp);
    for (let e = entry.next[header]; e !== header; e = entry.next[e]) {
      const sub = entry_submap(e);
      if (sub !== NULL && map.kind[sub] === VM_MAP_SYSTEM) all.push(sub);
    }
    vm_map_unlock(mp);
  }
  return all;
}
/** What a dead CPU was filling or emptying is free. For the death table (vm_kern_vars.ts). */
export function kmem_reap(cpu: number): void {
  // An heir looks for what those before it on its slot had.
  entries_of((tid) => tid_cpu(tid) === cpu && tid !== thr.tid);
}
/** The same for deaths that were found by threads with the core alone. */
function orphans_end(): void {
  atomic_store(field_word(root.orphans, kern_root()), 0);
  entries_of((tid) => !tid_alive(tid));
}
function entries_of(is_gone: (tid: number) => boolean): void {
  for (const mp of system_maps()) {
    for (let e = adopt(mp, is_gone); e !== null; e = adopt(mp, is_gone)) discard(mp, e);
  }
}
/**
 * An entry in transition by somebody who is gone is so by this thread.  null: there is none.
 */
function adopt(mp: vm_map_t, is_gone: (tid: number) => boolean): Ours | null {
  const header = map_header(mp);
  vm_map_lock(mp);
  let e = entry.next[header];
  while (e !== header && (entry.transition[e] === 0 || !is_gone(entry.transition[e]))) {
    e = entry.next[e];
  }
  if (e !== header) {
    undo_begin(map.lock, mp);
    save(entry.transition, e);
    entry.transition[e] = thr.tid;
    undo_end();
  }
  const ours = e === header ? null : mine(e);
  vm_map_unlock(mp);
  return ours;
}
