/*
 * Shows: threads that take and give slots of the same areas at once read what they wrote, and those
 * that are killed in the middle of it lose no slot; areas come and go meanwhile.
 * By what means: two workers beside books of what they wrote (swap_area.test.worker.ts), some of
 * them killed and replaced; the walkers afterwards.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { kconsole } from '../machine/kconsole.ts';
import { churn } from '../machine/kills.test.lib.ts';
import { hw, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { Crew, type Job } from '../machine/workers.test.lib.ts';
import { SWAP_LABEL, swap_area } from '../h/swap.ts';
import { swap_area_of, swap_avail, swap_check } from './swap_area.ts';
import {
  BOOK_PAGES,
  book_drop,
  book_make,
  book_read,
  book_slots,
  memory_area,
  test_pages,
} from './swap_book.test.lib.ts';

const { print } = kconsole;
afterEach(() => {
  kconsole.print = print;
  try {
    shutdown();
  } catch {
    abandon();
  }
});
type Churn = Job<{ n: number }>;
const WORKERS = 2;
const SLOTS = [200, 300, 120];

async function together(kills: number, seed: number, INVARIANTS: boolean): Promise<void> {
  kconsole.print = () => {};
  const options = { INVARIANTS, WITNESS: INVARIANTS };
  const { handle } = boot({ memory: '8M', cpus: WORKERS + 1, options, fresh: true });
  for (const [i, slots] of SLOTS.entries()) memory_area(slots + SWAP_LABEL, i >> 1);
  const done = page_word(test_pages(1));
  hw.fill(done, 0, PAGE_WORDS);
  const books = Array.from({ length: WORKERS }, book_make);
  const crew = new Crew<{ n: number }>(new URL('./swap_area.test.worker.ts', import.meta.url));
  const start = (i: number, n: number): Churn =>
    crew.start(handle, 'churn', { seed: seed + n, book: books[i], buffer: test_pages(16), done });
  await churn({ crew, workers: WORKERS, start, kills, seed, done, stop: done + 1, work: 2000 });
  swap_check(books.flatMap(book_slots));
  const buffer = test_pages(16);
  for (const book of books) {
    for (let i = 0; i < BOOK_PAGES; i++) {
      book_read(book, i, buffer);
      book_drop(book, i);
    }
  }
  swap_check([]);
  assert.equal(swap_avail(), SLOTS[0] + SLOTS[1] + SLOTS[2]);
  for (let i = 0; i < SLOTS.length; i++) assert.equal(swap_area.used[swap_area_of(i)], 0);
}
test('two threads on the same areas', () => together(0, SEED, true));
for (const INVARIANTS of [true, false]) {
  const how = INVARIANTS ? 'with INVARIANTS' : 'as programs run';
  test(`threads killed in the middle of it, ${how}`, () => together(6, SEED + 1, INVARIANTS));
}
