/*
 * Shows: memory that is mapped holds what was written to it, through forks of forks, and may be
 * used as its protection says; faults that fail say why; where memory is short nothing is lost;
 * chains of copies stay short.
 * By what means: seeded maps, unmaps, protects, writes, reads, forks and drops of spaces and of a
 * model, in machines of all sorts; the walkers after all of it.  Several threads:
 * vm_fault_smp.slow.test.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { counter_get, counters, counter_words } from '../machine/counter.ts';
import { thr } from '../machine/cpu.ts';
import { EAGAIN, EFAULT, EIO, ENAMETOOLONG } from '../machine/errno.ts';
import { M, machine } from '../machine/header.ts';
import { mem, PAGE_SIZE, page_word } from '../machine/memory.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { NULL } from '../machine/struct.ts';
import {
  KERN_ABORTED,
  KERN_FAILURE,
  KERN_INVALID_ADDRESS,
  KERN_OUT_OF_BOUNDS,
  KERN_PROTECTION_FAILURE,
  KERN_SUCCESS,
  MAP_COPY_ON_WRITE,
  MAP_STACK_GROWS_DOWN,
  vm_map,
  vm_map_entry,
} from '../h/vm_map.ts';
import {
  DEVICE_COUNTERS,
  DEVICE_ZERO,
  OBJT_DEAD,
  OBJT_DEFAULT,
  vm_object,
  type vm_object_t,
} from '../h/vm_object.ts';
import { vm_device_object } from '../object/vm_device.ts';
import { vm_object_allocate } from '../object/vm_object.ts';
import { object_page, object_page_busy, object_page_wakeup } from '../object/vm_object_page.ts';
import { pmap_remove } from '../pmap/pmap.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { test_pager, test_pager_object, test_pager_word } from '../object/test_pager.test.lib.ts';
import { vm_map_fixed } from './vm_map_insert.ts';
import { pmap } from '../h/pmap.ts';
import { vm_page } from '../h/vm_page.ts';
import { VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { page_failpoint, vm_page_alloc, vm_page_wire } from '../page/vm_page.ts';
import { casuword, copyin, copyinstr, copyout, fubyte, fuword, subyte, suword } from './vm_copy.ts';
import { fault_patience, vm_fault } from './vm_fault.ts';
import { map_entries } from './vm_map_check.ts';
import { vm_map_stack } from './vm_map_stack.ts';
import { map_at, map_drop, maps_make } from './vm_map.test.lib.ts';
import {
  FIRST,
  space_fork,
  space_make,
  space_map,
  space_protect,
  space_read,
  space_unmap,
  space_write,
  spaces_check,
  spaces_end,
  spaces_play,
} from './vm_space.test.lib.ts';

afterEach(() => {
  page_failpoint.refuse = null;
  try {
    shutdown();
  } catch {
    abandon();
  }
});
function up(options: Parameters<typeof boot>[0] = {}): void {
  const strict = { INVARIANTS: true, WITNESS: true };
  boot({ cpus: 1, fresh: true, memory: '16M', options: strict, ...options });
  maps_make();
}
/** A page of the kernel. */
function vm_page_wired_one(): number {
  const m = vm_page_alloc(0, 0);
  vm_page_wire(m, 1);
  return m;
}
const counted = (name: string): number => {
  const c = counters.find((k) => k.name === `vm.stats.vm.${name}`);
  assert.ok(c, name);
  return counter_get(c);
};

describe('spaces and a model', () => {
  test('every page of every space is what was written', () => {
    up();
    spaces_play(6000, SEED, 500);
    spaces_end();
  });
  test('the same in a checked machine', () => {
    up({ checked: true });
    spaces_play(200, SEED + 1, 50);
    spaces_end();
  });
  test('a machine that is full refuses, and goes on', () => {
    up({ memory: '2M', options: { INVARIANTS: true } });
    spaces_play(6000, SEED + 2, 500);
    spaces_end();
  });
});

describe('a fault', () => {
  test('of a thread that may not block gives up at a busy page, and is served later', () => {
    up({ cpus: 2 });
    space_make(0);
    assert.equal(space_map(0, 0, 2), KERN_SUCCESS);
    assert.equal(space_write(0, 0, 7), 0);
    const mp = map_at(0);
    const [e] = map_entries(mp);
    const o = vm_map_entry.object[e];
    const change = (busy: boolean): void => {
      mtx_lock(vm_object.lock, o);
      const m = object_page(o, vm_map_entry.offset[e]);
      if (busy) object_page_busy(m, o);
      vm_page.busy[m] = thr.tid + (busy ? 1 : 0); // as if another CPU filled it
      if (!busy) object_page_wakeup(m, o);
      mtx_unlock(vm_object.lock, o);
    };
    pmap_remove(vm_map.pmap[mp], FIRST, FIRST + 1);
    change(true);
    const { rounds } = fault_patience;
    fault_patience.rounds = 1; // as a browser's main thread has a few
    try {
      assert.equal(vm_fault(mp, FIRST, VM_PROT_READ), KERN_ABORTED);
      const to = page_word(vm_page_wired_one()) * 4;
      assert.deepEqual(copyin(mp, FIRST * PAGE_SIZE, to, 8), { error: EAGAIN, done: 0 });
    } finally {
      fault_patience.rounds = rounds;
    }
    change(false);
    assert.equal(space_read(0, 0), 7);
  });
  test('fills with zeros once, copies once, and moves a page that nobody else sees', () => {
    up();
    space_make(0);
    assert.equal(space_map(0, 0, 4), KERN_SUCCESS);
    assert.equal(space_read(0, 0), 0);
    assert.deepEqual([counted('v_zfod'), counted('v_cow_faults')], [1, 0]);
    assert.equal(space_write(0, 0, 7), 0);
    assert.equal(space_write(0, 1, 8), 0);
    assert.deepEqual([counted('v_zfod'), counted('v_cow_faults')], [2, 0]);
    space_fork(0, 1);
    assert.equal(space_write(1, 0, 9), 0);
    assert.deepEqual([space_read(0, 0), space_read(1, 0)], [7, 9]);
    assert.deepEqual([counted('v_cow_faults'), counted('v_cow_optim')], [1, 0]);
    map_drop(0);
    assert.equal(space_write(1, 1, 10), 0);
    assert.equal(space_read(1, 1), 10);
    assert.equal(counted('v_cow_faults') - counted('v_cow_optim'), 1, 'nothing more was copied');
    spaces_check();
    spaces_end();
  });
  test('says why it fails, and changes nothing', () => {
    up();
    space_make(0);
    const mp = map_at(0);
    space_map(0, 0, 2);
    space_protect(0, 1, 1, VM_PROT_READ);
    assert.equal(vm_fault(mp, FIRST + 2, VM_PROT_READ), KERN_INVALID_ADDRESS);
    assert.equal(vm_fault(mp, FIRST + 1, VM_PROT_WRITE), KERN_PROTECTION_FAILURE);
    assert.equal(vm_fault(mp, FIRST, VM_PROT_WRITE), KERN_SUCCESS);
    assert.equal(pmap.resident[vm_map.pmap[mp]], 1);
    space_unmap(0, 0, 1);
    assert.equal(space_write(0, 0, 1), EFAULT);
    spaces_end();
  });
  test('lets a stack grow down to the page, and no further than it may', () => {
    up();
    space_make(0);
    const mp = map_at(0);
    const RW = VM_PROT_READ | VM_PROT_WRITE;
    assert.equal(vm_map_stack(mp, FIRST, 90, RW, RW, MAP_STACK_GROWS_DOWN), KERN_SUCCESS);
    const before = vm_map.size[mp];
    assert.ok(before < 90);
    assert.equal(space_write(0, 90 - before - 3, 5), 0);
    assert.ok(vm_map.size[mp] > before);
    assert.equal(space_read(0, 90 - before - 3), 5);
    assert.equal(vm_fault(mp, FIRST - 1, VM_PROT_WRITE), KERN_INVALID_ADDRESS);
    spaces_end();
  });
  test('that finds no memory at any place loses nothing', () => {
    up({ memory: '2M', options: { INVARIANTS: true, FAILPOINTS: true } });
    space_make(0);
    space_map(0, 0, 80);
    space_write(0, 0, 3);
    space_fork(0, 1);
    let refused = 0;
    for (const i of [0, 1, 60]) {
      for (let nth = 0; ; nth++) {
        let left = nth;
        page_failpoint.refuse = () => left-- <= 0;
        const error = space_write(1, i, 100 + i);
        page_failpoint.refuse = null;
        spaces_check();
        if (error === 0) break;
        refused++;
        assert.equal(space_read(0, i), i === 0 ? 3 : 0);
      }
      assert.equal(space_read(1, i), 100 + i);
    }
    assert.ok(refused >= 3, `${refused} refused`);
    spaces_end();
  });
});

describe('a fault on memory that comes from elsewhere', () => {
  const RW = VM_PROT_READ | VM_PROT_WRITE;
  /** Maps an object, whose reference is in hand, to pages of space 0. */
  function show(o: vm_object_t, i: number, n: number, offset: number, cow: number): number {
    const how = { object: o, offset, protection: RW, max_protection: RW, cow };
    return vm_map_fixed(map_at(0), FIRST + i, FIRST + i + n, how);
  }
  test('a device is read, and written to as a private copy only', () => {
    up();
    space_make(0);
    assert.equal(show(vm_device_object(DEVICE_ZERO), 0, 4, 0, 0), KERN_SUCCESS);
    assert.equal(show(vm_device_object(DEVICE_ZERO), 4, 4, 9, MAP_COPY_ON_WRITE), KERN_SUCCESS);
    assert.equal(show(vm_device_object(DEVICE_COUNTERS), 8, 1, 0, 0), KERN_SUCCESS);
    const zeros = counted('v_zfod');
    for (let i = 0; i < 8; i++) assert.equal(space_read(0, i), 0);
    assert.equal(counted('v_zfod'), zeros, 'reading takes no memory');
    assert.equal(space_write(0, 0, 5), EFAULT);
    assert.equal(vm_fault(map_at(0), FIRST, VM_PROT_WRITE), KERN_PROTECTION_FAILURE);
    assert.equal(space_write(0, 4, 5), 0);
    assert.deepEqual([space_read(0, 4), space_read(0, 5)], [5, 0]);
    assert.equal(space_write(0, 8, 5), EFAULT);
    const faults = new Float64Array(1);
    const at = (FIRST + 8) * PAGE_SIZE + counter_words(fault_counter())[0] * 4 - counters_byte();
    const words = new Uint32Array(faults.buffer);
    [words[0], words[1]] = [fuword(map_at(0), at), fuword(map_at(0), at + 4)];
    assert.equal(faults[0], counted('v_vm_faults'), 'the kernel counts there');
    spaces_check();
    spaces_end();
  });
  test('a pager fills pages, and an error of its store is an error of the access', () => {
    up();
    space_make(0);
    assert.equal(show(test_pager_object(20, 77), 0, 20, 0, MAP_COPY_ON_WRITE), KERN_SUCCESS);
    assert.equal(space_read(0, 1), test_pager_word(77, 1));
    test_pager.fail_at = 1;
    assert.equal(vm_fault(map_at(0), FIRST + 2, VM_PROT_READ), KERN_FAILURE);
    test_pager.fail_at = 1;
    assert.equal(space_read(0, 2), -EIO);
    assert.equal(space_read(0, 2), test_pager_word(77, 2), 'and the next one works');
    assert.equal(space_write(0, 3, 9), 0);
    assert.equal(space_read(0, 3), 9);
    assert.equal(space_read(0, 7), 0, 'what it has not is zero');
    spaces_check();
    spaces_end();
  });
  test('beyond the end of an object, and in one whose contents are gone', () => {
    up();
    space_make(0);
    assert.equal(show(vm_object_allocate(OBJT_DEFAULT, 2), 0, 4, 0, 0), KERN_SUCCESS);
    assert.equal(vm_fault(map_at(0), FIRST + 1, VM_PROT_READ), KERN_SUCCESS);
    assert.equal(vm_fault(map_at(0), FIRST + 2, VM_PROT_READ), KERN_OUT_OF_BOUNDS);
    assert.equal(show(vm_object_allocate(OBJT_DEAD, 4), 4, 4, 0, 0), KERN_SUCCESS);
    assert.equal(vm_fault(map_at(0), FIRST + 4, VM_PROT_READ), KERN_PROTECTION_FAILURE);
    assert.equal(show(vm_object_allocate(OBJT_DEAD, 4), 4, 4, 0, MAP_COPY_ON_WRITE), KERN_SUCCESS);
    assert.equal(vm_fault(map_at(0), FIRST + 4, VM_PROT_WRITE), KERN_PROTECTION_FAILURE);
    spaces_end();
  });
});
const fault_counter = () => {
  const c = counters.find((k) => k.name === 'vm.stats.vm.v_vm_faults');
  assert.ok(c);
  return c;
};
const counters_byte = (): number => machine.counters[M] * 4;

const GENERATIONS = 10_000;
test('ten thousand generations: the chain of copies does not grow', () => {
  up();
  space_make(0);
  space_map(0, 0, 3);
  for (let i = 0; i < 3; i++) space_write(0, i, 1000 + i);
  let deepest = 0;
  let s = 0;
  for (let n = 0; n < GENERATIONS; n++) {
    const to = 1 - s;
    assert.equal(space_fork(s, to), KERN_SUCCESS);
    assert.equal(space_write(to, n % 3, n), 0);
    map_drop(s);
    s = to;
    let depth = 0;
    for (let o = vm_map_entry.object[map_entries(map_at(s))[0]]; o !== NULL; ) {
      depth++;
      o = vm_object.backing[o];
    }
    deepest = Math.max(deepest, depth);
  }
  assert.ok(deepest <= 3, `${deepest} deep`);
  for (const n of [1, 2, 3].map((k) => GENERATIONS - k)) assert.equal(space_read(s, n % 3), n);
  spaces_end();
});

describe('copyin and its like', () => {
  /** A byte of the kernel's own. */
  function kernel(): number {
    const m = vm_page_alloc(-1, 0);
    vm_page_wire(m, 1);
    return page_word(m) * 4;
  }
  test('copy across pages, and say how far they came', () => {
    up();
    space_make(0);
    const mp = map_at(0);
    space_map(0, 0, 2);
    const at = FIRST * PAGE_SIZE;
    const k = kernel();
    for (let i = 0; i < 1000; i++) mem.U8[k + i] = i % 251;
    assert.deepEqual(copyout(mp, k, at + PAGE_SIZE - 300, 1000), { error: 0, done: 1000 });
    assert.deepEqual(copyin(mp, at + PAGE_SIZE - 300, k + 2000, 1000), { error: 0, done: 1000 });
    for (let i = 0; i < 1000; i++) assert.equal(mem.U8[k + 2000 + i], i % 251);
    const beyond = copyout(mp, k, at + 2 * PAGE_SIZE - 100, 1000);
    assert.deepEqual(beyond, { error: EFAULT, done: 100 });
    assert.deepEqual(copyin(mp, -5, k, 0), { error: 0, done: 0 });
    assert.equal(copyin(mp, -5, k, 1).error, EFAULT);
    assert.equal(copyin(mp, 2 ** 43 - PAGE_SIZE, k, 1).error, EFAULT);
    assert.equal(copyin(mp, 2 ** 60, k, 1).error, EFAULT);
    spaces_end();
  });
  test('a text ends with a zero, or is too long, or is cut off by a hole', () => {
    up();
    space_make(0);
    const mp = map_at(0);
    space_map(0, 0, 1);
    const end = (FIRST + 1) * PAGE_SIZE;
    const k = kernel();
    for (const [i, c] of [...'kmem'].entries()) subyte(mp, end - 5 + i, c.charCodeAt(0));
    assert.deepEqual(copyinstr(mp, end - 5, k, 100), { error: 0, done: 5 });
    assert.equal(String.fromCharCode(...mem.U8.subarray(k, k + 4)), 'kmem');
    assert.deepEqual(copyinstr(mp, end - 5, k, 4), { error: ENAMETOOLONG, done: 4 });
    assert.deepEqual(copyinstr(mp, end - 5, k, 5), { error: 0, done: 5 });
    subyte(mp, end - 1, 33);
    assert.deepEqual(copyinstr(mp, end - 5, k, 100), { error: EFAULT, done: 5 });
    spaces_end();
  });
  test('words and bytes', () => {
    up();
    space_make(0);
    const mp = map_at(0);
    space_map(0, 0, 1);
    const at = FIRST * PAGE_SIZE;
    assert.equal(suword(mp, at + 8, 0xfedcba98), 0);
    assert.deepEqual([fuword(mp, at + 8), fubyte(mp, at + 9)], [0xfedcba98, 0xba]);
    assert.equal(casuword(mp, at + 8, 1, 2), 0xfedcba98);
    assert.equal(casuword(mp, at + 8, 0xfedcba98, 3), 0xfedcba98);
    assert.equal(fuword(mp, at + 8), 3);
    const hole = at + PAGE_SIZE;
    assert.deepEqual([fuword(mp, hole), fubyte(mp, hole), suword(mp, hole, 1)], [-1, -1, -1]);
    assert.deepEqual([subyte(mp, hole, 1), casuword(mp, hole, 0, 1)], [-1, -1]);
    assert.equal(fuword(mp, at + 2), -1, 'no word lies there');
    spaces_end();
  });
});
