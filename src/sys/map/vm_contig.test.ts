/*
 * Shows: a run of pages comes from a memory without two free pages side by side, by moving pages of
 * objects: their bytes, marks, slots and places on their queues are those that they had, and they
 * are mapped again where they are used; the algorithms of before find what they find, and none
 * leaves a limit out; whatever stops a request half-way, all that it had is free again.
 * By what means: memory that is full of pages of a space, every second one of them given back; a
 * page that is wired, busy, locked, or of which a CPU has not let go; seeded runs and releases
 * beside a model of spaces whose pages go out to a swap area; the walkers.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { counter_get, counters } from '../machine/counter.ts';
import { CPU_REQ_TLB, cpu_state_word } from '../machine/cpu.ts';
import { mem, PAGE_SIZE, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { sysctl_decls, sysctl_set } from '../machine/sysctl_decl.ts';
import { tlb_asked } from '../machine/tlb_ack.ts';
import { KERN_SUCCESS, vm_map } from '../h/vm_map.ts';
import { vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PG_ZERO, VM_ALLOC_NORMAL, VM_ALLOC_ZERO, vm_page } from '../h/vm_page.ts';
import { vm_window, type vm_window_t } from '../h/vm_window.ts';
import { page_failpoint, vm_page_check, vm_page_free_count } from '../page/vm_page.ts';
import { vm_page_cache_empty } from '../page/vm_page_cache.ts';
import { vm_page_limbo_free } from '../page/vm_page_limbo.ts';
import {
  PQ_INACTIVE,
  page_act,
  page_queue,
  pageq_check,
  vm_page_age,
  vm_page_deactivate,
  vm_page_owner_unwire,
  vm_page_owner_wire,
} from '../page/vm_pageq.ts';
import { phys_longest, type RunLimits, vm_phys, phys_root } from '../page/vm_phys.ts';
import { pmap_extract } from '../pmap/pmap.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { fuword, suword } from './vm_copy.ts';
import { vm_page_alloc_contig, vm_page_release_contig } from './vm_contig_alloc.ts';
import { vm_contig_old } from './vm_contig_old.ts';
import { run as fuzz } from './vm_contig.fuzz.ts';
import { vm_map_fixed } from './vm_map_insert.ts';
import { vm_map_remove } from './vm_map_range.ts';
import { ANON, map_at, maps_make } from './vm_map.test.lib.ts';
import { vm_window_close, vm_window_open } from './vm_window.ts';
import { space_make, spaces_end } from './vm_space.test.lib.ts';
import { swap_up } from './vm_swap.test.lib.ts';

const object = vm_object;
const page = vm_page;
const FIRST = 1 << 12;
const ANY: RunLimits = { low: 0, high: 2 ** 21, align: 1, boundary: 0 };

beforeEach(() => {
  const options = { INVARIANTS: true, FAILPOINTS: true };
  boot({ memory: '3M', cpus: 2, options, fresh: true, set: { 'vm.swap_default': 0 } });
  maps_make();
  assert.ok(space_make(0));
});
afterEach(() => {
  page_failpoint.refuse = null;
  try {
    pageq_check();
    spaces_end();
    shutdown();
  } catch (e) {
    abandon();
    throw e;
  }
});
const counted = (name: string): number => {
  const c = counters.find((each) => each.name === `vm.contig.${name}`);
  assert.ok(c, name);
  return counter_get(c);
};
const set = (name: string, value: number): void => {
  const decl = sysctl_decls.find((d) => d.name === name);
  assert.ok(decl, name);
  sysctl_set(decl, value);
};
const free = (): number => {
  vm_page_limbo_free();
  vm_page_cache_empty();
  return vm_page_free_count();
};
/** The page of memory behind page i of the space. */
const frame = (i: number): number => pmap_extract(vm_map.pmap[map_at(0)], FIRST + i);
const holds = (i: number): number => fuword(map_at(0), (FIRST + i) * PAGE_SIZE + PAGE_SIZE - 4);
/**
 * Fills memory with pages of the space but for some, and gives every second one back: no two free
 * pages lie side by side where they lay.  How many there are.
 */
function checkered(spare = 30): number {
  const n = free() - spare;
  const rw = { ...ANON, protection: 3 };
  assert.equal(vm_map_fixed(map_at(0), FIRST, FIRST + n, rw), KERN_SUCCESS);
  for (let i = 0; i < n; i++) {
    assert.equal(suword(map_at(0), (FIRST + i) * PAGE_SIZE + PAGE_SIZE - 4, i + 1), 0, `${i}`);
  }
  for (let i = 1; i < n; i += 2) {
    assert.equal(vm_map_remove(map_at(0), FIRST + i, FIRST + i + 1), KERN_SUCCESS);
  }
  return n;
}
/** Each page that was not given back holds what was written to it. */
function intact(n: number): void {
  for (let i = 0; i < n; i += 2) assert.equal(holds(i), i + 1, `page ${i}`);
}
function alloc(n: number, limits = ANY, wait = true): number {
  return vm_page_alloc_contig(n, VM_ALLOC_NORMAL, limits, wait);
}

describe('pages move out of the way', () => {
  test('of a run: what they held they hold, and nothing else is gone', () => {
    const n = checkered();
    const before = free();
    assert.ok(phys_longest() < 64);
    const m = alloc(64);
    assert.ok(m > 0);
    assert.ok(counted('moved') >= 20, `${counted('moved')} moved`);
    assert.deepEqual([counted('written'), counted('freed')], [0, 0]);
    assert.equal(free(), before - 64);
    mem.I32.fill(-1, page_word(m), page_word(m + 64)); // none of it is anybody's
    intact(n);
    vm_page_check();
    vm_page_release_contig(m, 64);
    assert.equal(free(), before);
  });
  test('as one that may not wait, too', () => {
    const n = checkered();
    const m = alloc(64, ANY, false);
    assert.ok(m > 0);
    intact(n);
    vm_page_release_contig(m, 64);
  });
  test('of a window, which finds no other run either', () => {
    const n = checkered();
    const [first, end] = [FIRST + n, FIRST + n + 40];
    assert.equal(vm_map_fixed(map_at(0), first, end, { ...ANON, protection: 3 }), KERN_SUCCESS);
    for (let at = first; at < end; at++) assert.equal(suword(map_at(0), at * PAGE_SIZE, at), 0);
    assert.ok(phys_longest() < 40, `${phys_longest()} side by side`);
    const w = vm_window_open(map_at(0), first, end, 3) as vm_window_t;
    assert.ok(w > 0, `${w}`);
    assert.ok(counted('moved') > 0 && counted('freed') === 0);
    const words = page_word(vm_window.frame[w]);
    for (let i = 0; i < 40; i++) assert.equal(mem.I32[words + i * PAGE_WORDS], first + i);
    vm_window_close(w);
    intact(n);
  });
  test('and keep their place on their queue, their activity and their marks', () => {
    checkered();
    const ms = [0, 2, 4].map(frame);
    for (const m of ms) vm_page_deactivate(m);
    assert.ok(vm_page_age(ms[1], PQ_INACTIVE, PQ_INACTIVE, 7)); // behind the others now
    vm_page_deactivate(frame(6));
    const marks = [page.ref[ms[1]], page.mod[ms[1]], page.state[ms[1]]];
    const [prev, next] = [page.prev[ms[1]], page.next[ms[1]]];
    assert.deepEqual([prev, next], [ms[2], frame(6)]);
    const limits = { ...ANY, low: ms[1], high: ms[1] + 1 };
    assert.equal(alloc(1, limits), ms[1]);
    const o = page.owner[prev] as vm_object_t;
    const to = page.next[prev];
    assert.equal(page.owner[to], o);
    assert.equal(page.prev[next], to);
    assert.deepEqual([page_queue(to), page_act(to)], [PQ_INACTIVE, 7]);
    assert.deepEqual([page.ref[to], page.mod[to], page.state[to]], marks);
    assert.equal(frame(2), 0, 'it is mapped when it is used');
    assert.equal(holds(2), 3);
    assert.equal(frame(2), to);
    vm_page_release_contig(ms[1], 1);
  });
  test('unless they are wired: that is passed over, and moves nowhere', () => {
    const n = checkered();
    const m = frame(100);
    vm_page_owner_wire(m);
    assert.equal(alloc(2, { ...ANY, low: m, high: m + 2 }), 0);
    const got = alloc(64);
    assert.ok(got > 0 && (got + 64 <= m || got > m));
    assert.equal(frame(100), m);
    vm_page_owner_unwire(m, true);
    intact(n);
    vm_page_release_contig(got, 64);
  });
  test('but not while a CPU has not let go of them: the place is given up, and counted', () => {
    set('vm.disable_swapspace_pageouts', 1);
    const n = checkered();
    const before = free();
    const word = cpu_state_word(1);
    const was = atomic_load(word);
    atomic_store(word, CPU_REQ_TLB); // as if it were at work, and had been asked
    tlb_asked();
    assert.equal(alloc(64), 0);
    assert.ok(counted('silent') > 0 && counted('moved') === 0);
    atomic_store(word, was);
    assert.equal(free(), before);
    intact(n);
    const m = alloc(64);
    assert.ok(m > 0);
    vm_page_release_contig(m, 64);
  });
});

describe('the ways of before', () => {
  test('2004: without relocation dirty pages that have no place to go to stay', () => {
    set('vm.contig_relocate', 0);
    set('vm.disable_swapspace_pageouts', 1);
    const n = checkered();
    const before = free();
    assert.equal(alloc(64), 0);
    assert.equal(free(), before);
    intact(n);
  });
  test('2004: what is in the place goes out, and comes back', () => {
    set('vm.contig_relocate', 0);
    swap_up(240);
    const n = checkered();
    const m = alloc(64);
    assert.ok(m > 0);
    assert.ok(counted('freed') >= 20 && counted('written') > 0 && counted('moved') === 0);
    mem.I32.fill(-1, page_word(m), page_word(m + 64));
    vm_page_release_contig(m, 64);
    intact(n);
  });
  test('the old one: everything goes out', () => {
    swap_up(240);
    const n = checkered();
    const m = vm_contig_old(64, VM_ALLOC_NORMAL, ANY, true);
    assert.ok(m > 0);
    mem.I32.fill(-1, page_word(m), page_word(m + 64));
    vm_page_release_contig(m, 64);
    intact(n);
  });
  test('the old one without waiting: only what is free or as good as free', () => {
    swap_up(240);
    const n = checkered();
    assert.equal(vm_contig_old(64, VM_ALLOC_NORMAL, ANY, false), 0);
    intact(n);
  });
});

describe('leaks pages on restart', () => {
  test('a place that is given up half-way is free again, whichever page of it stays', () => {
    set('vm.disable_swapspace_pageouts', 1);
    const n = checkered();
    for (const relocate of [0, 1]) {
      set('vm.contig_relocate', relocate);
      for (const i of [50, 100, 150]) {
        const m = frame(i);
        const o = page.owner[m] as vm_object_t;
        const before = free();
        const abandoned = counted('abandoned');
        // The look sees nothing of it: there is no page to move it to, and it has no other place.
        set('vm.v_free_reserved', before);
        assert.equal(alloc(2, { ...ANY, low: m, high: m + 2 }), 0);
        assert.ok(counted('abandoned') > abandoned);
        assert.equal(free(), before);
        assert.equal(page.owner[m], o);
        set('vm.v_free_reserved', 8);
      }
    }
    intact(n);
  });
  test('the old one: a page that cannot become free while others of the place have', () => {
    const n = checkered();
    const m = frame(100);
    const o = page.owner[m] as vm_object_t;
    const before = free();
    mtx_lock(object.lock, o);
    assert.equal(vm_contig_old(2, VM_ALLOC_NORMAL, { ...ANY, low: m - 1, high: m + 3 }, false), 0);
    mtx_unlock(object.lock, o);
    assert.equal(free(), before);
    intact(n);
  });
  test('whichever request of the kernel is refused', () => {
    swap_up(240);
    const n = checkered();
    const before = free();
    let refused = 0;
    for (let at = 1; at < 6; at++) {
      let left = at;
      page_failpoint.refuse = () => --left === 0;
      const m = alloc(50);
      page_failpoint.refuse = null;
      if (m !== 0) vm_page_release_contig(m, 50);
      else refused++;
      vm_page_check();
    }
    assert.ok(free() >= before && refused < 5, `${refused} refused`);
    intact(n);
  });
});

describe('limits', () => {
  test('each of them, and what came as zero is zero in every byte', () => {
    const n = checkered();
    const ph = phys_root();
    for (const [pages, align, boundary] of [
      [4, 4, 0],
      [5, 1, 8],
      [8, 8, 8],
      [6, 2, 64],
    ]) {
      const [low, high] = [vm_phys.low[ph] + 300, vm_phys.low[ph] + 500];
      const limits = { low, high, align, boundary };
      const m = vm_page_alloc_contig(pages, VM_ALLOC_NORMAL | VM_ALLOC_ZERO, limits, true);
      assert.ok(m >= low && m + pages <= high, `${m}`);
      assert.equal(m % align, 0);
      if (boundary !== 0) {
        assert.equal(Math.floor(m / boundary), Math.floor((m + pages - 1) / boundary));
      }
      for (let i = m; i < m + pages; i++) {
        if ((page.flags[i] & PG_ZERO) === 0) continue;
        const words = mem.I32.subarray(page_word(i), page_word(i) + PAGE_WORDS);
        assert.ok(words.every((v) => v === 0));
      }
      vm_page_release_contig(m, pages);
    }
    assert.equal(alloc(4, { ...ANY, boundary: 2 }), 0, 'longer than what lies between two edges');
    assert.equal(alloc(4, { ...ANY, high: vm_phys.low[ph] + 3 }), 0);
    intact(n);
  });
});

test('runs beside spaces whose pages go out by lot, and all hold what their models say', () => {
  shutdown();
  for (let k = 0; k < 2; k++) {
    const did = fuzz(SEED * 2 + k, 700);
    assert.ok(did.runs > 50 && did.moved > 0, JSON.stringify(did));
  }
  boot({ memory: '3M', cpus: 2, fresh: true });
  maps_make();
  assert.ok(space_make(0));
});
