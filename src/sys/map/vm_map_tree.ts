/*
 * vm_map_tree: what covers a page, and where a hole is, in logarithmic time.
 *
 *                      e3 |5|            height 3, largest hole from here down 9
 *                    /        \
 *               e1 |2|         e5 |0|
 *              /     \        /      \
 *          e0 |9|   e2 |0|  e4 |1|   e6 |3|
 *
 * The ring of entries has an order; a balanced tree stands over the same entries in the same
 * order, its two sides at most one level apart everywhere (an AVL tree).  Each node knows the
 * hole behind it (adj_free) and the largest such hole from it down (max_free).  The hole before
 * the first entry is the header's, who is in no tree.
 *
 * A lookup writes nothing but the map's hint, so that any number of readers may look at once.
 * Not a splay tree as in BSD, where a lookup turns the tree.
 *
 * Nothing of the tree is logged for a death: an insertion changes up to some forty words.
 * After a death under the lock the tree is made anew from the ring (tree_rebuild).
 *
 * Locks: the map's; exclusively for what changes something.  tidy: hot
 */
import { sim_point } from '../machine/atomic.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { field_word, NULL } from '../machine/struct.ts';
import {
  vm_map as vm_map_,
  vm_map_entry as vm_map_entry_,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const map = vm_map_;
const entry = vm_map_entry_;
const opt = opt_;
const NONE = NULL as vm_map_entry_t;

/** Nodes that searches went to: counted under INVARIANTS, in this thread, for tests. */
export const tree_steps = { n: 0 };

/** Begin and end of a map's ring. Its end is the map's first page, its start the one beyond. */
export function map_header(mp: vm_map_t): vm_map_entry_t {
  return field_word(map.header, mp) as vm_map_entry_t;
}

// --- balance and sums ----------------------------------------------------------------------------

function height_of(e: vm_map_entry_t): number {
  return e === NULL ? 0 : entry.height[e];
}
function max_free_of(e: vm_map_entry_t): number {
  return e === NULL ? 0 : entry.max_free[e];
}
/** Makes the sums of a node those of its children. True: they were others before. */
function sum(e: vm_map_entry_t): boolean {
  const l = entry.left[e];
  const r = entry.right[e];
  const height = Math.max(height_of(l), height_of(r)) + 1;
  const free = Math.max(entry.adj_free[e], max_free_of(l), max_free_of(r));
  if (entry.height[e] === height && entry.max_free[e] === free) return false;
  entry.height[e] = height;
  entry.max_free[e] = free;
  return true;
}
/** `to` stands where e stood: below `above`, or at the top. */
function replace(mp: vm_map_t, above: vm_map_entry_t, e: vm_map_entry_t, to: vm_map_entry_t): void {
  if (above === NULL) map.root[mp] = to;
  else if (entry.left[above] === e) entry.left[above] = to;
  else entry.right[above] = to;
  if (to !== NULL) entry.parent[to] = above;
}
/** The left child comes up in place of e. Returns it. */
function rotate_right(mp: vm_map_t, e: vm_map_entry_t): vm_map_entry_t {
  const up = entry.left[e];
  const between = entry.right[up];
  replace(mp, entry.parent[e], e, up);
  entry.left[e] = between;
  if (between !== NULL) entry.parent[between] = e;
  entry.right[up] = e;
  entry.parent[e] = up;
  sum(e);
  sum(up);
  return up;
}
function rotate_left(mp: vm_map_t, e: vm_map_entry_t): vm_map_entry_t {
  const up = entry.right[e];
  const between = entry.left[up];
  replace(mp, entry.parent[e], e, up);
  entry.right[e] = between;
  if (between !== NULL) entry.parent[between] = e;
  entry.left[up] = e;
  entry.parent[e] = up;
  sum(e);
  sum(up);
  return up;
}
/** Sums and balance from e upwards, as far as anything changes. */
function settle(mp: vm_map_t, e: vm_map_entry_t): void {
  for (let at = e; at !== NULL; at = entry.parent[at]) {
    if (opt.SIM) sim_point(at); // a death here leaves a tree that is half changed
    const l = entry.left[at];
    const r = entry.right[at];
    const lean = height_of(l) - height_of(r);
    if (lean > 1) {
      if (height_of(entry.left[l]) < height_of(entry.right[l])) rotate_left(mp, l);
      at = rotate_right(mp, at);
    } else if (lean < -1) {
      if (height_of(entry.right[r]) < height_of(entry.left[r])) rotate_right(mp, r);
      at = rotate_left(mp, at);
    } else if (!sum(at)) return;
  }
}
/** The hole behind an entry, or the header, is as large as the ring says. */
export function tree_gap(mp: vm_map_t, e: vm_map_entry_t): void {
  entry.adj_free[e] = entry.start[entry.next[e]] - entry.end[e];
  if (e !== map_header(mp)) settle(mp, e);
}

// --- in and out --------------------------------------------------------------------------------

/** An entry that is in the ring comes into the tree; the holes around it are noted. */
export function tree_in(mp: vm_map_t, e: vm_map_entry_t): void {
  const header = map_header(mp);
  const below = entry.prev[e];
  const above = entry.next[e];
  entry.left[e] = NONE;
  entry.right[e] = NONE;
  entry.height[e] = 0;
  entry.adj_free[e] = entry.start[above] - entry.end[e];
  if (below !== header && entry.right[below] === NULL) {
    entry.right[below] = e;
    entry.parent[e] = below;
  } else if (above !== header) {
    entry.left[above] = e; // the next one is the lowest on the right of the one before
    entry.parent[e] = above;
  } else {
    map.root[mp] = e;
    entry.parent[e] = NONE;
  }
  settle(mp, e);
  tree_gap(mp, below);
}
/**
 * An entry that is out of the ring leaves the tree.  `above` was behind it.  The hole before it
 * is the caller's to note (tree_gap).
 */
export function tree_out(mp: vm_map_t, e: vm_map_entry_t, above: vm_map_entry_t): void {
  if (map.hint[mp] === e) map.hint[mp] = NONE;
  const l = entry.left[e];
  const r = entry.right[e];
  const p = entry.parent[e];
  if (l === NULL || r === NULL) {
    replace(mp, p, e, l === NULL ? r : l);
    settle(mp, p);
    return;
  }
  // The next one, the lowest on the right, comes here.
  const low = entry.parent[above];
  if (low !== e) {
    replace(mp, low, above, entry.right[above]);
    entry.right[above] = r;
    entry.parent[r] = above;
  }
  replace(mp, p, e, above);
  entry.left[above] = l;
  entry.parent[l] = above;
  entry.height[above] = entry.height[e]; // what those above it have counted with
  entry.max_free[above] = entry.max_free[e];
  if (low !== e) settle(mp, low);
  settle(mp, above);
}
/** Makes the tree and all holes anew from the ring, evenly. */
export function tree_rebuild(mp: vm_map_t): void {
  const header = map_header(mp);
  let at = entry.next[header];
  entry.adj_free[header] = entry.start[at] - entry.end[header];
  const build = (count: number, above: vm_map_entry_t): vm_map_entry_t => {
    if (count === 0) return NONE;
    const before = count >> 1;
    const l = build(before, NONE);
    const e = at;
    at = entry.next[at];
    entry.adj_free[e] = entry.start[at] - entry.end[e];
    entry.parent[e] = above;
    entry.left[e] = l;
    if (l !== NULL) entry.parent[l] = e;
    entry.right[e] = build(count - before - 1, e);
    entry.height[e] = 0;
    sum(e);
    return e;
  };
  map.hint[mp] = NONE;
  map.root[mp] = build(map.nentries[mp], NONE);
}

// --- what covers a page --------------------------------------------------------------------------

/** The entry that covers page `vpn`, NULL: none does. The map is locked in some way. */
export function vm_map_lookup(mp: vm_map_t, vpn: number): vm_map_entry_t {
  const hint = map.hint[mp];
  if (hint !== NULL && vpn >= entry.start[hint] && vpn < entry.end[hint]) return hint;
  let e = map.root[mp];
  while (e !== NULL) {
    if (opt.INVARIANTS) tree_steps.n++;
    if (vpn < entry.start[e]) e = entry.left[e];
    else if (vpn >= entry.end[e]) e = entry.right[e];
    else {
      map.hint[mp] = e;
      return e;
    }
  }
  return NONE;
}
/** The entry that covers page `vpn`, else the one before it: perhaps the header. */
export function vm_map_lookup_entry(mp: vm_map_t, vpn: number): vm_map_entry_t {
  const hint = map.hint[mp];
  if (hint !== NULL && vpn >= entry.start[hint] && vpn < entry.end[hint]) return hint;
  let e = map.root[mp];
  let before = map_header(mp);
  while (e !== NULL) {
    if (opt.INVARIANTS) tree_steps.n++;
    if (vpn < entry.start[e]) e = entry.left[e];
    else {
      before = e;
      if (vpn < entry.end[e]) break;
      e = entry.right[e];
    }
  }
  return before;
}
/** Whether an entry, or the header, covers a page. */
export function entry_covers(mp: vm_map_t, e: vm_map_entry_t, vpn: number): boolean {
  return e !== map_header(mp) && vpn >= entry.start[e] && vpn < entry.end[e];
}

// --- where a hole is -----------------------------------------------------------------------------

/** From t down, the first with a hole of n pages. There is one. */
function first_gap(t: vm_map_entry_t, n: number): vm_map_entry_t {
  for (let e = t; ; ) {
    if (opt.INVARIANTS) tree_steps.n++;
    const l = entry.left[e];
    if (l !== NULL && entry.max_free[l] >= n) e = l;
    else if (entry.adj_free[e] >= n) return e;
    else e = entry.right[e];
  }
}
/** From t down, the last with a hole of n pages. There is one. */
function last_gap(t: vm_map_entry_t, n: number): vm_map_entry_t {
  for (let e = t; ; ) {
    if (opt.INVARIANTS) tree_steps.n++;
    const r = entry.right[e];
    if (r !== NULL && entry.max_free[r] >= n) e = r;
    else if (entry.adj_free[e] >= n) return e;
    else e = entry.left[e];
  }
}
/** The first behind e, which may be the header, with a hole of n pages; NULL: none. */
function gap_behind(mp: vm_map_t, e: vm_map_entry_t, n: number): vm_map_entry_t {
  if (e === map_header(mp)) {
    const top = map.root[mp];
    return top !== NULL && entry.max_free[top] >= n ? first_gap(top, n) : NONE;
  }
  for (let at = e; ; ) {
    const r = entry.right[at];
    if (r !== NULL && entry.max_free[r] >= n) return first_gap(r, n);
    let child = at;
    at = entry.parent[at];
    while (at !== NULL && entry.right[at] === child) {
      if (opt.INVARIANTS) tree_steps.n++;
      child = at;
      at = entry.parent[at];
    }
    if (at === NULL || entry.adj_free[at] >= n) return at;
  }
}
/** The last before e with a hole of n pages, perhaps the header; NULL: none. */
function gap_before(mp: vm_map_t, e: vm_map_entry_t, n: number): vm_map_entry_t {
  const header = map_header(mp);
  if (e === header) return NONE;
  for (let at = e; ; ) {
    const l = entry.left[at];
    if (l !== NULL && entry.max_free[l] >= n) return last_gap(l, n);
    let child = at;
    at = entry.parent[at];
    while (at !== NULL && entry.left[at] === child) {
      if (opt.INVARIANTS) tree_steps.n++;
      child = at;
      at = entry.parent[at];
    }
    if (at === NULL) return entry.adj_free[header] >= n ? header : NONE;
    if (entry.adj_free[at] >= n) return at;
  }
}

/** Where a hole may lie: it begins at a page that is `phase` modulo `align`, a power of two. */
export interface Alignment {
  readonly align: number;
  readonly phase: number;
}
export const ANYWHERE: Alignment = { align: 1, phase: 0 };

/** Proves a place that was found: free from one end to the other, and in the map. */
function proved(mp: vm_map_t, e: vm_map_entry_t, at: number, n: number): number {
  const header = map_header(mp);
  const inside = at >= entry.end[header] && at + n <= entry.start[header];
  if (!inside || at < entry.end[e] || at + n > entry.start[entry.next[e]]) {
    panic('vm_map_findspace: the place that was found is in use', at, n);
  }
  return at;
}
/**
 * The lowest page from `from` on where n free pages begin that end at `high` at the latest;
 * -1: there is none.  The map is locked in some way.
 */
export function vm_map_findspace(
  mp: vm_map_t,
  from: number,
  n: number,
  high = entry.start[map_header(mp)],
  { align, phase }: Alignment = ANYWHERE,
): number {
  const least = Math.max(from, entry.end[map_header(mp)]);
  let e = vm_map_lookup_entry(mp, least);
  for (;;) {
    let at = Math.max(least, entry.end[e]);
    at += (phase - at) & (align - 1);
    if (at + n > high) return -1;
    if (at + n <= entry.start[entry.next[e]]) return proved(mp, e, at, n);
    e = gap_behind(mp, e, n);
    if (e === NULL) return -1;
  }
}
/**
 * The highest page where n free pages begin that end at `high` at the latest, from `low` on;
 * -1: there is none.  The map is locked in some way.
 */
export function vm_map_findspace_down(
  mp: vm_map_t,
  high: number,
  n: number,
  low = entry.end[map_header(mp)],
  { align, phase }: Alignment = ANYWHERE,
): number {
  const header = map_header(mp);
  const most = Math.min(high, entry.start[header]);
  const least = Math.max(low, entry.end[header]);
  if (most - n < least) return -1;
  let e = vm_map_lookup_entry(mp, most - 1);
  for (;;) {
    let at = Math.min(most, entry.start[entry.next[e]]) - n;
    at -= (at - phase) & (align - 1);
    if (at < least) return -1;
    // Moved down it may have come into the entry below: then this hole is too small for it.
    if (at >= entry.end[e]) return proved(mp, e, at, n);
    e = gap_before(mp, e, n);
    if (e === NULL) return -1;
  }
}
