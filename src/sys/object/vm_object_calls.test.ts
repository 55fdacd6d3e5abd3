/*
 * Shows: the calls on one object that the spaces of vm_object.test.ts do not make do what they
 * say: taking an object apart, making it longer, grabbing, queues and wiring.
 * By what means: each on a small object, page by page, also where there is no memory; queues
 * and wirings beside arrays that are a model of them (vm_pageq.fuzz.ts); the walkers.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { mem, page_word } from '../machine/memory.ts';
import { NULL } from '../machine/struct.ts';
import { OBJT_DEFAULT, OBJT_PHYS, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { VM_ALLOC_WIRED, VM_ALLOC_ZERO, vm_page } from '../h/vm_page.ts';
import { page_failpoint, vm_page_check } from '../page/vm_page.ts';
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
import { play } from './vm_pageq.fuzz.ts';
import { vm_object_allocate, vm_object_deallocate, vm_object_reference } from './vm_object.ts';
import { vm_object_coalesce, vm_object_split, vm_object_split_end } from './vm_object_chain.ts';
import { objects_all, vm_object_check } from './vm_object_check.ts';
import {
  object_page,
  object_page_alloc,
  object_page_filled,
  object_page_free,
  object_page_grab,
  object_page_wakeup,
} from './vm_object_page.ts';

const object = vm_object;
const PAGES = 200;

beforeEach(() => {
  const options = { INVARIANTS: true, WITNESS: true, FAILPOINTS: true };
  boot({ cpus: 1, fresh: true, memory: '16M', options });
});
afterEach(() => {
  page_failpoint.refuse = null;
  try {
    assert.deepEqual(objects_all(), []);
    check();
    uma_check();
    vm_page_check();
    shutdown();
  } catch (e) {
    abandon();
    throw e;
  }
});
const check = (): void => vm_object_check(() => 0); // references are in hand
function locked<T>(o: vm_object_t, run: () => T): T {
  mtx_lock(object.lock, o);
  const result = run();
  mtx_unlock(object.lock, o);
  return result;
}
/** An object with pages of which each holds its own number. */
function filled(pages: number, size = pages): vm_object_t {
  const o = vm_object_allocate(OBJT_DEFAULT, size);
  locked(o, () => {
    for (let i = 0; i < pages; i++) {
      const m = object_page_grab(o, i, VM_ALLOC_ZERO, false);
      mem.I32[page_word(m)] = i;
      object_page_filled(m, o);
    }
  });
  return o;
}
const page_at = (o: vm_object_t, i: number): number => locked(o, () => object_page(o, i));

describe('an object that is taken apart', () => {
  test('gives the pages of a part to an object of its own', () => {
    const o = filled(PAGES);
    vm_object_reference(o); // two entries: one sees the first half, one the other
    const pages = Array.from({ length: PAGES }, (_, i) => page_at(o, i));
    const half = vm_object_split(o, PAGES / 2, PAGES / 2);
    assert.equal(object.backing[half], o);
    vm_object_split_end(half);
    check();
    assert.equal(object.backing[half], NULL);
    for (let i = 0; i < PAGES; i++) {
      const [has, other] = i < PAGES / 2 ? [o, half] : [half, o];
      const at = has === half ? i - PAGES / 2 : i;
      assert.equal(page_at(has, at), pages[i], 'the page itself moves, not its contents');
      if (other === o) assert.equal(page_at(o, i), 0);
    }
    vm_object_deallocate(half);
    vm_object_deallocate(o);
  });
  test('stays in one piece where there is no memory, and is seen as before', () => {
    const o = filled(PAGES);
    vm_object_reference(o);
    const half = vm_object_split(o, 0, PAGES);
    page_failpoint.refuse = () => true;
    vm_object_split_end(half);
    page_failpoint.refuse = null;
    check();
    for (let i = 0; i < PAGES; i++) {
      const m = page_at(half, i) || page_at(o, i);
      assert.equal(mem.I32[page_word(m)], i);
    }
    vm_object_deallocate(half);
    vm_object_deallocate(o);
  });
});

describe('an object that is made longer', () => {
  test('forgets what lay behind its end', () => {
    const o = filled(20);
    assert.ok(vm_object_coalesce(o, 10, 50));
    assert.equal(object.size[o], 60);
    assert.equal(object.resident[o], 10);
    vm_object_deallocate(o);
  });
  test('is refused if somebody else sees behind the end, or something backs it', () => {
    const o = filled(20);
    vm_object_reference(o);
    assert.equal(vm_object_coalesce(o, 10, 50), false);
    assert.equal(object.resident[o], 20);
    const shadow = vm_object_split(o, 0, 20);
    assert.equal(vm_object_coalesce(shadow, 20, 5), false);
    vm_object_deallocate(shadow);
    vm_object_deallocate(o);
  });
});

describe('grab', () => {
  test('finds what is there as it is, makes what is not, zeroed, busy, wired as told', () => {
    const o = filled(3, 10);
    locked(o, () => {
      const there = object_page_grab(o, 2, VM_ALLOC_ZERO | VM_ALLOC_WIRED);
      assert.equal(mem.I32[page_word(there)], 2);
      assert.notEqual(vm_page.busy[there], 0);
      assert.equal(vm_page_wirings(there), 1);
      object_page_wakeup(there, o);
      vm_page_owner_unwire(there, true);
      const fresh = object_page_grab(o, 7, VM_ALLOC_ZERO, false);
      assert.equal(vm_page.busy[fresh], 0);
      assert.ok(mem.I32.subarray(page_word(fresh), page_word(fresh) + 1024).every((v) => v === 0));
      page_failpoint.refuse = () => true;
      const many: number[] = [];
      for (let i = 10; i < 2000; i++) {
        const m = object_page_alloc(o, i, 0);
        if (m === 0) break;
        many.push(m);
      }
      assert.equal(object_page_grab(o, 5000, 0), 0, 'no memory');
      for (const m of many) {
        object_page_wakeup(m, o);
        object_page_free(m, o);
      }
    });
    page_failpoint.refuse = null;
    check();
    vm_object_deallocate(o);
  });
  test('pages of a PHYS object are on no queue, wired or not', () => {
    const o = vm_object_allocate(OBJT_PHYS, 4);
    locked(o, () => {
      const m = object_page_grab(o, 0, VM_ALLOC_ZERO, false);
      vm_page_activate(m);
      assert.equal(page_queue(m), 0);
      vm_page_owner_wire(m);
      vm_page_owner_unwire(m, true);
      vm_page_deactivate(m);
      assert.equal(page_queue(m), 0);
    });
    vm_object_deallocate(o);
  });
});

test('queues and wirings beside a model, the same seeded operations', () => play(SEED, 20_000));
