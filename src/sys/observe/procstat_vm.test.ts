/*
 * Shows: the list of an address space says of every entry where it is, what it may be used for, and
 * how many of its pages are in memory and its own; copies and addresses of two banks among it.
 * By what means: a space with an entry of each sort, before and after a copy is made of it.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, shutdown } from '../boot/whole.ts';
import { MAP_ANON, MAP_FIXED, MAP_GUARD, MAP_STACK } from '../h/mman.ts';
import {
  anon_at,
  call,
  end,
  P,
  peek,
  poke,
  R,
  RW,
  up,
  user_fork,
} from '../map/vm_syscalls.test.lib.ts';
import { procstat_vm, procstat_vm_text } from './procstat_vm.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
const HEAP = 0x5555_5555_5000;
const TOP = 0x7ffd_0000_0000;

test('rows of memory, a guard, a stack, and of a copy', () => {
  const mp = up();
  anon_at(mp, HEAP, 4 * P);
  for (const i of [0, 2]) poke(mp, HEAP + i * P, 1);
  call(mp, 'mprotect', [HEAP + 3 * P, P, R]);
  call(mp, 'mmap', [HEAP + 8 * P, P, 0, MAP_GUARD | MAP_FIXED, -1, 0]);
  call(mp, 'mmap', [TOP, 2 * P, RW, MAP_STACK | MAP_FIXED, -1, 0]);
  const before = procstat_vm(mp).map((l) => [
    ...[l.start, l.end, l.protection, l.resident, l.private_resident],
    ...[l.references, l.shadows, l.flags, l.type],
  ]);
  // The two parts that mprotect made show one object.
  assert.deepEqual(before, [
    [HEAP, HEAP + 3 * P, 'rw-', 2, 0, 2, 0, '-----', 'df'],
    [HEAP + 3 * P, HEAP + 4 * P, 'r--', 0, 0, 2, 0, '-----', 'df'],
    [HEAP + 8 * P, HEAP + 9 * P, '---', 0, 0, 0, 0, '-----', '--'],
    [TOP, TOP + 2 * P, 'rw-', 0, 0, 0, 0, '----D', '--'],
  ]);
  const child = user_fork(0, 1);
  poke(child, HEAP, 2);
  const [heap] = procstat_vm(child);
  assert.deepEqual([heap.resident, heap.private_resident, heap.flags], [2, 1, 'C----']);
  assert.equal(procstat_vm(mp)[0].flags, 'CN---');
  assert.equal(peek(mp, HEAP), 1);
  const text = procstat_vm_text(procstat_vm(mp)).split('\n');
  assert.match(text[0], /^ +START +END PRT +RES PRES REF SHD FLAG +TP$/);
  assert.match(text[1], /^ +0x555555555000 +0x555555558000 rw- +2 +0 +\d+ +\d+ CN--- df$/);
  assert.equal(text.length, 6);
  end();
});
test('an entry over two banks whose addresses do not follow each other is two rows', () => {
  const mp = up();
  // The last page of bank 1 has name 0x21, the first one of bank 2 has name 0x52.
  const [last, first] = [0x22 * 2 ** 40 - P, 0x52 * 2 ** 40];
  for (const at of [last, first]) {
    assert.equal(call(mp, 'mmap', [at, P, RW, MAP_ANON | MAP_FIXED, -1, 0]), at);
  }
  const rows = procstat_vm(mp).map((l) => [l.start, l.end]);
  assert.deepEqual(rows, [
    [last, last + P],
    [first, first + P],
  ]);
  end();
});
