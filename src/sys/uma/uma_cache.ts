/*
 * uma_cache: buckets change hands between a cache and its zone.
 *
 * While a cache's buckets are exchanged its `seq` is odd: a statistics reader
 * on another CPU sees that its sums would not belong together and reads again.
 *
 * The current bucket of a malloc size class stands twice: in the zone's cache,
 * and in the CPU's mcache, where the fast path of malloc finds it with one load
 * less.  cache_set_cur keeps both the same, except while detectors are on (mcache_show); the
 * copy counts for nothing when a dead CPU is settled.
 */
import { atomic_load, atomic_store, sim_point } from '../machine/atomic.ts';
import { cpu_slots, mcache, mcache_of, thr } from '../machine/cpu.ts';
import { hw } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { elem, field_word, NULL } from '../machine/struct.ts';
import {
  type bucket_t,
  type cache_t,
  uma_bucket,
  uma_cache,
  uma_zone,
  type zone_t,
} from '../h/uma.ts';
import { save } from '../sync/undo.ts';
import { uma, uma_root } from './uma_int.ts';

const zone = uma_zone;
const cache = uma_cache;
const bucket = uma_bucket;

/** Marks the start of an exchange for readers: odd, also where one was left unfinished. */
export function cache_begin(c: cache_t): void {
  atomic_store(field_word(cache.seq, c), (cache.seq[c] + 1) | 1);
}
/** Marks its end. */
export function cache_end(c: cache_t): void {
  atomic_store(field_word(cache.seq, c), cache.seq[c] + 1);
}

/** Makes b the bucket that this CPU's fast path uses. */
export function cache_set_cur(z: zone_t, c: cache_t, b: bucket_t): void {
  cache.cur[c] = b;
  const mclass = zone.mclass[z];
  if (mclass !== 0) mcache_show(mclass - 1, b);
}
/**
 * Shows b to the fast path of malloc on this CPU, for a size class; while detectors look at
 * blocks (uma_root.detect) a bucket without items and room instead: every request is slow then.
 * Whoever turns detectors on does so first and then hides the buckets of all CPUs, so that of two
 * stores at the same time the later one hides.  `counted` has b all the same, for requests that
 * are only counted (kmem/kern_malloc_counted.ts).  Where a class has several zones nothing is
 * shown: there is place for one.
 */
export function mcache_show(mclass: number, b: bucket_t): void {
  const at = elem(mcache_of(thr.cpu), mclass);
  const w = field_word(mcache.bucket, at);
  if (opt.MALLOC_DEBUG_MAXZONES > 1) return atomic_store(w, uma_root.null_bucket[uma()]);
  mcache.counted[at] = b;
  atomic_store(w, b);
  if (atomic_load(field_word(uma_root.detect, uma())) !== 0) {
    atomic_store(w, uma_root.null_bucket[uma()]);
  }
}
/** Hides the buckets of all CPUs from the fast path of malloc. `detect` is not 0 already. */
export function mcache_hide(classes: number): void {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    for (let b = 0; b < classes; b++) {
      const w = field_word(mcache.bucket, elem(mcache_of(cpu), b));
      atomic_store(w, uma_root.null_bucket[uma()]);
    }
  }
}

/** Takes the last item of a bucket that has some. */
export function bucket_take(b: bucket_t): number {
  const n = bucket.cnt[b] - 1;
  const item = bucket.item[elem(b, n)];
  if (opt.SIM) sim_point(b);
  bucket.cnt[b] = n;
  return item;
}
/** Puts an item behind the last one of a bucket that has room. */
export function bucket_put(b: bucket_t, item: number): void {
  const n = bucket.cnt[b];
  bucket.item[elem(b, n)] = item;
  if (opt.SIM) sim_point(b);
  bucket.cnt[b] = n + 1;
}
/**
 * Moves the later half of bucket `from`, the items freed last, into the empty
 * bucket `to`; these are the cache's cur and spare.  A program that goes to and
 * fro around the edge of a bucket then has room on both sides.  Until the count
 * of `from` goes down the items in `to` are copies: cache_settle_split.
 */
export function cache_split(c: cache_t, from: bucket_t, to: bucket_t): void {
  const n = bucket.cnt[from];
  const half = Math.min(n >> 1, bucket.entries[to] >> 1);
  if (half === 0) return;
  cache_begin(c);
  cache.split_cnt[c] = n;
  cache.split[c] = from;
  if (opt.SIM) sim_point(c);
  hw.copy(field_word(bucket.item, to), field_word(bucket.item, from) + n - half, half);
  bucket.cnt[to] = half;
  if (opt.SIM) sim_point(c);
  bucket.cnt[from] = n - half;
  if (opt.SIM) sim_point(c);
  cache.split[c] = NULL as bucket_t;
  cache_end(c);
}
/** Ends the split that the dead owner of a cache may have left half done. */
export function cache_settle_split(c: cache_t): void {
  const from = cache.split[c];
  if (from === NULL) return;
  const to = cache.cur[c] === from ? cache.spare[c] : cache.cur[c];
  if (bucket.cnt[from] === cache.split_cnt[c]) bucket.cnt[to] = 0;
  cache.split[c] = NULL as bucket_t;
}

/** Takes a full bucket off the zone's list. The zone lock is held, an undo section open. */
export function zone_pop_full(z: zone_t): bucket_t {
  const b = zone.full_buckets[z];
  save(zone.full_buckets, z);
  save(zone.full_items, z);
  zone.full_buckets[z] = bucket.link[b];
  zone.full_items[z] -= bucket.cnt[b];
  return b;
}
/** Puts a bucket on the zone's list of full or of empty ones, by what is in it. */
export function zone_push(z: zone_t, b: bucket_t): void {
  save(bucket.link, b);
  if (bucket.cnt[b] > 0) {
    save(zone.full_buckets, z);
    save(zone.full_items, z);
    bucket.link[b] = zone.full_buckets[z];
    zone.full_buckets[z] = b;
    zone.full_items[z] += bucket.cnt[b];
  } else {
    save(zone.empty_buckets, z);
    bucket.link[b] = zone.empty_buckets[z];
    zone.empty_buckets[z] = b;
  }
}
/**
 * The buckets anchored in a cache, each once: cur and spare, and with `all`
 * those at work, which only the CPU itself and its reaper may touch.
 */
export function cache_buckets(c: cache_t, all: boolean): bucket_t[] {
  const found: bucket_t[] = [];
  const anchors = [cache.cur[c], cache.spare[c]];
  if (all) anchors.push(cache.hand[c], cache.fill[c], cache.drain[c]);
  for (const b of anchors) {
    if (b !== NULL && b !== uma_root.null_bucket[uma()] && !found.includes(b)) found.push(b);
  }
  return found;
}
