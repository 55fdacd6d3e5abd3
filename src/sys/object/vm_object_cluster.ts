/*
 * vm_object_cluster: pages of an object that come and go together.
 *
 *      object_cluster_alloc    free -> busy, found      some that follow each other
 *      object_cluster_came     busy -> with contents    on a queue
 *
 * What a pager reads at once are pages that follow each other in the object: each goes the way
 * that vm_object_page.ts tells.  Here the steps of several are taken in one section, and the
 * queues are locked once for all: on its way a page costs little more than what is stored in it.
 * A section has STEP pages, so that it stays short; of pages that lie side by side it has all, as
 * rows of words that are logged as such (save_run).
 *
 * Pages that lie side by side in memory are read in one piece, and a window needs no move: so they
 * come from a run where there is one (of an object with a color, from what is set aside for it:
 * vm_object_reserv.ts), else from anywhere.  Between, they are busy and no index
 * leads to them: a CPU that dies there leaves pages that the reaper frees.
 *
 * Locks: all calls want the object locked, and never sleep.
 */
import { sim_point } from '../machine/atomic.ts';
import { opt as opt_ } from '../machine/opt.ts';
import type { zone_t } from '../h/uma.ts';
import { PAGE_VALID, PK_OBJECT, vm_page } from '../h/vm_page.ts';
import { OBJ_COLORED, vm_object, vm_object_root, type vm_object_t } from '../h/vm_object.ts';
import { RADIX_SLOTS } from '../h/vm_radix.ts';
import { vm_page_count_min } from '../page/vm_page.ts';
import { vm_page_hand_busy, vm_page_idle } from '../page/vm_page_busy.ts';
import { vm_page_get_run } from '../page/vm_page_cache.ts';
import { vm_page_enqueue } from '../page/vm_pageq.ts';
import {
  radix_replace,
  radix_reserve,
  radix_store,
  radix_store_run,
  radix_trim,
} from '../pmap/vm_radix.ts';
import { mtx_assert } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { object_index, object_root } from './vm_object.ts';
import { page_select_cache } from './vm_object_cache.ts';
import { page_flash, place_free } from './vm_object_page.ts';
import { object_frame } from './vm_object_reserv.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const opt = opt_;
const object = vm_object;
const page = vm_page;
const nodes = (): zone_t => vm_object_root.nodes[object_root()] as zone_t;

/** Pages that change in one section. */
const STEP = 4;

/**
 * New pages, busy and found, for page `i` of the object and those right around it that are not in
 * memory: `down` before it and `up` behind it, or fewer.  In order; empty: no memory for page `i`.
 * `whole`: all of them, side by side in memory, or none.
 */
export function object_cluster_alloc(
  o: vm_object_t,
  i: number,
  down: number,
  up: number,
  whole = false,
): number[] {
  if (opt.INVARIANTS) mtx_assert(object.lock, o);
  const first = i - down;
  const there: number[] = [];
  const n = reserve(o, first, down + 1 + up, there);
  if (n < down + 1 + up) {
    trim(o, first, first + n);
    return down + up === 0 || whole ? [] : object_cluster_alloc(o, i, 0, 0);
  }
  const own = (object.flags[o] & OBJ_COLORED) !== 0; // its pages have their places
  const run = n > 1 && !own ? vm_page_get_run(n, 0) : 0;
  if (run === 0 && n > 1 && whole) {
    trim(o, first, first + n);
    return [];
  }
  if (run === 0) return scattered(o, i, first, there);
  for (let k = n - 1; k >= 0; k--) vm_page_hand_busy(PK_OBJECT, o, first + k);
  const ms: number[] = [];
  for (let k = 0; k < n; k++) ms.push(run + k);
  enter(o, first, ms, there, 0);
  return ms;
}
/** Sees to nodes for pages from number `first` on. For how many; `there`: what stands there. */
function reserve(o: vm_object_t, first: number, n: number, there: number[]): number {
  const t = object_index(o);
  for (let at = first; at < first + n; at++) {
    there.push(place_free(o, at, 'vm_page_insert'));
    const same = at > first && at > 1 && at % RADIX_SLOTS !== 0; // the node of the one before
    if (!same && !radix_reserve(t, at, nodes())) return at - first;
  }
  return n;
}
function trim(o: vm_object_t, first: number, end: number): void {
  for (let at = first; at < end; at++) radix_trim(object_index(o), at, nodes());
}
/** Of pages anywhere in memory: page `i` first, then those behind it, then those before. */
function scattered(o: vm_object_t, i: number, first: number, there: readonly number[]): number[] {
  const end = first + there.length;
  let wanted = one(o, i);
  while (wanted === 0 && page_select_cache()) wanted = one(o, i);
  const ms = wanted === 0 ? [] : [wanted];
  let to = i + ms.length;
  for (; to > i && to < end; to++) {
    const m = vm_page_count_min() ? 0 : one(o, to);
    if (m === 0) break;
    ms.push(m);
  }
  let from = i;
  const before: number[] = [];
  for (; to === end && from > first; from--) {
    const m = vm_page_count_min() ? 0 : one(o, from - 1);
    if (m === 0) break;
    before.push(m);
  }
  const all = before.length === 0 ? ms : [...before.reverse(), ...ms];
  enter(o, from, all, there, from - first);
  trim(o, first, from);
  trim(o, to, end);
  return all;
}
/** A page for number `i`, busy, to which the object does not lead. 0: none. */
function one(o: vm_object_t, i: number): number {
  return object_frame(o, i, 0);
}
/** The index leads to pages from number `first` on; what stands there is in `there` from `skip`. */
function enter(
  o: vm_object_t,
  first: number,
  ms: readonly number[],
  there: readonly number[],
  skip: number,
): void {
  for (let k = 0; k < ms.length; ) {
    const at = first + k;
    const most = Math.min(ms.length - k, RADIX_SLOTS - (at % RADIX_SLOTS));
    let n = 1;
    while (n < most && ms[k + n] === ms[k] + n) n++;
    undo_begin(object.lock, o);
    save(object.resident, o);
    if (n < STEP || !radix_store_run(object_index(o), at, n, ms[k])) {
      n = Math.min(ms.length - k, STEP);
      for (let i = k; i < k + n; i++) enter_one(o, first + i, ms[i], there[skip + i]);
    }
    for (let i = k; i < k + n; i++) {
      const was = there[skip + i];
      if (was <= 0) object.resident[o]++;
      if (was < 0) page.slot[ms[i]] = -was; // is forgotten with a page to which no index leads
    }
    undo_end();
    k += n;
  }
}
function enter_one(o: vm_object_t, i: number, m: number, was: number): void {
  if (was === 0) radix_store(object_index(o), i, m);
  else radix_replace(object_index(o), i, m);
}
/**
 * Pages that are busy by this CPU have contents that a store has too, and are busy no more.  They
 * were new, and go on queues: page `used` on the active one, the others on the inactive one.
 *
 * No section: what a page had before is not wanted back.  One that is busy still when its CPU dies
 * is busy no longer, and that is all: it is on a queue, where one without contents is freed.
 */
export function object_cluster_came(o: vm_object_t, ms: readonly number[], used: number): void {
  if (opt.INVARIANTS) mtx_assert(object.lock, o);
  vm_page_enqueue(ms, used);
  for (let k = 0; k < ms.length; k++) {
    const m = ms[k];
    page.state[m] = PAGE_VALID;
    if (opt.SIM) sim_point(m);
    vm_page_idle(m);
    page_flash(m);
  }
}
