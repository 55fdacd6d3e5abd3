/*
 * kern_stack_sample: of some requests it is noted who made them.
 *
 *      root.table    first[page % 1024] ──> sample ──> sample        in use, and who asked
 *      stack         total_bytes, total_objects                      of all time
 *
 * A stack costs as much as a thousand allocations, so one request in so many *bytes* is noted: as
 * if marks lay on the bytes that a program asks for, at random, vm.stack.interval apart on average,
 * and a request with a mark on it is noted.  A byte is as likely to be marked wherever it is asked
 * for, so large requests are found early and many small ones as surely.  Each CPU counts down the
 * bytes to the next mark (pcpu.sample_left), by plain stores of its own.
 *
 * What a sample stands for.  A request of s bytes has a mark with probability p = 1 - exp(-s /
 * interval), so one that was noted stands for 1 / p requests and s / p bytes.  With an interval of
 * 1 every request is noted and stands for itself.  tcmalloc and V8 count in the same way.
 *
 * A block that is noted lies on a page with PK_MARK_NOTE, so that its free comes by here; the mark
 * goes with the last sample of its page.  A guarded block lies beyond the memory, where there is no
 * page to mark, and its free always comes by here.  Items of zones come by here while ZH_NOTE is
 * set.  Turned off, all samples are forgotten.  realloc that leaves a block where it is leaves its
 * sample, too.
 *
 * Deaths.  A block is noted after it was taken, and its sample is removed before it is freed: who
 * dies in between leaves a block that is not noted, or a sample whose block is lost, too.  A sample
 * on its way is led to by `fresh` or `gone` (kern_stack_lists.ts).
 *
 * A thread with the core alone frees blocks and removes no samples: these stay until the address
 * is noted again.
 *
 * Read next: kern_stackprof.ts, what the samples say.
 */
import { atomic_and, atomic_or, atomic_store } from '../machine/atomic.ts';
import { now_ms } from '../machine/clock.ts';
import { counter_add } from '../machine/counter.ts';
import { cpu_slots, pcpu, pcpu_of, thr } from '../machine/cpu.ts';
import { M, machine } from '../machine/header.ts';
import { machine_random } from '../machine/machdep.ts';
import { word_page } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { add64, field_word, get64, NULL, set64 } from '../machine/struct.ts';
import { sysctl_get } from '../machine/sysctl_decl.ts';
import { MD_STACK } from '../h/malloc.ts';
import {
  sample_table,
  SK_TYPE,
  SR_SAMPLE,
  STACK_MAGIC,
  stack,
  stack_root,
  type stack_root_t,
  stack_sample,
  type stack_sample_t,
  type stack_t,
} from '../h/stack.ts';
import { PK_MARK_NOTE, vm_page } from '../h/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save64_two } from '../sync/undo.ts';
import { uma_notes } from '../uma/uma_zone.ts';
import { detect_set } from './kern_detect.ts';
import { stack_fresh } from './kern_stack.ts';
import {
  type ItemLists,
  list_at,
  list_find,
  list_is_empty,
  list_put,
  list_take,
  list_walk,
} from './kern_stack_lists.ts';
import { stack_anchor, stack_interval, v_sample_lost } from './kern_stack_vars.ts';

const root = stack_root;
const sample = stack_sample;

// --- when ---------------------------------------------------------------------------------------

/** Most bytes to the next mark: a word's. */
const LEFT_MAX = 2 ** 31 - 1;
/** Bytes to the next mark. */
function draw(): number {
  const interval = sysctl_get(stack_interval);
  if (interval <= 1) return 1;
  const u = (machine_random() + 1) / 2 ** 32; // above 0, to 1
  return Math.min(LEFT_MAX, Math.max(1, Math.ceil(-Math.log(u) * interval)));
}
/** Counts a request of this CPU. True: it is to be noted. */
export function sample_due(size: number): boolean {
  const left = (pcpu.sample_left[thr.pc] || draw()) - Math.max(size, 1);
  pcpu.sample_left[thr.pc] = left > 0 ? left : draw();
  return left <= 0;
}
/** The next mark is drawn anew on each CPU: the interval changes. */
export function sample_redraw(): void {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    atomic_store(field_word(pcpu.sample_left, pcpu_of(cpu)), 0);
  }
}
/** How many requests one of `size` bytes stands for that was noted. */
export function sample_stands_for(size: number, interval: number): number {
  return interval <= 1 ? 1 : 1 / -Math.expm1(-Math.max(size, 1) / interval);
}
/** Begins to note requests, or ends that and forgets all. */
export function sample_switch(on: boolean): void {
  const r = stack_anchor();
  atomic_store(field_word(root.sampling, r), on ? 1 : 0);
  if (on) sample_redraw();
  detect_set(MD_STACK, on);
  uma_notes();
  while (!on && forget_some(r));
}

// --- noting -------------------------------------------------------------------------------------

const lists: ItemLists<stack_sample_t> = {
  sort: SR_SAMPLE,
  table: () => root.table,
  gone: () => root.gone,
  count: () => root.samples,
  next: () => sample.next,
  item: () => sample.item,
};
/**
 * Notes that the block or item that begins at word `item` is `owner`'s, and who asked for it.  It
 * is the caller's, and nobody else has it yet.
 */
export function sample_add(
  item: number,
  size: number,
  kind: number,
  owner: number,
  id: number,
): void {
  const r = stack_anchor();
  mtx_lock(root.lock, r);
  if (root.sampling[r] !== 0) {
    if (item < ITEM_END) take_off(r, item); // of one whose free nobody saw
    const place = item < ITEM_END ? list_find(lists, r, item) : null;
    const p = place === null ? NULL : (stack_fresh(r, SR_SAMPLE) as stack_sample_t);
    if (place === null || p === NULL) counter_add(v_sample_lost, 1);
    else {
      sample.item[p] = item;
      sample.kind[p] = kind;
      sample.owner[p] = owner;
      sample.stack[p] = id;
      sample.interval[p] = sysctl_get(stack_interval);
      set64(sample.size, p, size);
      set64(sample.time, p, now_ms());
      const m = page_to_mark(item, kind);
      if (m !== 0) atomic_or(field_word(vm_page.info, 0) + m, PK_MARK_NOTE);
      const n = sample_stands_for(size, sample.interval[p]);
      list_put(lists, r, place.list, p, () => sum_up(id as stack_t, n, size));
    }
  }
  mtx_unlock(root.lock, r);
}
/** Items of guarded blocks in the last addresses of a large machine have no place in a word. */
const ITEM_END = 2 ** 32;
/** The page that is marked for a block; 0: none is, of an item and of a block beyond the memory. */
function page_to_mark(item: number, kind: number): number {
  const m = word_page(item);
  return kind === SK_TYPE && m < machine.npages[M] ? m : 0;
}
/** A request at a stack stands for n of so many bytes. In a section. */
function sum_up(s: stack_t, n: number, size: number): void {
  if (s === NULL) return;
  save64_two(stack.total_bytes, stack.total_objects, s);
  add64(stack.total_bytes, s, n * size);
  add64(stack.total_objects, s, n);
}

// --- the end of one -----------------------------------------------------------------------------

/** Whether no sample is of the item, nor of others of its page; a look without the lock. */
export function sample_none(item: number): boolean {
  return list_is_empty(lists, stack_anchor(), item);
}
/** The block or item at word `item` is about to be freed: nothing is noted of it any more. */
export function sample_remove(item: number): void {
  const r = stack_anchor();
  sample_removed.stack = 0;
  if (item >= ITEM_END || list_is_empty(lists, r, item)) return;
  mtx_lock(root.lock, r);
  take_off(r, item);
  mtx_unlock(root.lock, r);
}
/** Of this thread: who asked for the item whose sample it took away last; 0: not known. */
export const sample_removed = { stack: 0 };
function take_off(r: stack_root_t, item: number): void {
  if (list_is_empty(lists, r, item)) return;
  const place = list_find(lists, r, item);
  if (place === null) return;
  if (place.found !== NULL) {
    sample_removed.stack = sample.stack[place.found as stack_sample_t];
    list_take(lists, r, place);
  }
  const m = page_to_mark(item, SK_TYPE);
  if (m === 0 || (vm_page.info[m] & PK_MARK_NOTE) === 0) return;
  let p = sample_table.first[place.list] as stack_sample_t;
  while (p !== NULL && word_page(sample.item[p]) !== m) p = sample.next[p];
  if (p === NULL) atomic_and(field_word(vm_page.info, 0) + m, ~PK_MARK_NOTE);
}
/** So many lists are emptied in one hold of the lock. */
const FORGET_LISTS = 16;
/** Where forgetting goes on, in this thread: who finds samples on all lists begins anew. */
let forget_at = 0;
/** Forgets some samples. False: there are none left, or somebody turned it on again. */
function forget_some(r: stack_root_t): boolean {
  mtx_lock(root.lock, r);
  for (let i = 0; i < FORGET_LISTS && root.sampling[r] === 0 && root.samples[r] > 0; i++) {
    const n = forget_at++;
    for (let p = list_at(lists, r, n); p !== NULL; p = list_at(lists, r, n)) {
      take_off(r, sample.item[p] >>> 0);
    }
  }
  const more = root.sampling[r] === 0 && root.samples[r] > 0;
  mtx_unlock(root.lock, r);
  return more;
}

// --- looking at them ----------------------------------------------------------------------------

/** A block or item in use whose request was noted. */
export interface Sample {
  /** Word at which it begins. */
  readonly item: number;
  readonly kind: number;
  readonly owner: number;
  readonly stack: number;
  readonly size: number;
  /** How many it stands for. */
  readonly objects: number;
  /** When it was asked for, ms since the epoch. */
  readonly time: number;
}
/** All of them. Takes the lock. */
export function samples_list(): Sample[] {
  const r = stack_anchor();
  mtx_lock(root.lock, r);
  const all = samples_walk();
  mtx_unlock(root.lock, r);
  return all;
}
/** The same without the lock, of a dump: believes nothing, and comes to an end. */
export function samples_walk(): Sample[] {
  const r = stack_anchor();
  const all: Sample[] = [];
  list_walk(lists, r, sample.sizeof, (p) => {
    const size = get64(sample.size, p);
    all.push({
      item: sample.item[p] >>> 0,
      kind: sample.kind[p],
      owner: sample.owner[p],
      stack: sample.stack[p],
      size,
      objects: sample_stands_for(size, sample.interval[p]),
      time: get64(sample.time, p),
    });
  });
  return all;
}
/**
 * Proves that every sample is on its list once, on a page with its mark if it is a block, and has
 * a stack or none.  Takes the lock.
 */
export function samples_check(): void {
  const r = stack_anchor();
  mtx_lock(root.lock, r);
  const all = samples_walk();
  const items = new Set(all.map((s) => s.item));
  const bad = all.find(({ item, kind, stack: s }) => {
    const m = page_to_mark(item, kind);
    const unmarked = m !== 0 && (vm_page.info[m] & PK_MARK_NOTE) === 0;
    return unmarked || (s !== 0 && stack.magic[s as stack_t] !== STACK_MAGIC);
  });
  const counted = root.samples[r];
  mtx_unlock(root.lock, r);
  if (items.size !== all.length) panic('stack samples: an item is noted twice');
  if (all.length !== counted) panic(`stack samples: ${all.length}, counted ${counted}`);
  if (bad !== undefined) panic(`stack samples: ${bad.item * 4}: no mark, or no stack`);
}
