/*
 * vm_map_fork: the address space of a process, and a copy of it at one moment.
 *
 *      vmspace_alloc    a map with page tables of its own, in hand
 *      vmspace_fork     another one, of what is mapped in this one, as each entry says:
 *
 *        SHARE   both show the same object from here on
 *        COPY    both show the object that is there, and write to shadows of it of their own
 *        ZERO    memory that is zero
 *        NONE    a hole
 *
 *      vmspace_exec     nothing is mapped any more
 *
 * A space is a map (vm_map.ts): references, and its end, are the map's.
 *
 * One cut.  The copies must be of one moment, while other CPUs go on writing.  So the map is
 * locked, no page that is to be copied may be written to by a translation any more, all CPUs are
 * asked once and have answered; a store that comes after its CPU's answer faults, and waits for
 * the map.  A CPU that does not answer in time: nothing has changed, and the caller may try
 * again.
 *
 * What is wired (vm_map_wire.ts) stays so, and its copy is not: it is copied at once, because a
 * store of the parent's must find nothing to copy.
 *
 * Stores through windows (vm_window.ts) cannot be held up, and go to the page that the window has:
 * what is under a window and may be written to is copied at once, and stays the parent's as it is.
 * Such stores are no part of the cut.
 *
 * What needs memory in the parent, and cannot be left, comes before the cut.  If memory ends in the
 * middle of the copying, the child is given up.  Entries of the parent that are to get shadows stay
 * so: the first write to each finds that nobody else sees its object, and goes on.  The same holds
 * if this thread dies.
 */
import { counter_add } from '../machine/counter.ts';
import { elem, NULL } from '../machine/struct.ts';
import { sysctl_get } from '../machine/sysctl_decl.ts';
import {
  KERN_BUSY,
  KERN_FAILURE,
  KERN_INVALID_ADDRESS,
  KERN_INVALID_ARGUMENT,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  MAP_ENTRY_COW,
  MAP_ENTRY_GROWS_DOWN,
  MAP_ENTRY_GROWS_UP,
  MAP_ENTRY_IN_TRANSITION,
  MAP_ENTRY_IS_SUB_MAP,
  MAP_ENTRY_NEEDS_COPY,
  MAP_ENTRY_NEEDS_WAKEUP,
  MAP_ENTRY_USER_WIRED,
  VM_INHERIT_COPY,
  VM_INHERIT_NONE,
  VM_INHERIT_SHARE,
  VM_INHERIT_ZERO,
  VM_BANKS,
  VM_MAP_MAX,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import { OBJ_ONEMAPPING, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { VM_PROT_WRITE } from '../h/vm_prot.ts';
import { object_anonymous } from '../object/vm_object.ts';
import {
  object_seen,
  vm_object_collapse,
  vm_object_seen,
  vm_object_split_end,
} from '../object/vm_object_chain.ts';
import {
  object_page_alloc,
  object_page_filled,
  object_page_wakeup,
  vm_page_sleep_if_busy,
} from '../object/vm_object_page.ts';
import { pmap_copy_page } from '../page/vm_page.ts';
import { VM_PAGER_OK, vm_object_page_in } from '../object/vm_pager.ts';
import { vm_page_activate } from '../page/vm_pageq.ts';
import {
  pmap_cut,
  pmap_cut_begin,
  pmap_cut_end,
  pmap_pinit,
  pmap_release,
  pmap_remove,
} from '../pmap/pmap.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { vm_map_create, vm_map_deallocate, vm_map_lock, vm_map_unlock } from './vm_map.ts';
import {
  entry_create,
  entry_like,
  entries_ring,
  entry_shadow_object,
  entry_shadowed,
  vm_map_entry_make_object,
  vm_map_entry_shadow,
} from './vm_map_entry.ts';
import { cut_edges, entries_wait } from './vm_map_range.ts';
import { map_header, tree_rebuild } from './vm_map_tree.ts';
import { fork_cut, v_forkpages, v_forks } from './vm_vars.ts';
import { regions_copy, vm_region_mend, vm_region_unmap_all } from './vm_region.ts';
import { run_from, run_over, windows_settle } from './vm_window.ts';

const map = vm_map;
const entry = vm_map_entry;
const object = vm_object;

/**
 * A space of its own for the pages from `min` up to `max`, of which so many may be mapped, in hand.
 * NULL: no memory.  Never sleeps.
 */
export function vmspace_alloc(min: number, max: number, limit = VM_MAP_MAX): vm_map_t {
  const pm = pmap_pinit();
  if (pm === NULL) return NULL as vm_map_t;
  const mp = vm_map_create(pm, min, max, limit);
  if (mp === NULL) pmap_release(pm);
  return mp;
}
/**
 * Nothing is mapped any more, nor is anything text, data or stack; no bank has a name.  A KERN_*
 * code: KERN_BUSY, a window is open, and nothing has changed.
 */
export function vmspace_exec(mp: vm_map_t): number {
  vm_map_lock(mp);
  const gone = vm_region_unmap_all(mp);
  if (gone !== KERN_SUCCESS) {
    vm_map_unlock(mp);
    return gone;
  }
  undo_begin(map.lock, mp);
  const gone_too = [map.tsize, map.dsize, map.ssize, map.taddr, map.daddr, map.maxsaddr];
  for (const f of [...gone_too, map.wire_future]) {
    save(f, mp);
    f[mp] = 0;
  }
  for (let b = 0; b < VM_BANKS; b++) {
    save(map.banks, elem(mp, b));
    map.banks[elem(mp, b)] = 0;
  }
  undo_end();
  vm_map_unlock(mp);
  return KERN_SUCCESS;
}

// --- fork ----------------------------------------------------------------------------------------

/**
 * A copy of a space, in hand; or -KERN_*: KERN_RESOURCE_SHORTAGE is no memory, KERN_FAILURE
 * a CPU that does not answer, KERN_INVALID_ARGUMENT a submap, KERN_BUSY a window if `refuse` says
 * that there must be none, KERN_INVALID_ADDRESS the space was destroyed.
 */
export function vmspace_fork(parent: vm_map_t, refuse = false): number {
  const header = map_header(parent);
  vm_map_lock(parent);
  vm_region_mend(parent);
  const [min, max] = [entry.end[header], entry.start[header]];
  const ranges: number[] = [];
  let result = IN_TRANSITION;
  while (result === IN_TRANSITION) {
    while (entries_settle(parent, min, max));
    const gone = map.gone[parent] !== 0;
    if (gone || (refuse && map.runs[parent] !== NULL)) {
      vm_map_unlock(parent);
      return gone ? -KERN_INVALID_ADDRESS : -KERN_BUSY;
    }
    result = prepare(parent, ranges);
    if (result === IN_TRANSITION) entries_wait(parent, min, max, false);
  }
  const none = map.pmap[parent];
  let child = NULL as vm_map_t;
  if (result === KERN_SUCCESS) {
    child = none === NULL ? vm_map_create(none, min, max) : vmspace_alloc(min, max);
    if (child === NULL) result = KERN_RESOURCE_SHORTAGE;
  }
  if (child !== NULL) {
    vm_map_lock(child);
    result = cut(parent, ranges);
    if (result === KERN_SUCCESS) result = copy_all(parent, child);
    if (result === KERN_SUCCESS && !regions_copy(parent, child)) result = KERN_RESOURCE_SHORTAGE;
    vm_map_unlock(child);
  }
  const pages = map.dsize[parent] + map.ssize[parent];
  vm_map_unlock(parent);
  if (result === KERN_SUCCESS) {
    counter_add(v_forks, 1);
    counter_add(v_forkpages, pages);
    return child;
  }
  if (child !== NULL) vm_map_deallocate(child);
  return -result;
}
/** Beside the KERN_* codes: somebody works on an entry, with the map let go of. */
const IN_TRANSITION = -1;
/**
 * Where windows are open, which cut entries at their edges: waits as entries_wait for those on
 * which somebody works, and for windows of the dead.  True: all may be different.
 */
function entries_settle(parent: vm_map_t, min: number, max: number): boolean {
  if (map.runs[parent] === NULL) return false;
  return entries_wait(parent, min, max, false) || windows_settle(parent, min, max);
}
/**
 * Makes the parent's entries such that copying them needs no memory but the child's, and notes
 * in `ranges` where pages are to be copied: first pages and ends.
 */
function prepare(parent: vm_map_t, ranges: number[]): number {
  const header = map_header(parent);
  ranges.length = 0;
  let open = false;
  if (!runs_apart(parent)) return KERN_RESOURCE_SHORTAGE;
  for (let e = entry.next[header]; e !== header; e = entry.next[e]) {
    const flags = entry.eflags[e];
    if (flags & MAP_ENTRY_IN_TRANSITION) return IN_TRANSITION;
    if (flags & MAP_ENTRY_IS_SUB_MAP) return KERN_INVALID_ARGUMENT;
    if (entry.inheritance[e] === VM_INHERIT_SHARE) {
      const own = vm_map_entry_shadow(parent, e) && vm_map_entry_make_object(parent, e);
      if (!own) return KERN_RESOURCE_SHORTAGE;
      lower_out(parent, e);
    }
    const copy = copied(e);
    // Neighbours that are copied too, and the holes between, in which nothing is mapped.
    if (copy && open) ranges[ranges.length - 1] = entry.end[e];
    else if (copy) ranges.push(entry.start[e], entry.end[e]);
    open = copy;
  }
  return KERN_SUCCESS;
}
/** Cuts entries where runs of pages begin and end that windows show. False: no memory. */
function runs_apart(parent: vm_map_t): boolean {
  const header = map_header(parent);
  let at = entry.end[header];
  for (let u = run_from(parent, at); u !== null; u = run_from(parent, at)) {
    at = u.end;
    if (!cut_edges(parent, u.start, u.end)) return false;
  }
  return true;
}
/**
 * Whether stores through windows may go to the pages of an entry.  A window that is closed
 * meanwhile may have been the last one: nobody opens another, because the map is locked.
 */
function windowed(parent: vm_map_t, e: vm_map_entry_t): boolean {
  if (map.runs[parent] === NULL || (entry.protection[e] & VM_PROT_WRITE) === 0) return false;
  return run_over(parent, entry.start[e], entry.end[e]) !== NULL;
}
/**
 * Whether what an entry shows stays the parent's, and is copied at once: stores through windows may
 * go there, or it is wired, and its pages are to stay what a store finds.
 */
function stays(parent: vm_map_t, e: vm_map_entry_t): boolean {
  return entry.wired_count[e] > 0 || windowed(parent, e);
}
/**
 * Translations go that may be to pages below the object of an entry: when several entries show
 * that object, a write through one must be seen through the others.  A page of a device knows
 * nobody who maps it; and a thread that died while it copied a page up may have left the
 * translation to the page below.
 */
function lower_out(mp: vm_map_t, e: vm_map_entry_t): void {
  const pm = map.pmap[mp];
  const o = entry.object[e];
  mtx_lock(object.lock, o);
  const lower = object.backing[o] !== NULL;
  mtx_unlock(object.lock, o);
  if (lower && pm !== NULL) pmap_remove(pm, entry.start[e], entry.end[e]);
}
/**
 * An entry that shows a part of an object, of which the same map shows others, gets an object of
 * its own, so that a copy of the one does not keep the pages of the others.  Where there is no
 * memory for that it is left.  Nobody may write to its pages: a thread that dies in the middle
 * leaves them below the entry's object, and a store there while one is copied up would be lost; so
 * would one through a window be.
 */
function apart(mp: vm_map_t, e: vm_map_entry_t): void {
  const o = entry.object[e];
  // Of an object that this entry alone refers to nothing changes while the map is locked.
  if (o === NULL || (object.refs[o] === 1 && object.backing[o] === NULL)) return;
  mtx_lock(object.lock, o);
  const anonymous = object_anonymous(o);
  mtx_unlock(object.lock, o);
  if (!anonymous) return;
  vm_object_collapse(o);
  mtx_lock(object.lock, o);
  const parts = object.refs[o] > 1 && (object.flags[o] & OBJ_ONEMAPPING) !== 0;
  mtx_unlock(object.lock, o);
  if (!parts) return;
  const half = entry_shadow_object(e);
  if (half === NULL) return;
  entry_shadowed(mp, e, half, 0);
  vm_object_split_end(half);
}
/** Whether a fork copies what an entry shows, and there is something. */
function copied(e: vm_map_entry_t): boolean {
  return entry.inheritance[e] === VM_INHERIT_COPY && entry.object[e] !== NULL;
}
/** Takes the right to write to what is to be copied from all CPUs at one moment. */
function cut(parent: vm_map_t, ranges: readonly number[]): number {
  const pm = map.pmap[parent];
  if (pm === NULL) return KERN_SUCCESS;
  const c = pmap_cut_begin(pm);
  for (let i = 0; i < ranges.length; i += 2) pmap_cut(c, ranges[i], ranges[i + 1]);
  return pmap_cut_end(c, sysctl_get(fork_cut)) >= 0 ? KERN_FAILURE : KERN_SUCCESS;
}
const TO_COPY = MAP_ENTRY_COW | MAP_ENTRY_NEEDS_COPY;
/** Parent's entries that change in one section. */
const BATCH = 8;
/**
 * Takes the next entries from e on that are copied apart, and makes them such that the parent, too,
 * writes to shadows; those that stay have no NEEDS_COPY.  Returns the one behind them.
 */
function mark(parent: vm_map_t, e: vm_map_entry_t): vm_map_entry_t {
  const header = map_header(parent);
  let at = e;
  for (let n = 0; n < BATCH && at !== header; at = entry.next[at], n++) {
    if (copied(at) && !stays(parent, at)) apart(parent, at);
  }
  at = e;
  undo_begin(map.lock, parent);
  for (let n = 0; n < BATCH && at !== header; at = entry.next[at], n++) {
    const flags = entry.eflags[at];
    if ((flags & TO_COPY) === TO_COPY || !copied(at) || stays(parent, at)) continue;
    save(entry.eflags, at);
    entry.eflags[at] = flags | TO_COPY;
  }
  undo_end();
  return at;
}
/** Copies all entries into the child, which has none. */
function copy_all(parent: vm_map_t, child: vm_map_t): number {
  const header = map_header(parent);
  const child_header = map_header(child);
  const sizes: Sizes = { text: 0, data: 0, stack: 0 };
  let marked = entry.next[header];
  let done = true;
  for (let e = marked; done && e !== header; ) {
    if (e === marked) marked = mark(parent, e);
    const first = e;
    const last = entry.prev[child_header];
    e = copy_some(child, last, e, marked);
    done = fill_some(parent, entry.next[last], first, e, sizes);
    if (e === first) done = false;
  }
  tree_rebuild(child);
  settle(parent, child, sizes);
  return done ? KERN_SUCCESS : KERN_RESOURCE_SHORTAGE;
}
/** Entries that are in hand, and come into the ring of the child, at a time. */
const HELD = 4;
/**
 * Links copies of some entries, from e to before `end`, behind entry `last` of the child; they show
 * nothing yet.  Returns the entry that comes next; e: no memory.
 */
function copy_some(
  child: vm_map_t,
  last: vm_map_entry_t,
  e: vm_map_entry_t,
  end: vm_map_entry_t,
): vm_map_entry_t {
  let first = NULL as vm_map_entry_t;
  let top = first;
  let n = 0;
  let at = e;
  for (; at !== end && n < HELD; at = entry.next[at]) {
    if (entry.inheritance[at] === VM_INHERIT_NONE) continue;
    const copy = copy_entry(at, at_once(at));
    if (copy === NULL) {
      at = e;
      break;
    }
    if (n++ === 0) first = copy;
    else {
      entry.prev[copy] = top;
      entry.next[top] = copy;
    }
    top = copy;
  }
  if (n > 0) entries_ring(child, last, first, top, n);
  return at;
}
/** Whether the pages of an entry are copied with it: it is one that stays (see there). */
function at_once(e: vm_map_entry_t): boolean {
  return copied(e) && (entry.eflags[e] & MAP_ENTRY_NEEDS_COPY) === 0;
}
/**
 * The copies of entries from e to before `end` show what they are to show; `first` is the first
 * of them.  False: no memory.
 */
function fill_some(
  parent: vm_map_t,
  first: vm_map_entry_t,
  e: vm_map_entry_t,
  end: vm_map_entry_t,
  sizes: Sizes,
): boolean {
  let copy = first;
  for (let at = e; at !== end; at = entry.next[at]) {
    if (entry.inheritance[at] === VM_INHERIT_NONE) continue;
    if (at_once(at)) {
      if (!vm_map_entry_make_object(entry.map[copy], copy)) return false;
      if (!copy_pages(at, entry.object[copy])) return false;
    } else if (entry.inheritance[at] !== VM_INHERIT_ZERO && entry.object[at] !== NULL) {
      show(copy, entry.object[at]);
    }
    count(sizes, parent, copy);
    copy = entry.next[copy];
  }
  return true;
}
/**
 * The page that is seen as page `i` of an object, when nobody has it busy; it is locked as there.
 * -1: it cannot be brought into memory.
 */
function page_idle(o: vm_object_t, i: number): number {
  for (;;) {
    const m = vm_object_seen(o, i);
    if (m === 0) {
      if (object_seen.away === NULL) return 0;
      if (vm_object_page_in(object_seen.away, object_seen.i) !== VM_PAGER_OK) return -1;
      continue;
    }
    if (!vm_page_sleep_if_busy(m, object_seen.o)) return m;
    mtx_unlock(object.lock, object_seen.o);
  }
}
/** Copies the pages that an entry shows to an object of as many pages. False: no memory. */
function copy_pages(e: vm_map_entry_t, to: vm_object_t): boolean {
  const n = entry.end[e] - entry.start[e];
  for (let i = 0; i < n; i++) {
    const m = page_idle(entry.object[e], entry.offset[e] + i);
    if (m === 0) continue;
    if (m < 0) return false;
    const of = object_seen.o;
    mtx_lock(object.lock, to); // nobody else knows it
    const copy = object_page_alloc(to, i, 0);
    if (copy !== 0) {
      pmap_copy_page(m, copy);
      object_page_filled(copy, to);
      object_page_wakeup(copy, to);
      vm_page_activate(copy);
    }
    mtx_unlock(object.lock, to);
    mtx_unlock(object.lock, of);
    if (copy === 0) return false;
  }
  return true;
}
/** A copy of an entry, in hand, that shows nothing yet. NULL: no memory. */
function copy_entry(e: vm_map_entry_t, at_once: boolean): vm_map_entry_t {
  const copy = entry_create();
  if (copy === NULL) return copy;
  const zero = entry.inheritance[e] === VM_INHERIT_ZERO || entry.object[e] === NULL;
  const nothing = zero || at_once;
  const gone = nothing ? TO_COPY : 0;
  entry_like(copy, e);
  entry.start[copy] = entry.start[e];
  entry.end[copy] = entry.end[e];
  entry.object[copy] = NULL as vm_object_t;
  entry.offset[copy] = nothing ? 0 : entry.offset[e];
  entry.wired_count[copy] = 0;
  entry.eflags[copy] &= ~(MAP_ENTRY_USER_WIRED | MAP_ENTRY_NEEDS_WAKEUP | gone);
  return copy;
}
/**
 * An entry of the child shows the object from here on, whose pages are shown more than once
 * then.  The count and the entry change in one section, so that no note is needed; nobody
 * else sees the child.
 */
function show(copy: vm_map_entry_t, o: vm_object_t): void {
  mtx_lock(object.lock, o);
  undo_begin(object.lock, o);
  save(object.refs, o);
  save(entry.object, copy);
  if (object.flags[o] & OBJ_ONEMAPPING) {
    save(object.flags, o);
    object.flags[o] &= ~OBJ_ONEMAPPING;
  }
  object.refs[o]++;
  entry.object[copy] = o;
  undo_end();
  mtx_unlock(object.lock, o);
}
/** Pages of what a child has of text, data and stack. */
interface Sizes {
  text: number;
  data: number;
  stack: number;
}
/** Text, data and stack of the child are where the parent's are, as far as it has them. */
function count(sizes: Sizes, parent: vm_map_t, e: vm_map_entry_t): void {
  const n = entry.end[e] - entry.start[e];
  const grows = MAP_ENTRY_GROWS_DOWN | MAP_ENTRY_GROWS_UP;
  if (entry.eflags[e] & grows) sizes.stack += n;
  else if (inside(e, map.daddr[parent], map.dsize[parent])) sizes.data += n;
  else if (inside(e, map.taddr[parent], map.tsize[parent])) sizes.text += n;
}
function inside(e: vm_map_entry_t, first: number, n: number): boolean {
  return entry.start[e] >= first && entry.end[e] <= first + n;
}
/** What the child's record has of the parent's. */
function settle(parent: vm_map_t, child: vm_map_t, { text, data, stack }: Sizes): void {
  undo_begin(map.lock, child);
  const own = [map.tsize, map.dsize, map.ssize, map.taddr, map.daddr, map.maxsaddr, map.limit];
  for (const f of own) save(f, child);
  [map.tsize[child], map.dsize[child], map.ssize[child]] = [text, data, stack];
  for (const f of [map.taddr, map.daddr, map.maxsaddr, map.limit]) f[child] = f[parent];
  undo_end();
  // Nobody else knows the child yet.
  const limits = [map.dlimit, map.dlimit_max, map.slimit, map.rss_limit, map.wire_limit];
  for (const f of limits) f[child] = f[parent];
  for (let b = 0; b < VM_BANKS; b++) map.banks[elem(child, b)] = map.banks[elem(parent, b)];
}
