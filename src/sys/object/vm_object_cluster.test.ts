/*
 * Shows: pages of an object come in together, in both directions from the one that is wanted or
 * behind it, side by side in memory or not; without memory fewer come, or none; they go out
 * together, and the slots that they had are free then.
 * By what means: the swap area in memory of the machine, every word of every page looked at;
 * memory in which no free page has a free neighbour; memory refused at every place; slots that
 * lie apart; the walkers.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { mem, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { SWAP_LABEL } from '../h/swap.ts';
import { OBJT_DEFAULT, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { VM_ALLOC_INTERRUPT, vm_page } from '../h/vm_page.ts';
import {
  page_failpoint,
  vm_page_alloc,
  vm_page_check,
  vm_page_free,
  vm_page_wire,
} from '../page/vm_page.ts';
import { vm_page_cache_empty } from '../page/vm_page_cache.ts';
import { PQ_ACTIVE, PQ_INACTIVE, page_queue, pageq_check } from '../page/vm_pageq.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { swap_avail } from './swap_area.ts';
import { memory_area } from './swap_book.test.lib.ts';
import { object_page_launder } from './vm_launder.ts';
import { vm_object_allocate, vm_object_deallocate } from './vm_object.ts';
import { vm_object_check } from './vm_object_check.ts';
import {
  object_page,
  object_page_filled,
  object_page_free,
  object_page_grab,
  object_page_wakeup,
} from './vm_object_page.ts';
import { pager_came, VM_PAGER_NOMEM, VM_PAGER_OK, vm_pager_page_in } from './vm_pager.ts';

const object = vm_object;
const PAGES = 64;
const SLOTS = 200;
/** A cluster. */
const N = 16;

afterEach(() => {
  page_failpoint.refuse = null;
  try {
    vm_object_check(() => 0);
    pageq_check();
    vm_page_check();
    shutdown();
  } catch (e) {
    abandon();
    throw e;
  }
});

/** Word `w` of page `i` after it was written to for the n-th time. */
const word = (i: number, w: number, n: number): number => Math.imul(i * 1024 + w, 2 * n + 1);
function fill(o: vm_object_t, i: number, n: number): void {
  mtx_lock(object.lock, o);
  const m = object_page_grab(o, i, 0);
  assert.notEqual(m, 0);
  for (let w = 0; w < PAGE_WORDS; w++) mem.I32[page_word(m) + w] = word(i, w, n);
  object_page_filled(m, o);
  object_page_wakeup(m, o);
  mtx_unlock(object.lock, o);
}
/** The page of memory that is page `i`, 0: none; it holds what was written to it last. */
function holds(o: vm_object_t, i: number, n: number): number {
  mtx_lock(object.lock, o);
  const m = object_page(o, i);
  mtx_unlock(object.lock, o);
  for (let w = 0; m !== 0 && w < PAGE_WORDS; w++) {
    assert.equal(mem.I32[page_word(m) + w], word(i, w, n), `page ${i}, word ${w}`);
  }
  return m;
}
function launder(o: vm_object_t, i: number): void {
  mtx_lock(object.lock, o);
  assert.equal(object_page_launder(object_page(o, i), o, true), 0);
  mtx_unlock(object.lock, o);
}
function away(o: vm_object_t): void {
  mtx_lock(object.lock, o);
  for (let i = 0; i < PAGES; i++) {
    const m = object_page(o, i);
    if (m !== 0) object_page_free(m, o);
  }
  mtx_unlock(object.lock, o);
}
function page_in(o: vm_object_t, i: number, most: number, ahead = false): number {
  mtx_lock(object.lock, o);
  const got = vm_pager_page_in(o, i, most, ahead);
  mtx_unlock(object.lock, o);
  return got;
}
/** Which pages are in memory; each holds what it should. */
function there(o: vm_object_t, n = 1): number[] {
  return Array.from({ length: PAGES }, (_, i) => i).filter((i) => holds(o, i, n) !== 0);
}
const range = (first: number, end: number): number[] =>
  Array.from({ length: end - first }, (_, k) => first + k);

/** An object of which all pages lie in the swap area, side by side, and none in memory. */
function swapped(): vm_object_t {
  const options = { INVARIANTS: true, WITNESS: true, FAILPOINTS: true };
  boot({ cpus: 2, fresh: true, memory: '8M', options });
  assert.ok(memory_area(SLOTS + SWAP_LABEL) >= 0);
  const o = vm_object_allocate(OBJT_DEFAULT, PAGES);
  for (let i = 0; i < PAGES; i++) fill(o, i, 1);
  for (let i = 0; i < PAGES; i += N) launder(o, i);
  away(o);
  return o;
}
/** Runs `work` while no free page has a free neighbour. */
function apart(work: () => void): void {
  vm_page_cache_empty();
  const held: number[] = [];
  for (let m = vm_page_alloc(-1, VM_ALLOC_INTERRUPT); m !== 0; ) {
    vm_page_wire(m, 1);
    held.push(m);
    m = vm_page_alloc(-1, VM_ALLOC_INTERRUPT);
  }
  for (const m of held) if (m % 2 === 0) vm_page_free(m);
  work();
  for (const m of held) if (m % 2 !== 0) vm_page_free(m);
}

describe('coming', () => {
  test('around the page that is wanted, the only one in use; behind it; not what is there', () => {
    const o = swapped();
    assert.equal(page_in(o, 23, N), VM_PAGER_OK);
    assert.deepEqual(there(o), range(16, 32));
    assert.equal(pager_came.pages, 32 - 23);
    const first = holds(o, 16, 1);
    for (const i of range(16, 32)) {
      assert.equal(holds(o, i, 1), first + i - 16, 'side by side in memory');
      assert.equal(page_queue(first + i - 16), i === 23 ? PQ_ACTIVE : PQ_INACTIVE);
    }
    assert.equal(page_in(o, 33, N), VM_PAGER_OK);
    assert.deepEqual(there(o), range(16, 48));
    assert.equal(page_in(o, 50, N, true), VM_PAGER_OK);
    assert.deepEqual(there(o), [...range(16, 48), ...range(50, 64)]);
    assert.equal(page_in(o, 49, N), VM_PAGER_OK); // what is in memory ends it
    assert.deepEqual(there(o), range(16, 64));
    away(o);
    assert.equal(page_in(o, 16, 3, true), VM_PAGER_OK);
    assert.deepEqual(there(o), range(16, 19));
    assert.equal(pager_came.pages, 3);
    away(o);
    // More than a cluster, as far as they lie side by side in the area.
    assert.equal(page_in(o, 16, 40, true), VM_PAGER_OK);
    const came = there(o);
    assert.deepEqual(came, range(16, 16 + came.length));
    assert.ok(came.length > N);
    assert.equal(pager_came.pages, came.length);
    vm_object_deallocate(o);
  });
  test('into pages that lie apart, in both directions', () => {
    const o = swapped();
    apart(() => {
      assert.equal(page_in(o, 23, N), VM_PAGER_OK);
      assert.deepEqual(there(o), range(16, 32));
      const ms = range(16, 32).map((i) => holds(o, i, 1));
      for (let k = 1; k < N; k++) assert.notEqual(ms[k], ms[k - 1] + 1);
      away(o);
    });
    vm_object_deallocate(o);
  });
  test('memory refused at every place: fewer come, or none, and each is whole', () => {
    const o = swapped();
    let alone = 0;
    let none = 0;
    for (const run of [false, true]) {
      for (let nth = 1; ; nth++) {
        let asked = 0;
        // Without `run` none is given that is longer than a page.
        page_failpoint.refuse = (n) => (n > 1 && !run) || ++asked === nth;
        const got = page_in(o, 23, N);
        page_failpoint.refuse = null;
        const came = there(o);
        assert.equal(got === VM_PAGER_OK, came.includes(23), `refusal ${nth}`);
        if (got !== VM_PAGER_OK) assert.equal(got, VM_PAGER_NOMEM);
        if (came.length === 0) none++;
        if (came.length > 0 && came.length < N) alone++;
        assert.deepEqual(came, came.length === 0 ? [] : range(came[0], came[0] + came.length));
        away(o);
        if (asked < nth) break;
      }
    }
    assert.ok(alone > 0 && none > 0);
    vm_object_deallocate(o);
  });
});

describe('going', () => {
  test('the slots that they had are free, side by side or not', () => {
    const o = swapped();
    const free = swap_avail();
    assert.equal(free, SLOTS - PAGES);
    for (let n = 2; n < 7; n++) {
      // A page of each cluster that goes by itself has its slot somewhere else afterwards.
      const lone = n * 5;
      for (let i = 0; i < PAGES; i++) {
        if (there(o, n - 1).length < PAGES && holds(o, i, n - 1) === 0) page_in(o, i, N);
      }
      fill(o, lone, n - 1);
      launder(o, lone);
      assert.equal(swap_avail(), free);
      for (let i = 0; i < PAGES; i++) fill(o, i, n);
      for (let i = 0; i < PAGES; i += N) launder(o, i);
      assert.equal(swap_avail(), free);
      vm_object_check(() => 0);
      away(o);
      for (let i = 0; i < PAGES; i++) if (holds(o, i, n) === 0) page_in(o, i, N);
      assert.deepEqual(there(o, n), range(0, PAGES));
      assert.ok(range(0, PAGES).every((i) => vm_page.slot[holds(o, i, n)] !== 0));
    }
    vm_object_deallocate(o);
  });
});
