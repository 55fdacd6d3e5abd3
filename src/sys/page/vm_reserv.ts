/*
 * vm_reserv: runs of free pages that are set aside for the pages of one object.
 *
 *      free ──> reserved for (object, page of it) ──> that page             vm_reserv_take
 *                        '──> free again                                    broken, or at its end
 *
 * The pages of an object come one by one, by faults.  That they lie side by side at the end, and in
 * order, so that a superpage can show them, must be seen to when the first one comes: then a run of
 * 1024 is set aside, and each page is taken from its place there.  A page that was freed meanwhile
 * is taken from its place again, if nobody else has got it.
 *
 *      vm_reserv row    first page | object | its page that is the first one | pages left
 *      page             PK_RESERV, `owner` is the row
 *
 * What is left of a run is nobody's: it counts as free nowhere, and comes back when a request finds
 * no page, before the page daemon takes any from a program, and when a run is wanted that is not
 * there (vm_reserv_reclaim): the reservation is *broken*, the one that was used longest ago first.
 * Reservations are made only while more pages are free than reclaiming aims at.
 *
 * Row 0 is none: there `left` is the sum of all, and `turn` counts the uses.
 *
 * Locks: (f) the free lock covers all of it.  It is of class rebuild, and so are reservations: a
 * page says whose it is, and after a death the pages of each row are counted anew; those whose row
 * is none, because it was being made or ended, become free.
 *
 * Unlike FreeBSD: a run may begin anywhere, a page that is freed becomes free for everybody, and
 * the rows are a table by themselves, which is searched: it has a row for 1024 pages of memory.
 */
import { sim_point } from '../machine/atomic.ts';
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { pcpu as pcpu_ } from '../machine/cpu.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { sbuf_cat, sbuf_text_report } from '../machine/sbuf.ts';
import { col32, columns } from '../machine/struct.ts';
import { sysctl_get, sysctl_proc, sysctl_value } from '../machine/sysctl_decl.ts';
import { PG_ZERO, PK_FREE, PK_HAND, PK_MASK, PK_RESERV, vm_page } from '../h/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import {
  v_alloc,
  v_tfree,
  vm_page_alloc_run,
  vm_page_carry_out,
  vm_page_free_settled,
  vm_page_hand_length,
  vm_page_in_hand,
  vm_page_recover,
  vm_page_reserve,
  vm_page_settle,
} from './vm_page.ts';
import { vm_page_run_release } from './vm_page_contig.ts';
import { v_free_target } from './vm_page_targets.ts';
import {
  phys_add,
  phys_is_free,
  phys_root,
  RESERV_PAGES as RESERV_PAGES_,
  reserv_rows,
  vm_phys,
} from './vm_phys.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const page = vm_page;
const phys = vm_phys;
const pcpu = pcpu_;
const opt = opt_;
const RESERV_PAGES = RESERV_PAGES_;

/* Locks: (f) the free lock  (h) beside it: a hint that is read without the lock, too */
const reserv = columns<number>('vm_reserv')({
  first: col32('fh', 'first page of the run; 0: the row is none'),
  object: col32('f', 'whose pages it is for'),
  base: col32('f', 'the page of that object that is to be the first one'),
  left: col32('fh', 'pages of it that nobody has taken'),
  turn: col32('f', 'when one was taken last'),
});

const v_broken = counter_u64(
  'vm.reserv.broken',
  'Reservations that were given up, so that others get their pages',
);
const v_reclaimed = counter_u64(
  'vm.reserv.reclaimed',
  'Of these, the ones that a request found no page without',
);
const v_freed = counter_u64('vm.reserv.freed', 'Reservations that ended with their object');
sysctl_value(
  'vm.reserv.fullpop',
  { type: 'uint', help: 'Reservations all of whose pages were taken' },
  () => count((r) => reserv.left[r] === 0),
);
sysctl_value(
  'vm.reserv.pages',
  { type: 'uint', unit: 'pages', help: 'Pages that are set aside, and that nobody has taken yet' },
  vm_reserv_left,
);
sysctl_proc(
  'vm.reserv.partpopq',
  {
    type: 'string',
    fmt: 'A',
    help: 'Reservations of which pages are left: pages of each, how many',
  },
  (req) =>
    sbuf_text_report(req, (s) => {
      const n = count((r) => reserv.left[r] > 0);
      sbuf_cat(s, `\nLEVEL     SIZE  NUMBER\n\n    0: ${vm_reserv_left() * 4}K, ${n}\n`);
    }),
);

/** Pages that are set aside: a sample. */
export function vm_reserv_left(): number {
  return reserv.left[0];
}
function rows(): number {
  return reserv_rows(vm_phys.high[phys_root()]);
}
/** How many reservations are such. A sample. */
function count(such: (r: number) => boolean): number {
  let n = 0;
  for (let r = 1; r < rows(); r++) if (reserv.first[r] !== 0 && such(r)) n++;
  return n;
}
/** The seeded scheduler may act once in so many pages of a run: they are all alike. */
const SIM_PAGES = 64;
/** Whether page m is left of reservation r. The free lock is held. */
function is_left(m: number, r: number): boolean {
  return (page.info[m] & PK_MASK) === PK_RESERV && page.owner[m] === r;
}
/** The reservation for an object's pages from `base` on; 0: none. The free lock is held. */
function find(o: number, base: number): number {
  const n = rows();
  for (let r = 1; r < n; r++) {
    if (reserv.object[r] === o && reserv.base[r] === base && reserv.first[r] !== 0) return r;
  }
  return 0;
}

// --- made, and used ----------------------------------------------------------------------------

/**
 * Sets a run aside for the pages of an object from `base` on, of which none is in memory.  False:
 * there is none, or few pages are free.  The caller has nothing of the free pages locked.
 */
export function vm_reserv_make(o: number, base: number): boolean {
  const ph = phys_root();
  if (phys.free[ph] - RESERV_PAGES < sysctl_get(v_free_target)) return false;
  const m = vm_page_alloc_run(RESERV_PAGES, 0);
  if (m === 0) return false;
  mtx_lock(phys.lock, ph);
  const r = row_free();
  const good = r !== 0 && find(o, base) === 0;
  if (good) fill(r, m, o, base);
  mtx_unlock(phys.lock, ph);
  if (!good) vm_page_run_release(m, RESERV_PAGES);
  return good;
}
/** A row that is none, or one of which nothing is left; 0: there is no such row. */
function row_free(): number {
  const n = rows();
  let full = 0;
  for (let r = 1; r < n; r++) {
    if (reserv.first[r] === 0) return r;
    if (reserv.left[r] === 0) full = r;
  }
  if (full !== 0) reserv.first[full] = 0;
  return full;
}
/** The run on top of this CPU's hand is reservation r from here on. */
function fill(r: number, m: number, o: number, base: number): void {
  reserv.object[r] = o;
  reserv.base[r] = base;
  reserv.left[r] = RESERV_PAGES;
  reserv.turn[r] = ++reserv.turn[0];
  for (let i = m; i < m + RESERV_PAGES; i++) page.owner[i] = r;
  const length = vm_page_hand_length();
  for (let i = m + RESERV_PAGES - 1; i >= m; i--) {
    // The note shrinks first: a page that has an owner is never in it.
    pcpu.in_hand[length] = i - m;
    if (opt.SIM && i % SIM_PAGES === 0) sim_point(i);
    page.info[i] = PK_RESERV;
  }
  reserv.first[r] = m;
  reserv.left[0] += RESERV_PAGES;
  vm_page_settle();
}
/**
 * The page that is set aside for page `i` of an object, in this CPU's hand: of the reservation for
 * its pages from `base` on.  0: there is no reservation, or the page is somebody else's.
 */
export function vm_reserv_take(o: number, i: number, base: number, req: number): number {
  const ph = phys_root();
  mtx_lock(phys.lock, ph);
  const r = find(o, base);
  const m = r === 0 ? 0 : take(r, reserv.first[r] + i - base, req);
  mtx_unlock(phys.lock, ph);
  return m;
}
function take(r: number, m: number, req: number): number {
  const ph = phys_root();
  if (is_left(m, r)) {
    // As in vm_page_carry_out: what others may get is never noted.
    vm_page_in_hand(m, 0);
    page.info[m] = PK_HAND;
    if (opt.SIM) sim_point(m);
    pcpu.in_hand[vm_page_hand_length()] = 1;
    reserv.left[r]--;
    reserv.left[0]--;
    reserv.turn[r] = ++reserv.turn[0];
    return m;
  }
  if (!phys_is_free(m) || phys.free[ph] <= vm_page_reserve(req)) return 0;
  vm_page_carry_out(m, 1);
  counter_add(v_alloc, 1);
  return m;
}
// --- ended -------------------------------------------------------------------------------------

/** What is left of a reservation becomes free. The free lock is held. Returns how many. */
function end(r: number): number {
  const ph = phys_root();
  const m = reserv.first[r];
  let freed = 0;
  for (let at = m; at < m + RESERV_PAGES; ) {
    if (!is_left(at, r)) {
      at++;
      continue;
    }
    const zero = page.flags[at] & PG_ZERO;
    let last = at;
    for (; last < m + RESERV_PAGES && is_left(last, r); last++) {
      if ((page.flags[last] & PG_ZERO) !== zero) break;
      page.info[last] = PK_FREE;
      if (opt.SIM && last % SIM_PAGES === 0) sim_point(last);
    }
    phys_add(ph, at, last - at, zero !== 0);
    freed += last - at;
    at = last;
  }
  reserv.left[0] -= freed;
  reserv.left[r] = 0;
  reserv.first[r] = 0;
  counter_add(v_tfree, freed);
  return freed;
}
/** An object ends: nothing is set aside for it any more. */
export function vm_reserv_end(o: number): void {
  const ph = phys_root();
  let freed = 0;
  mtx_lock(phys.lock, ph);
  for (let r = 1; r < rows(); r++) {
    if (reserv.first[r] === 0 || reserv.object[r] !== o) continue;
    freed += end(r);
    counter_add(v_freed, 1);
  }
  mtx_unlock(phys.lock, ph);
  if (freed > 0) vm_page_free_settled();
}
/**
 * Breaks a reservation of which pages are left, the one that was used longest ago. Returns how many
 * pages are free by that; 0: there is none.
 */
export function vm_reserv_break(): number {
  if (reserv.left[0] === 0) return 0;
  const ph = phys_root();
  let oldest = 0;
  let freed = 0;
  mtx_lock(phys.lock, ph);
  for (let r = 1; r < rows(); r++) {
    if (reserv.first[r] === 0 || reserv.left[r] === 0) continue;
    if (oldest === 0 || reserv.turn[r] < reserv.turn[oldest]) oldest = r;
  }
  if (oldest !== 0) {
    freed = end(oldest);
    counter_add(v_broken, 1);
  }
  mtx_unlock(phys.lock, ph);
  if (freed > 0) vm_page_free_settled();
  return freed;
}
/** The same for a request that found no page. */
export function vm_reserv_reclaim(): number {
  const freed = vm_reserv_break();
  if (freed > 0) counter_add(v_reclaimed, 1);
  return freed;
}

// --- deaths, proof -----------------------------------------------------------------------------

/** After a death under the free lock: a line of the table of recoveries. */
export function vm_reserv_recover(): void {
  const ph = phys_root();
  for (let r = 0; r < rows(); r++) reserv.left[r] = 0;
  for (let m = phys.low[ph]; m < phys.high[ph]; m++) {
    if ((page.info[m] & PK_MASK) !== PK_RESERV) continue;
    const r = page.owner[m];
    if (holds(r, m)) {
      reserv.left[r]++;
      reserv.left[0]++;
    } else page.info[m] = PK_FREE;
  }
  vm_page_recover();
}
/** Whether page m lies in reservation r. */
function holds(r: number, m: number): boolean {
  const first = r > 0 && r < rows() ? reserv.first[r] : 0;
  return first !== 0 && m >= first && m < first + RESERV_PAGES;
}
/** Proves the rows against the page array. */
export function vm_reserv_check(): void {
  const ph = phys_root();
  mtx_lock(phys.lock, ph);
  const left = new Array<number>(rows()).fill(0);
  for (let m = phys.low[ph]; m < phys.high[ph]; m++) {
    if ((page.info[m] & PK_MASK) !== PK_RESERV) continue;
    if (!holds(page.owner[m], m)) panic('vm_reserv_check: a page of no reservation', m);
    left[page.owner[m]]++;
    left[0]++;
  }
  for (const [r, n] of left.entries()) {
    if (n !== reserv.left[r]) panic('vm_reserv_check: pages left', r, n, reserv.left[r]);
  }
  mtx_unlock(phys.lock, ph);
}
