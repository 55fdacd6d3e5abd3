/*
 * kern_malloc: malloc(9), memory by type.
 *
 *      size <= 4096   a power-of-two zone; the CPU's bucket gives an item
 *      larger         a run of pages of exactly that length
 *
 * Every block is contiguous, so that a program sees it as one flat view.  A block
 * carries no header: the page array says what a page is, and for a page of a malloc
 * slab its size class.  free needs no more than that and the type that it is given.
 *
 * Fast path: the CPU number leads to the class's bucket (mcache, at a fixed place)
 * and, in the type's record, to the counters of this CPU; plain loads and stores, no
 * lock, no atomic.  Everything else (empty bucket, first use of a type, checks, large
 * sizes) happens in functions of their own, which first ask for stack (subr_trap.ts).
 *
 * Addresses are word indices; a program gets byte addresses from the façade.
 *
 * Read next: kern_malloc_type.ts (types), kern_malloc_stats.ts (the streams).
 */
import { kconsole } from '../machine/kconsole.ts';
import { sim_point } from '../machine/atomic.ts';
import { COUNT_TURN, count_up } from '../machine/count.ts';
import { counter_add, counter_u64 } from '../machine/counter.ts';
import {
  hot as hot_,
  MCACHE_SHIFT as MCACHE_SHIFT_,
  mcache as mcache_,
  mcache_of,
  type mcache_t,
  pcpu as pcpu_,
  poll,
  thr,
} from '../machine/cpu.ts';
import { reap_pending } from '../machine/death.ts';
import { EWOULDBLOCK } from '../machine/errno.ts';
import { MCACHE_START as MCACHE_START_ } from '../machine/header.ts';
import { life } from '../machine/life.ts';
import {
  hw as hw_,
  mem as mem_,
  PAGE_WORD_SHIFT as PAGE_WORD_SHIFT_,
  PAGE_WORDS,
  page_word,
  word_page,
} from '../machine/memory.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { item_history, kernel_parts, NO_BLOCK } from '../machine/parts.ts';
import { add64, elem, field_word, NULL } from '../machine/struct.ts';
import { CTLFLAG_RWTUN, sysctl_get, sysctl_int } from '../machine/sysctl_decl.ts';
import {
  KMEM_ZMAX as KMEM_ZMAX_,
  M_MAGIC,
  MD_STACK as MD_STACK_,
  M_VERSION,
  type malloc_type_t,
  malloc_type,
  mtstats,
  type mtstats_t,
} from '../h/malloc.ts';
import { M_DRAIN, M_NORECLAIM, M_NOWAIT, M_WAITOK, M_ZERO as M_ZERO_ } from '../h/malloc_flags.ts';
import { type bucket_t, type cache_t, uma_bucket, uma_cache } from '../h/uma.ts';
import {
  PK_BOOT,
  PK_LARGE,
  PK_MARKED,
  PK_MASK as PK_MASK_,
  PK_REST,
  PK_MALLOC_END as PK_MALLOC_END_,
  VM_ALLOC_ZERO,
  vm_page,
} from '../h/vm_page.ts';
import {
  vm_page_count,
  vm_page_free_run,
  vm_page_in_hand,
  vm_page_settle,
  vm_page_zero_fill,
  vm_wait,
} from '../page/vm_page.ts';
import { block_guarded, guard_look } from '../page/vm_guard.ts';
import { vm_page_get_run, vm_page_put_run } from '../page/vm_page_cache.ts';
import { kernel_enter, kernel_leave, kernel_threw } from '../sync/subr_trap.ts';
import { save, save64_two, save_word, undo_begin_private, undo_end } from '../sync/undo.ts';
import { budget_enter, budget_hold, budget_large, budget_leave } from '../uma/uma_budget.ts';
import { bucket_put, bucket_take, mcache_show } from '../uma/uma_cache.ts';
import {
  cache_make_room,
  cache_refill_slow,
  uma_zalloc,
  uma_zfree,
  zone_alloc_at,
  zone_alloc_item,
  zone_free_at,
  zone_free_item,
} from '../uma/uma_core.ts';
import { poll_uma } from '../uma/uma_drain.ts';
import { my_cache, uma, uma_root } from '../uma/uma_int.ts';
import {
  page_request,
  slab_index,
  type Tally,
  slab_item_free,
  slab_user_word,
  vtoslab,
} from '../uma/uma_keg.ts';
import { free_counted, malloc_counted } from './kern_malloc_counted.ts';
import { mprof_count } from './kern_mprof.ts';
import { POISON_BYTE, quarantine_free } from './kern_quarantine.ts';
import {
  malloc_late_free,
  malloc_block_zone,
  malloc_gone_free,
  malloc_late_free_large,
  malloc_stats_block,
  malloc_subzone,
  malloc_tell_freed,
  malloc_type_check,
  malloc_type_name,
  malloc_zone,
} from './kern_malloc_type.ts';

export {
  M_DRAIN,
  M_NORECLAIM,
  M_NOWAIT,
  M_WAITOK,
  M_ZERO,
} from '../h/malloc_flags.ts';
export type { malloc_type_t } from '../h/malloc.ts';
export { malloc_type_attach } from './kern_malloc_type.ts';

// tidy: hot. Local names: V8 takes them for constants, imported ones it does not.
const KMEM_ZMAX = KMEM_ZMAX_;
const MD_STACK = MD_STACK_;
const M_ZERO = M_ZERO_;
const PAGE_WORD_SHIFT = PAGE_WORD_SHIFT_;
const PK_MASK = PK_MASK_;
const PK_MALLOC_END = PK_MALLOC_END_;
const TURN = COUNT_TURN;
const mem = mem_;
const opt = opt_;
const hot = hot_;
const mcache = mcache_;
const MCACHE_SHIFT = MCACHE_SHIFT_;
const MCACHE_START = MCACHE_START_;
const hw = hw_;
const pcpu = pcpu_;
const root = uma_root;

const mt = malloc_type;
const bucket = uma_bucket;
const cache = uma_cache;
const page = vm_page;
const stats = mtstats;

/** realloc keeps the place when the new size is above this part of the old: 1 / 2^shift. */
const REALLOC_FRACTION = 1;
const MINALLOCSIZE = 16;
const DIAG_FILL = 0x70;
const WAIT_SLICE_MS = 250;

const v_failed = counter_u64('vm.malloc_failed', 'malloc requests that got no memory');
const failure_rate = sysctl_int('debug.malloc.failure_rate', {
  value: 0,
  min: 0,
  flags: CTLFLAG_RWTUN,
  help: 'Every so-many-th M_NOWAIT request fails, 0: none; needs the option FAILPOINTS',
  needs: 'FAILPOINTS',
});
const failure_count = counter_u64(
  'debug.malloc.failure_count',
  'Requests that failure_rate made fail',
);
let nowait_seen = 0;

/** The size class of a small request: 0 is 16 bytes, each next one twice as much. */
export function malloc_class(size: number): number {
  return size <= MINALLOCSIZE ? 0 : 28 - Math.clz32(size - 1);
}

/**
 * `size` bytes for type t: a word address, 0 if there is no memory.  M_NOWAIT
 * never sleeps; M_WAITOK may, and fails only where waiting could never help.
 * M_ZERO: the memory is zero.  Size 0 gives a block of 16 bytes.
 */
export function malloc(size: number, t: malloc_type_t, flags: number): number {
  if (!(size <= KMEM_ZMAX) || size < 0 || opt.MALLOC_SLOW) return malloc_checked(size, t, flags);
  const b = size <= 16 ? 0 : 28 - Math.clz32(size - 1);
  const cpu = hot.cpu;
  const bk = mcache.bucket[
    ((MCACHE_START + (cpu << MCACHE_SHIFT) + b) | 0) as mcache_t
  ] as bucket_t;
  const s = mt.stats[((t + cpu) | 0) as malloc_type_t] as mtstats_t;
  const n = (bucket.cnt[bk] - 1) | 0;
  if (n < 0 || stats.type[s] !== t) return malloc_slow(size, t, flags);
  const item = bucket.item[((bk + n) | 0) as bucket_t];
  if ((flags & M_ZERO) !== 0) hw.fill(item, 0, 4 << b); // a call: nothing is changed yet
  const at = ((s + b) | 0) as mtstats_t;
  const v = (stats.allocs[at] + 1) | 0;
  bucket.cnt[bk] = n;
  stats.allocs[at] = v;
  if (v << 1 === TURN)
    stats.allocs_high[at] = v < 0 ? stats.allocs_high[at] | 1 : (stats.allocs_high[at] + 1) & ~1;
  return item;
}

/** Gives a block back. 0 is no block and is ignored. Never sleeps. */
export function free(p: number, t: malloc_type_t): void {
  const b = page.info[p >>> PAGE_WORD_SHIFT];
  if (!(b < PK_MALLOC_END) || opt.MALLOC_SLOW) return free_checked(p, t); // or no page at all
  const cpu = hot.cpu;
  const bk = mcache.bucket[
    ((MCACHE_START + (cpu << MCACHE_SHIFT) + b) | 0) as mcache_t
  ] as bucket_t;
  const s = mt.stats[((t + cpu) | 0) as malloc_type_t] as mtstats_t;
  const n = bucket.cnt[bk];
  if (n >= bucket.entries[bk] || stats.type[s] !== t) return free_slow(p, t, b);
  const at = ((s + b) | 0) as mtstats_t;
  const v = (stats.frees[at] + 1) | 0;
  bucket.item[((bk + n) | 0) as bucket_t] = p;
  bucket.cnt[bk] = (n + 1) | 0;
  stats.frees[at] = v;
  if (v << 1 === TURN)
    stats.frees_high[at] = v < 0 ? stats.frees_high[at] | 1 : (stats.frees_high[at] + 1) & ~1;
}
/** Whether block p, of class b, is the one that this CPU freed last: for a client that asks. */
export function malloc_freed_last(p: number, b: number): boolean {
  const bk = mcache.bucket[
    ((MCACHE_START + (hot.cpu << MCACHE_SHIFT) + b) | 0) as mcache_t
  ] as bucket_t;
  const n = bucket.cnt[bk];
  if (n === 0) return freed_last_slow(p, b);
  return bucket.item[((bk + n - 1) | 0) as bucket_t] === p;
}
/** The same where the bucket is empty, or hidden because detectors look. */
function freed_last_slow(p: number, b: number): boolean {
  const bk = cache.cur[my_cache(malloc_block_zone(p, b))];
  const n = bucket.cnt[bk];
  return n > 0 && bucket.item[elem(bk, n - 1)] === p;
}
/*
 * malloc and free are written out without helper functions: V8 inlines them into the
 * program's own loop only while they stay within its budget of bytecode.
 */

/** Counts an allocation of class b in the counter block s. */
function count_alloc(s: number, b: number): void {
  const at = elem(s as mtstats_t, b);
  count_up(field_word(stats.allocs, at), field_word(stats.allocs_high, at));
}
/** Counts a free. */
function count_free(s: number, b: number): void {
  const at = elem(s as mtstats_t, b);
  count_up(field_word(stats.frees, at), field_word(stats.frees_high, at));
}

// --- small blocks, off the fast path --------------------------------------------------------

function malloc_slow(size: number, t: malloc_type_t, flags: number): number {
  if (root.detect[uma()] === MD_STACK) {
    const counted = malloc_counted(size, t, flags);
    if (counted !== 0) return counted;
  }
  const outer = kernel_enter();
  let item = 0;
  try {
    item = malloc_small(size, t, flags, true);
  } catch (e) {
    kernel_threw(e, outer, 'malloc');
  }
  kernel_leave(outer);
  return item;
}
function malloc_small(size: number, t: malloc_type_t, flags: number, detect: boolean): number {
  malloc_type_check(t, 'malloc');
  poll();
  if ((flags & M_NORECLAIM) === 0) reap_pending();
  if (detect && root.detect[uma()] !== 0) {
    const p = detected(size, t, flags);
    if (p !== 0) return p === NO_BLOCK ? 0 : p;
  }
  const b = malloc_class(size);
  const s = malloc_stats_block(t, flags);
  const item = s === NULL ? 0 : small_item_slow(b, flags);
  if (item === 0) return malloc_fail(t, s, b);
  count_alloc(s, b);
  if ((flags & M_ZERO) !== 0) hw.fill(item, 0, 4 << b);
  return item;
}
/** A block by way of the detectors; 0: they want none of it; NO_BLOCK: it has failed. */
function detected(size: number, t: malloc_type_t, flags: number): number {
  return kernel_parts.detect?.alloc(size, t, flags) ?? 0;
}
/** malloc for a detector: what none of them looks at. Inside the kernel. */
export function malloc_undetected(size: number, t: malloc_type_t, flags: number): number {
  const plain = size <= KMEM_ZMAX && !opt.MALLOC_SLOW;
  return plain ? malloc_small(size, t, flags, false) : malloc_any(size, t, flags, false);
}
/** An item of class b by way of the cache, or straight from a slab. */
function small_item_slow(b: number, flags: number): number {
  const z = malloc_zone(b);
  if ((flags & M_NORECLAIM) === 0) poll_uma();
  // The slow path is also taken for a type's first use on this CPU: then there are items.
  const c = my_cache(z);
  mcache_fit(c, b);
  if (bucket.cnt[cache.cur[c]] > 0 || cache_refill_slow(z, flags)) return bucket_take(cache.cur[c]);
  return zone_alloc_item(z, flags);
}
/** Shows the bucket to the fast path again, once no detector looks any more. */
function mcache_fit(c: cache_t, b: number): void {
  if (mcache.bucket[elem(mcache_of(hot.cpu), b)] !== cache.cur[c]) mcache_show(b, cache.cur[c]);
}
function free_slow(p: number, t: malloc_type_t, b: number): void {
  if (root.detect[uma()] === MD_STACK && free_counted(p, t, b)) return;
  const outer = kernel_enter();
  try {
    free_small(p, t, b);
  } catch (e) {
    kernel_threw(e, outer, 'free');
  }
  kernel_leave(outer);
}
function free_small(p: number, t: malloc_type_t, b: number): void {
  malloc_type_check(t, 'free');
  poll();
  poll_uma();
  const s = malloc_stats_block(t);
  const z = malloc_zone(b);
  const c = my_cache(z);
  mcache_fit(c, b);
  const now = cache.cur[c];
  if (bucket.cnt[now] < bucket.entries[now] || cache_make_room(z)) bucket_put(cache.cur[c], p);
  else zone_free_item(z, p);
  if (s !== NULL) count_free(s, b);
  else malloc_late_free(t, b);
}
/** A request without an answer: counted, and 0. */
export function malloc_fail(t: malloc_type_t, s: mtstats_t, b: number): number {
  counter_add(v_failed, 1);
  if (s !== NULL) {
    add64(stats.failed, s, 1);
    if (b >= 0) stats.tried[s] |= 1 << b;
  }
  last_failure = performance.now();
  if (opt.INVARIANTS) malloc_type_check(t, 'malloc');
  return 0;
}
let last_failure = Number.NEGATIVE_INFINITY;
/** Seconds since this thread's last failed request; Infinity if there was none. */
export function malloc_last_fail(): number {
  return (performance.now() - last_failure) / 1000;
}

// --- with checks, and large blocks -------------------------------------------------------------

let flags_reported = false;
/** Exactly one of M_NOWAIT and M_WAITOK; anything else is said once and taken as M_WAITOK. */
function flags_check(flags: number): number {
  const wait = flags & (M_NOWAIT | M_WAITOK);
  if (wait === M_NOWAIT || wait === M_WAITOK) return flags;
  if (opt.INVARIANTS && !flags_reported) {
    flags_reported = true;
    kconsole.print(`Bad malloc flags: ${wait.toString(16)}\n${new Error().stack}`);
  }
  return (flags & ~M_NOWAIT) | M_WAITOK;
}
function injected_failure(flags: number): boolean {
  const rate = sysctl_get(failure_rate);
  if (rate === 0 || (flags & M_NOWAIT) === 0 || ++nowait_seen % rate !== 0) return false;
  counter_add(failure_count, 1);
  return true;
}
function malloc_checked(size: number, t: malloc_type_t, given: number): number {
  const outer = kernel_enter();
  let p = 0;
  try {
    p = malloc_any(size, t, given, true);
  } catch (e) {
    kernel_threw(e, outer, 'malloc');
  }
  kernel_leave(outer);
  return p;
}
function malloc_any(size: number, t: malloc_type_t, given: number, detect: boolean): number {
  malloc_type_check(t, 'malloc');
  poll();
  const flags = flags_check(given);
  if (!(size >= 0) || !Number.isInteger(size)) panic('malloc: impossible size', String(size));
  if (detect && root.detect[uma()] !== 0) {
    const p = detected(size, t, flags);
    if (p !== 0) return p === NO_BLOCK ? 0 : p;
  }
  const b = size <= KMEM_ZMAX ? malloc_class(size) : -1;
  const s = malloc_stats_block(t, flags);
  if (s === NULL || (opt.FAILPOINTS && injected_failure(flags))) return malloc_fail(t, s, b);
  if (b < 0) return malloc_large(size, t, s, flags);
  const item = opt.INVARIANTS
    ? uma_zalloc(malloc_zone(b, mt.subzone[t]), flags & ~M_ZERO)
    : small_item_slow(b, flags);
  if (item === 0) return malloc_fail(t, s, b);
  if (opt.INVARIANTS) mem.I32[slab_user_word(item)] = t;
  count_alloc(s, b);
  if (opt.MALLOC_PROFILE) mprof_count(size);
  if (flags & M_ZERO) hw.fill(item, 0, 4 << b);
  else if (opt.DIAGNOSTIC) mem.U8.fill(DIAG_FILL, item * 4, item * 4 + size);
  return item;
}

/** A block of whole pages, or of none. */
function malloc_large(
  size: number,
  t: malloc_type_t,
  s: mtstats_t,
  flags: number,
  anchor = 0,
  pages = large_pages,
): number {
  if ((flags & M_NORECLAIM) === 0) {
    reap_pending();
    poll_uma();
  }
  const n = Math.ceil(size / (PAGE_WORDS * 4));
  const m = n > vm_page_count() ? 0 : pages(n, flags);
  if (m === 0) return malloc_fail(t, s, -1); // else its budget is left below
  if (flags & M_ZERO) vm_page_zero_fill(m, n);
  page.index[m] = n;
  page.owner[m] = t;
  for (let i = m + 1; i < m + n; i++) page.info[i] = PK_REST;
  page.info[m] = PK_LARGE;
  const p = page_word(m);
  count_large_alloc(s, n, p, anchor);
  budget_leave(n);
  if (opt.MALLOC_PROFILE) mprof_count(size);
  if (opt.DIAGNOSTIC && (flags & M_ZERO) === 0) mem.U8.fill(DIAG_FILL, p * 4, p * 4 + size);
  return p;
}
/**
 * A block of whole pages that are found by `pages`: n of them side by side, in this CPU's hand and
 * within the budget (budget_enter), or 0.  The block is a large one like any other; the word
 * `anchor` leads to it, unless that is 0.
 */
export function malloc_of_pages(
  size: number,
  t: malloc_type_t,
  given: number,
  pages: (n: number, flags: number) => number,
  anchor: number,
): number {
  malloc_type_check(t, 'contigmalloc');
  poll();
  const flags = flags_check(given);
  const s = malloc_stats_block(t, flags);
  if (s === NULL || (opt.FAILPOINTS && injected_failure(flags))) return malloc_fail(t, s, -1);
  return malloc_large(size, t, s, flags, anchor, pages);
}
/*
 * A large block is counted in two stores, and its pages leave this CPU's hand or
 * come into it in a third.  All of it is a private section: a death in between puts
 * everything back, so no block is counted that nobody has, and none is had that
 * nobody counts.
 */

/** Counts a large block p in this CPU's hand, and gives it to the program or to the anchor. */
function count_large_alloc(s: mtstats_t, n: number, p: number, anchor: number): void {
  undo_begin_private();
  save64_two(stats.large_alloced, stats.large_allocs, s);
  save(pcpu.in_hand_n, thr.pc);
  if (anchor !== 0) save_word(anchor);
  budget_large(n, false);
  add64(stats.large_alloced, s, n * PAGE_WORDS * 4);
  if (opt.SIM) sim_point(s);
  add64(stats.large_allocs, s, 1);
  if (anchor !== 0) mem.I32[anchor] = p;
  if (opt.SIM) sim_point(s);
  vm_page_settle();
  if (opt.SIM) sim_point(s);
  undo_end();
}
/**
 * Counts a large block as freed, and takes its n pages from m on into this CPU's hand, with a
 * guard on each side if it has them.
 */
function count_large_free(s: mtstats_t, m: number, n: number, anchor: number): void {
  const g = block_guarded(m) ? 1 : 0;
  budget_hold(n);
  undo_begin_private();
  save64_two(stats.large_freed, stats.large_frees, s);
  budget_large(n, true);
  save(pcpu.in_hand_n, thr.pc);
  if (anchor !== 0) save_word(anchor);
  add64(stats.large_freed, s, n * PAGE_WORDS * 4);
  if (opt.SIM) sim_point(s);
  add64(stats.large_frees, s, 1);
  if (opt.SIM) sim_point(s);
  vm_page_in_hand(m - g, n + 2 * g);
  if (anchor !== 0) mem.I32[anchor] = 0;
  if (opt.SIM) sim_point(s);
  undo_end();
  budget_leave(n);
}
/** A run of n pages within the budget, which the caller leaves once it holds them. 0: none. */
function large_run(n: number, req: number): number {
  if (!budget_enter(n)) return 0;
  const m = vm_page_get_run(n, req);
  if (m === 0) budget_leave(n);
  return m;
}
/** A run that is made by moving pages of spaces away, or by paging them out if it may wait. */
function made_run(n: number, req: number, flags: number): number {
  if (kernel_parts.contig_run === undefined || !budget_enter(n)) return 0;
  const m = kernel_parts.contig_run(n, req, (flags & M_WAITOK) !== 0);
  if (m === 0) budget_leave(n);
  return m;
}
/** The same as it is, after reclaiming, made, or after waiting. */
function large_pages(n: number, flags: number): number {
  const req = page_request(flags) | (flags & M_ZERO ? VM_ALLOC_ZERO : 0);
  for (;;) {
    const m = large_run(n, req);
    if (m !== 0) return m;
    if (flags & M_NORECLAIM) return 0;
    if (life.reclaim((flags & (M_WAITOK | M_DRAIN)) !== 0) > 0) {
      const again = large_run(n, req);
      if (again !== 0) return again;
    }
    const made = n > 1 && flags & (M_WAITOK | M_DRAIN) ? made_run(n, req, flags) : 0;
    if (made !== 0 || (flags & M_WAITOK) === 0) return made;
    const error = vm_wait(WAIT_SLICE_MS);
    if (error !== 0 && error !== EWOULDBLOCK) return 0;
  }
}

/** free for whatever is not the plain case: large blocks, checks, and damage. */
function free_checked(p: number, t: malloc_type_t): void {
  if (p === 0) return;
  const outer = kernel_enter();
  try {
    free_any(p, t);
  } catch (e) {
    kernel_threw(e, outer, 'free');
  }
  kernel_leave(outer);
}
function free_any(p: number, t: malloc_type_t): void {
  malloc_type_check(t, 'free');
  poll();
  const m = word_page(p);
  if ((page.info[m] & PK_MARKED) !== 0 && kernel_parts.detect?.free(p, t)) return;
  free_undetected(p, t);
}
/** What page m is, marked or not. Beyond the memory there is no page, and no word to mask. */
function page_kind(m: number): number {
  const info = page.info[m];
  return info >= 0 ? info & ~PK_MARKED : PK_BOOT; // undefined is not
}
/** free for a detector: of a block that malloc_undetected gave. Inside the kernel. */
export function free_undetected(p: number, t: malloc_type_t): void {
  const m = word_page(p);
  const info = page_kind(m);
  if ((info & PK_MASK) === PK_LARGE && (p & (PAGE_WORDS - 1)) === 0) return free_large(p, t, m);
  if (!(info < PK_MALLOC_END)) not_allocated(p);
  const b = info;
  if (!opt.INVARIANTS) {
    if ((p & ((4 << b) - 1)) !== 0) not_allocated(p);
    return free_small(p, t, b);
  }
  const s = malloc_stats_block(t);
  free_proof(p, b, t);
  mem.I32[p + (4 << b) - 1] = t; // the last user, for whoever finds it modified
  const z = malloc_block_zone(p, b);
  uma_zfree(z, p);
  if (opt.MALLOC_DEBUG_MAXZONES > 1 && malloc_subzone(z) !== mt.subzone[t]) {
    malloc_gone_free(malloc_subzone(z), b); // a type that is no more left it, with its counts
  } else if (s !== NULL) count_free(s, b);
  else malloc_late_free(t, b);
}
function not_allocated(p: number): never {
  const text = `free: address ${p * 4}(${word_page(p) * PAGE_WORDS * 4}) has not been allocated.`;
  panic(text, ...item_history(p));
}
/** The address is an item of its slab, the item is not free, and it is of type t. */
function free_proof(p: number, b: number, t: malloc_type_t): void {
  const slab = vtoslab(p);
  if (slab === NULL) panic('free: page of no slab', p * 4, b);
  if (slab_item_free(slab, slab_index(slab, p))) {
    panic('Duplicate free of item', p * 4, ...item_history(p));
  }
  user_proof(p, t);
}
/**
 * The small block is of type t.  Who has it is forgotten here: a thread that dies between
 * taking a block and noting its type leaves a 0, and not the type that had it before.
 */
function user_proof(p: number, t: malloc_type_t): void {
  const w = slab_user_word(p);
  const of = mem.I32[w] as malloc_type_t;
  if (of !== t && of !== 0 && malloc_type_valid(of)) wrong_type(p, of, t);
  mem.I32[w] = 0;
}
function free_large(p: number, given: malloc_type_t, m: number, anchor = 0): void {
  const t = large_type(p, given, page.owner[m] as malloc_type_t);
  const n = page.index[m];
  const guarded = block_guarded(m);
  const s = malloc_stats_block(t);
  if (s !== NULL) count_large_free(s, m, n, anchor);
  else {
    malloc_late_free_large(t, n);
    budget_hold(n);
    undo_begin_private();
    budget_large(n, true);
    save(pcpu.in_hand_n, thr.pc);
    if (anchor !== 0) save_word(anchor);
    vm_page_in_hand(guarded ? m - 1 : m, guarded ? n + 2 : n);
    if (anchor !== 0) mem.I32[anchor] = 0;
    undo_end();
    budget_leave(n);
  }
  if (guarded) {
    guard_look(m - 1);
    guard_look(m + n);
    return vm_page_free_run(m - 1, n + 2);
  }
  if (opt.QUARANTINE) return quarantine_free(m, n);
  if (opt.INVARIANTS) hw.fill(p, POISON_BYTE, n * PAGE_WORDS);
  vm_page_put_run(m, n);
}
/**
 * The type that the free of a large block counts under: the one it was allocated
 * with, `t`.  Under INVARIANTS another one panics; else the log hears of it once a type.
 */
export function large_type(p: number, given: malloc_type_t, t: malloc_type_t): malloc_type_t {
  if (t === given || !malloc_type_valid(t)) return given; // of a type that is no more: as told
  if (opt.INVARIANTS) wrong_type(p, t, given);
  malloc_tell_freed(p, t, given);
  return t;
}
function wrong_type(p: number, t: malloc_type_t, given: malloc_type_t): never {
  const text = `free: block ${p * 4} of type ${malloc_type_name(t)} is freed as`;
  panic(`${text} ${malloc_type_name(given)}`, ...item_history(p));
}

// --- blocks that a record of the kernel leads to -----------------------------------------------

/** Words of this CPU's count of class b of a type: low and high. */
function count_words(
  low: typeof stats.allocs,
  high: typeof stats.allocs,
  s: mtstats_t,
  b: number,
): Tally {
  return { low: field_word(low, elem(s, b)), high: field_word(high, elem(s, b)) };
}
/**
 * malloc for a block that the word `anchor` will lead to: the block, its count
 * and the word change in one step, so that a thread that dies here leaves either
 * a block that is found, or none.  Straight from the slabs.  Never sleeps, and does not
 * reclaim, because the callers hold locks.
 */
export function malloc_at(size: number, t: malloc_type_t, anchor: number, zero = true): number {
  malloc_type_check(t, 'malloc_at');
  const flags = M_NOWAIT | M_NORECLAIM | (zero ? M_ZERO : 0);
  const b = size <= KMEM_ZMAX ? malloc_class(size) : -1;
  const s = malloc_stats_block(t, flags);
  if (s === NULL || (opt.FAILPOINTS && injected_failure(flags))) return malloc_fail(t, s, b);
  if (b < 0) return malloc_large(size, t, s, flags, anchor);
  const counted = count_words(stats.allocs, stats.allocs_high, s, b);
  const item = zone_alloc_at(malloc_zone(b, mt.subzone[t]), flags & ~M_ZERO, anchor, counted);
  if (item === 0) return malloc_fail(t, s, b);
  if (opt.INVARIANTS) mem.I32[slab_user_word(item)] = t;
  if (opt.MALLOC_PROFILE) mprof_count(size);
  if (zero) hw.fill(item, 0, 4 << b);
  return item;
}
/** Frees the block that the word `anchor` leads to, if it leads to one, and clears the word. */
export function free_at(anchor: number, t: malloc_type_t): void {
  const p = mem.I32[anchor];
  if (p === 0) return;
  malloc_type_check(t, 'free_at');
  const m = word_page(p);
  const info = page_kind(m);
  if ((info & PK_MASK) === PK_LARGE) return free_large(p, t, m, anchor);
  if (!(info < PK_MALLOC_END)) panic('free_at: the word leads to no block', p * 4);
  const s = malloc_stats_block(t);
  if (opt.INVARIANTS) {
    user_proof(p, t);
    mem.I32[p + (4 << info) - 1] = t;
  }
  const counted = s === NULL ? undefined : count_words(stats.frees, stats.frees_high, s, info);
  zone_free_at(malloc_block_zone(p, info), p, anchor, counted);
  if (s === NULL) malloc_late_free(t, info);
}

// --- realloc ------------------------------------------------------------------------------------

/**
 * Bytes of a detector's block, which never stays where it is; -1: it is none of theirs, -2: theirs,
 * but no beginning.
 */
function detected_size(p: number): number {
  return (page.info[word_page(p)] & PK_MARKED) !== 0 ? (kernel_parts.detect?.size(p) ?? -1) : -1;
}
/** Usable bytes of a block; 0: none is there. The page's own kind decides, never a slab's keg. */
export function malloc_usable_size(p: number): number {
  const m = word_page(p);
  const info = page_kind(m);
  const found = detected_size(p);
  if (found !== -1) return Math.max(found, 0);
  if (info < PK_MALLOC_END) return 16 << info;
  if ((info & PK_MASK) === PK_LARGE && (p & (PAGE_WORDS - 1)) === 0) {
    return page.index[m] * PAGE_WORDS * 4;
  }
  return 0;
}
/**
 * Makes a block fit `size` bytes: the same address if it fits well, else a new
 * block with the old contents.  0: no memory, and the old block lives on.  A
 * kept block is not zeroed by M_ZERO; a moved one is, beyond what was copied.
 */
export function realloc(p: number, size: number, t: malloc_type_t, flags: number): number {
  if (p === 0) return malloc(size, t, flags);
  malloc_type_check(t, 'realloc');
  const found = detected_size(p);
  const old = found >= 0 ? found : malloc_usable_size(p);
  if (old === 0 && found < 0) panic(`realloc: address ${p * 4} has not been allocated.`);
  if (found < 0 && size <= old && (size > old / 2 ** REALLOC_FRACTION || old === MINALLOCSIZE))
    return p;
  const outer = kernel_enter(); // with two blocks in hand there must be stack to free one
  let q = 0;
  try {
    q = realloc_move(p, old, size, t, flags);
  } catch (e) {
    moving = false;
    kernel_threw(e, outer, 'realloc');
  }
  kernel_leave(outer);
  return q;
}
/** This thread takes a block into which realloc moves another. */
let moving = false;
export function reallocating(): boolean {
  return moving;
}
function realloc_move(
  p: number,
  old: number,
  size: number,
  t: malloc_type_t,
  flags: number,
): number {
  moving = true;
  const q = malloc(size, t, flags);
  moving = false;
  if (q === 0) return 0;
  const keep = Math.min(size, old);
  if (q < mem.I32.length) {
    const whole = Math.floor(keep / 4);
    hw.copy(q, p, whole);
    for (let i = whole * 4; i < keep; i++) mem.U8[q * 4 + i] = mem.U8[p * 4 + i]; // not a byte more
  } else kernel_parts.memguard?.copy(q, p, keep);
  free(p, t);
  return q;
}
/** realloc that frees the old block when there is no memory for the new one. */
export function reallocf(p: number, size: number, t: malloc_type_t, flags: number): number {
  const q = realloc(p, size, t, flags);
  if (q === 0 && p !== 0) free(p, t);
  return q;
}
/** Whether a type record is what it says. */
export function malloc_type_valid(t: malloc_type_t): boolean {
  return mt.magic[t] === M_MAGIC && mt.version[t] === M_VERSION;
}
