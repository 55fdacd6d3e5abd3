/*
 * uma_check: the walker of the zone allocator.
 *
 * On a quiet machine it proves, for every keg:
 *   - each slab is on exactly one list, the one its free count says
 *   - its bits, its free count and the keg's count of free items agree
 *   - its pages lead back to it, and the keg's count of pages is their sum
 * for every zone:
 *   - no item is in two buckets, or in a bucket and free in its slab
 *   - full buckets are not empty, empty ones are, and full_items is their sum
 *   - what is withheld lies at the end of one slab, and nowhere else
 * and over all:
 *   - the pages of slabs in the page array are those of the kegs, and the free page
 *     queues agree with the page array
 *   - the budget counts the pages of slabs and of large blocks, and no others
 *   - every header, bucket, zone and keg that was taken is in its place: none
 *     belongs to nobody
 *
 * Quiet means that no program's thread is at work.  The page daemon may be: the
 * walker holds the lock of the reclaim, so that no slab is between keg and page
 * floor meanwhile.
 */
import { vm_page_cache_check } from '../page/vm_page_cache.ts';
import { cpu_nobody, cpu_slots, pcpu, pcpu_of } from '../machine/cpu.ts';
import { panic } from '../machine/panic.ts';
import { checked_quiet } from '../machine/parts.ts';
import { elem, type Field, get64, NULL } from '../machine/struct.ts';
import {
  type bucket_t,
  type keg_t,
  SLAB_FREE,
  SLAB_FULL,
  SLAB_PART,
  type slab_t,
  uma_bucket,
  uma_cache,
  uma_keg,
  uma_slab,
  uma_zone,
  ZH_NOCACHE,
  type zone_t,
} from '../h/uma.ts';
import { PK_MALLOC, PK_MASK, PK_SLAB, vm_page } from '../h/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { vm_page_census, vm_page_check, vm_page_free_count } from '../page/vm_page.ts';
import { vm_reserv_check } from '../page/vm_reserv.ts';
import { budget_check } from './uma_budget.ts';
import { cache_buckets } from './uma_cache.ts';
import {
  cache_of,
  uma,
  uma_each_keg,
  uma_each_zone,
  uma_root,
  type uma_root_t,
  zone_lock,
  zone_name,
  zone_unlock,
} from './uma_int.ts';
import { slab_index, slab_item_free, vtoslab } from './uma_keg.ts';
import { cache_counts } from './uma_stats.ts';

const keg = uma_keg;
const slab = uma_slab;
const zone = uma_zone;
const bucket = uma_bucket;

/** What the walk is made for, if not for a test: begins its message. */
let after = '';
function wrong(what: string, ...values: (string | number)[]): never {
  panic(`${after}uma_check: ${what}`, ...values);
}
/**
 * After a death in a section on a keg that was too long for its undo log: walks the keg
 * and the full buckets of its zones, and panics, naming the lock, if they are torn.  The
 * caller has the keg's lock.  Caches of running CPUs are theirs, and left alone.
 */
export function keg_recover(l: number): void {
  const k = (l - keg.lock) as keg_t;
  after = `lock of keg '${zone_name(keg.zones[k])}' at ${l * 4} was held by a thread that died: `;
  keg_check(k);
  const seen = new Set<number>();
  for (let z = keg.zones[k]; z !== NULL; z = zone.link[z]) zone_lists_check(z, seen);
  after = '';
}
/** The same for the lists of kegs and zones. */
export function uma_lists_recover(l: number): void {
  const r = uma();
  after = `lock of zones at ${l * 4} was held by a thread that died: `;
  let zones = 0;
  const seen = new Set<number>();
  uma_each_keg((k) => {
    if (seen.has(k)) wrong('the list of kegs is a ring', k * 4);
    seen.add(k);
    for (let z = keg.zones[k]; z !== NULL; z = zone.link[z]) {
      if (seen.has(z)) wrong('zone on two lists', z * 4);
      seen.add(z);
      if (zone.keg[z] !== k && zone.nkegs[z] <= 1) wrong('zone of another keg', zone_name(z));
      zones++;
    }
  });
  if (zones !== uma_root.nzones[r]) wrong('zones', zones, uma_root.nzones[r]);
  after = '';
}

/** Walks everything. Panics on the first thing that is wrong. */
export function uma_check(): void {
  const r = uma();
  mtx_lock(uma_root.drain, r);
  mtx_lock(uma_root.lock, r);
  places.clear();
  checked_quiet(true);
  let pages = uma_root.lost_pages[r];
  uma_each_keg((k) => {
    mtx_lock(keg.lock, k);
    pages += keg_check(k);
    mtx_unlock(keg.lock, k);
  });
  const seen = new Set<number>();
  uma_each_zone((z) => {
    zone_lock(z);
    zone_check(z, seen);
    zone_unlock(z);
  });
  own_records_check(r);
  mtx_unlock(uma_root.lock, r);
  vm_page_cache_check();
  checked_quiet(false);
  const census = vm_page_census();
  if (census[PK_SLAB] + census[PK_MALLOC] !== pages) {
    wrong('slab pages', census[PK_SLAB] + census[PK_MALLOC], `in kegs ${pages}`);
  }
  budget_check();
  mtx_unlock(uma_root.drain, r);
  vm_page_check();
  vm_reserv_check();
}

/** Items of each of the allocator's own zones that were found in their places. */
const places = new Map<zone_t, number>();
function placed(z: zone_t): void {
  if (z !== NULL) places.set(z, (places.get(z) ?? 0) + 1);
}
/** Whether what was taken of the allocator's own zones is what was found in its places. */
function own_records_check(r: uma_root_t): void {
  const [zones, kegs] = [uma_root.zone_zone[r], uma_root.zone_keg[r]];
  uma_each_zone((z) => {
    if (z !== zones && z !== kegs) placed(zones);
  });
  uma_each_keg((k) => {
    if (k !== zone.keg[zones] && k !== zone.keg[kegs]) placed(kegs);
  });
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const pc = pcpu_of(cpu);
    for (let i = 0; i < pcpu.in_hand_items[pc]; i++) {
      const s = vtoslab(pcpu.in_hand_item[elem(pc, i)]);
      if (s !== NULL) placed(keg.zones[slab.keg[s]]);
    }
  }
  if (uma_root.lost_pages[r] !== 0) return; // their kegs and headers stay, and no list has them
  uma_each_zone((z) => {
    if ((zone.hooks[z] & ZH_NOCACHE) === 0) return;
    const k = zone.keg[z];
    const taken = (keg.pages[k] / keg.ppera[k]) * keg.ipers[k] - keg.free[k];
    const found = places.get(z) ?? 0;
    if (taken !== found) wrong('items of nobody', zone_name(z), taken, found);
  });
}

function keg_check(k: keg_t): number {
  const name = zone_name(keg.zones[k]);
  let free = 0;
  let pages = 0;
  const walk = (head: Field<keg_t, slab_t>, list: number): void => {
    let prev = NULL as slab_t;
    for (let s = head[k]; s !== NULL; s = slab.next[s]) {
      if (slab.keg[s] !== k) wrong('slab of another keg', name, s * 4);
      if (slab.list[s] !== list) wrong('slab on a wrong list', name, s * 4);
      if (slab.prev[s] !== prev) wrong('slab list is torn', name, s * 4);
      free += slab_check(k, s, list, name);
      placed(keg.slabzone[k]);
      pages += keg.ppera[k];
      prev = s;
    }
  };
  walk(keg.part, SLAB_PART);
  walk(keg.free_slabs, SLAB_FREE);
  walk(keg.full, SLAB_FULL);
  if (free !== keg.free[k]) wrong('free items', name, free, keg.free[k]);
  if (pages !== keg.pages[k]) wrong('pages', name, pages, keg.pages[k]);
  return pages;
}
function slab_check(k: keg_t, s: slab_t, list: number, name: string): number {
  let n = 0;
  for (let i = 0; i < keg.ipers[k]; i++) if (slab_item_free(s, i)) n++;
  if (n !== slab.freecount[s]) wrong('bits and count', name, n, slab.freecount[s]);
  const right = n === 0 ? SLAB_FULL : n === keg.ipers[k] ? SLAB_FREE : SLAB_PART;
  if (right !== list) wrong('list and count', name, n, list);
  for (let m = slab.page[s]; m < slab.page[s] + keg.ppera[k]; m++) {
    const kind = vm_page.info[m] & PK_MASK;
    if (vm_page.owner[m] !== s) wrong('page leads elsewhere', name, m);
    if (kind !== PK_SLAB && kind !== PK_MALLOC) wrong('kind of page', name, m, kind);
  }
  return n;
}

function zone_check(z: zone_t, seen: Set<number>): void {
  const name = zone_name(z);
  for (let cpu = 0; cpu <= cpu_nobody(); cpu++) {
    for (const b of cache_buckets(cache_of(z, cpu), true)) bucket_check(b, name, seen);
  }
  zone_lists_check(z, seen);
}
/** The buckets on the lists of a zone. Its lock is held. */
function zone_lists_check(z: zone_t, seen: Set<number>): void {
  const name = zone_name(z);
  let items = 0;
  for (let b = zone.full_buckets[z]; b !== NULL; b = bucket.link[b]) {
    if (bucket.cnt[b] === 0) wrong('an empty bucket among the full', name);
    if (bucket.cnt[b] > bucket.entries[b]) wrong('a bucket over its edge', name);
    items += bucket.cnt[b];
    bucket_check(b, name, seen);
  }
  if (items !== zone.full_items[z]) wrong('full_items', name, items);
  for (let b = zone.empty_buckets[z]; b !== NULL; b = bucket.link[b]) {
    if (bucket.cnt[b] !== 0) wrong('a full bucket among the empty', name);
    placed(bucket.zone[b]);
  }
}
function bucket_check(b: bucket_t, name: string, seen: Set<number>): void {
  placed(bucket.zone[b]);
  for (let i = 0; i < bucket.cnt[b]; i++) item_check(bucket.item[elem(b, i)], name, seen);
}
function item_check(item: number, name: string, seen: Set<number>): void {
  if (seen.has(item)) wrong('item in two buckets', name, item * 4);
  seen.add(item);
  const s = vtoslab(item);
  if (s === NULL) wrong('a bucket holds no item', name, item * 4);
  if (slab_item_free(s, slab_index(s, item))) {
    wrong('item in a bucket and free in its slab', name, item * 4);
  }
}

/**
 * Items of zone z that one CPU took out of its caches and never counted as
 * given out, less those that cache.lost says are counted: those between a bucket and its
 * caller when the thread died.  The CPU is dead or quiet.
 */
export function uma_cache_lost(z: zone_t, cpu: number): number {
  const c = cache_of(z, cpu);
  const n = cache_counts(z, cpu);
  const all = n.out - (n.allocs - n.frees);
  return all - get64(uma_cache.lost, c);
}

/**
 * Free pages, and those that hold the records of zones and kegs: these are
 * type-stable and stay when a zone is destroyed.
 */
export function uma_free_or_records(): number {
  const r = uma();
  const of = (z: zone_t): number => keg.pages[zone.keg[z]];
  return vm_page_free_count() + of(uma_root.zone_keg[r]) + of(uma_root.zone_zone[r]);
}
