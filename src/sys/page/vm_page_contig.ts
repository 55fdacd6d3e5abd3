/*
 * vm_page_contig: a run of pages that comes together page by page.
 *
 *      hand   | . . . run below . . . | first, n |          n grows, first stays
 *                                         '- first page of the place
 *
 * A run that is free as a whole is taken in one go (vm_page_alloc_run).  One that is not is
 * gathered: free pages leave the free queues at once, each as the next one of the run on top of
 * this CPU's hand, and pages that their owners have just left come there directly, by no queue,
 * so that nobody else gets them in between.  The hand holds the run for as long as that takes,
 * whatever else goes through it above; if the thread dies the reaper frees it.
 */
import { sim_point } from '../machine/atomic.ts';
import { counter_add } from '../machine/counter.ts';
import { pcpu as pcpu_, thr as thr_ } from '../machine/cpu.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { elem } from '../machine/struct.ts';
import { PG_ZERO, PK_FREE, PK_HAND, vm_page } from '../h/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import {
  v_alloc,
  v_tfree,
  vm_page_carry_out,
  vm_page_free_settled,
  vm_page_hand_has,
  vm_page_hand_length,
  vm_page_in_hand,
  vm_page_left,
  vm_page_reserve,
  vm_page_settle,
} from './vm_page.ts';
import { phys_add, phys_is_free, phys_lowest, phys_remove, phys_root, vm_phys } from './vm_phys.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const page = vm_page;
const phys = vm_phys;
const pcpu = pcpu_;
const thr = thr_;
const opt = opt_;

/** A run that begins at page m and has no pages yet, on top of this CPU's hand. */
export function vm_page_run_begin(m: number): void {
  vm_page_in_hand(m, 0);
}
/** The page that the run on top is to get next. */
function next_of_run(): number {
  const length = vm_page_hand_length();
  return pcpu.in_hand[elem(length, -1)] + pcpu.in_hand[length];
}
/**
 * A free page is the next one of the run on top.  False: it is not free, or the free queues have
 * no more pages than the class of `req` must leave.
 */
export function vm_page_run_take(m: number, req: number): boolean {
  const ph = phys_root();
  if (opt.INVARIANTS && next_of_run() !== m) panic('vm_page_run_take: not the next page', m);
  mtx_lock(phys.lock, ph);
  const good = phys_is_free(m) && phys.free[ph] > vm_page_reserve(req);
  if (good) {
    // As in vm_page_carry_out: a page that says FREE is never noted.
    page.info[m] = PK_HAND;
    if (opt.SIM) sim_point(m);
    pcpu.in_hand[vm_page_hand_length()]++;
    phys_remove(ph, m, 1);
  }
  mtx_unlock(phys.lock, ph);
  if (good) counter_add(v_alloc, 1);
  return good;
}
/**
 * A page that this CPU has busy, and to which no owner leads any more, is the next one.  No CPU has
 * an access to it under way, and whoever slept for it was woken.
 */
export function vm_page_run_join(m: number): void {
  if (opt.INVARIANTS) {
    if (next_of_run() !== m) panic('vm_page_run_join: not the next page', m);
    if (page.busy[m] !== thr.tid) panic('vm_page_run_join: not busy by this CPU', m);
  }
  // The order of vm_page_free_now: from here on the reaper finds it in the hand.
  pcpu.in_hand[vm_page_hand_length()]++;
  if (opt.SIM) sim_point(m);
  page.info[m] = PK_HAND;
  page.owner[m] = 0;
  page.index[m] = 0;
  page.flags[m] = 0;
  if (opt.SIM) sim_point(m);
  page.busy[m] = 0;
  counter_add(v_tfree, 1);
  counter_add(v_alloc, 1);
}
/** Pages that the run on top has. */
export function vm_page_run_length(): number {
  return pcpu.in_hand[vm_page_hand_length()];
}
/** Takes n pages from m on into the hand, all or none of them: whether all are free. */
export function vm_page_run_whole(m: number, n: number, req: number): boolean {
  const ph = phys_root();
  mtx_lock(phys.lock, ph);
  let good = phys.free[ph] - n >= vm_page_reserve(req);
  for (let i = m; good && i < m + n; i++) good = phys_is_free(i);
  if (good) vm_page_carry_out(m, n);
  mtx_unlock(phys.lock, ph);
  if (good) counter_add(v_alloc, n);
  return good;
}
/** The lowest free page outside of `from` to before `end`, in hand. 0: none within the reserve. */
export function vm_page_alloc_outside(from: number, end: number, req: number): number {
  const ph = phys_root();
  const any = (lo: number, hi: number): number =>
    lo < hi ? phys_lowest(ph, false, -1, lo, hi) || phys_lowest(ph, true, -1, lo, hi) : 0;
  mtx_lock(phys.lock, ph);
  let m = 0;
  if (phys.free[ph] > vm_page_reserve(req)) {
    m = any(phys.low[ph], Math.min(from, phys.high[ph])) || any(end, phys.high[ph]);
    if (m !== 0) vm_page_carry_out(m, 1);
  }
  mtx_unlock(phys.lock, ph);
  if (m !== 0) counter_add(v_alloc, 1);
  return m;
}
/**
 * Frees the n pages from m on, which are in hand and which nobody has touched there: those that
 * were known to be zero are so still.
 */
export function vm_page_run_release(m: number, n: number): void {
  const ph = phys_root();
  if (n === 0) return vm_page_settle();
  if (!vm_page_hand_has(m, n)) panic('vm_page_run_release: not the run on top', m, n);
  if (opt.INVARIANTS) for (let i = m; i < m + n; i++) vm_page_left(i);
  const length = vm_page_hand_length();
  mtx_lock(phys.lock, ph);
  for (let i = m + n - 1; i >= m; i--) {
    pcpu.in_hand[length] = i - m;
    if (opt.SIM) sim_point(i);
    page.flags[i] &= PG_ZERO;
    page.info[i] = PK_FREE;
  }
  for (let at = m; at < m + n; ) {
    const zero = page.flags[at];
    let end = at + 1;
    while (end < m + n && page.flags[end] === zero) end++;
    phys_add(ph, at, end - at, zero !== 0);
    at = end;
  }
  vm_page_settle();
  mtx_unlock(phys.lock, ph);
  counter_add(v_tfree, n);
  vm_page_free_settled();
}
