/*
 * uma_fetch: items from the slabs of a zone's kegs, waiting where allowed.
 *
 *      slabs of the keg -> a new slab within the limit -> another keg
 *        -> nothing: reclaim what others hold idle, try again
 *        -> M_WAITOK: sleep for the limit ("keglimit") or for pages ("vmwait")
 *
 * A zone at its limit is FULL: frees then go past the caches, so that a
 * sleeper sees them.  A request that can never be met fails at once instead of
 * sleeping for ever: nobody else is attached, or the limit is below one slab.
 */
import { atomic_and, atomic_or } from '../machine/atomic.ts';
import { cpus_attached } from '../machine/death.ts';
import { life } from '../machine/life.ts';
import { thr } from '../machine/cpu.ts';
import { M, machine } from '../machine/header.ts';
import { opt } from '../machine/opt.ts';
import { add64, elem, field_word, NULL } from '../machine/struct.ts';
import { vector_call } from '../machine/vectors.ts';
import {
  M_DRAIN,
  M_NORECLAIM,
  M_NOVM,
  M_NOWAIT,
  M_USE_RESERVE,
  M_WAITOK,
} from '../h/malloc_flags.ts';
import {
  type bucket_t,
  type keg_t,
  UMA_ZFLAG_FULL,
  UMA_ZFLAG_INTERNAL,
  UMA_ZFLAG_MULTI,
  uma_bucket,
  uma_cache,
  uma_keg,
  uma_zone,
  ZH_FULL,
  type zone_t,
} from '../h/uma.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { msleep, wakeup } from '../sync/subr_sleepqueue.ts';
import { W_KEGLIMIT, W_ZONELIMIT } from '../machine/wmesg.ts';
import { vm_wait } from '../page/vm_page.ts';
import { zone_return_item } from './uma_core.ts';
import { my_cache } from './uma_int.ts';
import { keg_at_limit, keg_fill, keg_grow, keg_reserve, keg_take, type Takes } from './uma_keg.ts';
import { uma_zone_lock_kegs } from './uma_zonelock.ts';

const zone = uma_zone;
const keg = uma_keg;
const bucket = uma_bucket;
const cache = uma_cache;

/** How long one sleep for memory lasts before the request looks around again, ms. */
const WAIT_SLICE_MS = 250;

function zone_nkegs(z: zone_t): number {
  return zone.nkegs[z];
}
/** The kegs of z in the order to try: the CPU's own domain first, then who served last. */
function keg_at(z: zone_t, i: number): keg_t {
  if (i === 0 && zone.nkegs[z] === 1) return zone.keg[z];
  const n = zone.nkegs[z];
  let first = zone.last_keg[z];
  const local = machine.domains[M] > 1 ? thr.cpu % machine.domains[M] : -1;
  for (let j = 0; j < n && local >= 0; j++) {
    if (keg.domain[zone.kegs[elem(z, j)] as keg_t] === local) first = j;
  }
  return zone.kegs[elem(z, (first + i) % n)] as keg_t;
}

function keg_index(z: zone_t, k: keg_t): number {
  let i = 0;
  while (zone.kegs[elem(z, i)] !== k) i++;
  return i;
}

/**
 * Makes frees go past the caches, and wake who sleeps for the keg: those of zone z,
 * and of every zone on the keg, because what each of them gives back is of use.
 */
function keg_mark_full(z: zone_t, k: keg_t): void {
  keg.flags[k] |= UMA_ZFLAG_FULL;
  zone_mark_full(z);
  for (let at = keg.zones[k]; at !== NULL; at = zone.link[at]) zone_mark_full(at);
}
function zone_mark_full(z: zone_t): void {
  // Atomic: the lock that is held may be another keg's than the zone's first.
  atomic_or(field_word(zone.hooks, z), ZH_FULL);
  atomic_or(field_word(zone.flags, z), UMA_ZFLAG_FULL);
}
function zone_mark_open(z: zone_t): void {
  atomic_and(field_word(zone.flags, z), ~UMA_ZFLAG_FULL);
  atomic_and(field_word(zone.hooks, z), ~ZH_FULL);
}
/**
 * For those who wait in their own way: the next free of the zone goes past the
 * caches and wakes who sleeps for its keg.  `sleeps`: how many sleeps to count.
 */
export function uma_zone_want(z: zone_t, sleeps: number): void {
  const k = zone.keg[z];
  mtx_lock(keg.lock, k);
  keg_mark_full(z, k);
  if (sleeps > 0) add64(zone.sleeps, z, sleeps);
  mtx_unlock(keg.lock, k);
}

type Took = 'took' | 'limit' | 'nomem';
/** Takes what `take` takes from keg k, growing it if need be. Never sleeps. */
function keg_fetch(z: zone_t, k: keg_t, flags: number, take: (k: keg_t) => boolean): Took {
  for (;;) {
    mtx_lock(keg.lock, k);
    const took = take(k);
    const limit = !took && keg_at_limit(k);
    if (limit) keg_mark_full(z, k);
    mtx_unlock(keg.lock, k);
    if (took) return 'took';
    if (limit) return 'limit';
    if (flags & M_NOVM || !keg_grow(k, flags)) return 'nomem';
  }
}

/**
 * Fills bucket b with up to `want` items, zinit done.  Does not sleep for
 * itself: the single item that follows does.  False: the bucket is empty.
 */
export function zone_fetch(z: zone_t, b: bucket_t, want: number, flags: number): boolean {
  const before = bucket.cnt[b];
  const take = (k: keg_t): boolean => {
    keg_fill(k, b, want, flags & ~M_USE_RESERVE);
    return bucket.cnt[b] > before;
  };
  for (let i = 0; i < zone_nkegs(z); i++) {
    const k = keg_at(z, i);
    if (keg_fetch(z, k, flags, take) === 'took') {
      if (zone.nkegs[z] > 1) zone.last_keg[z] = keg_index(z, k);
      return zone.zinit[z] === 0 || zone_init_bucket(z, b, flags);
    }
  }
  return false;
}
/**
 * zinit on each item; those from the first failure on go back to their slabs.
 * It does not sleep: whoever waits for one item is not to wait for a bucketful.
 * `good` tells a reaper how far it came.
 */
function zone_init_bucket(z: zone_t, b: bucket_t, given: number): boolean {
  const flags = (given & ~(M_WAITOK | M_DRAIN)) | M_NOWAIT;
  const c = my_cache(z);
  const zinit = vector_call<(i: number, s: number, f: number) => number>(zone.zinit[z]);
  const n = bucket.cnt[b];
  let good = 0;
  while (good < n && zinit(bucket.item[elem(b, good)], zone.size[z], flags) === 0) {
    cache.good[c] = ++good;
  }
  for (let i = n - 1; i >= good; i--) {
    const item = bucket.item[elem(b, i)];
    zone_return_item(z, item, { bucket: b });
  }
  return good > 0;
}
/**
 * One item, waiting where `flags` allow it; with `to` the word that leads to it
 * changes in the same step.  0: none, and waiting would not help.
 */
export function uma_zone_fetch_wait(z: zone_t, flags: number, to?: Takes): number {
  let item = 0;
  const take = (k: keg_t): boolean => {
    item = keg_take(k, flags, my_cache(z), to);
    return item !== 0;
  };
  let reclaimed = false;
  for (;;) {
    let limited: keg_t = NULL as keg_t;
    for (let i = 0; i < zone_nkegs(z); i++) {
      const k = keg_at(z, i);
      const r = keg_fetch(z, k, flags, take);
      if (r === 'took') {
        if (zone.nkegs[z] > 1) zone.last_keg[z] = keg_index(z, k);
        return item;
      }
      if (r === 'limit') limited = k;
    }
    if (flags & (M_NOVM | M_NORECLAIM) || zone.flags[z] & UMA_ZFLAG_INTERNAL) return 0;
    if (!reclaimed) {
      // Even where no page came free: items of this zone may have left a cache for their slabs.
      reclaimed = true;
      life.reclaim((flags & (M_WAITOK | M_DRAIN)) !== 0);
      continue;
    }
    if ((flags & M_WAITOK) === 0) return 0;
    if (!zone_wait(z, limited, flags)) return 0;
    reclaimed = false;
  }
}

/** Sleeps for the limit of keg k, or for pages. False: waiting can never help. */
function zone_wait(z: zone_t, k: keg_t, flags: number): boolean {
  if (k === NULL) return vm_wait(WAIT_SLICE_MS) === 0 || cpus_attached() > 1 || opt.SIM;
  if (cpus_attached() <= 1 && !opt.SIM) return false;
  if (keg.maxpages[k] > 0 && keg.maxpages[k] < keg.ppera[k]) return false;
  const first = zone.keg[z];
  uma_zone_lock_kegs(k, first);
  add64(zone.sleeps, z, 1);
  if (first !== k) mtx_unlock(keg.lock, first);
  if (keg.free[k] > keg_reserve(k, flags) || !keg_at_limit(k)) {
    mtx_unlock(keg.lock, k); // somebody was faster than this thread could fall asleep
    return true;
  }
  keg.waiters[k]++;
  keg_mark_full(z, k);
  // errno: woken or late, the caller looks again
  msleep(k, keg.lock, k, zone.flags[z] & UMA_ZFLAG_MULTI ? W_ZONELIMIT : W_KEGLIMIT, WAIT_SLICE_MS);
  keg.waiters[k]--;
  mtx_unlock(keg.lock, k);
  return true;
}

/** After an item went back to keg k: the limit may be open again. */
export function zone_limit_wakeup(z: zone_t, k: keg_t): void {
  if ((keg.flags[k] & UMA_ZFLAG_FULL) === 0) return;
  mtx_lock(keg.lock, k);
  if (keg.free[k] > 0 || !keg_at_limit(k)) {
    keg.flags[k] &= ~UMA_ZFLAG_FULL;
    zone_mark_open(z);
    for (let at = keg.zones[k]; at !== NULL; at = zone.link[at]) zone_mark_open(at);
  }
  mtx_unlock(keg.lock, k);
  wakeup(k);
}
