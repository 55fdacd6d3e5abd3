/*
 * vm_rss: a space that may translate so many pages at a time, and no more (RLIMIT_RSS).
 *
 *      page numbers   0 ------------------------------------------------ max
 *                              | used, spared | not used: goes |
 *                              hand ------------------------> hand
 *
 * A fault in such a space makes room first: translations of its own are taken away, a few more than
 * it needs.  A hand goes round the space as that of a clock does.  A page that was used since it
 * was there last is spared once, and counts as more active; of a page that was not the translation
 * goes, and where no other space shows it either it becomes inactive.  So the limit costs a space
 * soft faults at first, and when memory is short its pages are those that are written and freed,
 * before any that others use.
 *
 * What windows and wirings hold stays, and counts: with enough of those a space has more than its
 * limit, and no access fails for that.  Several threads that fault at a time may each add a page.
 *
 * Unlike BSD, where a daemon does it when swapping is allowed and memory short, the space that is
 * over its limit pays at once, and without one.
 *
 * Nothing is kept in a hand, and no page is held from one to the next: whoever dies here leaves a
 * translation more or less.
 */
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { poll } from '../machine/cpu.ts';
import { field_word, NULL } from '../machine/struct.ts';
import { pmap, type pmap_t } from '../h/pmap.ts';
import { VM_MAP_MAX, vm_map, type vm_map_t } from '../h/vm_map.ts';
import { PK_MASK, PK_OBJECT, vm_page } from '../h/vm_page.ts';
import { vm_object, type vm_object_t } from '../h/vm_object.ts';
import { vm_page_activate, vm_page_deactivate, vm_page_wirings } from '../page/vm_pageq.ts';
import { pmap_mapped, pmap_remove_page, pmap_ts_referenced } from '../pmap/pmap.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { vm_map_lock, vm_map_unlock } from './vm_map.ts';

const map = vm_map;
const object = vm_object;
const page = vm_page;

const v_rss = counter_u64(
  'vm.stats.vm.v_rss_removed',
  'Translations that spaces lost because of their resident limit',
);
/** Pages that go at once are this share of the limit, and so many at most. */
const SHARE = 8;
const AHEAD = 16;
/** Translations that are looked at in one hold of the pmap. */
const LOOK = 32;
/** Pages that are looked at, and spared if they were used, beside those that are to go. */
const SPARED = 512;

/** By how many pages `n` more would be beyond the limit of a space; not more than 0: none. */
export function rss_over(mp: vm_map_t, n: number): number {
  const most = map.rss_limit[mp];
  return most === 0 ? 0 : pmap.resident[map.pmap[mp]] + n - most;
}
/** Room for a page more in a space that has a limit. The caller holds no lock. */
export function vm_rss_room(mp: vm_map_t): void {
  if (rss_over(mp, 1) <= 0) return;
  const ahead = Math.min(AHEAD, Math.ceil(map.rss_limit[mp] / SHARE));
  vm_map_deactivate_pages(mp, rss_over(mp, ahead));
}
/** Sets the limit, in pages; 0: none. What is beyond it goes. The caller holds no lock. */
export function vm_rss_limit(mp: vm_map_t, pages: number): void {
  vm_map_lock(mp);
  undo_begin(map.lock, mp);
  save(map.rss_limit, mp);
  map.rss_limit[mp] = Math.min(pages, VM_MAP_MAX);
  undo_end();
  vm_map_unlock(mp);
  vm_map_deactivate_pages(mp, rss_over(mp, 0));
}
/** Takes `n` translations of a space away, fewer where the others are held. */
function vm_map_deactivate_pages(mp: vm_map_t, n: number): void {
  const pm = map.pmap[mp];
  const hand = field_word(map.rss_hand, mp);
  let gone = 0;
  let looks = n + SPARED;
  for (let rounds = 0; gone < n && looks > -SPARED && rounds < 3; ) {
    poll();
    const some = pmap_mapped(pm, atomic_load(hand), LOOK);
    if (some.length === 0) {
      atomic_store(hand, 0);
      rounds++;
    }
    for (const { at, m } of some) {
      if (gone >= n) break;
      atomic_store(hand, at + 1);
      if (deactivate(pm, at, m, looks-- > 0)) gone++;
    }
  }
  counter_add(v_rss, gone);
}
/** Takes page m away from a space. False: it is held, or was used and is to be spared. */
function deactivate(pm: pmap_t, at: number, m: number, spare: boolean): boolean {
  const o = page.owner[m] as vm_object_t; // a hint: records of objects stay what they are
  if ((page.info[m] & PK_MASK) !== PK_OBJECT || o === NULL) return pmap_remove_page(pm, at, m);
  mtx_lock(object.lock, o);
  const its = page.owner[m] === o && page.busy[m] === 0 && vm_page_wirings(m) === 0;
  const used = its && spare && pmap_ts_referenced(m);
  if (used) vm_page_activate(m);
  const gone = its && !used && pmap_remove_page(pm, at, m);
  if (gone && page.map_pmap[m] === NULL) vm_page_deactivate(m);
  mtx_unlock(object.lock, o);
  return gone;
}
