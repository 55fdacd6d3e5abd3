/*
 * loan_ops: pages of address spaces that both CPUs use (space_ops.ts) are lent.
 *
 * A CPU has one loan at a time.  What it has stored in a page before it is lent it sees in the loan
 * until it gives that back, whatever is stored, unmapped or copied meanwhile.
 */
import { thr } from '../src/sys/machine/cpu.ts';
import { EBUSY, EFAULT, ENOMEM } from '../src/sys/machine/errno.ts';
import { mem, PAGE_WORDS, page_word } from '../src/sys/machine/memory.ts';
import { elem, NULL } from '../src/sys/machine/struct.ts';
import { vm_loan, vm_loan_root, type vm_loan_t } from '../src/sys/h/vm_loan.ts';
import { map_at } from '../src/sys/map/vm_map.test.lib.ts';
import { FIRST } from '../src/sys/map/vm_space.test.lib.ts';
import {
  loan_root,
  vm_loan as lend_pages,
  vm_loan_drop,
  vm_loan_refer,
  vm_unloan,
} from '../src/sys/map/vm_loan.ts';
import { vm_loan_adopt, vm_loan_again, vm_loan_object } from '../src/sys/map/vm_loan_object.ts';
import { vm_map_fixed } from '../src/sys/map/vm_map_insert.ts';
import { vm_object_deallocate } from '../src/sys/object/vm_object.ts';
import {
  KERN_BUSY,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  MAP_COPY_ON_WRITE,
} from '../src/sys/h/vm_map.ts';
import { own } from './space_ops.ts';

/** The loan that this CPU holds; NULL: it has none. */
function here(): vm_loan_t {
  let l = vm_loan_root.first[loan_root()];
  while (l !== NULL && vm_loan.tid[l] !== thr.tid) l = vm_loan.next[l];
  return l;
}
/** Lends n pages from the i-th on. */
export const lend =
  (s: number, i: number, n: number): (() => void) =>
  () => {
    if (map_at(s) === 0) return;
    const error = lend_pages(map_at(s), FIRST + i, FIRST + i + n, []);
    if (![0, EFAULT, EBUSY, ENOMEM].includes(error)) throw new Error(`lend says ${error}`);
  };
/** What this CPU alone has stored in page i is what page k of its loan shows: whole. */
export const shows =
  (k: number, i: number, cpu: number): (() => void) =>
  () => {
    const l = here();
    if (l === NULL) return;
    const w = page_word(vm_loan.frames[elem(l, k)]);
    const [first, last] = [mem.I32[w], mem.I32[w + PAGE_WORDS - 1]];
    if (first !== own(cpu, i) || last !== first) {
      throw new Error(`page ${k} of a loan shows ${first} and ${last}, not ${own(cpu, i)}`);
    }
  };
/** The loan of this CPU is mapped from page i on, in place of what is there. */
export const shown =
  (s: number, i: number): (() => void) =>
  () => {
    const l = here();
    if (l === NULL || map_at(s) === 0) return;
    const made: vm_loan_t[] = [];
    const error = vm_loan_again([l], made);
    if (error !== 0) {
      if (error !== ENOMEM) throw new Error(`lend again says ${error}`);
      return;
    }
    const object = vm_loan_object(made[0]);
    if (object === NULL) return vm_unloan(made[0]);
    const first = FIRST + i;
    const what = { object, offset: 0, protection: 3, max_protection: 3, cow: MAP_COPY_ON_WRITE };
    const kern = vm_map_fixed(map_at(s), first, first + vm_loan.pages[l], what);
    if (kern === KERN_SUCCESS) return;
    vm_object_deallocate(object);
    if (kern !== KERN_BUSY && kern !== KERN_RESOURCE_SHORTAGE) throw new Error(`show: ${kern}`);
  };
/** Objects that show loans have what nobody has. */
export const adopt = (): void => vm_loan_adopt();
export const give_back = (): void => {
  const l = here();
  if (l !== NULL) vm_unloan(l);
};
/** The loan is storage for a while, which this CPU frees after it let go of it. */
export const as_storage = (): void => {
  const l = here();
  if (l === NULL) return;
  vm_loan_refer(l);
  vm_unloan(l);
  vm_loan_drop(l);
};
