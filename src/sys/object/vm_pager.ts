/*
 * vm_pager: where the contents of a page come from that is not in memory.
 *
 *      DEFAULT   nowhere: the caller looks further down the chain, at last it fills with zeros
 *      PHYS      zeros
 *      DEVICE    nothing is ever missing: a lookup finds all that a device has (vm_device.ts)
 *      DEAD      nothing is there any more
 *
 * Who needs page `i` of an object and does not find it asks whether the pager has it, makes a
 * page, busy, and has it filled:
 *
 *      m = object_page(o, i)                      found: that is it
 *      vm_pager_has_page(o, i)                    no: the object below, or zeros
 *      m = object_page_alloc(o, i, 0)
 *      vm_pager_get_pages(o, i, m)                OK: m has contents, clean; it is busy still
 *
 * With any result but OK the page has no contents: the caller frees it.  A pager that waits
 * for its store notes that it pages in the object (object_pip_add), lets go of the lock, and
 * has it again when it returns.  The page is busy meanwhile, so that nobody else asks for it.
 */
import { opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
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
import { mtx_assert } from '../sync/kern_mutex.ts';
import { pmap_zero_page } from '../page/vm_page.ts';
import { object_page_filled } from './vm_object_page.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const opt = opt_;
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

/** What a type of objects is filled by; the object is locked. */
export interface Pager {
  /** Whether it has contents for page `i`, which lies inside the object. */
  has(o: vm_object_t, i: number): boolean;
  /** Fills page m, which is page `i` and busy by this CPU. VM_PAGER_*. */
  get(o: vm_object_t, i: number, m: number): number;
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
