/*
 * The worker of swap_area_smp.test.ts: writes, reads and drops pages of a book of its own, in areas
 * that all workers share, until it is told to stop or is killed.
 */
import { attach, detach } from '../boot/whole.ts';
import { atomic_add, atomic_load } from '../machine/atomic.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import { BOOK_PAGES, type book_t, book_drop, book_read, book_write } from './swap_book.test.lib.ts';

interface Args {
  readonly seed: number;
  readonly book: book_t;
  readonly buffer: number;
  /** Word that counts what all have done; the next one tells them to stop. */
  readonly done: number;
}
function churn({ seed, book, buffer, done }: Args): number {
  const draw = dice(seed);
  // What is there was written by one who died.
  for (let i = 0; i < BOOK_PAGES; i++) book_read(book, i, buffer);
  let n = 0;
  for (; atomic_load(done + 1) === 0; n++) {
    const i = draw(BOOK_PAGES - 16);
    const what = draw(8);
    if (what < 3) book_write(book, i, 1 + draw(16), buffer);
    else if (what < 5) book_read(book, i, buffer);
    else for (let k = draw(12); k >= 0; k--) book_drop(book, i + k);
    atomic_add(done, 1);
  }
  return n;
}
run_job<Args>((_job, a) => ({ n: churn(a) }), { join: attach, leave: () => void detach() });
