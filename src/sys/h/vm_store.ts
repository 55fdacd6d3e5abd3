/*
 * vm_store (header): what all threads know of a store.
 *
 *      record ──> path, which file it is ── of each CPU: its own descriptor
 *             ──> or pages of the machine's own memory
 *
 * A record is two kilobytes at most and lies in a zone that keeps its slabs.  Behind it are as
 * many words as there are CPU slots: the host's descriptor that the thread in the slot has of the
 * file, plus one; 0: it has none.  Each is changed by its own thread, or by whoever settles the
 * death of that one.
 */
import { M, machine, ROOT_STORE } from '../machine/header.ts';
import { elem, i32, lock_words, type Ptr, ptr, struct, u32, words } from '../machine/struct.ts';

export type vm_store_t = Ptr<'vm_store'>;
export type vm_store_root_t = Ptr<'vm_store_root'>;

/* Kinds. */
/** A file of the host. */
export const VM_STORE_FILE = 1;
/** Pages of the machine's own memory. */
export const VM_STORE_MEMORY = 2;
/** A file of a browser's own file system, which one thread has open for all (store_post.ts). */
export const VM_STORE_OPFS = 3;

/** Stores of a machine. */
export const VM_STORES_MAX = 1024;
/** Words of a path: 1023 bytes and a NUL. */
export const STORE_PATH_WORDS = 256;
/** Longest path of a store, in bytes. */
export const STORE_PATH_MAX = STORE_PATH_WORDS * 4 - 1;

/* Locks: (n) the lock of all stores  (c) constant once made  (h) read by all */
export const vm_store = struct<vm_store_t>('vm_store')({
  next: ptr<vm_store_t>('nh', 'next on the list of all stores'),
  prev: ptr<vm_store_t>('n', 'the one before'),
  id: i32('nh', 'number that no other store of the machine ever had; 0: the record is free'),
  refs: i32('nh', 'records that lead to it, and references on their way'),
  kind: i32('c', 'VM_STORE_*'),
  writable: i32('c', '1: it may be written'),
  first_page: i32('c', 'of memory: its first page'),
  pages: i32('c', 'and how many'),
  dev: words('c', 'of a file: its device, low half first', 2),
  ino: words('c', 'its number there', 2),
  birth: words('c', 'when it was made, ns; 0: the host does not say', 2),
  path: words('c', 'where it was when it was opened, from the root on', STORE_PATH_WORDS),
});
/* Locks: (n) the lock  (c) constant once up  (h) read by all */
export const vm_store_root = struct<vm_store_root_t>(
  'vm_store_root',
  32,
)({
  lock: lock_words(4, 'VM stores', 'the list of stores, and references to them'),
  first: ptr<vm_store_t>('nh', 'newest store'),
  count: i32('nh', 'stores'),
  made: i32('n', 'the last number that was given'),
  ended: u32('nh', 'stores that ended: threads close what they have open of these'),
  zone: i32('c', 'zone of the records'),
  opfs_owner: i32('a', "tid of the thread that has a browser's files open; 0: none"),
  opfs_bell: i32('a', 'rung for that thread'),
  opfs_posts: i32('nh', 'what it is asked: first word of the records; 0: there are none'),
});
/** The record of all stores. */
export function store_root(): vm_store_root_t {
  return machine.roots[elem(M, ROOT_STORE)] as vm_store_root_t;
}
