/*
 * vm_vnode: files come to have pages in memory, and cease to.
 *
 *      vnode_open ──────> the file's vnode, one in a machine; a reference to its object in hand
 *      vm_object_deallocate ... with the last one but the vnode's own:
 *      vnode_inactive     what was written goes to the file; then object and vnode end
 *
 * A thread that opens a file which is open already, by another path or in another thread, gets the
 * same object: so all see the same pages.  It is the same file if device, inode and time of birth
 * are.  The first to open it for writing brings the store by which it is written.
 *
 * The vnode itself refers to its object.  So the object does not end while there are pages that
 * the file does not have: when everybody else has let go of it, these are written, with nothing
 * locked, and a page that cannot be written stays, with vnode and object, until somebody maps
 * the file again, or sync, or the end of the machine tries once more.  Whoever settles a dead
 * thread that had the last mapping does this in its place.
 *
 * Records are type-stable, as objects are: an old pointer leads to a vnode that has no object,
 * or another one.
 *
 * Locks: the list of vnodes, then the object.  Making and ending a vnode is one section each;
 * before and after that all its parts are in the hand of a CPU.
 *
 * Read next: vnode_pager.ts (reading and writing pages), vnode_sync.ts (sync, truncate).
 */
import { pcpu as pcpu_, thr as thr_ } from '../machine/cpu.ts';
import { ENOMEM } from '../machine/errno.ts';
import { boot_alloc, M, machine as machine_, ROOT_VNODE } from '../machine/header.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { STORE_READ, STORE_WRITE } from '../machine/store.ts';
import { elem, get64, NULL, set64 } from '../machine/struct.ts';
import { sysctl_value } from '../machine/sysctl_decl.ts';
import { zone_declared } from '../machine/zone_decl.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import { UMA_ZONE_NOFREE, type zone_t } from '../h/uma.ts';
import { OBJT_VNODE, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { vm_page } from '../h/vm_page.ts';
import { VM_STORE_MEMORY, vm_store, type vm_store_t } from '../h/vm_store.ts';
import { vnode, type vnode_root_t, vnode_root, type vnode_t } from '../h/vm_vnode.ts';
import { mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_VM_VNODES } from '../sync/lock_order.ts';
import { save, save64, undo_begin, undo_end } from '../sync/undo.ts';
import { list_insert, list_remove } from '../sync/undo_list.ts';
import { zone_free_at, zone_give_hand, zone_take_hand } from '../uma/uma_core.ts';
import { item_in_hand, item_settle } from '../uma/uma_keg.ts';
import { uma_zcreate } from '../uma/uma_zone.ts';
import {
  object_pip_wait,
  vm_object_allocate,
  vm_object_anchor,
  vm_object_deallocate,
  vm_object_release,
  vm_object_reference,
  vm_object_reference_locked,
  vm_object_unanchor,
} from './vm_object.ts';
import { page_dirty } from './vm_launder.ts';
import { object_page_next } from './vm_object_page.ts';
import {
  vm_store_anchor,
  vm_store_drop,
  vm_store_make,
  vm_store_open,
  vm_store_size,
  vm_store_unanchor,
} from './vm_store.ts';
import { vnode_flush } from './vnode_sync.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const thr = thr_;
const pcpu = pcpu_;
const machine = machine_;
const object = vm_object;
const page = vm_page;
const store = vm_store;
const root = vnode_root;

const Z_VNODES = zone_declared('VNODE', 'Files that are mapped');
const NONE = NULL as vnode_t;
const NO_STORE = NULL as vm_store_t;
/** The most pages that an object can have. */
const PAGES_MAX = 2 ** 31 - 1;

/** The record of all vnodes. */
export function vnodes_root(): vnode_root_t {
  return machine.roots[elem(M, ROOT_VNODE)] as vnode_root_t;
}
/** Lays the root out, while boot_alloc still works. */
export function vnode_boot(): void {
  const r = boot_alloc(root.sizeof, 'files', 32) as vnode_root_t;
  machine.roots[elem(M, ROOT_VNODE)] = r;
  mtx_init(root.lock, r, LC_VM_VNODES);
}
/** Makes the zone. */
export function vnode_startup(): void {
  root.zone[vnodes_root()] = uma_zcreate(Z_VNODES, vnode.sizeof * 4, { flags: UMA_ZONE_NOFREE });
}
sysctl_value('vm.vnodes', { type: 'uint', help: 'Files that are mapped, or have pages' }, () => {
  return root.count[vnodes_root()];
});
const zone = (): zone_t => root.zone[vnodes_root()] as zone_t;

/** Pages of a file of so many bytes. */
export function vnode_pages(bytes: number): number {
  return Math.min(Math.ceil(bytes / PAGE_SIZE), PAGES_MAX);
}
/** The vnode of an object of type OBJT_VNODE, whose lock is held or to which the caller refers. */
export function object_vnode(o: vm_object_t): vnode_t {
  return object.handle[o] as vnode_t;
}
/** The file has so many bytes from here on. Its object is locked; in a section. */
export function vnode_size_is(v: vnode_t, bytes: number): void {
  save64(vnode.size, v);
  save(vnode.changes, v);
  vnode.changes[v] = (vnode.changes[v] + 1) | 0;
  set64(vnode.size, v, bytes);
}

// --- opening ------------------------------------------------------------------------------------

/**
 * The vnode of the file at a path, opened for reading, or for writing, too.  A reference to its
 * object is in this CPU's hand.  Or -errno: as opening says, ENOMEM.  The caller holds no lock.
 */
export function vnode_open(path: string, write: boolean): number {
  const s = vm_store_make(path, write ? STORE_WRITE : STORE_READ);
  return s < 0 ? s : vnode_of_store(s as vm_store_t, write);
}
/** The same of a store, which was opened for that; the reference to it in hand is used up. */
export function vnode_of_store(s: vm_store_t, write: boolean): number {
  for (;;) {
    const v = find_referred(s, write);
    if (v !== NONE) {
      // It has the file open then, whoever else lets go of it. errno: its use tells why not.
      vm_store_open(vnode_store(v));
      return v;
    }
    const made = vnode_make(s, write);
    if (made === 0) continue; // another CPU was faster
    if (made < 0) vm_store_drop(s);
    return made;
  }
}
/** The store by which a file is read. */
export function vnode_store(v: vnode_t): vm_store_t {
  return (vnode.writer[v] || vnode.reader[v]) as vm_store_t;
}
/** Whether two stores, neither of which has ended, are of one file, or of the same memory. */
function same_file(a: vm_store_t, b: vm_store_t): boolean {
  if (store.kind[a] !== store.kind[b]) return false;
  if (store.kind[a] === VM_STORE_MEMORY) return store.first_page[a] === store.first_page[b];
  const halves = [store.dev, store.ino, store.birth];
  return halves.every((f) => f[a] === f[b] && f[elem(a, 1)] === f[elem(b, 1)]);
}
/** The vnode of a file on the list, which is locked. */
function lookup(s: vm_store_t): vnode_t {
  let v = root.first[vnodes_root()];
  while (v !== NONE && !same_file(vnode_store(v), s)) v = vnode.next[v];
  return v;
}
/** That of a file that is open already; NULL: it is not. */
function find_referred(s: vm_store_t, write: boolean): vnode_t {
  const r = vnodes_root();
  mtx_lock(root.lock, r);
  const v = lookup(s);
  let spare = true;
  if (v !== NONE) {
    const o = vnode.object[v];
    mtx_lock(object.lock, o);
    vm_object_reference_locked(o);
    if (write && vnode.writer[v] === 0) {
      undo_begin(object.lock, o);
      save(vnode.writer, v);
      vnode.writer[v] = s;
      vm_store_anchor(s);
      undo_end();
      spare = false;
    }
    mtx_unlock(object.lock, o);
  }
  mtx_unlock(root.lock, r);
  if (v !== NONE && spare) vm_store_drop(s);
  return v;
}
/** Makes a vnode for the file; -errno, or 0: there is one by now. */
function vnode_make(s: vm_store_t, write: boolean): number {
  const bytes = vm_store_size(s);
  if (bytes < 0) return bytes;
  const v = zone_take_hand(zone(), M_NOWAIT) as vnode_t;
  if (v === NONE) return -ENOMEM;
  checked_fresh(v, vnode.sizeof);
  vnode.object[v] = NULL as vm_object_t;
  vnode.reader[v] = write ? NO_STORE : s;
  vnode.writer[v] = write ? s : NO_STORE;
  for (const f of [vnode.truncating, vnode.error, vnode.failed, vnode.changes]) f[v] = 0;
  set64(vnode.size, v, bytes);
  checked_publish(v);
  const o = vm_object_allocate(OBJT_VNODE, vnode_pages(bytes), v);
  if (o === NULL) {
    zone_give_hand(zone(), v);
    return -ENOMEM;
  }
  const r = vnodes_root();
  mtx_lock(root.lock, r);
  const first = lookup(s) === NONE;
  if (first) {
    list_in(r, v, o, s);
    vm_object_reference(o); // nobody ends it meanwhile: that takes the list's lock
  }
  mtx_unlock(root.lock, r);
  if (first) return v;
  vm_object_deallocate(o);
  zone_give_hand(zone(), v);
  return 0;
}
/** A vnode in hand comes on the list; object and store are its own. */
function list_in(r: vnode_root_t, v: vnode_t, o: vm_object_t, s: vm_store_t): void {
  undo_begin(root.lock, r);
  list_insert(root, r, vnode, v);
  save(vnode.object, v);
  save(pcpu.in_hand_items, thr.pc);
  vnode.object[v] = o;
  item_settle();
  vm_object_anchor(o);
  vm_store_anchor(s);
  undo_end();
}

// --- ending -------------------------------------------------------------------------------------

/** How often what was written is to go to the file, should a CPU be silent, or pages come back. */
const TRIES = 8;
/** Of this thread: the errno of pages that a vnode_inactive could not write, 0: none; how many. */
export const vnode_lost_touch = { errno: 0, pages: 0 };

/** Whether an object is a file's that nobody but its vnode refers to. Locked. */
function left_alone(o: vm_object_t): boolean {
  if (object.type[o] !== OBJT_VNODE || object.refs[o] !== 1) return false;
  return vnode.object[object_vnode(o)] === o;
}
/** Whether an object has a page that the file has not, or that is being written. Locked. */
function unwritten(o: vm_object_t): boolean {
  for (let m = object_page_next(o, 0); m !== 0; m = object_page_next(o, page.index[m] + 1)) {
    if (page_dirty(m) || page.busy[m] !== 0) return true;
  }
  return false;
}
/**
 * Nobody may refer to the object any more but its vnode: what was written goes to the file, and
 * then both end.  What cannot be written stays, and they with it: vnode_lost_touch says so.  The
 * caller holds no lock of an object; the object may have become another one by now.
 */
export function vnode_inactive(o: vm_object_t): void {
  for (let tries = 0; ; tries++) {
    mtx_lock(object.lock, o);
    if (!left_alone(o) || tries > TRIES) return mtx_unlock(object.lock, o);
    const v = object_vnode(o);
    if (!unwritten(o)) {
      object_pip_wait(o);
      mtx_unlock(object.lock, o);
      if (end(v, o)) return;
      continue;
    }
    vm_object_reference_locked(o);
    mtx_unlock(object.lock, o);
    const error = vnode_flush(o, { first: 0, end: PAGES_MAX, wait: true, invalidate: false });
    vm_object_release(o);
    if (error !== 0) return note(error, v);
  }
}
function note(errno: number, v: vnode_t): void {
  vnode_lost_touch.errno = errno;
  vnode_lost_touch.pages += vnode.failed[v];
}
/** Vnode and object end, if nobody came meanwhile. False: somebody did. */
function end(v: vnode_t, o: vm_object_t): boolean {
  const r = vnodes_root();
  mtx_lock(root.lock, r);
  mtx_lock(object.lock, o);
  const ends = left_alone(o) && object_vnode(o) === v && object.paging[o] === 0 && !unwritten(o);
  const [reader, writer] = [vnode.reader[v], vnode.writer[v]];
  if (ends) list_out(r, v, o);
  mtx_unlock(object.lock, o);
  mtx_unlock(root.lock, r);
  if (!ends) return false;
  vm_object_deallocate(o);
  if (reader !== 0) vm_store_drop(reader as vm_store_t);
  if (writer !== 0) vm_store_drop(writer as vm_store_t);
  zone_free_at(zone(), v, 0);
  return true;
}
/** A vnode leaves the list: it, the object and the stores are in hand. */
function list_out(r: vnode_root_t, v: vnode_t, o: vm_object_t): void {
  undo_begin(root.lock, r);
  list_remove(root, r, vnode, v);
  save(vnode.object, v);
  save(pcpu.in_hand_items, thr.pc);
  vnode.object[v] = NULL as vm_object_t;
  item_in_hand(v);
  vm_object_unanchor(o);
  for (const s of [vnode.reader[v], vnode.writer[v]]) {
    if (s !== 0) vm_store_unanchor(s as vm_store_t);
  }
  undo_end();
}

// --- all of them --------------------------------------------------------------------------------

/** Calls `each` for all vnodes that there are now, with a reference to the object in hand. */
export function vnodes_each(each: (v: vnode_t, o: vm_object_t) => void): void {
  const r = vnodes_root();
  const all: vnode_t[] = [];
  mtx_lock(root.lock, r);
  for (let v = root.first[r]; v !== NONE; v = vnode.next[v]) all.push(v);
  mtx_unlock(root.lock, r);
  for (const v of all) {
    mtx_lock(root.lock, r);
    const o = vnode.object[v]; // a vnode that has ended has none, or another one
    if (o !== NULL) vm_object_reference(o);
    mtx_unlock(root.lock, r);
    if (o === NULL) continue;
    each(v, o);
    vm_object_deallocate(o);
  }
}
/** The vnodes, each with its object, whose references walkers count. The machine is quiet. */
export function vnode_check(): vm_object_t[] {
  const r = vnodes_root();
  const objects: vm_object_t[] = [];
  let prev = NONE;
  for (let v = root.first[r]; v !== NONE; v = vnode.next[v]) {
    const o = vnode.object[v];
    if (vnode.prev[v] !== prev) panic('vnode_check: link back', v * 4);
    if (o === NULL || object.type[o] !== OBJT_VNODE) panic('vnode_check: object', v * 4, o * 4);
    if (object_vnode(o) !== v) panic('vnode_check: an object of another one', v * 4, o * 4);
    if (vnode.reader[v] === 0 && vnode.writer[v] === 0) panic('vnode_check: no store', v * 4);
    if (vnode.truncating[v] !== 0) panic('vnode_check: it is being truncated', v * 4);
    const pages = vnode_pages(get64(vnode.size, v));
    if (object.size[o] < pages) panic('vnode_check: size', object.size[o], pages);
    objects.push(o);
    prev = v;
  }
  if (objects.length !== root.count[r]) {
    panic('vnode_check: vnodes', objects.length, root.count[r]);
  }
  return objects;
}
/** The stores that vnodes lead to, for the walker of stores. */
export function vnode_stores(): vm_store_t[] {
  const all: vm_store_t[] = [];
  for (let v = root.first[vnodes_root()]; v !== NONE; v = vnode.next[v]) {
    all.push(...[vnode.reader[v], vnode.writer[v]].filter((s) => s !== NULL));
  }
  return all;
}
