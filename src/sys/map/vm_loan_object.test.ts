/*
 * Shows: pages of a loan are mapped in other spaces without a copy; the first store, of whichever
 * side, copies; a page whose owner let go of it stays, becomes the borrower's, and may then be
 * paged out; no page is owned twice, nor lost.
 * By what means: one thread, spaces beside each other, a swap area, and the walkers.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { abandon, boot } from '../boot/whole.ts';
import { ENOMEM } from '../machine/errno.ts';
import { sysctl_decls, sysctl_set } from '../machine/sysctl_decl.ts';
import { KERN_SUCCESS, MAP_COPY_ON_WRITE, vm_map } from '../h/vm_map.ts';
import { vm_loan_root, type vm_loan_t } from '../h/vm_loan.ts';
import { OBJT_DEFAULT, OBJT_LOAN, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PK_LOAN, PK_MASK, PK_OBJECT, vm_page as page } from '../h/vm_page.ts';
import { vm_page_loans } from '../page/vm_pageq.ts';
import { pmap_extract } from '../pmap/pmap.ts';
import { loan_frames, loan_root, vm_loan, vm_unloan } from './vm_loan.ts';
import { vm_loan_adopt, vm_loan_again, vm_loan_object } from './vm_loan_object.ts';
import { map_at, map_drop, maps_make } from './vm_map.test.lib.ts';
import { map_entries } from './vm_map_check.ts';
import { vm_map_entry } from '../h/vm_map.ts';
import { vm_map_fixed } from './vm_map_insert.ts';
import {
  FIRST,
  space_fork,
  space_make,
  space_map,
  space_read,
  space_unmap,
  space_write,
  spaces_check,
  spaces_end,
} from './vm_space.test.lib.ts';
import { page_out, swap_up } from './vm_swap.test.lib.ts';
import { vm_lock } from './vm_mlock.ts';
import { vm_window_close, vm_window_open } from './vm_window.ts';
import { vm_window, type vm_window_t } from '../h/vm_window.ts';

const PAGES = 6;
const RW = 3;
beforeEach(() => {
  boot({ cpus: 1, fresh: true, memory: '8M', options: { INVARIANTS: true, WITNESS: true } });
  maps_make();
  for (const s of [0, 1, 2]) assert.ok(space_make(s));
  assert.equal(space_map(0, 0, PAGES), KERN_SUCCESS);
  for (let i = 0; i < PAGES; i++) assert.equal(space_write(0, i, 10 + i), 0);
});
afterEach(() => abandon());
/** Lends all pages of space 0, or n of them. */
function lent(n = PAGES): vm_loan_t {
  const made: vm_loan_t[] = [];
  assert.equal(vm_loan(map_at(0), FIRST, FIRST + n, made), 0);
  return made[0];
}
/** A loan that this thread holds is shown by a space. */
function show(l: vm_loan_t, s: number): void {
  const made: vm_loan_t[] = [];
  assert.equal(vm_loan_again([l], made), 0);
  const object = vm_loan_object(made[0]);
  const rights = { protection: RW, max_protection: RW, cow: MAP_COPY_ON_WRITE };
  const end = FIRST + loan_frames(l).length;
  assert.equal(vm_map_fixed(map_at(s), FIRST, end, { object, offset: 0, ...rights }), 0);
}
const frame = (s: number, i: number): number => pmap_extract(vm_map.pmap[map_at(s)], FIRST + i);
const reads = (s: number): (number | undefined)[] =>
  Array.from({ length: PAGES }, (_, i) => space_read(s, i));
const WAS = Array.from({ length: PAGES }, (_, i) => 10 + i);
/** The object that a space shows first. */
const object_of = (s: number): vm_object_t => vm_map_entry.object[map_entries(map_at(s))[0]];
/** No more pages may be lent. */
function limit(pages: number): void {
  const d = sysctl_decls.find(({ name }) => name === 'vm.loan_max');
  assert.ok(d);
  sysctl_set(d, pages);
}
function end(): void {
  spaces_check();
  spaces_end();
  const r = loan_root();
  assert.deepEqual([vm_loan_root.count[r], vm_loan_root.pages[r]], [0, 0], 'all loans are back');
}

describe('while the owner has its pages', () => {
  test('they are the same pages, and no store of either side is seen by the other', () => {
    const l = lent();
    show(l, 1);
    vm_unloan(l);
    assert.deepEqual(reads(1), WAS);
    const ms = WAS.map((_, i) => frame(1, i));
    assert.deepEqual(
      ms,
      WAS.map((_, i) => frame(0, i)),
      'nothing was copied',
    );
    spaces_check();
    space_write(0, 1, 100);
    space_write(1, 2, 200);
    assert.notEqual(frame(0, 1), ms[1]);
    assert.notEqual(frame(1, 2), ms[2]);
    assert.deepEqual(reads(0), [10, 100, 12, 13, 14, 15]);
    assert.deepEqual(reads(1), [10, 11, 200, 13, 14, 15]);
    assert.equal(frame(1, 1), ms[1], 'who did not write has what it had');
    spaces_check();
    map_drop(1);
    assert.equal(vm_page_loans(ms[0]), 0);
    space_write(0, 0, 5);
    assert.equal(frame(0, 0), ms[0], 'lent no more: written to where it is');
    end();
  });
  test('in the same space, beside the pages that were lent', () => {
    const l = lent();
    const made: vm_loan_t[] = [];
    assert.equal(vm_loan_again([l], made), 0);
    const object = vm_loan_object(made[0]);
    const rights = { protection: RW, max_protection: RW, cow: MAP_COPY_ON_WRITE };
    const what = { object, offset: 0, ...rights };
    assert.equal(vm_map_fixed(map_at(0), FIRST + 20, FIRST + 20 + PAGES, what), 0);
    vm_unloan(l);
    for (let i = 0; i < PAGES; i++) space_write(0, i, 50 + i);
    for (let i = 0; i < PAGES; i++) assert.equal(space_read(0, 20 + i), 10 + i);
    end();
  });
  test('what is shown is forked, lent, locked and put under a window like any memory', () => {
    const l = lent();
    show(l, 1);
    vm_unloan(l);
    assert.equal(space_fork(1, 3), KERN_SUCCESS);
    space_write(1, 0, 1);
    space_write(3, 1, 2);
    assert.deepEqual([space_read(3, 0), space_read(1, 1)], [10, 11]);
    const again: vm_loan_t[] = [];
    assert.equal(vm_loan(map_at(3), FIRST, FIRST + PAGES, again), 0);
    assert.equal(vm_lock(map_at(1), FIRST, FIRST + PAGES), 0);
    spaces_check();
    const w = vm_window_open(map_at(1), FIRST + 2, FIRST + 4, 1) as vm_window_t;
    assert.ok(w > 0);
    assert.notEqual(vm_window.frame[w], frame(0, 2));
    vm_window_close(w);
    space_write(3, 5, 9);
    for (let i = 0; i < PAGES; i++) space_write(0, i, 70 + i);
    assert.deepEqual(reads(1), [1, 11, 12, 13, 14, 15]);
    assert.deepEqual(reads(3), [10, 2, 12, 13, 14, 9]);
    for (const at of again) vm_unloan(at);
    end();
  });
  test('no more than may be lent', () => {
    limit(PAGES + 3);
    const l = lent();
    const made: vm_loan_t[] = [];
    assert.equal(vm_loan_again([l], made), ENOMEM);
    assert.deepEqual(made, []);
    vm_unloan(l);
    end();
  });
});

describe('when the owner let go of its pages', () => {
  test('they are shown still, become those of the mapping, and go to swap and back', () => {
    swap_up(200);
    const l = lent();
    show(l, 1);
    vm_unloan(l);
    const ms = loan_frames(vm_loan_root.first[loan_root()]);
    assert.equal(space_unmap(0, 0, PAGES), KERN_SUCCESS);
    assert.ok(ms.every((m) => (page.info[m] & PK_MASK) === PK_LOAN));
    assert.deepEqual(reads(1), WAS);
    spaces_check();
    vm_loan_adopt();
    const o = object_of(1);
    assert.equal(vm_object.type[o], OBJT_DEFAULT);
    for (const m of ms) {
      assert.deepEqual(
        [page.info[m] & PK_MASK, page.owner[m], vm_page_loans(m)],
        [PK_OBJECT, o, 0],
      );
    }
    assert.equal(vm_loan_root.count[loan_root()], 0, 'the loan went back');
    spaces_check();
    const sent = { written: 0, failed: 0, freed: 0 };
    for (let i = 0; i < PAGES; i++) page_out(map_at(1), FIRST + i, sent);
    assert.equal(sent.freed, PAGES);
    assert.deepEqual(reads(1), WAS, 'and come back');
    space_write(1, 0, 3);
    assert.equal(space_read(1, 0), 3);
    end();
  });
  test('a part: what the owner has still is lent as before', () => {
    const l = lent();
    show(l, 1);
    vm_unloan(l);
    const ms = WAS.map((_, i) => frame(0, i));
    space_write(0, 0, 99); // broken off
    space_unmap(0, 4, 2);
    vm_loan_adopt();
    const o = object_of(1);
    assert.equal(vm_object.type[o], OBJT_LOAN);
    const mine = ms.map((m) => page.owner[m] === o);
    assert.deepEqual(mine, [true, false, false, false, true, true]);
    assert.deepEqual(reads(1), WAS);
    spaces_check();
    map_drop(0);
    vm_loan_adopt();
    assert.equal(vm_object.type[o], OBJT_DEFAULT);
    assert.deepEqual(reads(1), WAS);
    end();
  });
  test('a page owned twice: two that show it, of which one has it', () => {
    const l = lent();
    for (const s of [1, 2]) show(l, s);
    const [m] = loan_frames(l);
    vm_unloan(l);
    space_unmap(0, 0, PAGES);
    for (const s of [1, 2]) assert.deepEqual(reads(s), WAS);
    vm_loan_adopt();
    const [a, b] = [object_of(1), object_of(2)];
    const first = page.owner[m] === a ? 1 : 2;
    assert.ok(page.owner[m] === a || page.owner[m] === b);
    assert.deepEqual(
      [vm_object.type[a], vm_object.type[b]].sort(),
      [OBJT_DEFAULT, OBJT_LOAN],
      'the other one borrows from it',
    );
    spaces_check();
    space_write(first, 0, 1000);
    assert.deepEqual(reads(3 - first), WAS, 'a store of the one that has it is its own alone');
    assert.equal(vm_page_loans(m), 1);
    map_drop(first);
    vm_loan_adopt();
    assert.equal(page.owner[m], object_of(3 - first), 'and the other one has it in the end');
    assert.deepEqual(reads(3 - first), WAS);
    end();
  });
  test('what only a mapping has does not count towards the limit', () => {
    const l = lent();
    show(l, 1);
    vm_unloan(l);
    space_unmap(0, 0, PAGES);
    limit(PAGES + 1);
    assert.equal(space_map(0, 0, PAGES), KERN_SUCCESS);
    vm_unloan(lent());
    assert.equal(vm_object.type[object_of(1)], OBJT_DEFAULT);
    assert.deepEqual(reads(1), WAS);
    end();
  });
  test('a chain has it, too: it stays until both are through with it', () => {
    const l = lent(1);
    show(l, 1);
    const [m] = loan_frames(l);
    map_drop(0);
    vm_loan_adopt();
    assert.equal(page.owner[m], object_of(1));
    space_write(1, 0, 4);
    map_drop(1);
    assert.equal(page.info[m] & PK_MASK, PK_LOAN);
    vm_unloan(l);
    assert.notEqual(page.info[m] & PK_MASK, PK_LOAN);
    end();
  });
});
