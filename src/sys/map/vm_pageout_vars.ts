/*
 * vm_pageout_vars: the record, the variables and the counters of those who page out.
 *
 * A program that does without address spaces does without the code that looks through the queues
 * (vm_pageout_scan.ts), too.  What is declared must be the same in every thread, so it stands here;
 * and so does what every thread does for one that died, and the look at the limit.
 *
 *      token    tid of the CPU that reclaims for a request of its own, 0: nobody does
 *      daemon   tid of the page daemon, 0: there is none yet, or it died
 *      started  tid of the CPU that started such threads, 0: nobody did; -1: there is to be none
 *      pagers   how many of them there are to be
 *      still    tid of a CPU that wants no page to be moved (vm_pageout_still.ts)
 *      vain     when a fault has found that no page can be had, and what it has seen (vm_oom.ts)
 *
 * Behind the record are words of each CPU slot: 1 while its thread is in a turn of paging out; 1 if
 * it is a thread that pages out; four by which its thread asks for a page (vm_pagein.ts).
 *
 * Those threads end with the one that started them, by the ways of hosts.  So when the death of
 * one of them, or of who started them, is settled, `started` is 0 again, and all CPUs are rung.
 * The first one that comes to its event loop, or finds no page in a fault, and has started such
 * threads or used a space (pageout_starter), starts as many as are missing.
 *
 * One CPU at a time reclaims for a request of its own: the token is taken by compare-and-swap, and
 * the others sleep on that word.  A death gives it back.
 */
import { atomic_cas, atomic_load, atomic_store, atomic_xchg } from '../machine/atomic.ts';
import { counter_u64 } from '../machine/counter.ts';
import { cpu_ring, cpu_slots, thr, tid_cpu } from '../machine/cpu.ts';
import { reap_all, tid_alive } from '../machine/death.ts';
import { boot_alloc, M, machine as machine_, ROOT_PAGEOUT } from '../machine/header.ts';
import { elem, field_word, i32, type Ptr, struct } from '../machine/struct.ts';
import { CTLFLAG_RWTUN, sysctl_get, sysctl_int, sysctl_uint } from '../machine/sysctl_decl.ts';
import { PQ_ACTIVE, PQ_CACHE, PQ_INACTIVE, pageq_count } from '../h/vm_pageq.ts';
import { v_inactive_target } from '../page/vm_page_targets.ts';
import { wakeup } from '../sync/subr_sleepqueue.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const machine = machine_;

export type vm_pageout_t = Ptr<'vm_pageout'>;
/* Locks: (a) atomic  (h) read by all, as a hint */
export const vm_pageout_root = struct<vm_pageout_t>(
  'vm_pageout',
  32,
)({
  token: i32('a', 'tid of the CPU that reclaims for a request of its own, 0: nobody does'),
  daemon: i32('a', 'tid of the page daemon, 0: there is none'),
  started: i32('a', 'tid of the CPU that started such threads; -1: none is wanted; 0: nobody did'),
  pagers: i32('a', 'how many such threads there are to be'),
  launder: i32('ah', 'dirty pages are to be written: what the other such threads sleep for'),
  still: i32('a', 'tid of the CPU that wants no page to be moved now, 0: nobody does'),
  vain: i32('ah', 'a sum of what would have to change before a page can be had; 0: one may be'),
  vain_at: i32('ah', 'when that was found, ms'),
  vain_resident: i32('ah', 'and what there was then: pages of memory objects'),
  vain_wired: i32('ah', 'of these wired'),
  vain_stuck: i32('ah', 'of these dirty, with no room in a swap area'),
});
const pageout = vm_pageout_root;

/** The record. */
export function pageout_root(): vm_pageout_t {
  return machine.roots[elem(M, ROOT_PAGEOUT)] as vm_pageout_t;
}
/** Lays it out, while boot_alloc still works. */
export function vm_pageout_boot(): void {
  const words = pageout.sizeof + (2 + ASKED_WORDS) * cpu_slots();
  machine.roots[elem(M, ROOT_PAGEOUT)] = boot_alloc(words, 'the page daemon', 32);
}
/** The word that says whether the thread of a CPU pages out right now. */
export function pageout_turn(cpu: number): number {
  return pageout_root() + pageout.sizeof + cpu;
}
/** The word that says whether the thread of a CPU is one that pages out. */
export function pageout_pager(cpu: number): number {
  return pageout_turn(cpu) + cpu_slots();
}
/** Words by which the thread of a CPU asks for a page (vm_pagein.ts). */
const ASKED_WORDS = 4;
/** The first of them. */
export function pageout_asked(cpu: number): number {
  return pageout_root() + pageout.sizeof + 2 * cpu_slots() + cpu * ASKED_WORDS;
}
/** The word of the token. */
export function pageout_token(): number {
  return field_word(pageout.token, pageout_root());
}
/** The word that says who the page daemon is. */
export function pageout_daemon(): number {
  return field_word(pageout.daemon, pageout_root());
}
function started_word(): number {
  return field_word(pageout.started, pageout_root());
}
/** So many threads are to page out, if that was not said before. */
export function pageout_want(threads: number): void {
  atomic_cas(field_word(pageout.pagers, pageout_root()), 0, threads);
}
/** Whether the caller is to start such threads: pageout_missing, for nobody else does. */
export function pageout_start(): boolean {
  return atomic_cas(started_word(), 0, thr.tid) === 0;
}
/** How many there are fewer than there are to be. */
export function pageout_missing(): number {
  let n = atomic_load(field_word(pageout.pagers, pageout_root()));
  for (let cpu = 0; cpu < cpu_slots(); cpu++) n -= atomic_load(pageout_pager(cpu));
  return Math.max(n, 0);
}
/**
 * What starts missing threads in this one.  No line of a table: else each such thread would bring
 * along what starts others, which a bundler packs anew for it.
 */
export const pageout_starter = { start: (): void => {} };
/** There were such threads, and one is gone: others are started. A line of the bell table. */
export function pageout_again(): void {
  if (pageout_root() === 0 || atomic_load(started_word()) !== 0) return;
  if (atomic_load(field_word(pageout.pagers, pageout_root())) === 0) return;
  reap_all(); // they end together, and are not found together
  pageout_starter.start();
}
/** The same by one who misses the page daemon: it may not have been found dead yet. */
export function pageout_look(): void {
  const daemon = atomic_load(pageout_daemon());
  if (daemon !== 0 && !tid_alive(daemon)) reap_all();
  pageout_again();
}
/** No page daemon is wanted in this machine, unless a program starts one. */
export function pageout_start_never(): void {
  atomic_store(started_word(), -1);
}
/**
 * A dead CPU reclaims no more, and if it was the page daemon there is none: another thread that
 * pages out takes its place.  If it was one of those, or has started them, some may be started
 * again.  A line of the death table.
 */
export function vm_pageout_reap(cpu: number): void {
  if (pageout_root() === 0) return;
  const of = (w: number): boolean => {
    const tid = atomic_load(w);
    return tid !== 0 && tid_cpu(tid) === cpu && atomic_cas(w, tid, 0) === tid;
  };
  if (of(pageout_token())) wakeup(pageout_token());
  atomic_store(pageout_turn(cpu), 0);
  if (of(pageout_daemon())) wakeup(field_word(pageout.launder, pageout_root()));
  if (atomic_load(started_word()) === -1) return;
  if (atomic_xchg(pageout_pager(cpu), 0) === 0 && !of(started_word())) return;
  atomic_store(started_word(), 0);
  for (let each = 0; each < cpu_slots(); each++) cpu_ring(each);
}
/**
 * A thread leaves that has started such threads: if they have not come yet nobody knows whether
 * they will.  A line of the leave table.
 */
export function vm_pageout_leave(): void {
  if (pageout_missing() > 0) atomic_cas(started_word(), thr.tid, 0);
}

// --- what is counted -----------------------------------------------------------------------------

export const v_pdwakeups = counter_u64(
  'vm.stats.vm.v_pdwakeups',
  'Times the page daemon was woken up because pages were few',
);
export const v_pdpages = counter_u64(
  'vm.stats.vm.v_pdpages',
  'Pages that were looked at because pages were few, each time',
);
export const v_dfree = counter_u64(
  'vm.stats.vm.v_dfree',
  'Pages that were freed because pages were few',
);
export const pageout_lock_miss = counter_u64(
  'vm.pageout_lock_miss',
  'Pages that went to the end of their queue because their object was in use',
);
export const pageout_direct = counter_u64(
  'vm.pageout_direct',
  'Times a request for memory reclaimed pages itself',
);
export const pageout_launders = counter_u64(
  'vm.pageout_launders',
  'Clusters of dirty pages that were written because pages were few',
);

// --- what can be set -----------------------------------------------------------------------------

const flag = (name: string, help: string, number?: number) =>
  sysctl_int(`vm.${name}`, {
    value: 0,
    min: 0,
    max: 1,
    flags: CTLFLAG_RWTUN,
    help,
    ...(number === undefined ? {} : { number }),
  });
export const max_launder = sysctl_int('vm.max_launder', {
  value: 32,
  min: 1,
  unit: 'clusters',
  flags: CTLFLAG_RWTUN,
  help: 'Clusters of dirty pages that the page daemon writes in its first look through the queue',
});
export const pageout_algorithm = flag(
  'pageout_algorithm',
  '1: a page grows old at the first look that finds it unused; 0: it takes the more looks, the ' +
    'more it was used',
  10,
);
export const defer_swapspace_pageouts = flag(
  'defer_swapspace_pageouts',
  'Anonymous memory is written to the swap area only when pages are very few',
);
export const disable_swapspace_pageouts = flag(
  'disable_swapspace_pageouts',
  'Anonymous memory is never written to the swap area',
);
export const pageout_stats_interval = sysctl_int('vm.pageout_stats_interval', {
  value: 5,
  min: 1,
  max: 3600,
  unit: 's',
  flags: CTLFLAG_RWTUN,
  help: 'Time between two looks at active pages while nobody needs any',
});
export const pageout_full_stats_interval = sysctl_int('vm.pageout_full_stats_interval', {
  value: 20,
  min: 1,
  max: 36000,
  unit: 's',
  flags: CTLFLAG_RWTUN,
  help: 'Time between two such looks at all active pages',
});
export const pageout_stats_max = sysctl_uint('vm.pageout_stats_max', {
  value: 0,
  unit: 'pages',
  flags: CTLFLAG_RWTUN,
  help: 'Pages that such a look may see, of as many as there are in memory; 0: vm.v_free_target',
});
const v_resident_max = sysctl_uint('vm.v_resident_max', {
  value: 0,
  unit: 'pages',
  flags: CTLFLAG_RWTUN,
  help:
    'The most pages of memory objects that are active, inactive or as good as free; ' +
    '0: any number',
});
const inactive_percent = sysctl_int('vm.inactive_percent', {
  value: 50,
  min: 1,
  max: 99,
  unit: '%',
  flags: CTLFLAG_RWTUN,
  help:
    'Of the active and inactive pages so many should be inactive, or vm.v_inactive_target pages ' +
    'if those are fewer and vm.v_resident_max is 0',
});

/** Pages that should be inactive now. */
export function pageout_inactive_target(): number {
  const pages = pageq_count(PQ_ACTIVE) + pageq_count(PQ_INACTIVE);
  const share = Math.floor((pages * sysctl_get(inactive_percent)) / 100);
  // Under a limit pages are few all the time, however many are free.
  return sysctl_get(v_resident_max) > 0 ? share : Math.min(share, sysctl_get(v_inactive_target));
}
/** How many of `most` pages may come at once: they are no large part of the limit. */
export function pageout_readahead(most: number): number {
  const limit = sysctl_get(v_resident_max);
  return limit === 0 ? most : Math.min(most, Math.max(1, limit >> 3));
}
/** Pages by which n more would exceed the limit of the machine; not more than 0: none. */
export function pageout_over_limit(n: number): number {
  const most = sysctl_get(v_resident_max);
  if (most === 0) return 0;
  return pageq_count(PQ_ACTIVE) + pageq_count(PQ_INACTIVE) + pageq_count(PQ_CACHE) + n - most;
}
/** How many of n new pages of objects are within the limit. */
export function pageout_most(n: number): number {
  return n - Math.max(pageout_over_limit(n), 0);
}
