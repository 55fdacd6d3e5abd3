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
import { counter_get, counters } from '../machine/counter.ts';
import { EFAULT, ENAMETOOLONG } from '../machine/errno.ts';
import { mem, PAGE_SIZE, page_word } from '../machine/memory.ts';
import { dice, SEED } from '../machine/seed.test.lib.ts';
import { NULL } from '../machine/struct.ts';
import {
  KERN_INVALID_ADDRESS,
  KERN_PROTECTION_FAILURE,
  KERN_SUCCESS,
  MAP_STACK_GROWS_DOWN,
  vm_map,
  vm_map_entry,
} from '../h/vm_map.ts';
import { vm_object } from '../h/vm_object.ts';
import { pmap } from '../h/pmap.ts';
import { VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { page_failpoint, vm_page_alloc, vm_page_wire } from '../page/vm_page.ts';
import { casuword, copyin, copyinstr, copyout, fubyte, fuword, subyte, suword } from './vm_copy.ts';
import { vm_fault } from './vm_fault.ts';
import { map_entries } from './vm_map_check.ts';
import { vm_map_stack } from './vm_map_stack.ts';
import { map_at, map_drop, maps_make } from './vm_map.test.lib.ts';
import {
  FIRST,
  type Model,
  SPACES,
  space_fork,
  space_make,
  space_map,
  space_protect,
  space_read,
  space_unmap,
  space_write,
  spaces_check,
  spaces_compare,
  spaces_end,
  spaces_step,
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
function play(steps: number, seed: number, check_each: number): void {
  const draw = dice(seed);
  const model: Model = new Map();
  for (let i = 0; i < steps; i++) {
    spaces_step(draw, model, 0, SPACES);
    if (i % check_each === 0) spaces_check();
  }
  spaces_compare(model);
  spaces_check();
}
const counted = (name: string): number => {
  const c = counters.find((k) => k.name === `vm.stats.vm.${name}`);
  assert.ok(c, name);
  return counter_get(c);
};

describe('spaces and a model', () => {
  test('every page of every space is what was written', () => {
    up();
    play(15_000, SEED, 1000);
    spaces_end();
  });
  test('the same in a checked machine', () => {
    up({ checked: true });
    play(250, SEED + 1, 50);
    spaces_end();
  });
  test('a machine that is full refuses, and goes on', () => {
    up({ memory: '2M', options: { INVARIANTS: true } });
    play(15_000, SEED + 2, 1000);
    spaces_end();
  });
});

describe('a fault', () => {
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

test('ten thousand generations: the chain of copies does not grow', () => {
  up();
  space_make(0);
  space_map(0, 0, 3);
  for (let i = 0; i < 3; i++) space_write(0, i, 1000 + i);
  let deepest = 0;
  let s = 0;
  for (let n = 0; n < 10_000; n++) {
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
  for (const n of [9999, 9998, 9997]) assert.equal(space_read(s, n % 3), n);
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
