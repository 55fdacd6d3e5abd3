/*
 * swap_book: who has slots in tests, as objects have them.
 *
 * A book is a page with a lock and a row of words: word i is the slot of page i of the book, or
 * 0.  What a page is written with says which page it is and how often it was written, in every word
 * of it, so that contents of another one, or half of one, are seen.  Slots come and go as a
 * pager takes and gives them: by way of the notes of the CPU.
 *
 * Each page of a book is one thread's at a time, as a busy page is.
 */
import { thr } from '../machine/cpu.ts';
import { hw, mem, PAGE_SIZE, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { elem, lock_words, type Ptr, struct, words } from '../machine/struct.ts';
import { SWAP_CLUSTER, swap_area, type swap_area_t } from '../h/swap.ts';
import type { vm_store_t } from '../h/vm_store.ts';
import { VM_ALLOC_SYSTEM } from '../h/vm_page.ts';
import { vm_page_alloc_run, vm_page_wire } from '../page/vm_page.ts';
import { MTX_WORDS, mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_VM_OBJECT } from '../sync/lock_order.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { vm_store_drop, vm_store_memory } from './vm_store.ts';
import {
  swap_alloc,
  swap_area_add,
  swap_area_end,
  swap_free_notes,
  swap_free_old,
} from './swap_area.ts';
import { swap_note_old, swap_note_take } from './swap_area.ts';
import { swap_read, swap_write } from './swap_io.ts';

export type book_t = Ptr<'test_swap_book'>;
/** Pages of a book. */
export const BOOK_PAGES = 500;
/* Locks: (s) the lock  (h) read by all */
const book = struct<book_t>('test_swap_book')({
  lock: lock_words(MTX_WORDS, 'VM object', 'the slots of a book'),
  slot: words('sh', 'the slot of each page, 0: none', BOOK_PAGES),
  times: words('sh', 'how often it was written', BOOK_PAGES),
});

/** Pages for a test's own use. */
export function test_pages(n: number): number {
  const m = vm_page_alloc_run(n, VM_ALLOC_SYSTEM);
  if (m === 0) throw new Error(`no run of ${n} pages`);
  vm_page_wire(m, n);
  return m;
}
export function book_make(): book_t {
  const at = page_word(test_pages(1));
  hw.fill(at, 0, PAGE_WORDS);
  mtx_init(book.lock, at as book_t, LC_VM_OBJECT);
  return at as book_t;
}
/** An area in memory of the machine. Its number, or an errno, negated. */
export function memory_area(slots: number, priority = 0): number {
  return area_again(test_pages(slots), slots, priority);
}
/** The same in pages that are there. */
export function area_again(m: number, slots: number, priority: number): number {
  const store = vm_store_memory(m, slots);
  if (store < 0) return store;
  const i = swap_area_add({ store: store as vm_store_t, slots, priority, flags: 0 });
  if (i < 0) vm_store_drop(store as vm_store_t);
  return i;
}
/** Ends an area that is closing; false: it is in use. */
export function area_end(a: swap_area_t): boolean {
  const store = swap_area.store[a];
  if (!swap_area_end(a)) return false;
  vm_store_drop(store);
  return true;
}
/** The slots that a book has. */
export function book_slots(b: book_t): number[] {
  const all = Array.from({ length: BOOK_PAGES }, (_, i) => book.slot[elem(b, i)]);
  return all.filter((s) => s !== 0);
}
export function book_slot(b: book_t, i: number): number {
  return book.slot[elem(b, i)];
}
/** Whether page i has a slot from `first` to before `end`. */
export function book_within(b: book_t, i: number, first: number, end: number): boolean {
  const s = book_slot(b, i);
  return s >= first && s < end;
}
function tag(i: number, times: number): number {
  return (times << 10) | i;
}
function view(m: number): Uint8Array {
  return mem.U8.subarray(m * PAGE_SIZE, (m + 1) * PAGE_SIZE);
}
/**
 * Writes pages i to i + n - 1 by way of the buffer, as many at a time as there are slots in a row
 * and pages in the buffer, which are `most`.
 * Returns 0; the errno of the store; or -1: there are no slots.
 */
export function book_write(
  b: book_t,
  i: number,
  n: number,
  buffer: number,
  most = SWAP_CLUSTER,
): number {
  for (let done = 0; done < n; ) {
    let some = Math.min(n - done, most);
    let s = swap_alloc(some);
    while (s === 0 && some > 1) s = swap_alloc((some = some >> 1));
    if (s === 0) return -1;
    for (let k = 0; k < some; k++) {
      const word = tag(i + done + k, book.times[elem(b, i + done + k)] + 1);
      const from = page_word(buffer + k);
      mem.I32.fill(word, from, from + PAGE_WORDS);
    }
    const error = swap_write(
      s,
      Array.from({ length: some }, (_, k) => view(buffer + k)),
    );
    if (error !== 0) {
      swap_free_notes();
      return error;
    }
    for (let k = 0; k < some; k++) enter(b, i + done + k);
    done += some;
  }
  return 0;
}
/** The first slot of the note is page i's; the one that it had is free. */
function enter(b: book_t, i: number): void {
  const at = elem(b, i);
  mtx_lock(book.lock, b);
  undo_begin(book.lock, b);
  save(book.slot, at);
  save(book.times, at);
  swap_note_old(book.slot[at]);
  book.slot[at] = swap_note_take();
  book.times[at]++;
  undo_end();
  swap_free_old();
  mtx_unlock(book.lock, b);
}
/** Page i has no slot any more. */
export function book_drop(b: book_t, i: number): void {
  const at = elem(b, i);
  mtx_lock(book.lock, b);
  undo_begin(book.lock, b);
  save(book.slot, at);
  swap_note_old(book.slot[at]);
  book.slot[at] = 0;
  undo_end();
  swap_free_old();
  mtx_unlock(book.lock, b);
}
/** Reads page i, if it has a slot, and throws if it is not what was written last. */
export function book_read(b: book_t, i: number, buffer: number): void {
  const at = elem(b, i);
  if (book.slot[at] === 0) return;
  hw.fill(page_word(buffer), -1, PAGE_WORDS);
  const error = swap_read(book.slot[at], [view(buffer)]);
  if (error !== 0) throw new Error(`page ${i} cannot be read: errno ${error}`);
  const expected = tag(i, book.times[at]);
  const from = page_word(buffer);
  const got = mem.I32.subarray(from, from + PAGE_WORDS).find((v) => v !== expected);
  if (got !== undefined) throw new Error(`page ${i}: ${got} instead of ${expected}, cpu${thr.cpu}`);
}
