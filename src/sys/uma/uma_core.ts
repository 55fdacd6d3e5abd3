/*
 * uma_core: allocation and free, the fast paths and the slow ones.
 *
 * Each CPU has per zone a cache of two buckets, `cur` and `spare`.  The fast
 * path takes the last item of `cur`, or puts one behind it: plain loads and
 * stores on private memory, no lock, no atomic operation.
 *
 *      alloc:  cur has items? take one : spare has items? split or rotate : _slow
 *      free:   cur has room? put it    : spare has room?  split or rotate : _slow
 *
 * A split moves half the items of a full bucket into the other, empty one.
 *
 * What does more than take or put an item first asks for stack (subr_trap.ts):
 * the slow paths, and every request whose item is checked, constructed, zeroed or
 * destructed on its way.
 *
 * The slow path exchanges a bucket with the zone under its lock, or fills one
 * from the slabs; with no bucket to be had it moves a single item.  Before the
 * lock it serves what other CPUs asked for (uma_drain.ts), because that takes
 * locks too.
 *
 * While this CPU waits for a lock, a drainer may take cur and spare: code that
 * has taken a lock looks at its cache again.  A bucket at work is in `hand` or
 * `fill`, which drainers leave alone.
 *
 * Deaths.  A bucket with items is always anchored: in cur, spare, hand, fill or
 * drain of a cache, or on a list of the zone.  Moves between a list and a cache are one
 * undo section; moves inside a cache go through `hand`, so that the reaper
 * finds every bucket at least once.  Only the single item between a bucket
 * and its caller can be lost.
 *
 * Counting.  Allocations cost one addition; frees are derived: what came into
 * the cache, less what left it, less what is there, is what the program holds.
 *
 * Read next: uma_keg.ts (where items come from), uma_zone.ts (making zones).
 */
import { sim_point } from '../machine/atomic.ts';
import { COUNT_TURN, count_up } from '../machine/count.ts';
import { hot as hot_, pcpu as pcpu_, poll, thr } from '../machine/cpu.ts';
import { reap_pending } from '../machine/death.ts';
import { hw as hw_, mem as mem_ } from '../machine/memory.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { kernel_parts, witness_sleep } from '../machine/parts.ts';
import { add64, field_word, NULL } from '../machine/struct.ts';
import { vector_call } from '../machine/vectors.ts';
import { MD_STACK } from '../h/malloc.ts';
import { M_NORECLAIM, M_NOWAIT, M_WAITOK, M_ZERO as M_ZERO_ } from '../h/malloc_flags.ts';
import {
  type bucket_t,
  CACHE_SHIFT,
  type cache_t,
  type keg_t,
  type slab_t,
  UMA_ZFLAG_MULTI,
  uma_bucket,
  uma_cache,
  uma_keg as uma_keg_,
  uma_slab as uma_slab_,
  uma_zone,
  ZH_CTOR,
  ZH_DEBUG as ZH_DEBUG_,
  ZH_DTOR,
  ZH_FULL as ZH_FULL_,
  ZH_GOING,
  ZH_GUARD,
  ZH_NOCACHE as ZH_NOCACHE_,
  ZH_NOTE,
  type zone_t,
} from '../h/uma.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { kernel_enter, kernel_leave, kernel_threw } from '../sync/subr_trap.ts';
import { save, save64, save_word, undo_begin, undo_begin_private, undo_end } from '../sync/undo.ts';
import { bucket_alloc, bucket_free } from './uma_bucket.ts';
import {
  bucket_put,
  bucket_take,
  cache_begin,
  cache_end,
  cache_set_cur,
  cache_split,
  zone_pop_full,
  zone_push,
} from './uma_cache.ts';
import { uma_dbg_alloc, uma_dbg_free, uma_dbg_give } from './uma_dbg.ts';
import { poll_uma } from './uma_drain.ts';
import { uma_zone_fetch_wait, zone_fetch, zone_limit_wakeup } from './uma_fetch.ts';
import {
  hand_item,
  item_in_hand,
  item_settle,
  keg_drain,
  type Leaves,
  slab_free_item,
  type Tally,
  vtoslab,
} from './uma_keg.ts';
import {
  my_cache,
  uma,
  uma_root as uma_root_,
  zone_lock,
  zone_name,
  zone_unlock,
} from './uma_int.ts';

// tidy: hot. Local names: V8 takes them for constants, imported ones it does not.
const hw = hw_;
const mem = mem_;
const pcpu = pcpu_;
const uma_root = uma_root_;
const uma_keg = uma_keg_;
const uma_slab = uma_slab_;
const M_ZERO = M_ZERO_;
const ZH_DEBUG = ZH_DEBUG_;
const ZH_FULL = ZH_FULL_;
const ZH_NOCACHE = ZH_NOCACHE_;
const hot = hot_;
const TURN = COUNT_TURN;
const opt = opt_;

const zone = uma_zone;
const cache = uma_cache;
const bucket = uma_bucket;

export type ctor_t = (item: number, size: number, arg: number, flags: number) => number;
export type dtor_t = (item: number, size: number, arg: number) => void;

const CACHES = uma_zone.sizeof;
const SHIFT = CACHE_SHIFT;

/* The fast paths are written out, so that V8 can inline them (kern_malloc.ts). */
const NO_FAST_ALLOC = ZH_CTOR | ZH_DEBUG | ZH_GUARD | ZH_NOTE;
const NO_FAST_FREE = ZH_DTOR | ZH_DEBUG | ZH_FULL | ZH_NOTE;

/**
 * Takes an item of zone z: a word address, 0 if there is none.  `flags` is
 * M_NOWAIT or M_WAITOK, perhaps with M_ZERO.  With M_WAITOK it may sleep for
 * the zone's limit or for pages, and fails only where waiting cannot help.
 */
export function uma_zalloc(z: zone_t, flags: number): number {
  const c = ((z + CACHES + (hot.cpu << SHIFT)) | 0) as number as cache_t;
  const b = cache.cur[c];
  const n = bucket.cnt[b] - 1;
  if (n < 0) return uma_zalloc_slow(z, 0, flags);
  // What calls something with the item in hand asks for stack before.
  if ((zone.hooks[z] & NO_FAST_ALLOC) !== 0) return uma_zalloc_slow(z, 0, flags);
  const item = bucket.item[((b + n) | 0) as bucket_t];
  if ((flags & M_ZERO) !== 0) hw.fill(item, 0, (zone.size[z] + 3) >> 2); // nothing is changed yet
  const v = (cache.allocs[c] + 1) | 0;
  if (opt.SIM) sim_point(b);
  bucket.cnt[b] = n;
  cache.allocs[c] = v;
  if (v << 1 === TURN)
    cache.allocs_high[c] = v < 0 ? cache.allocs_high[c] | 1 : (cache.allocs_high[c] + 1) & ~1;
  return item;
}
/** uma_zalloc with an argument for the constructor. */
export function uma_zalloc_arg(z: zone_t, arg: number, flags: number): number {
  return uma_zalloc_slow(z, arg, flags);
}
/** Gives an item back. Never sleeps; 0 is no item and is ignored. */
export function uma_zfree(z: zone_t, item: number): void {
  if (item === 0) return;
  if ((zone.hooks[z] & NO_FAST_FREE) !== 0) return uma_zfree_hooks(z, item, 0);
  const b = cache.cur[((z + CACHES + (hot.cpu << SHIFT)) | 0) as number as cache_t];
  const n = bucket.cnt[b];
  if (n >= bucket.entries[b]) return uma_zfree_slow(z, item);
  bucket.item[((b + n) | 0) as bucket_t] = item;
  if (opt.SIM) sim_point(b);
  bucket.cnt[b] = n + 1;
}
/**
 * Whether the item is the one that this CPU put into its cache last: freed once more, it
 * would be given out twice.  The frequent case of a double free, for a client that asks.
 */
export function uma_zfreed_last(z: zone_t, item: number): boolean {
  const b = cache.cur[((z + CACHES + (hot.cpu << SHIFT)) | 0) as number as cache_t];
  const n = bucket.cnt[b];
  return n > 0 && bucket.item[((b + n - 1) | 0) as bucket_t] === item;
}
/** uma_zfree with an argument for the destructor. */
export function uma_zfree_arg(z: zone_t, item: number, arg: number): void {
  if (item !== 0) uma_zfree_hooks(z, item, arg);
}

/** uma_zfree straight to the slab: nobody is to find the item in this CPU's cache. */
export function uma_zfree_past_caches(z: zone_t, item: number): void {
  const outer = kernel_enter();
  try {
    const hooks = zone.hooks[z];
    if (hooks & ZH_NOTE) kernel_parts.note?.zfree(z, item);
    if (hooks & ZH_DTOR) vector_call<dtor_t>(zone.dtor[z])(item, zone.size[z], 0);
    if (hooks & ZH_DEBUG) uma_dbg_free(z, item);
    zone_free_item(z, item);
  } catch (e) {
    kernel_threw(e, outer, 'uma_zfree');
  }
  kernel_leave(outer);
}

/*
 * For a client that runs its zone's constructor and destructor itself: a call
 * through the table of vectors costs more than all the rest.
 */

/** An item of this CPU's cache, not constructed. 0: the client calls uma_zalloc_arg. */
export function uma_cache_take(z: zone_t): number {
  const c = ((z + CACHES + (hot.cpu << SHIFT)) | 0) as number as cache_t;
  const b = cache.cur[c];
  const n = bucket.cnt[b] - 1;
  if (n < 0 || opt.INVARIANTS) return 0; // checks belong to the slow way
  const item = bucket.item[((b + n) | 0) as bucket_t];
  const v = (cache.allocs[c] + 1) | 0;
  if (opt.SIM) sim_point(b);
  bucket.cnt[b] = n;
  cache.allocs[c] = v;
  if (v << 1 === TURN)
    cache.allocs_high[c] = v < 0 ? cache.allocs_high[c] | 1 : (cache.allocs_high[c] + 1) & ~1;
  return item;
}
/**
 * Puts an item, destructed already, into this CPU's cache.  False: it has no room
 * for it now, or has this very item on top; the client calls uma_zfree_arg, which
 * destructs once more, or asks uma_zfreed_last first.
 */
export function uma_cache_give(z: zone_t, item: number): boolean {
  if ((zone.hooks[z] & (ZH_DEBUG | ZH_FULL | ZH_NOCACHE | ZH_NOTE)) !== 0) return false;
  const b = cache.cur[((z + CACHES + (hot.cpu << SHIFT)) | 0) as number as cache_t];
  const n = bucket.cnt[b];
  if (n >= bucket.entries[b]) return false;
  if (n > 0 && bucket.item[((b + n - 1) | 0) as bucket_t] === item) return false;
  bucket.item[((b + n) | 0) as bucket_t] = item;
  if (opt.SIM) sim_point(b);
  bucket.cnt[b] = n + 1;
  return true;
}

/** Counts an allocation. */
function cache_count(c: cache_t): void {
  count_up(field_word(cache.allocs, c), field_word(cache.allocs_high, c));
}

// --- after the item is taken, before it is given back -----------------------------------

/** Checks, constructs and zeroes an item that left the caches. */
function uma_zalloc_finish(z: zone_t, item: number, arg: number, flags: number): number {
  const hooks = zone.hooks[z];
  if (hooks & ZH_DEBUG) uma_dbg_alloc(z, item);
  if (hooks & ZH_CTOR) {
    const ctor = vector_call<ctor_t>(zone.ctor[z]);
    if (ctor(item, zone.size[z], arg, flags) !== 0) {
      // Back past the caches, with zfini but without dtor; counted as a free.
      if (hooks & ZH_DEBUG) uma_dbg_free(z, item);
      count_failure(z);
      zone_free_item(z, item);
      return 0;
    }
  }
  if (flags & M_ZERO) hw.fill(item, 0, (zone.size[z] + 3) >> 2);
  if (hooks & ZH_NOTE) kernel_parts.note?.zalloc(z, item);
  return item;
}
function uma_zfree_hooks(z: zone_t, item: number, arg: number): void {
  if (only_counted(z) && kernel_parts.note?.quiet(item) && zfree_counted(z, item)) return;
  const outer = kernel_enter();
  try {
    zfree_hooks(z, item, arg);
  } catch (e) {
    kernel_threw(e, outer, 'uma_zfree');
  }
  kernel_leave(outer);
}
function zfree_hooks(z: zone_t, item: number, arg: number): void {
  const hooks = zone.hooks[z];
  if (hooks & ZH_NOTE) kernel_parts.note?.zfree(z, item);
  if (hooks & ZH_DTOR) vector_call<dtor_t>(zone.dtor[z])(item, zone.size[z], arg);
  if (hooks & ZH_DEBUG) uma_dbg_free(z, item);
  const b = cache.cur[((z + CACHES + (hot.cpu << SHIFT)) | 0) as number as cache_t];
  if (bucket.cnt[b] >= bucket.entries[b] || (hooks & (ZH_FULL | ZH_NOCACHE)) !== 0) {
    return uma_zfree_slow(z, item);
  }
  bucket_put(b, item);
}
/** Whether requests of a zone come off the fast path to be counted, and for nothing else. */
function only_counted(z: zone_t): boolean {
  return zone.hooks[z] === ZH_NOTE && uma_root.detect[uma()] === MD_STACK;
}
/** An item, if it is not its turn to be noted (kmem/kern_malloc_counted.ts). 0: the slow way. */
function zalloc_counted(z: zone_t, flags: number): number {
  const left = pcpu.sample_left[thr.pc] - zone.size[z];
  const c = ((z + CACHES + (hot.cpu << SHIFT)) | 0) as number as cache_t;
  const b = cache.cur[c];
  const n = bucket.cnt[b] - 1;
  if (left <= 0 || n < 0) return 0;
  const item = bucket.item[((b + n) | 0) as bucket_t];
  if ((flags & M_ZERO) !== 0) hw.fill(item, 0, (zone.size[z] + 3) >> 2);
  pcpu.sample_left[thr.pc] = left;
  if (opt.SIM) sim_point(b);
  bucket.cnt[b] = n;
  cache_count(c);
  return item;
}
/** Frees an item of which nothing is noted. False: the slow way. */
function zfree_counted(z: zone_t, item: number): boolean {
  const b = cache.cur[((z + CACHES + (hot.cpu << SHIFT)) | 0) as number as cache_t];
  if (bucket.cnt[b] >= bucket.entries[b]) return false;
  bucket_put(b, item);
  return true;
}
function zone_fini_item(z: zone_t, item: number): void {
  if (zone.zfini[z] !== 0) {
    vector_call<(item: number, size: number) => void>(zone.zfini[z])(item, zone.size[z]);
  }
}
function count_failure(z: zone_t): void {
  zone_lock(z);
  add64(zone.fails, z, 1);
  zone_unlock(z);
}

// --- slow allocation -----------------------------------------------------------------------

/**
 * The cache is empty: a bucket from the zone, a bucket filled, or a single item.  Or
 * something is to be done with the item before it is handed out.
 */
export function uma_zalloc_slow(z: zone_t, arg: number, flags: number): number {
  const counted = only_counted(z) ? zalloc_counted(z, flags) : 0;
  if (counted !== 0) return counted;
  const outer = kernel_enter();
  let item = 0;
  try {
    const c = my_cache(z);
    const b = cache.cur[c];
    if ((zone.hooks[z] & ZH_GUARD) !== 0) item = kernel_parts.memguard?.zalloc(z, flags) ?? 0;
    if (item === 0)
      item = bucket.cnt[b] > 0 ? cache_take(z, c, b, arg, flags) : zalloc_slow(z, arg, flags);
  } catch (e) {
    kernel_threw(e, outer, 'uma_zalloc');
  }
  kernel_leave(outer);
  return item;
}
/** An item of the cache, checked, constructed and zeroed. */
function cache_take(z: zone_t, c: cache_t, b: bucket_t, arg: number, flags: number): number {
  const item = bucket_take(b);
  cache_count(c);
  return uma_zalloc_finish(z, item, arg, flags);
}
function zalloc_slow(z: zone_t, arg: number, flags: number): number {
  poll();
  if (opt.WITNESS && flags & M_WAITOK) witness_sleep(`uma_zalloc: zone "${zone_name(z)}"`, 0);
  if ((flags & M_NORECLAIM) === 0) {
    reap_pending();
    poll_uma();
  }
  if (zone.hooks[z] & ZH_GOING) return 0;
  if (zone.hooks[z] & ZH_NOCACHE) {
    const item = zone_alloc_item(z, flags);
    if (item !== 0) item_settle(); // the caller's own from here on
    return item === 0 ? 0 : uma_zalloc_finish(z, item, arg, flags);
  }
  if (!cache_refill_slow(z, flags)) {
    const item = zone_alloc_item(z, flags);
    if (item === 0) return 0;
    cache_count(my_cache(z));
    return uma_zalloc_finish(z, item, arg, flags);
  }
  const c = my_cache(z);
  return cache_take(z, c, cache.cur[c], arg, flags);
}

/** Puts items under the fast path of this CPU. False: none could be had by the bucket. */
export function cache_refill_slow(z: zone_t, flags: number): boolean {
  const c = my_cache(z);
  if (opt.INVARIANTS && bucket.cnt[cache.cur[c]] !== 0) panic('uma: refill of a cache with items');
  const spare = cache.spare[c];
  if (spare !== NULL && bucket.cnt[spare] > 0) {
    if (bucket.cnt[spare] > bucket.entries[spare] >> 1) cache_split(c, spare, cache.cur[c]);
    if (bucket.cnt[cache.cur[c]] === 0) cache_rotate(z, c);
    return true;
  }
  if (cache_from_zone(z, c)) return true;
  if (uma_root.up[uma()] === 0 || zone.bucket_max[z] === 0) return false;
  return cache_fill(z, c, flags);
}
/** cur and spare change places; at every moment each is found in cur, spare or hand. */
function cache_rotate(z: zone_t, c: cache_t): void {
  const old = cache.cur[c];
  cache.hand[c] = old;
  if (opt.SIM) sim_point(c);
  cache_set_cur(z, c, cache.spare[c]);
  if (opt.SIM) sim_point(c);
  cache.spare[c] = old;
  cache.hand[c] = NULL as bucket_t;
}
/** An exchange with the zone costs a lock: larger buckets make it rarer. The lock is held. */
function bucket_grow(z: zone_t): void {
  const n = zone.count[z];
  if (n < zone.bucket_max[z]) zone.count[z] = Math.min(n * 2, zone.bucket_max[z]);
}
/** Exchanges the empty cur for a full bucket of the zone. */
function cache_from_zone(z: zone_t, c: cache_t): boolean {
  if (zone.full_buckets[z] === NULL) return false; // a hint: looked at again under the lock
  const k = zone.keg[z];
  mtx_lock(uma_keg.lock, k);
  if (zone.full_buckets[z] === NULL) {
    mtx_unlock(uma_keg.lock, k);
    return false;
  }
  bucket_grow(z);
  cache_begin(c);
  undo_begin(uma_keg.lock, k);
  const full = zone_pop_full(z);
  const old = cache.cur[c];
  save(cache.cur, c);
  save64(cache.installed, c);
  add64(cache.installed, c, bucket.cnt[full]);
  if (old !== uma_root.null_bucket[uma()]) zone_push(z, old);
  cache_set_cur(z, c, full);
  undo_end();
  cache_end(c);
  mtx_unlock(uma_keg.lock, k);
  return true;
}
/**
 * Fills a bucket from the slabs and makes it cur.  Locks may make this CPU wait,
 * and while it waits a drainer may take its cur and spare: the bucket at work
 * is therefore in neither, but in `fill`, which only a reaper looks at.
 */
function cache_fill(z: zone_t, c: cache_t, flags: number): boolean {
  if (zone.count[z] < zone.bucket_max[z]) zone.count[z]++; // a miss: larger buckets from now on
  const b = cache_fill_bucket(z, c, flags);
  if (b === NULL) return false;
  const filled = zone_fetch(z, b, bucket.entries[b], flags);
  cache_begin(c);
  // Its items count as come in if it is cur, and only then: also after a death in between.
  undo_begin_private();
  save64(cache.installed, c);
  save(cache.cur, c);
  save(cache.fill, c);
  add64(cache.installed, c, bucket.cnt[b]);
  if (opt.SIM) sim_point(c);
  cache_set_cur(z, c, b);
  if (opt.SIM) sim_point(c);
  cache.fill[c] = NULL as bucket_t;
  undo_end();
  cache_end(c);
  return filled;
}
/** The empty bucket to fill, anchored in `fill`: cur, or a larger one. NULL: none to be had. */
function cache_fill_bucket(z: zone_t, c: cache_t, flags: number): bucket_t {
  const nothing = uma_root.null_bucket[uma()];
  const want = zone.count[z];
  const old = cache.cur[c];
  cache.good[c] = 0;
  if (old !== nothing) {
    cache.fill[c] = old;
    cache_set_cur(z, c, nothing);
    if (bucket.entries[old] >= want || bucket.entries[old] >= zone.bucket_max[z]) return old;
  }
  const larger = bucket_alloc(want, zone.bucket_max[z], flags);
  if (larger === NULL) return old === nothing ? larger : old;
  if (old !== nothing) item_in_hand(old);
  cache.fill[c] = larger;
  if (old !== nothing) bucket_free(old);
  item_settle();
  return larger;
}

/** One item straight from the slabs, initialised for the zone; counted as out. 0: none. */
export function zone_alloc_item(z: zone_t, flags: number): number {
  const item = uma_zone_fetch_wait(z, flags);
  if (item === 0) {
    count_failure(z);
    return 0;
  }
  if (zone.zinit[z] !== 0) {
    const zinit = vector_call<(i: number, s: number, f: number) => number>(zone.zinit[z]);
    if (zinit(item, zone.size[z], flags) !== 0) {
      count_failure(z);
      zone_return_item(z, item, { cache: my_cache(z) }); // never initialised: no zfini
      return 0;
    }
  }
  return item;
}

/**
 * One item straight from the slabs, to which the word `anchor` leads from the
 * same moment on, and which is counted in `counted` as well.  For records of the
 * kernel that no death may lose.  0: none.  Never sleeps; zones without zinit.
 */
export function zone_alloc_at(z: zone_t, flags: number, anchor: number, counted?: Tally): number {
  const item = uma_zone_fetch_wait(z, flags, { anchor, counted });
  if (item === 0) count_failure(z);
  else if (zone.hooks[z] & ZH_DEBUG) uma_dbg_alloc(z, item);
  return item;
}
/** The same into this CPU's hand, for an item that is made ready before it gets its place. */
export function zone_alloc_hand(z: zone_t, flags: number): number {
  const c = my_cache(z);
  const counted = { low: field_word(cache.allocs, c), high: field_word(cache.allocs_high, c) };
  return zone_alloc_at(z, flags, 0, counted);
}
/**
 * The same by way of this CPU's cache, where an item is had for a tenth: it leaves the cache and
 * comes into the hand in one private section.  Inside no section with a lock.
 */
export function zone_take_hand(z: zone_t, flags: number): number {
  const c = my_cache(z);
  const hooks = zone.hooks[z];
  if ((hooks & (ZH_CTOR | ZH_NOCACHE | ZH_GOING)) !== 0) return zone_alloc_hand(z, flags);
  if (bucket.cnt[cache.cur[c]] === 0 && !cache_refill_slow(z, flags)) {
    return zone_alloc_hand(z, flags);
  }
  const b = cache.cur[c];
  const n = bucket.cnt[b] - 1;
  const item = bucket.item[((b + n) | 0) as bucket_t];
  undo_begin_private();
  save(bucket.cnt, b);
  save(cache.allocs, c);
  save(cache.allocs_high, c);
  save(pcpu.in_hand_items, thr.pc);
  bucket.cnt[b] = n;
  cache_count(c);
  item_in_hand(item);
  undo_end();
  if (hooks & ZH_DEBUG) uma_dbg_alloc(z, item);
  return item;
}
/** Gives the item on top of the hand back in the same way. */
export function zone_give_hand(z: zone_t, item: number): void {
  const hooks = zone.hooks[z];
  const c = my_cache(z);
  const full = bucket.cnt[cache.cur[c]] >= bucket.entries[cache.cur[c]];
  const past = (hooks & (ZH_DTOR | ZH_FULL | ZH_NOCACHE | ZH_GOING)) !== 0;
  if (past || (full && !cache_make_room(z))) return zone_free_at(z, item, 0);
  if (hooks & ZH_DEBUG) uma_dbg_give(z, item);
  const b = cache.cur[c];
  const n = bucket.cnt[b];
  undo_begin_private();
  save(bucket.cnt, b);
  save(pcpu.in_hand_items, thr.pc);
  bucket.item[((b + n) | 0) as bucket_t] = item;
  bucket.cnt[b] = n + 1;
  item_settle();
  undo_end();
}
/** The item on top of the hand gets its place in the word `w`, in one step. */
export function zone_place(z: zone_t, w: number): void {
  zone_lock(z);
  undo_begin(uma_keg.lock, zone.keg[z]);
  save_word(w);
  save(pcpu.in_hand_items, thr.pc);
  mem.I32[w] = hand_item();
  item_settle();
  undo_end();
  zone_unlock(z);
}
/** Gives an item back to its slab, and clears the word that led to it in the same step. */
export function zone_free_at(z: zone_t, item: number, anchor: number, counted?: Tally): void {
  if (zone.hooks[z] & ZH_DEBUG) uma_dbg_give(z, item);
  zone_return_item(z, item, { cache: my_cache(z), anchor, counted });
}

// --- slow free -------------------------------------------------------------------------------

/** cur is full: rotate, hand a bucket to the zone, or give the single item to its slab. */
export function uma_zfree_slow(z: zone_t, item: number): void {
  const outer = kernel_enter();
  try {
    zfree_slow(z, item);
  } catch (e) {
    kernel_threw(e, outer, 'uma_zfree');
  }
  kernel_leave(outer);
}
function zfree_slow(z: zone_t, item: number): void {
  poll();
  poll_uma();
  if (zone.hooks[z] & (ZH_NOCACHE | ZH_FULL) || !cache_make_room(z)) {
    zone_free_item(z, item);
    return;
  }
  bucket_put(cache.cur[my_cache(z)], item);
}
/** Brings a bucket with room under the fast path. False: there is none to be had. */
export function cache_make_room(z: zone_t): boolean {
  const c = my_cache(z);
  const spare = cache.spare[c];
  if (spare !== NULL && bucket.cnt[spare] < bucket.entries[spare]) {
    if (bucket.cnt[spare] === 0) cache_split(c, cache.cur[c], spare); // it keeps the newer half
    cache_rotate(z, c);
    return true;
  }
  if (uma_root.up[uma()] === 0 || zone.bucket_max[z] === 0) return false;
  const ready = zone.empty_buckets[z]; // a hint: looked at again under the lock
  if (ready === NULL || bucket.entries[ready] < zone.count[z]) {
    const fresh = bucket_alloc(zone.count[z], zone.bucket_max[z], M_NOWAIT);
    if (fresh === NULL && ready === NULL) return false;
    cache.hand[c] = fresh;
    if (fresh !== NULL) item_settle();
  }
  const k = zone.keg[z];
  mtx_lock(uma_keg.lock, k);
  const empty = cache.hand[c] !== NULL ? cache.hand[c] : zone.empty_buckets[z];
  if (empty !== NULL) cache_install_empty(z, c, k, empty);
  mtx_unlock(uma_keg.lock, k);
  return empty !== NULL;
}
/** The empty bucket becomes cur, cur becomes spare, spare goes to the zone. The lock is held. */
function cache_install_empty(z: zone_t, c: cache_t, k: keg_t, empty: bucket_t): void {
  const spare = cache.spare[c]; // looked at again: a drainer may have been here
  const old = cache.cur[c];
  bucket_grow(z);
  cache_begin(c);
  undo_begin(uma_keg.lock, k);
  save(cache.hand, c);
  save(cache.spare, c);
  save(cache.cur, c);
  if (cache.hand[c] === NULL) {
    save(zone.empty_buckets, z);
    zone.empty_buckets[z] = bucket.link[empty];
  }
  cache.hand[c] = NULL as bucket_t;
  if (spare !== NULL) {
    save64(cache.returned, c);
    add64(cache.returned, c, bucket.cnt[spare]);
    zone_push(z, spare);
  }
  cache.spare[c] = old === uma_root.null_bucket[uma()] ? (NULL as bucket_t) : old;
  cache_set_cur(z, c, empty);
  undo_end();
  cache_end(c);
}

/** Gives one item straight to its slab, uninitialised for the zone; counted as back. */
export function zone_free_item(z: zone_t, item: number): void {
  zone_fini_item(z, item);
  zone_return_item(z, item, { cache: my_cache(z) });
}
/** The item goes to its slab; whoever waits for the limit is told. */
export function zone_return_item(z: zone_t, item: number, from: Leaves): void {
  const s = vtoslab(item);
  if (s === NULL) panic('uma: Freed item did not belong to zone', item * 4);
  const k = keg_of_slab(z, s);
  mtx_lock(uma_keg.lock, k);
  slab_free_item(k, s, item, from);
  mtx_unlock(uma_keg.lock, k);
  zone_limit_wakeup(z, k);
  // A slab of large items is more than may lie idle.
  if (uma_keg.eager[k] !== 0 && uma_keg.free_slabs[k] !== NULL) keg_drain(k, 0);
}
function keg_of_slab(z: zone_t, s: slab_t): keg_t {
  const k = uma_slab.keg[s];
  if (k === zone.keg[z]) return k;
  if ((zone.flags[z] & UMA_ZFLAG_MULTI) === 0) {
    panic('uma: Freed item did not belong to zone', zone_name(z), `keg ${k * 4}`);
  }
  return k;
}
