/*
 * Shows: pages that are not used lose their memory and those that are used keep it; a page that is
 * dirty never counts as good as free, whoever writes to it when; what cannot be decided goes to the
 * end of its queue and stops nobody; a limit is kept to the page; the daemon's turns follow its
 * rules.
 * By what means: pages of a pager with contents of its own, mapped into spaces or not, and each
 * case of a scan by itself; scans against a naive model of both queues, seeded; the walkers after
 * all of it.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { ENOMEM } from '../machine/errno.ts';
import { CPU_REQ_TLB, cpu_state_word } from '../machine/cpu.ts';
import { tlb_asked } from '../machine/tlb_ack.ts';
import { counter_get, counters } from '../machine/counter.ts';
import { field_word } from '../machine/struct.ts';
import { dice, SEED } from '../machine/seed.test.lib.ts';
import { sysctl_decls, sysctl_get, sysctl_set } from '../machine/sysctl_decl.ts';
import { KERN_SUCCESS, VM_MAP_WIRE_NOHOLES, VM_MAP_WIRE_USER } from '../h/vm_map.ts';
import type { vm_loan_t } from '../h/vm_loan.ts';
import type { vm_window_t } from '../h/vm_window.ts';
import { vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PAGE_DIRTY, vm_page } from '../h/vm_page.ts';
import { VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { objects_all } from '../object/vm_object_check.ts';
import { vm_object_check } from '../object/vm_object_check.ts';
import { vm_object_deallocate } from '../object/vm_object.ts';
import {
  object_page,
  object_page_alloc,
  object_page_busy,
  object_page_filled,
  object_page_wakeup,
} from '../object/vm_object_page.ts';
import { page_select_cache } from '../object/vm_object_cache.ts';
import { pager_look } from '../object/pager_work.test.lib.ts';
import {
  test_pager_has,
  test_pager_object,
  test_pager_word,
} from '../object/test_pager.test.lib.ts';
import { vm_page_alloc, vm_page_check, vm_page_free, vm_page_free_count } from '../page/vm_page.ts';
import { vm_page_wire } from '../page/vm_page.ts';
import {
  PQ_ACTIVE,
  PQ_CACHE,
  PQ_INACTIVE,
  page_act,
  page_lapped,
  page_queue,
  pageq_check,
  pageq_count,
  vm_page_age,
  vm_page_deactivate,
} from '../page/vm_pageq.ts';
import { phys_root, vm_phys } from '../page/vm_phys.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { uma_check } from '../uma/uma_check.ts';
import { uma_reclaim } from '../uma/uma_drain.ts';
import { vm_map_fixed } from './vm_map_insert.ts';
import { map_at, maps_make } from './vm_map.test.lib.ts';
import {
  pagedaemon_new,
  pageout_pages,
  vm_pageout_direct,
  vm_pageout_round,
} from './vm_pageout.ts';
import { active_scan, inactive_scan, scan_of, stats_scan, type Scan } from './vm_pageout_scan.ts';
import {
  FIRST,
  space_make,
  space_map,
  space_read,
  space_write,
  spaces_end,
} from './vm_space.test.lib.ts';
import { swap_up } from './vm_swap.test.lib.ts';
import { vm_loan, vm_unloan } from './vm_loan.ts';
import { vm_map_wire } from './vm_map_wire.ts';
import { vm_window_close, vm_window_open } from './vm_window.ts';

const object = vm_object;
const page = vm_page;

function up(memory = '4M', set: Record<string, number> = {}): void {
  boot({ cpus: 2, fresh: true, memory, set, options: { INVARIANTS: true, WITNESS: true } });
}
beforeEach(() => up());
afterEach(() => {
  try {
    assert.deepEqual(objects_all(), []);
    vm_object_check(() => 0);
    pageq_check();
    uma_check();
    vm_page_check();
    shutdown();
  } catch (e) {
    abandon();
    throw e;
  }
});
const counted = (name: string): number => {
  const c = counters.find((each) => each.name === name);
  assert.ok(c, name);
  return counter_get(c);
};
const set = (name: string, value: number): void => {
  const decl = sysctl_decls.find((d) => d.name === name);
  assert.ok(decl, name);
  sysctl_set(decl, value);
};
const knob = (name: string): number => {
  const decl = sysctl_decls.find((d) => d.name === name);
  assert.ok(decl, name);
  return sysctl_get(decl);
};
function locked<T>(o: vm_object_t, run: () => T): T {
  mtx_lock(object.lock, o);
  const result = run();
  mtx_unlock(object.lock, o);
  return result;
}
const page_at = (o: vm_object_t, i: number): number => locked(o, () => object_page(o, i));
/** Numbers of pages that the pager has, from 1 on. */
const numbers = (n: number): number[] =>
  Array.from({ length: n * 2 }, (_, i) => i + 1)
    .filter(test_pager_has)
    .slice(0, n);
/** An object with n pages in memory, all of them on the inactive queue, in order. */
function inactive(n: number, handle = 1): { o: vm_object_t; ms: number[] } {
  const o = test_pager_object(n * 2 + 2, handle);
  const ms = numbers(n).map((i) => {
    assert.ok(pager_look(o, i));
    const m = page_at(o, i);
    locked(o, () => vm_page_deactivate(m));
    return m;
  });
  return { o, ms };
}
function scanned(pass: number, shortage: number, budget = 100): Scan {
  const s = scan_of(pass, shortage, budget);
  inactive_scan(s);
  return s;
}
/** Space 0 shows n pages of a pager's object from its page 1 on. */
function shown(n: number, handle: number): vm_object_t {
  maps_make();
  assert.ok(space_make(0));
  const o = test_pager_object(n + 1, handle);
  const prot = VM_PROT_READ | VM_PROT_WRITE;
  const how = { object: o, offset: 1, protection: prot, max_protection: prot, cow: 0 };
  assert.equal(vm_map_fixed(map_at(0), FIRST, FIRST + n, how), KERN_SUCCESS);
  return o;
}

describe('the inactive queue', () => {
  test('clean pages become as good as free, the first ones first, as many as are wanted', () => {
    const { o, ms } = inactive(10);
    const seen = counted('vm.stats.vm.v_pdpages');
    const s = scanned(0, 4);
    assert.deepEqual([s.gained, s.shortage, s.additional, s.dirty], [4, 0, 0, 0]);
    assert.equal(counted('vm.stats.vm.v_pdpages') - seen, 4);
    for (const [i, m] of ms.entries()) {
      assert.equal(page_queue(m), i < 4 ? PQ_CACHE : PQ_INACTIVE, `page ${i}`);
    }
    vm_object_deallocate(o);
  });
  test('a page that was used becomes active, and more active than it was', () => {
    const { o, ms } = inactive(3);
    page.ref[ms[0]] = 1;
    locked(o, () => vm_page_age(ms[1], PQ_INACTIVE, PQ_INACTIVE, 20));
    page.ref[ms[1]] = 1;
    const s = scanned(0, 3);
    assert.equal(s.gained, 1);
    assert.deepEqual(ms.map(page_queue), [PQ_ACTIVE, PQ_ACTIVE, PQ_CACHE]);
    assert.deepEqual(ms.slice(0, 2).map(page_act), [9, 24]);
    assert.deepEqual(
      ms.map((m) => page.ref[m]),
      [0, 0, 0],
    );
    vm_object_deallocate(o);
  });
  test('no count is above 64', () => {
    const { o, ms } = inactive(1);
    locked(o, () => vm_page_age(ms[0], PQ_INACTIVE, PQ_INACTIVE, 63));
    page.ref[ms[0]] = 1;
    scanned(0, 1);
    assert.equal(page_act(ms[0]), 64);
    page.ref[ms[0]] = 1;
    active_scan(scan_of(0, 1, 0));
    assert.equal(page_act(ms[0]), 64);
    vm_object_deallocate(o);
  });
  test('busy pages and pages of an object in use go to the end, and are counted', () => {
    const { o, ms } = inactive(3, 1);
    const other = inactive(2, 2);
    locked(o, () => object_page_busy(ms[0], o));
    const missed = counted('vm.pageout_lock_miss');
    mtx_lock(object.lock, other.o);
    const s = scanned(0, 100);
    mtx_unlock(object.lock, other.o);
    assert.deepEqual([s.gained, s.additional], [2, 3]);
    assert.equal(counted('vm.pageout_lock_miss') - missed, 2);
    assert.deepEqual([ms[0], ...other.ms].map(page_queue), [1, 1, 1]);
    locked(o, () => object_page_wakeup(ms[0], o));
    assert.equal(scanned(0, 100).gained, 3);
    vm_object_deallocate(o);
    vm_object_deallocate(other.o);
  });
  test('a page without contents is free at once', () => {
    const { o } = inactive(2);
    locked(o, () => {
      const m = object_page_alloc(o, 7, 0);
      object_page_wakeup(m, o);
      vm_page_deactivate(m, false);
      page.state[m] = 0;
    });
    const [free, freed] = [vm_page_free_count(), counted('vm.stats.vm.v_dfree')];
    const s = scanned(0, 100);
    assert.equal(s.gained, 3);
    assert.equal(vm_page_free_count() - free, 1);
    assert.equal(counted('vm.stats.vm.v_dfree') - freed, 1);
    vm_object_deallocate(o);
  });
  test('a dirty page goes round once before it is written, unless pages are wanted badly', () => {
    const { o, ms } = inactive(2);
    locked(o, () => object_page_filled(ms[0], o));
    const before = counted('vm.pageout_launders');
    scanned(0, 1);
    assert.ok(page_lapped(ms[0]));
    assert.equal(counted('vm.pageout_launders'), before);
    assert.equal(page_queue(ms[1]), PQ_CACHE);
    scanned(0, 1);
    assert.equal(counted('vm.pageout_launders'), before + 1, 'the second time it is');
    locked(o, () => vm_page_deactivate(ms[0]));
    assert.ok(!page_lapped(ms[0]));
    scanned(1, 1);
    assert.equal(counted('vm.pageout_launders'), before + 2, 'at once');
    locked(o, () => vm_page_deactivate(ms[0]));
    assert.equal(scanned(1, 1, 0).dirty, 1, 'without a budget it is left');
    assert.equal(counted('vm.pageout_launders'), before + 2);
    vm_object_deallocate(o);
  });
});

describe('a page that is dirty', () => {
  test('caching a dirty page: one that is written to by a translation is not cached', () => {
    const o = shown(5, 3);
    assert.equal(space_read(0, 0), test_pager_word(3, 1));
    const m = page_at(o, 1);
    assert.equal(page.state[m] & PAGE_DIRTY, 0);
    assert.equal(space_write(0, 0, 77), 0);
    page.ref[m] = 0; // the use is forgotten; that it was written to is not
    locked(o, () => vm_page_deactivate(m));
    const s = scanned(2, 10);
    assert.equal(s.gained, 0);
    assert.notEqual(page_queue(m), PQ_CACHE);
    assert.equal(page.state[m] & PAGE_DIRTY, PAGE_DIRTY, 'and as a whole');
    assert.equal(space_read(0, 0), 77);
    spaces_end();
  });
  test('caching a dirty page: no mapping is left by which it could be written to', () => {
    const o = shown(5, 3);
    assert.equal(space_read(0, 0), test_pager_word(3, 1));
    const m = page_at(o, 1);
    page.ref[m] = 0;
    locked(o, () => vm_page_deactivate(m));
    assert.notEqual(page.map_pmap[m], 0);
    assert.equal(scanned(0, 1).gained, 1);
    assert.equal(page.map_pmap[m], 0);
    assert.equal(page_queue(m), PQ_CACHE);
    assert.equal(space_write(0, 0, 78), 0, 'writing finds it again');
    assert.equal(page_at(o, 1), m);
    assert.equal(page_queue(m), PQ_ACTIVE);
    assert.equal(space_read(0, 0), 78);
    spaces_end();
  });
  test('while a CPU owes an answer nothing is believed to be clean', () => {
    const { o } = inactive(3);
    const word = cpu_state_word(1);
    const was = atomic_load(word);
    atomic_store(word, CPU_REQ_TLB); // as if it were at work, and had been asked
    tlb_asked();
    const s = scanned(0, 10);
    assert.deepEqual([s.gained, s.additional], [0, 3]);
    assert.equal(pageq_count(PQ_CACHE), 0);
    atomic_store(word, was);
    assert.equal(scanned(0, 10).gained, 3);
    vm_object_deallocate(o);
  });
});

describe('the active queue', () => {
  /** An object with n pages, all of them active, with a count of 5. */
  function active(n: number): { o: vm_object_t; ms: number[] } {
    const o = test_pager_object(n * 2 + 2, 4);
    const ms = numbers(n).map((i) => {
      assert.ok(pager_look(o, i));
      return page_at(o, i);
    });
    return { o, ms };
  }
  test('each look takes one away, and at none the page is inactive', () => {
    const { o, ms } = active(4);
    for (const left of [4, 3, 2, 1]) {
      active_scan(scan_of(0, 4, 0));
      assert.deepEqual(ms.map(page_act), [left, left, left, left]);
      assert.equal(pageq_count(PQ_ACTIVE), 4);
    }
    page.ref[ms[2]] = 1;
    active_scan(scan_of(1, 4, 0));
    assert.deepEqual(ms.map(page_act), [0, 0, 5, 0]);
    assert.deepEqual(ms.map(page_queue), [1, 1, PQ_ACTIVE, 1]);
    vm_object_deallocate(o);
  });
  test('as many become inactive as are wanted, and half of all are', () => {
    const { o, ms } = active(8);
    active_scan(scan_of(2, 0, 0));
    assert.equal(pageq_count(PQ_INACTIVE), 4);
    assert.deepEqual(ms.slice(0, 4).map(page_queue), [1, 1, 1, 1], 'the first ones');
    active_scan(scan_of(2, 0, 0));
    assert.equal(pageq_count(PQ_INACTIVE), 4);
    active_scan(scan_of(2, 2, 0));
    assert.equal(pageq_count(PQ_INACTIVE), 6);
    set('vm.inactive_percent', 25);
    active_scan(scan_of(2, 0, 0));
    assert.equal(pageq_count(PQ_INACTIVE), 6);
    vm_object_deallocate(o);
  });
  test('vm.pageout_algorithm 1: the first look that finds a page unused', () => {
    const { o, ms } = active(4);
    set('vm.pageout_algorithm', 1);
    page.ref[ms[0]] = 1;
    active_scan(scan_of(0, 4, 0));
    assert.deepEqual(ms.map(page_queue), [PQ_ACTIVE, 1, 1, 1]);
    vm_object_deallocate(o);
  });
  test('vm.v_inactive_target holds where it is less than half', () => {
    const { o } = active(8);
    set('vm.v_inactive_target', 2);
    active_scan(scan_of(2, 0, 0));
    assert.equal(pageq_count(PQ_INACTIVE), 2);
    set('vm.v_resident_max', 8);
    active_scan(scan_of(2, 0, 0));
    assert.equal(pageq_count(PQ_INACTIVE), 4, 'under a limit it is a share of what there is');
    vm_object_deallocate(o);
  });
  test('a look without need unmaps what is old', () => {
    const o = shown(5, 3);
    for (const i of [0, 1]) assert.equal(space_read(0, i), test_pager_word(3, i + 1));
    const ms = [page_at(o, 1), page_at(o, 2)];
    for (let n = 0; n < 5; n++) {
      page.ref[ms[0]] = 0;
      stats_scan(2);
      assert.equal(space_read(0, 1), test_pager_word(3, 2));
    }
    assert.equal(page_queue(ms[0]), PQ_INACTIVE);
    assert.equal(page.map_pmap[ms[0]], 0);
    assert.equal(page_queue(ms[1]), PQ_ACTIVE);
    assert.notEqual(page.map_pmap[ms[1]], 0);
    spaces_end();
  });
});

test('select-cache loops for ever: it looks at each page once, whatever it finds', () => {
  const { o, ms } = inactive(6);
  assert.equal(scanned(0, 6).gained, 6);
  mtx_lock(object.lock, o);
  assert.equal(page_select_cache(), false, 'all are of an object in use');
  mtx_unlock(object.lock, o);
  assert.deepEqual(ms.map(page_queue), [3, 3, 3, 3, 3, 3]);
  for (let n = 0; n < 6; n++) assert.ok(page_select_cache());
  assert.equal(page_select_cache(), false);
  vm_object_deallocate(o);
});
test('a scan ends although every page comes back to the head', () => {
  const { o, ms } = inactive(4);
  locked(o, () => {
    for (const m of ms) object_page_busy(m, o);
  });
  const s = scanned(3, 1000);
  assert.deepEqual([s.gained, s.additional], [0, 4]);
  locked(o, () => {
    for (const m of ms) object_page_wakeup(m, o);
  });
  vm_object_deallocate(o);
});

describe('a request', () => {
  test('gets what it asks for, unused pages first', () => {
    const { o, ms } = inactive(10);
    page.ref[ms[0]] = 1;
    const spare = 4; // for tables and indexes
    assert.equal(pageout_pages(3), 3 + spare);
    assert.equal(pageq_count(PQ_CACHE), 3 + spare);
    assert.equal(page_queue(ms[0]), PQ_ACTIVE);
    assert.equal(counted('vm.pageout_direct'), 1);
    vm_object_deallocate(o);
  });
  test('gets pages that were used as well, if there are no others', () => {
    const { o, ms } = inactive(4);
    for (const m of ms) page.ref[m] = 1;
    assert.equal(pageout_pages(2), 4);
    vm_object_deallocate(o);
  });
  test('gets nothing where there is nothing, and says so', () => {
    assert.equal(pageout_pages(1), 0);
  });
  test('the limit of the machine is kept to the page', () => {
    const o = test_pager_object(200, 9);
    set('vm.v_resident_max', 20);
    const all = (): number =>
      pageq_count(PQ_ACTIVE) + pageq_count(PQ_INACTIVE) + pageq_count(PQ_CACHE);
    for (const i of numbers(90)) {
      if (page_at(o, i) === 0 && all() >= 20) assert.equal(vm_pageout_direct(1), 1);
      assert.ok(pager_look(o, i));
      assert.ok(all() <= 20, `${all()} pages`);
    }
    assert.equal(all(), 20);
    assert.equal(vm_pageout_direct(5), 5);
    assert.equal(all(), 15);
    vm_object_deallocate(o);
  });
  test('wired pages, which a scan takes off their queues, make room under the limit', () => {
    maps_make();
    assert.ok(space_make(0));
    assert.equal(space_map(0, 0, 30), KERN_SUCCESS);
    set('vm.v_resident_max', 20);
    for (let i = 0; i < 20; i++) assert.equal(space_write(0, i, i), 0);
    const how = VM_MAP_WIRE_USER | VM_MAP_WIRE_NOHOLES;
    assert.equal(vm_map_wire(map_at(0), FIRST, FIRST + 20, how), KERN_SUCCESS);
    assert.equal(pageq_count(PQ_ACTIVE), 20, 'where they were');
    while (uma_reclaim(true) > 0); // allocators have nothing to give back
    for (let i = 20; i < 30; i++) assert.equal(space_write(0, i, i), 0);
    assert.equal(pageq_count(PQ_ACTIVE), 10);
    spaces_end();
  });
  test('pages that go as fast as they come: a window and a loan end with ENOMEM', () => {
    maps_make();
    assert.ok(space_make(0));
    swap_up(60);
    assert.equal(space_map(0, 0, 30), KERN_SUCCESS);
    set('vm.v_resident_max', 8);
    for (let i = 0; i < 30; i++) assert.equal(space_write(0, i, i + 1), 0);
    const [mp, made] = [map_at(0), [] as vm_loan_t[]];
    assert.equal(vm_window_open(mp, FIRST, FIRST + 16, VM_PROT_READ), -ENOMEM);
    assert.equal(vm_loan(mp, FIRST, FIRST + 16, made), ENOMEM);
    set('vm.v_resident_max', 40);
    vm_window_close(vm_window_open(mp, FIRST, FIRST + 16, VM_PROT_READ) as vm_window_t);
    assert.equal(vm_loan(mp, FIRST, FIRST + 16, made), 0);
    for (const l of made) vm_unloan(l);
    for (let i = 0; i < 30; i++) assert.equal(space_read(0, i), i + 1);
    spaces_end();
  });
});

describe('the page daemon', () => {
  const needed = (): number => atomic_load(field_word(vm_phys.needed, phys_root()));
  /** Takes pages until so many are free. */
  function take_to(free: number): number[] {
    const taken: number[] = [];
    while (vm_page_free_count() > free) {
      const m = vm_page_alloc(-1, 0);
      assert.ok(m > 0);
      vm_page_wire(m, 1);
      taken.push(m);
    }
    return taken;
  }
  test('is called below reserved and cache_min, and stops at the target', () => {
    const { o } = inactive(200);
    const level = knob('vm.v_free_reserved') + knob('vm.v_cache_min');
    const taken = take_to(level);
    assert.equal(needed(), 0, 'just enough');
    taken.push(...take_to(level - 1));
    assert.equal(needed(), 1, 'one less');
    const wakeups = counted('vm.stats.vm.v_pdwakeups');
    const d = pagedaemon_new();
    assert.equal(vm_pageout_round(d), 0);
    assert.equal(counted('vm.stats.vm.v_pdwakeups') - wakeups, 1);
    const avail = vm_page_free_count() + pageq_count(PQ_CACHE);
    assert.ok(avail >= knob('vm.v_free_target') + knob('vm.v_cache_min'), `${avail} pages`);
    assert.equal(needed(), 0);
    assert.ok(vm_pageout_round(d) > 0, 'it sleeps');
    assert.equal(counted('vm.stats.vm.v_pdwakeups') - wakeups, 1);
    for (const m of taken) vm_page_free(m);
    vm_object_deallocate(o);
  });
  test('tries harder, and waits between tries, while it cannot get enough', () => {
    const level = knob('vm.v_free_reserved') + knob('vm.v_cache_min');
    const taken = take_to(level - 1);
    const d = pagedaemon_new();
    assert.equal(vm_pageout_round(d), 0);
    assert.equal(d.pass, 1);
    assert.ok(vm_pageout_round(d) >= 500);
    assert.equal(d.pass, 2);
    for (const m of taken) vm_page_free(m);
    vm_pageout_round(d);
    assert.equal(d.pass, 1);
    vm_pageout_round(d);
    assert.equal(d.pass, 0);
  });
  test('frees some in earnest where too few are', () => {
    const { o } = inactive(100);
    assert.equal(scanned(0, 100).gained, 100);
    const taken = take_to(knob('vm.v_free_reserved') + 1);
    assert.equal(needed(), 0, 'those that are as good as free are enough');
    taken.push(...take_to(knob('vm.v_free_reserved')));
    assert.equal(needed(), 1, 'a request of the kernel would find none');
    vm_pageout_round(pagedaemon_new());
    assert.ok(vm_page_free_count() >= knob('vm.v_free_min'));
    for (const m of taken) vm_page_free(m);
    vm_object_deallocate(o);
  });
});

test(`scans agree with a naive model of both queues (seed ${SEED})`, () => {
  const draw = dice(SEED);
  const { o, ms } = inactive(60, 5);
  const model = { active: [] as number[], inactive: [...ms], act: new Map(ms.map((m) => [m, 5])) };
  const ref = new Set<number>();
  const move = (m: number, from: number[], to: number[]): void => {
    from.splice(from.indexOf(m), 1);
    to.push(m);
  };
  const used = (m: number, least: number): void => {
    model.act.set(m, Math.min(64, Math.max(model.act.get(m) as number, least) + 4));
    ref.delete(m);
  };
  for (let round = 0; round < 400; round++) {
    for (let n = draw(30); n > 0; n--) {
      const m = ms[draw(ms.length)];
      page.ref[m] = 1;
      ref.add(m);
    }
    const [pass, wanted] = [draw(4), draw(5)];
    // Pages that become as good as free are inactive again at once: as if they had been read anew.
    const s = scan_of(pass, wanted, 0);
    inactive_scan(s);
    let gone = 0;
    for (const m of [...model.inactive]) {
      if (gone === wanted) break;
      if (ref.has(m)) {
        used(m, 5);
        move(m, model.inactive, model.active);
      } else {
        gone++;
        move(m, model.inactive, model.inactive);
        locked(o, () => vm_page_deactivate(m));
      }
    }
    assert.equal(s.gained, gone);
    active_scan(s);
    let want = wanted - gone + Math.floor(ms.length / 2) - model.inactive.length;
    for (const m of [...model.active]) {
      if (want <= 0) break;
      if (ref.has(m)) {
        used(m, 0);
        move(m, model.active, model.active);
        continue;
      }
      const act = Math.max((model.act.get(m) as number) - 1, 0);
      model.act.set(m, act);
      const old = pass >= 2 || act === 0;
      move(m, model.active, old ? model.inactive : model.active);
      if (old) want--;
    }
    for (const [list, q] of [
      [model.active, PQ_ACTIVE],
      [model.inactive, PQ_INACTIVE],
    ] as const) {
      for (const [i, m] of list.entries()) {
        assert.equal(page_queue(m), q, `round ${round}`);
        assert.equal(page.next[m], list[i + 1] ?? 0, `round ${round}: behind ${i} of ${q}`);
        assert.equal(page_act(m), model.act.get(m), `round ${round}: act of ${i} of ${q}`);
      }
    }
  }
  vm_object_deallocate(o);
});
