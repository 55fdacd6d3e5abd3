/*
 * Shows: the list of an address space says of every entry where it is, what it may be used for, and
 * how many of its pages are in memory and its own; copies and addresses of two banks among it; the
 * list of objects has each of them once, with its pages by queue; both come through the variables
 * unchanged.  Beside threads that map, fork and end spaces: vm_space_smp.slow.test.ts.
 * By what means: a space with an entry of each sort, before and after a copy is made of it; the
 * bytes of the variables, taken apart; a checked machine.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, shutdown } from '../boot/whole.ts';
import { MAP_ANON, MAP_FIXED, MAP_GUARD, MAP_STACK } from '../h/mman.ts';
import type { vm_map_t } from '../h/vm_map.ts';
import { user_access } from '../map/vm_bank.ts';
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
import { EINVAL, ENOENT } from '../machine/errno.ts';
import { PAGE_WORDS } from '../machine/memory.ts';
import { vm_page_deactivate } from '../page/vm_pageq.ts';
import { sysctl, sysctlnametomib } from './kern_sysctl.ts';
import {
  KVME_FLAG_COW,
  KVME_FLAG_GROWS_DOWN,
  KVME_FLAG_NEEDS_COPY,
  KVME_TYPE_DEFAULT,
  KVME_TYPE_NONE,
  type kinfo_vmentry,
  kinfo_vmentries,
  kinfo_vmobjects,
} from './kinfo_vm.ts';
import { procstat_vm_text, vmstat_object_text } from './procstat_text.ts';
import { procstat_vm, vm_objects } from './procstat_vm.ts';
import { vmtotal } from './vm_meter.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
/** The page that is behind an address. */
function page_of(mp: vm_map_t, at: number): number {
  let m = 0;
  const { error } = user_access(mp, at, 1, false, (byte) => void (m = byte / 4 / PAGE_WORDS));
  assert.equal(error, 0);
  return Math.floor(m);
}
const HEAP = 0x5555_5555_5000;
const TOP = 0x7ffd_0000_0000;

/** Entries as rows of figures, for comparing. */
const figures = (all: readonly kinfo_vmentry[]): unknown[] =>
  all.map((e) => [
    ...[e.start, e.end, e.protection, e.resident, e.private_resident],
    ...[e.refs, e.shadows, e.flags, e.type],
  ]);
const CN = KVME_FLAG_COW | KVME_FLAG_NEEDS_COPY;

test('rows of memory, a guard, a stack, and of a copy', () => {
  const mp = up();
  anon_at(mp, HEAP, 4 * P);
  for (const i of [0, 2]) poke(mp, HEAP + i * P, 1);
  call(mp, 'mprotect', [HEAP + 3 * P, P, R]);
  call(mp, 'mmap', [HEAP + 8 * P, P, 0, MAP_GUARD | MAP_FIXED, -1, 0]);
  call(mp, 'mmap', [TOP, 2 * P, RW, MAP_STACK | MAP_FIXED, -1, 0]);
  // The two parts that mprotect made show one object.
  assert.deepEqual(figures(procstat_vm(mp)), [
    [HEAP, HEAP + 3 * P, RW, 2, 0, 2, 0, 0, KVME_TYPE_DEFAULT],
    [HEAP + 3 * P, HEAP + 4 * P, R, 0, 0, 2, 0, 0, KVME_TYPE_DEFAULT],
    [HEAP + 8 * P, HEAP + 9 * P, 0, 0, 0, 0, 0, 0, KVME_TYPE_NONE],
    [TOP, TOP + 2 * P, RW, 0, 0, 0, 0, KVME_FLAG_GROWS_DOWN, KVME_TYPE_NONE],
  ]);
  const child = user_fork(0, 1);
  poke(child, HEAP, 2);
  const [heap] = procstat_vm(child);
  assert.deepEqual([heap.resident, heap.private_resident, heap.flags], [2, 1, KVME_FLAG_COW]);
  assert.equal(procstat_vm(mp)[0].flags, CN);
  assert.equal(peek(mp, HEAP), 1);
  const all = procstat_vm();
  assert.deepEqual(new Set(all.map((e) => e.space)), new Set([mp, child]));
  assert.equal(all.length, 8);
  assert.deepEqual(procstat_vm(mp + 1), [], 'no such space');
  const text = procstat_vm_text(procstat_vm(mp)).split('\n');
  assert.match(text[0], /^ +PID +START +END PRT +RES PRES REF SHD FLAG +TP PATH$/);
  assert.match(text[1], /^ *\d+ +0x555555555000 +0x555555558000 rw- +2 +0 +\d+ +\d+ CN--- df$/);
  assert.equal(text.length, 6);
  assert.equal(procstat_vm_text(procstat_vm(mp), false), text.slice(1).join('\n'));
  end();
});
test('through the variables they are the same, by length and by name', () => {
  const mp = up();
  anon_at(mp, HEAP, 4 * P);
  poke(mp, HEAP, 1);
  const child = user_fork(0, 1);
  poke(child, HEAP + P, 1);
  const { error, mib } = sysctlnametomib('kern.proc.vmmap');
  assert.deepEqual([error, mib], [0, [1, 14, 32]]);
  const read = (numbers: readonly number[]): Uint8Array => {
    const old = new Uint8Array(4096);
    const r = sysctl(numbers, old, null);
    assert.equal(r.error, 0);
    assert.equal(sysctl(numbers, null, null).oldlen, r.oldlen);
    return old.subarray(0, r.oldlen);
  };
  assert.deepEqual(kinfo_vmentries(read(mib)), procstat_vm());
  for (const one of [mp, child]) {
    assert.deepEqual(kinfo_vmentries(read([...mib, one])), procstat_vm(one));
  }
  const bytes = read(mib);
  assert.equal(kinfo_vmentries(bytes.subarray(0, bytes.length - 1)).length, 1, 'a cut record');
  assert.equal(sysctl([...mib, mp + 1], null, null).error, ENOENT);
  assert.equal(sysctl([...mib, mp, 0], null, null).error, EINVAL);
  const objects = kinfo_vmobjects(read(sysctlnametomib('vm.objects').mib));
  assert.deepEqual(objects, vm_objects());
  end();
});
test('objects, with their pages by queue', () => {
  const mp = up();
  const devices = vm_objects().length;
  anon_at(mp, HEAP, 4 * P);
  for (const i of [0, 1, 2]) poke(mp, HEAP + i * P, 1);
  const [one] = vm_objects();
  assert.deepEqual(
    [one.type, one.size, one.refs, one.shadows, one.resident, one.active, one.inactive],
    [KVME_TYPE_DEFAULT, 4, 1, 0, 3, 3, 0],
  );
  vm_page_deactivate(page_of(mp, HEAP));
  assert.deepEqual([vm_objects()[0].active, vm_objects()[0].inactive], [2, 1]);
  const child = user_fork(0, 1);
  poke(child, HEAP, 2);
  poke(mp, HEAP, 2);
  // Two shadows of it, with the page that each wrote to.
  const all = vm_objects();
  assert.equal(all.length, devices + 3);
  const [below, ...shadows] = [...all].sort((a, b) => b.shadows - a.shadows);
  assert.deepEqual([below.me, below.refs, below.shadows, below.resident], [one.me, 2, 2, 3]);
  for (const s of shadows.slice(0, 2)) {
    assert.deepEqual([s.backing, s.refs, s.resident, s.active], [one.me, 1, 1, 1]);
  }
  const text = vmstat_object_text(all).split('\n');
  assert.equal(text[0], '  RES   ACT INACT REF SHD CM  TP PATH');
  assert.match(vmstat_object_text([below]), /\n {4}3 {5}2 {5}1 {3}2 {3}2 WB {2}df\n$/);
  end();
});
test('the same lists in a checked machine, and what all of it comes to', () => {
  const mp = up({ checked: true });
  anon_at(mp, HEAP, 4 * P);
  poke(mp, HEAP, 1);
  const child = user_fork(0, 1);
  poke(child, HEAP, 2);
  assert.equal(procstat_vm().length, 2);
  assert.ok(vm_objects().length >= 2);
  const { vm, avm, rm, arm } = vmtotal();
  assert.deepEqual([vm, avm, rm, arm], [8, 8, 2, 2]);
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
