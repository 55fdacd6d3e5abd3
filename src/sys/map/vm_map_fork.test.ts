/*
 * Shows: a copy of an address space is of one moment, and each entry comes along as it says;
 * chains of copies stay short; what cannot be copied leaves nothing behind.
 * By what means: small spaces with page tables, copied and written to on both sides; ten thousand
 * generations; memory refused at every place; the walkers after each test.  Seeded forks beside a
 * model: vm_map.fuzz.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { NULL } from '../machine/struct.ts';
import {
  KERN_INVALID_ARGUMENT,
  KERN_RESOURCE_SHORTAGE,
  MAP_ENTRY_COW,
  MAP_ENTRY_NEEDS_COPY,
  MAP_STACK_GROWS_DOWN,
  VM_INHERIT_COPY,
  VM_INHERIT_NONE,
  VM_INHERIT_SHARE,
  VM_INHERIT_ZERO,
  VMFS_NO_SPACE,
  vm_map,
  vm_map_entry,
  type vm_map_t,
} from '../h/vm_map.ts';
import { OBJ_ONEMAPPING, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { objects_all } from '../object/vm_object_check.ts';
import { page_failpoint } from '../page/vm_page.ts';
import { uma_check } from '../uma/uma_check.ts';
import { vm_map_deallocate, vm_map_lock, vm_map_reference, vm_map_unlock } from './vm_map.ts';
import { map_entries, maps_all, vm_map_check, vm_maps_check } from './vm_map_check.ts';
import { map_failpoint } from './vm_map_entry.ts';
import { vmspace_alloc, vmspace_exec, vmspace_fork } from './vm_map_fork.ts';
import { vm_map_find, vm_map_submap } from './vm_map_insert.ts';
import { vm_map_inherit, vm_map_protect, vm_map_remove } from './vm_map_range.ts';
import { vm_map_stack } from './vm_map_stack.ts';
import { ANON, memory_read, memory_write } from './vm_map.test.lib.ts';
import { vm_map_lookup } from './vm_map_tree.ts';

const map = vm_map;
const entry = vm_map_entry;
const object = vm_object;

beforeEach(() => {
  const options = { INVARIANTS: true, WITNESS: true, FAILPOINTS: true };
  boot({ cpus: 1, fresh: true, memory: '16M', options });
});
afterEach(() => {
  page_failpoint.refuse = null;
  map_failpoint.refuse = null;
  try {
    if (maps_all().length > 0) throw new Error(`${maps_all().length} maps are left`);
    assert.deepEqual(objects_all(), []);
    vm_maps_check();
    uma_check();
    shutdown();
  } catch (e) {
    abandon();
    throw e;
  }
});
function space(): vm_map_t {
  const mp = vmspace_alloc(0, 1000);
  assert.notEqual(mp, NULL);
  return mp;
}
function put(mp: vm_map_t, start: number, end: number): void {
  assert.equal(vm_map_find(mp, end - start, ANON, { mode: VMFS_NO_SPACE, at: start }), start);
}
function fork(mp: vm_map_t): vm_map_t {
  const child = vmspace_fork(mp);
  assert.ok(child > 0, `${child}`);
  vm_map_check(child as vm_map_t);
  return child as vm_map_t;
}
function end(...maps: vm_map_t[]): void {
  vm_maps_check();
  for (const mp of maps) vm_map_deallocate(mp);
}

describe('a fork', () => {
  test('copies: what one writes the other does not see', () => {
    const a = space();
    put(a, 10, 20);
    memory_write(a, 12, 5);
    const b = fork(a);
    for (const mp of [a, b]) {
      const flags = entry.eflags[vm_map_lookup(mp, 12)];
      assert.equal(flags, MAP_ENTRY_COW | MAP_ENTRY_NEEDS_COPY);
    }
    memory_write(b, 12, 6);
    memory_write(a, 13, 7);
    assert.deepEqual([memory_read(a, 12), memory_read(b, 12)], [5, 6]);
    assert.deepEqual([memory_read(a, 13), memory_read(b, 13)], [7, 0]);
    vm_map_deallocate(b);
    memory_write(a, 14, 1);
    const e = vm_map_lookup(a, 12);
    assert.equal(object.backing[entry.object[e]], NULL, 'the chain is one object again');
    end(a);
  });
  test('shares, leaves out, gives zeros', () => {
    const a = space();
    put(a, 10, 40);
    for (const vpn of [12, 22, 32]) memory_write(a, vpn, vpn);
    vm_map_inherit(a, 10, 20, VM_INHERIT_SHARE);
    vm_map_inherit(a, 20, 30, VM_INHERIT_NONE);
    vm_map_inherit(a, 30, 40, VM_INHERIT_ZERO);
    const b = fork(a);
    assert.deepEqual(
      [12, 22, 32].map((vpn) => memory_read(b, vpn)),
      [12, undefined, 0],
    );
    memory_write(b, 13, 99);
    assert.equal(memory_read(a, 13), 99);
    memory_write(a, 12, 98);
    assert.equal(memory_read(b, 12), 98);
    memory_write(b, 32, 1);
    assert.equal(memory_read(a, 32), 32);
    assert.equal(map.size[b], 20);
    end(a, b);
  });
  test('of what is shared and was copied: the copy is shared', () => {
    const a = space();
    put(a, 10, 20);
    memory_write(a, 12, 5);
    const b = fork(a);
    vm_map_inherit(b, 10, 20, VM_INHERIT_SHARE);
    const c = fork(b);
    memory_write(c, 12, 6);
    memory_write(b, 13, 7);
    assert.deepEqual(
      [a, b, c].map((mp) => memory_read(mp, 12)),
      [5, 6, 6],
    );
    assert.deepEqual(
      [a, b, c].map((mp) => memory_read(mp, 13)),
      [0, 7, 7],
    );
    end(a, b, c);
  });
  test('of a part of a large object: the pages of the rest are not kept', () => {
    const a = space();
    put(a, 0, 100);
    for (let i = 0; i < 100; i++) memory_write(a, i, i + 1);
    vm_map_protect(a, 40, 60, 1);
    const whole = entry.object[vm_map_lookup(a, 0)];
    const b = fork(a);
    assert.notEqual(entry.object[vm_map_lookup(b, 50)], whole);
    for (let i = 0; i < 100; i++) {
      assert.deepEqual([memory_read(a, i), memory_read(b, i)], [i + 1, i + 1]);
    }
    vm_map_remove(b, 0, 100);
    vm_map_remove(a, 0, 40);
    vm_map_remove(a, 60, 100);
    const pages = objects_all().reduce((n, o) => n + object.resident[o], 0);
    assert.equal(pages, 20);
    end(a, b);
  });
  test('sizes: text, data and stack are where the parent has them', () => {
    const a = space();
    put(a, 10, 20);
    put(a, 30, 50);
    vm_map_stack(a, 500, 100, 3, 7, MAP_STACK_GROWS_DOWN);
    vm_map_lock(a);
    [map.taddr[a], map.tsize[a], map.daddr[a], map.dsize[a]] = [10, 10, 30, 20];
    [map.maxsaddr[a], map.ssize[a]] = [500, 32];
    vm_map_unlock(a);
    vm_map_inherit(a, 40, 50, VM_INHERIT_NONE);
    const b = fork(a);
    assert.deepEqual([map.tsize[b], map.dsize[b], map.ssize[b]], [10, 10, 32]);
    assert.deepEqual([map.taddr[b], map.daddr[b], map.maxsaddr[b]], [10, 30, 500]);
    vmspace_exec(b);
    assert.deepEqual([map.tsize[b], map.maxsaddr[b], map.size[b]], [0, 0, 0]);
    assert.deepEqual(map_entries(b), []);
    end(a, b);
  });
  test('of a space with a submap: refused', () => {
    const [a, sub] = [space(), space()];
    put(a, 10, 20);
    assert.equal(vm_map_submap(a, 10, 20, sub), 0);
    assert.equal(vmspace_fork(a), -KERN_INVALID_ARGUMENT);
    end(a, sub);
  });
  test('ten thousand generations: the chain does not grow', () => {
    let a = space();
    put(a, 0, 8);
    const model = new Array(8).fill(0);
    let deepest = 0;
    for (let g = 0; g < 10_000; g++) {
      const b = fork(a);
      memory_write(b, g % 8, g + 1);
      model[g % 8] = g + 1;
      vm_map_deallocate(a);
      a = b;
      let depth = 0;
      let o: vm_object_t = entry.object[vm_map_lookup(a, 0)];
      for (; o !== NULL; o = object.backing[o]) depth++;
      deepest = Math.max(deepest, depth);
    }
    assert.ok(deepest <= 3, `${deepest} objects, one behind the other`);
    assert.deepEqual(
      model.map((_, i) => memory_read(a, i)),
      model,
    );
    end(a);
  });
  test('no memory at any place: nothing is lost, and the parent goes on', () => {
    const a = space();
    for (let i = 0; i < 10; i++) put(a, 20 * i, 20 * i + 10);
    for (let i = 0; i < 10; i++) memory_write(a, 20 * i + 1, i + 1);
    vm_map_protect(a, 5, 8, 1);
    vm_map_inherit(a, 40, 50, VM_INHERIT_SHARE);
    vm_map_inherit(a, 180, 185, VM_INHERIT_SHARE);
    let refused = 0;
    for (let nth = 0; ; nth++) {
      let left = nth;
      map_failpoint.refuse = () => left-- === 0;
      const b = vmspace_fork(a);
      map_failpoint.refuse = null;
      vm_maps_check();
      if (b > 0) {
        vm_map_deallocate(b as vm_map_t);
        if (left >= 0) break; // it ran to the end
        continue; // what it wanted was not needed
      }
      assert.equal(b, -KERN_RESOURCE_SHORTAGE);
      refused++;
      assert.equal(memory_write(a, 2, nth), 'yes');
    }
    assert.ok(refused >= 10, `refused ${refused} times`);
    for (let i = 0; i < 10; i++) assert.equal(memory_read(a, 20 * i + 1), i + 1);
    vm_map_inherit(a, 0, 1000, VM_INHERIT_COPY);
    end(a);
  });
});
test('references: a space ends with the last one', () => {
  const a = space();
  put(a, 10, 20);
  vm_map_reference(a);
  vm_maps_check();
  vm_map_deallocate(a);
  assert.deepEqual(maps_all(), [a]);
  memory_write(a, 10, 1);
  assert.equal(object.flags[objects_all()[0]] & OBJ_ONEMAPPING, OBJ_ONEMAPPING);
  end(a);
  assert.deepEqual(maps_all(), []);
});
