/*
 * Shows: a page goes to the cache queue only if nothing is lost with it; there it is found again
 * as it was, and counted when it is used; short of pages, objects and malloc get its memory, the
 * page that has been there longest first, but never one that the asker may be looking at.
 * By what means: every reason to refuse, every way to use such a page, small machines that are
 * full, a model that says in which order pages go, two threads on two objects; the walkers.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { counter_get, counters } from '../machine/counter.ts';
import { PAGE_WORDS } from '../machine/memory.ts';
import { OBJT_DEFAULT, OBJT_PHYS, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { VM_ALLOC_ZERO, vm_page } from '../h/vm_page.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import { free, malloc, malloc_type_attach } from '../kmem/kern_malloc.ts';
import { vm_page_check, vm_page_free_count } from '../page/vm_page.ts';
import {
  PQ_ACTIVE,
  PQ_CACHE,
  PQ_INACTIVE,
  page_queue,
  pageq_check,
  pageq_count,
  vm_page_deactivate,
  vm_page_owner_unwire,
  vm_page_owner_wire,
} from '../page/vm_pageq.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { uma_check } from '../uma/uma_check.ts';
import { pager_cache, pager_look, pager_use } from './pager_work.test.lib.ts';
import { test_pager_has, test_pager_object } from './test_pager.test.lib.ts';
import { vm_object_allocate, vm_object_deallocate } from './vm_object.ts';
import { object_cache_free, object_page_cache, page_select_cache } from './vm_object_cache.ts';
import { objects_all, vm_object_check } from './vm_object_check.ts';
import {
  object_page,
  object_page_alloc,
  object_page_busy,
  object_page_filled,
  object_page_grab,
  object_page_wakeup,
} from './vm_object_page.ts';

const object = vm_object;

beforeEach(() => {
  boot({ cpus: 1, fresh: true, memory: '2M', options: { INVARIANTS: true, WITNESS: true } });
});
afterEach(() => {
  try {
    assert.deepEqual(objects_all(), []);
    vm_object_check(() => 0);
    uma_check();
    vm_page_check();
    shutdown();
  } catch (e) {
    abandon();
    throw e;
  }
});
function locked<T>(o: vm_object_t, run: () => T): T {
  mtx_lock(object.lock, o);
  const result = run();
  mtx_unlock(object.lock, o);
  return result;
}
const page_at = (o: vm_object_t, i: number): number => locked(o, () => object_page(o, i));
const reactivated = (): number => {
  const c = counters.find(({ name }) => name === 'vm.stats.vm.v_reactivated');
  assert.ok(c);
  return counter_get(c);
};
/** Numbers of pages, from 1 on, that the test pager has. */
const numbers = (n: number): number[] =>
  Array.from({ length: n * 2 }, (_, i) => i + 1)
    .filter(test_pager_has)
    .slice(0, n);

describe('what may be cached', () => {
  test('not what is dirty, busy, wired, without contents, unmanaged, or in no store', () => {
    const o = test_pager_object(10, 1);
    assert.ok(pager_look(o, 1));
    const m = page_at(o, 1);
    locked(o, () => {
      object_page_busy(m, o);
      assert.equal(object_page_cache(m, o), false, 'busy');
      object_page_wakeup(m, o);
      vm_page_owner_wire(m);
      assert.equal(object_page_cache(m, o), false, 'wired');
      vm_page_owner_unwire(m, true);
      vm_page.mod[m] = 1;
      assert.equal(object_page_cache(m, o), false, 'written to');
      vm_page.mod[m] = 0;
      vm_page.map_pmap[m] = 5;
      assert.equal(object_page_cache(m, o), false, 'mapped');
      vm_page.map_pmap[m] = 0;
      assert.equal(object_page_cache(m, o), true);
      assert.equal(object_page_cache(m, o), true, 'it is there already');
      object_page_filled(m, o);
      assert.equal(object_page_cache(m, o), false, 'dirty');
      const fresh = object_page_alloc(o, 2, 0);
      object_page_wakeup(fresh, o);
      assert.equal(object_page_cache(fresh, o), false, 'without contents');
    });
    for (const type of [OBJT_DEFAULT, OBJT_PHYS]) {
      const other = vm_object_allocate(type, 4);
      locked(other, () => {
        const page = object_page_grab(other, 0, VM_ALLOC_ZERO, false);
        object_page_filled(page, other, false);
        assert.equal(object_page_cache(page, other), false, 'no store has it, or unmanaged');
      });
      vm_object_deallocate(other);
    }
    vm_object_deallocate(o);
  });
  test('a cached page is its own object’s, and whatever uses it takes it off the queue', () => {
    const o = test_pager_object(20, 2);
    const uses: [string, (m: number) => void, number][] = [
      ['a look', () => assert.ok(pager_look(o, 1)), PQ_ACTIVE],
      ['it is deactivated', (m) => locked(o, () => vm_page_deactivate(m)), PQ_INACTIVE],
      [
        'it is busy',
        (m) =>
          locked(o, () => {
            object_page_busy(m, o);
            pageq_check();
            object_page_wakeup(m, o);
          }),
        PQ_ACTIVE,
      ],
      [
        'it is wired',
        (m) =>
          locked(o, () => {
            vm_page_owner_wire(m);
            pageq_check();
            vm_page_owner_unwire(m, false);
          }),
        PQ_INACTIVE,
      ],
      ['it is filled', (m) => locked(o, () => object_page_filled(m, o, false)), PQ_ACTIVE],
    ];
    for (const [what, use, queue] of uses) {
      assert.ok(pager_look(o, 1));
      const m = page_at(o, 1);
      assert.ok(pager_cache(o, 1));
      assert.equal(pageq_count(PQ_CACHE), 1);
      pageq_check();
      assert.equal(page_at(o, 1), m, 'it is found');
      const before = reactivated();
      use(m);
      assert.equal(page_queue(m), queue, what);
      assert.equal(page_at(o, 1), m);
      assert.equal(reactivated(), before + 1, what);
      pageq_check();
    }
    vm_object_deallocate(o);
  });
});

describe('who needs memory', () => {
  test('gets the page that was cached first', () => {
    const o = test_pager_object(100, 3);
    const order = numbers(20);
    for (const i of order) assert.ok(pager_look(o, i) && pager_cache(o, i));
    assert.ok(pager_look(o, order[4]) && pager_cache(o, order[4])); // it goes to the end
    order.push(...order.splice(4, 1));
    for (const i of order) {
      assert.notEqual(page_at(o, i), 0);
      assert.ok(page_select_cache());
      assert.equal(page_at(o, i), 0, `page ${i}`);
      assert.equal(pageq_count(PQ_CACHE), object.resident[o]);
      pageq_check();
    }
    assert.equal(page_select_cache(), false);
    vm_object_deallocate(o);
  });
  test('an object takes what another one can spare, and not of its own', () => {
    const cached = test_pager_object(1000, 4);
    const wants = vm_object_allocate(OBJT_DEFAULT, 1000);
    let n = 0;
    for (const i of numbers(800)) {
      if (!pager_look(cached, i) || !pager_cache(cached, i)) break;
      n++;
    }
    assert.ok(n > 100 && n < 800, `${n} pages`);
    assert.equal(pageq_count(PQ_CACHE), n, 'it took none of its own');
    const before = object.resident[cached];
    locked(wants, () => {
      for (let i = 0; i < 60; i++) {
        const m = object_page_alloc(wants, i, 0);
        assert.notEqual(m, 0);
        object_page_wakeup(m, wants);
      }
    });
    // A node of the index of `wants` may have come from them, too.
    assert.ok(before - object.resident[cached] >= 60 - 8);
    assert.equal(pageq_count(PQ_CACHE), object.resident[cached]);
    assert.equal(
      locked(cached, () => page_select_cache()),
      false,
      'whoever has the object locked may be looking at its pages',
    );
    vm_object_check(() => 0);
    vm_object_deallocate(wants);
    vm_object_deallocate(cached);
  });
  test('malloc gets them, too', () => {
    const o = test_pager_object(1000, 5);
    for (const i of numbers(800)) if (!pager_look(o, i) || !pager_cache(o, i)) break;
    const pages = pageq_count(PQ_CACHE);
    const left = vm_page_free_count();
    const type = malloc_type_attach('cache_test');
    const p = malloc((left + 20) * PAGE_WORDS * 4, type, M_NOWAIT);
    assert.notEqual(p, 0, `${left} pages free, ${pages} cached`);
    assert.ok(pageq_count(PQ_CACHE) < pages);
    free(p, type);
    assert.ok(
      pager_use(o, 1, () => {}),
      'what is gone comes from the pager again',
    );
    vm_object_deallocate(o);
  });
  test('and all of them, where nobody has the objects locked', () => {
    const objects = [6, 7, 8].map((handle) => test_pager_object(30, handle));
    for (const o of objects) for (const i of numbers(15)) assert.ok(pager_look(o, i));
    for (const o of objects) for (const i of numbers(10)) assert.ok(pager_cache(o, i));
    const [held] = objects;
    assert.equal(locked(held, object_cache_free), 20);
    assert.equal(object_cache_free(), 10);
    for (const o of objects) {
      assert.equal(object.resident[o], 5);
      vm_object_deallocate(o);
    }
  });
});
