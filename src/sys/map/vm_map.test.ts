/*
 * Shows: holes are found from both ends and never in used space; looking costs steps in the
 * logarithm of the entries; stacks grow as far as they may; each call does what it says, or
 * changes nothing.
 * By what means: each call on a small map, steps that are counted, some seeded operations beside
 * the model, the walkers after each test.  More of these: vm_map_model.slow.test.ts; several
 * threads: vm_map_smp.slow.test.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { abandon, type Booted, boot, shutdown } from '../boot/whole.ts';
import { dice, SEED } from '../machine/seed.test.lib.ts';
import { NULL } from '../machine/struct.ts';
import {
  KERN_INVALID_ADDRESS,
  KERN_INVALID_ARGUMENT,
  KERN_NO_SPACE,
  KERN_PROTECTION_FAILURE,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  MADV_FREE,
  MAP_COPY_ON_WRITE,
  MAP_ENTRY_COW,
  MAP_ENTRY_GROWS_DOWN,
  MAP_ENTRY_IS_SUB_MAP,
  MAP_ENTRY_NEEDS_COPY,
  MAP_NOFAULT,
  MAP_STACK_GROWS_DOWN,
  MAP_STACK_GROWS_UP,
  VM_MAP_MAX,
  VM_SUPER_PAGES,
  VMFS_ALIGNED_SPACE,
  VMFS_ANY_SPACE,
  VMFS_NO_SPACE,
  VMFS_OPTIMAL_SPACE,
  VMFS_TOPDOWN_SPACE,
  vm_map,
  vm_map_entry,
  type vm_map_t,
} from '../h/vm_map.ts';
import { OBJT_DEFAULT, vm_object } from '../h/vm_object.ts';
import { VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import {
  vm_object_allocate,
  vm_object_deallocate,
  vm_object_reference,
} from '../object/vm_object.ts';
import { objects_all } from '../object/vm_object_check.ts';
import { uma_check } from '../uma/uma_check.ts';
import {
  vm_map_deallocate,
  vm_map_lock,
  vm_map_lock_downgrade,
  vm_map_lock_read,
  vm_map_lock_upgrade,
  vm_map_set_limit,
  vm_map_trylock,
  vm_map_trylock_read,
  vm_map_unlock,
  vm_map_unlock_read,
} from './vm_map.ts';
import { map_entries, maps_all, vm_map_check, vm_maps_check } from './vm_map_check.ts';
import {
  map_failpoint,
  vm_map_clip_end,
  vm_map_clip_start,
  vm_map_simplify_entry,
} from './vm_map_entry.ts';
import { MapPlay } from './vm_map.fuzz.ts';
import { entry_submap, vm_map_find, vm_map_fixed, vm_map_submap } from './vm_map_insert.ts';
import {
  vm_map_check_protection,
  vm_map_inherit,
  vm_map_madvise,
  vm_map_protect,
  vm_map_remove,
} from './vm_map_range.ts';
import { vm_map_growstack, vm_map_stack } from './vm_map_stack.ts';
import { ANON, map_make, memory_read, memory_write } from './vm_map.test.lib.ts';
import {
  tree_steps,
  vm_map_findspace,
  vm_map_findspace_down,
  vm_map_lookup,
  vm_map_lookup_entry,
} from './vm_map_tree.ts';

const map = vm_map;
const entry = vm_map_entry;

afterEach(() => {
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
function up(options: Parameters<typeof boot>[0] = {}): Booted {
  const all = { INVARIANTS: true, WITNESS: true, FAILPOINTS: true };
  return boot({ cpus: 1, fresh: true, memory: '16M', options: all, ...options });
}
/** Runs a test on a map of its own. */
function on_map(min: number, max: number, run: (mp: vm_map_t) => void): void {
  up();
  const mp = map_make(min, max);
  run(mp);
  vm_map_check(mp);
  vm_map_deallocate(mp);
}
const put = (mp: vm_map_t, start: number, end: number, what = ANON): number =>
  vm_map_find(mp, end - start, what, { mode: VMFS_NO_SPACE, at: start });
/** The entries, as `start-end protection`. */
const shown = (mp: vm_map_t): string =>
  map_entries(mp)
    .map((e) => `${entry.start[e]}-${entry.end[e]} ${entry.protection[e]}`)
    .join(', ');

test('seeded operations beside the model; all of it: vm_map_model.slow.test.ts', () => {
  up();
  const p = MapPlay.begin(SEED, true);
  for (let i = 0; i < 4000; i++) p.step();
  p.end();
});

describe('insert', () => {
  test('double insertion: what is mapped is not mapped again, and stays', () => {
    on_map(0, 100, (mp) => {
      assert.equal(put(mp, 10, 20), 10);
      assert.equal(memory_write(mp, 15, 77), 'yes');
      for (const [start, end] of [
        [10, 20],
        [5, 11],
        [19, 25],
        [12, 13],
        [0, 100],
      ]) {
        assert.equal(put(mp, start, end), -KERN_NO_SPACE);
      }
      assert.equal(shown(mp), '10-20 7');
      assert.equal(memory_read(mp, 15), 77);
    });
  });
  test('bounds', () => {
    on_map(10, 100, (mp) => {
      assert.equal(put(mp, 5, 20), -KERN_INVALID_ADDRESS);
      assert.equal(put(mp, 90, 101), -KERN_INVALID_ADDRESS);
      assert.equal(put(mp, 50, 50), -KERN_INVALID_ADDRESS);
      assert.equal(put(mp, 10, 100), 10);
    });
  });
  test('up to the last page number there is', () => {
    on_map(0, VM_MAP_MAX, (mp) => {
      const where = { mode: VMFS_TOPDOWN_SPACE, at: VM_MAP_MAX };
      assert.equal(vm_map_find(mp, 5, ANON, where), VM_MAP_MAX - 5);
      assert.equal(vm_map_find(mp, 5, ANON, { ...where, align: 8 }), VM_MAP_MAX - 15);
      assert.equal(memory_write(mp, VM_MAP_MAX - 1, 3), 'yes');
      const all = vm_map_find(mp, VM_MAP_MAX - 15, ANON, { mode: VMFS_ANY_SPACE, at: 0 });
      assert.equal(all, 0);
      assert.equal(vm_map_find(mp, 6, ANON, { mode: VMFS_ANY_SPACE, at: 0 }), -KERN_NO_SPACE);
    });
  });
  test('memory that continues what is there is more of it', () => {
    on_map(0, 100, (mp) => {
      put(mp, 10, 20);
      put(mp, 20, 30);
      assert.equal(shown(mp), '10-30 7');
      memory_write(mp, 12, 5); // it has an object now
      put(mp, 30, 40);
      put(mp, 40, 45, { ...ANON, protection: VM_PROT_READ });
      assert.equal(shown(mp), '10-40 7, 40-45 1');
      const [a, b] = map_entries(mp);
      assert.equal(entry.object[a], entry.object[b]);
      assert.equal(vm_object.refs[entry.object[a]], 2);
      put(mp, 5, 10); // below: another object, or none
      assert.equal(shown(mp), '5-10 7, 10-40 7, 40-45 1');
    });
  });
  test('pages that an object had there once are not seen again', () => {
    on_map(0, 100, (mp) => {
      put(mp, 10, 20);
      for (let i = 10; i < 20; i++) memory_write(mp, i, i);
      vm_map_remove(mp, 15, 20);
      put(mp, 15, 20);
      assert.equal(shown(mp), '10-20 7');
      assert.equal(memory_read(mp, 14), 14);
      assert.equal(memory_read(mp, 17), 0);
    });
  });
  test('a limit on what is mapped', () => {
    on_map(0, 100, (mp) => {
      vm_map_set_limit(mp, 20);
      assert.equal(put(mp, 0, 15), 0);
      assert.equal(put(mp, 20, 26), -KERN_NO_SPACE);
      assert.equal(put(mp, 20, 25), 20);
      assert.equal(vm_map_fixed(mp, 20, 26, ANON), KERN_NO_SPACE, 'one more than there was');
      assert.equal(vm_map_fixed(mp, 10, 15, ANON), KERN_SUCCESS, 'in place of as many');
    });
  });
  test('what cannot be', () => {
    on_map(0, 100, (mp) => {
      const o = vm_object_allocate(OBJT_DEFAULT, 10);
      const what = { ...ANON, object: o, cow: MAP_NOFAULT };
      assert.equal(put(mp, 0, 10, what), -KERN_INVALID_ARGUMENT);
      assert.equal(put(mp, 0, 10, { ...ANON, max_protection: 1 }), -KERN_INVALID_ARGUMENT);
      const beyond = { ...ANON, object: o, offset: VM_MAP_MAX - 3 };
      assert.equal(put(mp, 0, 10, beyond), -KERN_INVALID_ARGUMENT);
      vm_object_deallocate(o); // it is in hand still
    });
  });
  test('a private copy of an object, and the object itself', () => {
    on_map(0, 100, (mp) => {
      const o = vm_object_allocate(OBJT_DEFAULT, 10);
      vm_object_reference(o);
      put(mp, 0, 10, { ...ANON, object: o });
      put(mp, 20, 30, { ...ANON, object: o, cow: MAP_COPY_ON_WRITE });
      const copy = vm_map_lookup(mp, 20);
      assert.equal(entry.eflags[copy], MAP_ENTRY_COW | MAP_ENTRY_NEEDS_COPY);
      memory_write(mp, 3, 30);
      assert.equal(memory_read(mp, 23), 30);
      memory_write(mp, 24, 40);
      assert.equal(entry.eflags[copy], MAP_ENTRY_COW, 'it has a shadow of its own');
      assert.equal(memory_read(mp, 4), 0);
      memory_write(mp, 5, 50);
      assert.equal(memory_read(mp, 25), 50, 'what was not written to is seen through');
    });
  });
});

describe('finding a place', () => {
  test('top-down find-space hands out used space: never, with any alignment', () => {
    on_map(0, 4000, (mp) => {
      const draw = dice(SEED + 5);
      const used = new Array(4000).fill(false);
      const take = (at: number, n: number): void => {
        for (let i = at; i < at + n; i++) {
          assert.equal(used[i], false, `page ${i} is given out twice`);
          used[i] = true;
        }
      };
      for (let i = 0; i < 300; i++) {
        const n = 1 + draw(20);
        const align = 1 << draw(7);
        const where = { mode: VMFS_TOPDOWN_SPACE, at: 4000 - draw(500), align };
        const at = vm_map_find(mp, n, ANON, where);
        if (at < 0) continue;
        assert.equal(at % align, 0);
        assert.ok(at + n <= where.at);
        take(at, n);
      }
      assert.equal(map.size[mp], used.filter((u) => u).length);
    });
  });
  test('unlimited stack leaves no room for exec: a place below it is found, or none', () => {
    on_map(0, 1000, (mp) => {
      // A program at the bottom, a stack that may have all the rest.
      put(mp, 8, 64);
      const stack = vm_map_stack(mp, 64, 936, 3, 7, MAP_STACK_GROWS_DOWN);
      assert.equal(stack, KERN_SUCCESS);
      const top = map_entries(mp)[1];
      // The search from the top begins inside the stack; the hint of exec lies at the program.
      const at = vm_map_find(mp, 56, ANON, { mode: VMFS_TOPDOWN_SPACE, at: 1000 });
      assert.equal(at, entry.start[top] - 56);
      assert.equal(vm_map_findspace_down(mp, 64, 56), -1, 'the hole at the bottom has 8 pages');
      assert.equal(vm_map_findspace_down(mp, 64, 8), 0);
      assert.equal(vm_map_fixed(mp, 8, 64, ANON), KERN_SUCCESS);
      assert.equal(vm_map_findspace(mp, 0, 1000), -1);
    });
  });
  test('large pages of an object begin at multiples of their size, where that is possible', () => {
    on_map(1, 3 * VM_SUPER_PAGES, (mp) => {
      const n = VM_SUPER_PAGES;
      const aligned = { mode: VMFS_ALIGNED_SPACE, at: 1 };
      const o = vm_object_allocate(OBJT_DEFAULT, 2 * n);
      const what = { ...ANON, object: o, offset: 5 };
      assert.equal(vm_map_find(mp, n, what, aligned), 5, 'the phase of the object');
      assert.equal(vm_map_find(mp, n, ANON, aligned), 2 * n);
      assert.equal(vm_map_find(mp, n, ANON, aligned), -KERN_NO_SPACE);
      const at = vm_map_find(mp, n - 10, ANON, aligned);
      assert.equal(at, n + 5, 'a small one goes anywhere');
      vm_map_remove(mp, 0, 5 * n);
      put(mp, 4, 5);
      put(mp, n + 8, n + 9);
      put(mp, 2 * n + 9, 2 * n + 10);
      const either = { mode: VMFS_OPTIMAL_SPACE, at: 1 };
      assert.equal(vm_map_find(mp, n, ANON, aligned), -KERN_NO_SPACE);
      assert.equal(vm_map_find(mp, n, ANON, either), 5);
    });
  });
  test('lookup and find-space cost: steps in the logarithm of the entries', () => {
    up({ memory: '64M', options: { INVARIANTS: true } });
    const cost = (n: number): { lookup: number; hole: number; down: number } => {
      const mp = map_make(0, 4 * n + 100);
      // Holes of one page everywhere, and one of nine pages at a place that is drawn.
      const draw = dice(SEED + 6);
      const wide = 1 + draw(n - 2);
      for (let i = 0; i < n; i++) {
        const at = 2 * i + (i > wide ? 8 : 0);
        const protection = i & 1 ? 3 : 1; // so that neighbours stay two
        if (put(mp, at, at + 1, { ...ANON, protection }) !== at) throw new Error(`no ${at}`);
      }
      vm_map_check(mp);
      const most = (count: number, run: () => void): number => {
        let worst = 0;
        for (let i = 0; i < count; i++) {
          const before = tree_steps.n;
          run();
          worst = Math.max(worst, tree_steps.n - before);
        }
        return worst;
      };
      const lookup = most(2000, () => void vm_map_lookup(mp, draw(2 * n)));
      const hole = most(500, () => {
        const at = vm_map_findspace(mp, draw(2 * wide), 9);
        assert.equal(at, 2 * wide + 1);
      });
      const down = most(500, () => {
        const at = vm_map_findspace_down(mp, 2 * n + 8 - draw(2 * (n - wide - 1)), 9);
        assert.equal(at, 2 * wide + 1);
      });
      vm_map_deallocate(mp);
      return { lookup, hole, down };
    };
    // To the entry, up again, down to the hole: each at most the height of the tree.
    for (const n of [1000, 100_000]) {
      const height = 1.45 * Math.log2(n + 2);
      const { lookup, hole, down } = cost(n);
      assert.ok(lookup <= height, `${lookup} steps of ${n} entries to one of them`);
      assert.ok(Math.max(hole, down) <= 3 * height, `${hole}, ${down} steps of ${n} to a hole`);
    }
  });
});

describe('ranges', () => {
  test('protect: what may not be forbids all of it', () => {
    on_map(0, 100, (mp) => {
      put(mp, 0, 10);
      put(mp, 10, 20, { ...ANON, protection: 1, max_protection: 1 });
      assert.equal(vm_map_protect(mp, 5, 15, 3), KERN_PROTECTION_FAILURE);
      assert.equal(shown(mp), '0-10 7, 10-20 1');
      assert.equal(vm_map_protect(mp, 5, 15, 1), KERN_SUCCESS);
      assert.equal(shown(mp), '0-5 7, 5-10 1, 10-20 1');
      assert.equal(vm_map_protect(mp, 0, 10, 7), KERN_SUCCESS);
      assert.equal(shown(mp), '0-10 7, 10-20 1');
      assert.equal(vm_map_protect(mp, 0, 10, 3, true), KERN_SUCCESS);
      assert.equal(vm_map_protect(mp, 0, 10, 7), KERN_PROTECTION_FAILURE);
      assert.equal(vm_map_protect(mp, 30, 40, 7), KERN_SUCCESS, 'a hole');
    });
  });
  test('clip and simplify: two halves of one object, and one entry again', () => {
    on_map(0, 100, (mp) => {
      put(mp, 10, 30);
      vm_map_lock(mp);
      const e = vm_map_lookup(mp, 10);
      assert.equal(vm_map_clip_start(mp, e, 10), true, 'nothing to cut');
      assert.equal(vm_map_clip_end(mp, e, 30), true, 'nothing to cut');
      map_failpoint.refuse = () => true;
      assert.equal(vm_map_clip_end(mp, e, 20), false);
      map_failpoint.refuse = null;
      assert.equal(vm_map_clip_end(mp, e, 20), true);
      assert.equal(vm_map_clip_start(mp, e, 15), true);
      assert.equal(shown(mp), '10-15 7, 15-20 7, 20-30 7');
      const objects = new Set(map_entries(mp).map((x) => entry.object[x]));
      assert.equal(objects.size, 1);
      assert.deepEqual(
        map_entries(mp).map((x) => entry.offset[x]),
        [0, 5, 10],
      );
      vm_map_simplify_entry(mp, e);
      assert.equal(shown(mp), '10-30 7');
      assert.equal(vm_map_lookup(mp, 12), e, 'the entry that was passed stays');
      vm_map_unlock(mp);
      assert.equal(vm_object.refs[entry.object[e]], 1);
    });
  });
  test('check_protection: mapped without a hole, and every right', () => {
    on_map(0, 100, (mp) => {
      put(mp, 0, 10);
      put(mp, 10, 20, { ...ANON, protection: VM_PROT_READ });
      put(mp, 21, 30);
      assert.equal(vm_map_check_protection(mp, 0, 20, VM_PROT_READ), true);
      assert.equal(vm_map_check_protection(mp, 0, 20, VM_PROT_WRITE), false);
      assert.equal(vm_map_check_protection(mp, 0, 21, 0), false);
      assert.equal(vm_map_check_protection(mp, 25, 31, 0), false);
      assert.equal(vm_map_check_protection(mp, 50, 50, 7), true);
    });
  });
  test('inherit and advice: only what there is', () => {
    on_map(0, 100, (mp) => {
      put(mp, 0, 10);
      assert.equal(vm_map_inherit(mp, 0, 10, 4), KERN_INVALID_ARGUMENT);
      assert.equal(vm_map_madvise(mp, 0, 10, 77), KERN_INVALID_ARGUMENT);
      memory_write(mp, 4, 9);
      assert.equal(vm_map_madvise(mp, 0, 10, MADV_FREE), KERN_SUCCESS);
      assert.equal(memory_read(mp, 4), 9, 'until somebody takes the page');
    });
  });
  test('a hole in the middle of an entry, and no memory to cut it', () => {
    on_map(0, 100, (mp) => {
      put(mp, 0, 30);
      memory_write(mp, 15, 1);
      map_failpoint.refuse = () => true;
      assert.equal(vm_map_remove(mp, 10, 20), KERN_RESOURCE_SHORTAGE);
      map_failpoint.refuse = null;
      assert.equal(shown(mp), '0-30 7');
      assert.equal(memory_read(mp, 15), 1);
      assert.equal(vm_map_remove(mp, 10, 20), KERN_SUCCESS);
      assert.equal(shown(mp), '0-10 7, 20-30 7');
      assert.equal(vm_map_remove(mp, -5, 2 ** 32), KERN_SUCCESS, 'clamped to the map');
      assert.equal(shown(mp), '');
    });
  });
  test('a submap: found, and left out by everything but delete', () => {
    on_map(0, 100, (mp) => {
      const sub = map_make(0, 100);
      put(mp, 20, 40);
      assert.equal(vm_map_submap(mp, 20, 30, sub), KERN_INVALID_ARGUMENT);
      assert.equal(vm_map_submap(mp, 20, 40, sub), KERN_SUCCESS);
      const e = vm_map_lookup(mp, 25);
      assert.equal(entry.eflags[e], MAP_ENTRY_IS_SUB_MAP);
      assert.equal(entry_submap(e), sub);
      assert.equal(vm_map_protect(mp, 0, 100, 1), KERN_INVALID_ARGUMENT);
      assert.equal(vm_map_submap(mp, 20, 40, sub), KERN_INVALID_ARGUMENT, 'it is one');
      assert.equal(vm_map_remove(mp, 0, 100), KERN_SUCCESS);
      vm_map_deallocate(sub);
    });
  });
});

describe('stacks', () => {
  const STEP = 32;
  test('grow down as far as they may, and keep their protection', () => {
    on_map(0, 1000, (mp) => {
      assert.equal(vm_map_stack(mp, 100, 200, 3, 7, MAP_STACK_GROWS_DOWN), KERN_SUCCESS);
      assert.equal(shown(mp), `${300 - STEP}-300 3`);
      assert.equal(vm_map_growstack(mp, 290), KERN_SUCCESS, 'it is mapped');
      assert.equal(vm_map_growstack(mp, 500), KERN_SUCCESS, 'there is no stack');
      // The lowest page cannot be used; what grows below it can.
      vm_map_protect(mp, 300 - STEP, 301 - STEP, 0);
      assert.equal(vm_map_growstack(mp, 299 - STEP), KERN_SUCCESS);
      assert.equal(memory_write(mp, 299 - STEP, 5), 'yes');
      const e = vm_map_lookup(mp, 299 - STEP);
      assert.equal(entry.protection[e], 3);
      assert.equal(entry.start[e], 300 - 2 * STEP);
      assert.equal(vm_map_growstack(mp, 99), KERN_NO_SPACE);
      assert.equal(vm_map_growstack(mp, 100), KERN_SUCCESS);
      assert.equal(vm_map_growstack(mp, 99), KERN_NO_SPACE, 'all that it may have');
      assert.equal(map.size[mp], 200);
      const growing = map_entries(mp).filter((x) => entry.eflags[x] & MAP_ENTRY_GROWS_DOWN);
      assert.ok(growing.includes(vm_map_lookup_entry(mp, 100)));
    });
  });
  test('leave a page free to what is mapped below', () => {
    on_map(0, 1000, (mp) => {
      vm_map_stack(mp, 100, 200, 3, 7, MAP_STACK_GROWS_DOWN);
      put(mp, 200, 210);
      assert.equal(vm_map_growstack(mp, 210), KERN_NO_SPACE, 'the guard page');
      assert.equal(vm_map_growstack(mp, 211), KERN_SUCCESS);
      assert.equal(vm_map_lookup(mp, 210), NULL);
      assert.equal(map.size[mp], 10 + 89);
    });
  });
  test('grow up, and both ways', () => {
    on_map(0, 1000, (mp) => {
      vm_map_stack(mp, 100, 100, 3, 3, MAP_STACK_GROWS_UP);
      memory_write(mp, 101, 4);
      assert.equal(vm_map_growstack(mp, 140), KERN_SUCCESS);
      assert.equal(shown(mp), '100-164 3');
      assert.equal(vm_map_growstack(mp, 200), KERN_NO_SPACE);
      const both = MAP_STACK_GROWS_DOWN | MAP_STACK_GROWS_UP;
      assert.equal(vm_map_stack(mp, 400, 232, 3, 3, both), KERN_SUCCESS);
      assert.equal(vm_map_growstack(mp, 499), KERN_SUCCESS);
      assert.equal(vm_map_growstack(mp, 540), KERN_SUCCESS);
      assert.equal(vm_map_check_protection(mp, 470, 560, 3), true);
    });
  });
  test('limits: of the map, of the stack of the process, of the hole', () => {
    on_map(0, 1000, (mp) => {
      put(mp, 300, 310);
      const down = MAP_STACK_GROWS_DOWN;
      assert.equal(vm_map_stack(mp, 250, 100, 3, 7, down), KERN_NO_SPACE, 'not free');
      assert.equal(vm_map_stack(mp, 950, 100, 3, 7, down), KERN_NO_SPACE, 'not in the map');
      assert.equal(vm_map_stack(mp, 0, 100, 3, 7, 0), KERN_INVALID_ARGUMENT);
      assert.equal(vm_map_stack(mp, 400, 500, 3, 7, down), KERN_SUCCESS);
      vm_map_lock(mp);
      map.maxsaddr[mp] = 400;
      map.ssize[mp] = STEP;
      vm_map_unlock(mp);
      assert.equal(vm_map_growstack(mp, 800, { stack: 50 }), KERN_NO_SPACE);
      assert.equal(vm_map_growstack(mp, 899 - STEP, { stack: 40 }), KERN_SUCCESS);
      assert.equal(map.ssize[mp], 40);
      vm_map_set_limit(mp, 55);
      assert.equal(vm_map_growstack(mp, 850), KERN_NO_SPACE);
      assert.equal(vm_map_growstack(mp, 858), KERN_SUCCESS);
      assert.equal(map.size[mp], 55);
    });
  });
});

test('locks: shared, exclusive, and from one to the other', () => {
  on_map(0, 100, (mp) => {
    const seen = (): number => map.timestamp[mp];
    const first = seen();
    vm_map_lock(mp);
    assert.equal(seen(), first + 1);
    vm_map_lock_downgrade(mp);
    assert.equal(seen(), first + 1);
    assert.equal(vm_map_lock_upgrade(mp), true);
    assert.equal(seen(), first + 2);
    vm_map_unlock(mp);
    assert.equal(vm_map_trylock(mp), true);
    vm_map_unlock(mp);
    assert.equal(vm_map_trylock_read(mp), true);
    vm_map_lock_read(mp);
    vm_map_unlock_read(mp);
    vm_map_unlock_read(mp);
    assert.equal(seen(), first + 3);
  });
});
