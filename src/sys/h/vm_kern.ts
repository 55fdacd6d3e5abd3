/*
 * vm_kern (header): the addresses of the kernel.
 *
 *      page number   0            2^21                                        2^31
 *                    | memory     | kernel_map                                |
 *                    | as it lies | entry | hole | entry | submap | ...       |
 *
 * Below KVA_BASE, 8 GiB, a kernel address is a place in the memory itself.  From there on it is
 * translated, by the kernel's page tables: there are a thousand times more addresses than memory,
 * and what lies side by side there need not in memory.
 *
 * Page i of kernel_object, or of kmem_object, is the page at KVA_BASE + i.
 */
import { i32, lock_words, type Ptr, ptr, struct } from '../machine/struct.ts';
import type { pmap_t } from './pmap.ts';
import { VM_MAP_MAX, type vm_map_t } from './vm_map.ts';
import type { vm_object_t } from './vm_object.ts';

export type vm_kern_root_t = Ptr<'vm_kern_root'>;

/** The first page number that is no place in the memory, and one more than the last. */
export const KVA_BASE = 2 ** 21;
export const KVA_END = VM_MAP_MAX;
/** Entries of system maps that are kept aside, so that a map can grow while memory is short. */
export const KMAP_ENTRIES_KEPT = 128;

/* Locks: (s) the lock  (a) atomic  (h) read by all, once `ready` says so */
export const vm_kern_root = struct<vm_kern_root_t>(
  'vm_kern_root',
  32,
)({
  lock: lock_words(4, 'kernel maps', 'the making of what follows'),
  pmap: ptr<pmap_t>('sh', 'translations of all kernel addresses; 0: nobody wanted one yet'),
  object: ptr<vm_object_t>('sh', 'kernel_object: pages of kmem_alloc'),
  kmem: ptr<vm_object_t>('sh', 'kmem_object: pages of malloc'),
  map: ptr<vm_map_t>('sh', 'kernel_map'),
  ready: i32('a', '1: all of these are there for good'),
  exec: ptr<vm_map_t>('s', 'exec_map: arguments of programs that start; 0: nobody wanted it yet'),
  pipe: ptr<vm_map_t>('s', 'pipe_map: what is in pipes; 0: likewise'),
  buffer: ptr<vm_map_t>('s', 'buffer_map: pieces that buffers are cut from; 0: likewise'),
  orphans: i32('a', '1: a thread died, and nobody looked yet for what it had of addresses'),
});
