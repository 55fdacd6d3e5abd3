/*
 * uma_keg: the layout of items in slabs, and the slabs of a keg.
 *
 * A slab is `ppera` pages cut into `ipers` items of `rsize` bytes.  Its header
 * lies at the end of the page, or in a zone of its own where the items would
 * not leave enough room (off page).  The page array leads from any item to its
 * slab.
 *
 *      page   | item 0 | item 1 | ... | item n-1 | waste | header |
 *                                                        keg, list, bits[], counts[]
 *                                                        or types[], under INVARIANTS
 *
 * A set bit in the header means a free item.  Slabs stand on one of three
 * lists: partial, free, full.  Taking an item prefers partial slabs, so that
 * free ones can go back to the page floor.
 *
 * All of it is under the keg lock, whose class is `undo`: each step saves the
 * words that it changes, save for `hint`, of which any value is right.  A slab is
 * made outside the lock; its pages and its header stay noted in the CPU's hand
 * until the section that links it.
 *
 * The hand of items.  An item that the allocator takes for itself (a header, a
 * bucket, a zone, a keg) comes into the CPU's hand in the section that takes it
 * off its slab, and leaves it in the section that gives it its place or puts it
 * back.  The reaper puts back what a dead CPU had in its hand (uma_drain.ts), so
 * none of these is ever nobody's.
 */
import { vm_page_get } from '../page/vm_page_cache.ts';
import { HAND_ITEMS, pcpu, type pcpu_t, thr } from '../machine/cpu.ts';
import { atomic_add, sim_point } from '../machine/atomic.ts';
import { count_up } from '../machine/count.ts';
import { hw, PAGE_SIZE, PAGE_WORDS, page_word, roundup, word_page } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { add64, elem, field_word, NULL } from '../machine/struct.ts';
import { vector_call } from '../machine/vectors.ts';
import { M, machine } from '../machine/header.ts';
import { mem } from '../machine/memory.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { M_NOVM, M_NOWAIT, M_USE_RESERVE, M_WAITOK, M_ZERO } from '../h/malloc_flags.ts';
import {
  type bucket_t,
  type cache_t,
  type keg_t,
  SLAB_FREE,
  SLAB_FULL,
  SLAB_HEAD_WORDS,
  SLAB_PART,
  type slab_t,
  UMA_CACHE_ALIGN_MASK,
  UMA_MAX_WASTE,
  UMA_SMALLEST_UNIT,
  UMA_ZFLAG_CACHEONLY,
  UMA_ZFLAG_INTERNAL,
  UMA_ZFLAG_PRIVALLOC,
  UMA_ZONE_CACHESPREAD,
  UMA_ZONE_MALLOC,
  UMA_ZONE_OFFPAGE,
  UMA_ZONE_REFCNT,
  UMA_ZONE_VTOSLAB,
  UMA_ZONE_ZINIT,
  uma_bucket,
  uma_cache,
  uma_keg,
  uma_slab,
} from '../h/uma.ts';
import {
  PG_ZERO,
  PK_LARGE,
  PK_MALLOC,
  PK_MASK,
  PK_SLAB,
  VM_ALLOC_INTERRUPT,
  VM_ALLOC_SYSTEM,
  VM_ALLOC_WIRED,
  VM_ALLOC_ZERO,
  vm_page,
} from '../h/vm_page.ts';
import {
  vm_page_alloc,
  vm_page_alloc_run,
  vm_page_domain,
  vm_page_domain_limits,
  vm_page_free_run,
  vm_page_hand_has,
  vm_page_in_hand,
  vm_page_settle,
  vm_page_zero_fill,
} from '../page/vm_page.ts';
import { mtx_assert, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, save64, save_word, undo_begin, undo_end } from '../sync/undo.ts';
import { budget_enter, budget_hold, budget_leave } from './uma_budget.ts';
import { bucket_put } from './uma_cache.ts';
import { zone_alloc_item, zone_free_item } from './uma_core.ts';
import { uma, uma_root } from './uma_int.ts';

const keg = uma_keg;
const slab = uma_slab;
const bucket = uma_bucket;

/** Items whose bits an off-page header has room for. */
export const SLAB_ITEMS_MAX = 256;
/** Items that an off-page header with reference counts has room for. */
export const RCNT_ITEMS_MAX = 16;
const SPREAD_PAGES_MAX = 32;

/** What freed memory is filled with. */
export const UMA_JUNK = 0xdeadc0de;

export type init_t = (item: number, size: number, flags: number) => number;
export type fini_t = (item: number, size: number) => void;
export type allocf_t = (pages: number, flags: number) => number;
export type freef_t = (first_page: number, pages: number) => void;

// --- layout ------------------------------------------------------------------------

/** Words of a header for n items; `users`: each with the malloc type that has it. */
export function slab_header_words(n: number, refcnt: boolean, users = false): number {
  const bits = Math.ceil(n / 32) * (opt.INVARIANTS ? 2 : 1);
  return roundup(SLAB_HEAD_WORDS + bits + (refcnt || users ? n : 0), 2);
}
/** Whether the keg notes the type of each block: malloc's, under INVARIANTS. */
function keg_users(k: keg_t): boolean {
  const kind = keg.flags[k] & (UMA_ZONE_MALLOC | UMA_ZONE_REFCNT);
  return opt.INVARIANTS && kind === UMA_ZONE_MALLOC;
}

/** Decides size, place of the header, items and pages of a slab. Panics on an impossible zone. */
export function keg_layout(k: keg_t): void {
  const flags = keg.flags[k];
  if (keg.align[k] < 0) keg.align[k] = UMA_CACHE_ALIGN_MASK;
  if (flags & UMA_ZONE_CACHESPREAD) keg_layout_spread(k);
  else {
    const align = keg.align[k];
    keg.rsize[k] = roundup(Math.max(keg.size[k], UMA_SMALLEST_UNIT), Math.max(align + 1, 4));
    const one = slab_header_words(1, (flags & UMA_ZONE_REFCNT) !== 0, keg_users(k)) * 4;
    if (keg.rsize[k] + one <= PAGE_SIZE) keg_layout_small(k);
    else keg_layout_large(k);
  }
  const refcnt = (keg.flags[k] & UMA_ZONE_REFCNT) !== 0;
  const n = keg.ipers[k];
  keg.header_words[k] = slab_header_words(n, refcnt, keg_users(k));
  keg.dbg_off[k] = SLAB_HEAD_WORDS + Math.ceil(n / 32);
  keg.user_off[k] = keg_users(k) ? keg.dbg_off[k] + Math.ceil(n / 32) : 0;
  keg.refcnt_off[k] = refcnt ? keg.dbg_off[k] + (opt.INVARIANTS ? Math.ceil(n / 32) : 0) : 0;
  if (keg.flags[k] & UMA_ZONE_OFFPAGE) {
    keg.slabzone[k] = refcnt ? uma_root.rcnt_zone[uma()] : uma_root.slab_zone[uma()];
    if (n > (refcnt ? RCNT_ITEMS_MAX : SLAB_ITEMS_MAX)) panic("UMA slab won't fit.", n);
    if (keg.header_words[k] > slab_header_words(SLAB_ITEMS_MAX, false) && !refcnt) {
      panic("UMA slab header won't fit.", n);
    }
  } else keg.pgoff[k] = keg.ppera[k] * PAGE_SIZE - keg.header_words[k] * 4;
}
function keg_layout_small(k: keg_t): void {
  const flags = keg.flags[k];
  const rsize = keg.rsize[k];
  const refcnt = (flags & UMA_ZONE_REFCNT) !== 0;
  let n = Math.min(Math.floor(PAGE_SIZE / rsize), SLAB_ITEMS_MAX);
  const header = (items: number): number => slab_header_words(items, refcnt, keg_users(k)) * 4;
  while (n * rsize + header(n) > PAGE_SIZE) n--;
  keg.ppera[k] = 1;
  keg.ipers[k] = n;
  const waste = PAGE_SIZE - n * rsize - header(n);
  const most = Math.min(Math.floor(PAGE_SIZE / rsize), refcnt ? RCNT_ITEMS_MAX : SLAB_ITEMS_MAX);
  const may_move = (flags & (UMA_ZFLAG_INTERNAL | UMA_ZFLAG_CACHEONLY)) === 0;
  if (flags & UMA_ZONE_OFFPAGE || (waste >= UMA_MAX_WASTE && n < most && may_move)) {
    keg.ipers[k] = most;
    keg.flags[k] = flags | UMA_ZONE_OFFPAGE | UMA_ZONE_VTOSLAB;
  }
}
function keg_layout_large(k: keg_t): void {
  const flags = keg.flags[k];
  const internal = (flags & UMA_ZFLAG_INTERNAL) !== 0;
  const header = internal ? slab_header_words(1, false) * 4 : 0;
  keg.ppera[k] = Math.ceil((keg.rsize[k] + header) / PAGE_SIZE);
  keg.ipers[k] = 1;
  if (internal) {
    // No off-page header for the allocator's own zones: as many items as fit.
    const room = keg.ppera[k] * PAGE_SIZE;
    let n = Math.floor(room / keg.rsize[k]);
    while (n > 1 && n * keg.rsize[k] + slab_header_words(n, false) * 4 > room) n--;
    keg.ipers[k] = n;
  } else keg.flags[k] = flags | UMA_ZONE_OFFPAGE | UMA_ZONE_VTOSLAB;
}
/** Successive items start on different cache lines. */
function keg_layout_spread(k: keg_t): void {
  const a = keg.align[k] + 1;
  let rsize = roundup(keg.size[k], a);
  if ((rsize & a) === 0) rsize += a;
  const trailer = rsize - keg.size[k];
  const pages = Math.floor((rsize * (PAGE_SIZE / a)) / PAGE_SIZE);
  keg.rsize[k] = rsize;
  keg.ppera[k] = Math.min(Math.max(pages, 1), SPREAD_PAGES_MAX);
  const fit = Math.floor((keg.ppera[k] * PAGE_SIZE + trailer) / rsize);
  keg.ipers[k] = Math.min(fit, SLAB_ITEMS_MAX);
  keg.flags[k] |= UMA_ZONE_OFFPAGE | UMA_ZONE_VTOSLAB;
}

// --- lists, under the keg lock and inside an undo section --------------------------------

function list_field(list: number): typeof keg.part {
  return list === SLAB_PART ? keg.part : list === SLAB_FREE ? keg.free_slabs : keg.full;
}
function slab_insert(k: keg_t, s: slab_t, list: number): void {
  const head = list_field(list);
  const first = head[k];
  save(slab.next, s);
  save(slab.prev, s);
  save(slab.list, s);
  save(head, k);
  if (first !== NULL) {
    save(slab.prev, first);
    slab.prev[first] = s;
  }
  slab.next[s] = first;
  slab.prev[s] = NULL as slab_t;
  slab.list[s] = list;
  head[k] = s;
}
function slab_remove(k: keg_t, s: slab_t): void {
  const next = slab.next[s];
  const prev = slab.prev[s];
  const head = list_field(slab.list[s]);
  save(slab.list, s);
  if (next !== NULL) {
    save(slab.prev, next);
    slab.prev[next] = prev;
  }
  if (prev !== NULL) {
    save(slab.next, prev);
    slab.next[prev] = next;
  } else {
    save(head, k);
    head[k] = next;
  }
  slab.list[s] = 0;
}
/** The list a slab belongs on now. */
function slab_place(k: keg_t, s: slab_t): void {
  const n = slab.freecount[s];
  const list = n === 0 ? SLAB_FULL : n === keg.ipers[k] ? SLAB_FREE : SLAB_PART;
  if (slab.list[s] === list) return;
  slab_remove(k, s);
  slab_insert(k, s, list);
}

/** Whether a page of a slab belongs to nobody: its slab is on no list. */
export function slab_page_unowned(m: number): boolean {
  const s = vm_page.owner[m] as slab_t;
  return s === NULL || slab.list[s] === 0;
}

// --- the hand of items ---------------------------------------------------------------------

/** Where the item on top of a CPU's hand stands, or would with one more. */
function hand_at(pc: pcpu_t, i: number): pcpu_t {
  return elem(pc, i);
}
/** Puts an item on top of this CPU's hand. Inside an undo section the caller saves the count. */
export function item_in_hand(item: number): void {
  const n = pcpu.in_hand_items[thr.pc];
  if (n >= HAND_ITEMS) panic('item_in_hand: more items in hand than it can hold', n);
  pcpu.in_hand_item[hand_at(thr.pc, n)] = item;
  pcpu.in_hand_items[thr.pc] = n + 1; // it counts only when it is there
  if (opt.SIM) sim_point(item);
}
/** The item on top of the hand, 0: none. */
export function hand_item(): number {
  const n = pcpu.in_hand_items[thr.pc];
  return n === 0 ? 0 : pcpu.in_hand_item[hand_at(thr.pc, n - 1)];
}
/** The `n` items on top of the hand have their places now. */
export function item_settle(n = 1): void {
  pcpu.in_hand_items[thr.pc] -= n;
}

// --- items -------------------------------------------------------------------------------

/** The two words of a count that changes together with an item. */
export interface Tally {
  readonly low: number;
  readonly high: number;
}
/** Adds one. Inside an undo section. */
function tally_up(t: Tally): void {
  save_word(t.low);
  save_word(t.high);
  count_up(t.low, t.high);
}
/** Takes a free item of slab s. Inside an undo section of the keg. */
function slab_take(k: keg_t, s: slab_t): number {
  const n = (keg.ipers[k] + 31) >> 5;
  let w = slab.hint[s];
  while (slab.bits[elem(s, w)] === 0) w = w + 1 < n ? w + 1 : 0;
  const v = slab.bits[elem(s, w)];
  const bit = 31 - Math.clz32(v & -v);
  save(slab.bits, elem(s, w));
  save(slab.freecount, s);
  save(keg.free, k);
  slab.hint[s] = w;
  slab.bits[elem(s, w)] = v & ~(1 << bit);
  slab.freecount[s]--;
  keg.free[k]--;
  slab_place(k, s);
  return slab.data[s] + (((w << 5) + bit) * keg.rsize[k]) / 4;
}
/** The index of an item in its slab; panics if it is none. */
export function slab_index(s: slab_t, item: number): number {
  const k = slab.keg[s];
  const bytes = (item - slab.data[s]) * 4;
  const i = Math.floor(bytes / keg.rsize[k]);
  if (i < 0 || i >= keg.ipers[k] || i * keg.rsize[k] !== bytes) {
    panic('uma: freed address is no item of its slab', item * 4, `slab ${s * 4}`);
  }
  return i;
}
/**
 * Where in the first page of a slab items of the keg begin: a bit for each word.  A slab
 * begins with its first item; of one of several pages only that is told.
 */
export function keg_item_starts(k: keg_t): Int32Array {
  const starts = new Int32Array(PAGE_WORDS / 32);
  const n = keg.ppera[k] === 1 ? keg.ipers[k] : 1;
  for (let i = 0; i < n; i++) {
    const w = (i * keg.rsize[k]) / 4;
    starts[w >> 5] |= 1 << (w & 31);
  }
  return starts;
}
/** The slab of an item, NULL if the page belongs to no slab. */
export function vtoslab(item: number): slab_t {
  const m = word_page(item);
  // A large block's row leads to its malloc type.
  return (vm_page.info[m] & PK_MASK) === PK_LARGE ? (NULL as slab_t) : (vm_page.owner[m] as slab_t);
}
/** The word of a malloc block's slab that says which type has it: under INVARIANTS. */
export function slab_user_word(item: number): number {
  const s = vtoslab(item);
  return s + keg.user_off[slab.keg[s]] + slab_index(s, item);
}
/** Whether an item is free in its slab: meaningful only under the keg lock or in a check. */
export function slab_item_free(s: slab_t, i: number): boolean {
  return (slab.bits[elem(s, i >> 5)] & (1 << (i & 31))) !== 0;
}
/** Where an item comes from on its way to its slab: both change in one section. */
export interface Leaves {
  /** The last item of this bucket. */
  readonly bucket?: bucket_t;
  /** Counted as returned by this cache. */
  readonly cache?: cache_t;
  /** The word that led to it. */
  readonly anchor?: number;
  /** Counted here as freed. */
  readonly counted?: Tally | undefined;
  /** On top of the hand of this CPU, which is dead; else perhaps of the CPU's own. */
  readonly dead?: pcpu_t;
}
/** Puts an item back into its slab. The keg lock is held. */
export function slab_free_item(k: keg_t, s: slab_t, item: number, from: Leaves): void {
  if (opt.INVARIANTS) mtx_assert(keg.lock, k);
  const i = slab_index(s, item);
  const w = elem(s, i >> 5);
  const bit = 1 << (i & 31);
  if (slab.bits[w] & bit) panic('Duplicate free of item', item * 4, `slab ${s * 4}`);
  undo_begin(keg.lock, k);
  // Not in use first, then free: at no moment is more in use than the slabs hold.
  if (from.cache) {
    save64(uma_cache.returned, from.cache);
    add64(uma_cache.returned, from.cache, 1);
  }
  if (from.counted) tally_up(from.counted);
  save(slab.bits, w);
  save(slab.freecount, s);
  save(keg.free, k);
  slab.bits[w] |= bit;
  slab.freecount[s]++;
  keg.free[k]++;
  slab_place(k, s);
  if (from.bucket) {
    save(bucket.cnt, from.bucket);
    bucket.cnt[from.bucket]--;
  }
  if (from.anchor) {
    save_word(from.anchor);
    mem.I32[from.anchor] = 0;
  }
  const pc = from.dead ?? thr.pc;
  if (from.dead || hand_item() === item) {
    save(pcpu.in_hand_items, pc);
    pcpu.in_hand_items[pc]--;
  }
  undo_end();
}

/** The slab to take the next item from; NULL if none has one. The keg lock is held. */
function keg_ready_slab(k: keg_t): slab_t {
  return keg.part[k] !== NULL ? keg.part[k] : keg.free_slabs[k];
}
/** Items that a request without M_USE_RESERVE must leave. */
export function keg_reserve(k: keg_t, flags: number): number {
  return flags & M_USE_RESERVE ? 0 : keg.reserve[k];
}
/** Whether the keg may not take another slab. The keg lock is held. */
export function keg_at_limit(k: keg_t): boolean {
  return keg.maxpages[k] > 0 && keg.pages[k] + keg.ppera[k] > keg.maxpages[k];
}

/** Where an item goes on its way from its slab: all change in one section. */
export interface Takes {
  /** The word that is to lead to it; 0: it comes into this CPU's hand. */
  readonly anchor: number;
  /** Counted here as allocated. */
  readonly counted?: Tally | undefined;
}
/**
 * Takes one item off the keg's slabs, counted as come into cache c and out of
 * it again; 0 if none is free.  An item of the allocator's own comes into the
 * CPU's hand.  The keg lock is held.
 */
export function keg_take(k: keg_t, flags: number, c: cache_t, to?: Takes): number {
  const s = keg_ready_slab(k);
  if (s === NULL || keg.free[k] <= keg_reserve(k, flags)) return 0;
  undo_begin(keg.lock, k);
  const item = slab_take(k, s);
  save64(uma_cache.installed, c);
  add64(uma_cache.installed, c, 1);
  if (to?.counted) tally_up(to.counted);
  if (to && to.anchor !== 0) {
    save_word(to.anchor);
    mem.I32[to.anchor] = item;
  } else if (to || keg.flags[k] & UMA_ZFLAG_INTERNAL) {
    save(pcpu.in_hand_items, thr.pc);
    item_in_hand(item);
  }
  undo_end();
  return item;
}
/**
 * Moves items from the keg's slabs into a bucket until it has `want`.  Each
 * item and the bucket's count change in one section.  The keg lock is held.
 */
export function keg_fill(k: keg_t, b: bucket_t, want: number, flags: number): void {
  const least = keg_reserve(k, flags);
  while (bucket.cnt[b] < want && keg.free[k] > least) {
    const s = keg_ready_slab(k);
    if (s === NULL) return;
    undo_begin(keg.lock, k);
    save(bucket.cnt, b);
    bucket_put(b, slab_take(k, s));
    undo_end();
  }
}

// --- slabs come and go ---------------------------------------------------------------------

/** What tests make fail: before each new slab. */
export const slab_failpoint: { refuse: ((k: keg_t) => boolean) | null } = { refuse: null };

/** The class of a page request with these malloc flags. */
export function page_request(flags: number): number {
  const cls =
    (flags & (M_NOWAIT | M_USE_RESERVE)) === M_NOWAIT ? VM_ALLOC_INTERRUPT : VM_ALLOC_SYSTEM;
  return cls | VM_ALLOC_WIRED | (flags & M_ZERO ? VM_ALLOC_ZERO : 0);
}
/** Whether slabs begin with zero: malloc's do not, unless the zone asked for it. */
function keg_zeroes(k: keg_t): boolean {
  return (keg.flags[k] & (UMA_ZONE_MALLOC | UMA_ZONE_ZINIT)) !== UMA_ZONE_MALLOC;
}
function keg_pages(k: keg_t, flags: number): number {
  const n = keg.ppera[k];
  const req = page_request((flags & ~M_ZERO) | (keg_zeroes(k) ? M_ZERO : 0));
  const d = keg.domain[k];
  if (keg.flags[k] & UMA_ZFLAG_PRIVALLOC && keg.allocf[k] !== 0) {
    const given = vector_call<allocf_t>(keg.allocf[k])(n, flags);
    if (given !== 0 && !vm_page_hand_has(given, n)) vm_page_in_hand(given, n);
    return given;
  }
  let m = 0;
  if (n === 1) m = d >= 0 ? vm_page_alloc(-1, req, d) : vm_page_get(req);
  else if (d >= 0)
    m = vm_page_alloc_run(n, req, vm_page_domain_limits(d)) || vm_page_alloc_run(n, req);
  else m = vm_page_alloc_run(n, req);
  return m;
}

/**
 * Makes a slab and links it to the keg.  The keg lock is not held.  False: no
 * page, no header, or an item's init refused; everything is given back.  True
 * means "look again": another CPU may have filled the keg to its limit
 * meanwhile, and then this slab is given back too, unless `beyond` it is meant.
 */
export function keg_grow(k: keg_t, flags: number, beyond = false): boolean {
  if (flags & M_NOVM) return false;
  const n = keg.ppera[k];
  if (!budget_enter(n)) return false;
  const grown = keg_grow_slab(k, flags, beyond);
  budget_leave(n);
  return grown;
}
function keg_grow_slab(k: keg_t, flags: number, beyond: boolean): boolean {
  if (opt.FAILPOINTS && slab_failpoint.refuse?.(k)) return false;
  const header = keg_header(k, flags);
  if (header < 0) return false;
  const m = keg_pages(k, flags);
  if (m === 0) {
    if (header > 0) zone_free_item(keg.slabzone[k], header);
    return false;
  }
  if (keg_zeroes(k)) vm_page_zero_fill(m, keg.ppera[k]);
  const s = slab_make(k, m, header > 0 ? header : page_word(m) + keg.pgoff[k] / 4);
  if (keg.init[k] !== 0 && !slab_init_items(k, s, flags)) {
    slab_release(k, s);
    return false;
  }
  if (!slab_link(k, s, beyond)) {
    slab_fini_items(k, s, keg.ipers[k]);
    slab_release(k, s);
  } else if (keg.domain[k] >= 0) count_domain(m);
  return true;
}
/** An off-page header, in this CPU's hand. 0: it lies on the page; -1: none is to be had. */
function keg_header(k: keg_t, flags: number): number {
  if ((keg.flags[k] & UMA_ZONE_OFFPAGE) === 0) return 0;
  return zone_alloc_item(keg.slabzone[k], (flags & ~(M_ZERO | M_WAITOK)) | M_NOWAIT) || -1;
}
/**
 * Makes a slab of page m, which is on top of this CPU's hand, and links it to
 * the keg whatever its limit.  The last `withheld` of its items are never given
 * out; one slab of a keg may have such.  False: no header, and the page is in
 * hand as before.
 */
export function keg_add_page(k: keg_t, m: number, withheld: number): boolean {
  if (opt.FAILPOINTS && slab_failpoint.refuse?.(k)) return false;
  if (!budget_enter(1)) return false;
  const header = keg_header(k, M_NOWAIT);
  if (header < 0) {
    budget_leave(1);
    return false;
  }
  vm_page_zero_fill(m, 1);
  const s = slab_make(k, m, header > 0 ? header : page_word(m) + keg.pgoff[k] / 4, withheld);
  slab_link(k, s, true, withheld);
  budget_leave(1);
  return true;
}
/** Withheld items count as free again: the keg is going. */
export function keg_give_withheld(k: keg_t): void {
  mtx_lock(keg.lock, k);
  const s = keg.short_slab[k];
  if (s !== NULL) {
    const n = keg.ipers[k];
    const more = keg.withheld[k];
    undo_begin(keg.lock, k);
    for (let w = (n - more) >> 5; w <= (n - 1) >> 5; w++) save(slab.bits, elem(s, w));
    save(slab.freecount, s);
    save(keg.free, k);
    save(keg.short_slab, k);
    for (let i = n - more; i < n; i++) slab.bits[elem(s, i >> 5)] |= 1 << (i & 31);
    slab.freecount[s] += more;
    keg.free[k] += more;
    keg.short_slab[k] = NULL as slab_t;
    slab_place(k, s);
    undo_end();
  }
  mtx_unlock(keg.lock, k);
}
function count_domain(m: number): void {
  const r = uma();
  const local = vm_page_domain(m) === thr.cpu % machine.domains[M];
  atomic_add(field_word(local ? uma_root.domain_local : uma_root.domain_remote, r), 1);
}

/** Fills the header of a slab on page m, at word `at`; its last `withheld` items are not free. */
function slab_make(k: keg_t, m: number, at: number, withheld = 0): slab_t {
  const s = at as slab_t;
  const n = keg.ipers[k] - withheld;
  checked_fresh(s, keg.header_words[k]);
  hw.fill(s, 0, keg.header_words[k]);
  slab.keg[s] = k;
  slab.page[s] = m;
  slab.data[s] = page_word(m);
  slab.freecount[s] = n;
  for (let i = 0; i < n; i += 32) {
    slab.bits[elem(s, i >> 5)] = n - i >= 32 ? -1 : (1 << (n - i)) - 1;
  }
  const mclass = keg.mclass[k];
  if (opt.INVARIANTS && keg.init[k] === 0 && (keg.flags[k] & UMA_ZONE_ZINIT) === 0)
    slab_trash(k, s);
  const info = mclass > 0 ? PK_MALLOC | (mclass - 1) : PK_SLAB;
  for (let i = m; i < m + keg.ppera[k]; i++) {
    vm_page.owner[i] = s;
    vm_page.index[i] = i === m ? k : ~k;
    vm_page.flags[i] &= ~PG_ZERO;
    vm_page.info[i] = info;
  }
  checked_publish(s);
  return s;
}
/** Fills fresh items as if they had been freed, so that their first use is checked too. */
function slab_trash(k: keg_t, s: slab_t): void {
  for (let i = 0; i < keg.ipers[k]; i++) {
    const item = slab.data[s] + (i * keg.rsize[k]) / 4;
    mem.U32.fill(UMA_JUNK, item, item + (keg.size[k] >> 2));
    if (keg.mclass[k] !== 0) mem.I32[item + (keg.size[k] >> 2) - 1] = 0;
  }
}
function slab_init_items(k: keg_t, s: slab_t, flags: number): boolean {
  const init = vector_call<init_t>(keg.init[k]);
  for (let i = 0; i < keg.ipers[k]; i++) {
    if (init(slab.data[s] + (i * keg.rsize[k]) / 4, keg.size[k], flags) === 0) continue;
    slab_fini_items(k, s, i);
    return false;
  }
  return true;
}
function slab_fini_items(k: keg_t, s: slab_t, n: number): void {
  if (keg.fini[k] === 0) return;
  const fini = vector_call<fini_t>(keg.fini[k]);
  for (let i = 0; i < n; i++) fini(slab.data[s] + (i * keg.rsize[k]) / 4, keg.size[k]);
}
/** Gives a slab that no list has any more back: pages and header. */
function slab_release(k: keg_t, s: slab_t): void {
  const m = slab.page[s];
  const n = keg.ppera[k];
  const off_page = (keg.flags[k] & UMA_ZONE_OFFPAGE) !== 0;
  for (let i = m; i < m + n; i++) vm_page.index[i] = 0;
  if (keg.flags[k] & UMA_ZFLAG_PRIVALLOC && keg.freef[k] !== 0) {
    vector_call<freef_t>(keg.freef[k])(m, n);
    if (vm_page_hand_has(m, n)) vm_page_settle(); // the supplier keeps them
  } else vm_page_free_run(m, n);
  if (off_page) zone_free_item(keg.slabzone[k], s);
}
/** False: the keg reached its limit while the slab was made. Pages and header leave the hand. */
function slab_link(k: keg_t, s: slab_t, beyond: boolean, withheld = 0): boolean {
  mtx_lock(keg.lock, k);
  if (!beyond && keg_at_limit(k)) {
    mtx_unlock(keg.lock, k);
    return false;
  }
  undo_begin(keg.lock, k);
  save(keg.free, k);
  save(keg.pages, k);
  save(pcpu.in_hand_n, thr.pc);
  save(pcpu.in_hand_items, thr.pc);
  if (withheld > 0) {
    save(keg.short_slab, k);
    save(keg.withheld, k);
    keg.short_slab[k] = s;
    keg.withheld[k] = withheld;
  }
  slab_insert(k, s, withheld > 0 ? SLAB_PART : SLAB_FREE);
  keg.free[k] += keg.ipers[k] - withheld;
  keg.pages[k] += keg.ppera[k];
  vm_page_settle();
  if (keg.flags[k] & UMA_ZONE_OFFPAGE) item_settle();
  undo_end();
  mtx_unlock(keg.lock, k);
  return true;
}

/**
 * Gives completely free slabs back until at most `keep` items stay free.
 * Returns the pages freed.
 */
export function keg_drain(k: keg_t, keep: number): number {
  let pages = 0;
  while (keg.free_slabs[k] !== NULL) {
    mtx_lock(keg.lock, k);
    const s = keg.free_slabs[k];
    if (s === NULL || keg.free[k] - keg.ipers[k] < Math.max(keep, keg.reserve[k])) {
      mtx_unlock(keg.lock, k);
      return pages;
    }
    budget_hold(keg.ppera[k]);
    undo_begin(keg.lock, k);
    save(keg.free, k);
    save(keg.pages, k);
    save(pcpu.in_hand_n, thr.pc);
    save(pcpu.in_hand_items, thr.pc);
    vm_page_in_hand(slab.page[s], keg.ppera[k]);
    if (keg.flags[k] & UMA_ZONE_OFFPAGE) item_in_hand(s);
    slab_remove(k, s);
    keg.free[k] -= keg.ipers[k];
    keg.pages[k] -= keg.ppera[k];
    undo_end();
    budget_leave(keg.ppera[k]);
    mtx_unlock(keg.lock, k);
    pages += keg.ppera[k];
    slab_fini_items(k, s, keg.ipers[k]);
    slab_release(k, s);
  }
  return pages;
}

/** The reference count of an item in a REFCNT zone: its word. */
export function uma_find_refcnt_word(item: number): number {
  const s = vtoslab(item);
  if (s === NULL) panic('uma_find_refcnt: the address belongs to no slab', item * 4);
  const k = slab.keg[s];
  if (keg.refcnt_off[k] === 0) panic('uma_find_refcnt: the zone keeps no counts', item * 4);
  return s + keg.refcnt_off[k] + slab_index(s, item);
}
/** The count itself, for reading. */
export function uma_find_refcnt(item: number): number {
  return mem.I32[uma_find_refcnt_word(item)];
}
