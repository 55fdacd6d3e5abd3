/*
 * Shows: a page that is lent leaves the cache queue, is passed over by those who reclaim, and goes
 * back; memory that is not there yet is looked up again when it has come; what is wired beside its
 * loans goes with the copy when it is broken off; a page that somebody else owns meanwhile is seen;
 * where memory is refused nothing is lent and nothing is lost.
 * By what means: one CPU, pages taken by hand, failures at every place, the walkers.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { EBUSY, ENOMEM } from '../machine/errno.ts';
import { mem, page_word } from '../machine/memory.ts';
import { elem } from '../machine/struct.ts';
import { KERN_SUCCESS, vm_map, vm_map_entry } from '../h/vm_map.ts';
import { vm_loan as loan, type vm_loan_t } from '../h/vm_loan.ts';
import { vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PK_LOAN, PK_MASK, vm_page } from '../h/vm_page.ts';
import { object_page_break } from '../object/vm_object_loan.ts';
import { object_page, object_page_busy, object_page_wakeup } from '../object/vm_object_page.ts';
import { page_failpoint } from '../page/vm_page.ts';
import {
  PQ_INACTIVE,
  PQ_NONE,
  page_queue,
  vm_page_deactivate,
  vm_page_held,
  vm_page_loans,
  vm_page_owner_unwire,
  vm_page_owner_wire,
  vm_page_unqueue_wired,
  vm_page_wirings,
} from '../page/vm_pageq.ts';
import { pmap_enter } from '../pmap/pmap.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { loan_frames, vm_loan, vm_unloan } from './vm_loan.ts';
import { loans_all, vm_loan_check } from './vm_loan_check.ts';
import { map_entries } from './vm_map_check.ts';
import { map_at, maps_make } from './vm_map.test.lib.ts';
import {
  FIRST,
  space_fork,
  space_make,
  space_map,
  space_read,
  space_write,
  spaces_check,
  spaces_end,
} from './vm_space.test.lib.ts';

function up(): void {
  const options = { INVARIANTS: true, WITNESS: true, FAILPOINTS: true };
  boot({ memory: '8M', cpus: 2, options, fresh: true });
  maps_make();
  assert.ok(space_make(0));
  assert.equal(space_map(0, 0, 40), KERN_SUCCESS);
}
beforeEach(up);
afterEach(() => {
  page_failpoint.refuse = null;
  spaces_end();
  shutdown();
});
function lend(s: number, i: number, n: number): vm_loan_t[] {
  const made: vm_loan_t[] = [];
  assert.equal(vm_loan(map_at(s), FIRST + i, FIRST + i + n, made), 0);
  spaces_check();
  return made;
}
const tries = (s: number, i: number, n: number): number =>
  vm_loan(map_at(s), FIRST + i, FIRST + i + n, []);
/** The object of the common space, and the page of memory that is its page `i`. */
function page_of(i: number): { o: vm_object_t; m: number } {
  const o = vm_map_entry.object[map_entries(map_at(0))[0]];
  mtx_lock(vm_object.lock, o);
  const m = object_page(o, i);
  mtx_unlock(vm_object.lock, o);
  return { o, m };
}
function locked<T>(o: vm_object_t, run: () => T): T {
  mtx_lock(vm_object.lock, o);
  const result = run();
  mtx_unlock(vm_object.lock, o);
  return result;
}

describe('a page that is lent', () => {
  test('leaves its queue when a scan comes to it, and is on one again afterwards', () => {
    space_write(0, 0, 7);
    const { o, m } = page_of(0);
    locked(o, () => vm_page_deactivate(m));
    const [l] = lend(0, 0, 1);
    assert.deepEqual([vm_page_loans(m), vm_page_wirings(m), vm_page_held(m)], [1, 1, 0]);
    assert.equal(page_queue(m), PQ_INACTIVE);
    locked(o, () => assert.ok(vm_page_unqueue_wired(m)));
    assert.equal(page_queue(m), PQ_NONE);
    spaces_check();
    vm_unloan(l);
    assert.notEqual(page_queue(m), PQ_NONE);
    assert.equal(vm_page_wirings(m), 0);
  });
  test('lent twice is lent until the second loan ends', () => {
    space_write(0, 0, 7);
    const { m } = page_of(0);
    const [a] = lend(0, 0, 1);
    const [b] = lend(0, 0, 1);
    assert.deepEqual(loan_frames(a), loan_frames(b));
    assert.equal(vm_page_loans(m), 2);
    space_write(0, 0, 8);
    assert.equal(vm_page.info[m] & PK_MASK, PK_LOAN);
    vm_unloan(a);
    assert.equal(mem.I32[page_word(m)], 7);
    spaces_check();
    vm_unloan(b);
    assert.notEqual(vm_page.info[m] & PK_MASK, PK_LOAN);
    assert.equal(space_read(0, 0), 8);
  });
  test('broken off while it is wired: the wirings go with the copy, the loans stay', () => {
    space_write(0, 0, 7);
    const [l] = lend(0, 0, 1);
    const { o, m } = page_of(0);
    locked(o, () => {
      vm_page_owner_wire(m);
      vm_page_owner_wire(m);
    });
    assert.deepEqual([vm_page_loans(m), vm_page_held(m)], [1, 2]);
    const to = locked(o, () => object_page_break(m, o, 0));
    assert.ok(to > 0);
    assert.deepEqual([vm_page_loans(m), vm_page_held(m)], [1, 0]);
    assert.deepEqual([vm_page_loans(to), vm_page_held(to)], [0, 2]);
    assert.equal(page_of(0).m, to);
    locked(o, () => {
      vm_page_owner_unwire(to, true);
      vm_page_owner_unwire(to, true);
    });
    vm_unloan(l);
  });
  test('copied by a fork, and written to by either, is copied once for each', () => {
    space_write(0, 0, 7);
    const [l] = lend(0, 0, 1);
    assert.equal(space_fork(0, 1), KERN_SUCCESS);
    space_write(1, 0, 8);
    space_write(0, 0, 9);
    assert.equal(mem.I32[page_word(loan_frames(l)[0])], 7);
    assert.deepEqual([space_read(0, 0), space_read(1, 0)], [9, 8]);
    spaces_check();
    vm_unloan(l);
  });
});

describe('what cannot be lent', () => {
  test('a page that is wired, until it is not', () => {
    space_write(0, 3, 7);
    const { o, m } = page_of(3);
    locked(o, () => vm_page_owner_wire(m));
    assert.equal(tries(0, 2, 3), EBUSY);
    assert.deepEqual(loans_all(), []);
    locked(o, () => vm_page_owner_unwire(m, true));
    for (const l of lend(0, 2, 3)) vm_unloan(l);
  });
  test('memory refused at every place: nothing is lent, or all of it', () => {
    for (let i = 0; i < 40; i += 3) space_write(0, i, i + 1);
    let refused = 0;
    for (let nth = 0; ; nth++) {
      let left = nth;
      page_failpoint.refuse = () => left-- <= 0; // and all that follow
      const made: vm_loan_t[] = [];
      const error = vm_loan(map_at(0), FIRST, FIRST + 40, made);
      page_failpoint.refuse = null;
      spaces_check();
      if (error !== 0) {
        refused++;
        assert.equal(error, ENOMEM);
        assert.deepEqual(loans_all(), []);
        continue;
      }
      for (const l of made) vm_unloan(l);
      if (left > 0) break;
    }
    for (let i = 0; i < 40; i++) assert.equal(space_read(0, i), i % 3 === 0 ? i + 1 : 0);
    assert.ok(refused > 0, 'no request was refused');
  });
  test('a store for whose copy there is no memory fails, and changes nothing', () => {
    space_write(0, 0, 7);
    const [l] = lend(0, 0, 1);
    page_failpoint.refuse = () => true;
    const error = space_write(0, 0, 8);
    page_failpoint.refuse = null;
    const held = error === 0 ? 8 : 7;
    assert.ok(error === 0 || error === ENOMEM, `errno ${error}`);
    assert.equal(space_read(0, 0), held);
    assert.equal(mem.I32[page_word(loan_frames(l)[0])], 7);
    vm_unloan(l);
  });
});

describe('what is looked at again', () => {
  test('zeros that somebody else put there while it slept for the page', () => {
    space_write(0, 0, 7);
    const { o, m } = page_of(0);
    // Busy by this CPU for a moment in which the other would sleep: it is free before that looks.
    locked(o, () => object_page_busy(m, o));
    locked(o, () => object_page_wakeup(m, o));
    const loans = lend(0, 0, 3);
    const frames = loans.flatMap(loan_frames);
    assert.equal(frames[0], m);
    assert.equal(mem.I32[page_word(frames[1])], 0);
    assert.equal(page_of(1).m, frames[1], 'the page of zeros is the one of its object');
    space_write(0, 1, 5);
    assert.notEqual(page_of(1).m, frames[1]);
    assert.equal(mem.I32[page_word(frames[1])], 0);
    for (const l of loans) vm_unloan(l);
  });
});

describe('the proof', () => {
  /** Damages a page that is lent: the walker stops the machine, and says so. */
  function planted(damage: (m: number, l: vm_loan_t, o: vm_object_t) => void, says: RegExp): void {
    space_write(0, 0, 7);
    const [l] = lend(0, 0, 1);
    const { o, m } = page_of(0);
    damage(m, l, o);
    assert.throws(() => vm_loan_check(), says);
    abandon();
    up();
  }
  test('sees a page that is owned twice', () => {
    planted((m) => {
      assert.ok(space_make(1));
      assert.equal(space_map(1, 0, 1), KERN_SUCCESS);
      space_write(1, 0, 7);
      vm_page.owner[m] = vm_map_entry.object[map_entries(map_at(1))[0]];
    }, /owned twice/);
  });
  test('sees a count that is wrong, and a translation that allows to write', () => {
    planted((_m, l) => void loan.frames[elem(l, 0)]++, /borrowers/);
    planted((m, _l, o) => {
      const pm = vm_map.pmap[map_at(0)];
      locked(o, () => pmap_enter(pm, FIRST, m, 3));
    }, /written to/);
  });
});
