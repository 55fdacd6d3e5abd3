/*
 * Shows: each type of object is filled as its pager says, and a page that its pager cannot fill
 * leaves nothing behind; devices show their pages for ever, wired once, never busy, never freed;
 * what was revoked is gone.
 * By what means: every code of every pager, a store that fails at every read in turn, memory
 * refused at every place, two threads that ask for a device at once, a thread that is killed
 * there; the walkers.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { abandon, type Booted, boot, shutdown } from '../boot/whole.ts';
import { counter_add, counter_get, counters } from '../machine/counter.ts';
import { cpu_slots } from '../machine/cpu.ts';
import { M, machine } from '../machine/header.ts';
import { mem, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { NULL } from '../machine/struct.ts';
import {
  DEVICE_COUNTERS,
  DEVICE_ZERO,
  OBJT_DEAD,
  OBJT_DEFAULT,
  OBJT_PHYS,
  vm_object,
  type vm_object_t,
} from '../h/vm_object.ts';
import { PAGE_DIRTY, PAGE_VALID, PK_OBJECT, VM_ALLOC_WIRED, vm_page } from '../h/vm_page.ts';
import {
  page_failpoint,
  vm_page_census,
  vm_page_check,
  vm_page_free_count,
} from '../page/vm_page.ts';
import {
  page_queue,
  vm_page_activate,
  vm_page_deactivate,
  vm_page_owner_unwire,
  vm_page_owner_wire,
  vm_page_wirings,
} from '../page/vm_pageq.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { uma_check } from '../uma/uma_check.ts';
import { uma_reclaim } from '../uma/uma_drain.ts';
import {
  test_pager,
  test_pager_has,
  test_pager_holds,
  test_pager_object,
} from './test_pager.test.lib.ts';
import { vm_device_object } from './vm_device.ts';
import {
  vm_object_allocate,
  vm_object_deallocate,
  vm_object_reference,
  vm_object_revoke,
} from './vm_object.ts';
import { vm_object_collapse, vm_object_shadow, vm_object_split } from './vm_object_chain.ts';
import { objects_all, vm_object_check } from './vm_object_check.ts';
import {
  object_page,
  object_page_alloc,
  object_page_free,
  object_page_grab,
  object_page_seen,
  object_page_wakeup,
  page_valid,
} from './vm_object_page.ts';
import {
  VM_PAGER_BAD,
  VM_PAGER_ERROR,
  VM_PAGER_FAIL,
  VM_PAGER_OK,
  vm_pager_get_pages,
  vm_pager_has_page,
} from './vm_pager.ts';

const object = vm_object;

afterEach(() => {
  page_failpoint.refuse = null;
  test_pager.fail_at = 0;
  try {
    vm_object_check(() => 0);
    uma_check();
    vm_page_check();
    shutdown();
  } catch (e) {
    abandon();
    throw e;
  }
});
function up(options: Parameters<typeof boot>[0] = {}): Booted {
  const debug = { INVARIANTS: true, WITNESS: true, FAILPOINTS: true };
  return boot({ cpus: 2, fresh: true, memory: '4M', options: debug, ...options });
}
function locked<T>(o: vm_object_t, run: () => T): T {
  mtx_lock(object.lock, o);
  const result = run();
  mtx_unlock(object.lock, o);
  return result;
}
/** Asks the pager for page `i`; whatever has no contents afterwards is freed. */
function page_in(o: vm_object_t, i: number): { code: number; m: number } {
  return locked(o, () => {
    const m = object_page_alloc(o, i, 0);
    assert.notEqual(m, 0);
    const code = vm_pager_get_pages(o, i, m);
    assert.equal(page_valid(m), code === VM_PAGER_OK);
    object_page_wakeup(m, o);
    if (code !== VM_PAGER_OK) object_page_free(m, o);
    return { code, m: code === VM_PAGER_OK ? m : 0 };
  });
}
const zero = (m: number): boolean =>
  mem.I32.subarray(page_word(m), page_word(m) + PAGE_WORDS).every((v) => v === 0);

describe('pagers', () => {
  test('what each type of object says of its pages', () => {
    up();
    const anonymous = vm_object_allocate(OBJT_DEFAULT, 4);
    assert.equal(
      locked(anonymous, () => vm_pager_has_page(anonymous, 1)),
      false,
    );
    assert.equal(page_in(anonymous, 1).code, VM_PAGER_FAIL, 'the caller fills it with zeros');
    const phys = vm_object_allocate(OBJT_PHYS, 4);
    assert.equal(
      locked(phys, () => vm_pager_has_page(phys, 3)),
      true,
    );
    const { code, m } = page_in(phys, 3);
    assert.equal(code, VM_PAGER_OK);
    assert.ok(zero(m));
    assert.equal(vm_page.state[m], PAGE_VALID, 'all of it, and clean');
    for (const o of [anonymous, phys]) {
      assert.equal(
        locked(o, () => vm_pager_has_page(o, 4)),
        false,
      );
      assert.equal(
        locked(o, () => vm_pager_has_page(o, -1)),
        false,
      );
    }
    vm_object_deallocate(anonymous);
    vm_object_deallocate(phys);
    assert.deepEqual(objects_all(), []);
  });
  test('beyond the end of an object: BAD, for the lock may have been let go of', () => {
    up();
    const o = test_pager_object(4, 9);
    locked(o, () => {
      const m = object_page_alloc(o, 3, 0);
      object.size[o] = 3; // it was cut meanwhile
      assert.equal(vm_pager_get_pages(o, 3, m), VM_PAGER_BAD);
      object_page_wakeup(m, o);
      object_page_free(m, o);
    });
    vm_object_deallocate(o);
  });
  test('a store that fails at the Nth page, for every N: that one is not there, others are', () => {
    up();
    const SIZE = 24;
    for (let n = 1; n <= SIZE; n++) {
      const o = test_pager_object(SIZE, n);
      test_pager.fail_at = n;
      let reads = 0;
      for (let i = 0; i < SIZE; i++) {
        const has = test_pager_has(i);
        assert.equal(
          locked(o, () => vm_pager_has_page(o, i)),
          has,
        );
        if (has) reads++;
        const { code, m } = page_in(o, i);
        const failed = has && reads === n;
        assert.equal(code, failed ? VM_PAGER_ERROR : has ? VM_PAGER_OK : VM_PAGER_FAIL);
        assert.equal(
          locked(o, () => object_page(o, i)),
          m,
        );
        if (m !== 0) assert.ok(test_pager_holds(m, n, i));
        if (m !== 0) assert.equal(vm_page.state[m] & PAGE_DIRTY, 0);
      }
      test_pager.fail_at = 0;
      vm_object_check(() => 0);
      vm_object_deallocate(o);
    }
    assert.equal(vm_page_census()[PK_OBJECT], 0);
  });
});

describe('what was revoked', () => {
  test('has no page any more, and gives none, nor do those above it', () => {
    up();
    const o = test_pager_object(8, 3);
    for (let i = 1; i < 5; i++) page_in(o, i);
    vm_object_reference(o);
    const above = vm_object_shadow(o, 0, 8);
    assert.equal(object.backing[above], o);
    vm_object_revoke(o);
    assert.equal(object.type[o], OBJT_DEAD);
    assert.equal(object.resident[o], 0);
    assert.equal(vm_page_census()[PK_OBJECT], 0);
    assert.equal(
      locked(o, () => vm_pager_has_page(o, 1)),
      false,
    );
    assert.equal(page_in(o, 1).code, VM_PAGER_BAD);
    vm_object_collapse(above);
    assert.equal(object.backing[above], o, 'nothing passes over it: what was below it is gone');
    vm_object_deallocate(above);
    vm_object_deallocate(o);
    assert.deepEqual(objects_all(), []);
  });
});

describe('devices', () => {
  test('zeros at every offset, of one page, without memory for any', () => {
    up();
    const o = vm_device_object(DEVICE_ZERO);
    const seen = new Set<number>();
    const free = vm_page_free_count();
    locked(o, () => {
      for (const i of [0, 1, 63, 64, 2 ** 20, 2 ** 31 - 2]) {
        const m = object_page_seen(o, i);
        seen.add(m);
        assert.equal(object_page_grab(o, i, VM_ALLOC_WIRED), m, 'found, and not busy');
        assert.equal(vm_page.busy[m], 0);
        object_page_wakeup(m, o);
      }
      assert.equal(object_page(o, 2 ** 31 - 1), 0);
    });
    assert.equal(seen.size, 1);
    const [m] = [...seen];
    assert.ok(zero(m));
    assert.equal(vm_page_free_count(), free);
    assert.equal(object.resident[o], 0);
    vm_object_deallocate(o);
  });
  test('a page of a device is wired once whatever is done to it, and on no queue', () => {
    up();
    for (const device of [DEVICE_ZERO, DEVICE_COUNTERS]) {
      const o = vm_device_object(device);
      const m = locked(o, () => object_page(o, 0));
      assert.equal(vm_page_wirings(m), 1);
      for (let n = 0; n < 3; n++) vm_page_owner_unwire(m, true);
      assert.equal(vm_page_wirings(m), 1);
      vm_page_owner_wire(m);
      vm_page_activate(m);
      vm_page_deactivate(m);
      assert.equal(vm_page_wirings(m), 1);
      assert.equal(page_queue(m), 0);
      vm_object_check(() => 0);
      vm_object_deallocate(o);
    }
  });
  test('a private copy is anonymous memory: zeros below, a page of its own where written', () => {
    up();
    const o = vm_device_object(DEVICE_ZERO);
    const copy = vm_object_shadow(o, 5, 100); // its reference is the copy's now
    assert.equal(object.backing[copy], o);
    assert.equal(object.type[copy], OBJT_DEFAULT);
    const below = locked(o, () => object_page(o, object.backing_offset[copy] + 7));
    assert.ok(zero(below));
    locked(copy, () => {
      const m = object_page_alloc(copy, 7, 0);
      assert.notEqual(m, below);
      object_page_wakeup(m, copy);
      assert.equal(object_page(copy, 7), m);
      assert.equal(object_page(copy, 8), 0);
    });
    vm_object_collapse(copy);
    assert.equal(object.backing[copy], o, 'a device is no part of a chain that gets shorter');
    vm_object_check(() => 0);
    vm_object_deallocate(copy);
    assert.deepEqual(objects_all(), [o], 'the device stays');
  });
  test('the counters of every CPU, as they count', () => {
    up({ cpus: 40 });
    const o = vm_device_object(DEVICE_COUNTERS);
    assert.ok(object.size[o] > 1);
    const c = counters[Math.floor(counters.length / 2)];
    const sum = (): number =>
      locked(o, () => {
        let n = 0;
        for (let cpu = 0; cpu < cpu_slots(); cpu++) {
          const at = cpu * machine.counter_words[M] + c.index * 2;
          const m = object_page(o, Math.floor(at / PAGE_WORDS));
          n += mem.F64[(page_word(m) + (at % PAGE_WORDS)) >> 1];
        }
        return n;
      });
    assert.equal(sum(), counter_get(c));
    counter_add(c, 123_456);
    assert.equal(sum(), counter_get(c));
    assert.ok(sum() >= 123_456);
    assert.equal(
      locked(o, () => object_page(o, object.size[o])),
      0,
    );
    vm_object_deallocate(o);
  });
  test('no memory for a device, at every place: NULL, and nothing is lost', () => {
    up();
    uma_reclaim();
    const free = vm_page_free_count();
    let refused = 0;
    for (let n = 0; ; n++) {
      let left = n;
      page_failpoint.refuse = () => left-- <= 0;
      const o = vm_device_object(DEVICE_ZERO);
      page_failpoint.refuse = null;
      vm_object_check(() => 0);
      if (o !== NULL) {
        vm_object_deallocate(o);
        break;
      }
      refused++;
      uma_reclaim();
      assert.equal(vm_page_free_count(), free);
      assert.deepEqual(objects_all(), []);
    }
    assert.ok(refused >= 1);
  });
  test('a checked machine', () => {
    up({ checked: true });
    for (const device of [DEVICE_ZERO, DEVICE_COUNTERS]) {
      const o = vm_device_object(device);
      const copy = vm_object_split(o, 0, 2);
      locked(o, () => object_page_grab(o, 0, 0));
      vm_object_deallocate(copy);
    }
    const o = test_pager_object(8, 5);
    for (let i = 1; i < 7; i++) page_in(o, i);
    vm_object_revoke(o);
    vm_object_deallocate(o);
  });
});
