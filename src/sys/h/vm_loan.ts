/*
 * vm_loan (header): pages that somebody reads where they lie while their owner goes on.
 *
 *      root ─> loan ─> loan        each with the numbers of up to 32 pages of memory
 *               |
 *      frames   [ 812 | 813 | 97 | 98 ]      the first `wired` of them are lent by it
 *
 * A loan is a thread's that holds it (`tid`), that of storage outside of mbufs that it was made
 * (`refs`), or of an object that shows its pages (`object`).  What is nobody's any more goes back.
 */
import { i32, lock_words, type Ptr, ptr, struct, words } from '../machine/struct.ts';
import type { vm_object_t } from './vm_object.ts';

export type vm_loan_t = Ptr<'vm_loan'>;
export type vm_loan_root_t = Ptr<'vm_loan_root'>;

/** Pages of a record: what needs more is several. */
export const LOAN_PAGES = 32;

/*
 * Locks: (n) that of the root  (u) the lock of the page queues  (c) constant once it is on the list
 *        (h) read by all
 */
export const vm_loan = struct<vm_loan_t>('vm_loan')({
  next: ptr<vm_loan_t>('n', 'the one that was made before'),
  prev: ptr<vm_loan_t>('n', 'the one that was made after'),
  tid: i32('nh', 'thread that holds it, or that gives it back; 0: none'),
  refs: i32('nh', 'pieces of storage outside of mbufs that it is'),
  object: ptr<vm_object_t>('nh', 'object that shows its pages, 0: none'),
  pages: i32('c', 'how many it is of'),
  copied: i32('nh', 'it is of copies, because a CPU did not answer: 1'),
  wired: i32('uh', 'so many of them are lent, the first ones; fewer than all: its thread died'),
  frames: words('uh', 'their numbers', LOAN_PAGES),
});
/* Locks: (n) the lock  (c) constant once up  (h) read by all */
export const vm_loan_root = struct<vm_loan_root_t>(
  'vm_loan_root',
  32,
)({
  lock: lock_words(4, 'VM loans', 'the list'),
  first: ptr<vm_loan_t>('nh', 'newest loan'),
  count: i32('nh', 'loans'),
  pages: i32('nh', 'pages of all of them'),
  zone: i32('c', 'zone of loans'),
});
