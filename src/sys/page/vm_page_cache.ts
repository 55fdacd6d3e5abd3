/*
 * vm_page_cache: a few free pages in each CPU's reach.
 *
 * The free queues find the lowest page, of a colour, of a domain, and keep a tree of
 * runs for that; it takes a lock and some 200 ns a page.  Most requests want any page at
 * all.  So each CPU keeps some: zeroed ones apart from the others, taken and put by
 * plain loads and stores, filled from the queues and emptied into them by the dozen.
 *
 *      vm_page_get ── cache ── fill: half a cache of single pages, one lock
 *      vm_page_put ── cache ── full: half of it goes to the queues, one lock
 *
 * Zeroed pages come from the queues a few at a time; where those have none, a fault zeroes a few
 * of the other pages in the cache together before it locks anything.
 *
 * Short runs that come back (blocks of malloc that are a few pages long) have a list of
 * their own, so that they go where a run is wanted again: the queues give runs from the
 * highest addresses down and single pages from the lowest up, and a cache that mixed them
 * would spread the single ones over all of memory.  A run lies with its last page first:
 *
 *      rcached   | . . | 93 92 91 | 71 70 |     vm_page_get_run(2) takes 70, 71
 *
 * and if the n pages on top are no run, the queues give one.
 *
 * A cached page counts as free.  All caches together hold at most 1 / CACHE_SHARE of
 * the memory, a small machine has none.  Where the queues alone cannot serve a request
 * the caller's own cache is emptied first; reclaiming empties those of the others as it
 * does with items (uma_drain.ts): the owner is asked, or claimed while it is parked.
 *
 * Deaths.  PK_CACHE in the page array, with the CPU's number beside it, is what says
 * that a page is cached; the lists are only how its owner finds it.  On its way from
 * the cache to an owner a page is in the CPU's hand; between queues and cache it changes
 * its kind under the free lock, on the way out together with the list in one undo
 * section.  The reaper frees the pages that say they are in the dead CPU's cache.
 *
 * Locks: a cache is its CPU's own, or of whoever claims that CPU.
 */
import { sim_point } from '../machine/atomic.ts';
import { counter_add } from '../machine/counter.ts';
import {
  CPU_LATE,
  CPU_REQ_DRAIN,
  cpu_claim,
  cpu_slots,
  cpu_unclaim,
  pcpu as pcpu_,
  pcpu_of,
  type pcpu_t,
  thr as thr_,
} from '../machine/cpu.ts';
import { v_reap_pages } from '../machine/death.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { host_sleep } from '../machine/host.ts';
import { panic } from '../machine/panic.ts';
import { elem } from '../machine/struct.ts';
import { sysctl_value } from '../machine/sysctl_decl.ts';
import {
  PG_ZERO as PG_ZERO_,
  PK_CACHE as PK_CACHE_,
  PK_FREE,
  PK_HAND as PK_HAND_,
  PK_MASK,
  VM_ALLOC_ZERO as VM_ALLOC_ZERO_,
  vm_page,
} from '../h/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_commit, undo_end } from '../sync/undo.ts';
import {
  pmap_zero_pages,
  v_alloc,
  v_tfree,
  v_zeroed,
  vm_page_alloc,
  vm_page_alloc_run,
  vm_page_cached,
  vm_page_free_run,
  vm_page_free_settled,
  vm_page_hand_has,
  vm_page_hand_length,
  vm_page_in_hand,
  vm_page_left,
  vm_page_reserved,
  vm_page_settle,
} from './vm_page.ts';
import { vm_page_limbo_free } from './vm_page_limbo.ts';
import {
  lowest_bit,
  phys_add_pages,
  phys_low_word,
  phys_remove_bits,
  phys_root,
  vm_phys,
} from './vm_phys.ts';
import { vm_reserv_reclaim } from './vm_reserv.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const page = vm_page;
const phys = vm_phys;
const pcpu = pcpu_;
const thr = thr_;
const opt = opt_;
const PK_CACHE = PK_CACHE_;
const PK_HAND = PK_HAND_;
const PG_ZERO = PG_ZERO_;
const VM_ALLOC_ZERO = VM_ALLOC_ZERO_;

sysctl_value(
  'vm.stats.vm.v_cached_count',
  { type: 'uint', help: 'Free pages in the caches of CPUs' },
  vm_page_cached,
);
/** Zeroed pages that are fetched, or made, at a time. */
const ZEROED_BATCH = 8;
/** Longest run that is kept: half of a list. */
const RUN_SHARE = 2;
/** The lists of a cache: plain pages, zeroed ones, pages of runs. */
const PLAIN = 0;
const ZEROED = 1;
const RUNS = 2;
const LISTS = [PLAIN, ZEROED, RUNS];
const count_of = (list: number) =>
  list === PLAIN ? pcpu.cached_n : list === ZEROED ? pcpu.zcached_n : pcpu.rcached_n;
const pages_of = (list: number) =>
  list === PLAIN ? pcpu.cached : list === ZEROED ? pcpu.zcached : pcpu.rcached;
/** Whether no list of that cache has more than `keep` pages. */
function has_only(pc: pcpu_t, keep: number): boolean {
  return LISTS.every((list) => count_of(list)[pc] <= keep);
}

// --- taking and putting -----------------------------------------------------------------

/**
 * Takes any page: a zeroed one if `req` has VM_ALLOC_ZERO and there is one at hand;
 * PG_ZERO in its flags says what came.  It is in this CPU's hand: the caller settles it.
 * 0: none within the reserve of its class.  Never sleeps.
 */
export function vm_page_get(req: number): number {
  const pc = thr.pc;
  if ((req & VM_ALLOC_ZERO) !== 0) return get_zeroed(req);
  const n = pcpu.cached_n[pc] - 1;
  if (n < 0) return get_slow(req);
  const m = pcpu.cached[((pc + n) | 0) as pcpu_t];
  vm_page_in_hand(m, 1);
  page.info[m] = PK_HAND;
  pcpu.cached_n[pc] = n;
  counter_add(v_alloc, 1);
  return m;
}
function get_zeroed(req: number): number {
  const pc = thr.pc;
  const n = pcpu.zcached_n[pc] - 1;
  if (n < 0) return get_zeroed_slow(req);
  const m = pcpu.zcached[elem(pc, n)];
  vm_page_in_hand(m, 1);
  page.info[m] = PK_HAND;
  pcpu.zcached_n[pc] = n;
  counter_add(v_alloc, 1);
  return m;
}
/**
 * The cache has no zeroed page.  A few come from the queues; a cache full of them would leave
 * none to others.  Where the queues have none, some other page is taken: its caller may hold
 * locks, and lets go of them while it is filled.
 */
function get_zeroed_slow(req: number): number {
  const ph = phys_root();
  if (phys.cache_max[ph] === 0 || opt.FAILPOINTS) return get_slow(req);
  if (phys.zeroed[ph] !== 0) fill(ZEROED_BATCH, true);
  return pcpu.zcached_n[thr.pc] !== 0 ? get_zeroed(req) : vm_page_get(req & ~VM_ALLOC_ZERO);
}
/**
 * Sees to it that this CPU has zeroed pages at hand, as far as there are pages: for one that is
 * about to want some, and holds no lock.
 */
export function vm_page_zero_ahead(): void {
  if (pcpu.zcached_n[thr.pc] === 0) zero_ahead_slow();
}
function zero_ahead_slow(): void {
  const ph = phys_root();
  const max = phys.cache_max[ph];
  if (max === 0 || opt.FAILPOINTS) return;
  if (phys.zeroed[ph] !== 0) fill(ZEROED_BATCH, true);
  if (pcpu.zcached_n[thr.pc] !== 0) return;
  if (pcpu.cached_n[thr.pc] === 0) fill(max >> 1, false);
  zero_some(ZEROED_BATCH);
}
/**
 * Zeroes up to n pages of this CPU's cache, those that came last: they may be in the
 * processor's cache still.  Several in one go, because a processor that zeroes memory which it
 * has not at hand waits, and waits for the next page at the same time; an atomic operation in
 * between would end each wait first.
 */
function zero_some(n: number): void {
  const { pc } = thr;
  const left = Math.max(0, pcpu.cached_n[pc] - n);
  const done = pcpu.cached_n[pc] - left;
  for (let i = left; i < left + done; ) {
    const first = pcpu.cached[elem(pc, i)];
    let length = 1;
    while (i + length < left + done && pcpu.cached[elem(pc, i + length)] === first + length) {
      length++;
    }
    pmap_zero_pages(first, length);
    i += length;
  }
  while (pcpu.cached_n[pc] > left) {
    const last = pcpu.cached_n[pc] - 1;
    const at = pcpu.zcached_n[pc];
    const m = pcpu.cached[elem(pc, last)];
    page.flags[m] = PG_ZERO;
    pcpu.zcached[elem(pc, at)] = m;
    pcpu.cached_n[pc] = last;
    if (opt.SIM) sim_point(m);
    pcpu.zcached_n[pc] = at + 1;
  }
  counter_add(v_zeroed, done);
}
/** The cache has none of that sort, or pages are few. */
function get_slow(req: number): number {
  const ph = phys_root();
  const zero = (req & VM_ALLOC_ZERO) !== 0;
  const max = phys.cache_max[ph];
  if (max > 0 && !zero && !opt.FAILPOINTS) fill(max >> 1, false);
  const m = vm_page_alloc(-1, req);
  if (m !== 0 || spare() === 0) return m;
  return vm_page_alloc(-1, req); // what this CPU kept, or waited, was all that was left
}
/**
 * Fetches up to n pages into this CPU's cache, if that leaves enough in the queues; zeroed ones,
 * or others, if there are such.
 */
function fill(n: number, zeroed: boolean): void {
  const ph = phys_root();
  if (phys.free[ph] <= vm_page_reserved() + n) return;
  mtx_lock(phys.lock, ph);
  const found = phys_low_word(ph, n, zeroed);
  const w = Math.floor(found / 2 ** 32);
  const bits = found | 0;
  let taken = 0;
  for (let left = bits; left !== 0; left &= left - 1) {
    const m = (w << 5) + lowest_bit(left);
    const is_zero = (page.flags[m] & PG_ZERO) !== 0;
    if ((is_zero ? pcpu.zcached_n : pcpu.cached_n)[thr.pc] >= phys.cache_max[ph]) break;
    // As in vm_page_carry_out: a page that says FREE, and that others may get, is never noted.
    vm_page_in_hand(m, 0);
    page.info[m] = PK_HAND;
    if (opt.SIM) sim_point(m);
    pcpu.in_hand[vm_page_hand_length()] = 1;
    cache_in(m, is_zero);
    vm_page_settle();
    taken |= left & -left;
  }
  if (taken !== 0) phys_remove_bits(ph, w, taken);
  mtx_unlock(phys.lock, ph);
}
/** A page of this CPU's goes into its cache, which has room. */
function cache_in(m: number, zero: boolean): void {
  const pc = thr.pc;
  const n = zero ? pcpu.zcached_n[pc] : pcpu.cached_n[pc];
  const at = ((pc + n) | 0) as pcpu_t;
  if (zero) pcpu.zcached[at] = m;
  else pcpu.cached[at] = m;
  page.owner[m] = thr.cpu;
  page.flags[m] = zero ? PG_ZERO : 0;
  page.info[m] = PK_CACHE; // from here on it is found as cached
  if (opt.SIM) sim_point(m);
  if (zero) pcpu.zcached_n[pc] = n + 1;
  else pcpu.cached_n[pc] = n + 1;
}
/** Frees one page; with `zero` the caller certifies that it is all zeros. */
export function vm_page_put(m: number, zero = false): void {
  const pc = thr.pc;
  const n = zero ? pcpu.zcached_n[pc] : pcpu.cached_n[pc];
  const max = phys.cache_max[phys_root()];
  // Somebody who waits for pages looks at the queues.
  if (n >= max || phys.wanted[phys_root()] !== 0) return put_slow(m, zero, max);
  if (opt.INVARIANTS) put_check(m);
  cache_in(m, zero);
  if (pcpu.in_hand_n[pc] !== 0 && vm_page_hand_has(m, 1)) vm_page_settle();
  counter_add(v_tfree, 1);
}
function put_check(m: number): void {
  const kind = page.info[m] & PK_MASK;
  if (kind === PK_FREE || kind === PK_CACHE) panic('vm_page_put: freeing free page', m);
  vm_page_left(m);
}
/** The cache is full, or there is none: half of it goes to the queues, and the page with it. */
function put_slow(m: number, zero: boolean, max: number): void {
  if (max > 0) give_back(thr.pc, max >> 1);
  vm_page_free_run(m, 1, zero);
}

// --- runs -----------------------------------------------------------------------------------

/**
 * Takes n pages that lie together, a run kept by this CPU if one of that length is on top.
 * They are in this CPU's hand.  0: there is no such run within the reserve of its class.
 */
export function vm_page_get_run(n: number, req: number): number {
  const { pc } = thr;
  const left = pcpu.rcached_n[pc] - n;
  if (left >= 0 && !opt.FAILPOINTS) {
    const m = pcpu.rcached[elem(pc, left + n - 1)];
    let i = 1;
    while (i < n && pcpu.rcached[elem(pc, left + n - 1 - i)] === m + i) i++;
    if (i === n) {
      take_run(m, n);
      pcpu.rcached_n[pc] = left;
      counter_add(v_alloc, n);
      return m;
    }
  }
  const m = vm_page_alloc_run(n, req);
  if (m !== 0 || spare() === 0) return m;
  return vm_page_alloc_run(n, req);
}
/** What this CPU kept, what waited, or else what was set aside, becomes free. Returns how many. */
function spare(): number {
  const n = vm_page_limbo_free() + vm_page_cache_empty();
  return n > 0 ? n : vm_reserv_reclaim();
}
/** The cached pages m..m+n-1 come into the hand: a page is noted there, then it says so. */
function take_run(m: number, n: number): void {
  vm_page_in_hand(m, 0);
  const length = vm_page_hand_length();
  for (let i = 0; i < n; i++) {
    pcpu.in_hand[length] = i + 1;
    if (opt.SIM) sim_point(m + i);
    page.info[m + i] = PK_HAND;
    page.owner[m + i] = 0;
    if (opt.SIM) sim_point(m + i);
  }
}
/** Frees the run m..m+n-1. */
export function vm_page_put_run(m: number, n: number): void {
  const { pc } = thr;
  const max = phys.cache_max[phys_root()];
  if (n * RUN_SHARE > max || phys.wanted[phys_root()] !== 0) return vm_page_free_run(m, n);
  if (pcpu.rcached_n[pc] + n > max) empty_list(pc, RUNS, 0);
  if (opt.INVARIANTS) for (let i = m; i < m + n; i++) put_check(i);
  if (!vm_page_hand_has(m, n)) vm_page_in_hand(m, n);
  for (let i = m + n - 1; i >= m; i--) {
    const at = pcpu.rcached_n[pc];
    page.owner[i] = thr.cpu;
    page.index[i] = 0;
    page.flags[i] = 0;
    pcpu.rcached[elem(pc, at)] = i;
    page.info[i] = PK_CACHE; // from here on it is found as cached
    if (opt.SIM) sim_point(i);
    pcpu.rcached_n[pc] = at + 1;
  }
  vm_page_settle();
  counter_add(v_tfree, n);
}

// --- emptying ------------------------------------------------------------------------------

/** Gives this CPU's cached pages to the free queues. Returns how many. */
export function vm_page_cache_empty(): number {
  const n = give_back(thr.pc, 0);
  if (n > 0) vm_page_free_settled();
  return n;
}
/** The same for a CPU that is parked. False: it is not, or not any more. */
export function vm_page_cache_claim(cpu: number): boolean {
  const pc = pcpu_of(cpu);
  if (has_only(pc, 0)) return true; // a hint: it keeps what it hides
  const ph = phys_root();
  mtx_lock(phys.lock, ph);
  const ok = cpu_claim(cpu, CPU_REQ_DRAIN | CPU_LATE); // innermost: the lock is taken before
  if (ok) {
    empty_locked(pc, 0);
    cpu_unclaim(cpu);
  }
  mtx_unlock(phys.lock, ph);
  if (ok) vm_page_free_settled();
  return ok;
}
/** Gives pages of this CPU's cache to the queues until `keep` of each sort are left. */
function give_back(pc: pcpu_t, keep: number): number {
  if (has_only(pc, keep)) return 0;
  const ph = phys_root();
  mtx_lock(phys.lock, ph);
  const n = empty_locked(pc, keep);
  mtx_unlock(phys.lock, ph);
  return n;
}
/** The same of one list alone. */
function empty_list(pc: pcpu_t, list: number, keep: number): void {
  const ph = phys_root();
  const pages: number[] = [];
  mtx_lock(phys.lock, ph);
  list_out(pc, list, keep, pages);
  phys_add_pages(ph, pages);
  mtx_unlock(phys.lock, ph);
}
/** The cache of `pc` is this CPU's, or claimed; the free lock is held. Returns how many. */
function empty_locked(pc: pcpu_t, keep: number): number {
  const pages: number[] = [];
  for (const list of LISTS) list_out(pc, list, keep, pages);
  phys_add_pages(phys_root(), pages);
  return pages.length;
}
/**
 * Takes pages off a list until `keep` are left.  List and page array change together: a
 * claimed CPU goes on with its cache when its claimer is dead.
 */
function list_out(pc: pcpu_t, list: number, keep: number, pages: number[]): void {
  const count = count_of(list);
  undo_begin(phys.lock, phys_root());
  while (count[pc] > keep) {
    const m = pages_of(list)[elem(pc, count[pc] - 1)];
    save(count, pc);
    save(page.info, m);
    page.info[m] = PK_FREE; // found as free from here on, should this thread die
    count[pc]--;
    undo_commit();
    pages.push(m);
  }
  undo_end();
}

/** The pages in a dead CPU's cache become free. */
export function vm_page_cache_reap(cpu: number): void {
  const ph = phys_root();
  if (ph === 0 || phys.cache_max[ph] === 0) return;
  const pc = pcpu_of(cpu);
  for (const list of LISTS) count_of(list)[pc] = 0;
  for (let m = phys.low[ph]; m < phys.high[ph]; m++) {
    if ((page.info[m] & PK_MASK) !== PK_CACHE || page.owner[m] !== cpu) continue;
    const zero = (page.flags[m] & PG_ZERO) !== 0;
    vm_page_free_run(m, 1, zero);
    counter_add(v_reap_pages, 1);
  }
}
/**
 * Proves that each cached page is in one cache, its owner's.  The caller's CPU is quiet;
 * the page daemon may be at work, or settle a dead CPU, so what looks wrong is looked at
 * again.
 */
export function vm_page_cache_check(): void {
  let wrong = caches_wrong();
  for (let look = 1; wrong !== '' && look < CHECK_LOOKS; look++) {
    if (!opt.SIM) host_sleep(1);
    wrong = caches_wrong();
  }
  if (wrong !== '') panic('vm_page_cache_check', wrong);
}
const CHECK_LOOKS = 20;
function caches_wrong(): string {
  const ph = phys_root();
  const seen = new Set<number>();
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const pc = pcpu_of(cpu);
    for (const list of LISTS) {
      const n = count_of(list)[pc];
      for (let i = 0; i < n; i++) {
        const m = pages_of(list)[elem(pc, i)];
        if (seen.has(m)) return `page ${m} is in two caches`;
        seen.add(m);
        const cached = (page.info[m] & PK_MASK) === PK_CACHE;
        if (!cached || page.owner[m] !== cpu) return `page ${m} is not cached by cpu${cpu}`;
        if (((page.flags[m] & PG_ZERO) !== 0) !== (list === ZEROED)) return `page ${m}: zero`;
      }
    }
  }
  for (let m = phys.low[ph]; m < phys.high[ph]; m++) {
    if ((page.info[m] & PK_MASK) === PK_CACHE && !seen.has(m)) return `page ${m} is in no cache`;
  }
  return '';
}
