/*
 * vm_window_check: proves all windows and runs of a quiet machine.
 *
 * Of each window: it is on the list once; its thread lives; its run is one of its map's, and it
 * shows a part of that.  Of each run: windows are on it, so many as it counts; no other one of the
 * map overlaps it; all its pages are wired, and each is what is mapped there: where the mapping may
 * be written to the topmost object's, else one that is seen through it.  All of it is counted, and
 * no item of the zone is anything else.
 */
import { tid_alive } from '../machine/death.ts';
import { panic } from '../machine/panic.ts';
import { checked_quiet } from '../machine/parts.ts';
import { NULL } from '../machine/struct.ts';
import { vm_map, vm_map_entry, type vm_map_t } from '../h/vm_map.ts';
import { vm_object } from '../h/vm_object.ts';
import type { zone_t } from '../h/uma.ts';
import { VM_PROT_WRITE } from '../h/vm_prot.ts';
import {
  vm_window,
  vm_window_root,
  vm_window_run,
  type vm_window_run_t,
  type vm_window_t,
} from '../h/vm_window.ts';
import { vm_page_wirings } from '../page/vm_pageq.ts';
import { object_page } from '../object/vm_object_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { zone_present } from '../uma/uma_stats.ts';
import { vm_map_lock_read, vm_map_unlock_read } from './vm_map.ts';
import { vm_map_lookup } from './vm_map_tree.ts';
import { window_root } from './vm_window.ts';

const map = vm_map;
const entry = vm_map_entry;
const window = vm_window;
const run = vm_window_run;
const root = vm_window_root;

/** Every window, newest first. */
export function windows_all(): vm_window_t[] {
  const all: vm_window_t[] = [];
  let prev = NULL as vm_window_t;
  for (let w = root.first[window_root()]; w !== NULL; w = window.next[w]) {
    if (window.prev[w] !== prev) panic('vm_window_check: link back', w * 4);
    all.push(w);
    prev = w;
  }
  const count = root.count[window_root()];
  if (all.length !== count) panic('vm_window_check: windows', all.length, count);
  return all;
}
/** The runs of a map, newest first. */
export function runs_of(mp: vm_map_t): vm_window_run_t[] {
  const all: vm_window_run_t[] = [];
  for (let u = map.runs[mp]; u !== NULL; u = run.next[u]) all.push(u);
  return all;
}
/** The proof, for these maps. Returns how many references windows have to each. */
export function vm_window_check(maps: readonly vm_map_t[]): Map<vm_map_t, number> {
  const r = window_root();
  mtx_lock(root.lock, r); // what a dead thread left half done is undone
  mtx_unlock(root.lock, r);
  checked_quiet(true);
  const refs = new Map<vm_map_t, number>();
  const on = new Map<vm_window_run_t, number>();
  for (const w of windows_all()) {
    const [mp, u] = [window.map[w], window.run[w]];
    if (!maps.includes(mp)) panic('vm_window_check: of no map', w * 4, mp * 4);
    if (!tid_alive(window.tid[w])) panic('vm_window_check: of a dead thread', window.tid[w]);
    if (!runs_of(mp).includes(u)) panic('vm_window_check: on no run', w * 4, u * 4);
    const first = window.start[w] - run.start[u];
    const inside = first >= 0 && window.pages[w] > 0 && first + window.pages[w] <= run.pages[u];
    if (!inside) panic('vm_window_check: not inside its run', w * 4, first);
    if (window.frame[w] !== run.frame[u] + first) panic('vm_window_check: frame', w * 4);
    refs.set(mp, (refs.get(mp) ?? 0) + 1);
    on.set(u, (on.get(u) ?? 0) + 1);
  }
  let [runs, pages] = [0, 0];
  for (const mp of maps) {
    for (const u of runs_of(mp)) {
      if (on.get(u) !== run.refs[u]) panic('vm_window_check: windows on a run', run.refs[u]);
      runs++;
      pages += run.pages[u];
    }
    apart_check(mp);
  }
  if (runs !== root.runs[r] || pages !== root.pages[r]) {
    panic('vm_window_check: counts', `${root.runs[r]} runs, ${root.pages[r]} pages`, runs);
  }
  const used = zone_present(root.zone[r] as zone_t).used;
  if (used !== runs + root.count[r]) panic('vm_window_check: items', used, runs);
  const all = maps.flatMap((mp) => runs_of(mp).map((u) => ({ mp, u })));
  checked_quiet(false);
  for (const { mp, u } of all) shown_check(mp, u);
  return refs;
}
/** No two runs of a map have a page in common. */
function apart_check(mp: vm_map_t): void {
  const all = runs_of(mp).sort((a, b) => run.start[a] - run.start[b]);
  for (let i = 1; i < all.length; i++) {
    const end = run.start[all[i - 1]] + run.pages[all[i - 1]];
    if (run.start[all[i]] < end) panic('vm_window_check: runs overlap', run.start[all[i]], end);
  }
}
/** The pages of a run are wired, and are what is mapped there. */
function shown_check(mp: vm_map_t, u: vm_window_run_t): void {
  checked_quiet(true);
  const [start, n, frame, wired] = [run.start[u], run.pages[u], run.frame[u], run.wired[u]];
  checked_quiet(false);
  if (wired !== n) panic('vm_window_check: wired pages', wired, n);
  vm_map_lock_read(mp);
  for (let k = 0; k < n; k++) {
    if (vm_page_wirings(frame + k) === 0) panic('vm_window_check: not wired', frame + k);
    if (shown(mp, start + k) !== frame + k) {
      panic('vm_window_check: another page is mapped', start + k, frame + k);
    }
  }
  vm_map_unlock_read(mp);
}
/** The page of memory behind a page of a map. */
function shown(mp: vm_map_t, vpn: number): number {
  const e = vm_map_lookup(mp, vpn);
  if (e === NULL) panic('vm_window_check: nothing is mapped', vpn);
  let i = vpn - entry.start[e] + entry.offset[e];
  for (let o = entry.object[e]; o !== NULL; ) {
    mtx_lock(vm_object.lock, o);
    const m = object_page(o, i);
    const below = vm_object.backing[o];
    i += vm_object.backing_offset[o];
    mtx_unlock(vm_object.lock, o);
    if (m !== 0 || entry.protection[e] & VM_PROT_WRITE) return m;
    o = below;
  }
  return 0;
}
