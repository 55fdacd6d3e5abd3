/*
 * vm_kern_check: proves the kernel's maps of a quiet machine.
 *
 * No entry of a system map is in transition, and each lies in its submap's bounds or is no submap.
 * What kmem_alloc gave has all its pages, each once, wired once, with contents and a translation;
 * what is made when it is touched has some; of addresses alone nothing is the objects'.  So the
 * objects have no page that no entry shows.
 *
 * Whoever counts references to maps and objects is told of those that stand here.
 */
import { panic } from '../machine/panic.ts';
import { checked_quiet } from '../machine/parts.ts';
import { NULL } from '../machine/struct.ts';
import { KVA_BASE, vm_kern_root } from '../h/vm_kern.ts';
import { vm_map, vm_map_entry, type vm_map_entry_t, type vm_map_t } from '../h/vm_map.ts';
import { vm_object, type vm_object_t } from '../h/vm_object.ts';
import { vm_page } from '../h/vm_page.ts';
import { object_page_next, page_valid } from '../object/vm_object_page.ts';
import { vm_page_wirings } from '../page/vm_pageq.ts';
import { pmap_extract } from '../pmap/pmap.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { kernel_pmap, system_maps } from './vm_kern.ts';
import { kern_root, kernel_map_there } from './vm_kern_vars.ts';
import { vm_map_lock_read, vm_map_unlock_read } from './vm_map.ts';
import { entry_submap } from './vm_map_insert.ts';
import { map_header, vm_map_lookup } from './vm_map_tree.ts';
import { run_over } from './vm_window.ts';

const root = vm_kern_root;
const map = vm_map;
const entry = vm_map_entry;
const object = vm_object;
const page = vm_page;

/** References to a map that stand in the kernel's records: the root, or a submap's entry. */
export function kern_anchors(mp: vm_map_t): number {
  const r = kern_root();
  // Whoever died while it made them is undone by this lock.
  mtx_lock(root.lock, r);
  let n = mp === root.map[r] ? 1 : 0;
  mtx_unlock(root.lock, r);
  if (kernel_map_there() === NULL) return n;
  for (const of of system_maps()) {
    vm_map_lock_read(of);
    const header = map_header(of);
    for (let e = entry.next[header]; e !== header; e = entry.next[e]) {
      if (entry_submap(e) === mp) n++;
    }
    vm_map_unlock_read(of);
  }
  return n;
}
/** References to an object that stand in the root. */
export function kern_objects(o: vm_object_t): number {
  const r = kern_root();
  return (root.object[r] === o ? 1 : 0) + (root.kmem[r] === o ? 1 : 0);
}
/** The entry of a map, or of a map in it, that shows page number `at`. NULL: none. Quiet. */
export function kern_entry(mp: vm_map_t, at: number): vm_map_entry_t {
  vm_map_lock_read(mp);
  const e = vm_map_lookup(mp, at);
  const sub = e === NULL ? (NULL as vm_map_t) : entry_submap(e);
  vm_map_unlock_read(mp);
  return sub === NULL ? e : kern_entry(sub, at);
}

/** The proof of all system maps. */
export function kern_check(): void {
  const r = kern_root();
  if (kernel_map_there() === NULL) return;
  checked_quiet(true);
  const shown = new Map<vm_object_t, number>([
    [root.object[r], 0],
    [root.kmem[r], 0],
  ]);
  for (const mp of system_maps()) {
    const header = map_header(mp);
    const all: vm_map_entry_t[] = [];
    vm_map_lock_read(mp);
    for (let e = entry.next[header]; e !== header; e = entry.next[e]) all.push(e);
    for (const e of all) {
      const o = entry_check(e);
      if (o !== NULL) shown.set(o, (shown.get(o) ?? 0) + pages_check(mp, e, o));
    }
    vm_map_unlock_read(mp);
  }
  for (const [o, n] of shown) {
    mtx_lock(object.lock, o);
    const resident = object.resident[o];
    mtx_unlock(object.lock, o);
    if (resident !== n) panic('kern_check: pages of an object of the kernel', resident, n);
  }
  checked_quiet(false);
}
/** Proves what an entry says; returns its object, NULL: none. Its map is locked. */
function entry_check(e: vm_map_entry_t): vm_object_t {
  if (entry.transition[e] !== 0) panic('kern_check: in transition', entry.start[e]);
  const sub = entry_submap(e);
  if (sub === NULL) {
    if (entry.offset[e] !== entry.start[e] - KVA_BASE) panic('kern_check: offset', entry.start[e]);
    return entry.object[e];
  }
  const header = map_header(sub);
  const fits = entry.end[header] === entry.start[e] && entry.start[header] === entry.end[e];
  if (!fits || map.pmap[sub] !== kernel_pmap()) panic('kern_check: submap', entry.start[e]);
  return NULL as vm_object_t;
}
/** Proves the pages that an entry shows; returns how many there are. Its map is locked. */
function pages_check(mp: vm_map_t, e: vm_map_entry_t, o: vm_object_t): number {
  const wired = entry.wired_count[e] > 0;
  const end = entry.end[e] - KVA_BASE;
  let n = 0;
  mtx_lock(object.lock, o);
  for (let i = entry.start[e] - KVA_BASE; ; i++) {
    const m = object_page_next(o, i);
    if (m === 0 || page.index[m] >= end) break;
    i = page.index[m];
    n++;
    const shown = run_over(mp, KVA_BASE + i, KVA_BASE + i + 1) !== NULL;
    const held = vm_page_wirings(m) === (shown ? 2 : 1);
    const whole = page_valid(m) && page.busy[m] === 0 && held;
    const seen = pmap_extract(kernel_pmap(), KVA_BASE + i);
    // Whoever touched it first may have died before it had a translation; a window may have moved
    // it, and nobody has touched it since.
    if (seen !== 0 && (seen !== m || !whole)) panic('kern_check: a page that is mapped', i, m);
    if (wired && !whole) panic('kern_check: a page of kmem_alloc', i, m);
  }
  mtx_unlock(object.lock, o);
  if (wired && n !== entry.end[e] - entry.start[e]) {
    panic('kern_check: pages of kmem_alloc', entry.start[e], n);
  }
  return n;
}
