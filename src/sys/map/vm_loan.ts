/*
 * vm_loan: pages of an address space are lent, to be read where they lie.
 *
 *      vm_loan          pages from ... up to ...    ──>  loans, of 32 pages at most each
 *      vm_loan_refer    one more piece of storage is it  (lib: a chain)
 *      vm_loan_drop     one less, whichever thread
 *      vm_unloan        the thread that made it holds it no more
 *
 *      address space   | 7 | 8 | 9 |           | 7 | 8'| 9 |
 *      memory           812  40  41             812  97  41
 *      loan            [812, 40, 41]           [812, 40, 41]     of page 8 it has what was lent
 *
 * What is lent stays as it is at one moment.  The map is locked; then no translation of it allows
 * to write to the range, and all CPUs have answered; whoever maps a page elsewhere loses that
 * right, too.  Only then the pages count as lent, under the lock of their object, so that no store
 * is under way to a lent page ever.  The next write faults, and breaks the page off
 * (object/vm_object_loan.ts).
 *
 * A CPU that is silent for vm.loan_wait holds nobody up: the loan is of copies then, which are made
 * while nobody else can write.
 *
 * A loan knows pages of memory, and not what maps them.  Unmapping, truncating, forking, paging
 * out, the end of the space go on as if there were none.  What is wired otherwise is not lent:
 * somebody may write to it whom no fault stops.
 *
 * Locks: the map, then objects one at a time.  Giving back takes those of the objects alone.
 *
 * Deaths.  A loan is on the list before its first page is lent, and each is counted in it in the
 * section that lends it.  The loans that a dead thread held go back; what is storage of a chain
 * stays until the chain is freed.
 *
 * Read next: vm_loan_object.ts, loans that are mapped.
 */
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { pcpu, thr, tid_cpu } from '../machine/cpu.ts';
import { EBUSY, EFAULT, EINVAL, ENOMEM } from '../machine/errno.ts';
import { boot_alloc, M, machine, ROOT_LOAN } from '../machine/header.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { panic } from '../machine/panic.ts';
import { elem, field_word, NULL } from '../machine/struct.ts';
import {
  CTLFLAG_RWTUN,
  sysctl_get,
  sysctl_set,
  sysctl_uint,
  sysctl_value,
} from '../machine/sysctl_decl.ts';
import { vector } from '../machine/vectors.ts';
import { zone_declared } from '../machine/zone_decl.ts';
import { M_NORECLAIM, M_NOWAIT } from '../h/malloc_flags.ts';
import type { zone_t } from '../h/uma.ts';
import {
  LOAN_PAGES,
  vm_loan_root,
  type vm_loan_root_t,
  vm_loan as loan_,
  type vm_loan_t,
} from '../h/vm_loan.ts';
import {
  KERN_SUCCESS,
  MAP_ENTRY_IS_SUB_MAP,
  MAP_ENTRY_NOFAULT,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import type { pmap_t } from '../h/pmap.ts';
import { OBJT_DEAD, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PK_LOAN, PK_MASK, PK_OBJECT, VM_ALLOC_NORMAL, vm_page } from '../h/vm_page.ts';
import { VM_PROT_COPY, VM_PROT_READ } from '../h/vm_prot.ts';
import { object_seen, vm_object_seen } from '../object/vm_object_chain.ts';
import {
  object_page_borrowed,
  object_page_seen,
  page_valid,
  vm_page_sleep_if_busy,
} from '../object/vm_object_page.ts';
import { pmap_copy_page, vm_page_count } from '../page/vm_page.ts';
import {
  vm_page_alloc_busy,
  vm_page_forget,
  vm_page_free_busy,
  vm_page_idle,
} from '../page/vm_page_busy.ts';
import { vm_page_lend, vm_page_unlend } from '../page/vm_page_lend.ts';
import { vm_page_held, vm_page_loans } from '../page/vm_pageq.ts';
import { pmap_cut, pmap_cut_begin, pmap_cut_end, pmap_remove_write } from '../pmap/pmap.ts';
import { tlb_wait_all } from '../pmap/pmap_tlb.ts';
import { mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_VM_LOANS } from '../sync/lock_order.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { list_insert, list_remove } from '../sync/undo_list.ts';
import { zone_give_hand, zone_take_hand } from '../uma/uma_core.ts';
import { item_in_hand, item_settle } from '../uma/uma_keg.ts';
import { uma_zcreate } from '../uma/uma_zone.ts';
import { fault_errno } from './vm_copy.ts';
import { type Coming, coming_none, fault_ahead, still_coming, vm_fault_ahead } from './vm_fault.ts';
import { vm_loan_adopt } from './vm_loan_object.ts';
import { vm_map_lock, vm_map_unlock } from './vm_map.ts';
import { entry_covers, vm_map_lookup_entry } from './vm_map_tree.ts';
import { wired_room } from './vm_window.ts';

const map = vm_map;
const entry = vm_map_entry;
const object = vm_object;
const page = vm_page;
const loan = loan_;
const root = vm_loan_root;

const Z_LOANS = zone_declared('VM LOAN', 'Loans of pages of address spaces');
/** Default limit: part of all memory. */
const LOAN_SHARE = 16;
/** The most loans of a page that its word has room for, less what others may come to. */
export const LOANS_MOST = 0xff00;

const loan_max = sysctl_uint('vm.loan_max', {
  value: 0,
  unit: 'pages',
  flags: CTLFLAG_RWTUN,
  help: 'The most pages that are lent at once; 0 when the machine boots: a sixteenth of the memory',
});
const loan_wait = sysctl_uint('vm.loan_wait', {
  value: 1,
  unit: 'ms',
  max: 1000,
  flags: CTLFLAG_RWTUN,
  help: 'How long a loan waits for the answer of a CPU before it is one of copies',
});
const v_made = counter_u64('vm.stats.loan.made', 'Loans that were made, of 32 pages at most each');
const v_pages = counter_u64('vm.stats.loan.pages', 'Pages that were lent');
const v_copied = counter_u64(
  'vm.stats.loan.copied',
  'Of these, pages that were copied because a CPU did not answer',
);
sysctl_value('vm.loans', { type: 'uint', help: 'Loans that are not given back' }, () => {
  return root.count[loan_root()];
});
sysctl_value(
  'vm.loan_pages',
  { type: 'uint', unit: 'pages', help: 'Pages that they are of, each as often as it is lent' },
  () => root.pages[loan_root()],
);

/** The record of all loans. */
export function loan_root(): vm_loan_root_t {
  return machine.roots[elem(M, ROOT_LOAN)] as vm_loan_root_t;
}
/** Lays the root out, while boot_alloc still works. */
export function vm_loan_boot(): void {
  const r = boot_alloc(root.sizeof, 'loans of pages', 32) as vm_loan_root_t;
  machine.roots[elem(M, ROOT_LOAN)] = r;
  mtx_init(root.lock, r, LC_VM_LOANS);
}
/** Makes the zone, and says how many pages may be lent. */
export function vm_loan_startup(): void {
  root.zone[loan_root()] = uma_zcreate(Z_LOANS, loan.sizeof * 4);
  const share = Math.max(Math.floor(vm_page_count() / LOAN_SHARE), 1);
  if (sysctl_get(loan_max) === 0) sysctl_set(loan_max, share);
}
function zone(): zone_t {
  return root.zone[loan_root()] as zone_t;
}

// --- making ------------------------------------------------------------------------------------

/** Of the last call of vm_loan in this thread that said ENOMEM: what a limit leaves, or -1. */
export const vm_loan_why = { room: -1 };
/** Beside -errno: looked at again from the start. */
const AGAIN = -1000;

/**
 * Lends the pages of a map from `start` up to `end`, which this thread holds then: the loans are
 * added to `made`, in the order of their pages.  0, or an errno and nothing has changed: EFAULT
 * something is not mapped, or may not be read; EBUSY a window is open there, or it is wired;
 * ENOMEM, see vm_loan_why; EIO a pager failed.  The caller refers to the map and holds no lock.  It
 * may sleep.
 */
export function vm_loan(mp: vm_map_t, start: number, end: number, made: vm_loan_t[]): number {
  if (end <= start) return EINVAL;
  vm_loan_why.room = -1;
  const before = made.length;
  for (let at = start; at < end; at += LOAN_PAGES) {
    const error = loan_new(Math.min(LOAN_PAGES, end - at), made);
    if (error === 0) continue;
    loans_back(made, before);
    return error;
  }
  const coming = coming_none();
  for (;;) {
    vm_map_lock(mp);
    const got = lend_locked(mp, start, end, made, before);
    vm_map_unlock(mp);
    if (got === 0) {
      counter_add(v_made, made.length - before);
      counter_add(v_pages, end - start);
      return 0;
    }
    for (let k = before; k < made.length; k++) {
      pages_back(made[k]);
      if (loan.copied[made[k]] !== 0) copied_is(made[k], 0);
    }
    const error = got === AGAIN ? wanted_get(mp, end, coming) : -got;
    if (error === 0) continue;
    loans_back(made, before);
    return error;
  }
}
/** Loans of which nothing came are given up. */
function loans_back(made: vm_loan_t[], before: number): void {
  for (const l of made.splice(before)) give_back(l);
}
/**
 * A loan of n pages, none of which is lent yet, on the list.  0, or ENOMEM.  At the limit pages go
 * back first that only mappings have.
 */
export function loan_new(n: number, made: vm_loan_t[]): number {
  vm_loan_why.room = -1;
  if (loan_one(n, made)) return 0;
  if (vm_loan_why.room < 0) return ENOMEM;
  vm_loan_adopt();
  return loan_one(n, made) ? 0 : ENOMEM;
}
function loan_one(n: number, made: vm_loan_t[]): boolean {
  const r = loan_root();
  const l = zone_take_hand(zone(), M_NOWAIT | M_NORECLAIM) as vm_loan_t;
  if (l === NULL) return false;
  checked_fresh(l, loan.sizeof);
  loan.tid[l] = thr.tid;
  loan.refs[l] = 0;
  loan.object[l] = NULL as vm_object_t;
  loan.pages[l] = n;
  loan.copied[l] = 0;
  loan.wired[l] = 0;
  checked_publish(l);
  const most = root.pages[r] + wired_room(); // what is held in place meanwhile does not count
  mtx_lock(root.lock, r);
  const room = Math.min(sysctl_get(loan_max), most) - root.pages[r];
  if (room >= n) {
    undo_begin(root.lock, r);
    save(root.pages, r);
    save(pcpu.in_hand_items, thr.pc);
    list_insert(root, r, loan, l);
    root.pages[r] += n;
    item_settle();
    undo_end();
  }
  mtx_unlock(root.lock, r);
  if (room >= n) made.push(l);
  else {
    zone_give_hand(zone(), l);
    vm_loan_why.room = Math.max(room, 0);
  }
  return room >= n;
}

/** Pages of the range that is looked at, and whose which of them they are. */
class Seen {
  readonly ms: number[] = [];
  readonly os: vm_object_t[] = [];
  readonly is: number[] = [];
}
/** Where nobody may write any more, and how long that waits for a CPU. */
interface Stopped {
  readonly pm: pmap_t;
  readonly start: number;
  readonly end: number;
  readonly ms: number;
}
/* What is to be done before it is looked at again: pages are to come, or one is busy. */
const wanted = { vpn: 0, end: 0, busy: 0, o: NULL as vm_object_t, access: VM_PROT_READ };
/** It is to be looked at again when pages from `vpn` up to `end` have come, or one is not busy. */
function again(vpn: number, end: number, busy = 0, o = NULL as vm_object_t): number {
  wanted.vpn = vpn;
  wanted.end = end;
  wanted.busy = busy;
  wanted.o = o;
  wanted.access = VM_PROT_READ;
  return AGAIN;
}
/** Sees to it, at most up to page `end`. 0, or an errno. Nothing is locked. */
function wanted_get(mp: vm_map_t, end: number, coming: Coming): number {
  if (wanted.busy !== 0) {
    // A record of an object stays one, and its lock a lock, whatever becomes of the object.
    mtx_lock(object.lock, wanted.o);
    vm_page_sleep_if_busy(wanted.busy, wanted.o);
    mtx_unlock(object.lock, wanted.o);
    return 0;
  }
  const last = Math.min(end, wanted.end);
  if (wanted.vpn < last && !still_coming(coming, wanted.vpn)) return ENOMEM;
  for (let vpn = wanted.vpn; vpn < last; vpn += fault_ahead.pages) {
    const result = vm_fault_ahead(mp, vpn, wanted.access, last - vpn);
    if (result !== KERN_SUCCESS) return fault_errno(result);
  }
  return 0;
}
/** One attempt with the map locked: 0, -errno, or AGAIN; some pages may be lent then. */
function lend_locked(
  mp: vm_map_t,
  start: number,
  end: number,
  made: readonly vm_loan_t[],
  before: number,
): number {
  if (map.pmap[mp] === NULL) return -EFAULT;
  const here = { pm: map.pmap[mp], start, end, ms: sysctl_get(loan_wait) };
  const loans = { made, before };
  const got = lend_top(mp, here, loans);
  if (got !== AGAIN) return got;
  const n = end - start;
  const seen = new Seen();
  const error = look_all(mp, start, end, seen);
  if (error !== 0) return error;
  let copy = !stopped(here);
  for (let k = 0; k < n; ) {
    const to = same_object(seen, k, n);
    const o = seen.os[k];
    mtx_lock(object.lock, o);
    const good = still_there(seen, k, to);
    if (good && !copy) copy = !others_stopped(here, seen.ms, k, to);
    const done = good && lend(loans, seen.ms, k, to, copy);
    mtx_unlock(object.lock, o);
    if (!done) return good ? -ENOMEM : again(0, 0);
    k = to;
  }
  return 0;
}
/** The loans that are made, the first of which is number `before`. */
interface Making {
  readonly made: readonly vm_loan_t[];
  readonly before: number;
}
/**
 * The same where one entry shows the whole range, and its topmost object has all pages, which is
 * locked once.  AGAIN: it is not so.
 */
function lend_top(mp: vm_map_t, here: Stopped, loans: Making): number {
  const { start, end } = here;
  const e = vm_map_lookup_entry(mp, start);
  if (!entry_covers(mp, e, start) || entry.end[e] < end || !readable(e)) return AGAIN;
  const o = entry.object[e];
  if (o === NULL) return AGAIN;
  const n = end - start;
  const first = start - entry.start[e] + entry.offset[e];
  const ms: number[] = [];
  mtx_lock(object.lock, o);
  const there = object.type[o] !== OBJT_DEAD && first + n <= object.size[o];
  let m = 0;
  for (let k = 0, by = 0; there && k < n; k++) {
    // Most pages lie beside the one before: they say themselves whose they are.
    const beside = m + by;
    if (by === 0 || !is_page(beside, o, first + k)) {
      const before = m;
      m = object_page_seen(o, first + k);
      by = k > 0 && Math.abs(m - before) === 1 ? m - before : 0;
    } else m = beside;
    if (m === 0 || object_page_borrowed(m, o) || !lendable(m)) break;
    ms.push(m);
  }
  let result = AGAIN;
  if (ms.length === n) {
    const copy = !stopped(here) || !others_stopped(here, ms, 0, n);
    result = lend(loans, ms, 0, n, copy) ? 0 : -ENOMEM;
  }
  mtx_unlock(object.lock, o);
  return result;
}
/** Whether page m says that it is page `i` of the locked object, and has contents. */
function is_page(m: number, o: vm_object_t, i: number): boolean {
  if (page.owner[m] !== o || page.index[m] !== i) return false;
  return (page.info[m] & PK_MASK) === PK_OBJECT && page_valid(m);
}
/** Whether page m of a locked object may be lent now. */
function lendable(m: number): boolean {
  return page.busy[m] === 0 && vm_page_held(m) === 0 && vm_page_loans(m) < LOANS_MOST;
}
/** Whether an entry may be read. */
function readable(e: vm_map_entry_t): boolean {
  if (entry.eflags[e] & (MAP_ENTRY_IS_SUB_MAP | MAP_ENTRY_NOFAULT)) return false;
  return (entry.protection[e] & VM_PROT_READ) !== 0;
}
/** Nobody may write to the range by this map any more. False: a CPU is silent. */
function stopped({ pm, start, end, ms }: Stopped): boolean {
  const cut = pmap_cut_begin(pm);
  pmap_cut(cut, start, end);
  return pmap_cut_end(cut, ms, true) < 0;
}
/** Notes the pages of a range in `seen`. 0, AGAIN, or -errno. */
function look_all(mp: vm_map_t, start: number, end: number, seen: Seen): number {
  for (let e = vm_map_lookup_entry(mp, start), at = start; at < end; e = entry.next[e]) {
    if (!entry_covers(mp, e, at) || !readable(e)) return -EFAULT;
    const to = Math.min(end, entry.end[e]);
    const error = look_entry(e, at, to, seen);
    if (error !== 0) return error;
    at = to;
  }
  return 0;
}
/** The same of pages `from` to before `to`, which one entry shows. */
function look_entry(e: vm_map_entry_t, from: number, to: number, seen: Seen): number {
  const o = entry.object[e];
  if (o === NULL) return again(from, to);
  const by = entry.offset[e] - entry.start[e];
  for (let vpn = from; vpn < to; ) {
    let m = vm_object_seen(o, vpn + by);
    if (m === 0) return again(vpn, to);
    const of = object_seen.o;
    let error = look_at(seen, m, of, vpn, to);
    // Of the topmost object as many as there are in one hold of its lock.
    for (vpn++; error === 0 && of === o && vpn < to && vpn + by < object.size[o]; vpn++) {
      m = object_page_seen(o, vpn + by);
      if (m === 0) break;
      error = look_at(seen, m, of, vpn, to);
    }
    mtx_unlock(object.lock, of);
    if (error !== 0) return error;
  }
  return 0;
}
/** Notes page m of the locked object as the next one. */
function look_at(seen: Seen, m: number, o: vm_object_t, vpn: number, to: number): number {
  if (object_page_borrowed(m, o)) {
    again(vpn, vpn + 1); // first it gets a copy that is its own
    wanted.access = VM_PROT_READ | VM_PROT_COPY;
    return AGAIN;
  }
  if (page.busy[m] !== 0) return again(vpn, to, m, o);
  if (!lendable(m)) return -EBUSY;
  seen.ms.push(m);
  seen.os.push(o);
  seen.is.push(page.index[m]);
  return 0;
}
/** Up to which page, at most `end`, those from number k on are of one object. */
function same_object({ os }: Seen, k: number, end: number): number {
  let to = k + 1;
  while (to < end && os[to] === os[k]) to++;
  return to;
}
/** Whether those are pages of their object still, and may be lent. It is locked. */
function still_there({ ms, os, is }: Seen, first: number, end: number): boolean {
  for (let k = first; k < end; k++) {
    if (!is_page(ms[k], os[k], is[k]) || !lendable(ms[k])) return false;
  }
  return true;
}
/**
 * Takes the right to write to those pages away from whoever maps them elsewhere; no store is under
 * way afterwards.  False: a CPU is silent.  Nobody maps them anew while their object is locked.
 */
function others_stopped(
  { pm, start, end, ms }: Stopped,
  pages: readonly number[],
  first: number,
  to: number,
): boolean {
  for (let k = first; k < to; k++) {
    const m = pages[k];
    const at = page.map_page[m];
    const here = page.map_pmap[m] === pm && at >= start && at < end;
    if (page.map_more[m] === 0 && (here || page.map_pmap[m] === NULL)) continue;
    if (pmap_remove_write(m, ms) >= 0) return false;
  }
  // One who has unmapped a page waited for nobody.
  return tlb_wait_all(ms) < 0;
}
/**
 * Lends pages from number `first` to before `to`, whose object is locked, or copies of them.
 * False: no memory for these.
 */
function lend(
  { made, before }: Making,
  ms: readonly number[],
  first: number,
  to: number,
  copy: boolean,
): boolean {
  for (let k = first; k < to; ) {
    const l = made[before + Math.floor(k / LOAN_PAGES)];
    const end = Math.min(to, k - (k % LOAN_PAGES) + LOAN_PAGES);
    const [list, count] = [field_word(loan.frames, l), field_word(loan.wired, l)];
    if (!copy) vm_page_lend(ms, k, end, list, count);
    else if (!lend_copies(l, ms.slice(k, end), list, count)) return false;
    k = end;
  }
  return true;
}
function lend_copies(l: vm_loan_t, ms: readonly number[], list: number, count: number): boolean {
  for (const m of ms) {
    const copy = vm_page_alloc_busy(PK_LOAN, page.owner[m], page.index[m], VM_ALLOC_NORMAL);
    if (copy === 0) return false;
    pmap_copy_page(m, copy);
    counter_add(v_copied, 1);
    vm_page_lend([copy], 0, 1, list, count);
    vm_page_idle(copy);
  }
  copied_is(l, 1);
  return true;
}
/** Whether a loan is one of copies. */
function copied_is(l: vm_loan_t, copied: number): void {
  const r = loan_root();
  mtx_lock(root.lock, r);
  loan.copied[l] = copied;
  mtx_unlock(root.lock, r);
}

// --- giving back -------------------------------------------------------------------------------

/** This thread, which made it, does not hold the loan any more. */
export function vm_unloan(l: vm_loan_t): void {
  if (loan.tid[l] !== thr.tid) panic('vm_unloan: held by another thread', l * 4, loan.tid[l]);
  // Only this thread could make it storage, or an object's, if it is neither.
  const alone = loan.refs[l] === 0 && loan.object[l] === NULL;
  if (alone || !let_go(l)) give_back(l);
}
/** One more piece of storage is made of it. The caller holds it, or has another piece. */
export function vm_loan_refer(l: vm_loan_t): void {
  const r = loan_root();
  mtx_lock(root.lock, r);
  undo_begin(root.lock, r);
  save(loan.refs, l);
  loan.refs[l]++;
  undo_end();
  mtx_unlock(root.lock, r);
}
/** A piece of storage goes. */
export function vm_loan_drop(l: vm_loan_t): void {
  const r = loan_root();
  mtx_lock(root.lock, r);
  if (loan.refs[l] === 0) panic('vm_loan_drop: no piece of storage is made of it', l * 4);
  const last = loan.refs[l] === 1 && loan.tid[l] === 0 && loan.object[l] === NULL;
  undo_begin(root.lock, r);
  save(loan.refs, l);
  save(loan.tid, l);
  loan.refs[l]--;
  if (last) loan.tid[l] = thr.tid;
  undo_end();
  mtx_unlock(root.lock, r);
  if (last) give_back(l);
}
/** Gives a piece of storage of an mbuf back that is a loan (uipc_mbuf.ts). */
export const LOAN_FREE = vector('vm_loan_free', (l: number) => vm_loan_drop(l as vm_loan_t));
/** No thread holds the loan any more. False: nobody does, and this one gives it back. */
function let_go(l: vm_loan_t): boolean {
  const r = loan_root();
  mtx_lock(root.lock, r);
  const others = loan.refs[l] > 0 || loan.object[l] !== NULL;
  undo_begin(root.lock, r);
  save(loan.tid, l);
  loan.tid[l] = others ? 0 : thr.tid;
  undo_end();
  mtx_unlock(root.lock, r);
  return others;
}
/** Ends a loan that this thread holds and nobody else does. */
export function give_back(l: vm_loan_t): void {
  pages_back(l);
  const r = loan_root();
  mtx_lock(root.lock, r);
  undo_begin(root.lock, r);
  save(root.pages, r);
  save(pcpu.in_hand_items, thr.pc);
  list_remove(root, r, loan, l);
  root.pages[r] -= loan.pages[l];
  item_in_hand(l);
  undo_end();
  mtx_unlock(root.lock, r);
  zone_give_hand(zone(), l);
}
/** Gives all pages of a loan back, from the last one down. */
function pages_back(l: vm_loan_t): void {
  const list = field_word(loan.frames, l);
  const count = field_word(loan.wired, l);
  const orphans: number[] = [];
  while (loan.wired[l] > 0) {
    const end = loan.wired[l];
    const o = page.owner[loan.frames[elem(l, end - 1)]] as vm_object_t;
    mtx_lock(object.lock, o);
    let n = 0; // 0: the last one has moved to another object meanwhile
    while (n < end && page.owner[loan.frames[elem(l, end - 1 - n)]] === o) n++;
    if (n > 0) vm_page_unlend(n, list, count, orphans);
    mtx_unlock(object.lock, o);
  }
  for (const m of orphans) {
    vm_page_forget(m);
    vm_page_free_busy(m);
  }
}
/** Lets go of the loans of this thread, which leaves. A line of the life tables. */
export function vm_loan_leave(): void {
  all_back((tid) => tid === thr.tid);
}
/** The same with those of a dead CPU. A line of the death table. */
export function vm_loan_reap(cpu: number): void {
  if (loan_root() === 0) return;
  // An heir looks for what those before it on its slot had.
  all_back((tid) => tid_cpu(tid) === cpu && tid !== thr.tid);
}
function all_back(of: (tid: number) => boolean): void {
  const r = loan_root();
  for (;;) {
    // A settler that died here before is undone by this lock.
    mtx_lock(root.lock, r);
    let l = root.first[r];
    while (l !== NULL && (loan.tid[l] === 0 || !of(loan.tid[l]))) l = loan.next[l];
    mtx_unlock(root.lock, r);
    if (l === NULL) return;
    if (!let_go(l)) give_back(l);
  }
}

// --- asking ------------------------------------------------------------------------------------

/** Whether some of its pages are copies. */
export function loan_copied(l: vm_loan_t): boolean {
  return loan.copied[l] !== 0;
}
/** The numbers of the pages of memory that a loan is of, in their order. */
export function loan_frames(l: vm_loan_t): number[] {
  return Array.from({ length: loan.pages[l] }, (_, k) => loan.frames[elem(l, k)]);
}
