/*
 * vm_window: pages of an address space held in place, so that a thread may use them as flat memory.
 *
 *      vm_window_open     pages come to lie side by side in memory, and stay     a window
 *      vm_window_close    the last window on them is gone: pages like any others
 *
 *      address space     | 7 | 8 | 9 | 10 | 11 |
 *      memory                [ 812 | 813 | 814 ]      run: pages 8 to 10, wired
 *                            '---- window ----'
 *                            '-window'                a part of it shares the run
 *
 * A page that is mapped may be anywhere in memory, and elsewhere tomorrow.  A window has the number
 * of a page of memory (`frame`), from which on its pages lie side by side until it is closed,
 * without translation and without faults.
 *
 * Stores of others are seen through a window, and stores through it are seen by others:
 * where the mapping may be written to, copy-on-write is broken first, for windows that only read,
 * too. A mapping that nobody may write to is shown as it is: nothing is copied, and it cannot be
 * made one that may be written to while the window is open.
 *
 * The pages under a window stay: taking them out of the map, and taking a right away that a window
 * was opened for, is KERN_BUSY.  A fork copies pages that may be written to at once, because stores
 * through windows cannot be held up.
 *
 * Where no run of free pages is long enough, pages of others are freed until there is one
 * (vm_contig.ts): memory that is full of pages that may go has hardly any free neighbours.  Once
 * caches of the allocator give back what they keep.
 *
 * A part of a run shares it; a range that overlaps one in part is EBUSY, because its pages cannot
 * be side by side in two places.
 *
 * Locks.  A window is opened with its map locked exclusively, so that none is opened while another
 * thread has it locked.  It is closed without that: the lists have a lock of their own.
 *
 * Deaths.  Window and run are on their lists before the first page is wired, and each wiring is
 * counted in the run in the section that makes it.  So a window that was half opened is closed like
 * any other: by the reaper, for all windows of the dead.  A run of which not all pages are wired
 * belongs to a dead thread.
 *
 * Read next: vm_window_pages.ts, how the pages come side by side.
 */
import { thr, tid_cpu } from '../machine/cpu.ts';
import { reap_all, tid_alive } from '../machine/death.ts';
import { EBUSY, EFAULT, EINVAL, ENOMEM } from '../machine/errno.ts';
import { boot_alloc, M, machine, ROOT_LOAN, ROOT_WINDOW } from '../machine/header.ts';
import { life } from '../machine/life.ts';
import { opt } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { elem, field_word, NULL } from '../machine/struct.ts';
import {
  CTLFLAG_RWTUN,
  sysctl_get,
  sysctl_set,
  sysctl_uint,
  sysctl_value,
} from '../machine/sysctl_decl.ts';
import { pcpu } from '../machine/cpu.ts';
import { zone_declared } from '../machine/zone_decl.ts';
import { M_NORECLAIM, M_NOWAIT } from '../h/malloc_flags.ts';
import type { zone_t } from '../h/uma.ts';
import { vm_loan_root, type vm_loan_root_t } from '../h/vm_loan.ts';
import {
  MAP_ENTRY_IN_TRANSITION,
  MAP_ENTRY_IS_SUB_MAP,
  MAP_ENTRY_NOFAULT,
  VM_MAP_SYSTEM,
  vm_map,
  vm_map_entry,
  type vm_map_t,
} from '../h/vm_map.ts';
import type { vm_object_t } from '../h/vm_object.ts';
import { vm_page } from '../h/vm_page.ts';
import { VM_PROT_WRITE } from '../h/vm_prot.ts';
import {
  vm_window,
  type vm_window_root_t,
  vm_window_root,
  vm_window_run,
  type vm_window_run_t,
  type vm_window_t,
} from '../h/vm_window.ts';
import { vm_page_count, vm_page_free_count, vm_page_reserved } from '../page/vm_page.ts';
import { vm_page_unwire_run } from '../page/vm_pageq.ts';
import { phys_longest } from '../page/vm_phys.ts';
import { mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_VM_WINDOWS } from '../sync/lock_order.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { list_insert, list_remove } from '../sync/undo_list.ts';
import { zone_free_at, zone_give_hand, zone_take_hand } from '../uma/uma_core.ts';
import { item_in_hand, item_settle } from '../uma/uma_keg.ts';
import { uma_zcreate } from '../uma/uma_zone.ts';
import { vm_contig_free } from './vm_contig.ts';
import { coming_none } from './vm_fault.ts';
import {
  vm_map_anchor,
  vm_map_deallocate,
  vm_map_entry_wait,
  vm_map_lock,
  vm_map_reference,
  vm_map_unanchor,
  vm_map_unlock,
  vm_map_unlock_and_wait,
  vm_map_wakeup,
  vm_map_wired,
} from './vm_map.ts';
import { entry_covers, vm_map_lookup_entry } from './vm_map_tree.ts';
import { vm_pageout_direct } from './vm_pageout.ts';
import {
  AGAIN,
  pages_fault,
  pages_gather,
  pages_look,
  pages_loosen,
  pages_place,
  pages_poison,
  pages_run,
  pages_run_free,
  pages_wire,
  pages_written,
  SCATTERED,
  TOO_OFTEN,
} from './vm_window_pages.ts';

const map = vm_map;
const entry = vm_map_entry;
const window = vm_window;
const page = vm_page;
const run = vm_window_run;
const root = vm_window_root;

const Z_WINDOWS = zone_declared('VM WINDOW', 'Windows onto address spaces, and runs of pages');
/** How often opening reclaims memory before it says that there is none. */
const RECLAIMS = 8;
/** How long a wait for a reaper lasts before it looks again, ms. */
const SLICE_MS = 1000;
/** Default limits: parts of all memory, and of what is free once the machine is up. */
const WINDOW_SHARE = 16;
const WIRED_SHARE = 3;

const window_max = sysctl_uint('vm.window_max', {
  value: 0,
  unit: 'pages',
  flags: CTLFLAG_RWTUN,
  help: 'The most pages of a window; 0 when the machine boots: a sixteenth of the memory',
});
const max_wired = sysctl_uint('vm.max_wired', {
  value: 0,
  unit: 'pages',
  flags: CTLFLAG_RWTUN,
  help: 'The most pages that programs may hold in place; 0 at boot: a third of those free then',
});
sysctl_value('vm.windows', { type: 'uint', help: 'Windows that are open' }, () => {
  return root.count[window_root()];
});
sysctl_value(
  'vm.window_pages',
  { type: 'uint', unit: 'pages', help: 'Pages that windows hold in place' },
  () => root.pages[window_root()],
);

/** The record of all windows. */
export function window_root(): vm_window_root_t {
  return machine.roots[elem(M, ROOT_WINDOW)] as vm_window_root_t;
}
/** Lays the root out, while boot_alloc still works. */
export function vm_window_boot(): void {
  const r = boot_alloc(root.sizeof, 'windows', 32) as vm_window_root_t;
  machine.roots[elem(M, ROOT_WINDOW)] = r;
  mtx_init(root.lock, r, LC_VM_WINDOWS);
}
/** Makes the zone, and says how many pages windows may hold. */
export function vm_window_startup(): void {
  const size = Math.max(window.sizeof, run.sizeof) * 4;
  root.zone[window_root()] = uma_zcreate(Z_WINDOWS, size);
  const share = (pages: number, of: number): number => Math.max(Math.floor(pages / of), 1);
  if (sysctl_get(window_max) === 0) sysctl_set(window_max, share(vm_page_count(), WINDOW_SHARE));
  if (sysctl_get(max_wired) === 0) sysctl_set(max_wired, share(vm_page_free_count(), WIRED_SHARE));
}
function zone(): zone_t {
  return root.zone[window_root()] as zone_t;
}

// --- opening -----------------------------------------------------------------------------------

/* Why a window could not be opened: for want of memory, or because its pages cannot move. */
export const WINDOW_LIMIT = 1;
export const WINDOW_FRAGMENTED = 2;
export const WINDOW_SHORT = 3;
export const WINDOW_HELD = 4;
export const WINDOW_WIRED = 5;
/**
 * More about the last call of vm_window_open in this thread that ended with ENOMEM: one of
 * WINDOW_*, and pages: what the limit leaves, the longest run of free pages, or the free pages;
 * WINDOW_WIRED: one of its pages is wired as often as it can be.
 * With EBUSY: WINDOW_HELD, its pages do not lie side by side, and some are locked, or under a
 * window, in another map; else 0.
 */
export const vm_window_why = { reason: 0, pages: 0 };
function short_of(reason: number, pages: number): number {
  vm_window_why.reason = reason;
  vm_window_why.pages = pages;
  return -ENOMEM;
}

/**
 * Opens a window onto the pages of a map from `start` up to `end`, for `prot`: VM_PROT_READ,
 * or VM_PROT_READ and VM_PROT_WRITE.  A vm_window_t, or -errno and nothing has changed: EFAULT
 * something is not mapped, or not for that; EBUSY another window overlaps it in part, or somebody
 * works on an entry; ENOMEM, see vm_window_why; EIO a pager failed; ETIMEDOUT a CPU is silent.
 * The caller refers to the map and holds no lock.  It may sleep.
 */
export function vm_window_open(mp: vm_map_t, start: number, end: number, prot: number): number {
  if (end <= start || prot === 0) return -EINVAL;
  const most = sysctl_get(window_max);
  if (end - start > most) return short_of(WINDOW_LIMIT, most);
  vm_window_why.reason = 0;
  vm_map_reference(mp); // the window's
  let reclaims = 0;
  const coming = coming_none();
  for (;;) {
    vm_map_lock(mp);
    const got = open_locked(mp, start, end, prot);
    vm_map_unlock(mp);
    if (got > 0) return got;
    let error = got;
    if (got === AGAIN) {
      error = pages_fault(mp, end, coming);
      if (error === -ENOMEM) error = short_of(WINDOW_SHORT, vm_page_free_count());
    }
    if (error === 0) continue;
    const full = vm_window_why.reason === WINDOW_LIMIT || vm_window_why.reason === WINDOW_WIRED;
    if (error === -ENOMEM && !full && reclaims++ < RECLAIMS) {
      if (reclaimed(mp, start, end) || (reclaims === 1 && life.reclaim(true) > 0)) continue;
    }
    vm_map_deallocate(mp);
    return error;
  }
}
/** Gets pages back for a window, save its own. False: none, or none that are of use. */
function reclaimed(mp: vm_map_t, start: number, end: number): boolean {
  if (vm_window_why.reason === WINDOW_SHORT && vm_pageout_direct(end - start) > 0) return true;
  vm_map_lock(mp);
  const kept = pages_place(mp, start, end);
  vm_map_unlock(mp);
  return vm_contig_free(end - start, kept);
}
/** One attempt with the map locked: a window, -errno, or AGAIN. */
function open_locked(mp: vm_map_t, start: number, end: number, prot: number): number {
  const bad = range_bad(mp, start, end, prot);
  if (bad !== 0) return bad;
  if (map.runs[mp] !== NULL) {
    if (windows_settle(mp, start, end)) return open_locked(mp, start, end, prot);
    const there = run_over(mp, start, end);
    if (there !== NULL) {
      return over.inside ? share(mp, there, start, end, prot) : -EBUSY;
    }
  }
  const room = wired_room();
  if (end - start > room) return over_limit(room);
  const most = root.pages[window_root()] + room; // what is locked meanwhile does not count
  const first = pages_look(mp, start, end, prot);
  if (first === TOO_OFTEN) return short_of(WINDOW_WIRED, 0);
  if (first < 0) return first;
  if (first !== SCATTERED) {
    const w = open_run(mp, start, end, { prot, frame: first, most });
    if (w < 0) return w;
    const wired = pages_wire(mp, start, end, first, wired_word(w));
    return wired === 0 ? w : undone(w, wired);
  }
  const n = end - start;
  const free = vm_page_free_count();
  const frame = pages_run(n);
  if (frame === 0) {
    const few = free < n + vm_page_reserved();
    return few ? short_of(WINDOW_SHORT, free) : short_of(WINDOW_FRAGMENTED, phys_longest());
  }
  const w = open_run(mp, start, end, { prot, frame, most });
  if (w < 0) {
    pages_run_free(frame, n);
    return w;
  }
  const moved = pages_gather(mp, start, end, frame, wired_word(w));
  if (moved === -EBUSY) vm_window_why.reason = WINDOW_HELD;
  return moved === 0 ? w : undone(w, moved);
}
/** What forbids it to open a window there for `prot`: -errno, or 0. */
function range_bad(mp: vm_map_t, start: number, end: number, prot: number): number {
  if (map.pmap[mp] === NULL) return -EFAULT;
  let at = start;
  for (let e = vm_map_lookup_entry(mp, at); at < end; e = entry.next[e]) {
    if (!entry_covers(mp, e, at)) return -EFAULT;
    if (entry.eflags[e] & (MAP_ENTRY_IS_SUB_MAP | MAP_ENTRY_NOFAULT)) return -EFAULT;
    if ((entry.protection[e] & prot) !== prot) return -EFAULT;
    const moving = (entry.eflags[e] & MAP_ENTRY_IN_TRANSITION) !== 0;
    // Kernel memory that comes or goes is nobody's, or that of a dead thread: nobody waits for it.
    if (map.kind[mp] === VM_MAP_SYSTEM && (moving || entry.object[e] === NULL)) return -EFAULT;
    if (moving) {
      if (tid_alive(entry.transition[e])) return -EBUSY;
      vm_map_entry_wait(mp, e); // ends it
    }
    at = entry.end[e];
  }
  return 0;
}
/** The word that counts the wired pages of a window's run. */
function wired_word(w: number): number {
  return field_word(run.wired, window.run[w as vm_window_t]);
}
/** A window and its run that could not be opened go. The reference to the map is in hand again. */
function undone(w: number, error: number): number {
  unlink(w as vm_window_t);
  return error;
}
/** A run that is to be. */
interface NewRun {
  readonly prot: number;
  /** Its first page of memory. */
  readonly frame: number;
  /** All windows may show so many pages. */
  readonly most: number;
}
/** A window and a run of its own, of which no page is wired yet. -errno: none. */
function open_run(mp: vm_map_t, start: number, end: number, how: NewRun): number {
  const { prot, frame, most } = how;
  const n = end - start;
  const r = window_root();
  const u = item() as vm_window_run_t;
  if (u === NULL) return short_of(WINDOW_SHORT, vm_page_free_count());
  const w = item() as vm_window_t;
  if (w === NULL) {
    zone_give_hand(zone(), u);
    return short_of(WINDOW_SHORT, vm_page_free_count());
  }
  checked_fresh(u, run.sizeof);
  run.start[u] = start;
  run.pages[u] = n;
  run.frame[u] = frame;
  run.refs[u] = 1;
  run.wired[u] = 0;
  run.next[u] = NULL as vm_window_run_t;
  checked_publish(u);
  window_fill(w, mp, u, start, n, prot);
  mtx_lock(root.lock, r);
  const room = most - root.pages[r];
  const full = n > room;
  if (!full) {
    undo_begin(root.lock, r);
    save(map.runs, mp);
    save(root.runs, r);
    save(root.pages, r);
    run.next[u] = map.runs[mp]; // a window that is closed meanwhile changes that list
    map.runs[mp] = u;
    root.runs[r]++;
    root.pages[r] += n;
    list_insert(root, r, window, w);
    save(pcpu.in_hand_items, thr.pc);
    item_settle(2);
    vm_map_anchor(mp);
    undo_end();
  }
  mtx_unlock(root.lock, r);
  if (!full) return w;
  zone_give_hand(zone(), w);
  zone_give_hand(zone(), u);
  return over_limit(room);
}
/** The most pages that programs may hold in place. */
export function wired_max(): number {
  return sysctl_get(max_wired);
}
/** Pages that it leaves beside those in windows, in loans, and locked by spaces. A sample. */
export function wired_room(): number {
  const lent = vm_loan_root.pages[machine.roots[elem(M, ROOT_LOAN)] as vm_loan_root_t];
  return wired_max() - root.pages[window_root()] - lent - vm_map_wired();
}
function over_limit(room: number): number {
  return short_of(WINDOW_LIMIT, Math.max(room, 0));
}
/** A window onto a part of a run that is there. */
function share(mp: vm_map_t, u: vm_window_run_t, start: number, end: number, prot: number): number {
  const w = item() as vm_window_t;
  if (w === NULL) return short_of(WINDOW_SHORT, vm_page_free_count());
  window_fill(w, mp, u, start, end - start, prot);
  const r = window_root();
  mtx_lock(root.lock, r);
  // It may have been closed since: what there is is looked at anew.
  let there = map.runs[mp];
  while (there !== NULL && there !== u) there = run.next[there];
  if (there !== NULL) {
    undo_begin(root.lock, r);
    save(run.refs, u);
    run.refs[u]++;
    list_insert(root, r, window, w);
    save(pcpu.in_hand_items, thr.pc);
    item_settle();
    vm_map_anchor(mp);
    undo_end();
  }
  mtx_unlock(root.lock, r);
  if (there !== NULL) return w;
  zone_give_hand(zone(), w);
  return open_locked(mp, start, end, prot);
}
function item(): number {
  return zone_take_hand(zone(), M_NOWAIT | M_NORECLAIM);
}
function window_fill(
  w: vm_window_t,
  mp: vm_map_t,
  u: vm_window_run_t,
  start: number,
  n: number,
  prot: number,
): void {
  checked_fresh(w, window.sizeof);
  window.map[w] = mp;
  window.run[w] = u;
  window.start[w] = start;
  window.pages[w] = n;
  window.prot[w] = prot;
  window.frame[w] = run.frame[u] + start - run.start[u];
  window.tid[w] = thr.tid;
  checked_publish(w);
}

// --- closing -----------------------------------------------------------------------------------

/**
 * Closes a window, in the thread that opened it.  What was stored through it is in its pages.  In a
 * machine with INVARIANTS the pages of a run that nobody shows any more move elsewhere, and what
 * they leave is filled with 0xdeadc0de, so that late uses of the window are seen.
 */
export function vm_window_close(w: vm_window_t): void {
  const mp = window.map[w];
  const u = window.run[w];
  if (opt.INVARIANTS && window.tid[w] !== thr.tid) {
    panic('vm_window_close: by another thread', w * 4, window.tid[w]);
  }
  if (opt.INVARIANTS) close_checked(mp, w, u);
  else unlink(w);
  vm_map_wakeup(mp); // who waits for the range
  vm_map_deallocate(mp);
}
/** The same, and what the pages leave is filled.  Nobody opens a window there meanwhile. */
function close_checked(mp: vm_map_t, w: vm_window_t, u: vm_window_run_t): void {
  vm_map_lock(mp);
  const pages = alone(u) ? pages_loosen(run.frame[u], run.pages[u]) : [];
  unlink(w);
  pages_poison(pages);
  vm_map_unlock(mp);
}
/** Whether a run has one window only. */
function alone(u: vm_window_run_t): boolean {
  const r = window_root();
  mtx_lock(root.lock, r);
  const one = run.refs[u] === 1;
  mtx_unlock(root.lock, r);
  return one;
}
/**
 * The window is on no list any more, and with it goes its run if it was the last one on it: true.
 * The reference to the map is in hand.
 */
function unlink(w: vm_window_t): boolean {
  const r = window_root();
  mtx_lock(root.lock, r);
  const mp = window.map[w];
  const u = window.run[w];
  const last = run.refs[u] === 1;
  // One that was never open has pages that are not its own yet.
  const was_open = run.wired[u] === run.pages[u];
  if (was_open && window.prot[w] & VM_PROT_WRITE) pages_written(window.frame[w], window.pages[w]);
  // Should this thread die in the middle, the rest is unwired by the reaper.
  if (last) vm_page_unwire_run(run.frame[u] + run.pages[u] - 1, field_word(run.wired, u));
  undo_begin(root.lock, r);
  list_remove(root, r, window, w);
  save(run.refs, u);
  run.refs[u]--;
  save(pcpu.in_hand_items, thr.pc);
  if (last) {
    run_out(r, mp, u);
    item_in_hand(u);
  }
  item_in_hand(w);
  vm_map_unanchor(mp);
  undo_end();
  mtx_unlock(root.lock, r);
  zone_free_at(zone(), w, 0);
  if (last) zone_free_at(zone(), u, 0);
  return last;
}
/** A run leaves its map. Inside a section. */
function run_out(r: vm_window_root_t, mp: vm_map_t, u: vm_window_run_t): void {
  let before = NULL as vm_window_run_t;
  for (let at = map.runs[mp]; at !== u; at = run.next[at]) {
    if (at === NULL) panic('vm_window: its map does not have the run', u * 4, mp * 4);
    before = at;
  }
  if (before === NULL) {
    save(map.runs, mp);
    map.runs[mp] = run.next[u];
  } else {
    save(run.next, before);
    run.next[before] = run.next[u];
  }
  save(root.runs, r);
  save(root.pages, r);
  root.runs[r]--;
  root.pages[r] -= run.pages[u];
}
/** Closes the windows of this thread, which leaves. A line of the life tables. */
export function vm_window_leave(): void {
  close_all((tid) => tid === thr.tid);
}
/** Closes those of a dead CPU. A line of the death table. */
export function vm_window_reap(cpu: number): void {
  if (window_root() === 0) return;
  // An heir looks for what those before it on its slot had.
  close_all((tid) => tid_cpu(tid) === cpu && tid !== thr.tid);
}
function close_all(of: (tid: number) => boolean): void {
  const r = window_root();
  for (;;) {
    // A settler that died here before is undone by this lock.
    mtx_lock(root.lock, r);
    let w = root.first[r];
    while (w !== NULL && !of(window.tid[w])) w = window.next[w];
    mtx_unlock(root.lock, r);
    if (w === NULL) return;
    const mp = window.map[w];
    unlink(w);
    vm_map_deallocate(mp);
  }
}

// --- asking ------------------------------------------------------------------------------------

/** Whether the range from `start` up to `end` has a page of the n from `first` on. */
function overlap(first: number, n: number, start: number, end: number): boolean {
  return first < end && start < first + n;
}
/**
 * A run that overlaps a range of a map, which is locked; NULL: none does.  Its windows may be
 * closed at any moment, and it with them.
 */
export function run_over(mp: vm_map_t, start: number, end: number): vm_window_run_t {
  if (map.runs[mp] === NULL) return NULL as vm_window_run_t;
  const r = window_root();
  mtx_lock(root.lock, r);
  let u = map.runs[mp];
  while (u !== NULL && !overlap(run.start[u], run.pages[u], start, end)) u = run.next[u];
  over.inside = u !== NULL && start >= run.start[u] && end <= run.start[u] + run.pages[u];
  mtx_unlock(root.lock, r);
  return u;
}
/** Of this thread: whether the range was inside the run that run_over found last. */
const over = { inside: false };
/** The first run of a map, which is locked, that begins at page `at` or behind it; null: none. */
export function run_from(mp: vm_map_t, at: number): { start: number; end: number } | null {
  let first: { start: number; end: number } | null = null;
  if (map.runs[mp] === NULL) return first;
  const r = window_root();
  mtx_lock(root.lock, r);
  for (let u = map.runs[mp]; u !== NULL; u = run.next[u]) {
    const start = run.start[u];
    if (start < at || (first !== null && first.start < start)) continue;
    first = { start, end: start + run.pages[u] };
  }
  mtx_unlock(root.lock, r);
  return first;
}
/** What a window was when it was found: it may be closed at any moment. */
export interface WindowSeen {
  readonly w: vm_window_t;
  /** Of the thread that opened it. */
  readonly tid: number;
  readonly start: number;
  readonly pages: number;
}
/** A window onto a range of a map, or onto a run that overlaps it; null: there is none. */
export function vm_window_find(mp: vm_map_t, start: number, end: number): WindowSeen | null {
  const r = window_root();
  mtx_lock(root.lock, r);
  let near = NULL as vm_window_t;
  let w = root.first[r];
  for (; w !== NULL; w = window.next[w]) {
    if (window.map[w] !== mp) continue;
    if (overlap(window.start[w], window.pages[w], start, end)) break;
    const u = window.run[w];
    if (overlap(run.start[u], run.pages[u], start, end)) near = w;
  }
  if (w === NULL) w = near;
  const seen = { w, tid: window.tid[w], start: window.start[w], pages: window.pages[w] };
  mtx_unlock(root.lock, r);
  return w === NULL ? null : seen;
}
/** The map and the pages of each open window. A sample while threads run. */
export function windows_open(): { map: vm_map_t; pages: number }[] {
  const r = window_root();
  const all: { map: vm_map_t; pages: number }[] = [];
  mtx_lock(root.lock, r);
  for (let w = root.first[r]; w !== NULL; w = window.next[w]) {
    all.push({ map: window.map[w], pages: window.pages[w] });
  }
  mtx_unlock(root.lock, r);
  return all;
}
/**
 * Pages of an object that lie under windows that may write: it is taken that each was written to.
 * The caller holds no lock of an object.
 */
export function windows_written(o: vm_object_t): void {
  const r = window_root();
  if (root.count[r] === 0) return;
  mtx_lock(root.lock, r);
  for (let w = root.first[r]; w !== NULL; w = window.next[w]) {
    const u = window.run[w];
    // One that was never open has pages that are not its own yet.
    const open = (window.prot[w] & VM_PROT_WRITE) !== 0 && run.wired[u] === run.pages[u];
    for (let m = window.frame[w]; open && m < window.frame[w] + window.pages[w]; m++) {
      if (page.owner[m] === o) page.mod[m] = 1; // a wired page stays its object's
    }
  }
  mtx_unlock(root.lock, r);
}
/** Whether a window of a dead thread is on a run that overlaps a range. */
function dead_over(mp: vm_map_t, start: number, end: number): boolean {
  const r = window_root();
  let dead = false;
  mtx_lock(root.lock, r);
  for (let w = root.first[r]; w !== NULL && !dead; w = window.next[w]) {
    if (window.map[w] !== mp) continue;
    const u = window.run[w];
    dead = overlap(run.start[u], run.pages[u], start, end) && !tid_alive(window.tid[w]);
  }
  mtx_unlock(root.lock, r);
  return dead;
}
/**
 * Waits until windows of the dead are closed that are in the way in a range.  True: the map,
 * locked exclusively, was let go of and locked again: all may be different.
 */
export function windows_settle(mp: vm_map_t, start: number, end: number): boolean {
  if (map.runs[mp] === NULL || !dead_over(mp, start, end)) return false;
  vm_map_unlock(mp);
  reap_all();
  vm_map_lock(mp);
  if (!dead_over(mp, start, end)) return true;
  vm_map_unlock_and_wait(mp, SLICE_MS); // another thread settles it
  vm_map_lock(mp);
  return true;
}
/**
 * Whether windows forbid to give a range the rights `prot`, or with `keep` to leave it no others:
 * they were opened for another one, or see pages that would be copied if they were written to.  The
 * map is locked.
 */
export function windows_forbid(
  mp: vm_map_t,
  start: number,
  end: number,
  prot: number,
  keep: boolean,
): boolean {
  if (run_over(mp, start, end) === NULL) return false;
  if (prot & VM_PROT_WRITE && !keep && read_only_run(mp, start, end)) return true;
  const r = window_root();
  let forbid = false;
  mtx_lock(root.lock, r);
  for (let w = root.first[r]; w !== NULL && !forbid; w = window.next[w]) {
    if (window.map[w] !== mp || (window.prot[w] & ~prot) === 0) continue;
    forbid = overlap(window.start[w], window.pages[w], start, end);
  }
  mtx_unlock(root.lock, r);
  return forbid;
}
/** Whether a run has pages in a range of a map that may not be written to. It is locked. */
function read_only_run(mp: vm_map_t, start: number, end: number): boolean {
  let e = vm_map_lookup_entry(mp, start);
  if (!entry_covers(mp, e, start)) e = entry.next[e];
  for (let at = start; at < end && entry.end[e] > at && entry.start[e] < end; e = entry.next[e]) {
    const from = Math.max(at, entry.start[e]);
    at = entry.end[e];
    const may = (entry.protection[e] & VM_PROT_WRITE) !== 0;
    if (!may && run_over(mp, from, Math.min(end, at)) !== NULL) return true;
  }
  return false;
}
/**
 * Whether windows forbid that forks share a range: they may see pages of an object below, which
 * would be copied if another space wrote to them.
 */
export function windows_forbid_share(mp: vm_map_t, start: number, end: number): boolean {
  return run_over(mp, start, end) !== NULL && read_only_run(mp, start, end);
}
