/*
 * vm_radix (header): an index from page numbers to words.
 *
 *      tree    root, height                 height 0: the root is the value at key 0, or nothing
 *      node    count | 64 slots             a slot leads to a node below, or is a value
 *
 * Keys are whole numbers below 2^31, taken six bits at a time: a tree of height h holds
 * the keys below 64^h and grows by a node on top when a larger one comes.  So a tree of key 0
 * alone, an object of one page, has no node.  The tree
 * lies inside the record of its owner, whose lock guards it; the node that was used last
 * is remembered, because most keys come one after the other.
 */
import { i32, type Ptr, ptr, struct, words } from '../machine/struct.ts';

export type vm_radix_t = Ptr<'vm_radix'>;
export type vm_radix_node_t = Ptr<'vm_radix_node'>;

/** Bits of a key that a node takes. */
export const RADIX_BITS = 6;
export const RADIX_SLOTS = 1 << RADIX_BITS;
/** Nodes from the top to a value, at most: 31 bits. */
export const RADIX_HEIGHT_MAX = 6;

/* Locks: (w) the lock of the record that the tree lies in */
export const vm_radix = struct<vm_radix_t>('vm_radix')({
  lock: i32('c', 'word of that lock'),
  root: ptr<vm_radix_node_t>('w', 'the node on top; of height 0 the value at key 0'),
  height: i32('w', 'nodes from the root to a value'),
  leaf: ptr<vm_radix_node_t>('w', 'lowest node that was used last, 0: none'),
  leaf_key: i32('w', 'its keys, shifted down by RADIX_BITS'),
});
export const vm_radix_node = struct<vm_radix_node_t>('vm_radix_node')({
  tree: ptr<vm_radix_t>('c', 'the tree that it is part of'),
  count: i32('w', 'slots that are not 0'),
  slot: words('w', 'a node, or in the lowest ones a value; 0: nothing', RADIX_SLOTS),
});
