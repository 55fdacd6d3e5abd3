/*
 * vm_pageq: the queues of pages that have owners.
 *
 *      inactive   used least of late: reclaimed from the head on
 *      active     used of late; each with a count that use raises and time lowers
 *      cache      clean, mapped nowhere, still its object's: as good as free (vm_object_cache.ts)
 *
 * A page of an object is on one queue, or on none: of a sort that is never reclaimed (PG_UNMANAGED,
 * PG_FICTITIOUS), or wired when it was met there.  To wire a page is to count that: it stays on its
 * queue, unless it is the cache, until a scan comes to it and takes it off (vm_page_unqueue_wired);
 * after the last wiring it goes on a queue if it is on none.  So a window on pages that are in
 * memory moves none of them.  Queue, links and wirings are words of the page array, because a word
 * is what an undo log saves:
 *
 *      queue   | lapped | act_count | queue |       next, prev: neighbours, 0: the end
 *      wired   | loans | wirings |                     a loan is a wiring, too
 *
 * One lock guards all queues, inside the locks of objects.  Each call is one section or, for
 * several pages, a commit for each, so that a CPU that dies leaves every page where it was or
 * where it goes, and the counts right.
 *
 * Whoever looks for pages to reclaim works from the head of a queue and page by page (pageq_first):
 * with the queues locked the object is only tried, because its lock comes first; a page that cannot
 * be had goes to the end.  So a scan leaves no mark in a queue, and any number of them run at a
 * time.
 */
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { boot_alloc, M, machine as machine_, ROOT_PAGEQ } from '../machine/header.ts';
import { mem as mem_ } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { elem, field_word } from '../machine/struct.ts';
import { sysctl_value } from '../machine/sysctl_decl.ts';
import {
  ACT_MASK,
  ACT_SHIFT,
  PQ_ACTIVE,
  PQ_CACHE,
  PQ_COUNT,
  PQ_INACTIVE,
  PQ_LAPPED,
  PQ_MASK,
  PQ_NONE,
  pageq_count,
  pageq_root,
  vm_pageq,
  type vm_pageq_t,
} from '../h/vm_pageq.ts';
import {
  PAGE_DIRTY,
  PAGE_VALID,
  PG_FICTITIOUS,
  PG_UNMANAGED,
  PK_MASK,
  PK_OBJECT,
  vm_page,
} from '../h/vm_page.ts';
import { mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_PAGE_QUEUE } from '../sync/lock_order.ts';
import { lock_owner_tid } from '../sync/lock_word.ts';
import { save, save_run, save_word, undo_begin, undo_commit, undo_end } from '../sync/undo.ts';
import { vm_page_kernel_count } from './vm_page.ts';
import { phys_root, vm_phys } from './vm_phys.ts';

export { PQ_ACTIVE, PQ_CACHE, PQ_INACTIVE, PQ_NONE, pageq_count } from '../h/vm_pageq.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const mem = mem_;
const machine = machine_;
const page = vm_page;

/** What a page's activity begins with. */
export const ACT_INIT = 5;
/** Wirings are the lower half of the word, loans the upper one. */
const WIRE_MASK = 0xffff;
const LOAN_SHIFT = 16;
export const ONE_LOAN = (1 << LOAN_SHIFT) + 1;
/** The most wirings of a page for programs: its word has room for those of the kernel beside. */
export const WIRINGS_MOST = 0xff00;

/** Pages that are queued in one section. */
const STEP = 4;

const pageq = vm_pageq;
/** Where in the record of ROOT_PAGEQ the lock lies. */
export const pageq_lock = pageq.lock;
const root = pageq_root;
/** Lays the queues out, while boot_alloc still works. */
export function pageq_boot(): void {
  const r = boot_alloc(pageq.sizeof, 'the page queues', 32) as vm_pageq_t;
  machine.roots[elem(M, ROOT_PAGEQ)] = r;
  mtx_init(pageq.lock, r, LC_PAGE_QUEUE);
}

for (const [q, name, help] of [
  [
    PQ_INACTIVE,
    'v_inactive_count',
    'Pages on the inactive queue, wired ones too until a scan meets them',
  ],
  [
    PQ_ACTIVE,
    'v_active_count',
    'Pages on the active queue, wired ones too until a scan meets them',
  ],
  [PQ_CACHE, 'v_cache_count', 'Pages on the cache queue'],
] as const) {
  sysctl_value(`vm.stats.vm.${name}`, { type: 'uint', help }, () => pageq_count(q));
}
/** Pages of memory objects that are wired. */
export function pageq_wired(): number {
  return pageq.wired[root()];
}
sysctl_value(
  'vm.stats.vm.v_object_wire_count',
  { type: 'uint', help: 'Pages of memory objects that are wired' },
  pageq_wired,
);
const v_reactivated = counter_u64(
  'vm.stats.vm.v_reactivated',
  'Pages that left the cache queue because they were used',
);
const v_tcached = counter_u64(
  'vm.stats.vm.v_tcached',
  'Pages that became as good as free, on the cache queue',
);
sysctl_value(
  'vm.stats.vm.v_wire_count',
  { type: 'uint', help: 'Pages that the kernel holds, and pages of memory objects that are wired' },
  () => vm_page_kernel_count() + pageq_wired(),
);

// --- links, inside a section ----------------------------------------------------------------

/** The queue that a page is on. */
export function page_queue(m: number): number {
  return page.queue[m] & PQ_MASK;
}
/** How active it is. */
export function page_act(m: number): number {
  return (page.queue[m] >>> ACT_SHIFT) & ACT_MASK;
}
/** Whether the page daemon has let it go round the inactive queue before it writes it. */
export function page_lapped(m: number): boolean {
  return (page.queue[m] & PQ_LAPPED) !== 0;
}
export function pageq_set(m: number, q: number, act: number): void {
  save(page.queue, m);
  page.queue[m] = q | (act << ACT_SHIFT);
}
/** Takes a page off its queue. */
function unlink(m: number): void {
  const r = root();
  const q = page_queue(m);
  if (q === PQ_NONE) return;
  const at = elem(r, q);
  const [next, prev] = [page.next[m], page.prev[m]];
  if (prev === 0) {
    save(pageq.head, at);
    pageq.head[at] = next;
  } else {
    save(page.next, prev);
    page.next[prev] = next;
  }
  if (next === 0) {
    save(pageq.tail, at);
    pageq.tail[at] = prev;
  } else {
    save(page.prev, next);
    page.prev[next] = prev;
  }
  save(page.next, m);
  save(page.prev, m);
  save(pageq.count, at);
  page.next[m] = 0;
  page.prev[m] = 0;
  pageq.count[at]--;
  pageq_set(m, PQ_NONE, page_act(m));
}
/** Puts a page that is on no queue at the end of one, or at its head. */
function link(m: number, q: number, act: number, first: boolean): void {
  const r = root();
  const at = elem(r, q);
  const [near, far] = first ? [pageq.head, pageq.tail] : [pageq.tail, pageq.head];
  const [to, from] = first ? [page.next, page.prev] : [page.prev, page.next];
  const end = near[at];
  save(to, m);
  to[m] = end;
  if (end === 0) {
    save(far, at);
    far[at] = m;
  } else {
    save(from, end);
    from[end] = m;
  }
  save(near, at);
  save(pageq.count, at);
  near[at] = m;
  pageq.count[at]++;
  pageq_set(m, q, act);
}
/** The same at the end, by names alone: what every fault does. */
export function pageq_link_last(r: vm_pageq_t, m: number, q: number, act: number): void {
  const at = elem(r, q);
  const last = pageq.tail[at];
  save(page.prev, m);
  page.prev[m] = last;
  if (last === 0) {
    save(pageq.head, at);
    pageq.head[at] = m;
  } else {
    save(page.next, last);
    page.next[last] = m;
  }
  save(pageq.tail, at);
  save(pageq.count, at);
  pageq.tail[at] = m;
  pageq.count[at]++;
  pageq_set(m, q, act);
}
/** Some of `ms` from number `first` on, but not page `but`, go to the end of the inactive queue. */
function chain_last(r: vm_pageq_t, ms: readonly number[], first: number, but: number): void {
  const at = elem(r, PQ_INACTIVE);
  const end = Math.min(first + STEP, ms.length);
  let last = pageq.tail[at];
  save(pageq.tail, at);
  save(pageq.count, at);
  if (last === 0) save(pageq.head, at);
  else save(page.next, last);
  for (let k = first; k < end; k++) {
    const m = ms[k];
    if (m === but || page_queue(m) !== PQ_NONE || !pageq_managed(m) || wirings(m) !== 0) continue;
    save(page.prev, m);
    save(page.next, m);
    page.prev[m] = last;
    if (last === 0) pageq.head[at] = m;
    else page.next[last] = m;
    last = m;
    pageq.count[at]++;
    pageq_set(m, PQ_INACTIVE, page_act(m));
  }
  pageq.tail[at] = last;
}
/** The same of new pages side by side from `m` on, in one section. False: they are not alike. */
function chain_run(r: vm_pageq_t, m: number, n: number): boolean {
  const at = elem(r, PQ_INACTIVE);
  const end = m + n;
  for (let i = m; i < end; i++) if (page.queue[i] !== 0 || page.wired[i] !== 0) return false;
  if (!pageq_managed(m)) return false;
  save_run(field_word(page.queue, m), n);
  if (!save_run(field_word(page.prev, m), n) || !save_run(field_word(page.next, m), n))
    return false;
  const last = pageq.tail[at];
  save(pageq.tail, at);
  save(pageq.count, at);
  if (last === 0) {
    save(pageq.head, at);
    pageq.head[at] = m;
  } else {
    save(page.next, last);
    page.next[last] = m;
  }
  for (let i = m; i < end; i++) {
    page.prev[i] = i - 1;
    page.next[i] = i + 1;
    page.queue[i] = PQ_INACTIVE;
  }
  page.prev[m] = last;
  page.next[end - 1] = 0;
  pageq.tail[at] = end - 1;
  pageq.count[at] += n;
  return true;
}
/** Whether pages of that sort are ever on a queue. */
export function pageq_managed(m: number): boolean {
  return (page.flags[m] & (PG_UNMANAGED | PG_FICTITIOUS)) === 0;
}

// --- what owners call -------------------------------------------------------------------------

/** Runs one change of page m as a section under the lock of the queues. */
function change(m: number, run: (m: number) => void): void {
  const r = root();
  mtx_lock(pageq.lock, r);
  undo_begin(pageq.lock, r);
  run(m);
  undo_end();
  mtx_unlock(pageq.lock, r);
}
/** A page leaves the cache queue for another one, not to be freed. */
function reactivated(m: number): void {
  if (page_queue(m) === PQ_CACHE) counter_add(v_reactivated, 1);
}
/** It was used: to the end of the active queue, or more active there. */
export function vm_page_activate(m: number): void {
  const r = root();
  mtx_lock(pageq.lock, r);
  undo_begin(pageq.lock, r);
  activate(r, m);
  undo_end();
  mtx_unlock(pageq.lock, r);
}
function activate(r: vm_pageq_t, m: number): void {
  const act = Math.max(page_act(m), ACT_INIT);
  const q = page_queue(m);
  if (q === PQ_ACTIVE) return pageq_set(m, PQ_ACTIVE, act);
  if (q !== PQ_NONE) {
    reactivated(m);
    unlink(m);
  }
  if (pageq_managed(m) && wirings(m) === 0) pageq_link_last(r, m, PQ_ACTIVE, act);
}
/** A page that has an owner, and that a dead CPU had busy, is on a queue. It is busy still. */
export function vm_page_requeued(m: number): void {
  if ((page.info[m] & PK_MASK) !== PK_OBJECT) return;
  if (page_queue(m) === PQ_NONE && pageq_managed(m) && wirings(m) === 0) vm_page_activate(m);
}
/**
 * New pages of an object, which is locked, go on queues: page `used` at the end of the active one,
 * the others at the end of the inactive one.
 */
export function vm_page_enqueue(ms: readonly number[], used: number): void {
  const r = root();
  mtx_lock(pageq.lock, r);
  undo_begin(pageq.lock, r);
  if (used !== 0) {
    activate(r, used);
    undo_commit();
  }
  for (let k = 0; k < ms.length; undo_commit()) {
    let n = 1;
    while (k + n < ms.length && ms[k + n] === ms[k] + n && ms[k + n] !== used) n++;
    if (ms[k] === used) k++;
    else if (n > 1 && chain_run(r, ms[k], n)) k += n;
    else {
      chain_last(r, ms, k, used);
      k = Math.min(k + STEP, ms.length);
    }
  }
  undo_end();
  mtx_unlock(pageq.lock, r);
}
/** It will not be used soon: to the inactive queue, with `first` as the next to be reclaimed. */
export function vm_page_deactivate(m: number, first = false): void {
  change(m, (at) => deactivate(at, first));
}
function deactivate(m: number, first: boolean): void {
  if (page_queue(m) === PQ_INACTIVE || !pageq_managed(m) || wirings(m) !== 0) return;
  const act = page_act(m);
  reactivated(m);
  unlink(m);
  link(m, PQ_INACTIVE, act, first);
}
/** The same of several pages of one object, which is locked. */
export function vm_page_deactivate_all(ms: readonly number[]): void {
  if (ms.length === 0) return;
  const r = root();
  mtx_lock(pageq.lock, r);
  undo_begin(pageq.lock, r);
  for (const m of ms) {
    deactivate(m, false);
    undo_commit();
  }
  undo_end();
  mtx_unlock(pageq.lock, r);
}
/** As good as free: to the end of the cache queue. It is managed, not wired, and clean. */
export function vm_page_cache(m: number): void {
  change(m, (at) => {
    const act = page_act(at);
    if (page_queue(at) !== PQ_CACHE) counter_add(v_tcached, 1);
    unlink(at);
    link(at, PQ_CACHE, act, false);
  });
}
/** The first page of the cache queue that suits; the lock of the queues is held meanwhile. */
export function pageq_cached(suits: (m: number) => boolean): number {
  const r = root();
  if (pageq_count(PQ_CACHE) === 0) return 0; // a hint: one that comes now is for the next
  mtx_lock(pageq.lock, r);
  let m = pageq.head[elem(r, PQ_CACHE)];
  while (m !== 0 && !suits(m)) m = page.next[m];
  mtx_unlock(pageq.lock, r);
  return m;
}
/** To the end of the queue that it is on. With `lap`, it says so from here on. */
export function vm_page_requeue(m: number, lap = false): void {
  change(m, (at) => requeue(at, lap));
}
function requeue(m: number, lap: boolean): void {
  const q = page_queue(m);
  if (q === PQ_NONE) return;
  const act = page_act(m);
  const lapped = page.queue[m] & PQ_LAPPED;
  unlink(m);
  link(m, q, act, false);
  page.queue[m] |= lap ? PQ_LAPPED : lapped; // its word is saved
}
/**
 * The first page of a queue, if `had` is true for it: that is asked with the queues locked, takes
 * what it needs of the page's object without waiting, and keeps it.  Otherwise that page goes to
 * the end, and its number comes back negative.  0: the queue is empty.
 */
export function pageq_first(q: number, had: (m: number) => boolean): number {
  const r = root();
  if (pageq_count(q) === 0) return 0; // a hint: one that comes now is for the next
  mtx_lock(pageq.lock, r);
  const m = pageq.head[elem(r, q)];
  const got = m !== 0 && had(m);
  if (m !== 0 && !got) {
    undo_begin(pageq.lock, r);
    requeue(m, false);
    undo_end();
  }
  mtx_unlock(pageq.lock, r);
  return got ? m : -m | 0;
}
/**
 * A page that is on queue `from` goes to the end of queue `to`, as active as that.  False: it is
 * not there any more.  Its object is locked.
 */
export function vm_page_age(m: number, from: number, to: number, act: number): boolean {
  const r = root();
  mtx_lock(pageq.lock, r);
  const there = page_queue(m) === from;
  if (there) {
    undo_begin(pageq.lock, r);
    unlink(m);
    pageq_link_last(r, m, to, act);
    undo_end();
  }
  mtx_unlock(pageq.lock, r);
  return there;
}
/** Off its queue; it forgets how active it was. Before its owner lets go of it. */
export function vm_page_unqueue(m: number): void {
  // Only its owner queues it, whose lock is held.  But an owner may have died while it did so: its
  // change is not taken back yet, and would be when the page is another's.
  if (page.queue[m] === 0 && lock_owner_tid(pageq.lock + root()) === 0) return;
  change(m, (at) => {
    unlink(at);
    pageq_set(at, PQ_NONE, 0);
  });
}
/** Where a page was on its queue when it left it: its word, and the pages on both sides. */
export interface QueuePlace {
  readonly word: number;
  readonly prev: number;
  readonly next: number;
}
/** Where page m is on its queue. Its object is locked; its neighbours may change at once. */
export function pageq_place(m: number): QueuePlace {
  return { word: page.queue[m], prev: page.prev[m], next: page.next[m] };
}
/**
 * A page that is on no queue goes where another one was: behind the page that was before that or
 * before the page that was behind it, if it is there still; else to the end of that queue.
 */
export function vm_page_queue_at(m: number, place: QueuePlace): void {
  const q = place.word & PQ_MASK;
  if (q === PQ_NONE) return;
  change(m, () => {
    if (page_queue(m) !== PQ_NONE || !pageq_managed(m) || wirings(m) !== 0) return;
    const { prev, next } = place;
    if (prev !== 0 && page_queue(prev) === q) link_behind(m, prev, q);
    else if (next === pageq.head[elem(root(), q)]) link(m, q, 0, true);
    else if (next !== 0 && page_queue(next) === q) link_behind(m, page.prev[next], q);
    else link(m, q, 0, false);
    page.queue[m] = place.word; // it is saved
  });
}
/** Puts a page that is on no queue behind page `prev`. */
function link_behind(m: number, prev: number, q: number): void {
  const next = page.next[prev];
  if (next === 0) return link(m, q, 0, false);
  const at = elem(root(), q);
  save(page.next, prev);
  save(page.prev, next);
  save(page.next, m);
  save(page.prev, m);
  save(pageq.count, at);
  page.next[m] = next;
  page.prev[m] = prev;
  page.next[prev] = m;
  page.prev[next] = m;
  pageq.count[at]++;
  pageq_set(m, q, 0);
}

/**
 * Takes a page that is wired off its queue: a scan has come to it.  After its last wiring it goes
 * on one again.  False: it is not wired.
 */
export function vm_page_unqueue_wired(m: number): boolean {
  if (wirings(m) === 0) return false;
  const r = root();
  mtx_lock(pageq.lock, r);
  const held = wirings(m) !== 0;
  if (held) {
    undo_begin(pageq.lock, r);
    unlink(m);
    undo_end();
  }
  mtx_unlock(pageq.lock, r);
  return held;
}

// --- wiring ---------------------------------------------------------------------------------

function wirings(m: number): number {
  return page.wired[m] & WIRE_MASK;
}
/** How often a page is wired. A fictitious one is, once, for ever. */
export function vm_page_wirings(m: number): number {
  return page.flags[m] & PG_FICTITIOUS ? 1 : wirings(m);
}
/** Whether page m may be wired once more for a program. Right while its object is locked. */
export function vm_page_wirable(m: number): boolean {
  return vm_page_wirings(m) < WIRINGS_MOST;
}
/** Wires a page. Of a fictitious one nothing changes. */
export function vm_page_owner_wire(m: number): void {
  if (page.flags[m] & PG_FICTITIOUS) return;
  change(m, wire);
}
function wire(m: number): void {
  wire_first(root(), m);
  save(page.wired, m);
  page.wired[m]++;
}
/**
 * Ends one wiring.  After the last it goes to the inactive queue, or with `active` to the active
 * one, if it is on none: else it stays where it is, and counts as used.
 */
export function vm_page_owner_unwire(m: number, active: boolean): void {
  if (page.flags[m] & PG_FICTITIOUS) return;
  change(m, (at) => unwire(at, active));
}
/** Ends one wiring. In a section. */
export function unwire(m: number, active: boolean): void {
  const n = wirings(m);
  if (n === 0) panic('vm_page_unwire: invalid wire count', m, n);
  save(page.wired, m);
  page.wired[m]--;
  if (n > 1) return;
  save(pageq.wired, root());
  pageq.wired[root()]--;
  if (page_queue(m) !== PQ_NONE) {
    if (active) page.ref[m] = 1;
    else deactivate(m, false);
  } else if (pageq_managed(m))
    pageq_link_last(root(), m, active ? PQ_ACTIVE : PQ_INACTIVE, page_act(m));
}

/**
 * Wires page m, or counts it alone if it is fictitious, and adds one to the word `count` in the
 * same section, so that whoever finds that word knows what to unwire.
 */
export function vm_page_wire_counted(m: number, count: number): void {
  const r = root();
  mtx_lock(pageq.lock, r);
  undo_begin(pageq.lock, r);
  wire_counted(m, count);
  undo_end();
  mtx_unlock(pageq.lock, r);
}
/** The same for n pages that lie side by side, from the last one down. */
export function vm_page_wire_run(m: number, n: number, count: number): void {
  const r = root();
  mtx_lock(pageq.lock, r);
  undo_begin(pageq.lock, r);
  for (let i = m + n; i > m; undo_commit()) {
    const from = Math.max(m, i - RUN);
    if (wires_alike(from, i)) {
      count_some(r, from, i, 1);
      save_word(count);
      mem.I32[count] += i - from;
      i = from;
    } else wire_counted(--i, count);
  }
  undo_end();
  mtx_unlock(pageq.lock, r);
}
/** Pages side by side whose wirings change in one section, if they are alike. */
export const RUN = 64;
/** Whether pages from `first` to before `end` have as many wirings, and need no more than that. */
export function wires_alike(first: number, end: number): boolean {
  const n = page.wired[first];
  if ((n & WIRE_MASK) === WIRE_MASK) return false;
  for (let m = first; m < end; m++) {
    const other = page.wired[m] !== n || page_queue(m) === PQ_CACHE;
    if (other || page.flags[m] & PG_FICTITIOUS) return false;
  }
  return true;
}
/** Whether those have as many wirings, and are on queues, where they may stay. */
export function unwires_alike(first: number, end: number): boolean {
  const n = page.wired[first];
  if ((n & WIRE_MASK) === 0) return false;
  for (let m = first; m < end; m++) {
    if (page.wired[m] !== n || page_queue(m) === PQ_NONE) return false;
  }
  return true;
}
/** Pages that are alike are wired once more: `by` is 1, or ONE_LOAN; or once less: minus that. */
export function count_some(r: vm_pageq_t, first: number, end: number, by: number): void {
  const n = page.wired[first];
  save_run(field_word(page.wired, first), end - first);
  if (((by > 0 ? n : n + by) & WIRE_MASK) === 0) {
    save(pageq.wired, r);
    pageq.wired[r] += by > 0 ? end - first : first - end;
  }
  for (let m = first; m < end; m++) page.wired[m] = n + by;
}
/** Wires a page, and counts it. In a section. */
export function wire_counted(m: number, count: number): void {
  save_word(count);
  mem.I32[count]++;
  if ((page.flags[m] & PG_FICTITIOUS) === 0) wire(m);
}
/** Ends that: the word says how many are wired, the last one of which is page `last`. */
export function vm_page_unwire_run(last: number, count: number): void {
  const r = root();
  mtx_lock(pageq.lock, r);
  undo_begin(pageq.lock, r);
  for (let left = mem.I32[count]; left > 0; undo_commit()) {
    const first = last - left + 1;
    const some = Math.min(left, RUN);
    save_word(count);
    if (unwires_alike(first, first + some)) {
      count_some(r, first, first + some, -1);
      if (wirings(first) === 0) for (let k = 0; k < some; k++) page.ref[first + k] = 1;
      left -= some;
    } else {
      if ((page.flags[first] & PG_FICTITIOUS) === 0) unwire(first, true);
      left--;
    }
    mem.I32[count] = left;
  }
  undo_end();
  mtx_unlock(pageq.lock, r);
}

/** Pages of objects that are wired: a sample. */
export function vm_page_wire_count(): number {
  return pageq.wired[root()];
}

/** Ends all wirings of a page whose object ends but its loans: whoever wired it is dead. */
export function vm_page_unwire_all(m: number): void {
  change(m, (at) => {
    const loans = vm_page_loans(at);
    if (wirings(at) === loans) return;
    save(page.wired, at);
    page.wired[at] = loans * ONE_LOAN;
    if (loans > 0) return;
    save(pageq.wired, root());
    pageq.wired[root()]--;
  });
}

/** Pages of the kernel that are wired, or unwired, in one section. */
const STEP_KERNEL = 8;
/** Wires pages that are new, on no queue, and not wired yet: once each. */
export function vm_page_wire_new(ms: readonly number[]): void {
  each_step(ms, (m) => {
    if (page.wired[m] !== 0) panic('vm_page_wire_new: wired', m, page.wired[m]);
    page.wired[m] = 1;
    return 1;
  });
}
/** Ends all wirings of pages that are on no queue and not lent, as vm_page_unwire_all. */
export function vm_page_unwire_kernel(ms: readonly number[]): void {
  each_step(ms, (m) => {
    const was = wirings(m);
    page.wired[m] = 0;
    return was > 0 ? -1 : 0;
  });
}
/** Changes what is wired of each page; `by`: how many are wired more then. */
function each_step(ms: readonly number[], by: (m: number) => number): void {
  const r = root();
  mtx_lock(pageq.lock, r);
  undo_begin(pageq.lock, r);
  for (let k = 0; k < ms.length; undo_commit()) {
    save(pageq.wired, r);
    for (const end = Math.min(k + STEP_KERNEL, ms.length); k < end; k++) {
      save(page.wired, ms[k]);
      pageq.wired[r] += by(ms[k]);
    }
  }
  undo_end();
  mtx_unlock(pageq.lock, r);
}

// --- loans ----------------------------------------------------------------------------------

/** How often a page is lent. Right while its object is locked. */
export function vm_page_loans(m: number): number {
  return page.wired[m] >>> LOAN_SHIFT;
}
/** Wirings of a page that are no loans. A fictitious one is wired once, for ever. */
export function vm_page_held(m: number): number {
  return vm_page_wirings(m) - vm_page_loans(m);
}
/** Before page m is wired once more: the first time it is as good as free no more, and counted. */
export function wire_first(r: vm_pageq_t, m: number): void {
  const n = wirings(m);
  if (n === WIRE_MASK) panic('vm_page_wire: wired too often', m);
  if (n !== 0) return;
  if (page_queue(m) === PQ_CACHE) activate(r, m);
  save(pageq.wired, r);
  pageq.wired[r]++;
}

// --- proof ----------------------------------------------------------------------------------

/** Proves links, counts and queue words of all pages. Takes the lock. */
export function pageq_check(): void {
  const r = root();
  mtx_lock(pageq.lock, r);
  const seen = new Map<number, number>();
  for (let q = PQ_INACTIVE; q < PQ_COUNT; q++) queue_check(q, seen);
  const ph = phys_root();
  let wired = 0;
  for (let m = vm_phys.low[ph]; m < vm_phys.high[ph]; m++) {
    const q = page_queue(m);
    if (q !== (seen.get(m) ?? PQ_NONE)) panic('pageq_check: page and queue differ', m, q);
    if (vm_page_held(m) < 0) panic('pageq_check: lent more often than wired', m, page.wired[m]);
    if (wirings(m) !== 0) wired++;
  }
  if (wired !== pageq.wired[r]) panic('pageq_check: wired pages', wired, pageq.wired[r]);
  mtx_unlock(pageq.lock, r);
}
/** What is as good as free has contents that its store has too, and nobody uses it. */
function cached_check(m: number): void {
  if ((page.state[m] & PAGE_VALID) === 0) panic('pageq_check: cached without contents', m);
  if (page.state[m] & PAGE_DIRTY || page.mod[m] !== 0) panic('pageq_check: cached and dirty', m);
  if (page.busy[m] !== 0) panic('pageq_check: cached and busy', m, page.busy[m]);
  if (page.map_pmap[m] !== 0) panic('pageq_check: cached and mapped', m, page.map_pmap[m]);
  if (wirings(m) !== 0) panic('pageq_check: cached and wired', m, wirings(m));
}
function queue_check(q: number, seen: Map<number, number>): void {
  const at = elem(root(), q);
  let n = 0;
  let prev = 0;
  for (let m = pageq.head[at]; m !== 0; m = page.next[m]) {
    if (page.prev[m] !== prev) panic('pageq_check: link back', m, page.prev[m]);
    if (seen.has(m)) panic('pageq_check: on a queue twice', m, q);
    if ((page.info[m] & PK_MASK) !== PK_OBJECT) panic('pageq_check: a page of no object', m, q);
    if (!pageq_managed(m)) panic('pageq_check: a page that is not managed', m, q);
    if (q === PQ_CACHE) cached_check(m);
    seen.set(m, q);
    prev = m;
    n++;
  }
  if (pageq.tail[at] !== prev) panic('pageq_check: tail', pageq.tail[at], prev);
  if (pageq.count[at] !== n) panic('pageq_check: count', pageq.count[at], n);
}
