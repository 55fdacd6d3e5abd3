/*
 * vm_wire_check: proves all wirings of a quiet machine.
 *
 * Of each map: pages that its entries have wired are so many as it counts; a program's wiring is
 * counted; each record of a thread's is of one that lives, all its range is wired, and each entry
 * counts one wiring for each record and for the program, and perhaps some that are for ever.  It
 * translates no more pages than it maps: RES is at most SIZE.
 *
 * Of each page: it is wired once for every entry that has it wired, whose topmost object has it
 * there, once for every run of a window (vm_window.ts), and not once more.  Loans, and what the
 * kernel's own objects have, are proved elsewhere (vm_loan_check.ts, vm_kern_check.ts).
 */
import { tid_alive } from '../machine/death.ts';
import { panic } from '../machine/panic.ts';
import { checked_quiet } from '../machine/parts.ts';
import { NULL } from '../machine/struct.ts';
import { vm_hold } from '../h/vm_hold.ts';
import {
  MAP_ENTRY_IN_TRANSITION,
  MAP_ENTRY_IS_SUB_MAP,
  MAP_ENTRY_NEEDS_COPY,
  MAP_ENTRY_USER_WIRED,
  VM_MAP_USER,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  vm_map_root,
  type vm_map_t,
} from '../h/vm_map.ts';
import { pmap } from '../h/pmap.ts';
import { vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PG_FICTITIOUS, PK_MASK, PK_OBJECT, vm_page } from '../h/vm_page.ts';
import type { zone_t } from '../h/uma.ts';
import { vm_window_run } from '../h/vm_window.ts';
import { object_page } from '../object/vm_object_page.ts';
import { vm_page_held } from '../page/vm_pageq.ts';
import { phys_root, vm_phys } from '../page/vm_phys.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { zone_present } from '../uma/uma_stats.ts';
import { kern_objects } from './vm_kern_check.ts';
import { map_root } from './vm_map.ts';
import { map_entries } from './vm_map_check.ts';
import { runs_of } from './vm_window_check.ts';

const map = vm_map;
const entry = vm_map_entry;
const hold = vm_hold;
const object = vm_object;
const page = vm_page;

/** How often each page is wired by what is known of. */
type Wired = Map<number, number>;

/** The proof, for these maps. */
export function vm_wire_check(maps: readonly vm_map_t[]): void {
  checked_quiet(true);
  const found: Wired = new Map();
  let holds = 0;
  for (const mp of maps) {
    if (map.kind[mp] !== VM_MAP_USER) continue;
    holds += holds_check(mp);
    let wired = 0;
    for (const e of map_entries(mp)) wired += entry_check(e, found);
    const pm = map.pmap[mp];
    if (pm !== NULL && pmap.resident[pm] > map.size[mp]) {
      panic('vm_wire_check: more is in memory than mapped', pmap.resident[pm], map.size[mp]);
    }
    if (wired !== map.wired[mp]) panic('vm_wire_check: wired pages', map.wired[mp], wired);
    for (const u of runs_of(mp)) {
      const m = vm_window_run.frame[u];
      for (let k = 0; k < vm_window_run.pages[u]; k++) add(found, m + k);
    }
  }
  const used = zone_present(vm_map_root.holds[map_root()] as zone_t).used;
  if (used !== holds) panic('vm_wire_check: records given out', used, holds);
  const ph = phys_root();
  for (let m = vm_phys.low[ph]; m < vm_phys.high[ph]; m++) {
    if ((page.info[m] & PK_MASK) !== PK_OBJECT) continue;
    if (kern_objects(page.owner[m] as vm_object_t) > 0) continue;
    const n = vm_page_held(m);
    const known = found.get(m) ?? 0;
    if (n !== known) panic(`vm_wire_check: page ${m} is wired ${n} times, known are`, known);
  }
  checked_quiet(false);
}
function add(found: Wired, m: number): void {
  found.set(m, (found.get(m) ?? 0) + 1);
}
/** Notes the pages that an entry has wired. So many count. */
function entry_check(e: vm_map_entry_t, found: Wired): number {
  const n = entry.end[e] - entry.start[e];
  const [count, part] = [entry.wired_count[e], entry.wired[e]];
  const moving = (entry.eflags[e] & MAP_ENTRY_IN_TRANSITION) !== 0;
  const user = (entry.eflags[e] & MAP_ENTRY_USER_WIRED) !== 0;
  if (part < 0 || part > n || (part > 0 && (!moving || count > 0))) {
    panic('vm_wire_check: pages wired in a transition', e * 4, part);
  }
  if ((count > 0 || part > 0) && entry.eflags[e] & MAP_ENTRY_NEEDS_COPY) {
    panic('vm_wire_check: a store would find something to copy', e * 4);
  }
  if (user && count === 0) panic('vm_wire_check: a wiring that does not count', e * 4);
  const all = count > 0 ? n : part;
  if (all > 0 && entry.eflags[e] & MAP_ENTRY_IS_SUB_MAP) panic('vm_wire_check: a submap', e * 4);
  for (let k = 0; k < all; k++) {
    const m = topmost(e, k);
    if (m === 0) panic('vm_wire_check: a wired page is not there', entry.start[e] + k);
    if ((page.flags[m] & PG_FICTITIOUS) === 0) add(found, m);
  }
  return count > 0 ? n : 0;
}
/** Page k of an entry, in its topmost object. */
function topmost(e: vm_map_entry_t, k: number): number {
  const o = entry.object[e];
  if (o === NULL) return 0;
  mtx_lock(object.lock, o);
  const m = object_page(o, entry.offset[e] + k);
  mtx_unlock(object.lock, o);
  return m;
}
/** Records of a map. How many. */
function holds_check(mp: vm_map_t): number {
  const times = new Map<vm_map_entry_t, number>();
  let n = 0;
  for (let h = map.holds[mp]; h !== NULL; h = hold.next[h], n++) {
    if (hold.map[h] !== mp) panic('vm_wire_check: a record of another map', h * 4);
    if (hold.to[h] < hold.start[h] || hold.to[h] > hold.end[h]) {
      panic('vm_wire_check: how far a record came', h * 4, hold.to[h]);
    }
    if (tid_alive(hold.tid[h]) && hold.to[h] !== hold.end[h]) {
      panic('vm_wire_check: a record that is half done', h * 4, hold.to[h]);
    }
    for (const e of map_entries(mp)) {
      const [start, end] = [entry.start[e], entry.end[e]];
      if (end <= hold.start[h] || start >= hold.to[h]) continue;
      if (start < hold.start[h] || end > hold.to[h]) {
        panic('vm_wire_check: an entry lies across the edge of a record', h * 4, e * 4);
      }
      times.set(e, (times.get(e) ?? 0) + 1);
    }
  }
  for (const [e, k] of times) {
    const user = entry.eflags[e] & MAP_ENTRY_USER_WIRED ? 1 : 0;
    if (entry.wired_count[e] < k + user) panic('vm_wire_check: count', entry.wired_count[e], k);
  }
  return n;
}
