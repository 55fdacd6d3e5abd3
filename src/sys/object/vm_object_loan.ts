/*
 * vm_object_loan: pages of an object that are lent.
 *
 *      object ──> page <── loan, loan          lent twice: wired twice, and written to by nobody
 *
 *      object ──> copy     page <── loan, loan      somebody wrote: broken off
 *                          page <── loan            the object let go of it
 *                                                   and with the last loan it is free
 *
 * Whoever borrows a page reads it where it lies, for as long as he likes (map/vm_loan.ts).  So
 * while a page is lent no translation allows to write to it, and the kernel does not either.  Who
 * wants to breaks it off first: the object gets a copy in its place, and goes on with that.
 *
 * A page that has left its object is of kind PK_LOAN.  `owner` still is that object, whose lock
 * guards the loans of the page as before: the record of an object stays one, whatever becomes of
 * the object.  So who gives a page back locks what `owner` says, and sees that it says so still.
 *
 * Deaths.  Kind and index change in one section.  The page is busy until then, and its copy until
 * it is on a queue: the reaper finds both as they were, or both as they are to be.
 */
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { opt } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { PK_MASK, PK_OBJECT, vm_page } from '../h/vm_page.ts';
import { vm_object, type vm_object_t } from '../h/vm_object.ts';
import { vm_page_alloc_busy, vm_page_forget } from '../page/vm_page_busy.ts';
import { vm_page_activate, vm_page_loans } from '../page/vm_pageq.ts';
import { vm_page_split } from '../page/vm_page_lend.ts';
import { pmap_remove_all } from '../pmap/pmap.ts';
import { mtx_assert, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { page_select_cache } from './vm_object_cache.ts';
import { object_page_busy, object_page_wakeup } from './vm_object_page.ts';
import { object_page_replace } from './vm_object_replace.ts';

const object = vm_object;
const page = vm_page;

const v_broken = counter_u64(
  'vm.stats.loan.broken',
  'Pages that were copied because they were lent and somebody wrote to them',
);

/**
 * How the reaper sees whether a page that was busy, and has left its object, is nobody's.  Takes
 * the lock that guards its loans: whoever ends the last one makes it busy under that.
 */
export function loan_page_unowned(m: number): boolean {
  const o = page.owner[m] as vm_object_t;
  mtx_lock(object.lock, o);
  const unowned = vm_page_loans(m) === 0;
  mtx_unlock(object.lock, o);
  return unowned;
}
/**
 * Breaks page m off, which is lent and idle: the object, which is locked, has a copy in its place.
 * Returns that, which is mapped nowhere; 0: no memory of that class, nothing has
 * changed.  What is wired beside the loans is the copy from here on.
 */
export function object_page_break(m: number, o: vm_object_t, req: number): number {
  const i = page.index[m];
  if (opt.INVARIANTS) {
    mtx_assert(object.lock, o);
    const right = page.owner[m] === o && (page.info[m] & PK_MASK) === PK_OBJECT;
    if (!right || vm_page_loans(m) === 0) panic('vm_page_break: not lent by it', m, o * 4);
  }
  let to = vm_page_alloc_busy(PK_OBJECT, o, i, req);
  while (to === 0 && page_select_cache()) to = vm_page_alloc_busy(PK_OBJECT, o, i, req);
  if (to === 0) return 0;
  object_page_busy(m, o);
  pmap_remove_all(m);
  vm_page_split(m, to, false);
  object_page_replace(m, to, o); // since it is lent no store is under way
  vm_page_split(m, to, true);
  vm_page_forget(m);
  vm_page_activate(to);
  object_page_wakeup(to, o);
  counter_add(v_broken, 1);
  return to;
}
