/*
 * vm_vnode (header): files whose pages are in memory.
 *
 *      root ──> vnode ──> vnode ...            one for each file, by device and inode
 *                 |  \
 *              object  stores                  its pages; where they come from and go to
 *
 * A file has one vnode in a machine, by whichever path and thread it was opened, and a vnode has
 * one object.  It is opened twice at most: for reading, and for writing once somebody asks for
 * that.
 */
import { i32, lock_words, type Ptr, ptr, struct, u64 } from '../machine/struct.ts';
import type { vm_object_t } from './vm_object.ts';
import type { vm_store_t } from './vm_store.ts';

export type vnode_t = Ptr<'vnode'>;
export type vnode_root_t = Ptr<'vnode_root'>;

/* Locks: (n) the lock of the list  (o) that of its object  (h) read by all */
export const vnode = struct<vnode_t>(
  'vnode',
  16,
)({
  object: ptr<vm_object_t>('nh', 'its pages, with a reference; 0: it is not on the list'),
  reader: ptr<vm_store_t>('oh', 'the store by which it was opened for reading; 0: see writer'),
  writer: ptr<vm_store_t>(
    'oh',
    'that by which it was opened for writing; 0: nobody asked for that',
  ),
  truncating: i32('oh', 'tid of the thread that changes its length; 0: none'),
  error: i32('oh', 'errno of the write that failed first since that was last told'),
  failed: i32('oh', 'pages that could not be written since then'),
  next: ptr<vnode_t>('nh', 'next on the list of all'),
  prev: ptr<vnode_t>('n', 'the one before'),
  changes: i32('oh', 'how often its length was noted: what was asked before is no answer then'),
  size: u64('oh', 'bytes of the file, as far as this machine has seen'),
});
/* Locks: (n) the lock  (c) constant once up  (h) read by all */
export const vnode_root = struct<vnode_root_t>(
  'vnode_root',
  32,
)({
  lock: lock_words(4, 'VM vnodes', 'the list of files'),
  first: ptr<vnode_t>('nh', 'newest one'),
  count: i32('nh', 'files'),
  zone: i32('c', 'zone of the vnodes'),
});
