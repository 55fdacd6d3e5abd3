/*
 * swap_area: slots are taken, given to pages, replaced, given back and spoilt by three CPUs, one of
 * which may die anywhere.
 *
 * Each CPU has pages of a book of its own, which lie in two areas of little room, one behind the
 * other in priority.  It writes them in clusters, again and again, reads them and drops them; now
 * and then a write fails, or finds no room.  CPU 0 closes the second area meanwhile, moves what
 * its own pages have there, ends it if nobody has anything there, and makes it anew.
 *
 * Afterwards each slot is free, spoilt, or some page's, and each page reads as it was written.
 */
import { SWAP_UP, SWAP_FREE, swap_area } from '../../src/sys/h/swap.ts';
import { EIO, ENOSPC } from '../../src/sys/machine/errno.ts';
import { i32, type Ptr, struct, words } from '../../src/sys/machine/struct.ts';
import { elem } from '../../src/sys/machine/struct.ts';
import {
  swap_alloc,
  swap_area_close,
  swap_area_of,
  swap_check,
  swap_note_failed,
} from '../../src/sys/object/swap_area.ts';
import {
  area_again,
  area_end,
  type book_t,
  book_drop,
  book_make,
  book_read,
  book_slots,
  book_within,
  book_write,
  memory_area,
  test_pages,
} from '../../src/sys/object/swap_book.test.lib.ts';
import { type SimScript, scratch } from '../script.ts';

const CPUS = 3;
/** Pages of a book that a CPU has, and of the buffer of each. */
const EACH = 12;
const BUFFER = 3;
const SLOTS = 28;

type rec_t = Ptr<'sim_swap_area'>;
/* Locks: (c) constant */
const rec = struct<rec_t>('sim_swap_area')({
  book: words('c', 'the book of each CPU', CPUS),
  buffer: words('c', 'the buffer of each', CPUS),
  memory: i32('c', 'pages in which the second area lies'),
});
const at = (cpu: number): rec_t => elem(scratch<rec_t>(), cpu);
const book = (cpu: number): book_t => rec.book[at(cpu)] as book_t;

const write = (cpu: number, i: number, n: number) => (): void => {
  book_write(book(cpu), i, n, rec.buffer[at(cpu)], BUFFER);
};
const read = (cpu: number, i: number) => (): void => book_read(book(cpu), i, rec.buffer[at(cpu)]);
const drop = (cpu: number, i: number) => (): void => book_drop(book(cpu), i);
const spoil = (errno: number) => (): void => {
  if (swap_alloc(1) !== 0) swap_note_failed(errno);
};
/** The second area goes, unless another CPU has something there, and comes again. */
function away(): void {
  const a = swap_area_of(1);
  if (swap_area.state[a] === SWAP_FREE) return;
  swap_area_close(a);
  const { first, end } = { first: swap_area.first[a], end: swap_area.end[a] };
  for (let i = 0; i < EACH; i++) {
    if (book_within(book(0), i, first, end)) write(0, i, 1)();
    if (book_within(book(0), i, first, end)) drop(0, i)();
  }
  if (area_end(a)) area_again(rec.memory[at(0)], SLOTS, 2);
  else swap_area_close(a, SWAP_UP);
}

export const script: SimScript = {
  help: 'slots of swap areas: a CPU dies anywhere between map, note and page',
  cpus: CPUS,
  memory: '1M',
  victim: 1,
  kill_seeds: 1,
  setup() {
    memory_area(SLOTS - 8, 1);
    rec.memory[at(0)] = test_pages(SLOTS);
    area_again(rec.memory[at(0)], SLOTS, 2);
    for (let cpu = 0; cpu < CPUS; cpu++) {
      rec.book[at(cpu)] = book_make();
      rec.buffer[at(cpu)] = test_pages(BUFFER);
    }
  },
  ops: (cpu) =>
    [
      [
        write(0, 0, 3),
        write(0, 3, 6),
        away,
        write(0, 2, 4),
        read(0, 4),
        drop(0, 1),
        away,
        read(0, 2),
      ],
      [
        write(1, 0, 2),
        spoil(EIO),
        write(1, 0, 5),
        drop(1, 3),
        read(1, 1),
        spoil(ENOSPC),
        write(1, 4, 3),
        drop(1, 0),
      ],
      [
        write(2, 0, 6),
        write(2, 4, 3),
        spoil(EIO),
        drop(2, 5),
        write(2, 0, 2),
        read(2, 0),
        drop(2, 0),
      ],
    ][cpu],
  check() {
    const slots = [0, 1, 2].flatMap((cpu) => book_slots(book(cpu)));
    swap_check(slots);
    for (let cpu = 0; cpu < CPUS; cpu++) for (let i = 0; i < EACH; i++) read(cpu, i)();
    return undefined;
  },
};
