/*
 * uma_going: the end of a zone, in steps that anybody can finish.
 *
 *      living --> GOING --> every cache bare --> slabs given back --> off the list
 *                   |            |                                        |
 *              gives out     asked for, claimed,                 zone and keg in the
 *              nothing       or waited for                       hand, then freed
 *
 * Only its owner may touch a CPU's cache, so a zone cannot end while some CPU
 * that computes in silence has buckets of it.  Nobody waits for that CPU: the zone
 * is marked, stays on the list of kegs, and whoever comes by later goes on:
 * a CPU that hands its caches over, a reclaim, a thread that leaves, the reaper,
 * the page daemon.  What a going zone holds is not lost meanwhile, only late.
 *
 * Each step is one undo section or is repeated by the next to come.  What has
 * left the list is in the hand of the CPU that took it off, so that its reaper
 * frees it.  The lock of the reclaim makes one CPU do it at a time, and keeps
 * reclaims away from a zone that ends.
 *
 * Frees of items that a program still had go past the caches (ZH_FULL), so that
 * a cache that is bare stays so.  A zone of the same name may be made at once;
 * the tools do not show zones that are going.
 */
import { kconsole } from '../machine/kconsole.ts';
import { atomic_load, atomic_or } from '../machine/atomic.ts';
import {
  CPU_DEAD,
  CPU_FREE,
  CPU_PARKED,
  CPU_REQ_DRAIN,
  cpu_ring,
  cpu_slots,
  cpu_state_word,
  pcpu,
  thr,
} from '../machine/cpu.ts';
import { reap_all } from '../machine/death.ts';
import { mem } from '../machine/memory.ts';
import { field_word, NULL } from '../machine/struct.ts';
import { type keg_t, UMA_ZFLAG_GOING, uma_keg, uma_zone, ZH_FULL, ZH_GOING } from '../h/uma.ts';
import type { zone_t } from '../h/uma.ts';
import { mtx_lock, mtx_owned, mtx_timedlock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, save_word, undo_begin, undo_end } from '../sync/undo.ts';
import { zone_free_item } from './uma_core.ts';
import { cache_claim, cache_empty, cache_own, uma_drain_others, zone_drain } from './uma_drain.ts';
import {
  uma,
  uma_each_zone,
  uma_root,
  type uma_root_t,
  zone_lock,
  zone_name,
  zone_unlock,
} from './uma_int.ts';
import { item_in_hand, keg_drain, keg_give_withheld } from './uma_keg.ts';

const zone = uma_zone;
const keg = uma_keg;

/** How long the end of a zone waits for another CPU's reclaim, ms; later others end it. */
const GOING_WAIT_MS = 100;

/** Marks a zone: it gives out nothing more. The word `anchor`, if given, leads to it no longer. */
export function uma_zone_going(z: zone_t, anchor = 0): void {
  const r = uma();
  mtx_lock(uma_root.lock, r);
  zone_lock(z);
  undo_begin(uma_root.lock, r);
  save(uma_root.going, r);
  save(zone.flags, z);
  if (anchor !== 0) {
    save_word(anchor);
    mem.I32[anchor] = 0;
  }
  if ((zone.flags[z] & UMA_ZFLAG_GOING) === 0) uma_root.going[r]++;
  atomic_or(field_word(zone.flags, z), UMA_ZFLAG_GOING);
  undo_end();
  atomic_or(field_word(zone.hooks, z), ZH_GOING | ZH_FULL);
  zone_unlock(z);
  mtx_unlock(uma_root.lock, r);
}

/** Ends the zones that are going, asking the other CPUs for their caches where need be. */
export function uma_going_end(): void {
  if (uma_going_finish(GOING_WAIT_MS)) return;
  if (uma_drain_others(true)) reap_all();
  uma_going_finish(GOING_WAIT_MS);
}
/**
 * Ends those going zones of which no CPU has buckets any more, and asks the CPUs
 * that have.  Waits at most `ms` for another CPU that is at it; for nothing
 * else.  True: none is left.  No lock below the registry's is held.
 */
export function uma_going_finish(ms = 0): boolean {
  const r = uma();
  if (r === 0 || uma_root.going[r] === 0) return true;
  // This CPU itself is at it, in a fini that allocates; or another is, and it will look again.
  if (mtx_owned(uma_root.drain, r) || !mtx_timedlock(uma_root.drain, r, ms)) return false;
  going_each();
  mtx_unlock(uma_root.drain, r);
  return uma_root.going[r] === 0;
}
/** The same for a CPU that holds the lock of the reclaim already. */
export function going_each(): void {
  const r = uma();
  if (uma_root.going[r] === 0) return;
  const all: zone_t[] = [];
  mtx_lock(uma_root.lock, r);
  uma_each_zone((z) => {
    if (zone.flags[z] & UMA_ZFLAG_GOING) all.push(z);
  });
  mtx_unlock(uma_root.lock, r);
  for (const z of all) if (zone_bare(z)) zone_end(z);
}

/**
 * Gets the zone's buckets out of all caches, as far as that needs no waiting.
 * The answer is found under the zone's lock: a CPU that died while it handed over
 * may seem to have nothing until what it had begun is undone.
 */
function zone_bare(z: zone_t): boolean {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    if (cache_empty(z, cpu)) continue;
    if (cpu === thr.cpu) cache_own(z);
    else if (!cache_claim(z, cpu)) going_ask(cpu);
  }
  let bare = true;
  zone_lock(z);
  for (let cpu = 0; cpu < cpu_slots(); cpu++) if (!cache_empty(z, cpu)) bare = false;
  zone_unlock(z);
  return bare;
}
/** A CPU that runs hands over at its next slow path, one that is idle is rung. */
function going_ask(cpu: number): void {
  const w = cpu_state_word(cpu);
  const v = atomic_load(w);
  if (v & (CPU_FREE | CPU_DEAD | CPU_PARKED | CPU_REQ_DRAIN)) return;
  atomic_or(w, CPU_REQ_DRAIN);
  cpu_ring(cpu);
}

/** Ends a zone that is in no cache. */
function zone_end(z: zone_t): void {
  // Whoever marked it may have died before this.
  atomic_or(field_word(zone.hooks, z), ZH_GOING | ZH_FULL);
  zone_drain(z);
  const k = zone.keg[z];
  if (keg.zones[k] === z && zone.link[z] === NULL) {
    zone_lock(z);
    keg.reserve[k] = 0;
    zone_unlock(z);
    keg_give_withheld(k);
    keg_drain(k, 0);
  }
  const left = unpublish(z);
  if (left !== null) kconsole.print(left);
  const r = uma();
  if (pcpu.in_hand_items[thr.pc] > 0 && top() === k) zone_free_item(uma_root.zone_keg[r], k);
  zone_free_item(uma_root.zone_zone[r], z);
}
function top(): number {
  return pcpu.in_hand_item[(thr.pc + pcpu.in_hand_items[thr.pc] - 1) as typeof thr.pc];
}

/**
 * Takes a zone off the list, and its keg if it was the last on it.  Their records
 * come into this CPU's hand in the same step; a keg with items in use stays for
 * ever, because their slabs point at it.  Returns what there is to report.
 */
function unpublish(z: zone_t): string | null {
  const r = uma();
  const k = zone.keg[z];
  let left: string | null = null;
  mtx_lock(uma_root.lock, r);
  undo_begin(uma_root.lock, r);
  save(uma_root.nzones, r);
  save(uma_root.going, r);
  save(pcpu.in_hand_items, thr.pc);
  item_in_hand(z);
  if (keg.zones[k] === z) {
    save(keg.zones, k);
    keg.zones[k] = zone.link[z];
  } else {
    let at = keg.zones[k];
    while (zone.link[at] !== z) at = zone.link[at];
    save(zone.link, at);
    zone.link[at] = zone.link[z];
  }
  if (keg.zones[k] === NULL) {
    unlink_keg(r, k);
    if (keg.pages[k] === 0) item_in_hand(k);
    else {
      save(uma_root.lost_pages, r);
      uma_root.lost_pages[r] += keg.pages[k];
      left = keg_report(z, k);
    }
  }
  uma_root.nzones[r]--;
  uma_root.going[r]--;
  undo_end();
  mtx_unlock(uma_root.lock, r);
  return left;
}
function unlink_keg(r: uma_root_t, k: keg_t): void {
  if (uma_root.kegs[r] === k) {
    save(uma_root.kegs, r);
    uma_root.kegs[r] = keg.link[k];
    return;
  }
  let at = uma_root.kegs[r];
  while (keg.link[at] !== k) at = keg.link[at];
  save(keg.link, at);
  keg.link[at] = keg.link[k];
}
function keg_report(z: zone_t, k: keg_t): string {
  const items = (keg.pages[k] / keg.ppera[k]) * keg.ipers[k] - keg.free[k];
  return (
    `Freed UMA keg (${zone_name(z)}) was not empty (${items} items).  ` +
    `Lost ${keg.pages[k]} pages of memory.`
  );
}
