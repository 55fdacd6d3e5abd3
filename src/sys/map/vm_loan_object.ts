/*
 * vm_loan_object: pages of a loan are mapped, in any space, without a copy.
 *
 *      entry ──> object ──> loan [ 812 | 813 | 97 ]      the pages are their owner's still
 *
 *      entry ──> object ──> 812, 97                      whose owner let go of them: its own
 *                  '─────> loan [ 812 | 813 | 97 ]
 *
 *      entry ──> object ──> 812, 813, 97                 all of them: memory like any other
 *
 * NetBSD calls it a loan to anonymous memory.  What is mapped is private: it holds what was lent,
 * and the first store, of either side, makes a copy, here by a shadow as after a fork, there by
 * breaking the page off (object/vm_object_loan.ts).
 *
 * An object of type LOAN shows the pages of one loan of its own, which lends them once more, and
 * so they stay, and do not change, as long as the object lives.  A lookup finds in its index what
 * it owns, else what the loan has.  The latter is *borrowed*: it is mapped for reading, and all
 * else that is said of it is its owner's.
 *
 * Adoption.  A page whose owner let go of it is nobody's, and in memory until the last loan ends.
 * The object becomes its owner: the page counts as lent still, and is found by the index and by
 * the loan, which say the same.  When it owns all of them the loan ends, and pages may be paged
 * out.  That is done when memory is short, or lent pages are at their limit.
 *
 * Locks: the object, then by trial the one that had the page: nobody else locks two objects of no
 * chain.  The loan's `object` and its thread change under the lock of the loans.
 *
 * Deaths.  The object is in hand before the loan is its, and it names the loan from its beginning;
 * what ends a loan looks whether it is that object's.  So either may come first, and twice.
 */
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { thr } from '../machine/cpu.ts';
import { ENOMEM } from '../machine/errno.ts';
import { panic } from '../machine/panic.ts';
import { elem, field_word, NULL } from '../machine/struct.ts';
import { vm_loan as loan_, vm_loan_root, type vm_loan_t } from '../h/vm_loan.ts';
import { OBJ_DEAD, OBJT_DEFAULT, OBJT_LOAN, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PK_LOAN, PK_MASK, vm_page } from '../h/vm_page.ts';
import {
  vm_object_allocate,
  vm_object_deallocate,
  vm_object_reference_locked,
} from '../object/vm_object.ts';
import { object_page_adopt, object_page_borrowed } from '../object/vm_object_page.ts';
import { pagers, VM_PAGER_FAIL } from '../object/vm_pager.ts';
import { vm_page_lend } from '../page/vm_page_lend.ts';
import { vm_page_loans } from '../page/vm_pageq.ts';
import { mtx_lock, mtx_trylock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { give_back, LOANS_MOST, loan_new, loan_root, vm_unloan } from './vm_loan.ts';

const object = vm_object;
const page = vm_page;
const loan = loan_;
const root = vm_loan_root;

const v_adopted = counter_u64(
  'vm.stats.loan.adopted',
  'Lent pages whose owner let go of them, and which became those of a mapping',
);
pagers.set(OBJT_LOAN, { has: () => false, get: () => VM_PAGER_FAIL });

// --- mapping -----------------------------------------------------------------------------------

/**
 * Lends the pages of loans that this thread holds once more, each to a loan of its own: added to
 * `made`.  0, or ENOMEM and nothing has changed.
 */
export function vm_loan_again(of: readonly vm_loan_t[], made: vm_loan_t[]): number {
  const before = made.length;
  for (const l of of) {
    if (loan.tid[l] !== thr.tid) panic('vm_loan_again: held by another thread', l * 4);
    const error = loan_new(loan.pages[l], made) || lend_again(l, made[made.length - 1]);
    if (error === 0) continue;
    for (const back of made.splice(before)) vm_unloan(back);
    return error;
  }
  return 0;
}
function lend_again(from: vm_loan_t, to: vm_loan_t): number {
  const ms = Array.from({ length: loan.pages[from] }, (_, k) => loan.frames[elem(from, k)]);
  const [list, count] = [field_word(loan.frames, to), field_word(loan.wired, to)];
  for (let k = 0; k < ms.length; ) {
    const o = page.owner[ms[k]] as vm_object_t;
    let end = k;
    mtx_lock(object.lock, o);
    while (end < ms.length && page.owner[ms[end]] === o && vm_page_loans(ms[end]) < LOANS_MOST) {
      end++;
    }
    const full = page.owner[ms[k]] === o && end === k;
    if (end > k) vm_page_lend(ms, k, end, list, count);
    mtx_unlock(object.lock, o);
    if (full) return ENOMEM;
    k = end; // the same: it has moved to another object meanwhile
  }
  return 0;
}
/**
 * An object that shows a loan which this thread holds, and nobody else: it is the object's from
 * here on.  A reference to it is in hand.  NULL: no memory.  It never sleeps.
 */
export function vm_loan_object(l: vm_loan_t): vm_object_t {
  const o = vm_object_allocate(OBJT_LOAN, loan.pages[l], 0, l);
  if (o === NULL) return o;
  const r = loan_root();
  mtx_lock(root.lock, r);
  undo_begin(root.lock, r);
  save(loan.object, l);
  save(loan.tid, l);
  loan.object[l] = o;
  loan.tid[l] = 0;
  undo_end();
  mtx_unlock(root.lock, r);
  return o;
}
/** An object ends that showed a loan, or owns all of it: that is not its any more. */
export function loan_object_end(of: number): void {
  const o = of as vm_object_t;
  const l = object.loan[o] as vm_loan_t;
  const r = loan_root();
  mtx_lock(root.lock, r);
  const its = loan.object[l] === o; // else that was done, and perhaps it is another loan by now
  const last = its && loan.refs[l] === 0 && loan.tid[l] === 0;
  if (its) {
    undo_begin(root.lock, r);
    save(loan.object, l);
    save(loan.tid, l);
    loan.object[l] = NULL as vm_object_t;
    if (last) loan.tid[l] = thr.tid;
    undo_end();
  }
  mtx_unlock(root.lock, r);
  if (last) give_back(l);
}

// --- adoption ----------------------------------------------------------------------------------

/** Objects that show loans become owners of what nobody owns. A line of the low-memory table. */
export function vm_loan_adopt(): void {
  const r = loan_root();
  if (root.count[r] === 0) return; // a sample
  const shown: { l: vm_loan_t; o: vm_object_t }[] = [];
  mtx_lock(root.lock, r);
  for (let l = root.first[r]; l !== NULL; l = loan.next[l]) {
    if (loan.object[l] !== NULL) shown.push({ l, o: loan.object[l] });
  }
  mtx_unlock(root.lock, r);
  for (const { l, o } of shown) adopt(l, o);
}
function adopt(l: vm_loan_t, o: vm_object_t): void {
  // A record of an object stays one, and its lock a lock, whatever becomes of the object.
  mtx_lock(object.lock, o);
  const shows = object.type[o] === OBJT_LOAN && object.loan[o] === l && object.refs[o] > 0;
  if (!shows || (object.flags[o] & OBJ_DEAD) !== 0) return mtx_unlock(object.lock, o);
  vm_object_reference_locked(o);
  let own = 0;
  for (let i = 0; i < object.size[o]; i++) if (adopted(o, i, loan.frames[elem(l, i)])) own++;
  const all = own === object.size[o];
  if (all) {
    undo_begin(object.lock, o);
    save(object.type, o);
    object.type[o] = OBJT_DEFAULT;
    undo_end();
  }
  mtx_unlock(object.lock, o);
  if (all) loan_object_end(o); // should this thread die before, the object's end does it
  vm_object_deallocate(o);
}
/** Whether page m is page `i` of an object, or is so from here on, because nobody has it. */
function adopted(o: vm_object_t, i: number, m: number): boolean {
  if (!object_page_borrowed(m, o)) return page.index[m] === i;
  const from = page.owner[m] as vm_object_t;
  if ((page.info[m] & PK_MASK) !== PK_LOAN || from === o) return false;
  if (!mtx_trylock(object.lock, from)) return false; // against the order: another time
  const orphan = page.owner[m] === from && (page.info[m] & PK_MASK) === PK_LOAN;
  const done = orphan && page.busy[m] === 0 && object_page_adopt(m, from, o, i);
  mtx_unlock(object.lock, from);
  if (done) counter_add(v_adopted, 1);
  return done;
}
