/*
 * uma_drain: getting memory back from caches, buckets and slabs.
 *
 * Nobody takes items out of another CPU's cache while that CPU may be using
 * it: its owner works with plain loads and stores.  The drainer asks instead:
 *
 *      running kernel calls   REQ_DRAIN; it hands over at its next slow path
 *      idle in its loop       the same, and a ring at its doorbell
 *      parked                 the drainer claims it and moves the buckets itself
 *      dead                   the reaper does
 *      computing, silent      the request stays; after vm.drain_deadline the
 *                             drainer goes on without it, and counts that; the
 *                             next drainer does not wait for it again (LATE).  One that
 *                             must not sleep only looks some times, and leaves the
 *                             request to be waited for by the next that may
 *
 * A zone that is destroyed meanwhile is going: it ends when the last CPU has
 * handed its cache over, wherever that happens (uma_going.ts).
 *
 * Handing over means: buckets go to the lists of their zones.  From there their
 * items return to the slabs, and slabs that became free to the page floor.
 */
import { vm_page_cache_claim, vm_page_cache_empty } from '../page/vm_page_cache.ts';
import { atomic_and, atomic_cas, atomic_load, atomic_or, cpu_spinwait } from '../machine/atomic.ts';
import { now_ms } from '../machine/clock.ts';
import { count_settle } from '../machine/count.ts';
import { counter_add, counter_u64 } from '../machine/counter.ts';
import {
  CPU_DEAD,
  CPU_FREE,
  CPU_LATE,
  CPU_PARKED,
  CPU_REQ_DRAIN,
  cpu_claim,
  cpu_ring,
  cpu_state_word,
  cpu_unclaim,
  mcache,
  mcache_of,
  pcpu,
  pcpu_of,
  poll,
  thr,
  tid_cpu,
} from '../machine/cpu.ts';
import { cpu_alive, reap_all, reap_pending } from '../machine/death.ts';
import { M, machine } from '../machine/header.ts';
import { host_sleep } from '../machine/host.ts';
import { life } from '../machine/life.ts';
import { opt } from '../machine/opt.ts';
import { add64, elem, field_word, NULL } from '../machine/struct.ts';
import { CTLFLAG_RWTUN, sysctl_get, sysctl_int } from '../machine/sysctl_decl.ts';
import { vector_call } from '../machine/vectors.ts';
import {
  type bucket_t,
  type cache_t,
  UMA_ZFLAG_FULL,
  UMA_ZONE_NOFREE,
  uma_bucket,
  uma_cache,
  uma_keg,
  uma_slab,
  uma_zone,
  ZH_DEBUG,
  ZH_NOCACHE,
  type zone_t,
} from '../h/uma.ts';
import { mtx_lock, mtx_owned, mtx_timedlock, mtx_trylock, mtx_unlock } from '../sync/kern_mutex.ts';
import { wakeup } from '../sync/subr_sleepqueue.ts';
import { save, save64, undo_begin, undo_commit, undo_end } from '../sync/undo.ts';
import { vm_page_free_count, vm_page_free_settled } from '../page/vm_page.ts';
import { bucket_free, is_bucket_zone } from './uma_bucket.ts';
import {
  cache_begin,
  cache_buckets,
  cache_end,
  cache_settle_split,
  zone_pop_full,
  zone_push,
} from './uma_cache.ts';
import { uma_dbg_give } from './uma_dbg.ts';
import { zone_return_item } from './uma_core.ts';
import { going_each, uma_going_finish } from './uma_going.ts';
import { cache_of, uma, uma_each_keg, uma_each_zone, uma_root } from './uma_int.ts';
import { hand_item, item_in_hand, keg_drain, vtoslab } from './uma_keg.ts';

const zone = uma_zone;
const cache = uma_cache;
const bucket = uma_bucket;

const v_late = counter_u64('vm.drain_late', 'CPUs that did not answer a drain in time');
const v_sleeps = counter_u64('vm.drain_sleeps', 'Naps while waiting for a drain to be answered');
const v_drains = counter_u64('vm.drains', 'Caches of CPUs handed over on request');
const v_reclaims = counter_u64('vm.reclaims', 'Times memory was reclaimed from all zones');
export const drain_deadline = sysctl_int('vm.drain_deadline', {
  value: 50,
  min: 0,
  max: 10000,
  unit: 'ms',
  flags: CTLFLAG_RWTUN,
  help: 'How long a drain waits for CPUs that compute without calling the kernel',
});
const SPIN_ROUNDS = 20;
/** How often a request that must not sleep looks whether others have answered. */
const LOOKS = 500;
const SLICE_MS = 0.05;
/** How long a request waits for another CPU's reclaim before it looks for itself, ms. */
const RECLAIM_WAIT_MS = 100;
/** The seeded scheduler counts rounds, not time. */
const SIM_ROUNDS = 100;

// --- one cache ---------------------------------------------------------------------------

/**
 * Moves the buckets of zone z's cache on a CPU to the zone's lists.  The CPU is
 * this one, or it is claimed, or `dead`: then those at work too.  The zone lock
 * is held.  Returns how many items moved.
 */
function cache_hand_over(z: zone_t, cpu: number, dead: boolean): number {
  const c = cache_of(z, cpu);
  const k = zone.keg[z];
  const nothing = uma_root.null_bucket[uma()];
  if (dead) cache_settle_split(c);
  const found = cache_buckets(c, dead);
  if (found.length === 0) return 0;
  let items = 0;
  cache_begin(c);
  undo_begin(uma_keg.lock, k);
  for (const b of found) {
    // A bucket that is only being filled or drained never counted as come in.
    const counted = cache.cur[c] === b || cache.spare[c] === b || cache.hand[c] === b;
    items += bucket.cnt[b];
    cache_forget(c, b, nothing);
    save64(cache.returned, c);
    if (counted) add64(cache.returned, c, bucket.cnt[b]);
    zone_push(z, b);
    undo_commit();
  }
  undo_end();
  cache_end(c);
  if (zone.mclass[z] !== 0) {
    const at = elem(mcache_of(cpu), zone.mclass[z] - 1);
    mcache.bucket[at] = nothing;
    mcache.counted[at] = nothing;
  }
  return items;
}
/** Clears every anchor of bucket b in the cache. */
function cache_forget(c: cache_t, b: bucket_t, nothing: bucket_t): void {
  if (cache.cur[c] === b) {
    save(cache.cur, c);
    cache.cur[c] = nothing;
  }
  for (const f of [cache.spare, cache.hand, cache.fill, cache.drain]) {
    if (f[c] !== b) continue;
    save(f, c);
    f[c] = NULL as bucket_t;
  }
}
/** Nothing to hand over; also in a record that is being made and was met on a stale list. */
function cache_bare(z: zone_t, cpu: number): boolean {
  const c = cache_of(z, cpu);
  const cur = cache.cur[c];
  return (cur === uma_root.null_bucket[uma()] || cur === NULL) && cache.spare[c] === NULL;
}
/** Whether a CPU has no bucket of zone z, not even one at work. */
export function cache_empty(z: zone_t, cpu: number): boolean {
  const c = cache_of(z, cpu);
  const at_work = cache.hand[c] | cache.fill[c] | cache.drain[c];
  return at_work === NULL && cache_bare(z, cpu);
}
/** Hands over this CPU's cache of zone z; returns how many items. No lock is held. */
export function cache_own(z: zone_t): number {
  mtx_lock(uma_keg.lock, zone.keg[z]);
  const items = cache_hand_over(z, thr.cpu, false);
  mtx_unlock(uma_keg.lock, zone.keg[z]);
  return items;
}
/** Hands over every cache of this CPU. No lock is held. With `told` those who wait are woken. */
export function uma_hand_over(told = false): void {
  if (uma() === 0) return;
  vm_page_cache_empty();
  let moved = false;
  uma_each_zone((z) => {
    if (zone.hooks[z] & ZH_NOCACHE || cache_bare(z, thr.cpu)) return;
    if (cache_own(z) === 0) return;
    moved = true;
    if (told && uma_keg.flags[zone.keg[z]] & UMA_ZFLAG_FULL) wakeup(zone.keg[z]);
  });
  if (told && moved) vm_page_free_settled();
}

/**
 * Serves a drain request of another CPU.  Stands at the entry of UMA's slow
 * paths, where no UMA lock is held, and in the event loop.
 */
export function poll_uma(): void {
  if ((atomic_load(cpu_state_word(thr.cpu)) & CPU_REQ_DRAIN) === 0) return;
  reap_pending();
  serve_drain();
  uma_going_finish(); // perhaps this cache was the last that a going zone was waiting for
}
/** The same where the lock of the reclaim is held: nobody is reaped, because that takes locks. */
function serve_drain(): void {
  const w = cpu_state_word(thr.cpu);
  if ((atomic_load(w) & CPU_REQ_DRAIN) === 0) return;
  uma_hand_over(true); // who asked may have gone to sleep by now
  counter_add(v_drains, 1);
  atomic_and(w, ~(CPU_REQ_DRAIN | CPU_LATE));
}
/** The caches of a thread that leaves go to the others. */
export function uma_leave(): void {
  uma_hand_over(true);
  uma_going_finish();
}

// --- the caches of others -----------------------------------------------------------------

/** Moves the buckets of zone z from a parked CPU's cache. False: it is not parked (any more). */
export function cache_claim(z: zone_t, cpu: number): boolean {
  mtx_lock(uma_keg.lock, zone.keg[z]);
  const ok = cpu_claim(cpu, CPU_REQ_DRAIN | CPU_LATE); // innermost: every lock is taken before
  if (ok) {
    cache_hand_over(z, cpu, false);
    cpu_unclaim(cpu);
  }
  mtx_unlock(uma_keg.lock, zone.keg[z]);
  return ok;
}
/** The same for all zones. */
function claim_and_move(cpu: number): boolean {
  let ok = vm_page_cache_claim(cpu);
  uma_each_zone((z) => {
    if (!ok || zone.hooks[z] & ZH_NOCACHE || cache_bare(z, cpu)) return;
    ok = cache_claim(z, cpu);
  });
  return ok;
}

/**
 * Gets the caches of all other CPUs handed over, as far as they answer; those that are
 * silent are waited for only with `wait`.  True: a CPU that does not answer is dead; its
 * caches come with its reaping, which is the caller's to do once it holds no lock.
 */
export function uma_drain_others(wait: boolean): boolean {
  const waiting: number[] = [];
  for (let cpu = 0; cpu < machine.maxcpus[M]; cpu++) {
    if (cpu === thr.cpu) continue;
    const w = cpu_state_word(cpu);
    const v = atomic_load(w);
    if (v & (CPU_FREE | CPU_DEAD)) continue;
    if (v & CPU_PARKED && claim_and_move(cpu)) continue;
    const old = atomic_or(w, CPU_REQ_DRAIN);
    if ((old & (wait ? CPU_LATE : CPU_REQ_DRAIN)) === 0) waiting.push(cpu);
  }
  return wait ? drain_wait(waiting) : drain_look(waiting);
}
/** Looks a bounded number of times who has answered, without a sleep. */
function drain_look(asked: number[]): boolean {
  let left = asked;
  for (let round = 0; left.length > 0 && round < looks(); round++) {
    poll();
    serve_drain(); // two CPUs may ask each other
    cpu_spinwait();
    left = left.filter((cpu) => !drain_done(cpu));
  }
  for (const cpu of left) cpu_ring(cpu); // what it gives back later serves the next request
  return left.some((cpu) => !cpu_alive(cpu));
}
function looks(): number {
  return opt.SIM ? SPIN_ROUNDS : LOOKS;
}
function drain_wait(waiting: number[]): boolean {
  const until = now_ms() + sysctl_get(drain_deadline);
  let left = waiting;
  for (let round = 0; left.length > 0; round++) {
    poll();
    serve_drain(); // two CPUs may wait for each other
    left = left.filter((cpu) => !drain_done(cpu));
    if (round >= SPIN_ROUNDS) {
      for (const cpu of left) cpu_ring(cpu);
      counter_add(v_sleeps, 1);
      if (!opt.SIM) host_sleep(SLICE_MS);
    }
    if (now_ms() > until || (opt.SIM && round > SIM_ROUNDS)) {
      // The time may be over before the first ring; and nobody rings a CPU that is LATE again.
      for (const cpu of left) cpu_ring(cpu);
      const alive = left.filter((cpu) => cpu_alive(cpu));
      const late = alive.filter((cpu) => drain_late(cpu)).length;
      if (late > 0) counter_add(v_late, late);
      return alive.length < left.length;
    }
  }
  return false;
}
/** Notes that a CPU was waited for in vain. False: it answers just now. */
function drain_late(cpu: number): boolean {
  const w = cpu_state_word(cpu);
  for (;;) {
    const v = atomic_load(w);
    if ((v & CPU_REQ_DRAIN) === 0) return false;
    if (atomic_cas(w, v, v | CPU_LATE) === v) return true;
  }
}
function drain_done(cpu: number): boolean {
  const w = cpu_state_word(cpu);
  const v = atomic_load(w);
  if ((v & CPU_REQ_DRAIN) === 0 || v & (CPU_FREE | CPU_DEAD)) return true;
  if ((v & CPU_PARKED) === 0) return false;
  if (claim_and_move(cpu)) return true;
  atomic_or(w, CPU_REQ_DRAIN); // it came back midway: what was claimed had counted as an answer
  return false;
}

// --- zones ----------------------------------------------------------------------------------

/** Returns the items of the zone's full buckets to their slabs, and frees all its buckets. */
export function zone_drain(z: zone_t): void {
  const k = zone.keg[z];
  // A hint, looked at again under the lock: a fruitless round must be cheap.
  while (zone.full_buckets[z] !== NULL || zone.empty_buckets[z] !== NULL) {
    mtx_lock(uma_keg.lock, k);
    let b = zone.full_buckets[z];
    if (b !== NULL) {
      undo_begin(uma_keg.lock, k);
      b = zone_pop_full(z);
      save(cache.drain, cache_of(z, thr.cpu));
      cache.drain[cache_of(z, thr.cpu)] = b; // anchored while its items go home
      undo_end();
    } else {
      b = zone.empty_buckets[z];
      if (b !== NULL) {
        undo_begin(uma_keg.lock, k);
        save(zone.empty_buckets, z);
        save(pcpu.in_hand_items, thr.pc);
        zone.empty_buckets[z] = bucket.link[b];
        item_in_hand(b);
        undo_end();
      }
    }
    mtx_unlock(uma_keg.lock, k);
    if (b === NULL) return;
    if (hand_item() !== b) {
      bucket_drain(z, b);
      item_in_hand(b);
      cache.drain[cache_of(z, thr.cpu)] = NULL as bucket_t;
    }
    bucket_free(b);
  }
}
function bucket_drain(z: zone_t, b: bucket_t): void {
  const zfini = zone.zfini[z];
  const c = cache_of(z, thr.cpu);
  while (bucket.cnt[b] > 0) {
    const n = bucket.cnt[b] - 1;
    const item = bucket.item[elem(b, n)];
    if (zfini !== 0) {
      cache.drain_item[c] = item;
      vector_call<(i: number, s: number) => void>(zfini)(item, zone.size[z]);
    }
    zone_return_item(z, item, { bucket: b });
    cache.drain_item[c] = 0;
  }
}

/**
 * Gets back what no program holds: caches, buckets, free slabs and, with `cached`, pages that
 * objects can spare.  Returns the pages that became free.  No lock is held.  With `wait` it waits a
 * while for CPUs that do not answer, and for another CPU's reclaim; without, for nobody.
 */
export function uma_reclaim(wait = true, cached = true): number {
  if (mtx_owned(uma_root.drain, uma())) return 0; // this CPU itself, in a fini that allocates
  const held = life.unhold(cached); // before the drain lock: it takes locks that come before it
  return held + reclaim(wait, true);
}
/** Somebody else is at it: what it gets back serves this CPU as well. True: it is over. */
function reclaim_of_others(wait: boolean): boolean {
  const r = uma();
  // Waiting, this CPU is parked, so that its own caches can be claimed.
  let over = wait && mtx_timedlock(uma_root.drain, r, RECLAIM_WAIT_MS);
  for (let round = 0; !wait && !over && round < looks(); round++) {
    poll();
    serve_drain(); // it waits for this CPU, perhaps
    cpu_spinwait();
    over = mtx_trylock(uma_root.drain, r);
  }
  if (over) mtx_unlock(uma_root.drain, r);
  return over;
}
function reclaim(wait: boolean, others: boolean): number {
  const r = uma();
  if (!mtx_trylock(uma_root.drain, r)) return reclaim_of_others(wait) || wait ? 1 : 0;
  const before = vm_page_free_count();
  counter_add(v_reclaims, 1);
  uma_hand_over();
  const dead = others && uma_drain_others(wait);
  uma_each_zone((z) => {
    if ((zone.hooks[z] & ZH_NOCACHE) === 0) zone_drain(z);
  });
  const drain = (internal: boolean): void =>
    uma_each_keg((k) => {
      const z = uma_keg.zones[k];
      const is = z !== NULL && (is_bucket_zone(z) || (zone.hooks[z] & ZH_NOCACHE) !== 0);
      if (is === internal && (uma_keg.flags[k] & UMA_ZONE_NOFREE) === 0) keg_drain(k, 0);
    });
  drain(false);
  going_each();
  drain(true); // buckets and slab headers, which the rounds before gave back
  mtx_unlock(uma_root.drain, r);
  const got = vm_page_free_count() - before;
  return dead && reap_all() > 0 ? got + reclaim(wait, false) : got;
}

/**
 * Items that a dead CPU left between zinit and zfini are no items of the zone:
 * they go to their slabs, not to the zone's lists.
 */
function cache_settle_init(z: zone_t, cpu: number): void {
  if (zone.zinit[z] === 0 && zone.zfini[z] === 0) return;
  const k = zone.keg[z];
  const c = cache_of(z, cpu);
  mtx_lock(uma_keg.lock, k); // whatever it had begun there is undone
  mtx_unlock(uma_keg.lock, k);
  const home = (b: bucket_t): void => {
    zone_return_item(z, bucket.item[elem(b, bucket.cnt[b] - 1)], { bucket: b });
  };
  const b = cache.fill[c];
  while (zone.zinit[z] !== 0 && b !== NULL && bucket.cnt[b] > cache.good[c]) home(b);
  const d = cache.drain[c];
  if (d === NULL || bucket.cnt[d] === 0) return;
  if (bucket.item[elem(d, bucket.cnt[d] - 1)] === cache.drain_item[c]) home(d);
}

/**
 * Puts back the items that a dead CPU had in its hand.  A bucket there may have
 * its place in a cache already: the place comes first, and then it leaves the hand.
 */
export function uma_reap_hand(cpu: number): void {
  const pc = pcpu_of(cpu);
  // A reaper may have died while it took one of them back: that is undone.
  uma_each_keg((k) => {
    mtx_lock(uma_keg.lock, k);
    mtx_unlock(uma_keg.lock, k);
  });
  while (pcpu.in_hand_items[pc] > 0) {
    const item = pcpu.in_hand_item[elem(pc, pcpu.in_hand_items[pc] - 1)];
    const s = vtoslab(item);
    // Anything else had been put back, and its slab went with it.
    if (s !== NULL && uma_slab.list[s] !== 0 && !bucket_placed(item as bucket_t, cpu)) {
      const z = uma_keg.zones[uma_slab.keg[s]];
      if (zone.hooks[z] & ZH_DEBUG) uma_dbg_give(z, item);
      zone_return_item(z, item, { cache: cache_of(z, thr.cpu), dead: pc });
    } else pcpu.in_hand_items[pc]--;
  }
}
function bucket_placed(b: bucket_t, cpu: number): boolean {
  let found = false;
  uma_each_zone((z) => {
    if ((zone.hooks[z] & ZH_NOCACHE) === 0 && cache_buckets(cache_of(z, cpu), true).includes(b)) {
      found = true;
    }
  });
  return found;
}
/** The caches of a dead CPU go to their zones. */
export function uma_reap(cpu: number): void {
  if (uma() === 0) return;
  uma_reap_hand(cpu);
  uma_each_zone((z) => {
    const counts = cache_of(z, cpu);
    count_settle(field_word(cache.allocs, counts), field_word(cache.allocs_high, counts));
    if (zone.hooks[z] & ZH_NOCACHE) return;
    cache_settle_init(z, cpu);
    mtx_lock(uma_keg.lock, zone.keg[z]);
    cache_hand_over(z, cpu, true);
    mtx_unlock(uma_keg.lock, zone.keg[z]);
    // It may have died in the middle of an exchange: readers would wait for its end for ever.
    const c = cache_of(z, cpu);
    if (cache.seq[c] & 1) cache_end(c);
  });
  // A reclaim that died with its lock: nobody waits for that lock, so nobody would notice.
  const drain = uma() + uma_root.drain;
  if (tid_cpu(atomic_load(drain)) === cpu) {
    mtx_lock(uma_root.drain, uma());
    mtx_unlock(uma_root.drain, uma());
  }
  uma_going_finish();
}

/** Tells whether any CPU still has a drain request pending: for tests. */
export function uma_drain_pending(): boolean {
  for (let cpu = 0; cpu < machine.maxcpus[M]; cpu++) {
    const v = atomic_load(field_word(pcpu.state, pcpu_of(cpu)));
    if (v & CPU_REQ_DRAIN && (v & CPU_FREE) === 0) return true;
  }
  return false;
}
