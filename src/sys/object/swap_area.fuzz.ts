/*
 * swap_area (fuzz): seeded operations on books of pages whose slots lie in areas that come and go.
 *
 * Pages are written in clusters, read and dropped; areas are made with sizes and priorities by
 * lot, closed, opened again, and end when nothing is in them; writes fail now and then, or find
 * no room.  What a page holds is what was written to it last, each slot is counted in one
 * place, and slots come from an area of the lowest priority number that has room.
 */
import { boot } from '../boot/whole.ts';
import { EIO, EMFILE, ENOSPC } from '../machine/errno.ts';
import { kconsole } from '../machine/kconsole.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { store_faults } from '../machine/store_fault.ts';
import { SWAP_CLOSING, SWAP_LABEL, SWAP_UP, swap_area, type swap_area_t } from '../h/swap.ts';
import {
  swap_area_at,
  swap_area_close,
  swap_area_free,
  swap_areas,
  swap_avail,
  swap_check,
} from './swap_area.ts';
import {
  area_again,
  area_end,
  BOOK_PAGES,
  type book_t,
  book_drop,
  book_make,
  book_read,
  book_slot,
  book_slots,
  book_within,
  book_write,
  test_pages,
} from './swap_book.test.lib.ts';

/** Places in memory for areas, and the slots of the largest. */
const PLACES = 5;
const SLOTS_MAX = 150;
const WALK = 200;

class Play {
  readonly draw: (n: number) => number;
  readonly book: book_t = book_make();
  readonly buffer = test_pages(16);
  readonly free = Array.from({ length: PLACES }, () => test_pages(SLOTS_MAX));
  readonly at = new Map<swap_area_t, number>();

  constructor(seed: number) {
    this.draw = dice(seed);
  }
  /** An area that there is; undefined: none. */
  some(): swap_area_t | undefined {
    const all = swap_areas();
    return all[this.draw(all.length || 1)];
  }
  make(): void {
    const m = this.free.pop();
    if (m === undefined) return;
    const slots = SWAP_LABEL + 1 + this.draw(SLOTS_MAX - SWAP_LABEL);
    const before = new Set(swap_areas());
    const i = area_again(m, slots, this.draw(3));
    if (i < 0) throw new Error(`no area: errno ${-i}${i === -EMFILE ? ', too many' : ''}`);
    const a = swap_areas().find((one) => !before.has(one)) as swap_area_t;
    this.at.set(a, m);
  }
  end(a: swap_area_t, empties: boolean): void {
    if (swap_area.state[a] !== SWAP_CLOSING) swap_area_close(a);
    const { first, end } = { first: swap_area.first[a], end: swap_area.end[a] };
    if (empties) {
      for (let i = 0; i < BOOK_PAGES; i++) {
        if (book_within(this.book, i, first, end)) book_drop(this.book, i);
      }
    }
    const used = swap_area.used[a];
    const ended = area_end(a);
    if (ended !== (used === 0)) throw new Error(`an area with ${used} pages: ended ${ended}`);
    if (!ended) return;
    this.free.push(this.at.get(a) as number);
    this.at.delete(a);
  }
  write(i: number, n: number, errno: number): void {
    const lowest = Math.min(
      ...swap_areas()
        .filter((a) => swap_area.state[a] === SWAP_UP && swap_area_free(a) >= n)
        .map((a) => swap_area.priority[a]),
    );
    const room = swap_avail();
    let nth = this.draw(2);
    store_faults.next = (op) =>
      errno !== 0 && op === 'write' && nth-- === 0 ? { what: 'fail', errno } : null;
    const got = book_write(this.book, i, n, this.buffer);
    store_faults.next = null;
    if (got !== 0 && got !== errno && got !== -1) throw new Error(`writing: errno ${got}`);
    if (got === -1 && room >= n) throw new Error(`no slots, and ${room} are free`);
    if (got !== 0 || n > 1) return;
    const { [swap_area_at(book_slot(this.book, i))]: priority } = swap_area.priority;
    if (priority !== lowest) throw new Error(`priority ${priority} before ${lowest}`);
  }
  step(): void {
    const i = this.draw(BOOK_PAGES - 16);
    const what = this.draw(100);
    if (what < 40) this.write(i, 1 + this.draw(16), 0);
    else if (what < 42) this.write(i, 1 + this.draw(16), this.draw(3) === 0 ? ENOSPC : EIO);
    else if (what < 65) book_read(this.book, i, this.buffer);
    else if (what < 90) for (let k = this.draw(12); k >= 0; k--) book_drop(this.book, i + k);
    else if (what < 95) this.make();
    else this.change(this.some());
  }
  change(a: swap_area_t | undefined): void {
    if (a === undefined) return;
    const closing = swap_area.state[a] === SWAP_CLOSING;
    if (this.draw(3) > 0) this.end(a, this.draw(2) === 0);
    else swap_area_close(a, closing ? SWAP_UP : SWAP_CLOSING);
  }
}
/** Plays on the machine that is up. */
export function play(seed: number, steps: number): void {
  const p = new Play(seed);
  for (let step = 0; step < steps; step++) {
    try {
      p.step();
      if (step % WALK === 0) swap_check(book_slots(p.book));
    } catch (e) {
      throw new Error(`seed ${seed}, step ${step}`, { cause: e });
    }
  }
  for (let i = 0; i < BOOK_PAGES; i++) book_read(p.book, i, p.buffer);
  for (const a of swap_areas()) p.end(a, true);
  swap_check([]);
}
/** Plays `steps` operations; throws where something is lost. */
export function run(seed: number, steps: number): void {
  const booted = boot({ memory: '8M', cpus: 1, fresh: true, options: { INVARIANTS: true }, seed });
  const { print } = kconsole;
  kconsole.print = () => {};
  try {
    play(seed, steps);
  } finally {
    kconsole.print = print;
    store_faults.next = null;
    booted.shutdown();
  }
}
