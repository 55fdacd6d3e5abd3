/*
 * vm_radix: finds words by page number, under its owner's lock.
 *
 * A store is made in two steps, because memory may be short: radix_reserve makes the nodes
 * on the way, each in a section of its own, and may fail with nothing changed; radix_store then
 * cannot fail and is part of the caller's section, so that what it says and what the caller's
 * record says change together.  radix_clear is the other way round: a part of the caller's
 * section, and radix_trim afterwards gives back the nodes that nothing needs any more.
 *
 *      radix_reserve(t, key, z)     sections of its own     nodes come, from zone z
 *      radix_store(t, key, v)       in the caller's
 *      radix_clear(t, key)          in the caller's
 *      radix_trim(t, key, z)        sections of its own     nodes go
 *
 * Deaths.  A node is in the hand of the CPU that made it or took it out until the section that
 * links or unlinks it ends.  A tree whose CPU died between two sections has at most empty
 * nodes more than it needs; the next trim on their way takes them.
 */
import { pcpu as pcpu_, thr as thr_ } from '../machine/cpu.ts';
import { hw as hw_ } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { elem, field_word, NULL } from '../machine/struct.ts';
import { M_NORECLAIM, M_NOWAIT } from '../h/malloc_flags.ts';
import type { zone_t } from '../h/uma.ts';
import {
  RADIX_BITS,
  RADIX_HEIGHT_MAX,
  RADIX_SLOTS,
  vm_radix,
  vm_radix_node,
  type vm_radix_node_t,
  type vm_radix_t,
} from '../h/vm_radix.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { save, save_run, undo_begin_word, undo_end } from '../sync/undo.ts';
import { zone_alloc_hand, zone_free_at } from '../uma/uma_core.ts';
import { item_in_hand, item_settle } from '../uma/uma_keg.ts';
import { uma_zcreate } from '../uma/uma_zone.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const thr = thr_;
const pcpu = pcpu_;
const hw = hw_;
const radix = vm_radix;
const node = vm_radix_node;
const BITS = RADIX_BITS;
const MASK = RADIX_SLOTS - 1;

/** Makes a zone of nodes. */
export function radix_zone_create(name: string): zone_t {
  return uma_zcreate(name, node.sizeof * 4);
}

/** The slot of `key` in a node at height `level`, 1 being the lowest. */
function slot_of(n: vm_radix_node_t, key: number, level: number): vm_radix_node_t {
  return elem(n, (key >>> ((level - 1) * BITS)) & MASK);
}
/** Whether a tree of that height has a place for `key`. */
function reaches(height: number, key: number): boolean {
  return height >= RADIX_HEIGHT_MAX || key >>> (height * BITS) === 0;
}

// --- looking ------------------------------------------------------------------------------

/** The value at `key`, 0: none. */
export function radix_lookup(t: vm_radix_t, key: number): number {
  const n = leaf_near(t, key);
  return n === NULL ? root_value(t, key) : node.slot[elem(n, key & MASK)];
}
/** The value at `key` in a tree that has no node, 0: none. */
function root_value(t: vm_radix_t, key: number): number {
  return is_root(t, key) ? radix.root[t] : 0;
}
/** Whether the place of `key` is the root itself. */
function is_root(t: vm_radix_t, key: number): boolean {
  return key === 0 && radix.height[t] === 0;
}
/** The lowest node on the way to `key`, which is remembered; NULL if the way ends before. */
function leaf_near(t: vm_radix_t, key: number): vm_radix_node_t {
  const leaf = radix.leaf[t];
  return leaf !== NULL && radix.leaf_key[t] === key >>> BITS ? leaf : leaf_far(t, key);
}
function leaf_far(t: vm_radix_t, key: number): vm_radix_node_t {
  const n = leaf_of(t, key);
  if (n === NULL) return n;
  radix.leaf[t] = n;
  radix.leaf_key[t] = key >>> BITS;
  return n;
}
/** The same without remembering the node: by whoever only looks. */
export function radix_peek(t: vm_radix_t, key: number): number {
  const n = leaf_of(t, key);
  return n === NULL ? root_value(t, key) : node.slot[elem(n, key & MASK)];
}
/** The lowest node on the way to `key`; NULL if the way ends before. */
function leaf_of(t: vm_radix_t, key: number): vm_radix_node_t {
  let level = radix.height[t];
  let n = radix.root[t];
  if (n === NULL || level === 0 || !reaches(level, key)) return NULL as vm_radix_node_t;
  for (; level > 1 && n !== NULL; level--) n = node.slot[slot_of(n, key, level)] as vm_radix_node_t;
  return n;
}
/** The lowest key from `key` on that has a value; -1: none. */
export function radix_next(t: vm_radix_t, key: number): number {
  const height = radix.height[t];
  if (height === 0) return root_value(t, key) === 0 ? -1 : 0;
  if (!reaches(height, key)) return -1;
  return next_below(radix.root[t], height, key, 0);
}
/** The same in a node whose keys begin at `base`. */
function next_below(n: vm_radix_node_t, level: number, key: number, base: number): number {
  const width = 2 ** ((level - 1) * BITS);
  for (let i = key <= base ? 0 : Math.floor((key - base) / width); i <= MASK; i++) {
    const v = node.slot[elem(n, i)];
    if (v === 0) continue;
    const from = base + i * width;
    if (level === 1) return from;
    const found = next_below(v as vm_radix_node_t, level - 1, key, from);
    if (found >= 0) return found;
  }
  return -1;
}

// --- coming -------------------------------------------------------------------------------

/** Makes an empty tree, guarded by the lock at word `l`. */
export function radix_init(t: vm_radix_t, l: number): void {
  radix.lock[t] = l;
  radix.root[t] = NULL as vm_radix_node_t;
  radix.height[t] = 0;
  radix.leaf[t] = NULL as vm_radix_node_t;
}
/**
 * Makes the nodes that a store at `key` needs.  The tree's lock is held, and no section
 * is open.  False: no memory for one of them.  Never sleeps.
 */
export function radix_reserve(t: vm_radix_t, key: number, z: zone_t): boolean {
  if (leaf_near(t, key) !== NULL || reserve(t, key, z)) return true;
  radix_trim(t, key, z); // what it had got so far
  return false;
}
function reserve(t: vm_radix_t, key: number, z: zone_t): boolean {
  if (is_root(t, key)) return true;
  if (radix.root[t] === NULL) return reserve_first(t, key, z);
  while (!reaches(radix.height[t], key)) {
    const top = fresh(t, z);
    if (top === NULL) return false;
    node.count[top] = 1;
    node.slot[top] = radix.root[t];
    new_root(t, top, radix.height[t] + 1);
  }
  let n = radix.root[t];
  for (let level = radix.height[t]; level > 1; level--) {
    const at = slot_of(n, key, level);
    if (node.slot[at] === NULL) {
      const below = fresh(t, z);
      if (below === NULL) return false;
      undo_begin_word(radix.lock[t]);
      save(node.slot, at);
      save(node.count, n);
      save(pcpu.in_hand_items, thr.pc);
      node.slot[at] = below;
      node.count[n]++;
      item_settle();
      undo_end();
    }
    n = node.slot[at] as vm_radix_node_t;
  }
  return true;
}
/** An empty tree begins with as many levels as its first key needs, which is not 0. */
function reserve_first(t: vm_radix_t, key: number, z: zone_t): boolean {
  let height = 1;
  while (!reaches(height, key)) height++;
  const top = fresh(t, z);
  if (top === NULL) return false;
  new_root(t, top, height);
  return reserve(t, key, z);
}
/** A node in this CPU's hand, with nothing in it. */
function fresh(t: vm_radix_t, z: zone_t): vm_radix_node_t {
  const n = zone_alloc_hand(z, M_NOWAIT | M_NORECLAIM) as vm_radix_node_t;
  if (n === NULL) return n;
  checked_fresh(n, node.sizeof);
  hw.fill(n, 0, node.sizeof);
  node.tree[n] = t;
  checked_publish(n);
  return n;
}
function new_root(t: vm_radix_t, top: vm_radix_node_t, height: number): void {
  undo_begin_word(radix.lock[t]);
  save(radix.root, t);
  save(radix.height, t);
  save(pcpu.in_hand_items, thr.pc);
  radix.root[t] = top;
  radix.height[t] = height;
  item_settle();
  undo_end();
}
/** Stores a value, not 0, at a key whose nodes are there. Inside the caller's section. */
export function radix_store(t: vm_radix_t, key: number, value: number): void {
  const n = leaf_near(t, key);
  if (n === NULL) return store_root(t, key, value);
  const at = elem(n, key & MASK);
  if (node.slot[at] !== 0) panic('radix_store: offset already allocated', key, node.slot[at]);
  save(node.slot, at);
  save(node.count, n);
  node.slot[at] = value;
  node.count[n]++;
}
/** The same where the key has no node. */
function store_root(t: vm_radix_t, key: number, value: number): void {
  if (!is_root(t, key)) panic('radix_store: no node', key);
  if (radix.root[t] !== NULL) panic('radix_store: offset already allocated', key, radix.root[t]);
  root_set(t, value);
}
function root_set(t: vm_radix_t, value: number): void {
  save(radix.root, t);
  radix.root[t] = value as vm_radix_node_t;
}
/** Puts another value in the place of the one at `key`. Inside the caller's section. */
export function radix_replace(t: vm_radix_t, key: number, value: number): void {
  const n = leaf_near(t, key);
  if (n === NULL) return replace_root(t, key, value);
  const at = elem(n, key & MASK);
  if (node.slot[at] === 0) panic('radix_replace: nothing', key);
  save(node.slot, at);
  node.slot[at] = value;
}
/** The same where the key has no node. */
function replace_root(t: vm_radix_t, key: number, value: number): void {
  if (root_value(t, key) === 0) panic('radix_replace: nothing', key);
  root_set(t, value);
}
/**
 * Puts `value`, `value` + 1 and so on at the n keys from `key` on, whose nodes are there.  Inside
 * the caller's section.  False, and nothing is done: they are not all in one node, or what stands
 * there is neither nothing nor a row of values.
 */
export function radix_store_run(t: vm_radix_t, key: number, n: number, value: number): boolean {
  const leaf = leaf_near(t, key);
  if (leaf === NULL || key >>> BITS !== (key + n - 1) >>> BITS) return false;
  const at = elem(leaf, key & MASK);
  const empty = node.slot[at] === 0;
  for (let k = 1; k < n; k++) if ((node.slot[elem(at, k)] === 0) !== empty) return false;
  if (!save_run(field_word(node.slot, at), n)) return false;
  if (empty) {
    save(node.count, leaf);
    node.count[leaf] += n;
  }
  for (let k = 0; k < n; k++) node.slot[elem(at, k)] = value + k;
  return true;
}

// --- going --------------------------------------------------------------------------------

/** Takes the value at `key` out; returns it, 0: there was none. Inside the caller's section. */
export function radix_clear(t: vm_radix_t, key: number): number {
  const n = leaf_near(t, key);
  if (n === NULL) return clear_root(t, key);
  const at = elem(n, key & MASK);
  const value = node.slot[at];
  if (value === 0) return 0;
  save(node.slot, at);
  save(node.count, n);
  node.slot[at] = 0;
  node.count[n]--;
  return value;
}
/** The same where the key has no node. */
function clear_root(t: vm_radix_t, key: number): number {
  const value = root_value(t, key);
  if (value !== 0) root_set(t, 0);
  return value;
}
/** Gives back the empty nodes on the way to `key`, and levels on top that nothing needs. */
export function radix_trim(t: vm_radix_t, key: number, z: zone_t): void {
  for (let last = empty_on_way(t, key); last.n !== NULL; last = empty_on_way(t, key)) {
    radix.leaf[t] = NULL as vm_radix_node_t; // it may be this one
    undo_begin_word(radix.lock[t]);
    save(pcpu.in_hand_items, thr.pc);
    item_in_hand(last.n);
    if (last.above === NULL) {
      save(radix.root, t);
      save(radix.height, t);
      radix.root[t] = NULL as vm_radix_node_t;
      radix.height[t] = 0;
    } else {
      save(node.slot, last.at);
      save(node.count, last.above);
      node.slot[last.at] = 0;
      node.count[last.above]--;
    }
    undo_end();
    zone_free_at(z, last.n, 0);
  }
  while (radix.height[t] > 0 && only_first(radix.root[t])) lower(t, z);
}
/** Gives back the nodes of a tree without values: those that a dead CPU did not trim. */
export function radix_end(t: vm_radix_t, z: zone_t): void {
  while (radix.root[t] !== NULL) {
    if (radix.height[t] === 0) panic('radix_end: there are values', 0);
    let key = 0;
    let n = radix.root[t];
    for (let level = radix.height[t]; level > 1 && node.count[n] > 0; level--) {
      let i = 0;
      while (node.slot[elem(n, i)] === 0) i++;
      key += i * 2 ** ((level - 1) * BITS);
      n = node.slot[elem(n, i)] as vm_radix_node_t;
    }
    if (node.count[n] > 0) panic('radix_end: there are values', key);
    radix_trim(t, key, z);
  }
}
interface Empty {
  readonly n: vm_radix_node_t;
  readonly above: vm_radix_node_t;
  /** The slot that leads to it. */
  readonly at: vm_radix_node_t;
}
/** The lowest node on the way to `key`, if it is empty. */
function empty_on_way(t: vm_radix_t, key: number): Empty {
  const none = NULL as vm_radix_node_t;
  let n = radix.root[t];
  let above = none;
  let at = none;
  if (radix.height[t] === 0) return { n: none, above, at };
  if (n !== NULL && reaches(radix.height[t], key)) {
    for (let level = radix.height[t]; level > 1; level--) {
      const next = slot_of(n, key, level);
      if (node.slot[next] === NULL) break;
      above = n;
      at = next;
      n = node.slot[next] as vm_radix_node_t;
    }
  }
  return n !== NULL && node.count[n] === 0 ? { n, above, at } : { n: none, above, at };
}
function only_first(n: vm_radix_node_t): boolean {
  return node.count[n] === 1 && node.slot[n] !== 0;
}
/** The root's only child, or only value, becomes the root. */
function lower(t: vm_radix_t, z: zone_t): void {
  const top = radix.root[t];
  radix.leaf[t] = NULL as vm_radix_node_t; // it may be this one
  undo_begin_word(radix.lock[t]);
  save(radix.root, t);
  save(radix.height, t);
  save(pcpu.in_hand_items, thr.pc);
  item_in_hand(top);
  radix.root[t] = node.slot[top] as vm_radix_node_t;
  radix.height[t]--;
  undo_end();
  zone_free_at(z, top, 0);
}

// --- proof --------------------------------------------------------------------------------

/**
 * Proves the tree's counts and that no level on top is needless, and calls `each` with
 * every key and value, in order.  `trimmed`: no node is empty either.  Returns the nodes.
 */
export function radix_check(
  t: vm_radix_t,
  trimmed: boolean,
  each: (key: number, value: number) => void,
): number {
  const height = radix.height[t];
  const top = radix.root[t];
  if (top === NULL && height !== 0) panic('radix_check: a height without a root', height);
  if (height > RADIX_HEIGHT_MAX) panic('radix_check: height', height);
  if (top === NULL) return 0;
  if (height === 0) {
    each(0, top);
    return 0;
  }
  if (trimmed && only_first(top)) panic('radix_check: a needless level', height);
  return check_below(top, height, 0, trimmed, each);
}
function check_below(
  n: vm_radix_node_t,
  level: number,
  base: number,
  trimmed: boolean,
  each: (key: number, value: number) => void,
): number {
  let count = 0;
  let nodes = 1;
  for (let i = 0; i <= MASK; i++) {
    const v = node.slot[elem(n, i)];
    if (v === 0) continue;
    count++;
    const from = base + i * 2 ** ((level - 1) * BITS);
    if (level === 1) each(from, v);
    else nodes += check_below(v as vm_radix_node_t, level - 1, from, trimmed, each);
  }
  if (count !== node.count[n]) panic('radix_check: count of a node', node.count[n], count);
  if (trimmed && count === 0) panic('radix_check: an empty node', n * 4);
  return nodes;
}
