/*
 * Shows: a window shows what is mapped, side by side, and what is stored through either is seen
 * through the other; copy-on-write is broken where the mapping may be written to and nowhere else;
 * a part of a run shares it, a partial overlap is refused; what is under a window cannot be
 * unmapped, replaced, protected against it or given up; limits and want of memory are told apart;
 * closing leaves nothing. By what means: one CPU, the walkers after each test.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { boot, shutdown } from '../boot/whole.ts';
import { EBUSY, EFAULT, EINVAL, ENOMEM } from '../machine/errno.ts';
import { mem, PAGE_SIZE, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { sysctl_decls, sysctl_set } from '../machine/sysctl_decl.ts';
import { KERN_BUSY, KERN_SUCCESS, VM_INHERIT_SHARE } from '../h/vm_map.ts';
import { MADV_DONTNEED, MADV_FREE } from '../h/vm_map.ts';
import { OBJT_DEFAULT, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PK_CACHE, PK_FREE, PK_MASK, vm_page } from '../h/vm_page.ts';
import { vm_window, type vm_window_t } from '../h/vm_window.ts';
import {
  vm_object_allocate,
  vm_object_deallocate,
  vm_object_reference,
  vm_object_revoke,
} from '../object/vm_object.ts';
import { object_seen, vm_object_seen } from '../object/vm_object_chain.ts';
import { phys_root, vm_phys } from '../page/vm_phys.ts';
import { pmap_clear_modify, pmap_is_modified } from '../pmap/pmap.ts';
import { mtx_unlock } from '../sync/kern_mutex.ts';
import { vm_map_fixed } from './vm_map_insert.ts';
import { vmspace_exec, vmspace_fork } from './vm_map_fork.ts';
import { vm_map_inherit, vm_map_madvise } from './vm_map_range.ts';
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
} from './vm_space.test.lib.ts';
import { vm_window_close, vm_window_find, vm_window_open, vm_window_why } from './vm_window.ts';

function sysctl_by_name(name: string, value: number): void {
  const d = sysctl_decls.find((each) => each.name === name);
  assert.ok(d);
  sysctl_set(d, value);
}
const R = 1;
const RW = 3;
const window = vm_window;

beforeEach(() => {
  boot({ memory: '8M', cpus: 2, options: { INVARIANTS: true, WITNESS: true }, fresh: true });
  maps_make();
  assert.ok(space_make(0));
  assert.equal(space_map(0, 0, 40), KERN_SUCCESS);
});
afterEach(() => {
  spaces_end();
  shutdown();
});
const open = (s: number, i: number, n: number, prot: number): number =>
  vm_window_open(map_at(s), FIRST + i, FIRST + i + n, prot);
function opened(s: number, i: number, n: number, prot: number): vm_window_t {
  const w = open(s, i, n, prot);
  assert.ok(w > 0, `open says ${w}`);
  spaces_check();
  return w as vm_window_t;
}
/** All pages that nobody has. */
function free_pages(): number[] {
  const ph = phys_root();
  const free: number[] = [];
  for (let m = vm_phys.low[ph]; m < vm_phys.high[ph]; m++) {
    if ([PK_FREE, PK_CACHE].includes(vm_page.info[m] & PK_MASK)) free.push(m);
  }
  return free;
}
/** First word of page k of a window. */
const word = (w: vm_window_t, k: number): number => page_word(window.frame[w] + k);
const load = (w: vm_window_t, k: number): number => mem.I32[word(w, k)];
function store(w: vm_window_t, k: number, value: number): void {
  mem.I32[word(w, k)] = value;
  mem.I32[word(w, k) + PAGE_WORDS - 1] = value;
}

describe('what is seen', () => {
  test('pages that were written at random come side by side and keep what they hold', () => {
    for (const i of [5, 2, 9, 7, 3, 8, 4, 6]) assert.equal(space_write(0, i, 100 + i), 0);
    const w = opened(0, 1, 10, RW);
    for (let k = 0; k < 10; k++) {
      const i = 1 + k;
      assert.equal(load(w, k), i >= 2 && i <= 9 ? 100 + i : 0);
      store(w, k, 200 + i);
      assert.equal(space_read(0, i), 200 + i);
      assert.equal(space_write(0, i, 300 + i), 0);
      assert.equal(load(w, k), 300 + i);
    }
    vm_window_close(w);
    for (let i = 1; i <= 10; i++) assert.equal(space_read(0, i), 300 + i);
    spaces_check();
  });
  test('the pages of a closed window are filled in a machine with INVARIANTS', () => {
    const w = opened(0, 0, 4, RW);
    store(w, 1, 7);
    const at = word(w, 1);
    vm_window_close(w);
    assert.equal(mem.U32[at], 0xdeadc0de);
    assert.equal(space_read(0, 1), 7);
  });
  test('a read-only copy is shown as it is, one that may be written to gets its own pages', () => {
    for (let i = 0; i < 6; i++) space_write(0, i, 10 + i);
    assert.equal(space_fork(0, 1), KERN_SUCCESS);
    assert.equal(space_protect(1, 0, 40, R), KERN_SUCCESS);
    const snap = opened(1, 0, 3, R);
    for (let i = 0; i < 6; i++) space_write(0, i, 20 + i);
    for (let i = 0; i < 3; i++) assert.equal(load(snap, i), 10 + i);
    const live = opened(0, 0, 6, R); // only reads, but others write
    for (let i = 0; i < 6; i++) space_write(0, i, 30 + i);
    for (let i = 0; i < 6; i++) assert.equal(load(live, i), 30 + i);
    for (let i = 0; i < 3; i++) assert.equal(load(snap, i), 10 + i);
    assert.equal(space_protect(1, 0, 40, RW), KERN_BUSY, 'the window would not see the copies');
    vm_window_close(live);
    vm_window_close(snap);
    assert.equal(space_protect(1, 0, 40, RW), KERN_SUCCESS);
    spaces_check();
  });
  test('a space that may only read sees in a window what another one writes', () => {
    space_write(0, 0, 1);
    assert.equal(vm_map_inherit(map_at(0), FIRST, FIRST + 40, VM_INHERIT_SHARE), KERN_SUCCESS);
    assert.equal(space_fork(0, 1), KERN_SUCCESS);
    assert.equal(space_protect(1, 0, 40, R), KERN_SUCCESS);
    const w = opened(1, 0, 4, R);
    for (let i = 0; i < 4; i++) space_write(0, i, 50 + i);
    for (let i = 0; i < 4; i++) assert.equal(load(w, i), 50 + i);
    assert.equal(open(0, 3, 3, RW), -EBUSY, 'one page is held elsewhere');
    for (const m of free_pages()) assert.equal(vm_page.mod[m], 0, `page ${m} is free`);
    // The same pages through the other space: they are side by side there.
    const other = opened(0, 0, 4, RW);
    assert.equal(window.frame[other], window.frame[w]);
    vm_window_close(w);
    store(other, 2, 99);
    assert.equal(space_read(1, 2), 99);
    vm_window_close(other);
  });
});

describe('sharing and overlap', () => {
  test('a part shares the run, which stays until the last window is closed', () => {
    const a = opened(0, 0, 8, RW);
    const b = opened(0, 2, 3, R);
    assert.equal(window.frame[b], window.frame[a] + 2);
    vm_window_close(a);
    spaces_check();
    store(b, 1, 5);
    assert.equal(space_read(0, 3), 5);
    assert.equal(open(0, 4, 8, R), -EBUSY);
    assert.equal(vm_window_find(map_at(0), FIRST + 4, FIRST + 12)?.w, b);
    assert.equal(vm_window_find(map_at(0), FIRST + 8, FIRST + 12), null);
    const c = opened(0, 0, 8, RW); // the whole run is there still
    assert.equal(window.frame[c], window.frame[b] - 2);
    vm_window_close(b);
    vm_window_close(c);
    assert.equal(vm_window_find(map_at(0), FIRST, FIRST + 40), null);
    vm_window_close(opened(0, 4, 8, R));
  });
  test('windows beside each other', () => {
    const all = [0, 4, 8, 12].map((i) => opened(0, i, 4, RW));
    for (const [k, w] of all.entries()) store(w, 0, k);
    assert.equal(open(0, 3, 2, R), -EBUSY);
    for (const w of all.reverse()) vm_window_close(w);
    assert.deepEqual(
      [0, 4, 8, 12].map((i) => space_read(0, i)),
      [0, 1, 2, 3],
    );
  });
});

describe('what is refused', () => {
  test('ranges that are not mapped, or not so', () => {
    assert.equal(open(0, 38, 4, R), -EFAULT);
    assert.equal(open(0, 0, 0, R), -EINVAL);
    assert.equal(space_protect(0, 4, 2, R), KERN_SUCCESS);
    assert.equal(open(0, 2, 4, RW), -EFAULT);
    assert.equal(space_protect(0, 4, 2, 0), KERN_SUCCESS);
    assert.equal(open(0, 2, 4, R), -EFAULT);
    spaces_check();
  });
  test('unmapping, replacing, protecting against it, giving up the contents', () => {
    const w = opened(0, 4, 4, RW);
    const mp = map_at(0);
    store(w, 0, 1);
    assert.equal(space_unmap(0, 7, 10), KERN_BUSY);
    assert.equal(space_map(0, 0, 5), KERN_BUSY);
    assert.equal(space_protect(0, 0, 40, R), KERN_BUSY);
    for (const advice of [MADV_DONTNEED, MADV_FREE]) {
      assert.equal(vm_map_madvise(mp, FIRST, FIRST + 40, advice), KERN_BUSY);
    }
    assert.equal(space_unmap(0, 8, 32), KERN_SUCCESS);
    assert.equal(space_unmap(0, 0, 4), KERN_SUCCESS);
    assert.equal(load(w, 0), 1);
    spaces_check();
    vm_window_close(w);
    assert.equal(space_unmap(0, 0, 40), KERN_SUCCESS);
  });
  test('a space whose name is gone lives until its window is closed', () => {
    const w = opened(0, 0, 4, RW);
    map_drop(0);
    store(w, 0, 3);
    assert.equal(load(w, 0), 3);
    vm_window_close(w);
  });
});
describe('forks', () => {
  test('what is under a window is copied at once, and stays what the window shows', () => {
    for (let i = 0; i < 12; i++) space_write(0, i, 10 + i);
    const w = opened(0, 2, 4, RW);
    const r = opened(0, 8, 2, R);
    store(w, 1, 100);
    assert.equal(space_fork(0, 1), KERN_SUCCESS);
    spaces_check();
    store(w, 0, 200);
    for (let i = 3; i < 12; i++) assert.equal(space_write(0, i, 300 + i), 0);
    const was = [10, 11, 12, 100, 14, 15, 16, 17, 18, 19, 20, 21];
    assert.deepEqual(
      was.map((_v, i) => space_read(1, i)),
      was,
    );
    assert.deepEqual(
      [0, 1, 2, 3].map((k) => load(w, k)),
      [200, 303, 304, 305],
    );
    assert.deepEqual(
      [0, 1].map((k) => load(r, k)),
      [308, 309],
      'it reads what others write',
    );
    space_write(1, 3, 7);
    assert.equal(load(w, 1), 303);
    spaces_check();
    vm_window_close(w);
    vm_window_close(r);
    assert.equal(space_fork(0, 2), KERN_SUCCESS);
    assert.equal(space_fork(1, 3), KERN_SUCCESS);
    for (let i = 0; i < 12; i++) space_write(0, i, 400 + i);
    assert.deepEqual(
      [0, 1, 2, 3].map((s) => space_read(s, 3)),
      [403, 7, 303, 7],
    );
    for (const s of [1, 0, 3, 2]) map_drop(s);
  });
  test('chains of copies keep a window that only reads', () => {
    for (let i = 0; i < 4; i++) space_write(0, i, 1 + i);
    assert.equal(space_fork(0, 1), KERN_SUCCESS);
    assert.equal(space_protect(1, 0, 40, R), KERN_SUCCESS);
    const w = opened(1, 0, 4, R);
    assert.equal(space_fork(1, 2), KERN_SUCCESS);
    assert.equal(space_protect(2, 0, 40, RW), KERN_SUCCESS);
    for (let i = 0; i < 4; i++) space_write(2, i, 50);
    for (let i = 0; i < 4; i++) space_write(0, i, 60);
    map_drop(0);
    map_drop(2);
    assert.deepEqual(
      [0, 1, 2, 3].map((k) => load(w, k)),
      [1, 2, 3, 4],
    );
    spaces_check();
    const mp = map_at(1);
    assert.equal(vm_map_inherit(mp, FIRST, FIRST + 1, VM_INHERIT_SHARE), KERN_BUSY);
    vm_window_close(w);
  });
  test('a fork may refuse windows, and a program cannot be replaced under one', () => {
    const w = opened(0, 2, 4, RW);
    assert.equal(vmspace_fork(map_at(0), true), -KERN_BUSY);
    assert.equal(vmspace_exec(map_at(0)), KERN_BUSY);
    vm_window_close(w);
    assert.equal(vmspace_exec(map_at(0)), KERN_SUCCESS);
    assert.equal(open(0, 2, 4, RW), -EFAULT);
  });
});
describe('what others do to the object', () => {
  /** An object of four pages that holds 1 to 4, mapped shared in place of what was there. */
  function mapped(): vm_object_t {
    const o = vm_object_allocate(OBJT_DEFAULT, 4);
    vm_object_reference(o);
    const what = { object: o, offset: 0, protection: RW, max_protection: RW, cow: 0 };
    assert.equal(vm_map_fixed(map_at(0), FIRST, FIRST + 4, what), KERN_SUCCESS);
    for (let i = 0; i < 4; i++) space_write(0, i, i + 1);
    return o;
  }
  test('contents that are gone stay under a window, and are found by nobody else', () => {
    const o = mapped();
    const w = open(0, 1, 2, RW) as vm_window_t;
    assert.ok(w > 0);
    vm_object_revoke(o);
    assert.deepEqual([load(w, 0), load(w, 1)], [2, 3]);
    store(w, 0, 7);
    assert.deepEqual(
      [0, 1, 2, 3].map((i) => space_read(0, i)),
      new Array(4).fill(-EFAULT),
    );
    assert.equal(open(0, 0, 4, R), -EBUSY);
    assert.equal(open(0, 3, 1, R), -EFAULT);
    vm_window_close(w);
    assert.equal(open(0, 1, 2, R), -EFAULT);
    vm_object_deallocate(o);
  });
  test('what was stored through a window is newer than what a store may have', () => {
    const o = mapped();
    const written = (): boolean => {
      const m = vm_object_seen(o, 2);
      mtx_unlock(vm_object.lock, object_seen.o);
      return pmap_is_modified(m);
    };
    pmap_clear_modify(vm_object_seen(o, 2));
    mtx_unlock(vm_object.lock, object_seen.o);
    vm_window_close(open(0, 0, 4, R) as vm_window_t);
    assert.equal(written(), false);
    const w = open(0, 0, 4, RW) as vm_window_t;
    store(w, 2, 9);
    vm_window_close(w);
    assert.equal(written(), true);
    vm_object_deallocate(o);
  });
});
describe('limits', () => {
  test('of one window, of all, and of memory', () => {
    assert.ok(space_unmap(0, 0, 40) === KERN_SUCCESS && space_map(0, 0, 90) === KERN_SUCCESS);
    assert.equal(PAGE_SIZE, 4096);
    sysctl_by_name('vm.window_max', 8);
    assert.equal(open(0, 0, 9, R), -ENOMEM);
    assert.deepEqual({ ...vm_window_why }, { reason: 1, pages: 8 });
    sysctl_by_name('vm.max_wired', 12);
    const w = opened(0, 0, 8, R);
    assert.equal(open(0, 20, 5, R), -ENOMEM);
    assert.deepEqual({ ...vm_window_why }, { reason: 1, pages: 4 });
    const part = opened(0, 0, 4, R); // holds no page that is not held already
    vm_window_close(opened(0, 20, 4, R));
    vm_window_close(w);
    vm_window_close(part);
  });
});
