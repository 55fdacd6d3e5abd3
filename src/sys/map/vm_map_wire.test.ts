/*
 * Shows: what wiring does to entries and to pages: every transition of a program's wiring and of
 * the kernel's, parts, holes, failures in the middle, forks, rights and advice; wirings of threads.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { abandon } from '../boot/whole.ts';
import { vm_hold } from '../h/vm_hold.ts';
import {
  KERN_INVALID_ADDRESS,
  KERN_INVALID_ARGUMENT,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  MADV_DONTNEED,
  MADV_FREE,
  MAP_ENTRY_USER_WIRED,
  MAP_NOFAULT,
  VM_MAP_WIRE_HOLESOK,
  VM_MAP_WIRE_NOHOLES,
  VM_MAP_WIRE_SYSTEM,
  VM_MAP_WIRE_USER,
  vm_map,
  vm_map_entry,
  type vm_map_t,
} from '../h/vm_map.ts';
import { VM_PROT_NONE, VM_PROT_READ } from '../h/vm_prot.ts';
import { page_failpoint } from '../page/vm_page.ts';
import { vm_page_wire_count } from '../page/vm_pageq.ts';
import { pmap_extract } from '../pmap/pmap.ts';
import { holds_died, vm_hold_idle, vm_hold_unwire, vm_hold_wire } from './vm_hold.ts';
import { map_root } from './vm_map.ts';
import { ANON, map_at } from './vm_map.test.lib.ts';
import { map_entries } from './vm_map_check.ts';
import { vm_map_fixed } from './vm_map_insert.ts';
import { vm_map_madvise } from './vm_map_range.ts';
import { vm_map_unwire, vm_map_wire } from './vm_map_wire.ts';
import { vm_pageout_direct } from './vm_pageout.ts';
import {
  FIRST,
  space_fork,
  space_map,
  space_protect,
  space_read,
  space_unmap,
  space_write,
  spaces_check,
} from './vm_space.test.lib.ts';
import { end, RW, up } from './vm_syscalls.test.lib.ts';

const USER = VM_MAP_WIRE_USER | VM_MAP_WIRE_NOHOLES;
const SYSTEM = VM_MAP_WIRE_SYSTEM | VM_MAP_WIRE_NOHOLES;

let mp: vm_map_t;
beforeEach(() => {
  mp = up({ options: { INVARIANTS: true, WITNESS: true, FAILPOINTS: true } });
});
afterEach(() => {
  page_failpoint.refuse = null;
  abandon();
});
/** Of each entry: pages, wirings, and whether the program has one. */
function wired(): (number | string)[][] {
  const f = vm_map_entry;
  return map_entries(mp).map((e) => [
    f.end[e] - f.start[e],
    f.wired_count[e],
    f.eflags[e] & MAP_ENTRY_USER_WIRED ? 'user' : '',
  ]);
}
const wire = (i: number, n: number, flags: number): number =>
  vm_map_wire(mp, FIRST + i, FIRST + i + n, flags);
const unwire = (i: number, n: number, flags: number): number =>
  vm_map_unwire(mp, FIRST + i, FIRST + i + n, flags);

test('all user wirings are one, those of the kernel are counted', () => {
  type Line = [string, typeof wire, number, number, number, string];
  // biome-ignore format: a table
  const table: Line[] = [
    ['unlocked, never locked',  unwire, USER,   KERN_SUCCESS,          0, ''],
    ['no wiring of the kernel', unwire, SYSTEM, KERN_INVALID_ARGUMENT, 0, ''],
    ['locked',                  wire,   USER,   KERN_SUCCESS,          1, 'user'],
    ['the kernel takes it not', unwire, SYSTEM, KERN_INVALID_ARGUMENT, 1, 'user'],
    ['locked again',            wire,   USER,   KERN_SUCCESS,          1, 'user'],
    ['the kernel, too',         wire,   SYSTEM, KERN_SUCCESS,          2, 'user'],
    ['and again',               wire,   SYSTEM, KERN_SUCCESS,          3, 'user'],
    ['locked again',            wire,   USER,   KERN_SUCCESS,          3, 'user'],
    ['unlocked',                unwire, USER,   KERN_SUCCESS,          2, ''],
    ['unlocked again',          unwire, USER,   KERN_SUCCESS,          2, ''],
    ['the kernel once less',    unwire, SYSTEM, KERN_SUCCESS,          1, ''],
    ['locked beside that',      wire,   USER,   KERN_SUCCESS,          2, 'user'],
    ['the kernel no more',      unwire, SYSTEM, KERN_SUCCESS,          1, 'user'],
    ['nor again',               unwire, SYSTEM, KERN_INVALID_ARGUMENT, 1, 'user'],
    ['unlocked',                unwire, USER,   KERN_SUCCESS,          0, ''],
  ];
  assert.equal(space_map(0, 0, 5), KERN_SUCCESS);
  for (const [what, call, flags, answer, count, user] of table) {
    assert.equal(call(0, 5, flags), answer, what);
    assert.deepEqual(wired(), [[5, count, user]], what);
    assert.equal(vm_map.wired[mp], count > 0 ? 5 : 0, what);
    assert.equal(vm_page_wire_count(), count > 0 ? 5 : 0, what);
    spaces_check();
  }
  end();
});

test('a part of a mapping is wired, and unwired', () => {
  space_map(0, 0, 10);
  assert.equal(wire(3, 4, USER), KERN_SUCCESS);
  assert.deepEqual(wired(), [
    [3, 0, ''],
    [4, 1, 'user'],
    [3, 0, ''],
  ]);
  assert.equal(wire(0, 10, USER), KERN_SUCCESS);
  assert.deepEqual(wired(), [[10, 1, 'user']]);
  assert.equal(unwire(2, 2, USER), KERN_SUCCESS);
  assert.deepEqual(wired(), [
    [2, 1, 'user'],
    [2, 0, ''],
    [6, 1, 'user'],
  ]);
  assert.equal(unwire(0, 10, USER), KERN_SUCCESS);
  assert.deepEqual(wired(), [[10, 0, '']]);
  end();
});
test('holes are passed over, or forbid it', () => {
  space_map(0, 0, 2);
  space_map(0, 3, 2);
  assert.equal(wire(0, 5, USER), KERN_INVALID_ADDRESS);
  assert.deepEqual(wired(), [
    [2, 0, ''],
    [2, 0, ''],
  ]);
  assert.equal(wire(0, 5, VM_MAP_WIRE_USER | VM_MAP_WIRE_HOLESOK), KERN_SUCCESS);
  assert.deepEqual(wired(), [
    [2, 1, 'user'],
    [2, 1, 'user'],
  ]);
  assert.equal(unwire(0, 5, USER), KERN_INVALID_ADDRESS);
  assert.equal(unwire(0, 5, VM_MAP_WIRE_USER | VM_MAP_WIRE_HOLESOK), KERN_SUCCESS);
  assert.equal(vm_page_wire_count(), 0);
  end();
});
test('what nobody may use, and what must not fault, is not wired', () => {
  space_map(0, 0, 3);
  space_protect(0, 1, 1, VM_PROT_NONE);
  assert.equal(wire(0, 3, USER), KERN_INVALID_ADDRESS);
  assert.equal(vm_page_wire_count(), 0);
  assert.equal(wire(0, 3, VM_MAP_WIRE_USER | VM_MAP_WIRE_HOLESOK), KERN_SUCCESS);
  assert.deepEqual(
    wired().map(([, n]) => n),
    [1, 0, 1],
  );
  const nofault = { ...ANON, cow: MAP_NOFAULT };
  assert.equal(vm_map_fixed(mp, FIRST + 10, FIRST + 12, nofault), KERN_SUCCESS);
  for (const flags of [USER, SYSTEM]) {
    assert.equal(wire(10, 2, flags), KERN_SUCCESS);
    assert.deepEqual(wired().at(-1), [2, 0, '']);
    assert.equal(unwire(10, 2, flags), KERN_SUCCESS);
  }
  end();
});
test('a failure in the middle gives everything back', () => {
  space_map(0, 0, 3);
  space_map(0, 4, 3);
  wire(4, 1, USER);
  const before = wired();
  for (let n = 0; ; n++) {
    let left = n;
    page_failpoint.refuse = () => left-- <= 0;
    const got = wire(0, 7, VM_MAP_WIRE_USER | VM_MAP_WIRE_HOLESOK);
    page_failpoint.refuse = null;
    if (got === KERN_SUCCESS) break;
    assert.equal(got, KERN_RESOURCE_SHORTAGE);
    assert.deepEqual(wired(), before, `page ${n} refused`);
    assert.equal(vm_page_wire_count(), 1);
    spaces_check();
  }
  assert.equal(vm_map.wired[mp], 6);
  end();
});
test('what a wired page holds is where a store finds it, after a fork, too', () => {
  space_map(0, 0, 4);
  for (let i = 0; i < 4; i++) space_write(0, i, 10 + i);
  assert.equal(space_fork(0, 1), KERN_SUCCESS);
  assert.equal(wire(0, 4, USER), KERN_SUCCESS);
  assert.equal(space_fork(0, 2), KERN_SUCCESS);
  const frames = pages();
  for (let i = 0; i < 4; i++) space_write(0, i, 20 + i);
  assert.deepEqual(pages(), frames, 'no store copied a page');
  for (let i = 0; i < 4; i++) {
    assert.deepEqual(
      [0, 1, 2].map((s) => space_read(s, i)),
      [20 + i, 10 + i, 10 + i],
    );
  }
  assert.equal(vm_map.wired[map_at(2)], 0, 'the child has nothing locked');
  assert.equal(vm_page_wire_count(), 4);
  end();
});
/** The pages of memory behind the first four. */
function pages(): number[] {
  return [0, 1, 2, 3].map((i) => pmap_extract(vm_map.pmap[mp], FIRST + i));
}
test('rights come and go over a locked page, which stays', () => {
  space_map(0, 0, 4);
  for (let i = 0; i < 4; i++) space_write(0, i, i + 1);
  wire(0, 4, USER);
  const frames = pages();
  for (const prot of [VM_PROT_READ, VM_PROT_NONE, RW, VM_PROT_READ, RW]) {
    assert.equal(space_protect(0, 1, 2, prot), KERN_SUCCESS);
    spaces_check();
  }
  for (let i = 0; i < 4; i++) assert.equal(space_write(0, i, 9), 0);
  assert.deepEqual(pages(), frames);
  for (const advice of [MADV_DONTNEED, MADV_FREE]) {
    assert.equal(vm_map_madvise(mp, FIRST, FIRST + 4, advice), KERN_SUCCESS);
  }
  vm_pageout_direct(100);
  assert.deepEqual(pages(), frames, 'no advice frees it, nor does reclaiming');
  for (let i = 0; i < 4; i++) assert.equal(space_read(0, i), 9);
  end();
});
test('a mapping that goes takes the wirings of its program along', () => {
  space_map(0, 0, 6);
  wire(0, 6, USER);
  assert.equal(space_unmap(0, 2, 2), KERN_SUCCESS);
  assert.equal(vm_page_wire_count(), 4);
  assert.equal(space_map(0, 0, 6), KERN_SUCCESS, 'in place of what is locked');
  assert.equal(vm_page_wire_count(), 0);
  assert.equal(vm_map.wired[mp], 0);
  end();
});

describe('a thread of the kernel has a range wired', () => {
  const hold = (i: number, n: number): number => vm_hold_wire(mp, FIRST + i, FIRST + i + n);
  const release = (i: number, n: number): number => vm_hold_unwire(mp, FIRST + i, FIRST + i + n);

  test('of several over the same pages each is ended by itself', () => {
    space_map(0, 0, 8);
    for (const [i, n] of [
      [0, 8],
      [2, 2],
      [3, 4],
      [2, 2],
    ])
      assert.equal(hold(i, n), KERN_SUCCESS);
    spaces_check();
    assert.deepEqual(
      wired().map(([n, k]) => [n, k]),
      [
        [2, 1],
        [1, 3],
        [1, 4],
        [3, 2],
        [1, 1],
      ],
    );
    assert.equal(release(2, 3), KERN_INVALID_ARGUMENT, 'nobody wired just that');
    for (const [i, n] of [
      [2, 2],
      [0, 8],
      [2, 2],
      [3, 4],
    ]) {
      assert.equal(release(i, n), KERN_SUCCESS);
      spaces_check();
    }
    assert.deepEqual(wired(), [[8, 0, '']]);
    end();
  });
  test('memory that is locked and wired is unlocked, and still wired', () => {
    space_map(0, 0, 4);
    wire(0, 4, USER);
    hold(1, 2);
    assert.equal(unwire(0, 4, USER), KERN_SUCCESS);
    assert.deepEqual(wired(), [
      [1, 0, ''],
      [2, 1, ''],
      [1, 0, ''],
    ]);
    assert.equal(space_unmap(0, 0, 1), KERN_SUCCESS, 'beside it nothing waits');
    release(1, 2);
    assert.equal(vm_page_wire_count(), 0);
    end();
  });
  test('it is refused where the range is not whole, or memory ends', () => {
    space_map(0, 0, 2);
    assert.equal(hold(0, 3), KERN_INVALID_ADDRESS);
    page_failpoint.refuse = () => true;
    assert.equal(hold(0, 2), KERN_RESOURCE_SHORTAGE);
    page_failpoint.refuse = null;
    assert.deepEqual(wired(), [[2, 0, '']]);
    assert.equal(vm_map.holds[mp], 0);
    end();
  });
  test('it dies: a deletion ends that, and so does an idle CPU', () => {
    space_map(0, 0, 4);
    for (const ends of [() => space_unmap(0, 1, 1), () => idle()]) {
      assert.equal(hold(0, 4), KERN_SUCCESS);
      const h = vm_map.holds[mp];
      vm_hold.tid[h] += 1 << 11; // of a thread that there is not
      holds_died(map_root());
      ends();
      assert.equal(vm_map.holds[mp], 0);
      assert.equal(vm_page_wire_count(), 0);
      spaces_check();
      space_map(0, 0, 4);
    }
    end();
  });
  /** What an idle CPU does of it. */
  const idle = vm_hold_idle;
});
