/*
 * vm_object_replace: the contents of a page of an object move to another page of memory.
 *
 *      1   the page is busy, and nobody maps it             object_page_busy, pmap_remove_all
 *      2   no CPU has an access to it under way             tlb_wait_all
 *      3   its contents are copied
 *      4   the object leads to the copy, the page is nobody's    one section
 *      5   the page is free
 *
 * The caller does the first two, for many pages at a time perhaps: only by waiting it is sure that
 * no store comes after the copy.  Who faults meanwhile finds the page busy and sleeps.  A thread
 * that dies before step 4 leaves the page where it was, and after it a page that is busy and
 * nobody's, which the reaper frees.  The copy is busy until it is on a queue, or wired: the reaper,
 * which finds it busy, puts it on one.
 */
import { opt } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { thr } from '../machine/cpu.ts';
import { PG_UNMANAGED, PK_LOAN, vm_page } from '../h/vm_page.ts';
import { vm_object, type vm_object_t } from '../h/vm_object.ts';
import { pmap_copy_page } from '../page/vm_page.ts';
import { vm_page_forget, vm_page_free_busy, vm_page_unbusy } from '../page/vm_page_busy.ts';
import { pageq_place, vm_page_loans, vm_page_queue_at, vm_page_unqueue } from '../page/vm_pageq.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { radix_replace } from '../pmap/vm_radix.ts';
import { object_index } from './vm_object.ts';
import { object_page_wakeup, page_flash } from './vm_object_page.ts';

const object = vm_object;
const page = vm_page;

/**
 * Steps 3 and 4: page `to`, busy by this CPU and said to be this page of the object, takes the
 * place of page m, whose wirings are the caller's to move.  The object is locked.  The copy is busy
 * by this CPU still, and on no queue; m is busy too and nobody's, or if it is lent the loans'.
 */
export function object_page_replace(m: number, to: number, o: vm_object_t): void {
  if (opt.INVARIANTS) {
    if (page.busy[m] !== thr.tid) panic('vm_page_replace: not busy by this CPU', m);
    if (page.map_pmap[m] !== 0) panic('vm_page_replace: it is mapped', m);
  }
  pmap_copy_page(m, to);
  page.state[to] = page.state[m];
  page.ref[to] = page.ref[m];
  page.mod[to] = page.mod[m];
  if (page.flags[m] & PG_UNMANAGED) page.flags[to] |= PG_UNMANAGED;
  vm_page_unqueue(m);
  undo_begin(object.lock, o);
  radix_replace(object_index(o), page.index[m], to);
  save(page.slot, to);
  save(page.slot, m);
  page.slot[to] = page.slot[m];
  page.slot[m] = 0;
  if (vm_page_loans(m) > 0) {
    save(page.info, m);
    page.info[m] = PK_LOAN;
    vm_page_unbusy(m);
  }
  undo_end();
}
/** The same, and the copy is on the queue that m was on, in the place of that. */
export function object_page_relocate(m: number, to: number, o: vm_object_t): void {
  const place = pageq_place(m);
  object_page_replace(m, to, o);
  vm_page_queue_at(to, place);
  object_page_wakeup(to, o);
}
/** A page that was replaced forgets what it was; those who sleep for it look again. */
export function object_page_left(m: number): void {
  page_flash(m);
  vm_page_forget(m);
}
/** Step 5: it goes. */
export function object_page_replaced(m: number): void {
  object_page_left(m);
  vm_page_free_busy(m);
}
