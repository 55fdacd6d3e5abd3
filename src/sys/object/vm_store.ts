/*
 * vm_store: stores that all threads of a machine know.
 *
 * The host's descriptors belong to the thread that opened them: it closes them when that thread
 * ends, and gives their numbers to other files.  So the memory of the machine names a store by
 * what every thread can open: its path and which file it is.  Each thread opens it when it uses
 * it first, proves that it has the same file, and has its own descriptor from then on.
 *
 *      s = vm_store_make(path, STORE_WRITE)     a reference is in this CPU's hand
 *      record.store[x] = s; vm_store_anchor(s)  ... in the record's section: the record has it
 *      vm_store_readv(s, at, views)             bytes read, or the errno, negated
 *      vm_store_writev(s, at, views)            0, or an errno
 *      record.store[x] = 0; vm_store_unanchor(s)
 *      vm_store_drop(s)                         the last one ends the store
 *
 * On Linux a file is opened through the descriptor of a thread that has it open (/proc/self/fd),
 * so it may be renamed and removed; where that is not possible, by its path.  Another file that
 * is found there is ESTALE.  A descriptor is proof of nothing once its thread is gone: the number
 * may be another file's by then, and is looked at like any other path.
 *
 *      vm_store_memory(first_page, pages)       the same over pages of the machine's memory
 *      vm_store_make('opfs:name', STORE_NEW)    a file of the browser's, which one thread has open
 *                                               for all (store_post.ts)
 *
 * Pages of the memory every thread sees anyway.  A store over them has what the seeded scheduler
 * needs: a run that begins with the memory put back finds the store as it was.
 *
 * All calls that reach the host are made with this CPU parked and no lock held: shoot-downs, drains
 * and forks wait for no disk.  Faults of machine/store_fault.ts are played in all of them.
 *
 * Descriptors are few.  A thread has at most OWN_MAX open; when it may have no more, or the host
 * refuses (EMFILE), it closes the one that it used longest ago, if another thread has that file
 * open.  The last descriptor of a store is never closed while the store lives: a file that was
 * removed would be lost with it.
 *
 * A store ends with its last reference.  Its number is never given again, so a thread that has it
 * open sees by the number in the record that it ended, and closes its descriptor: in its event
 * loop, which is rung, or when it uses any store next.
 *
 * Always true, and proved by vm_store_check(): references are the records plus the notes in hands;
 * a word that names a descriptor belongs to a slot that a thread holds.
 */
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { counter_add, counter_u64 } from '../machine/counter.ts';
import {
  cpu_ring,
  cpu_slots,
  HAND_STORES,
  park,
  pcpu,
  pcpu_of,
  type pcpu_t,
  poll,
  thr,
  unpark,
  unpark_quiet,
} from '../machine/cpu.ts';
import { cpu_alive } from '../machine/death.ts';
import { EINVAL, EMFILE, ENAMETOOLONG, ENFILE, ENOMEM, EROFS, ESTALE } from '../machine/errno.ts';
import { boot_alloc, M, machine, ROOT_STORE } from '../machine/header.ts';
import { host_fd_path, host_path } from '../machine/host.ts';
import { mem, PAGE_WORDS } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { checked_fresh, checked_publish, witness_sleep } from '../machine/parts.ts';
import {
  STORE_NEW,
  STORE_READ,
  STORE_WRITE,
  type StoreIdentity,
  store_close,
  store_discard,
  store_files,
  store_fd,
  store_identity,
  store_keep,
  store_open,
  store_remove,
  store_reopen,
} from '../machine/store.ts';
import { STORES_MAX } from '../machine/store_fault.ts';
import {
  type StoreRef,
  store_readv,
  store_size,
  store_sync,
  store_truncate,
  store_writev,
} from '../machine/store_io.ts';
import {
  OWN_NEW,
  own_all,
  own_count,
  own_enter,
  own_find,
  own_heard,
  own_remove,
} from '../machine/store_own.ts';
import { elem, field_word, get_string, NULL, set_string } from '../machine/struct.ts';
import { sysctl_value } from '../machine/sysctl_decl.ts';
import { vector } from '../machine/vectors.ts';
import { zone_declared } from '../machine/zone_decl.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import { UMA_ZONE_NOFREE, type zone_t } from '../h/uma.ts';
import {
  STORE_PATH_MAX,
  STORE_PATH_WORDS,
  store_root,
  VM_STORE_FILE,
  VM_STORE_MEMORY,
  VM_STORE_OPFS,
  VM_STORES_MAX,
  vm_store,
  type vm_store_root_t,
  vm_store_root,
  type vm_store_t,
} from '../h/vm_store.ts';
import { mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_VM_STORES } from '../sync/lock_order.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { list_insert, list_remove } from '../sync/undo_list.ts';
import { zone_alloc_hand, zone_free_at } from '../uma/uma_core.ts';
import { item_in_hand, item_settle } from '../uma/uma_keg.ts';
import { uma_zcreate } from '../uma/uma_zone.ts';
import {
  opfs_open,
  opfs_readv,
  opfs_remove,
  opfs_ring,
  opfs_size,
  opfs_sync,
  opfs_there,
  opfs_truncate,
  opfs_writev,
} from './store_post.ts';

const store = vm_store;
const root = vm_store_root;

const Z_STORES = zone_declared('VM STORE', 'Stores that all threads know: files, and memory');
const init = vector('vm_store_zinit', (s: vm_store_t) => {
  mem.I32[field_word(store.id, s)] = 0; // the slab is nobody's yet: no guard
  return 0;
});
/** Files that a thread has open of stores; it may open some others beside them. */
const OWN_MAX = STORES_MAX - 24;
/** Before the name of a file of the browser's, where the host has others, too. */
const OPFS = 'opfs:';

const v_opens = counter_u64('vm.stats.store.opens', 'Files that threads opened of stores');
const v_stale = counter_u64(
  'vm.stats.store.stale',
  'Times that another file, or none, was found where a store had been',
);
export const v_closed = counter_u64(
  'vm.stats.store.closed',
  'Files of stores that were closed because a thread could have no more open',
);
sysctl_value(
  'vm.stats.store.count',
  { type: 'uint', help: 'Stores that there are: files and memory that pages come from' },
  () => root.count[store_root()],
);

/** Lays the root out, while boot_alloc still works. */
export function vm_store_boot(): void {
  const r = boot_alloc(root.sizeof, 'stores', 32) as vm_store_root_t;
  machine.roots[elem(M, ROOT_STORE)] = r;
  mtx_init(root.lock, r, LC_VM_STORES);
}
/** Makes the zone. */
export function vm_store_startup(): void {
  const bytes = (store.sizeof + cpu_slots()) * 4;
  root.zone[store_root()] = uma_zcreate(Z_STORES, bytes, { init, flags: UMA_ZONE_NOFREE });
}
/** The word that says which descriptor the thread of a CPU has of the store. */
export function store_fd_word(s: vm_store_t, cpu: number): number {
  return s + store.sizeof + cpu;
}

// --- references on their way -------------------------------------------------------------------

/** Notes a reference in this CPU's hand. Inside a section. */
function ref_push(s: vm_store_t): void {
  const { pc } = thr;
  const n = pcpu.in_hand_stores[pc];
  if (n >= HAND_STORES) panic('vm_store: more references in hand than it can hold', n);
  save(pcpu.in_hand_store, elem(pc, n));
  save(pcpu.in_hand_stores, pc);
  pcpu.in_hand_store[elem(pc, n)] = s;
  pcpu.in_hand_stores[pc] = n + 1;
}
/** Takes the note of a reference to `s` out of this CPU's hand. Inside a section. */
function ref_pop(s: vm_store_t): void {
  const { pc } = thr;
  const last = pcpu.in_hand_stores[pc] - 1;
  let i = last;
  while (i >= 0 && pcpu.in_hand_store[elem(pc, i)] !== s) i--;
  if (i < 0) panic('vm_store: no reference to it in hand', s * 4);
  save(pcpu.in_hand_store, elem(pc, i));
  save(pcpu.in_hand_stores, pc);
  pcpu.in_hand_store[elem(pc, i)] = pcpu.in_hand_store[elem(pc, last)];
  pcpu.in_hand_stores[pc] = last;
}
/** A record leads to the store from here on: its reference is in hand no more. In a section. */
export function vm_store_anchor(s: vm_store_t): void {
  ref_pop(s);
}
/** A record leads to it no more: the reference is in hand. Inside the record's section. */
export function vm_store_unanchor(s: vm_store_t): void {
  ref_push(s);
}
/** One more reference, into this CPU's hand. The caller has one, or a record that stays has. */
export function vm_store_reference(s: vm_store_t): void {
  const r = store_root();
  mtx_lock(root.lock, r);
  undo_begin(root.lock, r);
  save(store.refs, s);
  store.refs[s]++;
  ref_push(s);
  undo_end();
  mtx_unlock(root.lock, r);
}
/** Gives up the reference in this CPU's hand. With the last one the store ends. No lock is held. */
export function vm_store_drop(s: vm_store_t): void {
  const r = store_root();
  mtx_lock(root.lock, r);
  undo_begin(root.lock, r);
  const ends = store.refs[s] === 1;
  save(store.refs, s);
  store.refs[s]--;
  if (ends) {
    list_out(r, s);
    save(pcpu.in_hand_items, thr.pc);
    item_in_hand(s);
  }
  ref_pop(s);
  undo_end();
  mtx_unlock(root.lock, r);
  if (!ends) return;
  if (store.kind[s] === VM_STORE_OPFS) opfs_ring();
  vm_store_heard();
  for (let cpu = 0; cpu < machine.maxcpus[M]; cpu++) {
    if (cpu !== thr.cpu && atomic_load(store_fd_word(s, cpu)) !== 0) cpu_ring(cpu);
  }
  zone_free_at(root.zone[r] as zone_t, s, 0);
}
/** The store leaves the list: its number is nobody's. Inside a section. */
function list_out(r: vm_store_root_t, s: vm_store_t): void {
  list_remove(root, r, store, s);
  save(root.ended, r);
  save(store.id, s);
  root.ended[r]++;
  store.id[s] = 0;
}

// --- coming ------------------------------------------------------------------------------------

/**
 * A store over the file at `path`, opened as store_open does (STORE_*).  A reference is in this
 * CPU's hand, and this thread has the file open.  Returns it, or the errno, negated: ENAMETOOLONG,
 * EISDIR, EINVAL for what is no file of bytes, ENFILE for too many stores, ENOMEM, and what the
 * host says.  A file that STORE_NEW made is gone then.
 */
export function vm_store_make(path: string, how: number): vm_store_t | number {
  if (path === '' || path.includes('\0')) return -EINVAL;
  if (path.startsWith(OPFS)) return make_opfs(path.slice(OPFS.length), how);
  if (!store_files() && opfs_there()) return make_opfs(path, how);
  const full = host_path(path);
  if (new TextEncoder().encode(full).length > STORE_PATH_MAX) return -ENAMETOOLONG;
  if (root.count[store_root()] >= VM_STORES_MAX) return -ENFILE;
  const number = with_room(() => open_new(full, how));
  if (number < 0) return number;
  const is = parked(() => store_identity(number));
  const s = typeof is === 'number' ? is : record_make(VM_STORE_FILE, how !== STORE_READ);
  own_remove(OWN_NEW);
  if (s < 0 || typeof is === 'number') {
    parked(() => (how === STORE_NEW ? store_discard(number) : store_close(number))); // errno: of s
    return s;
  }
  const made = s as vm_store_t;
  set_halves(store.dev, made, is.dev);
  set_halves(store.ino, made, is.ino);
  set_halves(store.birth, made, is.birth);
  set_string(store.path, made, STORE_PATH_WORDS, full);
  record_publish(made);
  store_keep(number);
  own_has(made, number);
  return made;
}
/** A store over a file of the browser's, by its name there: another thread opens it. */
function make_opfs(name: string, how: number): vm_store_t | number {
  if (name === '' || how < STORE_READ || how > STORE_NEW) return -EINVAL;
  if (new TextEncoder().encode(name).length > STORE_PATH_MAX) return -ENAMETOOLONG;
  if (root.count[store_root()] >= VM_STORES_MAX) return -ENFILE;
  const s = record_make(VM_STORE_OPFS, how !== STORE_READ);
  if (s < 0) return s;
  const made = s as vm_store_t;
  set_halves(store.ino, made, BigInt(s)); // a file is open once: no two stores are of the same
  set_string(store.path, made, STORE_PATH_WORDS, name);
  record_publish(made);
  const error = opfs_open(made, how);
  if (error === 0) return made;
  vm_store_drop(made);
  return -error;
}
/** Opens a file for the first time; noted at once, since coming back may end this thread's turn. */
function open_new(path: string, how: number): number {
  return parked(() => {
    const number = store_open(path, how);
    if (number > 0) own_enter(OWN_NEW, 0, number);
    return number;
  });
}
/**
 * A store over pages of the machine's memory, which stay the caller's.  A reference is in this
 * CPU's hand.  Returns it, or the errno, negated.
 */
export function vm_store_memory(first_page: number, pages: number): vm_store_t | number {
  if (root.count[store_root()] >= VM_STORES_MAX) return -ENFILE;
  const s = record_make(VM_STORE_MEMORY, true);
  if (s < 0) return s;
  const made = s as vm_store_t;
  store.first_page[made] = first_page;
  store.pages[made] = pages;
  record_publish(made);
  return made;
}
/** An empty record, in hand as an item; or -ENOMEM. */
function record_make(kind: number, writable: boolean): number {
  const s = zone_alloc_hand(root.zone[store_root()] as zone_t, M_NOWAIT) as vm_store_t;
  if (s === NULL) return -ENOMEM;
  checked_fresh(s, store.sizeof);
  mem.I32.fill(0, s, s + store.sizeof + cpu_slots());
  store.kind[s] = kind;
  store.writable[s] = writable ? 1 : 0;
  store.refs[s] = 1;
  return s;
}
/** The record is on the list, and its one reference in hand. */
function record_publish(s: vm_store_t): void {
  const r = store_root();
  mtx_lock(root.lock, r);
  undo_begin(root.lock, r);
  list_insert(root, r, store, s);
  save(root.made, r);
  save(pcpu.in_hand_items, thr.pc);
  save(store.id, s);
  root.made[r]++;
  store.id[s] = root.made[r];
  item_settle();
  ref_push(s);
  undo_end();
  checked_publish(s);
  mtx_unlock(root.lock, r);
}
function set_halves(f: typeof store.dev, s: vm_store_t, value: bigint): void {
  f[s] = Number(BigInt.asIntN(32, value));
  f[elem(s, 1)] = Number(BigInt.asIntN(32, value >> 32n));
}
function halves(f: typeof store.dev, s: vm_store_t): bigint {
  return BigInt.asUintN(64, (BigInt(f[elem(s, 1)]) << 32n) | BigInt(f[s] >>> 0));
}
/** Which file a store is. */
function identity_of(s: vm_store_t): StoreIdentity {
  return {
    dev: halves(store.dev, s),
    ino: halves(store.ino, s),
    birth: halves(store.birth, s),
  };
}
/** Whether two stores are the same file. */
export function vm_store_same(s: vm_store_t, other: vm_store_t): boolean {
  if (store.kind[s] !== VM_STORE_FILE || store.kind[other] !== VM_STORE_FILE) return s === other;
  const [is, was] = [identity_of(s), identity_of(other)];
  return is.dev === was.dev && is.ino === was.ino;
}
/** Where the file of a store was when it was opened; empty: it lies in memory. */
export function vm_store_path(s: vm_store_t): string {
  return get_string(store.path, s, STORE_PATH_WORDS);
}

// --- this thread's descriptors -------------------------------------------------------------------

/** Runs a call of the host with this CPU parked. */
function parked<T>(call: () => T): T {
  io_begin();
  const result = call();
  unpark();
  return result;
}
function io_begin(): void {
  if (opt.WITNESS) witness_sleep('vm_store: a call of the host', 0);
  park();
}
/** Opens a file; while the host, or this thread, has too many open, closes one and tries again. */
function with_room(open: () => number): number {
  while (own_count() >= OWN_MAX) if (!make_room()) return -EMFILE;
  for (;;) {
    const number = open();
    if (number !== -EMFILE && number !== -ENFILE) return number;
    if (!make_room()) return number;
  }
}
/** The number under which this thread has the store's file open, or the errno, negated. */
function own_number(s: vm_store_t): number {
  vm_store_heard();
  const id = store.id[s];
  if (opt.INVARIANTS && id === 0) panic('vm_store: used after its end', s * 4);
  const number = own_find(id);
  return number >= 0 ? number : with_room(() => open_again(s));
}
/** Opens the file of a store that is open somewhere, or was. */
function open_again(s: vm_store_t): number {
  const is = identity_of(s);
  const how = store.writable[s] === 1 ? STORE_WRITE : STORE_READ;
  const ways = fd_paths(s);
  ways.push(vm_store_path(s));
  let result = -ESTALE;
  io_begin();
  for (const path of ways) {
    const got = store_reopen(path, how, is);
    if (got !== -ESTALE) result = got;
    if (got > 0 || got === -EMFILE || got === -ENFILE) break;
  }
  if (result > 0) own_enter(store.id[s], s, result); // coming back may end this thread's turn
  unpark_quiet();
  if (result > 0) own_has(s, result);
  else if (result === -ESTALE) counter_add(v_stale, 1);
  poll();
  return result;
}
/** Paths to the descriptors that threads have, or had, of the store. */
function fd_paths(s: vm_store_t): string[] {
  const paths: string[] = [];
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const fd = atomic_load(store_fd_word(s, cpu)) - 1;
    const path = fd >= 0 && cpu !== thr.cpu ? host_fd_path(fd) : null;
    if (path !== null) paths.push(path);
  }
  return paths;
}
/** This thread has the store's file open under that number: the others are told. */
function own_has(s: vm_store_t, number: number): void {
  own_enter(store.id[s], s, number);
  atomic_store(store_fd_word(s, thr.cpu), store_fd(number) + 1);
  counter_add(v_opens, 1);
}
/** Closes the file that was used longest ago of those that others have open, too. */
function make_room(): boolean {
  for (const { id, at } of own_all()) {
    if (id === OWN_NEW || !release(id, at as vm_store_t)) continue;
    close_own(id);
    counter_add(v_closed, 1);
    return true;
  }
  return false;
}
/** Takes this thread's word from a store, if another living thread has the file open. */
function release(id: number, s: vm_store_t): boolean {
  const r = store_root();
  mtx_lock(root.lock, r); // of two threads that release the same file one sees that it is the last
  const other = store.id[s] !== id || open_elsewhere(s);
  if (other && store.id[s] === id) atomic_store(store_fd_word(s, thr.cpu), 0);
  mtx_unlock(root.lock, r);
  return other;
}
function open_elsewhere(s: vm_store_t): boolean {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    if (cpu === thr.cpu || atomic_load(store_fd_word(s, cpu)) === 0) continue;
    if (cpu_alive(cpu)) return true;
  }
  return false;
}
function close_own(id: number): void {
  const number = own_remove(id);
  parked(() => store_close(number)); // errno: what it wrote was told when it was written or synced
}
/** Closes what this thread has open of stores that ended. A line of the bell table. */
export function vm_store_heard(): void {
  const ended = root.ended[store_root()];
  if (ended === own_heard.ended) return;
  own_heard.ended = ended;
  for (const { id, at } of own_all()) {
    if (id !== OWN_NEW && store.id[at as vm_store_t] !== id) close_own(id);
  }
}
/** This thread leaves: nobody is led to its descriptors, which are about to be closed. */
export function vm_store_leave(): void {
  vm_store_reap(thr.cpu);
}

// --- input and output ----------------------------------------------------------------------------

/** What the calls of store_io.ts take for a store, or the errno, negated. */
function ref_of(s: vm_store_t): StoreRef {
  if (store.kind[s] === VM_STORE_FILE) return own_number(s);
  const first = store.first_page[s] * PAGE_WORDS * 4;
  return mem.U8.subarray(first, first + store.pages[s] * PAGE_WORDS * 4);
}
/** The errno that stands for a store; 0: it is one. */
function ref_error(ref: StoreRef): number {
  return typeof ref === 'number' && ref < 0 ? -ref : 0;
}
/**
 * Reads from byte `at` on into views, one after the other.  Returns the bytes read, fewer at the
 * end of the store, or the errno, negated.  The caller refers to the store, and holds no lock.
 */
export function vm_store_readv(s: vm_store_t, at: number, into: readonly Uint8Array[]): number {
  if (store.kind[s] === VM_STORE_OPFS) return opfs_readv(s, at, into);
  const ref = ref_of(s);
  const error = ref_error(ref);
  if (error !== 0) return -error;
  io_begin();
  const n = store_readv(ref, at, into);
  unpark();
  return n;
}
/** Writes views from byte `at` on, one after the other: all, or an errno. As vm_store_readv. */
export function vm_store_writev(s: vm_store_t, at: number, from: readonly Uint8Array[]): number {
  if (store.kind[s] === VM_STORE_OPFS) return store.writable[s] ? opfs_writev(s, at, from) : EROFS;
  const ref = ref_of(s);
  const failed = ref_error(ref);
  if (failed !== 0) return failed;
  io_begin();
  const error = store_writev(ref, at, from);
  unpark();
  return error;
}
/** Bytes in a store, or the errno, negated. As vm_store_readv. */
export function vm_store_size(s: vm_store_t): number {
  if (store.kind[s] === VM_STORE_OPFS) return opfs_size(s);
  const ref = ref_of(s);
  const error = ref_error(ref);
  return error !== 0 ? -error : parked(() => store_size(ref));
}
/** Makes a file so many bytes long. 0, or an errno. As vm_store_readv. */
export function vm_store_truncate(s: vm_store_t, size: number): number {
  if (store.kind[s] === VM_STORE_OPFS) return store.writable[s] ? opfs_truncate(s, size) : EROFS;
  const ref = ref_of(s);
  return ref_error(ref) || parked(() => store_truncate(ref, size));
}
/** All that was written is where it stays. 0, or an errno. As vm_store_readv. */
export function vm_store_sync(s: vm_store_t): number {
  if (store.kind[s] === VM_STORE_OPFS) return opfs_sync(s);
  const ref = ref_of(s);
  return ref_error(ref) || parked(() => store_sync(ref));
}
/** This thread has the store's file open from here on. 0, or an errno. As vm_store_readv. */
export function vm_store_open(s: vm_store_t): number {
  if (store.kind[s] === VM_STORE_OPFS) return Math.max(0, -opfs_size(s));
  return ref_error(ref_of(s));
}
/** Removes the store's file, if it is still where it was opened. 0, or an errno: ESTALE. */
export function vm_store_remove(s: vm_store_t): number {
  if (store.kind[s] === VM_STORE_OPFS) return opfs_remove(s);
  if (store.kind[s] !== VM_STORE_FILE) return EINVAL;
  const path = vm_store_path(s);
  const is = identity_of(s);
  return parked(() => store_remove(path, is));
}

// --- deaths ------------------------------------------------------------------------------------

/** What a dead CPU had of stores. A line of the death table. */
export function vm_store_reap(cpu: number): void {
  const r = store_root();
  if (r === 0) return;
  const pc = pcpu_of(cpu);
  mtx_lock(root.lock, r); // a reaper may have died while it took a reference over: that is undone
  for (let s = root.first[r]; s !== NULL; s = store.next[s]) atomic_store(store_fd_word(s, cpu), 0);
  mtx_unlock(root.lock, r);
  while (pcpu.in_hand_stores[pc] > 0) {
    const s = pcpu.in_hand_store[elem(pc, pcpu.in_hand_stores[pc] - 1)] as vm_store_t;
    if (cpu !== thr.cpu) ref_take_over(s, pc);
    vm_store_drop(s);
  }
}
/** The last reference in the hand of a dead CPU goes into this CPU's. */
function ref_take_over(s: vm_store_t, pc: pcpu_t): void {
  const r = store_root();
  mtx_lock(root.lock, r);
  undo_begin(root.lock, r);
  save(pcpu.in_hand_stores, pc);
  pcpu.in_hand_stores[pc]--;
  ref_push(s);
  undo_end();
  mtx_unlock(root.lock, r);
}
