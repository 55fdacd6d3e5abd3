/*
 * vm_page: giving pages out and taking them back.
 *
 * A page is FREE, or in the cache of a CPU (vm_page_cache.ts), or in the HAND of
 * the CPU that just took it, or belongs to an owner who wrote its kind into the
 * page array.  Three reserve levels guard the last pages of the free queues:
 *
 *      NORMAL      while more than v_free_reserved pages are free
 *      SYSTEM      while more than v_interrupt_free_min (2) are
 *      INTERRUPT   to the last page
 *
 * A request that asks for zeroed pages gets them if there are any, and others if
 * not; PG_ZERO says what came, and the caller zeroes the rest (vm_page_zero_fill).
 * Idle CPUs zero free pages ahead.
 *
 * Deaths.  Between the free queues and their owner pages are noted in the CPU's
 * hand; the owner's first section clears the note (vm_page_settle).  The hand is
 * a small stack of runs, because whoever has taken pages may need others before
 * these have an owner: the constructor of an item that allocates, for one.  Runs
 * leave it in the reverse order.  The reaper frees what a dead CPU still had in
 * its hand.  The free lock is of class rebuild: bitmaps and tree are made anew
 * from the page array.
 */
import { atomic_add, atomic_load, atomic_store, sim_point } from '../machine/atomic.ts';
import { counter_add, counter_here, counter_u64 } from '../machine/counter.ts';
import {
  cpu_slots,
  HAND_RUNS as HAND_RUNS_,
  PAGE_CACHE_MAX,
  pcpu as pcpu_,
  pcpu_of,
  type pcpu_t,
  thr as thr_,
} from '../machine/cpu.ts';
import { cpus_attached, dead_each, v_reap_pages } from '../machine/death.ts';
import { EDEADLK, EWOULDBLOCK } from '../machine/errno.ts';
import { M, machine as machine_ } from '../machine/header.ts';
import { life as life_ } from '../machine/life.ts';
import { hw as hw_, memory_state, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { columns_words, elem, field_word } from '../machine/struct.ts';
import { CTLFLAG_RWTUN, sysctl_get, sysctl_int, sysctl_value } from '../machine/sysctl_decl.ts';
import {
  PG_ZERO,
  PK_BOOT,
  PK_FREE,
  PK_GUARD,
  PK_HAND,
  PK_LARGE,
  PK_MALLOC,
  PK_MASK,
  PK_LIMBO,
  PK_QUARANTINE,
  PK_TABLE,
  PK_REST,
  PK_SLAB,
  PK_WIRED,
  VM_ALLOC_CLASS,
  VM_ALLOC_INTERRUPT,
  VM_ALLOC_NORMAL,
  VM_ALLOC_SYSTEM,
  VM_ALLOC_ZERO,
  vm_page,
} from '../h/vm_page.ts';
import { mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { LC_FREE } from '../sync/lock_order.ts';
import { msleep, wakeup } from '../sync/subr_sleepqueue.ts';
import { W_VMWAIT } from '../machine/wmesg.ts';
import { guard_make } from './vm_guard.ts';
import { limbo_check } from './vm_page_limbo.ts';
import {
  INTERRUPT_FREE_MIN,
  page_few_min,
  page_few_needed,
  page_targets_set,
  v_free_reserved,
} from './vm_page_targets.ts';
import {
  DOMAINS_MAX,
  PHYS_COLUMNS,
  phys_add,
  phys_boot,
  phys_check,
  phys_domain,
  phys_highest_run,
  phys_limited_run,
  phys_longest,
  phys_lowest,
  phys_rebuild,
  phys_remove,
  phys_root,
  type RunLimits,
  vm_phys,
} from './vm_phys.ts';

export { vm_page_count } from './vm_page_targets.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const hw = hw_;
const machine = machine_;
const life = life_;
const page = vm_page;
const phys = vm_phys;
const pcpu = pcpu_;
const thr = thr_;
const opt = opt_;
const HAND_RUNS = HAND_RUNS_;

export const v_tfree = counter_u64('vm.stats.vm.v_tfree', 'Pages freed');
export const v_prezero = counter_u64('vm.stats.misc.cnt_prezero', 'Free pages zeroed by idle CPUs');
export const v_zeroed = counter_u64(
  'vm.stats.misc.zeroed',
  'Pages zeroed because a request wanted it',
);
export const v_alloc = counter_u64('vm.stats.vm.v_talloc', 'Pages taken');

/** All page caches of CPUs together hold at most this share of the memory: 1 / CACHE_SHARE. */
const CACHE_SHARE = 32;
/** A cache of fewer pages is not worth having. */
const CACHE_WORTH = 4;

const idle_zero_max = sysctl_int('vm.idlezero_maxrun', {
  value: 16,
  min: 0,
  max: 1024,
  unit: 'pages',
  flags: CTLFLAG_RWTUN,
  help: 'Free pages that an idle CPU zeroes at a time',
});
const idle_zero = sysctl_int('vm.idlezero_enable', {
  value: 1,
  min: 0,
  max: 1,
  flags: CTLFLAG_RWTUN,
  help: 'Idle CPUs zero free pages ahead',
});

const free_pages = (): number => phys.free[phys_root()] + vm_page_cached();
/** Free pages in the caches of CPUs: a sample while they run. */
export function vm_page_cached(): number {
  let n = 0;
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const pc = pcpu_of(cpu);
    n += pcpu.cached_n[pc] + pcpu.zcached_n[pc] + pcpu.rcached_n[pc];
  }
  return n;
}
sysctl_value('vm.stats.vm.v_free_count', { type: 'uint', help: 'Free pages' }, free_pages);
sysctl_value('vm.stats.vm.v_page_size', { type: 'uint', help: 'Bytes in a page' }, () => 4096);
sysctl_value(
  'vm.stats.misc.zero_page_count',
  { type: 'uint', help: 'Free pages known to be zero' },
  () => phys.zeroed[phys_root()],
);
sysctl_value(
  'vm.stats.vm.v_free_lowest',
  {
    type: 'uint',
    help: 'Fewest pages that were ever in the free queues; those in caches of CPUs do not count',
  },
  () => phys.lowest[phys_root()],
);
sysctl_value(
  'vm.stats.misc.page_array_bytes',
  { type: 'uint', unit: 'bytes', help: 'What the page array and the free queues take for a page' },
  () => {
    const rows = Math.floor(memory_state.size / 4096);
    const words = PHYS_COLUMNS.reduce((n, c) => n + columns_words(c.name, c.rows(rows)), 0);
    return Math.ceil((words * 4) / rows);
  },
);
sysctl_value(
  'vm.longest_run',
  { type: 'uint', unit: 'pages', help: 'Pages in the longest run of free pages' },
  phys_longest,
);

// --- startup -----------------------------------------------------------------------

/** Lays out the free page queues, while boot_alloc still works. */
export function vm_page_boot(): void {
  phys_boot();
  mtx_init(phys.lock, phys_root(), LC_FREE);
}
/** Hands every page that boot did not take to the free queues. */
export function vm_page_startup(): void {
  const ph = phys_root();
  const guard = Math.ceil(machine.boot_next[M] / PAGE_WORDS);
  const low = guard + 1;
  const high = machine.npages[M];
  machine.boot_end[M] = machine.boot_next[M]; // boot_alloc is over
  machine.first_page[M] = low;
  phys.low[ph] = low;
  phys.high[ph] = high;
  const domains = machine.domains[M];
  for (let d = 0; d <= DOMAINS_MAX; d++) {
    const share = Math.floor(((high - low) * Math.min(d, domains)) / domains);
    phys.start[elem(ph, d)] = low + share;
  }
  const rows = Math.floor(memory_state.size / 4096);
  for (let m = 0; m < rows; m++) page.info[m] = PK_BOOT;
  guard_make(guard, 0, 0);
  for (let m = low; m < high; m++) {
    page.info[m] = PK_FREE;
    page.flags[m] = m >= machine.zeroed_from[M] ? PG_ZERO : 0;
  }
  phys_rebuild(ph);
  const share = Math.floor((high - low) / CACHE_SHARE / cpu_slots() / 3);
  const each = Math.min(PAGE_CACHE_MAX, share) & ~1;
  phys.cache_max[ph] = each >= CACHE_WORTH ? each : 0;
  phys.lowest[ph] = phys.free[ph];
  page_targets_set(high - low);
}
// --- taking pages --------------------------------------------------------------------

/** Free pages that a request of this class must leave. */
export function vm_page_reserve(req: number): number {
  const cls = req & VM_ALLOC_CLASS;
  if (cls === VM_ALLOC_INTERRUPT) return 0;
  const kept = cls === VM_ALLOC_SYSTEM ? INTERRUPT_FREE_MIN : sysctl_get(v_free_reserved);
  return kept;
}
/** Free pages that an ordinary request must leave. */
export function vm_page_reserved(): number {
  return vm_page_reserve(VM_ALLOC_NORMAL);
}

/** What tests make fail: called before each page request with the pages wanted. */
export const page_failpoint: { refuse: ((n: number) => boolean) | null } = { refuse: null };

/** Word of the record `pc` at which run `i` of its hand stands: first page, pages. */
function hand_run(pc: pcpu_t, i: number): pcpu_t {
  return elem(pc, i * 2);
}
/** Notes pages as in this CPU's hand: a run on top of those that are there. */
export function vm_page_in_hand(m: number, n: number): void {
  const depth = pcpu.in_hand_n[thr.pc];
  if (depth >= HAND_RUNS) panic('vm_page_in_hand: more runs in hand than it can hold', depth);
  const at = hand_run(thr.pc, depth);
  pcpu.in_hand[at] = m;
  pcpu.in_hand[elem(at, 1)] = n;
  pcpu.in_hand_n[thr.pc] = depth + 1; // the run counts only when it is whole
  if (opt.SIM) sim_point(at);
}
/** The run that came into the hand last has an owner now. */
export function vm_page_settle(): void {
  pcpu.in_hand_n[thr.pc]--;
}
/** Word of the record at which the length of the run on top stands. */
export function vm_page_hand_length(): pcpu_t {
  return elem(hand_run(thr.pc, pcpu.in_hand_n[thr.pc] - 1), 1);
}
/** Whether the run on top of this CPU's hand is just these pages. */
export function vm_page_hand_has(m: number, n: number): boolean {
  const depth = pcpu.in_hand_n[thr.pc];
  if (depth === 0) return false;
  const at = hand_run(thr.pc, depth - 1);
  return pcpu.in_hand[at] === m && pcpu.in_hand[elem(at, 1)] === n;
}
/**
 * Takes pages off the free queues.  The note grows behind the pages that are in
 * hand, and shrinks before they are free: a page that another CPU may have is
 * never in it.  So a CPU that dies under the free lock may leave one page that
 * says HAND and is in no note: vm_page_recover finds it.
 */
export function vm_page_carry_out(m: number, n: number): void {
  vm_page_in_hand(m, 0);
  const length = vm_page_hand_length();
  for (let i = m; i < m + n; i++) {
    page.info[i] = PK_HAND;
    if (opt.SIM) sim_point(i);
    pcpu.in_hand[length] = i - m + 1;
  }
  phys_remove(phys_root(), m, n);
}

/**
 * Takes one page: of colour `color`, or of any if it is -1; from domain
 * `domain` first, or from any if it is -1.  Prefers a zeroed page if `req` has
 * VM_ALLOC_ZERO; PG_ZERO in its flags says what came.  The page is in hand:
 * the caller settles it.  0: none within the reserve.  Never sleeps.
 */
export function vm_page_alloc(color: number, req: number, domain = -1): number {
  const ph = phys_root();
  if (opt.FAILPOINTS && page_failpoint.refuse?.(1)) return 0;
  mtx_lock(phys.lock, ph);
  let m = 0;
  if (phys.free[ph] > vm_page_reserve(req)) {
    const zero = (req & VM_ALLOC_ZERO) !== 0;
    m = find_page(zero, color, domain);
    if (m !== 0) vm_page_carry_out(m, 1);
  }
  mtx_unlock(phys.lock, ph);
  if (m === 0) {
    pagedaemon_wakeup();
    return 0;
  }
  pagedaemon_poke();
  counter_add(v_alloc, 1);
  return m;
}
function find_page(zero: boolean, color: number, domain: number): number {
  const ph = phys_root();
  const n = machine.domains[M];
  if (domain >= 0 && n > 1) {
    const lo = phys.start[elem(ph, domain)];
    const m = find_in(zero, color, lo, phys.start[elem(ph, domain + 1)]);
    if (m !== 0) return m;
  }
  return find_in(zero, color, phys.low[ph], phys.high[ph]);
}
/** The right colour first, zeroed or not as preferred; then any colour likewise. */
function find_in(zero: boolean, color: number, lo: number, hi: number): number {
  const ph = phys_root();
  if (color >= 0) {
    const mask = 1 << (color & 31);
    const m = phys_lowest(ph, zero, mask, lo, hi) || phys_lowest(ph, !zero, mask, lo, hi);
    if (m !== 0) return m;
  }
  if (zero) return phys_lowest(ph, true, -1, lo, hi) || phys_lowest(ph, false, -1, lo, hi);
  return phys_lowest(ph, false, -1, lo, hi) || phys_lowest(ph, true, -1, lo, hi);
}

/**
 * Takes n pages that lie together, from the highest addresses down, within
 * `limits` if given.  In hand, like vm_page_alloc.  0: there is no such run.
 * Panics on an alignment or a boundary that is no power of two: no run has one.
 */
export function vm_page_alloc_run(n: number, req: number, limits?: RunLimits): number {
  const ph = phys_root();
  if (n < 1) panic('vm_page_alloc_run: pages', n);
  if (limits) {
    const { align, boundary } = limits;
    if (align < 1 || (align & (align - 1)) !== 0) panic('vm_page_alloc_run: alignment', align);
    if ((boundary & (boundary - 1)) !== 0) panic('vm_page_alloc_run: boundary', boundary);
  }
  if (opt.FAILPOINTS && page_failpoint.refuse?.(n)) return 0;
  mtx_lock(phys.lock, ph);
  let m = 0;
  if (phys.free[ph] - n >= vm_page_reserve(req)) {
    m = limits ? phys_limited_run(ph, n, limits) : phys_highest_run(ph, n);
    if (m !== 0) vm_page_carry_out(m, n);
  }
  mtx_unlock(phys.lock, ph);
  pagedaemon_poke();
  if (m !== 0) counter_add(v_alloc, n);
  return m;
}
/** The limits of domain `d`, for runs. */
export function vm_page_domain_limits(d: number): RunLimits {
  const ph = phys_root();
  const low = phys.start[elem(ph, d)];
  return { low, high: phys.start[elem(ph, d + 1)], align: 1, boundary: 0 };
}
/** Domain of a page. */
export function vm_page_domain(m: number): number {
  return phys_domain(phys_root(), m);
}

/** Makes pages m..m+n-1 zero, skipping those that are; for pages just allocated. */
export function vm_page_zero_fill(m: number, n: number): void {
  let done = 0;
  for (let i = m; i < m + n; i++) {
    if (page.flags[i] & PG_ZERO) continue;
    pmap_zero_page(i);
    done++;
  }
  if (done > 0) counter_add(v_zeroed, done);
}
/** Fills a page with zeros. */
export function pmap_zero_page(m: number): void {
  hw.fill(page_word(m), 0, PAGE_WORDS);
}
/** Fills pages m..m+n-1 with zeros. */
export function pmap_zero_pages(m: number, n: number): void {
  hw.fill(page_word(m), 0, n * PAGE_WORDS);
}
/** Copies a page. */
export function pmap_copy_page(from: number, to: number): void {
  hw.copy(page_word(to), page_word(from), PAGE_WORDS);
}

// --- giving pages back ------------------------------------------------------------------

/** Proves that the owner of a page that is being freed has left nothing at it. */
export function vm_page_left(m: number): void {
  const left = (what: string, v: number): void => {
    if (v !== 0) panic(`vm_page_free: page ${m}: ${what}`, v);
  };
  left('it is busy', page.busy[m]);
  left('valid or dirty blocks', page.state[m]);
  left('it is on a queue', page.queue[m] | page.next[m] | page.prev[m]);
  left('it is wired or lent', page.wired[m]);
  left('it is mapped', page.map_pmap[m] | page.map_page[m]);
  left('it has a slot of the swap area', page.slot[m]);
  left('it is marked as used or written to', page.ref[m] | page.mod[m]);
}

/** Frees pages m..m+n-1. With `zero` the caller certifies that they are all zeros. */
export function vm_page_free_run(m: number, n: number, zero = false): void {
  const ph = phys_root();
  if (opt.INVARIANTS) {
    if (m < phys.low[ph] || m + n > phys.high[ph]) panic('vm_page_free: not a page', m, n);
    for (let i = m; i < m + n; i++) {
      if ((page.info[i] & PK_MASK) === PK_FREE) panic('vm_page_free: freeing free page', i);
      vm_page_left(i);
    }
  }
  if (!vm_page_hand_has(m, n)) vm_page_in_hand(m, n);
  for (let i = m; i < m + n; i++) {
    page.info[i] = PK_HAND;
    page.owner[i] = 0;
    page.index[i] = 0;
    page.flags[i] = zero ? PG_ZERO : 0;
  }
  const length = vm_page_hand_length();
  mtx_lock(phys.lock, ph);
  for (let i = m + n - 1; i >= m; i--) {
    pcpu.in_hand[length] = i - m;
    if (opt.SIM) sim_point(i);
    page.info[i] = PK_FREE;
  }
  phys_add(ph, m, n, zero);
  vm_page_settle();
  mtx_unlock(phys.lock, ph);
  counter_add(v_tfree, n);
  vm_page_free_settled();
}
/** Pages came back to the queues: who waits for pages looks again. */
export function vm_page_free_settled(): void {
  if (asking) due = true;
  else if (atomic_load(field_word(phys.wanted, phys_root())) !== 0) vm_page_free_wakeup();
}
/* Of this thread: a request runs whose own frees wake nobody; whether there were such. */
let asking = false;
let due = false;
/**
 * Runs a request for memory by one who is queued among those who wait for pages, and never
 * sleeps.  One that fails may free pages which it took itself, or which the one before
 * took for a bucket or for headers: woken by them, its thread would ask again without end,
 * and two threads by turns.  So who waits is told at the end, and only if this CPU gave more
 * than it took.
 */
export function vm_page_ask<T>(request: () => T): T {
  const before = given();
  asking = true;
  let result: T;
  try {
    result = request();
  } catch (e) {
    asking = due = false;
    vm_page_free_settled();
    throw e;
  }
  asking = false;
  if (due && given() - before > 0) vm_page_free_settled();
  due = false;
  return result;
}
/** Pages that this CPU gave, less those that it took. */
function given(): number {
  return (counter_here(v_tfree) - counter_here(v_alloc)) | 0;
}
/** Frees one page. */
export function vm_page_free(m: number, zero = false): void {
  vm_page_free_run(m, 1, zero);
}
/** Wakes those who wait for pages; they look again and sleep again if it is too early. */
export function vm_page_free_wakeup(): void {
  const ph = phys_root();
  atomic_store(field_word(phys.wanted, ph), 0);
  wakeup(ph);
}

/**
 * Sleeps until pages come back, at most `ms`.  Returns 0, EWOULDBLOCK when the
 * time is over, EDEADLK when no other CPU is there that could free any.
 */
export function vm_wait(ms: number): number {
  const ph = phys_root();
  if (cpus_attached() <= 1 && !opt.SIM) return EDEADLK;
  atomic_add(field_word(phys.deficit, ph), 1); // the page daemon gets one more
  pagedaemon_wakeup();
  mtx_lock(phys.lock, ph);
  atomic_store(field_word(phys.wanted, ph), 1);
  const error = msleep(ph, phys.lock, ph, W_VMWAIT, ms);
  mtx_unlock(phys.lock, ph);
  return error === EWOULDBLOCK ? EWOULDBLOCK : 0;
}
/** What vm_wait sleeps on, for those who wait in their own way. */
export function vm_wait_channel(): number {
  return phys_root();
}
/** Asks for a wake-up on it when pages come back. */
export function vm_wait_arm(): void {
  atomic_store(field_word(phys.wanted, phys_root()), 1);
}

// --- zeroing ahead -------------------------------------------------------------------------

/**
 * Zeroes up to `max` free pages while this CPU has nothing better to do, until
 * half of the free pages are zero.  Returns how many.
 */
export function vm_page_zero_idle(max: number): number {
  const ph = phys_root();
  let n = 0;
  while (n < max && sysctl_get(idle_zero) !== 0) {
    if (phys.zeroed[ph] * 2 >= phys.free[ph]) break;
    mtx_lock(phys.lock, ph);
    const m = phys_lowest(ph, false, -1, phys.low[ph], phys.high[ph]);
    if (m !== 0) vm_page_carry_out(m, 1);
    mtx_unlock(phys.lock, ph);
    if (m === 0) break;
    pmap_zero_page(m);
    vm_page_free(m, true);
    counter_add(v_prezero, 1);
    n++;
  }
  return n;
}
/** What an idle CPU does in one go. */
export function vm_page_idle(): void {
  if (pcpu.in_hand_n[thr.pc] === 0) vm_page_zero_idle(sysctl_get(idle_zero_max));
}

// --- counts, deaths, proof ------------------------------------------------------------------

/** Pages free, of all domains. */
export function vm_page_free_count(): number {
  return free_pages();
}
/**
 * Wakes the page daemon if there are few pages and nobody has asked it yet; costs two plain looks
 * otherwise.
 */
function pagedaemon_poke(): void {
  const ph = phys_root();
  if (phys.needed[ph] === 0 && page_few_needed(phys.free[ph])) pagedaemon_wakeup();
}
/** Asks the page daemon for pages. */
export function pagedaemon_wakeup(): void {
  const needed = field_word(phys.needed, phys_root());
  if (atomic_load(needed) !== 0) return;
  atomic_store(needed, 1);
  wakeup(needed);
}
/** Whether reclaiming is called for: fewer pages free than waiters need. */
export function vm_page_count_min(): boolean {
  return page_few_min(free_pages());
}
/** Marks pages that are in hand as the caller's own, without a zone. They stay in hand. */
export function vm_page_wired(m: number, n: number): void {
  for (let i = m; i < m + n; i++) page.info[i] = PK_WIRED;
}
/** The same, and they leave the hand: the caller keeps them. */
export function vm_page_wire(m: number, n: number): void {
  vm_page_wired(m, n);
  vm_page_settle();
}

/**
 * After a death under the free lock: what was on its way to or from the queues
 * becomes free, and is in nobody's hand any more before others can take it.
 */
export function vm_page_recover(): void {
  dead_each((cpu) => {
    const pc = pcpu_of(cpu);
    for (let i = 0; i < pcpu.in_hand_n[pc]; i++) recover_run(hand_run(pc, i));
  });
  recover_orphans();
  phys_rebuild(phys_root());
}
/**
 * Pages that say HAND and are in no CPU's hand become free: they were on their way
 * when their CPU died.  Other CPUs give their pages owners meanwhile, so what is
 * in no note is looked at again; none comes to or from the queues, because the
 * free lock is held.
 */
function recover_orphans(): void {
  const ph = phys_root();
  const is_hand = (m: number): boolean => (page.info[m] & PK_MASK) === PK_HAND;
  let orphans: number[] = [];
  for (let m = phys.low[ph]; m < phys.high[ph]; m++) if (is_hand(m)) orphans.push(m);
  for (let look = 0; look < ORPHAN_LOOKS && orphans.length > 0; look++) {
    const held = pages_in_hands();
    orphans = orphans.filter((m) => !held.has(m) && is_hand(m));
  }
  for (const m of orphans) page.info[m] = PK_FREE;
  counter_add(v_reap_pages, orphans.length);
}
const ORPHAN_LOOKS = 3;
function pages_in_hands(): Set<number> {
  const held = new Set<number>();
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const pc = pcpu_of(cpu);
    for (let i = 0; i < pcpu.in_hand_n[pc]; i++) {
      const at = hand_run(pc, i);
      const first = pcpu.in_hand[at];
      for (let m = first; m < first + pcpu.in_hand[elem(at, 1)]; m++) held.add(m);
    }
  }
  return held;
}
/** A run of a dead CPU's hand, after a death under the free lock. */
function recover_run(at: pcpu_t): void {
  const first = pcpu.in_hand[at];
  const n = pcpu.in_hand[elem(at, 1)];
  let between = n > 0;
  for (let m = first; m < first + n; m++) {
    const kind = page.info[m] & PK_MASK;
    if (kind !== PK_FREE && kind !== PK_HAND) between = false; // has an owner: left to the reaper
  }
  if (!between) return;
  for (let m = first; m < first + n; m++) page.info[m] = PK_FREE;
  pcpu.in_hand[elem(at, 1)] = 0;
  counter_add(v_reap_pages, n);
}

/** A page that never reached an owner, or had left it: what its kind says. */
export function vm_page_unowned(m: number): boolean {
  const kind = page.info[m] & PK_MASK;
  if (kind === PK_HAND || kind === PK_LARGE || kind === PK_REST || kind === PK_WIRED) return true;
  if (kind === PK_GUARD) return true; // in hand only before its block has an owner, or after
  if (kind === PK_LIMBO) return true; // busy only while it is not on the list
  if (kind === PK_QUARANTINE) return true; // it leaves the hand and enters the ring in one step
  return life.page_unowned.get(kind)?.(m) ?? false;
}
/**
 * Frees what a dead CPU had in its hand, and clears the hand.  It may be an heir's own:
 * then a single page on top is freed from where it is, so that heirs who die here one after
 * the other do not fill the hand.
 */
export function vm_page_reap(cpu: number): void {
  const pc = pcpu_of(cpu);
  const end = machine.npages[M];
  mtx_lock(phys.lock, phys_root()); // a reaper may have died in hand_take_over: that is undone
  mtx_unlock(phys.lock, phys_root());
  while (pcpu.in_hand_n[pc] > 0) {
    const at = hand_run(pc, pcpu.in_hand_n[pc] - 1);
    const first = pcpu.in_hand[at];
    const single = cpu === thr.cpu && pcpu.in_hand[elem(at, 1)] === 1;
    if (single && first < end && vm_page_unowned(first)) {
      page.busy[first] = 0; // as in hand_take_over
      vm_page_free(first);
      counter_add(v_reap_pages, 1);
      continue;
    }
    // From the end down.  A reaper that dies here has the page in its own hand, or it has not.
    for (let n = pcpu.in_hand[elem(at, 1)]; n > 0; n--) {
      const m = first + n - 1;
      if (m >= end || !vm_page_unowned(m)) {
        pcpu.in_hand[elem(at, 1)] = n - 1;
        continue;
      }
      hand_take_over(at, m, n - 1);
      vm_page_free(m);
      counter_add(v_reap_pages, 1);
    }
    pcpu.in_hand_n[pc]--;
  }
}
/** Page m leaves the run of a dead CPU's hand, which has `left` then, for this CPU's hand. */
function hand_take_over(at: pcpu_t, m: number, left: number): void {
  const ph = phys_root();
  mtx_lock(phys.lock, ph);
  undo_begin(phys.lock, ph);
  save(pcpu.in_hand, elem(at, 1));
  save(pcpu.in_hand_n, thr.pc);
  save(page.busy, m); // it may have been on its way to or from an owner
  page.busy[m] = 0;
  pcpu.in_hand[elem(at, 1)] = left;
  vm_page_in_hand(m, 1);
  undo_end();
  mtx_unlock(phys.lock, ph);
}

/** How many pages are of each kind, by PK_*. */
export function vm_page_census(): number[] {
  const ph = phys_root();
  const kinds = new Array<number>(PK_MASK + 1).fill(0);
  for (let m = phys.low[ph]; m < phys.high[ph]; m++) kinds[page.info[m] & PK_MASK]++;
  return kinds;
}
/** Pages that are the kernel's own, by what they are. */
export function vm_page_kernel_count(): number {
  const kinds = vm_page_census();
  const blocks = [PK_SLAB, PK_MALLOC, PK_LARGE, PK_REST, PK_GUARD, PK_QUARANTINE];
  return [...blocks, PK_WIRED, PK_HAND, PK_TABLE].reduce((n, kind) => n + kinds[kind], 0);
}
/** Proves the free page queues against the page array. */
export function vm_page_check(): void {
  const ph = phys_root();
  mtx_lock(phys.lock, ph);
  phys_check(ph);
  mtx_unlock(phys.lock, ph);
  limbo_check();
}
