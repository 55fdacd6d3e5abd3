/*
 * vm_page_wire: pages of a list are wired, and unwired, in one hold of the lock of the queues.
 *
 *      ms      | 814 | 813 | 812 | 47 | 816 | 817 |         pages, wherever they lie
 *      count   a word of who wires them, which goes up, and down, with each
 *
 * Pages that lie side by side and are alike change as one: what is saved for a death is where they
 * begin and how many they are.  Pages come from a CPU's cache some at a time, the last one first,
 * so a list has runs downwards as well as upwards.
 *
 * The word changes in the section that wires or unwires: whoever finds it after a death, and has
 * taken the lock since (vm_page_counted), knows which pages of the list are wired: the first ones.
 */
import { mem as mem_ } from '../machine/memory.ts';
import { field_word } from '../machine/struct.ts';
import { pageq_root, vm_pageq } from '../h/vm_pageq.ts';
import { PG_FICTITIOUS, vm_page } from '../h/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, save_run, save_word, undo_begin, undo_commit, undo_end } from '../sync/undo.ts';
import {
  RUN as RUN_,
  unwire,
  unwires_alike,
  vm_page_wirings,
  wire_counted,
  wires_alike,
} from './vm_pageq.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const mem = mem_;
const page = vm_page;
const pageq = vm_pageq;
const root = pageq_root;
const RUN = RUN_;

/** Runs of pages side by side whose wirings change in one section. */
const RUNS = 8;
/** A page alone counts as so many: it may have to go on a queue. */
const ONE = 4;
/**
 * Wires pages `from` to before `to` of a list, in that order, and adds them to the word `count`: as
 * vm_page_wire_run, wherever they lie.
 */
export function vm_page_wire_list(ms: Int32Array, from: number, to: number, count: number): void {
  const r = root();
  mtx_lock(pageq.lock, r);
  undo_begin(pageq.lock, r);
  for (let i = from; i < to; undo_commit()) {
    save_word(count);
    save(pageq.wired, r);
    for (let k = 0; k < RUNS && i < to; k++) {
      const n = side_by_side(ms, i, to, 1);
      const first = Math.min(ms[i], ms[i + n - 1]);
      if (n > 1 && wires_alike(first, first + n)) {
        if (vm_page_wirings(first) === 0) pageq.wired[r] += n;
        wired_set(first, n, page.wired[first] + 1);
        mem.I32[count] += n;
        i += n;
      } else {
        wire_counted(ms[i++], count);
        k += ONE - 1;
      }
    }
  }
  undo_end();
  mtx_unlock(pageq.lock, r);
}
/**
 * Ends one wiring of pages `from` to before `to` of a list, from the last one down, each of which
 * the word `count` counts.  0 in the list is a page that is there no more.
 */
export function vm_page_unwire_list(ms: Int32Array, from: number, to: number, count: number): void {
  const r = root();
  mtx_lock(pageq.lock, r);
  undo_begin(pageq.lock, r);
  for (let i = to; i > from; undo_commit()) {
    save_word(count);
    save(pageq.wired, r);
    for (let k = 0; k < RUNS && i > from; k++) {
      let n = side_by_side(ms, i - 1, from - 1, -1);
      const m = ms[i - 1];
      const first = Math.min(m, ms[i - n]);
      if (n > 1 && unwires_alike(first, first + n)) {
        wired_set(first, n, page.wired[first] - 1);
        if (vm_page_wirings(first) === 0) {
          pageq.wired[r] -= n;
          for (let at = first; at < first + n; at++) page.ref[at] = 1;
        }
      } else {
        n = 1;
        k += ONE - 1;
        if (m !== 0 && (page.flags[m] & PG_FICTITIOUS) === 0) unwire(m, true);
      }
      mem.I32[count] -= n;
      i -= n;
    }
  }
  undo_end();
  mtx_unlock(pageq.lock, r);
}
/** Pages that are alike have `value` in their word of wirings. In a section. */
function wired_set(first: number, n: number, value: number): void {
  save_run(field_word(page.wired, first), n);
  for (let m = first; m < first + n; m++) page.wired[m] = value;
}
/**
 * How many pages of a list, from number `i` on in steps of `by` and before `to`, lie side by side,
 * upwards or downwards.  Free pages come from the cache of a CPU downwards, some at a time.
 */
function side_by_side(ms: Int32Array, i: number, to: number, by: 1 | -1): number {
  const first = ms[i];
  const most = Math.min((to - i) * by, RUN);
  if (most === 1) return 1;
  const step = ms[i + by] - first;
  if (step !== 1 && step !== -1) return 1;
  let n = 2;
  while (n < most && ms[i + n * by] === first + n * step) n++;
  return n;
}
/** The value of such a word when no change of a dead thread is left in it. */
export function vm_page_counted(count: number): number {
  const r = root();
  mtx_lock(pageq.lock, r);
  const n = mem.I32[count];
  mtx_unlock(pageq.lock, r);
  return n;
}
