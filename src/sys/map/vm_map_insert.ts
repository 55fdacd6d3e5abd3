/*
 * vm_map_insert: something new gets its place in a map.
 *
 *      vm_map_insert      there; the map is locked already
 *      vm_map_find        in the hole that suits best
 *      vm_map_fixed       there, in place of what is there, in one hold of the lock
 *      *_locked           the same by callers that have the map locked already
 *      vm_map_submap      a range is looked up in another map
 *
 * Anonymous memory that continues what lies before it becomes part of that: the entry grows,
 * if it is alike, else a new entry shows more of the same object.  So a program that asks for
 * memory piece by piece has few entries and few objects.
 *
 * All answer with a KERN_* code.  Where it is not KERN_SUCCESS nothing has changed, and the
 * reference to the object that the caller had in hand is in hand still; else it is the map's.
 */
import { panic } from '../machine/panic.ts';
import { NULL } from '../machine/struct.ts';
import {
  KERN_INVALID_ADDRESS,
  KERN_INVALID_ARGUMENT,
  KERN_NO_SPACE,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  MAP_COPY_ON_WRITE,
  MAP_DISABLE_COREDUMP,
  MAP_DISABLE_SYNCER,
  MAP_ENTRY_COW,
  MAP_ENTRY_GROWS_DOWN,
  MAP_ENTRY_GROWS_UP,
  MAP_ENTRY_IS_SUB_MAP,
  MAP_ENTRY_NEEDS_COPY,
  MAP_ENTRY_NOCOREDUMP,
  MAP_ENTRY_NOFAULT,
  MAP_ENTRY_NOSYNC,
  MAP_ENTRY_SUPER,
  MAP_NOFAULT,
  MAP_STACK_GROWS_DOWN,
  MAP_STACK_GROWS_UP,
  MAP_SUPERPAGES,
  VM_INHERIT_COPY,
  VM_MAP_MAX,
  VM_SUPER_PAGES,
  VMFS_ALIGNED_SPACE,
  VMFS_NO_SPACE,
  VMFS_OPTIMAL_SPACE,
  VMFS_TOPDOWN_SPACE,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import { OBJ_ONEMAPPING, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { vm_object_reference } from '../object/vm_object.ts';
import { vm_object_coalesce } from '../object/vm_object_chain.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { vm_map_assert_locked, vm_map_lock, vm_map_unlock } from './vm_map.ts';
import {
  entry_create,
  entry_discard,
  entry_grow,
  entry_link,
  vm_map_simplify_entry,
} from './vm_map_entry.ts';
import { vm_map_delete } from './vm_map_range.ts';
import {
  type Alignment,
  ANYWHERE,
  entry_covers,
  map_header,
  vm_map_findspace,
  vm_map_findspace_down,
  vm_map_lookup,
  vm_map_lookup_entry,
} from './vm_map_tree.ts';

const map = vm_map;
const entry = vm_map_entry;
const object = vm_object;

/** What is to be mapped, and how. */
export interface Mapping {
  /** Its reference is in this CPU's hand. NULL: memory that is zero at first. */
  readonly object: vm_object_t;
  readonly offset: number;
  readonly protection: number;
  readonly max_protection: number;
  /** MAP_* */
  readonly cow: number;
  /** Of a stack: pages by which it may grow. */
  readonly grows?: number;
  /** What a fork makes of it: VM_INHERIT_*. Default: a copy. */
  readonly inheritance?: number;
}

/** What stands in `eflags` for the flags of an insertion. */
function flags_of(cow: number): number {
  let flags = 0;
  if (cow & MAP_COPY_ON_WRITE) flags |= MAP_ENTRY_COW | MAP_ENTRY_NEEDS_COPY;
  if (cow & MAP_NOFAULT) flags |= MAP_ENTRY_NOFAULT;
  if (cow & MAP_DISABLE_SYNCER) flags |= MAP_ENTRY_NOSYNC;
  if (cow & MAP_DISABLE_COREDUMP) flags |= MAP_ENTRY_NOCOREDUMP;
  if (cow & MAP_STACK_GROWS_DOWN) flags |= MAP_ENTRY_GROWS_DOWN;
  if (cow & MAP_STACK_GROWS_UP) flags |= MAP_ENTRY_GROWS_UP;
  if (cow & MAP_SUPERPAGES) flags |= MAP_ENTRY_SUPER;
  return flags;
}
/** Whether pages from `start` up to `end` are in the map and free, as a code. */
export function range_free(mp: vm_map_t, start: number, end: number): number {
  const header = map_header(mp);
  if (start < entry.end[header] || end > entry.start[header] || start >= end) {
    return KERN_INVALID_ADDRESS;
  }
  const e = vm_map_lookup_entry(mp, start);
  const free = !entry_covers(mp, e, start) && entry.start[entry.next[e]] >= end;
  return free ? KERN_SUCCESS : KERN_NO_SPACE;
}

// --- insert ------------------------------------------------------------------------------------

/** Maps `what` to the pages from `start` up to `end`. The map is locked exclusively. */
export function vm_map_insert(mp: vm_map_t, start: number, end: number, what: Mapping): number {
  vm_map_assert_locked(mp);
  const free = range_free(mp, start, end);
  if (free !== KERN_SUCCESS) return free;
  const bad = mapping_bad(mp, what, end - start, end - start);
  if (bad !== KERN_SUCCESS) return bad;
  return insert(mp, start, end, what, NULL as vm_map_entry_t);
}
/** What is wrong with a mapping of n pages, `more` than now, wherever it is to be. */
function mapping_bad(mp: vm_map_t, what: Mapping, n: number, more: number): number {
  if (what.cow & MAP_NOFAULT && what.object !== NULL) return KERN_INVALID_ARGUMENT;
  if ((what.protection & ~what.max_protection) !== 0) return KERN_INVALID_ARGUMENT;
  if (what.offset < 0 || what.offset + n > VM_MAP_MAX) return KERN_INVALID_ARGUMENT;
  return map.size[mp] + more > map.limit[mp] ? KERN_NO_SPACE : KERN_SUCCESS;
}
/** The work of it. `spare`: an entry on top of this CPU's hand that may be used; NULL: none. */
function insert(
  mp: vm_map_t,
  start: number,
  end: number,
  what: Mapping,
  spare: vm_map_entry_t,
): number {
  const flags = flags_of(what.cow);
  const stack = (flags & (MAP_ENTRY_GROWS_DOWN | MAP_ENTRY_GROWS_UP)) !== 0;
  const below = vm_map_lookup_entry(mp, start);
  let { object: o, offset } = what;
  let taken = false;
  if (o !== NULL) more_mappings(o);
  else if (!stack && continues(mp, below, start, end - start, flags)) {
    const same =
      entry.protection[below] === what.protection &&
      entry.max_protection[below] === what.max_protection &&
      entry.inheritance[below] === (what.inheritance ?? VM_INHERIT_COPY);
    if (same) {
      if (spare !== NULL) entry_discard(spare);
      entry_grow(mp, below, end);
      vm_map_simplify_entry(mp, below);
      return KERN_SUCCESS;
    }
    o = entry.object[below];
    taken = o !== NULL;
    offset = taken ? entry.offset[below] + start - entry.start[below] : 0;
  } else offset = 0;
  const e = spare !== NULL ? spare : entry_create();
  if (e === NULL) return KERN_RESOURCE_SHORTAGE;
  if (taken) vm_object_reference(o);
  entry_fill(e, start, end, what, flags);
  entry.object[e] = o;
  entry.offset[e] = offset;
  entry_link(mp, below, e);
  if (!stack) vm_map_simplify_entry(mp, e);
  return KERN_SUCCESS;
}
function entry_fill(
  e: vm_map_entry_t,
  start: number,
  end: number,
  what: Mapping,
  flags: number,
): void {
  entry.start[e] = start;
  entry.end[e] = end;
  entry.eflags[e] = flags;
  entry.protection[e] = what.protection;
  entry.max_protection[e] = what.max_protection;
  entry.inheritance[e] = what.inheritance ?? VM_INHERIT_COPY;
  entry.avail_ssize[e] = what.grows ?? 0;
  entry.grow_prot[e] = what.protection;
}
/** An object gets a mapping more: what it was told of having one only may be true no more. */
function more_mappings(o: vm_object_t): void {
  mtx_lock(object.lock, o);
  const one = object.refs[o] === 1 && object.shadow_count[o] === 0;
  if (!one && object.flags[o] & OBJ_ONEMAPPING) {
    undo_begin(object.lock, o);
    save(object.flags, o);
    object.flags[o] &= ~OBJ_ONEMAPPING;
    undo_end();
  }
  mtx_unlock(object.lock, o);
}
/** Whether n pages of new memory at `start` may be more of what the entry before them shows. */
function continues(
  mp: vm_map_t,
  below: vm_map_entry_t,
  start: number,
  n: number,
  flags: number,
): boolean {
  if (below === map_header(mp) || entry.end[below] !== start) return false;
  if (entry.eflags[below] !== flags || entry.wired_count[below] !== 0) return false;
  const o = entry.object[below];
  if (o === NULL) return true;
  const at = entry.offset[below] + start - entry.start[below];
  return at + n <= VM_MAP_MAX && vm_object_coalesce(o, at, n);
}

// --- find --------------------------------------------------------------------------------------

/** Where vm_map_find looks. */
export interface Place {
  /** VMFS_* */
  readonly mode: number;
  /** The place, or from where on to look; top-down, the page before which it is to end. */
  readonly at: number;
  /** It ends at this page at the latest. Default: the map's end. */
  readonly high?: number;
  /** It begins at a multiple of so many pages, a power of two. Default 1. */
  readonly align?: number;
}
/** The page where n pages are free, -1: there is none. The map is locked. */
function place_of(mp: vm_map_t, n: number, what: Mapping, where: Place): number {
  const { mode, at, align = 1 } = where;
  const high = where.high ?? entry.start[map_header(mp)];
  const as_asked: Alignment = align > 1 ? { align, phase: 0 } : ANYWHERE;
  if (mode === VMFS_TOPDOWN_SPACE) {
    return vm_map_findspace_down(mp, Math.min(at, high), n, undefined, as_asked);
  }
  const large = (mode === VMFS_ALIGNED_SPACE || mode === VMFS_OPTIMAL_SPACE) && n >= VM_SUPER_PAGES;
  if (!large || align >= VM_SUPER_PAGES) return vm_map_findspace(mp, at, n, high, as_asked);
  const phase = what.offset & (VM_SUPER_PAGES - 1);
  const found = vm_map_findspace(mp, at, n, high, { align: VM_SUPER_PAGES, phase });
  if (found >= 0 || mode === VMFS_ALIGNED_SPACE) return found;
  return vm_map_findspace(mp, at, n, high, as_asked);
}
/** Maps n pages of `what` where there is place. Returns the first page, or -KERN_*. */
export function vm_map_find(mp: vm_map_t, n: number, what: Mapping, where: Place): number {
  vm_map_lock(mp);
  const { mode, at } = where;
  const start = mode === VMFS_NO_SPACE ? at : n > 0 ? place_of(mp, n, what, where) : at;
  const result = start < 0 ? KERN_NO_SPACE : vm_map_insert(mp, start, start + n, what);
  vm_map_unlock(mp);
  return result === KERN_SUCCESS ? start : -result;
}
/**
 * Maps `what` to the pages from `start` up to `end` in place of what is there, so that nobody
 * sees neither.
 */
export function vm_map_fixed(mp: vm_map_t, start: number, end: number, what: Mapping): number {
  vm_map_lock(mp);
  const result = vm_map_fixed_locked(mp, start, end, what);
  vm_map_unlock(mp);
  return result;
}
/**
 * The same for a map that is locked exclusively, and may be let go of and locked again.  What is
 * mapped may be less than what makes way: it begins at `first` and ends at `last`.
 */
export function vm_map_fixed_locked(
  mp: vm_map_t,
  start: number,
  end: number,
  what: Mapping,
  first = start,
  last = end,
): number {
  if (range_free(mp, start, end) === KERN_INVALID_ADDRESS) return KERN_INVALID_ADDRESS;
  // All that can fail comes before the old mapping goes.
  const n = last - first;
  const bad = mapping_bad(mp, what, n, n - vm_map_mapped(mp, start, end));
  if (bad !== KERN_SUCCESS) return bad;
  const spare = entry_create();
  if (spare === NULL) return KERN_RESOURCE_SHORTAGE;
  const gone = vm_map_delete(mp, start, end);
  if (gone !== KERN_SUCCESS) {
    entry_discard(spare);
    return gone;
  }
  return insert(mp, first, last, what, spare);
}
/** Pages from `start` up to `end` that are mapped. The map is locked in some way. */
export function vm_map_mapped(mp: vm_map_t, start: number, end: number): number {
  const header = map_header(mp);
  let n = 0;
  let e = vm_map_lookup_entry(mp, start);
  if (!entry_covers(mp, e, start)) e = entry.next[e];
  for (; e !== header && entry.start[e] < end; e = entry.next[e]) {
    n += Math.min(end, entry.end[e]) - Math.max(start, entry.start[e]);
  }
  return n;
}

// --- submaps -----------------------------------------------------------------------------------

/**
 * Page faults from `start` up to `end`, exactly one entry without an object, go to the map
 * `sub`.  It must outlive the entry.
 */
export function vm_map_submap(mp: vm_map_t, start: number, end: number, sub: vm_map_t): number {
  if (sub === mp) panic('vm_map_submap: a map in itself', mp * 4);
  vm_map_lock(mp);
  const e = vm_map_lookup(mp, start);
  const fits =
    e !== NULL &&
    entry.start[e] === start &&
    entry.end[e] === end &&
    entry.object[e] === NULL &&
    (entry.eflags[e] & (MAP_ENTRY_COW | MAP_ENTRY_IS_SUB_MAP)) === 0;
  if (fits) {
    undo_begin(map.lock, mp);
    save(entry.eflags, e);
    save(entry.object, e);
    entry.eflags[e] |= MAP_ENTRY_IS_SUB_MAP;
    entry.object[e] = sub as number as vm_object_t;
    undo_end();
  }
  vm_map_unlock(mp);
  return fits ? KERN_SUCCESS : KERN_INVALID_ARGUMENT;
}
/** The map that an entry leads to; NULL: it is no submap. */
export function entry_submap(e: vm_map_entry_t): vm_map_t {
  const is = (entry.eflags[e] & MAP_ENTRY_IS_SUB_MAP) !== 0;
  return (is ? entry.object[e] : NULL) as number as vm_map_t;
}
