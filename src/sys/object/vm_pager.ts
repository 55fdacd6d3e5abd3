/*
 * vm_pager: where the contents of a page come from that is not in memory, and where they go.
 *
 *      DEFAULT   nowhere: the caller looks further down the chain, at last it fills with zeros
 *      SWAP      the swap area (swap_pager.ts)
 *      VNODE     a file (vnode_pager.ts)
 *      PHYS      zeros
 *      DEVICE    nothing is ever missing: a lookup finds all that a device has (vm_device.ts)
 *      DEAD      nothing is there any more
 *
 * A thread that needs page `i` of an object and does not find it asks whether the pager has it, and
 * has it brought in, perhaps with neighbours that lie beside it in the store (a cluster):
 *
 *      m = object_page(o, i)                      found: that is it
 *      vm_pager_has_page(o, i)                    no: the object below, or zeros
 *      vm_pager_page_in(o, i, most)               OK: it was there a moment ago; look again
 *
 * The pages of a cluster are made, busy; then, with paging in progress in the object, its lock let
 * go of and the CPU parked, the pager reads; then those that were read have contents, clean.
 * After an error none has: they go, and the store has what it had.  A thread that dies meanwhile
 * leaves pages without contents, which is the same.
 *
 * How they go out is told in vm_launder.ts.
 */
import { EAGAIN } from '../machine/errno.ts';
import { mem as mem_, PAGE_SIZE } from '../machine/memory.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { CTLFLAG_RWTUN, sysctl_get, sysctl_int } from '../machine/sysctl_decl.ts';
import {
  OBJ_DEAD,
  OBJT_DEAD,
  OBJT_DEFAULT,
  OBJT_DEVICE,
  OBJT_PHYS,
  vm_object,
  type vm_object_t,
} from '../h/vm_object.ts';
import { PG_ZERO, vm_page } from '../h/vm_page.ts';
import { mtx_assert, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { pmap_zero_page, vm_page_count_min } from '../page/vm_page.ts';
import { object_pip_add, object_pip_done } from './vm_object.ts';
import { object_cluster_alloc, object_cluster_came } from './vm_object_cluster.ts';
import {
  object_page_alloc,
  object_page_filled,
  object_page_free,
  object_page_seen,
  object_page_wakeup,
} from './vm_object_page.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const opt = opt_;
const mem = mem_;
const object = vm_object;
const page = vm_page;

/* What a pager says. */
export const VM_PAGER_OK = 0;
/** Outside the object, or it is dead: no page is there. */
export const VM_PAGER_BAD = 1;
/** Inside it, but the pager has nothing. */
export const VM_PAGER_FAIL = 2;
/** It has the data and cannot get at it: an error of its store. */
export const VM_PAGER_ERROR = 4;

/** Most pages that are written at once. */
export const CLUSTER = 16;
const reserv_order = sysctl_int('vm.reserv.order', {
  value: 4,
  min: 0,
  max: 10,
  flags: CTLFLAG_RWTUN,
  help:
    'Pages of a store that come together, and for which a run is set aside, as a power of two: ' +
    'windows find so many side by side (superpages have runs of 2^10, whatever it is)',
});
/** So many pages are read around the one that is wanted. */
export function cluster_pages(): number {
  return 1 << sysctl_get(reserv_order);
}
/** Beside VM_PAGER_*: no memory for the page. */
export const VM_PAGER_NOMEM = -1;

/** What a type of objects is filled by. */
export interface Pager {
  /** Whether it has contents for page `i`, which lies inside the object. The object is locked. */
  has(o: vm_object_t, i: number): boolean;
  /** Fills page m, which is page `i` and busy by this CPU. VM_PAGER_*. The object is locked. */
  get(o: vm_object_t, i: number, m: number): number;
  /** Whether no page `i` is to be seen, nor one of an object below. The object is locked. */
  beyond?(o: vm_object_t, i: number): boolean;
  /** Where its contents lie, if it has a store: see Backing. */
  readonly store?: Backing;
}
/** The store behind a pager. */
export interface Backing {
  /**
   * How many pages from number `i` on, at most `n`, lie side by side in the store, upwards or, with
   * `step` -1, downwards.  Page `i` itself is there.  The object is locked.
   */
  side(o: vm_object_t, i: number, n: number, step: 1 | -1): number;
  /**
   * Reads pages `ms`, which lie side by side there.  0, or an errno: EAGAIN, what there is to read
   * has changed, and is to be looked up again.  Nothing is locked, parked.
   */
  bring(o: vm_object_t, ms: readonly number[]): number;
  /**
   * Makes room for writing pages `ms`, which follow each other in the object.  How many, from the
   * first on, may be written; minus an errno: none.  The object is locked.
   */
  room(o: vm_object_t, ms: readonly number[]): number;
  /** Writes them. 0, or an errno. Nothing is locked, parked. */
  send(o: vm_object_t, ms: readonly number[]): number;
  /** In the section in which page m becomes clean: the next of those that were written. */
  written(o: vm_object_t, m: number): void;
  /** Whether page m may become clean before what came before it is settled. */
  joins(m: number): boolean;
  /** Before a page that does not join; with `last` after all, and after a write that failed. */
  settle(o: vm_object_t, last: boolean): void;
}
const nothing = (code: number): Pager => ({ has: () => false, get: () => code });
/** By OBJT_*: the same in every thread. */
export const pagers = new Map<number, Pager>([
  [OBJT_DEFAULT, nothing(VM_PAGER_FAIL)],
  [OBJT_DEVICE, nothing(VM_PAGER_FAIL)],
  [OBJT_DEAD, nothing(VM_PAGER_BAD)],
  [OBJT_PHYS, { has: () => true, get: (_o, _i, m) => zeros(m) }],
]);
function zeros(m: number): number {
  if ((page.flags[m] & PG_ZERO) === 0) pmap_zero_page(m);
  return VM_PAGER_OK;
}
function pager_of(o: vm_object_t): Pager {
  const pager = pagers.get(object.type[o]);
  if (pager === undefined) panic('vm_pager: no pager for objects of type', object.type[o]);
  return pager;
}
/** Whether page `i` of the object lies inside it, and the object is not dead. */
function inside(o: vm_object_t, i: number): boolean {
  return i >= 0 && i < object.size[o] && (object.flags[o] & OBJ_DEAD) === 0;
}

/** Whether the object's pager has contents for page `i`. Locked. */
export function vm_pager_has_page(o: vm_object_t, i: number): boolean {
  if (opt.INVARIANTS) mtx_assert(object.lock, o);
  if (object.type[o] === OBJT_DEFAULT) return false; // most are, and have nothing elsewhere
  return inside(o, i) && pager_of(o).has(o, i);
}
/**
 * Whether page `i`, which the object has not, is not to be seen at all: it lies behind the end of a
 * file.  Locked.
 */
export function vm_pager_beyond(o: vm_object_t, i: number): boolean {
  return pager_of(o).beyond?.(o, i) ?? false;
}
/**
 * Brings page `i` of the object in, whose pager has it and which is not in memory, and up to `most`
 * pages in all: around it or, with `ahead`, behind it.  VM_PAGER_*; the page may be gone again when
 * this returns.  The object is locked, and was let go of.
 */
export function vm_pager_page_in(o: vm_object_t, i: number, most: number, ahead = false): number {
  if (opt.INVARIANTS) mtx_assert(object.lock, o);
  if (!inside(o, i)) return VM_PAGER_BAD;
  const { store } = pager_of(o);
  if (store) return store_page_in(store, o, i, most, ahead);
  const m = object_page_alloc(o, i, 0);
  if (m === 0) return VM_PAGER_NOMEM;
  const got = vm_pager_get_pages(o, i, m);
  if (got === VM_PAGER_OK) object_page_wakeup(m, o);
  else object_page_free(m, o);
  return got;
}
/**
 * The same for page `i` of an object to which a chain leads that stays; it may be in memory by now.
 * The caller holds no lock of an object.
 */
export function vm_object_page_in(o: vm_object_t, i: number): number {
  mtx_lock(object.lock, o);
  const away = object_page_seen(o, i) === 0 && vm_pager_has_page(o, i);
  const got = away ? vm_pager_page_in(o, i, 1) : VM_PAGER_OK;
  mtx_unlock(object.lock, o);
  return got;
}
function store_page_in(
  store: Backing,
  o: vm_object_t,
  i: number,
  most: number,
  ahead: boolean,
): number {
  const ms = cluster(store, o, i, most, ahead);
  if (ms.length === 0) return VM_PAGER_NOMEM;
  const first = page.index[ms[0]];
  const error = store_read(store, o, ms);
  const gone = (object.flags[o] & OBJ_DEAD) !== 0 || object.type[o] === OBJT_DEAD;
  if (error !== 0 || gone) for (const m of ms) object_page_free(m, o);
  else object_cluster_came(o, ms, ms[i - first]);
  pager_came.pages = error !== 0 || gone ? 0 : first + ms.length - i;
  if (gone) return VM_PAGER_BAD;
  if (error !== 0) pager_error.errno = error;
  return error === 0 || error === EAGAIN ? VM_PAGER_OK : VM_PAGER_ERROR;
}
/** Of this thread: the errno of the store with which VM_PAGER_ERROR came last. */
export const pager_error = { errno: 0 };
/** Of this thread: pages that the last vm_pager_page_in brought in, from the wanted one on. */
export const pager_came = { pages: 0 };
/** Has busy pages read, with the object unlocked meanwhile. */
function store_read(store: Backing, o: vm_object_t, ms: readonly number[]): number {
  object_pip_add(o);
  mtx_unlock(object.lock, o);
  const error = store.bring(o, ms);
  mtx_lock(object.lock, o);
  object_pip_done(o);
  return error;
}
/**
 * New pages, busy, for page `i` and those around it that can come with it, in order; empty: no
 * memory.  Few of them, or one alone, where memory is short.  Clusters begin at multiples of their
 * length, so that one ends where the next begins, whichever of its pages is asked for first, and
 * windows find pages side by side.
 */
function cluster(
  store: Backing,
  o: vm_object_t,
  i: number,
  most: number,
  ahead: boolean,
): number[] {
  const spare = vm_page_count_min() ? 1 : most;
  const length = cluster_pages();
  const offset = i % length;
  const reach = ahead ? spare : Math.min(length - offset, spare);
  const up = reach <= 1 ? 1 : store.side(o, i, reach, 1);
  const before = ahead || spare <= up ? 1 : Math.min(offset + 1, spare - up + 1);
  const down = before <= 1 ? 1 : store.side(o, i, before, -1);
  return object_cluster_alloc(o, i, down - 1, up - 1);
}
/** The bytes of pages, as few views as can be: those that lie side by side are one. */
export function page_views(ms: readonly number[]): Uint8Array[] {
  const views: Uint8Array[] = [];
  for (let k = 0; k < ms.length; ) {
    let n = 1;
    while (k + n < ms.length && ms[k + n] === ms[k] + n) n++;
    views.push(mem.U8.subarray(ms[k] * PAGE_SIZE, (ms[k] + n) * PAGE_SIZE));
    k += n;
  }
  return views;
}
/** The `get` of a pager with a store: page m alone. */
export function store_get(store: Backing, o: vm_object_t, m: number): number {
  const error = store_read(store, o, [m]);
  pager_error.errno = error;
  return error === 0 ? VM_PAGER_OK : VM_PAGER_ERROR;
}

/**
 * Fills page m, page `i` of the object, new and busy by this CPU.  VM_PAGER_OK: it has contents
 * that no store lacks.  The object is locked; it may have been let go of meanwhile.
 */
export function vm_pager_get_pages(o: vm_object_t, i: number, m: number): number {
  if (opt.INVARIANTS) mtx_assert(object.lock, o);
  if (!inside(o, i)) return VM_PAGER_BAD;
  const got = pager_of(o).get(o, i, m);
  if (got !== VM_PAGER_OK) return got;
  if ((object.flags[o] & OBJ_DEAD) !== 0 || object.type[o] === OBJT_DEAD) return VM_PAGER_BAD;
  object_page_filled(m, o, false);
  return VM_PAGER_OK;
}
