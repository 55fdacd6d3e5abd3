/*
 * vm_page_lend: how often pages are lent, and by whom.
 *
 *      page.wired    | loans | wirings |        a loan is a wiring, too
 *      loan          frames [ 812 | 813 | 97 ]  count 3
 *
 * Counting a loan at its page, and noting the page in the loan's own list, is one section, so that
 * whoever finds the list knows what to give back.  Pages that lie side by side, and are alike, are
 * one change.
 *
 * Locks: that of the queues, inside the lock of the object that has the page, or had it when it was
 * lent (object/vm_object_loan.ts).
 */
import { thr as thr_ } from '../machine/cpu.ts';
import { mem as mem_ } from '../machine/memory.ts';
import { PQ_ACTIVE, PQ_NONE, pageq_root, vm_pageq, type vm_pageq_t } from '../h/vm_pageq.ts';
import { PK_LOAN, PK_MASK, PK_OBJECT, vm_page } from '../h/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, save_word, undo_begin, undo_commit, undo_end } from '../sync/undo.ts';
import {
  ONE_LOAN,
  page_act,
  page_queue,
  count_some,
  pageq_link_last,
  pageq_managed,
  pageq_set,
  unwires_alike,
  wire_first,
  wires_alike,
  vm_page_held,
  vm_page_loans,
  vm_page_wirings,
} from './vm_pageq.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const mem = mem_;
const thr = thr_;
const page = vm_page;
const pageq = vm_pageq;

/**
 * Lends pages of `ms` from number `first` to before `end`, all of an object that is locked: each is
 * wired and lent once more.  In the same section its number comes into the next word of those from
 * `list` on, of which so many count as the word `count` says.
 */
export function vm_page_lend(
  ms: readonly number[],
  first: number,
  end: number,
  list: number,
  count: number,
): void {
  const r = pageq_root();
  mtx_lock(pageq.lock, r);
  undo_begin(pageq.lock, r);
  for (let k = first; k < end; undo_commit()) {
    const there = mem.I32[count];
    let n = 1; // so many lie side by side, upwards or downwards
    const by = k + 1 < end ? ms[k + 1] - ms[k] : 0;
    if (by === 1 || by === -1) while (k + n < end && ms[k + n] - ms[k + n - 1] === by) n++;
    const low = Math.min(ms[k], ms[k + n - 1]);
    save_word(count);
    if (wires_alike(low, low + n)) count_some(r, low, low + n, ONE_LOAN);
    else {
      n = 1;
      wire_first(r, ms[k]);
      save(page.wired, ms[k]);
      page.wired[ms[k]] += ONE_LOAN;
    }
    for (let i = 0; i < n; i++) mem.I32[list + there + i] = ms[k + i];
    mem.I32[count] = there + n;
    k += n;
  }
  undo_end();
  mtx_unlock(pageq.lock, r);
}
/**
 * Ends the last `n` of the loans that are counted in the word `count` and noted in the words from
 * `list` on: of pages of one object, or that were, which is locked.  Of those that are not its own
 * any more, and are lent no more, this CPU has each busy then: they are added to `orphans`.
 */
export function vm_page_unlend(n: number, list: number, count: number, orphans: number[]): void {
  const r = pageq_root();
  mtx_lock(pageq.lock, r);
  undo_begin(pageq.lock, r);
  for (let left = n; left > 0; undo_commit()) {
    const there = mem.I32[count];
    const last = list + there - 1;
    let some = 1;
    const by = left > 1 ? mem.I32[last - 1] - mem.I32[last] : 0;
    if (by === 1 || by === -1) {
      while (some < left && mem.I32[last - some] - mem.I32[last - some + 1] === by) some++;
    }
    const low = Math.min(mem.I32[last], mem.I32[last - some + 1]);
    save_word(count);
    if (unlends_alike(low, low + some)) count_some(r, low, low + some, -ONE_LOAN);
    else {
      some = 1;
      unlend(r, mem.I32[last], orphans);
    }
    mem.I32[count] = there - some;
    left -= some;
  }
  undo_end();
  mtx_unlock(pageq.lock, r);
}
/** Whether those are pages of objects that may stay where they are, and have as many wirings. */
function unlends_alike(first: number, end: number): boolean {
  for (let m = first; m < end; m++) if ((page.info[m] & PK_MASK) !== PK_OBJECT) return false;
  return unwires_alike(first, end);
}
function unlend(r: vm_pageq_t, m: number, orphans: number[]): void {
  save(page.wired, m);
  page.wired[m] -= ONE_LOAN; // a word of many loans is a negative number
  const orphan = vm_page_loans(m) === 0 && (page.info[m] & PK_MASK) === PK_LOAN;
  if (orphan) page.wired[m] = 0; // other wirings are the copy's that took its place
  if (page.wired[m] !== 0) return;
  save(pageq.wired, r);
  pageq.wired[r]--;
  if (orphan) {
    save(page.busy, m);
    page.busy[m] = thr.tid;
    pageq_set(m, PQ_NONE, 0);
    orphans.push(m);
  } else if (page_queue(m) === PQ_NONE && pageq_managed(m))
    pageq_link_last(r, m, PQ_ACTIVE, page_act(m));
}
/**
 * The wirings of page m that are no loans become those of page `to`, which takes its place; the
 * object is locked.  `from`: page m loses them, else page `to` gets them: that comes first.
 */
export function vm_page_split(m: number, to: number, from: boolean): void {
  if (vm_page_held(m) === 0) return;
  const r = pageq_root();
  mtx_lock(pageq.lock, r);
  undo_begin(pageq.lock, r);
  const loans = vm_page_loans(m);
  if (from) {
    save(page.wired, m);
    page.wired[m] = loans * ONE_LOAN;
    if (loans === 0) {
      save(pageq.wired, r);
      pageq.wired[r]--;
    }
  } else {
    save(page.wired, to);
    save(pageq.wired, r);
    page.wired[to] = vm_page_wirings(m) - loans;
    pageq.wired[r]++;
  }
  undo_end();
  mtx_unlock(pageq.lock, r);
}
