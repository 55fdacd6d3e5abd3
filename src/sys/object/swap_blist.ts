/*
 * swap_blist: which slots of a swap area are free.
 *
 *      level 2                  | avail 70, longest 16 |                       one word
 *                              /            |           \
 *      level 1      | 40, 16 |         | 30, 9 |      | 0, 0 |       32 words under one
 *                  /    |    \             ...
 *      level 0  1011..  0..  1111..                                  a bit a slot: 1 is free
 *
 * Level 0 has a bit for each slot.  A word of a higher level sums 32 words of the one below
 * up: how many slots are free there, and how long the longest run of free slots is that lies
 * within one word of bits, or more: a bound that may be too high and is never too low.
 * A search for a longer run than that does not look there at all; one that has looked in vain
 * lowers the bound.  Runs are of 16 slots at most and never reach from one word of
 * bits into the next, so taking or giving back a run changes one word on each level: five of
 * them in an area of 128 GiB.
 *
 * All memory is there from the beginning: nothing here allocates or waits, so that slots can
 * be had when memory is what is missing.
 *
 * Locks.  That of the swap areas.  Changes are in the caller's section of undo.  A bound is
 * lowered without: it is right whatever is taken back.
 *
 * Always true, and proved by blist_check(): each word says how many bits below it are set; no
 * run and no bound below it is longer than its own; slots beyond the end are not free.
 */
import { mem as mem_ } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { elem } from '../machine/struct.ts';
import { BLIST_LEVELS, type blist_t, SWAP_AREA_MAX, SWAP_CLUSTER, swap_blist } from '../h/swap.ts';
import { save_word } from '../sync/undo.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const mem = mem_;
const blist = swap_blist;

/** Slots of a word of bits, and words under one of the next level: 1 << SHIFT. */
const SHIFT = 5;
const FAN = 1 << SHIFT;
/** A word that sums up: slots free, and in the lower bits the bound of the longest run. */
const BOUND_BITS = 5;
const BOUND = (1 << BOUND_BITS) - 1;

/** Words of each level for so many slots, the bits first; the last level has one word. */
function level_words(slots: number): number[] {
  const words = [Math.ceil(slots / FAN)];
  do words.push(Math.ceil(words[words.length - 1] / FAN));
  while (words[words.length - 1] > 1);
  return words;
}
/** Words that the maps of so many slots take. */
export function blist_words(slots: number): number {
  return level_words(slots).reduce((sum, n) => sum + n, 0);
}
/**
 * Makes the maps of `slots` slots at word `at`: all of them free but the first `kept` ones.  Nobody
 * else knows the maps yet.
 */
export function blist_init(b: blist_t, at: number, slots: number, kept: number): void {
  if (slots <= kept || slots > SWAP_AREA_MAX) panic('swap_blist: slots', slots);
  const words = level_words(slots);
  if (words.length > BLIST_LEVELS) panic('swap_blist: levels', words.length);
  blist.slots[b] = slots;
  blist.levels[b] = words.length;
  for (const [level, n] of words.entries()) {
    blist.level[elem(b, level)] = at;
    at += n;
  }
  for (let i = 0; i < words[0]; i++) {
    const first = i * FAN;
    mem.I32[leaf_word(b, i)] = bits(0, slots - first) & ~bits(0, kept - first);
  }
  for (let level = 1; level < words.length; level++) {
    for (let i = 0; i < words[level]; i++) mem.I32[word(b, level, i)] = summed(b, level, i);
  }
}
function word(b: blist_t, level: number, i: number): number {
  return blist.level[elem(b, level)] + i;
}
function leaf_word(b: blist_t, i: number): number {
  return blist.level[b] + i;
}
/** So many bits from bit `from` on; as many of them as there are in a word. */
function bits(from: number, n: number): number {
  if (n <= 0) return 0;
  return (n >= FAN ? -1 : (1 << n) - 1) << from;
}
function ones(v: number): number {
  v -= (v >>> 1) & 0x55555555;
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
  return Math.imul((v + (v >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
/** The longest run of ones, up to SWAP_CLUSTER. */
function longest(v: number): number {
  let n = 0;
  for (; v !== 0 && n < SWAP_CLUSTER; n++) v &= v << 1;
  return n;
}
/** The lowest bit from which on `n` bits are ones; -1: there are none. */
function lowest(v: number, n: number): number {
  for (let i = 1; i < n && v !== 0; i++) v &= v >>> 1;
  return v === 0 ? -1 : 31 - Math.clz32(v & -v);
}
/** What a word of a level should say, from the words below it. */
function summed(b: blist_t, level: number, i: number): number {
  const end = Math.min((i + 1) * FAN, words_of(b, level - 1));
  let avail = 0;
  let bound = 0;
  for (let k = i * FAN; k < end; k++) {
    const v = mem.I32[word(b, level - 1, k)];
    avail += level === 1 ? ones(v) : v >>> BOUND_BITS;
    bound = Math.max(bound, level === 1 ? longest(v) : v & BOUND);
  }
  return (avail << BOUND_BITS) | bound;
}
function words_of(b: blist_t, level: number): number {
  let n = Math.ceil(blist.slots[b] / FAN);
  for (; level > 0; level--) n = Math.ceil(n / FAN);
  return n;
}

/** Slots that are free. */
export function blist_avail(b: blist_t): number {
  return mem.I32[word(b, blist.levels[b] - 1, 0)] >>> BOUND_BITS;
}
/** Takes the lowest `n` slots that lie side by side. Returns the first; -1: there are none. */
export function blist_alloc(b: blist_t, n: number): number {
  if (n < 1 || n > SWAP_CLUSTER) panic('blist_alloc: slots', n);
  const leaf = find(b, blist.levels[b] - 1, 0, n);
  if (leaf < 0) return -1;
  const bit = lowest(mem.I32[leaf_word(b, leaf)], n);
  change(b, leaf, bits(bit, n), false);
  return leaf * FAN + bit;
}
/** The first word of bits below a word of a level that has a run of n; -1: none has. */
function find(b: blist_t, level: number, i: number, n: number): number {
  const w = word(b, level, i);
  const v = mem.I32[w];
  if (level === 0) return lowest(v, n) < 0 ? -1 : i;
  if ((v & BOUND) < n) return -1;
  const end = v >>> BOUND_BITS < n ? 0 : Math.min((i + 1) * FAN, words_of(b, level - 1));
  for (let k = i * FAN; k < end; k++) {
    const leaf = find(b, level - 1, k, n);
    if (leaf >= 0) return leaf;
  }
  mem.I32[w] = (v & ~BOUND) | (n - 1);
  return -1;
}
/** Frees or takes the slots `mask` of a word of bits, all of which are the other way round. */
function change(b: blist_t, leaf: number, mask: number, frees: boolean): void {
  const w = leaf_word(b, leaf);
  save_word(w);
  mem.I32[w] = frees ? mem.I32[w] | mask : mem.I32[w] & ~mask;
  const n = frees ? ones(mask) : -ones(mask);
  const run = frees ? longest(mem.I32[w]) : 0;
  for (let level = 1, i = leaf >>> SHIFT; level < blist.levels[b]; level++, i >>>= SHIFT) {
    const at = word(b, level, i);
    const v = mem.I32[at];
    save_word(at);
    mem.I32[at] = (((v >>> BOUND_BITS) + n) << BOUND_BITS) | Math.max(v & BOUND, run);
  }
}
/** How many of `n` slots from `s` on a step takes: those within one word of bits. */
function part(b: blist_t, s: number, n: number): number {
  if (s < 0 || n < 1 || s + n > blist.slots[b]) panic('swap_blist: no such slots', s, n);
  return Math.min(n, FAN - (s & (FAN - 1)));
}
/**
 * Frees the slots from `s` on, at most `n`, up to the end of the word of bits.  Returns how many:
 * the caller goes on behind them, in a section of its own.  Panics if one is free already.
 */
export function blist_free(b: blist_t, s: number, n: number): number {
  const some = part(b, s, n);
  const mask = bits(s & (FAN - 1), some);
  if ((mem.I32[leaf_word(b, s >>> SHIFT)] & mask) !== 0) {
    panic('swap_blist: freeing a free slot', s, n);
  }
  change(b, s >>> SHIFT, mask, true);
  return some;
}
/** Takes what is free of these slots, as far as blist_free goes. Returns how many it was. */
export function blist_fill(b: blist_t, s: number, n: number): number {
  const mask = mem.I32[leaf_word(b, s >>> SHIFT)] & bits(s & (FAN - 1), part(b, s, n));
  if (mask !== 0) change(b, s >>> SHIFT, mask, false);
  return ones(mask);
}
/** Where a step of those two ends that begins at `s`: the first slot of the next word. */
export function blist_next(s: number): number {
  return (s | (FAN - 1)) + 1;
}
/** Whether a slot and the one before it lie in one word of bits, so that blist_free takes both. */
export function blist_joins(s: number): boolean {
  return (s & (FAN - 1)) !== 0;
}
/** Whether a slot is free. */
export function blist_is_free(b: blist_t, s: number): boolean {
  return (mem.I32[leaf_word(b, s >>> SHIFT)] & (1 << (s & (FAN - 1)))) !== 0;
}

// --- proof ----------------------------------------------------------------------------------

/** Proves all words. The lock is held. */
export function blist_check(b: blist_t): void {
  const last = words_of(b, 0) - 1;
  const beyond = mem.I32[leaf_word(b, last)] & ~bits(0, blist.slots[b] - last * FAN);
  if (beyond !== 0) panic('blist_check: slots beyond the end are free', beyond);
  for (let level = 1; level < blist.levels[b]; level++) {
    for (let i = 0; i < words_of(b, level); i++) {
      const v = mem.I32[word(b, level, i)];
      const sum = summed(b, level, i);
      if (v >>> BOUND_BITS !== sum >>> BOUND_BITS) panic('blist_check: slots free', level, i);
      if ((v & BOUND) < (sum & BOUND)) panic('blist_check: longest run', level, i);
    }
  }
}
