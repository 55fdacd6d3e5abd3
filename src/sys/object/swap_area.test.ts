/*
 * Shows: the maps of a swap area are what an array says, in machines of all sorts; slots are
 * taken by priority and by turns, and go from maps to notes to pages and back without one being
 * lost; room is told with hysteresis; slots that failed are not given again; an area goes when
 * none of its slots is in use; out of memory an area is refused and nothing has changed.
 * By what means: seeded operations beside a model; areas in memory of the machine.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { type Booted, boot } from '../boot/whole.ts';
import { EIO, ENOMEM, ENOSPC, ENXIO } from '../machine/errno.ts';
import { kconsole } from '../machine/kconsole.ts';
import { store_faults } from '../machine/store_fault.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import {
  SWAP_ALMOST_FULL,
  SWAP_AREAS,
  SWAP_FULL,
  SWAP_LABEL,
  SWAP_ROOMY,
  SWAP_UP,
  swap_area,
} from '../h/swap.ts';
import { page_failpoint, vm_page_free_count } from '../page/vm_page.ts';
import {
  swap_alloc,
  swap_area_close,
  swap_area_of,
  swap_avail,
  swap_check,
  swap_free_notes,
  swap_free_old,
  swap_full,
  swap_note_old,
  swap_note_take,
  swap_run,
} from './swap_area.ts';
import { play as play_areas } from './swap_area.fuzz.ts';
import { play, SIZES } from './swap_blist.fuzz.ts';
import {
  area_end,
  type book_t,
  book_drop,
  book_make,
  book_read,
  book_slot,
  book_slots,
  book_write,
  memory_area,
  test_pages,
} from './swap_book.test.lib.ts';

let booted: Booted | null = null;
let said: string[] = [];
const { print } = kconsole;

function begin(options: Parameters<typeof boot>[0] = {}): void {
  booted = boot({ cpus: 1, fresh: true, memory: '8M', options: { INVARIANTS: true }, ...options });
  said = [];
  kconsole.print = (text) => said.push(text);
}
afterEach(() => {
  kconsole.print = print;
  store_faults.next = null;
  page_failpoint.refuse = null;
  booted?.shutdown();
  booted = null;
});
test('maps and an array, the same seeded operations', () => {
  begin({ memory: '16M', options: { INVARIANTS: true, WITNESS: true } });
  for (const [i, slots] of SIZES.entries()) play(SEED + i, 3000, slots);
});
test('the same in a checked machine', () => {
  begin({ memory: '16M', checked: true });
  play(SEED, 300, 1100);
});
test('books of pages in areas that come and go, seeded', () => {
  begin();
  play_areas(SEED, 6000);
});
test('the same with the rules of locks checked', () => {
  begin({ checked: true });
  play_areas(SEED + 1, 60);
});

/** Each write fails from here on. */
function always_fails(errno: number): void {
  store_faults.next = (op) => (op === 'write' ? { what: 'fail', errno } : null);
}
const used = (i: number): number => swap_area.used[swap_area_of(i)];
/** All free slots are taken, one by one, by pages of the book from `i` on. Returns how many. */
function exhaust(b: book_t, buffer: number, i = 0): number {
  let n = 0;
  while (book_write(b, i + n, 1, buffer) === 0) n++;
  return n;
}
test('the lowest priority number first, equal ones by turns', () => {
  begin();
  const b = book_make();
  const buffer = test_pages(16);
  assert.equal(memory_area(34, 5), 0);
  assert.equal(memory_area(66, 1), 1);
  assert.equal(memory_area(66, 1), 2);
  for (let i = 0; i < 64; i++) assert.equal(book_write(b, i, 1, buffer), 0);
  assert.deepEqual([used(0), used(1), used(2)], [0, 32, 32]);
  assert.equal(exhaust(b, buffer, 64), 96);
  assert.deepEqual([used(0), used(1), used(2)], [32, 64, 64]);
  for (let i = 0; i < 160; i++) book_read(b, i, buffer);
  swap_check(book_slots(b));
  const { first, end } = swap_run(book_slot(b, 0));
  assert.equal(end - first, 66);
});
test('a run as long as none is to be had is refused, and shorter ones are given', () => {
  begin();
  const b = book_make();
  const buffer = test_pages(16);
  memory_area(66, 1);
  memory_area(66, 1);
  exhaust(b, buffer);
  for (let i = 0; i < 128; i += 2) book_drop(b, i);
  const free = swap_avail();
  assert.ok(free >= 60);
  for (let n = 1; n <= 16; n++) {
    const s = swap_alloc(n);
    if (s !== 0) swap_check([...book_slots(b)]);
    swap_free_notes();
  }
  assert.equal(swap_avail(), free);
  swap_check(book_slots(b));
});
test('slots go from the note to pages, and what they had is free', () => {
  begin();
  memory_area(100);
  const s = swap_alloc(3);
  assert.equal(s, 1 + SWAP_LABEL);
  assert.throws(() => swap_alloc(1), /noted already/);
});
test('slot zero is never freed, nor one that is never given, nor one that is free', () => {
  begin();
  memory_area(100);
  swap_note_old(0); // nothing
  swap_free_old();
  swap_check([]);
  swap_alloc(2);
  const s = swap_note_take();
  swap_free_notes();
  swap_check([s]);
  swap_note_old(s);
  assert.throws(() => swap_note_old(s), /noted already/);
});
for (const [what, s, message] of [
  ['the label of an area', 1, /never given/],
  ['a slot that is free', 50, /freeing a free slot/],
  ['a slot of no area', 101, /no area has the slot/],
  ['the first slot behind a run that was taken', 5, /freeing a free slot/],
] as const) {
  test(`freeing ${what} is a panic`, () => {
    begin();
    memory_area(100);
    swap_alloc(2);
    swap_note_take();
    swap_note_take();
    swap_note_old(s);
    assert.throws(() => swap_free_old(), message);
  });
}
test('room is told with hysteresis: almost full, full, and not at once roomy again', () => {
  begin({ memory: '16M', set: { 'vm.swap_default': 0 } });
  assert.equal(swap_full(), SWAP_FULL);
  const b = [book_make(), book_make(), book_make()];
  const buffer = test_pages(16);
  memory_area(SWAP_LABEL + 1400);
  assert.equal(swap_full(), SWAP_ROOMY);
  const of = (i: number): [book_t, number] => [b[Math.floor(i / 480)], i % 480];
  const take = (from: number, to: number): void => {
    for (let i = from; i < to; i++) assert.equal(book_write(...of(i), 1, buffer), 0);
  };
  const give = (from: number, to: number): void => {
    for (let i = from; i < to; i++) book_drop(...of(i));
  };
  const all = (): number[] => b.flatMap(book_slots);
  take(0, 1400 - 128);
  assert.equal(swap_full(), SWAP_ROOMY);
  take(1400 - 128, 1400 - 127);
  assert.equal(swap_full(), SWAP_ALMOST_FULL);
  give(0, 385);
  assert.deepEqual([swap_avail(), swap_full()], [512, SWAP_ALMOST_FULL]);
  give(385, 386);
  assert.equal(swap_full(), SWAP_ROOMY);
  take(0, 386);
  take(1400 - 127, 1400);
  assert.deepEqual([swap_avail(), swap_full(), swap_alloc(1)], [0, SWAP_FULL, 0]);
  give(0, 127);
  assert.equal(swap_full(), SWAP_FULL);
  give(127, 128);
  assert.equal(swap_full(), SWAP_ALMOST_FULL);
  swap_check(all());
  // Each once.
  assert.deepEqual(said, ['swap_pager: out of swap space', 'swap_pager: no swap space is left']);
});
test('small areas have smaller marks', () => {
  begin();
  const b = book_make();
  const buffer = test_pages(16);
  memory_area(SWAP_LABEL + 64);
  assert.equal(book_write(b, 0, 56, buffer), 0);
  assert.equal(swap_full(), SWAP_ROOMY);
  assert.equal(book_write(b, 56, 1, buffer), 0);
  assert.equal(swap_full(), SWAP_ALMOST_FULL);
  for (let i = 0; i < 26; i++) book_drop(b, i);
  assert.equal(swap_full(), SWAP_ROOMY);
});
test('slots on which a write has failed are not given again', () => {
  begin();
  const b = book_make();
  const buffer = test_pages(16);
  memory_area(SWAP_LABEL + 100);
  always_fails(EIO);
  assert.equal(book_write(b, 0, 16, buffer), EIO);
  store_faults.next = null;
  assert.equal(swap_area.bad[swap_area_of(0)], 16);
  swap_check([]);
  assert.equal(exhaust(b, buffer), 84);
  swap_check(book_slots(b));
});
test('no room in the store: nothing more is given but what is given back', () => {
  begin();
  const b = book_make();
  const buffer = test_pages(16);
  memory_area(SWAP_LABEL + 300);
  assert.equal(book_write(b, 0, 16, buffer), 0);
  always_fails(ENOSPC);
  assert.equal(book_write(b, 16, 8, buffer), ENOSPC);
  assert.equal(book_write(b, 16, 8, buffer), -1);
  store_faults.next = null;
  assert.equal(swap_area.lost[swap_area_of(0)], 284);
  assert.equal(swap_full(), SWAP_FULL);
  assert.ok(said.includes('swap_pager: no room for the swap area: it is full'));
  swap_check(book_slots(b));
  for (let i = 0; i < 8; i++) book_drop(b, i);
  assert.equal(book_write(b, 16, 8, buffer), 0);
  for (let i = 8; i < 24; i++) book_read(b, i, buffer);
  swap_check(book_slots(b));
});
test('an area that closes gives nothing and takes back; it goes when it is empty', () => {
  begin();
  const b = book_make();
  const buffer = test_pages(16);
  memory_area(100, 1);
  const free = vm_page_free_count();
  memory_area(100, 0);
  const a = swap_area_of(1);
  assert.equal(book_write(b, 0, 16, buffer), 0);
  assert.equal(used(1), 16);
  swap_area_close(a);
  assert.equal(book_write(b, 16, 16, buffer), 0);
  assert.equal(used(0), 16);
  assert.equal(area_end(a), false);
  for (let i = 0; i < 15; i++) book_drop(b, i);
  swap_check(book_slots(b));
  swap_area_close(a, SWAP_UP);
  assert.equal(book_write(b, 0, 4, buffer), 0);
  assert.equal(used(1), 5);
  swap_area_close(a);
  for (const i of [0, 1, 2, 3, 15]) book_drop(b, i);
  assert.ok(area_end(a));
  swap_check(book_slots(b));
  assert.equal(vm_page_free_count(), free - 100);
});
test('numbers of slots are used again, and areas never meet', () => {
  begin();
  for (let i = 0; i < SWAP_AREAS; i++) assert.equal(memory_area(10 + i), i);
  assert.ok(memory_area(10) < 0);
  for (const i of [3, 4, 9]) {
    swap_area_close(swap_area_of(i));
    assert.ok(area_end(swap_area_of(i)));
    swap_check([]);
  }
  // In the place of two that lay side by side, and the unused slot between them.
  const first = swap_area.first[swap_area_of(3)];
  assert.equal(memory_area(13 + 1 + 14), 3);
  assert.equal(swap_area.first[swap_area_of(3)], first);
  assert.equal(memory_area(20), 4);
  swap_check([]);
});
test('too small, no memory for the maps: refused, and nothing has changed', () => {
  begin({ options: { INVARIANTS: true, FAILPOINTS: true } });
  assert.equal(memory_area(SWAP_LABEL), -ENXIO);
  const free = vm_page_free_count();
  page_failpoint.refuse = (n) => n === 1;
  assert.equal(memory_area(20), -ENOMEM);
  page_failpoint.refuse = null;
  assert.equal(vm_page_free_count(), free - 20);
  swap_check([]);
});
