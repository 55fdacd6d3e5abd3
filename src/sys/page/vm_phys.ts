/*
 * vm_phys: where the free pages are.
 *
 * Two bitmaps over all pages, 32 to a word: `zero` has a bit for each free page
 * that is known to be all zeros, `dirty` for each other free page.  No page is in
 * both; the free pages are those in either.  Over the words stands a binary tree,
 * stored as an array, whose nodes know about their span:
 *
 *      pre    free pages at its lower end        ord   colours found in `dirty`
 *      suf    free pages at its upper end        orz   colours found in `zero`
 *      max    longest run of free pages
 *
 *                  1
 *            2           3
 *         4     5     6     7
 *        w0 w1 w2 w3 w4 w5 w6 w7        leaf i is node nleaves + i
 *
 * Bit b of a word is a page of colour b, so that the or of the words below a
 * node says which colours it has.  The tree answers in log time: the lowest
 * free page, of a colour or of any, zeroed or not; the highest place where n
 * pages lie together; the longest run there is.
 *
 * Single pages are taken from the bottom of memory, runs from the top, so that
 * they stay out of each other's way.
 *
 * Everything here is under the free lock and can be made anew from the page
 * array (phys_rebuild); that is how a death under the lock is repaired.
 */
import { boot_alloc, M, machine as machine_, ROOT_PHYS } from '../machine/header.ts';
import { howmany, memory_state } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import {
  col32,
  columns,
  elem,
  i32,
  lock_words,
  type Ptr,
  struct,
  words,
} from '../machine/struct.ts';
import { PG_ZERO, PK_FREE, PK_MASK, vm_page } from '../h/vm_page.ts';

export const DOMAINS_MAX = 8;
// Local names: V8 takes them for constants, imported ones it does not.
const machine = machine_;
const LEAF_SHIFT = 5;
const LEAF_PAGES = 32;

export type phys_t = Ptr<'vm_phys'>;
/*
 * Locks: (f) the free lock  (c) constant once booted
 *        (h) beside another: a hint that is read without the lock, too
 */
export const vm_phys = struct<phys_t>(
  'vm_phys',
  16,
)({
  lock: lock_words(4, 'page free', 'free pages of all domains'),
  free: i32('fh', 'free pages'),
  zeroed: i32('fh', 'of them known to be zero'),
  low: i32('c', 'first page managed'),
  high: i32('c', 'first page beyond'),
  nleaves: i32('c', 'leaves of the tree, a power of two'),
  lowest: i32('fh', 'fewest pages that were ever here'),
  wanted: i32('a', 'somebody sleeps for pages'),
  needed: i32('ah', 'pages are needed: what the page daemon sleeps for'),
  deficit: i32('a', 'requests that wait for pages since it looked last'),
  cache_max: i32('c', 'pages of each sort that a CPU may cache (vm_page_cache.ts)'),
  nfree: words('fh', 'free pages of each domain', DOMAINS_MAX),
  start: words('c', 'first page of each domain; one more: the end', DOMAINS_MAX + 1),
});
const phys = vm_phys;

const leaf = columns<number>('vm_phys_leaf')({
  dirty: col32('f', 'free pages whose contents are unknown'),
  zero: col32('f', 'free pages that are zero'),
});
const node = columns<number>('vm_phys_node')({
  pre: col32('f', 'free pages at the lower end'),
  suf: col32('f', 'free pages at the upper end'),
  max: col32('fh', 'longest run'),
  ord: col32('f', 'or of the dirty words below'),
  orz: col32('f', 'or of the zero words below'),
});

function leaves_for(pages: number): number {
  let n = 1;
  while (n < howmany(pages, LEAF_PAGES)) n *= 2;
  return n;
}
/** Pages of a reservation (vm_reserv.ts): those of a page table. */
export const RESERV_PAGES = 1024;
/** Rows that reservations have in a memory of so many pages, with one that is none. */
export function reserv_rows(pages: number): number {
  return Math.ceil(pages / RESERV_PAGES) + 1;
}
/** The columns of this floor and how many rows they take for a memory of `pages`. */
export const PHYS_COLUMNS: { name: string; rows(pages: number): number }[] = [
  { name: 'vm_page', rows: (pages) => pages },
  { name: 'vm_phys_leaf', rows: leaves_for },
  { name: 'vm_phys_node', rows: (pages) => leaves_for(pages) * 2 },
  { name: 'vm_reserv', rows: reserv_rows },
];

/** The record of the free pages. */
export function phys_root(): phys_t {
  return machine.roots[elem(M, ROOT_PHYS)] as phys_t;
}
/** Makes the record; the pages follow when boot has taken what it needs. */
export function phys_boot(): void {
  const ph = boot_alloc(phys.sizeof, 'the free page queues', 16) as phys_t;
  machine.roots[elem(M, ROOT_PHYS)] = ph;
  phys.nleaves[ph] = leaves_for(memory_state.size / 4096);
}
/** The memory domain of a page. */
export function phys_domain(ph: phys_t, m: number): number {
  let d = 0;
  while (m >= phys.start[elem(ph, d + 1)]) d++;
  return d;
}

// --- one word of 32 pages ------------------------------------------------------

/** Set bits at the lower end. */
function low_run(v: number): number {
  return v === -1 ? 32 : 31 - Math.clz32(~v & (v + 1));
}
/** Set bits at the upper end. */
function high_run(v: number): number {
  return Math.clz32(~v);
}
/** The longest run of set bits. */
function longest_run(v: number): number {
  if (v === -1) return 32;
  if (v === 0) return 0;
  const low = v >>> lowest_bit(v);
  if ((low & (low + 1)) === 0) return 32 - Math.clz32(low); // one run, as most words have
  let n = 0;
  let x = v;
  while (x !== 0) {
    x &= x << 1;
    n++;
  }
  return n;
}
/** How many bits are set. */
function set_bits(v: number): number {
  let n = 0;
  for (let x = v; x !== 0; x &= x - 1) n++;
  return n;
}
/** The bits of word `w` that stand for pages m..end-1. */
function word_bits(w: number, m: number, end: number): number {
  const first = w << LEAF_SHIFT;
  const low = m > first ? -1 << (m - first) : -1;
  const over = first + LEAF_PAGES - end;
  return over > 0 ? low & (-1 >>> over) : low;
}
/** The position of the lowest set bit. */
export function lowest_bit(v: number): number {
  return 31 - Math.clz32(v & -v);
}

// --- the tree --------------------------------------------------------------------

function leaf_update(nleaves: number, w: number): void {
  const d = leaf.dirty[w];
  const z = leaf.zero[w];
  const v = d | z;
  const n = nleaves + w;
  node.pre[n] = low_run(v);
  node.suf[n] = high_run(v);
  node.max[n] = longest_run(v);
  node.ord[n] = d;
  node.orz[n] = z;
}
/** Recomputes node n from its children of `span` pages each. False: nothing changed. */
function node_update(n: number, span: number): boolean {
  const a = n * 2;
  const b = a + 1;
  const pre = node.pre[a] === span ? span + node.pre[b] : node.pre[a];
  const suf = node.suf[b] === span ? span + node.suf[a] : node.suf[b];
  const across = node.suf[a] + node.pre[b];
  const larger = node.max[a] > node.max[b] ? node.max[a] : node.max[b];
  const max = across > larger ? across : larger;
  const ord = node.ord[a] | node.ord[b];
  const orz = node.orz[a] | node.orz[b];
  if (
    node.pre[n] === pre &&
    node.suf[n] === suf &&
    node.max[n] === max &&
    node.ord[n] === ord &&
    node.orz[n] === orz
  ) {
    return false;
  }
  node.pre[n] = pre;
  node.suf[n] = suf;
  node.max[n] = max;
  node.ord[n] = ord;
  node.orz[n] = orz;
  return true;
}
/**
 * Brings the nodes above n up to date, n being right and of `span` pages: node_update
 * level by level, with what is known of the child kept at hand.  It is a third of what a
 * run of pages costs.
 */
function tree_climb(from: number, from_span: number): void {
  const { pre, suf, max, ord, orz } = node;
  let n = from;
  let p = pre[n];
  let s = suf[n];
  let m = max[n];
  let d = ord[n];
  let z = orz[n];
  for (let span = from_span; n > 1; span *= 2) {
    const other = n ^ 1;
    const op = pre[other];
    const os = suf[other];
    const om = max[other];
    let across = 0;
    if ((n & 1) === 0) {
      across = s + op;
      if (p === span) p = span + op;
      s = os === span ? span + s : os;
    } else {
      across = os + p;
      if (s === span) s = span + os;
      p = op === span ? span + p : op;
    }
    if (om > m) m = om;
    if (across > m) m = across;
    d |= ord[other];
    z |= orz[other];
    n >>= 1;
    if (pre[n] === p && suf[n] === s && max[n] === m && ord[n] === d && orz[n] === z) return;
    pre[n] = p;
    suf[n] = s;
    max[n] = m;
    ord[n] = d;
    orz[n] = z;
  }
}
/** Brings the tree up to date above the words first..last. */
function tree_update(ph: phys_t, first: number, last: number): void {
  const nleaves = phys.nleaves[ph];
  for (let w = first; w <= last; w++) leaf_update(nleaves, w);
  let lo = nleaves + first;
  let span = LEAF_PAGES;
  for (let hi = nleaves + last; lo !== hi; span *= 2) {
    lo >>= 1;
    hi >>= 1;
    for (let n = lo; n <= hi; n++) node_update(n, span);
  }
  tree_climb(lo, span);
}

/** Enters pages m..m+n-1 as free, all zeroed or none, as their flags say. */
export function phys_add(ph: phys_t, m: number, n: number, zero: boolean): void {
  const last = (m + n - 1) >> LEAF_SHIFT;
  const set = zero ? leaf.zero : leaf.dirty;
  for (let w = m >> LEAF_SHIFT; w <= last; w++) set[w] |= word_bits(w, m, m + n);
  if (zero) phys.zeroed[ph] += n;
  tree_update(ph, m >> LEAF_SHIFT, last);
  phys.free[ph] += n;
  count_free(ph, m, n, 1);
}
/** Takes pages m..m+n-1, all free, out of the sets. */
export function phys_remove(ph: phys_t, m: number, n: number): void {
  const last = (m + n - 1) >> LEAF_SHIFT;
  for (let w = m >> LEAF_SHIFT; w <= last; w++) {
    const bits = word_bits(w, m, m + n);
    phys.zeroed[ph] -= set_bits(leaf.zero[w] & bits);
    leaf.zero[w] &= ~bits;
    leaf.dirty[w] &= ~bits;
  }
  tree_update(ph, m >> LEAF_SHIFT, last);
  phys.free[ph] -= n;
  if (phys.free[ph] < phys.lowest[ph]) phys.lowest[ph] = phys.free[ph];
  count_free(ph, m, n, -1);
}
/**
 * The lowest word that has free pages, zeroed or of unknown contents as `prefer` says if there
 * are such: as word * 2^32 + bits of at most `max` of its lowest free pages.  0: none is free.
 */
export function phys_low_word(ph: phys_t, max: number, prefer: boolean): number {
  const nleaves = phys.nleaves[ph];
  let zero = prefer;
  let w = next_word(nleaves, zero, -1, 0);
  if (w < 0) {
    zero = !prefer;
    w = next_word(nleaves, zero, -1, 0);
    if (w < 0) return 0;
  }
  const all = zero ? leaf.zero[w] : leaf.dirty[w];
  let bits = all;
  let n = 0;
  for (let left = all; left !== 0 && n < max; n++) left &= left - 1;
  let rest = all;
  for (let i = 0; i < n; i++) rest &= rest - 1;
  bits &= ~rest;
  return w * 2 ** 32 + (bits >>> 0);
}
/** Takes the pages of word `w` in `bits`, all free, out of the sets. */
export function phys_remove_bits(ph: phys_t, w: number, bits: number): void {
  for (let left = bits; left !== 0; left &= left - 1) {
    if (leaf.zero[w] & left & -left) phys.zeroed[ph]--;
    count_free(ph, (w << LEAF_SHIFT) + lowest_bit(left), 1, -1);
    phys.free[ph]--;
  }
  leaf.zero[w] &= ~bits;
  leaf.dirty[w] &= ~bits;
  tree_update(ph, w, w);
  if (phys.free[ph] < phys.lowest[ph]) phys.lowest[ph] = phys.free[ph];
}
/** Enters single pages as free, as phys_add does; the tree is brought up to date word by word. */
export function phys_add_pages(ph: phys_t, pages: readonly number[]): void {
  const touched: number[] = [];
  for (const m of pages) {
    const w = m >> LEAF_SHIFT;
    if (vm_page.flags[m] & PG_ZERO) {
      leaf.zero[w] |= 1 << (m & 31);
      phys.zeroed[ph]++;
    } else leaf.dirty[w] |= 1 << (m & 31);
    count_free(ph, m, 1, 1);
    if (!touched.includes(w)) touched.push(w);
  }
  phys.free[ph] += pages.length;
  for (const w of touched) tree_update(ph, w, w);
}
/** Counts pages m..m+n-1 in or out of their domains; a run may lie in several. */
function count_free(ph: phys_t, m: number, n: number, sign: number): void {
  let d = phys_domain(ph, m);
  for (let at = m; at < m + n; d++) {
    const end = Math.min(m + n, phys.start[elem(ph, d + 1)]);
    phys.nfree[elem(ph, d)] += sign * (end - at);
    at = end;
  }
}

/** Pages in the longest run of free pages. */
export function phys_longest(): number {
  return node.max[1];
}

/**
 * The lowest free page whose colour is in `colors` (a mask), in lo..hi-1, of
 * the zeroed or of the other pages. 0: none.
 */
export function phys_lowest(
  ph: phys_t,
  zero: boolean,
  colors: number,
  lo: number,
  hi: number,
): number {
  const nleaves = phys.nleaves[ph];
  const last = (hi - 1) >> LEAF_SHIFT;
  for (let w = lo >> LEAF_SHIFT; w <= last; ) {
    w = next_word(nleaves, zero, colors, w);
    if (w < 0 || w > last) return 0;
    let v = (zero ? leaf.zero[w] : leaf.dirty[w]) & colors;
    if (w << LEAF_SHIFT < lo) v &= -1 << (lo & 31);
    if (v !== 0) {
      const m = (w << LEAF_SHIFT) + lowest_bit(v);
      return m < hi ? m : 0;
    }
    w++;
  }
  return 0;
}
/** The first word from w on with one of the colours; -1: none. */
function next_word(nleaves: number, zero: boolean, colors: number, w: number): number {
  const mask = zero ? node.orz : node.ord;
  let n = nleaves + w;
  // Up while nothing is below, to the right whenever the subtree is exhausted.
  while ((mask[n] & colors) === 0) {
    while (n & 1) n >>= 1;
    if (n === 0) return -1;
    n++;
  }
  while (n < nleaves) n = mask[n * 2] & colors ? n * 2 : n * 2 + 1;
  return n - nleaves;
}

/** The first page of the highest place where n free pages lie together. 0: there is none. */
export function phys_highest_run(ph: phys_t, n: number): number {
  if (node.max[1] < n) return 0;
  const nleaves = phys.nleaves[ph];
  let at = 1;
  let first = 0;
  let span = nleaves << LEAF_SHIFT;
  while (at < nleaves) {
    const a = at * 2;
    const half = span >> 1;
    if (node.max[a + 1] >= n) {
      at = a + 1;
      first += half;
    } else if (node.suf[a] + node.pre[a + 1] >= n) {
      return first + half + node.pre[a + 1] - n;
    } else at = a;
    span = half;
  }
  const w = at - nleaves;
  const v = leaf.dirty[w] | leaf.zero[w];
  for (let end = 32; end >= n; end--) {
    const want = n === 32 ? -1 : ((1 << n) - 1) << (end - n);
    if ((v & want) === want) return first + end - n;
  }
  panic('phys_highest_run: the tree promised a run', n, w);
}

/** What a run must satisfy. Pages; `boundary` 0: none. */
export interface RunLimits {
  readonly low: number;
  readonly high: number;
  readonly align: number;
  readonly boundary: number;
}
/** The highest run of n free pages within the limits; looks at the runs one by one. */
export function phys_limited_run(ph: phys_t, n: number, limits: RunLimits): number {
  if (node.max[1] < n || (limits.boundary !== 0 && n > limits.boundary)) return 0;
  const low = Math.max(limits.low, phys.low[ph]);
  let end = Math.min(limits.high, phys.high[ph]);
  while (end - n >= low) {
    end = skip_used(end, low);
    let start = end;
    while (start > low && phys_is_free(start - 1)) start--;
    for (let m = end - n; m >= start; ) {
      m -= m % limits.align;
      if (m < start) break;
      if (limits.boundary === 0) return m;
      const edge = Math.floor((m + n - 1) / limits.boundary) * limits.boundary;
      if (m >= edge) return m;
      m = edge - n; // the block would cross the edge: it ends there instead
    }
    end = start;
  }
  return 0;
}
/** The end of the next free run at or below `end`, a whole word at a time where it can. */
function skip_used(end: number, low: number): number {
  let at = end;
  while (at > low && !phys_is_free(at - 1)) {
    const w = (at - 1) >> LEAF_SHIFT;
    at = (leaf.dirty[w] | leaf.zero[w]) === 0 ? w << LEAF_SHIFT : at - 1;
  }
  return Math.max(at, low);
}

/** Whether the bitmaps have page m as free. */
export function phys_is_free(m: number): boolean {
  const w = m >> LEAF_SHIFT;
  return ((leaf.dirty[w] | leaf.zero[w]) & (1 << (m & 31))) !== 0;
}

/** Makes bitmaps, tree and counts anew from the page array. */
export function phys_rebuild(ph: phys_t): void {
  const nleaves = phys.nleaves[ph];
  for (let w = 0; w < nleaves; w++) {
    leaf.dirty[w] = 0;
    leaf.zero[w] = 0;
  }
  phys.free[ph] = 0;
  phys.zeroed[ph] = 0;
  for (let d = 0; d < DOMAINS_MAX; d++) phys.nfree[elem(ph, d)] = 0;
  for (let m = phys.low[ph]; m < phys.high[ph]; m++) {
    if ((vm_page.info[m] & PK_MASK) !== PK_FREE) continue;
    const zero = vm_page.flags[m] & PG_ZERO;
    if (zero) leaf.zero[m >> LEAF_SHIFT] |= 1 << (m & 31);
    else leaf.dirty[m >> LEAF_SHIFT] |= 1 << (m & 31);
    phys.free[ph]++;
    if (zero) phys.zeroed[ph]++;
    phys.nfree[elem(ph, phys_domain(ph, m))]++;
  }
  for (let w = 0; w < nleaves; w++) leaf_update(nleaves, w);
  let span = LEAF_PAGES;
  for (let first = nleaves >> 1; first >= 1; first >>= 1) {
    for (let n = first; n < first * 2; n++) node_update(n, span);
    span *= 2;
  }
}

/** Proves bitmaps, tree and counts against the page array. The caller holds the free lock. */
export function phys_check(ph: phys_t): void {
  let free = 0;
  let zeroed = 0;
  const domains = new Array<number>(DOMAINS_MAX).fill(0);
  for (let m = phys.low[ph]; m < phys.high[ph]; m++) {
    const is = (vm_page.info[m] & PK_MASK) === PK_FREE;
    if (is !== phys_is_free(m)) panic('phys_check: bitmap and page array differ', m);
    if (!is) continue;
    free++;
    domains[phys_domain(ph, m)]++;
    const bit = (leaf.zero[m >> LEAF_SHIFT] & (1 << (m & 31))) !== 0;
    if (bit !== ((vm_page.flags[m] & PG_ZERO) !== 0)) panic('phys_check: zero flag', m);
    if (bit) zeroed++;
  }
  if (free !== phys.free[ph]) panic('phys_check: free count', free, phys.free[ph]);
  if (zeroed !== phys.zeroed[ph]) panic('phys_check: zero count', zeroed, phys.zeroed[ph]);
  for (const [d, n] of domains.entries()) {
    if (n !== phys.nfree[elem(ph, d)]) panic('phys_check: free count of domain', d, n);
  }
  const nleaves = phys.nleaves[ph];
  let span = LEAF_PAGES;
  for (let first = nleaves >> 1; first >= 1; first >>= 1) {
    for (let n = first; n < first * 2; n++) {
      if (node_update(n, span)) panic('phys_check: a node of the tree was stale', n);
    }
    span *= 2;
  }
}
