/*
 * uma_int: what the files of the zone allocator share.
 *
 * The root record anchors the list of kegs, the internal zones, and the null
 * bucket: a bucket that is both empty and full, where a cache points that has
 * no bucket yet.  With it the fast paths need no test for a missing bucket:
 * they find no item to take and no room to put one, and go the slow way.
 *
 * Lock order: UMA lock, then a keg.  Two kegs at once only for a zone that has
 * several, in address order (uma_zonelock.ts).
 */
import { thr } from '../machine/cpu.ts';
import { M, machine, ROOT_UMA } from '../machine/header.ts';
import {
  elem,
  get_string,
  i32,
  lock_words,
  type Ptr,
  ptr,
  struct,
  words,
} from '../machine/struct.ts';
import {
  type bucket_t,
  CACHE_SHIFT,
  type cache_t,
  type keg_t,
  UMA_NAME_WORDS,
  uma_keg,
  uma_zone,
  type zone_t,
} from '../h/uma.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';

export const BUCKET_SIZES = [4, 8, 16, 32, 64, 128] as const;
export const BUCKET_MAX = 128;
/** Keg flag: more than one zone takes items from it, or did once. */
export const UMA_ZFLAG_SHARED = 0x01000000;

export type uma_root_t = Ptr<'uma_root'>;
/*
 * Locks: (u) the UMA lock  (c) constant once booted  (a) atomic
 *        (h) beside another: a hint that is read without the lock, too
 */
export const uma_root = struct<uma_root_t>(
  'uma_root',
  16,
)({
  lock: lock_words(4, 'UMA lock', 'the list of kegs and of the zones on them'),
  drain: lock_words(4, 'UMA drain', 'one reclaim at a time'),
  kegs: ptr<keg_t>('uh', 'newest keg'),
  nzones: i32('uh', 'zones on all kegs'),
  null_bucket: ptr<bucket_t>('c', 'no item to take, no room to put one'),
  zone_keg: ptr<zone_t>('c', 'zone of the kegs'),
  zone_zone: ptr<zone_t>('c', 'zone of the zones'),
  slab_zone: ptr<zone_t>('c', 'zone of slab headers that lie off the page'),
  rcnt_zone: ptr<zone_t>('c', 'the same with reference counts'),
  bucket_zone: words('c', 'zones of buckets, by size', BUCKET_SIZES.length),
  going: i32('uh', 'zones that are being destroyed'),
  lost_pages: i32('uh', 'pages of kegs that were destroyed with items in use'),
  limit_pages: i32('b', 'pages that malloc and all kegs may hold, 0: any number'),
  up: i32('c', 'buckets may be used'),
  detect: i32('a', 'MD_*: detectors that look at every block of malloc, 0: none'),
  domain_local: i32('a', 'slabs from the domain of the CPU that asked'),
  domain_remote: i32('a', 'slabs from another'),
});

/** The root record. */
export function uma(): uma_root_t {
  return machine.roots[elem(M, ROOT_UMA)] as uma_root_t;
}
/** Cache of zone z on a CPU. */
export function cache_of(z: zone_t, cpu: number): cache_t {
  return (z + uma_zone.sizeof + (cpu << CACHE_SHIFT)) as number as cache_t;
}
/** Cache of zone z on this CPU. */
export function my_cache(z: zone_t): cache_t {
  return (z + uma_zone.sizeof + (thr.cpu << CACHE_SHIFT)) as number as cache_t;
}
/** The name of a zone. */
export function zone_name(z: zone_t): string {
  return get_string(uma_zone.name, z, UMA_NAME_WORDS);
}
/** Takes the lock of a zone: the lock of its first keg. */
export function zone_lock(z: zone_t): void {
  mtx_lock(uma_keg.lock, uma_zone.keg[z]);
}
export function zone_unlock(z: zone_t): void {
  mtx_unlock(uma_keg.lock, uma_zone.keg[z]);
}
/** Calls `fn` for every zone, newest keg first, zones of a keg in order of creation. */
export function uma_each_zone(fn: (z: zone_t) => void): void {
  const r = uma();
  for (let k = uma_root.kegs[r]; k !== 0; k = uma_keg.link[k]) {
    for (let z = uma_keg.zones[k]; z !== 0; z = uma_zone.link[z]) fn(z);
  }
}
/** Calls `fn` for every keg, newest first. */
export function uma_each_keg(fn: (k: keg_t) => void): void {
  for (let k = uma_root.kegs[uma()]; k !== 0; k = uma_keg.link[k]) fn(k);
}
