/*
 * vm_pageout: who gets pages back, when, and how many.
 *
 *      the page daemon       asleep until pages are needed; a few dirty ones first, then any number
 *      other pager threads   write dirty pages beside it: boot({ pagers: n })
 *      a request             that found no page: vm_pageout_direct, one CPU at a time
 *
 * All look through the queues in the same way (vm_pageout_scan.ts) and may do so at a time.
 *
 * The daemon is a thread of its own, one CPU of the machine.  Who takes a page and sees that few
 * are left, or finds none, sets the word `needed` and wakes it.  Each turn it looks through the
 * queues; while it gets none and some are needed still it tries harder (`pass`), and from the
 * second time on waits between two turns, because others must let go of some first.  (BSD's waits
 * after a turn that got some, too: its writes go on meanwhile.)  When none are needed it zeroes
 * free pages ahead, some at a time, and every few seconds looks at some active pages, so that
 * what is known of their use does not grow stale.
 *
 *      pass 0     as few writes as possible: vm.max_launder clusters, of pages that went round once
 *      pass 1     as many as it takes
 *      pass 2     a page is old at the first look that finds it unused
 *
 * Below v_free_severe it begins with pass 1.
 *
 * A machine without a daemon works, too: requests do it all.  They come with no mutex held, because
 * a scan waits for those of objects; what is written is written with everything let go of.  The
 * token (vm_pageout_vars.ts) makes requests of several CPUs wait for one another, so that one of
 * them writes and all have pages afterwards.
 */
import { atomic_cas, atomic_load, atomic_store, atomic_xchg } from '../machine/atomic.ts';
import { now_ms } from '../machine/clock.ts';
import { counter_add } from '../machine/counter.ts';
import { poll, thr, tid_cpu } from '../machine/cpu.ts';
import { cpu_alive, reap_all } from '../machine/death.ts';
import { host_can_block } from '../machine/host.ts';
import { field_word } from '../machine/struct.ts';
import { sysctl_get } from '../machine/sysctl_decl.ts';
import { W_PAGEOUT, W_PSLEEP } from '../machine/wmesg.ts';
import { PQ_ACTIVE, PQ_INACTIVE, pageq_count } from '../h/vm_pageq.ts';
import { object_cache_free } from '../object/vm_object_cache.ts';
import {
  vm_page_count,
  vm_page_count_min,
  vm_page_free_count,
  vm_page_free_wakeup,
  vm_page_idle,
  vm_page_reserved,
} from '../page/vm_page.ts';
import { vm_reserv_break } from '../page/vm_reserv.ts';
import { vm_page_limbo_free } from '../page/vm_page_limbo.ts';
import {
  page_few_needed,
  page_few_severe,
  page_few_target,
  page_few_unused,
  v_free_min,
  v_free_target,
} from '../page/vm_page_targets.ts';
import { phys_root, vm_phys } from '../page/vm_phys.ts';
import { tsleep, wakeup } from '../sync/subr_sleepqueue.ts';
import { poll_uma, uma_reclaim } from '../uma/uma_drain.ts';
import { uma_going_finish } from '../uma/uma_going.ts';
import { lowmem_period_ms, lowmem_tell } from './vm_lowmem.ts';
import {
  active_scan,
  cache_scan,
  inactive_scan,
  PASS_URGENT,
  scan_of,
  stats_scan,
} from './vm_pageout_scan.ts';
import { pagein_serve } from './vm_pagein.ts';
import { pager_turns } from './vm_pageout_still.ts';
import {
  max_launder,
  pageout_daemon,
  pageout_direct,
  pageout_full_stats_interval,
  pageout_inactive_target,
  pageout_over_limit,
  pageout_pager,
  pageout_root,
  pageout_stats_interval,
  pageout_stats_max,
  pageout_token,
  v_pdwakeups,
  vm_pageout_root,
} from './vm_pageout_vars.ts';

const phys = vm_phys;
const pageout = vm_pageout_root;

/** Time between two turns while nobody needs pages: some are zeroed in each, ms. */
const IDLE_MS = 100;
/** Time between two turns that found too little, ms. */
const AGAIN_MS = 500;
/** Clusters that are written in a turn that is not the first. */
const LAUNDER_ANY = 10000;
/** How long a request waits for the one before, until it looks whether that died, ms. */
const TOKEN_SLICE_MS = 50;
/** Pages that are free in earnest after it, beside those that it got: for tables and indexes. */
const SPARE_PAGES = 4;
/** Looks of a request through the queues: in the last ones every page that is unused goes. */
const DIRECT_PASSES = 4;

// --- for a request -------------------------------------------------------------------------------

/**
 * Gets n pages back for a request that found none, or is over the limit of the machine: free, or as
 * good as free.  It may sleep, and write; the caller holds no mutex.  Returns how many, or
 * about that; 0: nothing can be had now.
 */
export function vm_pageout_direct(n: number): number {
  const got = pageout_pages(n);
  return got > 0 || pageout_over_limit(n) > 0 ? got : uma_reclaim(true);
}
/** The same from the queues alone. */
export function pageout_pages(n: number): number {
  const w = pageout_token();
  for (let waited = false; atomic_cas(w, 0, thr.tid) !== 0; waited = true) {
    const holder = atomic_load(w);
    if (holder === thr.tid || !host_can_block()) return 0;
    tsleep(w, W_PAGEOUT, TOKEN_SLICE_MS, () => atomic_load(w) === holder);
    if (waited && enough(n)) return n;
    if (holder !== 0 && !cpu_alive(tid_cpu(holder))) reap_all();
  }
  counter_add(pageout_direct, 1);
  let got = 0;
  try {
    got = reclaim(n);
  } catch (e) {
    token_back(w);
    throw e;
  }
  token_back(w);
  return got;
}
function token_back(w: number): void {
  atomic_store(w, 0);
  wakeup(w);
}
/** Whether n pages can be had by now. */
function enough(n: number): boolean {
  return pageout_over_limit(n) <= 0 && vm_page_free_count() >= vm_page_reserved() + n;
}
function reclaim(n: number): number {
  const limited = pageout_over_limit(n) > 0;
  let got = vm_page_limbo_free();
  if (!limited && got < n)
    got += reserved_back(() => vm_page_free_count() < vm_page_reserved() + n);
  // Under the limit what is as good as free counts, too: it has to go.  A page is old there at the
  // first look that finds it unused: looks come as faults do, and not as time passes.
  if (limited) got += under_limit(n);
  const wanted = (): number => (limited ? pageout_over_limit(n) : n + SPARE_PAGES - got);
  for (let pass = 1; pass <= DIRECT_PASSES && wanted() > 0; pass++) {
    const s = scan_of(limited ? PASS_URGENT : pass, wanted(), wanted());
    inactive_scan(s);
    got += limited ? under_limit(n) : s.gained;
    s.shortage = wanted();
    active_scan(s);
  }
  // A wired page that a look took off its queue does not count any more: there is room without it.
  if (limited && wanted() <= 0) got = Math.max(got, n);
  // Page tables and indexes come from pages that are free in earnest.
  refill(vm_page_reserved() + n + SPARE_PAGES);
  return got;
}
/** Pages that are set aside for objects, and used by nobody, come first. Returns how many. */
function reserved_back(wanted: () => boolean): number {
  let got = 0;
  for (let n = 1; n > 0 && wanted(); got += n) n = vm_reserv_break();
  return got;
}
/** Frees what is as good as free until n pages more are within the limit. Returns how many. */
function under_limit(n: number): number {
  return cache_scan(() => pageout_over_limit(n) > 0);
}
/** The same for a request of the kernel, which wants n free pages. */
export function pageout_free(n: number): number {
  return pageout_pages(n) > 0 ? object_cache_free() + 1 : 0;
}

// --- the daemon ----------------------------------------------------------------------------------

/** What the daemon remembers from one turn to the next. */
export interface PageDaemon {
  pass: number;
  last_lowmem: number;
  /** When it looked at active pages without need last, ms. */
  last_stats: number;
  /** Time since it looked at all of them, ms. */
  since_full: number;
}
/** A new one. */
export function pagedaemon_new(): PageDaemon {
  const long_ago = Number.NEGATIVE_INFINITY;
  return { pass: 0, last_lowmem: long_ago, last_stats: now_ms(), since_full: 0 };
}
function needed_word(): number {
  return field_word(phys.needed, phys_root());
}
/** Whether pages are needed; who waits for some is woken when there are enough for that. */
function still_needed(): boolean {
  const w = needed_word();
  const free = vm_page_free_count();
  if (page_few_needed(free)) {
    atomic_store(w, 1); // some are taken without a look
    if (vm_page_count_min()) return true;
  } else if (!vm_page_count_min()) atomic_store(w, 0);
  if (atomic_load(field_word(phys.wanted, phys_root())) !== 0) vm_page_free_wakeup();
  return atomic_load(w) !== 0;
}
/** One turn. Returns how long to sleep until the next, ms; 0: not at all. */
export function vm_pageout_round(d: PageDaemon): number {
  poll();
  poll_uma();
  uma_going_finish(); // zones that wait for the caches of some CPU
  reserved_back(() => page_few_needed(vm_page_free_count()));
  if (still_needed()) {
    counter_add(v_pdwakeups, 1);
    const gained = scan(d);
    if (!vm_page_count_min()) vm_page_idle();
    if (!still_needed()) return 0;
    d.pass = gained > 0 ? 1 : d.pass + 1;
    return d.pass > 1 ? AGAIN_MS : 0;
  }
  d.pass = d.pass > 1 ? 1 : 0;
  vm_page_idle();
  stats(d);
  return IDLE_MS;
}
/** Looks through the queues. Returns how many pages came free, or as good as free. */
function scan(d: PageDaemon): number {
  reap_all();
  const now = now_ms();
  if (now - d.last_lowmem >= lowmem_period_ms()) {
    d.last_lowmem = now;
    lowmem_tell();
    slabs();
  }
  const refused = atomic_xchg(field_word(phys.deficit, phys_root()), 0);
  const free = vm_page_free_count();
  const pass = page_few_severe(free) ? Math.max(d.pass, 1) : d.pass;
  const budget = pass > 0 ? LAUNDER_ANY : sysctl_get(max_launder);
  const s = scan_of(pass, page_few_target(free) + refused, budget);
  if (pass > 0) pagers_ring();
  inactive_scan(s);
  if (s.dirty > 0) pagers_ring();
  s.shortage = page_few_target(vm_page_free_count());
  active_scan(s);
  refill(sysctl_get(v_free_min));
  if (vm_page_count_min()) slabs();
  return s.gained;
}
/** What allocators keep comes back, as long as that is of use. */
function slabs(): void {
  while (vm_page_free_count() < sysctl_get(v_free_target) && uma_reclaim(true, false) > 0);
}
/** So many pages are to be free in earnest: requests of the kernel take no others. */
function refill(pages: number): void {
  cache_scan(() => vm_page_free_count() < pages);
}
/** Every few seconds: pages grow old without need, a share of them or all. */
function stats(d: PageDaemon): void {
  const now = now_ms();
  const passed = now - d.last_stats;
  if (passed < sysctl_get(pageout_stats_interval) * 1000) return;
  d.last_stats = now;
  d.pass = 0;
  const target = pageout_inactive_target();
  const few = page_few_unused(vm_page_free_count(), pageq_count(PQ_INACTIVE), target);
  if (few <= 0) return;
  d.since_full += passed;
  const active = pageq_count(PQ_ACTIVE);
  const all = d.since_full >= sysctl_get(pageout_full_stats_interval) * 1000;
  if (all) d.since_full = 0;
  const most = sysctl_get(pageout_stats_max) || sysctl_get(v_free_target);
  stats_scan(all ? active : Math.ceil((most * active) / vm_page_count()));
}
/** The daemon's life: ends by the ESHUTDOWN or KernelPanic that a stopped CPU throws. */
function vm_pageout(): never {
  const d = pagedaemon_new();
  const w = needed_word();
  for (;;) {
    const ms = pager_turns(() => {
      pagein_serve();
      return vm_pageout_round(d);
    });
    if (ms > 0) tsleep(w, W_PSLEEP, ms, () => ms > IDLE_MS || atomic_load(w) === 0);
  }
}

// --- the others ----------------------------------------------------------------------------------

function launder_word(): number {
  return field_word(pageout.launder, pageout_root());
}
/** Dirty pages are to be written: the other pager threads take part. */
function pagers_ring(): void {
  const w = launder_word();
  if (atomic_load(w) !== 0) return;
  atomic_store(w, 1);
  wakeup(w);
}
/** Waits until dirty pages are to be written, and writes some. */
function pager_turn(): void {
  const w = launder_word();
  poll();
  poll_uma();
  tsleep(w, W_PSLEEP, AGAIN_MS, () => atomic_load(w) === 0);
  pager_turns(pagein_serve);
  if (atomic_load(w) === 0) return;
  atomic_store(w, 0);
  pager_turns(() => {
    inactive_scan(scan_of(1, page_few_target(vm_page_free_count()), sysctl_get(max_launder)));
  });
}
/**
 * The life of a thread that pages out: the first one is the page daemon, the others write beside
 * it, and one of them takes its place should it die.
 */
export function vm_pageout_thread(): never {
  atomic_store(pageout_pager(thr.cpu), 1);
  for (;;) {
    if (atomic_cas(pageout_daemon(), 0, thr.tid) === 0) vm_pageout();
    pager_turn();
  }
}
