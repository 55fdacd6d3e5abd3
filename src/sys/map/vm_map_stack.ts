/*
 * vm_map_stack: memory that grows when it is used beyond its edge.
 *
 *      lowest it may have                    top
 *      |  hole, kept free when it is made  | page page page |     grows down
 *
 * A stack is mapped in part: what it may grow by must be free when it is made, but is not
 * reserved.  A fault beside it makes it grow by some pages at least (kern.sgrowsiz), as far as
 * the hole, what it may have at most, and the limits allow; one page stays free between it and
 * what is mapped there (security.bsd.stack_guard_page).
 *
 * Growing down adds an entry below, to which the right to grow moves on.  Its pages have the
 * protection with which the stack was made, as far as they still may, whatever was done to
 * those that are there; BSD up to 8 gave them the one that all stacks begin with.  Growing up
 * makes the entry longer: new pages are like the last one.  What is locked does not become longer,
 * it gets an entry above instead; where all that is mapped is to be locked, the new pages are.
 */
import { NULL } from '../machine/struct.ts';
import { sysctl_get, sysctl_uint } from '../machine/sysctl_decl.ts';
import {
  KERN_INVALID_ADDRESS,
  KERN_INVALID_ARGUMENT,
  KERN_NO_SPACE,
  KERN_SUCCESS,
  MAP_ENTRY_GROWS_DOWN,
  MAP_ENTRY_GROWS_UP,
  MAP_ENTRY_IN_TRANSITION,
  MAP_STACK_GROWS_DOWN,
  MAP_STACK_GROWS_UP,
  VM_MAP_WIRE_HOLESOK,
  VM_MAP_WIRE_USER,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import { vm_object_coalesce } from '../object/vm_object_chain.ts';
import type { vm_object_t } from '../h/vm_object.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { vm_map_lock, vm_map_unlock } from './vm_map.ts';
import { entry_grow, vm_map_simplify_entry } from './vm_map_entry.ts';
import { type Mapping, range_free, vm_map_fixed_locked, vm_map_insert } from './vm_map_insert.ts';
import { entry_covers, map_header, vm_map_lookup_entry } from './vm_map_tree.ts';
import { vm_map_wire } from './vm_map_wire.ts';

const map = vm_map;
const entry = vm_map_entry;
const PAGE_BYTES = 4096;
const NOTHING = NULL as vm_object_t;

const sgrowsiz = sysctl_uint('kern.sgrowsiz', {
  value: 128 * 1024,
  min: PAGE_BYTES,
  unit: 'bytes',
  help: 'How much a stack grows by at least',
});
const guard_page = sysctl_uint('security.bsd.stack_guard_page', {
  value: 1,
  max: 1,
  help: 'Whether a page stays free between a stack that grows and what is mapped there',
});
const step_pages = (): number => Math.ceil(sysctl_get(sgrowsiz) / PAGE_BYTES);

/**
 * Makes a stack of at most `pages` pages from `start` on, which grows as `cow` says
 * (MAP_STACK_GROWS_*): down, up, or both ways from the middle.  Answers with a KERN_* code.
 */
export function vm_map_stack(
  mp: vm_map_t,
  start: number,
  pages: number,
  protection: number,
  max_protection: number,
  cow: number,
): number {
  if ((cow & (MAP_STACK_GROWS_DOWN | MAP_STACK_GROWS_UP)) === 0) return KERN_INVALID_ARGUMENT;
  vm_map_lock(mp);
  const what = { object: NOTHING, offset: 0, protection, max_protection, cow };
  const result = vm_map_stack_locked(mp, start, pages, what, false);
  vm_map_unlock(mp);
  return result;
}
/**
 * The same for a map that is locked exclusively; with `replace` it takes the place of what is
 * there, and the map may be let go of and locked again.
 */
export function vm_map_stack_locked(
  mp: vm_map_t,
  start: number,
  pages: number,
  what: Mapping,
  replace: boolean,
): number {
  const down = (what.cow & MAP_STACK_GROWS_DOWN) !== 0;
  const up = (what.cow & MAP_STACK_GROWS_UP) !== 0;
  const first = Math.min(pages, step_pages());
  const rest = pages - first;
  const at = start + (down ? (up ? rest >> 1 : rest) : 0);
  const stack = { ...what, grows: rest };
  if (replace) return vm_map_fixed_locked(mp, start, start + pages, stack, at, at + first);
  const free = range_free(mp, start, start + pages);
  if (free === KERN_INVALID_ADDRESS) return KERN_NO_SPACE;
  return free === KERN_SUCCESS ? vm_map_insert(mp, at, at + first, stack) : free;
}

/** How far stacks may grow, in pages. */
export interface StackLimits {
  /** The stack of the process. */
  readonly stack: number;
}
/**
 * A fault at page `vpn`, where nothing is mapped: the stack beside it grows so far, if there is
 * one and it may.  KERN_SUCCESS also where there is none, or where the page is mapped by now:
 * the fault is tried again, and fails by itself.
 */
export function vm_map_growstack(
  mp: vm_map_t,
  vpn: number,
  limits: StackLimits = { stack: map.slimit[mp] },
): number {
  vm_map_lock(mp);
  const below = vm_map_lookup_entry(mp, vpn);
  const grown = { start: 0, end: 0 };
  const result = entry_covers(mp, below, vpn) ? KERN_SUCCESS : grow(mp, vpn, below, limits, grown);
  vm_map_unlock(mp);
  if (map.wire_future[mp] !== 0 && grown.end > grown.start) {
    // errno: a page that cannot be had now is faulted in when it is used
    vm_map_wire(mp, grown.start, grown.end, VM_MAP_WIRE_USER | VM_MAP_WIRE_HOLESOK);
  }
  return result;
}
function grow(
  mp: vm_map_t,
  vpn: number,
  below: vm_map_entry_t,
  limits: StackLimits,
  grown: { start: number; end: number },
): number {
  const header = map_header(mp);
  const above = entry.next[below];
  const grows_up = below !== header && (entry.eflags[below] & MAP_ENTRY_GROWS_UP) !== 0;
  const grows_down = above !== header && (entry.eflags[above] & MAP_ENTRY_GROWS_DOWN) !== 0;
  if (!grows_up && !grows_down) return KERN_SUCCESS;
  // Of two stacks the nearer one grows; as near, the one below.
  const to_above = entry.start[above] - vpn;
  const to_below = vpn + 1 - entry.end[below];
  const up = grows_up && (!grows_down || to_below <= to_above);
  const e = up ? below : above;
  const need = up ? to_below : to_above;
  if (need > entry.avail_ssize[e]) return KERN_NO_SPACE;
  const neighbour = up ? above !== header : below !== header;
  const hole = entry.adj_free[below] - (neighbour ? sysctl_get(guard_page) : 0);
  if (need > hole) {
    set_avail(mp, e, Math.max(hole, 0));
    return KERN_NO_SPACE;
  }
  const process = map.maxsaddr[mp] !== 0 && vpn >= map.maxsaddr[mp];
  const left = process ? limits.stack - map.ssize[mp] : Number.POSITIVE_INFINITY;
  const locked = map.wire_future[mp] !== 0; // what is mapped from here on
  const room = Math.min(
    map.limit[mp] - map.size[mp],
    locked ? map.wire_limit[mp] - map.wired[mp] : Number.POSITIVE_INFINITY,
  );
  if (need > left || need > room) return KERN_NO_SPACE;
  const wanted = Math.ceil(need / step_pages()) * step_pages();
  const n = Math.min(wanted, entry.avail_ssize[e], hole, left, room);
  const edge = up ? entry.end[e] : entry.start[e] - n;
  const alone =
    up && entry.wired_count[e] === 0 && (entry.eflags[e] & MAP_ENTRY_IN_TRANSITION) === 0;
  const result = alone ? grow_up(mp, e, n) : grow_beside(mp, e, n, up);
  if (result === KERN_SUCCESS) [grown.start, grown.end] = [edge, edge + n];
  if (result === KERN_SUCCESS && process) {
    undo_begin(map.lock, mp);
    save(map.ssize, mp);
    map.ssize[mp] += n;
    undo_end();
  }
  return result;
}
function set_avail(mp: vm_map_t, e: vm_map_entry_t, pages: number): void {
  undo_begin(map.lock, mp);
  save(entry.avail_ssize, e);
  entry.avail_ssize[e] = pages;
  undo_end();
}
/**
 * An entry of n pages below the stack, or above it; it is the one that grows that way from here on.
 */
function grow_beside(mp: vm_map_t, e: vm_map_entry_t, n: number, up: boolean): number {
  const [grows, other] = up
    ? [MAP_ENTRY_GROWS_UP, MAP_ENTRY_GROWS_DOWN]
    : [MAP_ENTRY_GROWS_DOWN, MAP_ENTRY_GROWS_UP];
  const both = (entry.eflags[e] & other) !== 0;
  const what = {
    object: NOTHING,
    offset: 0,
    protection: entry.grow_prot[e] & entry.max_protection[e],
    max_protection: entry.max_protection[e],
    cow: up ? MAP_STACK_GROWS_UP : MAP_STACK_GROWS_DOWN,
    grows: entry.avail_ssize[e] - n,
  };
  const at = up ? entry.end[e] : entry.start[e] - n;
  const result = vm_map_insert(mp, at, at + n, what);
  if (result !== KERN_SUCCESS) return result;
  const made = up ? entry.next[e] : entry.prev[e];
  undo_begin(map.lock, mp);
  save(entry.eflags, e);
  save(entry.avail_ssize, e);
  save(entry.inheritance, made);
  entry.eflags[e] &= ~grows;
  entry.avail_ssize[e] = both ? entry.avail_ssize[e] - n : 0;
  entry.inheritance[made] = entry.inheritance[e];
  undo_end();
  vm_map_simplify_entry(mp, e);
  return KERN_SUCCESS;
}
/** The stack becomes n pages longer. */
function grow_up(mp: vm_map_t, e: vm_map_entry_t, n: number): number {
  const o = entry.object[e];
  const end = entry.offset[e] + entry.end[e] - entry.start[e];
  if (o !== NULL && !vm_object_coalesce(o, end, n)) return KERN_NO_SPACE;
  set_avail(mp, e, entry.avail_ssize[e] - n);
  entry_grow(mp, e, entry.end[e] + n);
  return KERN_SUCCESS;
}
