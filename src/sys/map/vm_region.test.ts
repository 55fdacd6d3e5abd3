/*
 * Shows: named parts of an address space are found by name and by address, apart from each other,
 * go whole, and none is taken for one that had its place; threads that keep a space hold one
 * reference each; a destroyed space is gone for all of them and lives until the last lets go.
 * By what means: one space with parts; memory refused at every place; the walkers after each
 * test.  Deaths at every point: sim space_region.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { thr } from '../machine/cpu.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { elem, NULL } from '../machine/struct.ts';
import {
  KERN_FAILURE,
  KERN_INVALID_ADDRESS,
  KERN_NO_SPACE,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  MADV_FREE,
  MADV_RANDOM,
  VM_BANKS,
  VM_MAP_MAX,
  vm_map,
  vm_map_entry,
  type vm_map_t,
} from '../h/vm_map.ts';
import { page_failpoint } from '../page/vm_page.ts';
import { uma_check } from '../uma/uma_check.ts';
import { BANK_PAGES } from './vm_bank.ts';
import { fuword, suword } from './vm_copy.ts';
import { vm_map_deallocate, vm_map_reference, vm_map_set_limit } from './vm_map.ts';
import { maps_all, vm_maps_check } from './vm_map_check.ts';
import { map_failpoint } from './vm_map_entry.ts';
import { vmspace_alloc, vmspace_exec, vmspace_fork } from './vm_map_fork.ts';
import { vm_map_destroy, vm_map_keep, vm_map_kept, vm_map_unkeep } from './vm_map_keep.ts';
import type { Mapping } from './vm_map_insert.ts';
import { vm_map_lookup } from './vm_map_tree.ts';
import { vm_map_inherit, vm_map_madvise, vm_map_protect } from './vm_map_range.ts';
import { ANON } from './vm_map.test.lib.ts';
import {
  type Region,
  type RegionWanted,
  vm_region_find,
  vm_region_is,
  vm_region_map,
  vm_region_map_all,
  vm_region_there,
  vm_region_unmap,
  vm_regions,
} from './vm_region.ts';

const map = vm_map;
const encoder = new TextEncoder();
const bytes = (name: string): Uint8Array => encoder.encode(name);
let mp = NULL as vm_map_t;

beforeEach(() => {
  const options = { INVARIANTS: true, WITNESS: true, FAILPOINTS: true };
  boot({ cpus: 2, fresh: true, memory: '16M', options });
  mp = vmspace_alloc(1, VM_MAP_MAX);
});
afterEach(() => {
  page_failpoint.refuse = null;
  map_failpoint.refuse = null;
  try {
    if (maps_all().includes(mp)) vm_map_deallocate(mp);
    assert.deepEqual(maps_all(), []);
    vm_maps_check();
    uma_check();
    shutdown();
  } catch (e) {
    abandon();
    throw e;
  }
});
function add(name: string, pages: number, vpn = -1): Region {
  const made = vm_region_map(mp, { name: bytes(name), pages, vpn, what: ANON });
  if (typeof made === 'number') throw new Error(`KERN ${made}`);
  const { made: _, ...region } = made;
  return region;
}
const place = ({ name, start, end }: Region): unknown[] => [...name, start, end];
const text = (r: Region | null): string | undefined => r?.name && new TextDecoder().decode(r.name);

describe('named parts', () => {
  test('are found by name and by any of their pages, in the order of their addresses', () => {
    const index = add('index', 10);
    const rows = add('rows', 3);
    assert.ok(rows.start > index.end, 'a page between');
    assert.deepEqual(vm_region_find(mp, bytes('index')), index);
    assert.equal(text(vm_region_find(mp, index.end - 1)), 'index');
    assert.equal(vm_region_find(mp, index.end), null);
    assert.equal(vm_region_find(mp, bytes('inde')), null);
    assert.deepEqual(vm_regions(mp).map(text), ['index', 'rows']);
    vm_maps_check();
  });
  test('a second one of a name is the first one', () => {
    const first = add('a', 4);
    assert.deepEqual(add('a', 9), first);
    assert.equal(map.size[mp], 4);
  });
  test('without a name each is its own', () => {
    const [a, b] = [add('', 1), add('', 1)];
    assert.notEqual(a.start, b.start);
    assert.equal(vm_region_unmap(mp, a.start, a.id), KERN_SUCCESS);
    assert.deepEqual(vm_regions(mp), [{ ...b, ends: 1 }]);
  });
  test('an address that was given up is not given out again at once', () => {
    const a = add('a', 2);
    suword(mp, a.start * PAGE_SIZE, 7);
    assert.equal(vm_region_unmap(mp, a.start, a.id), KERN_SUCCESS);
    const again = add('a', 2);
    assert.notEqual(again.start, a.start);
    assert.equal(fuword(mp, a.start * PAGE_SIZE), -1);
    assert.equal(fuword(mp, again.start * PAGE_SIZE), 0);
    assert.equal(vm_region_unmap(mp, a.start, a.id), KERN_INVALID_ADDRESS);
  });
  test('a place that is named must be free, and a limit holds', () => {
    add('here', 4, 100);
    const want = { name: bytes('there'), pages: 2, what: ANON };
    assert.equal(vm_region_map(mp, { ...want, vpn: 103 }), KERN_NO_SPACE);
    vm_map_set_limit(mp, 5);
    assert.equal(vm_region_map(mp, { ...want, vpn: -1 }), KERN_NO_SPACE);
    assert.equal(vm_regions(mp).length, 1);
    add('small', 1);
  });
  test('one in the place of another is another', () => {
    const a = add('a', 2, 100);
    assert.equal(vm_region_there(mp, a.start, a.id), 0);
    assert.equal(vm_region_unmap(mp, a.start, a.id), KERN_SUCCESS);
    assert.equal(vm_region_there(mp, a.start, a.id), null);
    const b = add('a', 2, 100);
    assert.deepEqual([b.start, b.ends], [a.start, 1]);
    assert.notEqual(b.id, a.id);
    assert.equal(vm_region_there(mp, a.start, a.id), null);
    assert.equal(vm_region_unmap(mp, a.start, a.id), KERN_INVALID_ADDRESS);
    const there = (map: vm_map_t): boolean => vm_region_is(map, a.start, a.id);
    const { start, end } = b;
    assert.equal(vm_map_protect(mp, start, end, 0, false, there), KERN_INVALID_ADDRESS);
    assert.equal(vm_map_inherit(mp, start, end, 2, there), KERN_INVALID_ADDRESS);
    for (const advice of [MADV_RANDOM, MADV_FREE]) {
      assert.equal(vm_map_madvise(mp, start, end, advice, there), KERN_INVALID_ADDRESS);
    }
    assert.equal(suword(mp, start * PAGE_SIZE, 7), 0);
    assert.equal(vm_region_there(mp, b.start, b.id), 1);
    vm_maps_check();
  });
  test('are placed behind each other, wherever the banks of their addresses are', () => {
    add('', 1, 8 * BANK_PAGES + 5);
    const [a, b] = [add('a', 3), add('b', 1)];
    assert.equal(b.start, a.end + 1);
    for (let i = 0; i < 20; i++) add('', 1);
    const banks = Array.from({ length: VM_BANKS }, (_, i) => map.banks[elem(mp, i)]);
    assert.equal(banks.filter((name) => name !== 0).length, 2);
  });
  test('are not made where nobody would find them: in a space that was destroyed', () => {
    vm_map_keep(mp);
    assert.equal(vm_map_destroy(mp), KERN_SUCCESS);
    const want = { name: bytes('a'), pages: 1, vpn: -1, what: ANON };
    assert.equal(vm_region_map(mp, want), KERN_INVALID_ADDRESS);
    assert.equal(vmspace_fork(mp), -KERN_INVALID_ADDRESS);
    vm_maps_check();
    assert.ok(vm_map_unkeep(mp));
  });
  test('a fork has the same; exec has none', () => {
    const a = add('a', 2);
    add('', 1);
    suword(mp, a.start * PAGE_SIZE, 7);
    const child = vmspace_fork(mp) as vm_map_t;
    assert.deepEqual(vm_regions(child).map(place), vm_regions(mp).map(place));
    assert.equal(vm_region_unmap(mp, a.start, a.id), KERN_SUCCESS);
    assert.equal(fuword(child, a.start * PAGE_SIZE), 7);
    vm_maps_check();
    vmspace_exec(child);
    assert.deepEqual(vm_regions(child), []);
    vm_map_deallocate(child);
  });
  test('memory refused at every place leaves nothing behind', () => {
    add('first', 1);
    let refused = 0;
    for (let nth = 0; ; nth++) {
      let n = 0;
      const refuse = (): boolean => n++ === nth;
      page_failpoint.refuse = refuse;
      map_failpoint.refuse = refuse;
      const made = vm_region_map(mp, { name: bytes(`r${nth}`), pages: 2, vpn: -1, what: ANON });
      const child = typeof made === 'number' ? -KERN_RESOURCE_SHORTAGE : vmspace_fork(mp);
      page_failpoint.refuse = null;
      map_failpoint.refuse = null;
      if (child > 0) vm_map_deallocate(child as vm_map_t);
      vm_maps_check();
      if (typeof made !== 'number')
        assert.equal(vm_region_unmap(mp, made.start, made.id), KERN_SUCCESS);
      if (n <= nth) break;
      refused++;
    }
    assert.ok(refused >= 2, `${refused} places`);
  });
});

describe('several at once', () => {
  const want = (name: string, vpn: number, more: Partial<Mapping> = {}): RegionWanted => {
    return { name: bytes(name), pages: 2, vpn, what: { ...ANON, ...more } };
  };
  test('are all there, where nothing was, and show what they are to show', () => {
    const from = vmspace_alloc(1, VM_MAP_MAX);
    const made = vm_region_map(from, { name: bytes('x'), pages: 2, vpn: 5, what: ANON });
    assert.ok(typeof made !== 'number');
    suword(from, made.start * PAGE_SIZE, 77);
    const object = vm_map_entry.object[vm_map_lookup(from, made.start)];
    const all = vm_region_map_all(mp, [want('a', 20, { object }), want('b', 10), want('', 12)]);
    assert.ok(typeof all !== 'number');
    vm_map_deallocate(from);
    vm_maps_check();
    assert.deepEqual(vm_regions(mp).map(text), ['b', '', 'a']);
    assert.equal(fuword(mp, all[0].start * PAGE_SIZE), 77, 'of the other map, which is gone');
    assert.equal(vm_region_map_all(mp, [want('c', 30)]), KERN_FAILURE, 'something is there');
    for (const { start, id } of all) assert.equal(vm_region_unmap(mp, start, id), KERN_SUCCESS);
    assert.deepEqual(vm_region_map_all(mp, []), []);
    assert.ok(typeof vm_region_map_all(mp, [want('c', 30)]) !== 'number');
  });
  test('or none of them is', () => {
    vm_map_set_limit(mp, 5);
    const over = [want('a', 20), want('b', 10), want('c', 30)];
    const wrong: [all: RegionWanted[], kern: number][] = [
      [over, KERN_NO_SPACE],
      [[want('a', 20), want('b', 21)], KERN_NO_SPACE],
      [[want('a', 20), want('b', 0)], KERN_INVALID_ADDRESS],
    ];
    for (const [all, kern] of wrong) {
      assert.equal(vm_region_map_all(mp, all), kern);
      assert.deepEqual(vm_regions(mp), []);
      assert.deepEqual([map.size[mp], map.joint[mp]], [0, 0]);
      vm_maps_check();
    }
    assert.ok(typeof vm_region_map_all(mp, over.slice(1)) !== 'number');
    assert.equal(vm_map_destroy(mp), KERN_SUCCESS);
    assert.equal(vm_region_map_all(mp, []), KERN_INVALID_ADDRESS);
  });
  test('nor what a thread leaves that dies before the last of them is there', () => {
    for (const next of ['a fork', 'a region'] as const) {
      assert.ok(typeof vm_region_map_all(mp, [want('a', 20), want('b', 30)]) !== 'number');
      map.joint[mp] = 1; // as it is then
      assert.deepEqual([vm_regions(mp), vm_region_find(mp, bytes('a'))], [[], null]);
      if (next === 'a fork') {
        const child = vmspace_fork(mp) as vm_map_t;
        assert.deepEqual([vm_regions(child), map.size[child]], [[], 0]);
        vm_map_deallocate(child);
      } else {
        const b = add('b', 1, 31);
        assert.deepEqual(vm_regions(mp).map(place), [place(b)]);
        assert.equal(vm_region_unmap(mp, b.start, b.id), KERN_SUCCESS);
      }
      assert.deepEqual([map.size[mp], map.joint[mp]], [0, 0]);
      vm_maps_check();
    }
  });
  test('nor with memory refused at any place', () => {
    let refused = 0;
    for (let nth = 0; ; nth++) {
      let n = 0;
      const refuse = (): boolean => n++ === nth;
      page_failpoint.refuse = refuse;
      map_failpoint.refuse = refuse;
      const made = vm_region_map_all(mp, [want('a', 20), want('b', 30), want('c', 40)]);
      page_failpoint.refuse = null;
      map_failpoint.refuse = null;
      vm_maps_check();
      if (typeof made === 'number') {
        assert.equal(made, KERN_RESOURCE_SHORTAGE);
        refused++;
      } else {
        assert.deepEqual(vm_regions(mp).map(text), ['a', 'b', 'c']);
        for (const { start, id } of made) vm_region_unmap(mp, start, id);
      }
      assert.deepEqual([vm_regions(mp), map.size[mp], map.joint[mp]], [[], 0, 0]);
      if (n <= nth) break;
    }
    assert.ok(refused >= 2, `${refused} places`);
  });
});

describe('threads that keep a space', () => {
  test('hold one reference each, however often they ask', () => {
    for (let i = 0; i < 3; i++) {
      vm_map_reference(mp);
      vm_map_keep(mp);
    }
    assert.equal(map.refs[mp], 2);
    assert.ok(vm_map_kept(mp, thr.cpu));
    vm_maps_check();
    assert.ok(vm_map_unkeep(mp));
    assert.ok(!vm_map_unkeep(mp));
    assert.equal(map.refs[mp], 1);
  });
  test('keep what was destroyed, and find it gone', () => {
    const a = add('a', 5);
    suword(mp, a.start * PAGE_SIZE, 7);
    vm_map_keep(mp);
    assert.equal(vm_map_destroy(mp), KERN_SUCCESS);
    assert.equal(map.gone[mp], 1);
    assert.equal(map.size[mp], 0);
    assert.deepEqual(vm_regions(mp), []);
    assert.equal(fuword(mp, a.start * PAGE_SIZE), -1);
    vm_maps_check();
    assert.ok(vm_map_unkeep(mp));
    assert.deepEqual(maps_all(), []);
  });
});
