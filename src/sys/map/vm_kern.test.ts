/*
 * Shows: each way to ask for kernel addresses gives what it says, or changes nothing: without
 * memory for pages, for entries, for page tables, at each place; a submap has its exact limit, and
 * serves those who wait; nobody who waits is woken in vain; more addresses than 4 GiB come from a
 * machine of 64 MiB and all go back.
 * By what means: each call, every Nth page and entry refused, threads that wait, the walkers after
 * each test.  Beside a model: vm_kern_model.test.ts; deaths: sim/scripts/kern_*.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { kernel_locks_held } from '../boot/held_locks.ts';
import { counter_get } from '../machine/counter.ts';
import { PAGE_SIZE, ptoa } from '../machine/memory.ts';
import { mem } from '../machine/memory.ts';
import { M_NOWAIT, M_WAITOK } from '../h/malloc_flags.ts';
import { KVA_BASE, KVA_END } from '../h/vm_kern.ts';
import {
  KERN_INVALID_ADDRESS,
  VM_MAP_PAGED,
  VM_MAP_SYSTEM,
  VM_SUPER_PAGES,
  vm_map,
  type vm_map_t,
} from '../h/vm_map.ts';
import { PK_OBJECT, VM_ALLOC_SYSTEM } from '../h/vm_page.ts';
import { VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import {
  page_failpoint,
  vm_page_alloc_run,
  vm_page_census,
  vm_page_free_run,
  vm_page_wire,
} from '../page/vm_page.ts';
import { slab_failpoint } from '../uma/uma_keg.ts';
import { kern_down, kern_up } from './vm_kern_up.test.lib.ts';
import { copyin, copyout, fuword, suword } from './vm_copy.ts';
import {
  kernel_map,
  kmem_alloc,
  kmem_alloc_nofault,
  kmem_free,
  kmem_malloc,
  kmem_suballoc,
} from './vm_kern.ts';
import { kernacc, kernel_fault } from './vm_kern_fault.ts';
import { v_kmem_wakeups } from './vm_kern_vars.ts';
import {
  kmem_alloc_wait,
  kmem_free_wakeup,
  uvm_km_valloc,
  uvm_km_valloc_align,
  uvm_km_valloc_prefer,
  uvm_km_valloc_prefer_wait,
} from './vm_kern_wait.ts';
import { vm_map_lock, vm_map_unlock } from './vm_map.ts';
import { vm_maps_check } from './vm_map_check.ts';
import { map_failpoint } from './vm_map_entry.ts';

afterEach(kern_down);
/** kernel_map, which is empty. */
function top(): vm_map_t {
  const mp = kernel_map();
  assert.notEqual(mp, 0);
  return mp;
}
const READ = VM_PROT_READ;
const WRITE = VM_PROT_READ | VM_PROT_WRITE;
/** Pages that memory objects have. */
const objects = (): number => vm_page_census()[PK_OBJECT];
/** Writes a word to each page and reads it again. */
function touch(mp: vm_map_t, at: number, n: number): void {
  for (let i = 0; i < n; i++) assert.equal(suword(mp, ptoa(at + i), at + i), 0);
  for (let i = 0; i < n; i++) assert.equal(fuword(mp, ptoa(at + i)), at + i);
}

describe('addresses', () => {
  test('kmem_alloc: zeros, beyond the memory, that are read and written by translation', () => {
    kern_up();
    const mp = top();
    const at = kmem_alloc(mp, 5);
    assert.ok(at >= KVA_BASE && at + 5 <= KVA_END);
    for (let i = 0; i < 5; i++) assert.equal(fuword(mp, ptoa(at + i)), 0);
    touch(mp, at, 5);
    const block = kmem_alloc(mp, 2);
    assert.notEqual(block, at);
    assert.equal(kernacc(mp, at, 5, WRITE), true);
    assert.equal(kernacc(mp, at, 8, READ), false, 'a hole behind');
    vm_maps_check();
    assert.equal(objects(), 7);
    assert.equal(vm_map.size[mp], 7);
    kmem_free(mp, at, 5);
    kmem_free(mp, block, 2);
    assert.equal(objects(), 0);
    assert.equal(vm_map.nentries[mp], 0);
    assert.equal(fuword(mp, ptoa(at)), -1);
    assert.equal(kernel_fault(mp, at, READ), KERN_INVALID_ADDRESS);
  });
  test('a block is copied across its pages, in and out', () => {
    kern_up();
    const mp = top();
    const at = kmem_alloc(mp, 3);
    const m = vm_page_alloc_run(2, VM_ALLOC_SYSTEM);
    vm_page_wire(m, 2);
    const from = ptoa(m);
    for (let i = 0; i < 6000; i++) mem.U8[from + i] = i * 7;
    const saved = mem.U8.slice(from, from + 6000);
    assert.deepEqual(copyout(mp, from, ptoa(at) + 3000, 6000), { error: 0, done: 6000 });
    const word = fuword(mp, ptoa(at) + 4096);
    assert.equal(word, mem.U32[(from + 1096) / 4]);
    assert.deepEqual(copyin(mp, ptoa(at) + 3000, from, 6000), { error: 0, done: 6000 });
    assert.deepEqual(mem.U8.slice(from, from + 6000), saved);
    assert.equal(copyin(mp, ptoa(at) + 10_000, from, 6000).error, 14);
    vm_page_free_run(m, 2);
    kmem_free(mp, at, 3);
  });
  test('parts go back, and several at once; what is left is as it was', () => {
    kern_up();
    const mp = top();
    const at = kmem_alloc(mp, 10);
    touch(mp, at, 10);
    assert.equal(kmem_free(mp, at + 3, 2), true);
    vm_maps_check();
    assert.equal(kernacc(mp, at + 3, 1, READ), false);
    assert.equal(fuword(mp, ptoa(at + 2)), at + 2);
    assert.equal(fuword(mp, ptoa(at + 5)), at + 5);
    assert.equal(kmem_alloc(mp, 2), at + 3, 'the first place');
    assert.equal(kmem_free(mp, at, 10), true);
    assert.equal(vm_map.size[mp], 0);
  });
  test('addresses alone are nobody’s to touch; those of uvm_km_valloc come when touched', () => {
    kern_up();
    const mp = top();
    const bare = kmem_alloc_nofault(mp, 1000);
    const lazy = uvm_km_valloc(mp, 1000);
    assert.equal(objects(), 0);
    assert.equal(kernacc(mp, bare, 1, READ), false);
    assert.equal(kernacc(mp, lazy, 1000, WRITE), true);
    touch(mp, lazy + 500, 3);
    assert.equal(objects(), 3);
    vm_maps_check();
    kmem_free(mp, bare, 1000);
    kmem_free(mp, lazy, 1000);
    assert.equal(objects(), 0);
  });
  test('a system map that is locked is a lock of the kernel that is held', () => {
    kern_up();
    const mp = top();
    assert.deepEqual(kernel_locks_held(), []);
    vm_map_lock(mp);
    assert.deepEqual(
      kernel_locks_held().map((name) => name.includes('kernel map')),
      [true],
    );
    vm_map_unlock(mp);
  });
  test('places: at multiples, and as what lies there has its large pages', () => {
    kern_up();
    const mp = top();
    kmem_alloc_nofault(mp, 3);
    assert.equal(uvm_km_valloc_align(mp, 4, 64) % 64, 0);
    assert.equal(uvm_km_valloc_prefer(mp, 4, 77) % VM_SUPER_PAGES, 77);
    assert.equal(uvm_km_valloc_prefer_wait(mp, 4, 1025) % VM_SUPER_PAGES, 1);
    assert.equal(kmem_alloc_nofault(mp, 4, true) % VM_SUPER_PAGES, 0);
    assert.equal(uvm_km_valloc(mp, KVA_END - KVA_BASE), 0);
    assert.equal(uvm_km_valloc(mp, KVA_END), 0);
  });
  test('64 MiB of memory: more than 4 GiB of addresses, a page in every 64 MiB, all back', () => {
    kern_up({ memory: '64M' });
    const mp = top();
    const free = vm_page_census();
    const step = (64 * 2 ** 20) / PAGE_SIZE;
    const parts = 80;
    const at = uvm_km_valloc(mp, parts * step);
    assert.ok(at > 0 && ptoa(parts * step) > 2 ** 32);
    for (let i = 0; i < parts; i++) assert.equal(suword(mp, ptoa(at + i * step + i), i), 0);
    for (let i = 0; i < parts; i++) assert.equal(fuword(mp, ptoa(at + i * step + i)), i);
    assert.equal(objects(), parts);
    vm_maps_check();
    kmem_free(mp, at, parts * step);
    assert.equal(objects(), 0);
    assert.equal(vm_map.size[mp], 0);
    assert.equal(vm_page_census()[PK_OBJECT], free[PK_OBJECT]);
  });
});

describe('submaps', () => {
  for (const kind of [VM_MAP_SYSTEM, VM_MAP_PAGED]) {
    const name = kind === VM_MAP_SYSTEM ? 'system' : 'pageable';
    test(`${name}: so many pages as it has, and not one more; nobody is woken in vain`, () => {
      kern_up();
      const mp = kmem_suballoc(top(), 20, kind, true);
      assert.notEqual(mp, 0);
      const woken = counter_get(v_kmem_wakeups);
      const held: number[] = [];
      for (let i = 0; i < 10; i++) held.push(kmem_alloc_wait(mp, 2));
      assert.equal(new Set(held).size, 10);
      assert.equal(held[0] % VM_SUPER_PAGES, 0);
      assert.equal(uvm_km_valloc(mp, 1), 0, 'it is full');
      assert.equal(kmem_alloc_wait(mp, 21), 0, 'it never had so many');
      touch(top(), held[3], 2);
      touch(mp, held[4], 2);
      assert.equal(kernacc(top(), held[0], 20, WRITE), true);
      vm_maps_check();
      for (const at of held) assert.equal(kmem_free_wakeup(mp, at, 2), true);
      assert.equal(vm_map.size[mp], 0);
      assert.equal(counter_get(v_kmem_wakeups), woken);
      assert.equal(objects(), 0);
    });
  }
  test('in a checked machine', () => {
    kern_up({ checked: true });
    const mp = top();
    const sub = kmem_suballoc(mp, 20, VM_MAP_PAGED);
    const [at, lazy, part] = [kmem_alloc(mp, 3), uvm_km_valloc(mp, 3), kmem_alloc_wait(sub, 3)];
    for (const from of [at, lazy, part]) touch(mp, from, 3);
    vm_maps_check();
    kmem_free(mp, at + 1, 1);
    kmem_free(mp, lazy, 3);
    kmem_free_wakeup(sub, part, 3);
    kmem_free(mp, at, 1);
    kmem_free(mp, at + 2, 1);
    assert.equal(objects(), 0);
  });
  test('the limit of the outer map is that of the inner one', () => {
    kern_up();
    const outer = kmem_suballoc(top(), 100, VM_MAP_SYSTEM);
    const inner = kmem_suballoc(outer, 60, VM_MAP_SYSTEM);
    assert.equal(kmem_suballoc(outer, 60, VM_MAP_SYSTEM), 0);
    const at = kmem_alloc(inner, 60);
    assert.notEqual(at, 0);
    touch(top(), at, 60);
    assert.equal(kmem_alloc(inner, 1), 0);
    vm_maps_check();
    kmem_free(inner, at, 60);
  });
});

describe('without memory', () => {
  test('kmem_malloc: every Nth page refused, at each place: all or nothing', () => {
    kern_up();
    const mp = top();
    for (let nth = 1; nth < 26; nth++) {
      let asked = 0;
      page_failpoint.refuse = () => ++asked === nth;
      const at = kmem_malloc(mp, 9, M_NOWAIT | 0x800);
      page_failpoint.refuse = null;
      vm_maps_check();
      if (at === 0) assert.equal(objects(), 0);
      else kmem_free(mp, at, 9);
      assert.equal(vm_map.nentries[mp], 0);
    }
  });
  test('more than there is: a request that may wait ends, too', () => {
    kern_up({ memory: '4M' });
    const mp = top();
    assert.equal(kmem_malloc(mp, 2000, M_WAITOK), 0);
    assert.equal(kmem_malloc(mp, 1000, M_NOWAIT), 0);
    assert.equal(kmem_alloc(mp, 1000), 0, 'nobody else could give any back');
    assert.equal(objects(), 0);
    assert.equal(vm_map.nentries[mp], 0);
  });
  test('entries that are kept aside: the map grows with no page to be had', () => {
    kern_up();
    const mp = top();
    slab_failpoint.refuse = () => true;
    page_failpoint.refuse = () => true;
    const held: number[] = [];
    for (let at = kmem_alloc_nofault(mp, 2); at !== 0; at = kmem_alloc_nofault(mp, 2))
      held.push(at);
    assert.ok(held.length >= 128, `${held.length}`);
    assert.equal(kmem_free(mp, held[0], 1), false, 'no entry for the rest');
    assert.equal(kmem_free(mp, held[0], 2), true);
    assert.equal(kmem_free(mp, held[1], 1), true, 'there is one again');
    vm_maps_check();
    for (const at of held.slice(2)) kmem_free(mp, at, 2);
  });
  test('every Nth entry refused', () => {
    kern_up();
    const mp = top();
    for (let nth = 1; nth <= 3; nth++) {
      let asked = 0;
      map_failpoint.refuse = () => ++asked === nth;
      const at = kmem_malloc(mp, 6, M_NOWAIT);
      assert.equal(at === 0, nth === 1);
      // In the middle: an entry for what is left below, and one for what is left above.
      if (at !== 0) assert.equal(kmem_free(mp, at + 2, 2), false);
      map_failpoint.refuse = null;
      vm_maps_check();
      if (at !== 0) assert.equal(kernacc(mp, at, 6, READ), true, 'nothing has changed');
      if (at !== 0) assert.equal(kmem_free(mp, at, 6), true);
    }
  });
});
