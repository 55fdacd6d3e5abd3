/*
 * vm_oom: a fault finds no page, and no page that could be had.
 *
 * It waits as long as something may come free: pages that others have in work, whose object another
 * thread has locked all the time, or that some CPU may still use.  When there is no such hope, the
 * space that has most pages pays: its fault fails, and its program sees ENOMEM with what holds the
 * memory.  That may make it let go of some, so a fault in any other space waits, for vm.oom_wait at
 * most, and fails then, too.  Nobody is killed, and nobody waits for ever.
 *
 *      hope      largest space     others
 *      yes       waits             waits          each vm.oom_wait at most
 *      no        fails             waits
 *
 * Looking takes time in proportion to the memory.  Where all pages of objects are wired, or dirty
 * memory for which no swap area has room, a look finds the same until something has changed that
 * is counted: a page freed, unwired or given up, a slot, an area, a setting.  So a fault that has
 * found that notes a sum of those, and faults that find the same sum fail, or wait, without a look;
 * what allocators keep they ask for all the same.  The note is good for a second.
 *
 * A space is as large as the pages that it has translations to; how many of its pages lie in the
 * swap area is not asked, because taking those from it would free none.
 */
import { now_ms } from '../machine/clock.ts';
import { counter_add, counter_get, counter_u64 } from '../machine/counter.ts';
import { poll } from '../machine/cpu.ts';
import { cpus_attached } from '../machine/death.ts';
import { EDEADLK } from '../machine/errno.ts';
import { host_can_block, host_sleep } from '../machine/host.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { NULL } from '../machine/struct.ts';
import { CTLFLAG_RWTUN, sysctl_get, sysctl_int } from '../machine/sysctl_decl.ts';
import { tlb_owed } from '../machine/tlb_ack.ts';
import { pmap } from '../h/pmap.ts';
import { VM_MAP_USER, vm_map, vm_map_root, type vm_map_t } from '../h/vm_map.ts';
import { PK_MASK, PK_OBJECT, vm_page } from '../h/vm_page.ts';
import type { vm_object_t } from '../h/vm_object.ts';
import { object_anonymous } from '../object/vm_object.ts';
import { v_given_up } from '../object/vm_object_range.ts';
import { page_dirty } from '../object/vm_launder.ts';
import { swap_areas, swap_avail, swap_full } from '../object/swap_area.ts';
import { swap_default_possible } from '../object/swap_on.ts';
import { SWAP_FULL, swap_area } from '../h/swap.ts';
import { v_tfree, vm_page_free_count, vm_wait } from '../page/vm_page.ts';
import { vm_page_limbo_count } from '../page/vm_page_limbo.ts';
import { pageq_wired, vm_page_wirings } from '../page/vm_pageq.ts';
import { phys_root, vm_phys } from '../page/vm_phys.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { uma_reclaim } from '../uma/uma_drain.ts';
import { map_root } from './vm_map.ts';
import { vm_pageout_direct } from './vm_pageout.ts';
import {
  defer_swapspace_pageouts,
  disable_swapspace_pageouts,
  pageout_look,
  pageout_over_limit,
  pageout_root,
  vm_pageout_root,
} from './vm_pageout_vars.ts';

const map = vm_map;
const root = vm_map_root;
const page = vm_page;
const area = swap_area;
const pageout = vm_pageout_root;

const oom_wait = sysctl_int('vm.oom_wait', {
  value: 1000,
  min: 0,
  max: 60_000,
  unit: 'ms',
  flags: CTLFLAG_RWTUN,
  help: 'How long an access to memory waits for a page, when none can be had, before it fails',
});
const v_oom_waits = counter_u64('vm.stats.vm.v_oom_waits', 'Waits of faults that found no page');
const v_oom_fails = counter_u64(
  'vm.stats.vm.v_oom_fails',
  'Faults that failed because no page could be had',
);
/** How long a fault sleeps before it looks again, ms. */
const SLICE_MS = 20;
/** Pages that a fault reclaims at once. */
const AHEAD = 16;
/** How often it reclaims, and finds that others had the pages, before that counts as none. */
const RECLAIMS = 100;

/** What a fault remembers from one attempt to the next. */
export interface Shortage {
  reclaims: number;
  /** When it found nothing to reclaim first, ms; 0: the last time there was something. */
  since: number;
}
/** A new one. */
export function shortage_none(): Shortage {
  return { reclaims: 0, since: 0 };
}
/**
 * A fault in space `mp` found no memory for `pages` pages.  True: it is to try again.  False: it
 * fails.  It may sleep; the caller holds no lock.  Where no limit is the reason some more are
 * reclaimed, for the faults that come.
 */
export function vm_fault_reclaim(mp: vm_map_t, s: Shortage, pages: number): boolean {
  if (s.reclaims === 0) pageout_look();
  const n = pageout_over_limit(pages) > 0 ? pages : Math.max(pages, AHEAD);
  const sum = vain_sum();
  const vain = is_vain(sum);
  const got = s.reclaims++ >= RECLAIMS ? 0 : vain ? uma_reclaim(true) : vm_pageout_direct(n);
  if (got > 0) {
    s.since = 0; // things go on
    return true;
  }
  if (s.since === 0) s.since = now_ms();
  return vm_oom_wait(mp, s.since, vain ? VAIN : sum);
}

/** Beside sums: it is known that there is no hope. */
const VAIN = 0;
/** How long it is taken for known, ms. */
const VAIN_MS = 1000;
/** What would have to change before a page can be had, in a number that is not 0. */
function vain_sum(): number {
  let sum = swap_full() * 2 + (swap_default_possible() ? 1 : 0);
  const parts = [
    counter_get(v_tfree),
    counter_get(v_given_up),
    swap_areas().length,
    swap_avail(),
    pageq_wired(),
    sysctl_get(disable_swapspace_pageouts),
    sysctl_get(defer_swapspace_pageouts),
    pageout_over_limit(1),
  ];
  for (const n of parts) sum = (Math.imul(sum, 31) + n) | 0;
  return sum || 1;
}
/** Whether a fault has found, with the same sum, that no page can be had. */
function is_vain(sum: number): boolean {
  const r = pageout_root();
  const age = (clock_ms() - pageout.vain_at[r]) | 0;
  return pageout.vain[r] === sum && age >= 0 && age < VAIN_MS;
}
/** What is there, if that is known to be all that there is. */
function vain_figures(): OomFigures | null {
  const r = pageout_root();
  if (!is_vain(vain_sum())) return null;
  const [resident, wired] = [pageout.vain_resident[r], pageout.vain_wired[r]];
  const stuck = pageout.vain_stuck[r];
  return { free: vm_page_free_count(), resident, wired, busy: 0, stuck, written: 0 };
}
/** No page can be had while the sum is the same. */
function vain_note(sum: number, n: OomFigures): void {
  const r = pageout_root();
  if (n.written > 0 || vain_sum() !== sum) return;
  pageout.vain_resident[r] = n.resident;
  pageout.vain_wired[r] = n.wired;
  pageout.vain_stuck[r] = n.stuck;
  pageout.vain_at[r] = clock_ms();
  pageout.vain[r] = sum;
}
function clock_ms(): number {
  return now_ms() | 0;
}

/**
 * The same where there was nothing to reclaim; `since`: when that was found first, ms; `sum`: of
 * before it was looked for.
 */
function vm_oom_wait(mp: vm_map_t, since: number, sum: number): boolean {
  const late = now_ms() - since >= sysctl_get(oom_wait);
  const none = sum === VAIN || (!late && !hope(sum));
  if (late || !host_can_block() || (none && (alone() || largest() === mp))) {
    counter_add(v_oom_fails, 1);
    return false;
  }
  counter_add(v_oom_waits, 1);
  poll();
  // Otherwise whatever ended it, it is looked whether there is something.
  if (vm_wait(SLICE_MS) === EDEADLK) host_sleep(1);
  return true;
}
/** Whether something may come free without anybody's doing. */
function hope(sum: number): boolean {
  if (tlb_owed() || vm_page_limbo_count() > 0) return true;
  // A page that is not wired, and has a place to go to, was in use when it was looked at.
  const figures = vm_oom_figures();
  const { resident, wired, stuck } = figures;
  if (resident - wired > stuck) return true;
  vain_note(sum, figures);
  return false;
}
/** Whether no other thread is there that could let go of something. */
function alone(): boolean {
  return cpus_attached() <= 1;
}
/** The space that has most pages. */
function largest(): vm_map_t {
  const r = map_root();
  let found = NULL as vm_map_t;
  let most = -1;
  mtx_lock(root.lock, r);
  for (let mp = root.first[r]; mp !== NULL; mp = map.next[mp]) {
    const pm = map.pmap[mp];
    if (pm === NULL || map.kind[mp] !== VM_MAP_USER || pmap.resident[pm] <= most) continue;
    found = mp;
    most = pmap.resident[pm];
  }
  mtx_unlock(root.lock, r);
  return found;
}

/** What has the pages, in pages. */
export interface OomFigures {
  free: number;
  /** Of memory objects. */
  resident: number;
  wired: number;
  busy: number;
  /** Dirty, and the swap area has no room for them. */
  stuck: number;
  /** Of these, pages of files, which the host may take at another time. */
  written: number;
}
/** Counted anew, beside threads that go on. */
export function vm_oom_figures(): OomFigures {
  const ph = phys_root();
  const full = swap_full() === SWAP_FULL;
  const n = { free: vm_page_free_count(), resident: 0, wired: 0, busy: 0, stuck: 0, written: 0 };
  for (let m = vm_phys.low[ph]; m < vm_phys.high[ph]; m++) {
    if ((page.info[m] & PK_MASK) !== PK_OBJECT) continue;
    n.resident++;
    if (vm_page_wirings(m) > 0) n.wired++;
    else if (page.busy[m] !== 0) n.busy++;
    else if (full && page.slot[m] === 0 && page_dirty(m)) {
      n.stuck++;
      if (!object_anonymous(page.owner[m] as vm_object_t)) n.written++;
    }
  }
  return n;
}
/** The same in words, for an error. */
export function vm_oom_text(): string {
  const { resident, wired, busy, stuck } = vain_figures() ?? vm_oom_figures();
  const all = `${resident} pages in spaces: ${wired} wired, ${busy} busy`;
  const swap = swap_areas().reduce((n, a) => n + area.end[a] - area.first[a], 0);
  if (stuck === 0 || swap === 0) return `${all}, ${stuck} dirty without swap`;
  return `${all}, ${stuck} dirty, for which ${swap * PAGE_SIZE} bytes of swap have no room`;
}
