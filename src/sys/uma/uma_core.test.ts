/*
 * Shows when constructors and destructors run and what becomes of an item when
 * one fails, in the allocation itself, in the middle of a bucket and in the
 * middle of a slab; what INVARIANTS catches; and that counts stay true through
 * all of it.  Callbacks write down each call (uma.test.lib.ts).
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { mem } from '../machine/memory.ts';
import { M_NOWAIT, M_WAITOK, M_ZERO } from '../h/malloc_flags.ts';
import {
  UMA_ZONE_MALLOC,
  UMA_ZONE_OFFPAGE,
  UMA_ZONE_ZINIT,
  uma_keg,
  uma_zone,
  type zone_t,
} from '../h/uma.ts';
import { vm_page_count, vm_page_free_count } from '../page/vm_page.ts';
import { bucket_failpoint } from './uma_bucket.ts';
import { uma_check } from './uma_check.ts';
import {
  uma_zalloc,
  uma_zalloc_arg,
  uma_zfree,
  uma_zfree_arg,
  zone_give_hand,
  zone_take_hand,
} from './uma_core.ts';
import { uma_reclaim } from './uma_drain.ts';
import { hand_item, item_in_hand, item_settle, slab_failpoint } from './uma_keg.ts';
import { zone_present } from './uma_stats.ts';
import { uma_zcreate, uma_zdestroy, uma_zone_set_max, uma_zsecond_create } from './uma_zone.ts';
import {
  calls,
  calls_of,
  ctor,
  down,
  dtor,
  fini,
  init,
  items,
  panics,
  refuse,
  reset_calls,
  up,
  zfini,
  zinit,
} from './uma.test.lib.ts';

afterEach(async () => {
  bucket_failpoint.refuse = null;
  slab_failpoint.refuse = null;
  await down();
});
const ipers = (z: zone_t): number => uma_keg.ipers[uma_zone.keg[z]];
const plain = (size = 48): zone_t => uma_zcreate('plain', size);
function take(z: zone_t, n: number): number[] {
  return Array.from({ length: n }, () => {
    const item = uma_zalloc(z, M_NOWAIT);
    assert.notEqual(item, 0);
    return item;
  });
}
/** Everything idle has gone home: what the zone holds is what the test holds. */
function settled(z: zone_t, live: number): void {
  uma_check();
  const n = zone_present(z);
  assert.equal(n.used, live);
  assert.equal(n.allocs - n.frees, live);
  uma_reclaim();
  uma_check();
  assert.equal(zone_present(z).used, live);
  if (live === 0) assert.equal(uma_keg.pages[uma_zone.keg[z]], 0);
}

describe('items that come into the hand by way of the cache', () => {
  beforeEach(() => void up());
  test('are noted until they have a place, counted once, and given back', () => {
    const z = plain();
    const held: number[] = [];
    for (let i = 0; i < 300; i++) {
      const item = zone_take_hand(z, M_NOWAIT);
      assert.equal(hand_item(), item);
      if (i % 3 === 0) zone_give_hand(z, item);
      else {
        item_settle();
        held.push(item);
      }
      assert.equal(hand_item(), 0);
    }
    assert.equal(new Set(held).size, held.length);
    settled(z, held.length);
    for (const item of held) {
      item_in_hand(item);
      zone_give_hand(z, item);
    }
    settled(z, 0);
  });
  test('where there is no bucket or no slab to be had', async () => {
    await down();
    up({ options: { FAILPOINTS: true } });
    const z = plain();
    bucket_failpoint.refuse = () => true;
    const item = zone_take_hand(z, M_NOWAIT);
    assert.equal(hand_item(), item);
    slab_failpoint.refuse = () => true;
    const more: number[] = [];
    for (let next = zone_take_hand(z, M_NOWAIT); next !== 0; ) {
      item_settle();
      more.push(next);
      next = zone_take_hand(z, M_NOWAIT);
    }
    assert.equal(hand_item(), item);
    assert.equal(more.length, ipers(z) - 1, 'what is left of the one slab');
    zone_give_hand(z, item);
    slab_failpoint.refuse = null;
    bucket_failpoint.refuse = null;
    settled(z, more.length);
    for (const m of more) uma_zfree(z, m);
    settled(z, 0);
  });
});
describe('constructors', () => {
  beforeEach(() => void up());
  test('ctor and dtor at each use, init and fini once in the life of a slab', () => {
    const z = uma_zcreate('all', 48, { ctor, dtor, init, fini });
    const n = ipers(z);
    const held = [uma_zalloc_arg(z, 7, M_NOWAIT)];
    assert.equal(calls_of('init'), n, 'every item of the slab, before the first is given out');
    assert.equal(calls.at(0), `init 48/${M_NOWAIT}`);
    assert.equal(calls.at(-1), `ctor 48/7/${M_NOWAIT}`);
    held.push(...take(z, n - 1));
    assert.equal(calls_of('ctor'), n);
    assert.equal(calls_of('init'), n);
    assert.equal(new Set(held).size, n);
    assert.deepEqual(new Set(items.get('init')), new Set(held));
    const first = held.pop() ?? 0;
    uma_zfree_arg(z, first, 9);
    assert.equal(calls.at(-1), 'dtor 48/9');
    for (const item of held) uma_zfree(z, item);
    assert.equal(calls_of('dtor'), n);
    assert.equal(calls_of('fini'), 0, 'idle items keep their state');
    uma_reclaim();
    assert.equal(calls_of('fini'), n);
    assert.deepEqual(new Set(items.get('fini')), new Set(items.get('init')));
    assert.equal(calls_of('dtor'), n, 'reclaim runs no dtor');
    settled(z, 0);
  });
  test('zinit and zfini when an item enters and leaves the caches of its zone', () => {
    const master = uma_zcreate('master', 48, { init, fini });
    const z = uma_zsecond_create('second', ctor, dtor, zinit, zfini, master);
    const item = uma_zalloc(z, M_NOWAIT);
    assert.ok(calls.indexOf(`init 48/${M_NOWAIT}`) < calls.indexOf(`zinit 48/${M_NOWAIT}`));
    assert.equal(calls.at(-1), `ctor 48/0/${M_NOWAIT}`);
    const entered = calls_of('zinit');
    uma_zfree(z, item);
    assert.equal(uma_zalloc(z, M_NOWAIT), item);
    assert.equal(calls_of('zinit'), entered, 'a cached item is in the zone already');
    uma_zfree(z, item);
    assert.equal(calls_of('zfini'), 0);
    uma_reclaim();
    assert.deepEqual(new Set(items.get('zfini')), new Set(items.get('zinit')));
    assert.ok(calls.indexOf('zfini 48') < calls.indexOf('fini 48'));
    settled(z, 0);
  });
  test('NULL is freed in vain; M_ZERO is zero after a dirty use', () => {
    const z = plain();
    uma_zfree(z, 0);
    const item = uma_zalloc(z, M_NOWAIT);
    mem.I32.fill(-1, item, item + 12);
    uma_zfree(z, item);
    const again = uma_zalloc(z, M_NOWAIT | M_ZERO);
    assert.equal(again, item);
    assert.ok(mem.I32.subarray(again, again + 12).every((v) => v === 0));
    uma_zfree(z, again);
    settled(z, 0);
  });
  test('UMA_ZONE_ZINIT: zero at first use, kept from then on', () => {
    const z = uma_zcreate('zinit', 48, { flags: UMA_ZONE_ZINIT });
    const held = take(z, ipers(z) * 2);
    for (const item of held) assert.ok(mem.I32.subarray(item, item + 12).every((v) => v === 0));
    mem.I32[held[0] + 3] = 77;
    for (const item of held.reverse()) uma_zfree(z, item);
    const again = take(z, held.length);
    assert.equal(again.filter((item) => mem.I32[item + 3] === 77).length, 1);
    for (const item of again) uma_zfree(z, item);
    settled(z, 0);
  });
});

for (const INVARIANTS of [true, false]) {
  test(`UMA_ZONE_ZINIT with UMA_ZONE_MALLOC: zero on pages that were dirty, ${INVARIANTS}`, () => {
    up({ memory: '1M', cpus: 2, options: { INVARIANTS }, set: { 'vm.idlezero_enable': 0 } });
    const dirty = uma_zcreate('dirty', 512, { flags: UMA_ZONE_OFFPAGE });
    const all: number[] = [];
    for (let n = uma_zalloc(dirty, M_NOWAIT); n !== 0; n = uma_zalloc(dirty, M_NOWAIT)) all.push(n);
    for (const item of all) mem.I32.fill(-1, item, item + 128);
    for (const item of all) uma_zfree(dirty, item);
    uma_reclaim();
    const z = uma_zcreate('zinit', 512, { flags: UMA_ZONE_ZINIT | UMA_ZONE_MALLOC });
    const held = take(z, 200);
    assert.ok(held.length > 0);
    for (const item of held) assert.ok(mem.I32.subarray(item, item + 128).every((v) => v === 0));
    for (const item of held) uma_zfree(z, item);
    settled(z, 0);
  });
}

describe('failures', () => {
  beforeEach(() => void up());
  test('a failing ctor: no dtor, zfini, an item back in its slab, counted as a free', () => {
    const master = uma_zcreate('master', 48, { init, fini });
    const z = uma_zsecond_create('second', ctor, dtor, zinit, zfini, master);
    const held = take(z, 3);
    reset_calls();
    refuse.ctor = (n) => n <= 2;
    assert.equal(uma_zalloc(z, M_NOWAIT), 0);
    assert.equal(uma_zalloc(z, M_WAITOK), 0);
    assert.equal(calls_of('dtor'), 0);
    assert.deepEqual(items.get('zfini'), items.get('ctor'));
    assert.equal(zone_present(z).fails, 2);
    const n = zone_present(z);
    assert.equal(n.used, 3);
    assert.equal(n.allocs, 5);
    held.push(uma_zalloc(z, M_NOWAIT));
    for (const item of held) uma_zfree(z, item);
    settled(z, 0);
  });
  for (const at of [1, 2, 3, 4]) {
    test(`zinit refuses item ${at} of a bucket: those before it serve, the rest go home`, () => {
      const master = uma_zcreate('master', 48, { init, fini });
      const z = uma_zsecond_create('second', ctor, dtor, zinit, zfini, master);
      refuse.zinit = (n) => n === at;
      const item = uma_zalloc(z, M_NOWAIT);
      assert.notEqual(item, 0);
      const bad = items.get('zinit')?.[at - 1];
      if (at > 1) assert.equal(calls_of('zinit'), at);
      assert.equal(calls_of('zfini'), 0, 'what was never initialised is not finished');
      assert.notEqual(item, at > 1 ? bad : 0);
      uma_check();
      uma_zfree(z, item);
      uma_reclaim();
      // Only items whose zinit succeeded last are finished.
      const entered = (items.get('zinit') ?? []).filter((_, i) => i !== at - 1);
      assert.deepEqual(items.get('zfini')?.toSorted(), entered.toSorted());
      settled(z, 0);
    });
  }
  test('zinit refuses every item: the request fails, nothing is kept', () => {
    const master = uma_zcreate('master', 48);
    const z = uma_zsecond_create('second', ctor, dtor, zinit, zfini, master);
    refuse.zinit = () => true;
    assert.equal(uma_zalloc(z, M_NOWAIT), 0);
    assert.equal(uma_zalloc(z, M_WAITOK), 0);
    assert.equal(calls_of('ctor') + calls_of('zfini'), 0);
    assert.equal(zone_present(z).fails, 2);
    settled(z, 0);
  });
  for (const size of [48, 1024]) {
    const place = size === 48 ? 'in' : 'off';
    test(`init refuses an item in the middle of a slab, header ${place} the page`, () => {
      const z = uma_zcreate('inits', size, { ctor, dtor, init, fini });
      uma_reclaim();
      const free = vm_page_free_count();
      const n = ipers(z);
      refuse.init = (i) => i === n - 1;
      slab_failpoint.refuse = null;
      const item = uma_zalloc(z, M_NOWAIT);
      // The first slab was given up: those before the refused one were finished, it was not.
      const done = items.get('init') ?? [];
      assert.deepEqual(items.get('fini'), done.slice(0, n - 2));
      assert.equal(calls_of('init'), n - 1 + n);
      assert.notEqual(item, 0, 'the single item that follows a failed bucket made a new slab');
      uma_zfree(z, item);
      settled(z, 0);
      assert.equal(vm_page_free_count(), free);
      refuse.init = () => true;
      assert.equal(uma_zalloc(z, M_NOWAIT), 0);
      settled(z, 0);
      assert.equal(vm_page_free_count(), free, 'pages and headers are back');
    });
  }
  test('without buckets everything works past the caches', () => {
    const z = uma_zcreate('bucketless', 48, { ctor, dtor, init, fini });
    bucket_failpoint.refuse = () => true;
    const held = take(z, 200);
    assert.equal(new Set(held).size, 200);
    uma_check();
    assert.equal(zone_present(z).used, 200);
    assert.equal(zone_present(z).free + 200, uma_keg.pages[uma_zone.keg[z]] * ipers(z));
    for (const item of held) uma_zfree(z, item);
    settled(z, 0);
    assert.equal(calls_of('dtor'), 200);
  });
  test('a slab refused at the n-th request: every call tells, nothing leaks', async () => {
    await down();
    up({ options: { FAILPOINTS: true } });
    for (let at = 1; at <= 12; at++) {
      const z = uma_zcreate('nth', 700, { ctor, dtor, init, fini });
      uma_reclaim();
      const free = vm_page_free_count();
      let asked = 0;
      slab_failpoint.refuse = () => ++asked === at;
      const held: number[] = [];
      for (let i = 0; i < 40; i++) {
        const item = uma_zalloc(z, M_NOWAIT);
        if (item !== 0) held.push(item);
      }
      slab_failpoint.refuse = null;
      assert.ok(held.length >= 39);
      for (const item of held) uma_zfree(z, item);
      settled(z, 0);
      assert.equal(vm_page_free_count(), free);
      assert.equal(uma_zdestroy(z), 0);
    }
  });
  test('with no page left NOWAIT fails, and what others free idle is found', () => {
    const a = uma_zcreate('a', 512);
    const b = uma_zcreate('b', 300);
    const held: number[] = [];
    for (let item = uma_zalloc(a, M_NOWAIT); item !== 0; item = uma_zalloc(a, M_NOWAIT)) {
      held.push(item);
    }
    assert.ok(held.length * 512 > vm_page_count() * 4096 * 0.85, `${held.length} items`);
    // The last search for a page may have emptied one that held buckets.
    const rest: number[] = [];
    for (let item = uma_zalloc(b, M_NOWAIT); item !== 0; item = uma_zalloc(b, M_NOWAIT)) {
      rest.push(item);
    }
    assert.ok(rest.length * 300 <= 4096, `${rest.length} items`);
    assert.equal(uma_zalloc(b, M_WAITOK), 0, 'alone: nobody could ever free a page');
    assert.ok(zone_present(b).fails === 2);
    uma_check();
    for (const item of held) uma_zfree(a, item);
    for (const item of rest) uma_zfree(b, item);
    const item = uma_zalloc(b, M_NOWAIT);
    assert.notEqual(item, 0, 'pages of another zone came back');
    uma_zfree(b, item);
    settled(a, 0);
    settled(b, 0);
  });
});

describe('reclaim', () => {
  test('returns every page', () => {
    up();
    const zones = [16, 48, 256, 1024, 2048, 5000].map((size) => uma_zcreate(`r${size}`, size));
    uma_reclaim();
    const free = vm_page_free_count();
    for (const z of zones) {
      const held = take(z, 150);
      for (const item of held) uma_zfree(z, item);
    }
    assert.ok(vm_page_free_count() < free);
    const got = uma_reclaim();
    assert.equal(vm_page_free_count(), free);
    assert.ok(got > 0);
    assert.equal(uma_reclaim(), 0);
    for (const z of zones) settled(z, 0);
  });
  test('a limit does not outlive what was freed', () => {
    up();
    const z = plain(64);
    const max = uma_zone_set_max(z, 10);
    const held = take(z, max);
    assert.equal(uma_zalloc(z, M_NOWAIT), 0);
    for (const item of held) uma_zfree(z, item);
    assert.equal(take(z, max).length, max);
  });
});

describe('INVARIANTS', () => {
  beforeEach(() => void up());
  test('double free', () => {
    const z = plain();
    const [a] = take(z, 2);
    uma_zfree(z, a);
    panics(() => uma_zfree(z, a), /Duplicate free of item \d+: ?from zone plain|Duplicate free/);
  });
  test('double free after the item went home to its slab', () => {
    const z = plain();
    const [a] = take(z, 2);
    uma_zfree(z, a);
    uma_reclaim();
    panics(() => uma_zfree(z, a), /Duplicate free of item/);
  });
  test('free to a wrong zone, at once', () => {
    const [a, b] = [plain(), uma_zcreate('other', 48)];
    const [item] = take(a, 1);
    panics(() => uma_zfree(b, item), /did not belong to zone.*other/);
  });
  test('free of an address that is no item', () => {
    const z = plain();
    const [item] = take(z, 1);
    panics(() => uma_zfree(z, item + 1), /no item of its slab/);
  });
  for (const [what, address] of [
    ['no page of a slab', 70_000],
    ['beyond the memory', 2 ** 30],
    ['below it', -5],
  ] as const) {
    test(`free of an address in ${what}`, () => {
      panics(() => uma_zfree(plain(), address), /did not belong to zone/);
    });
  }
  for (const size of [48, 2048]) {
    test(`a write into a freed item of ${size} bytes`, () => {
      const z = plain(size);
      const [item] = take(z, 1);
      uma_zfree(z, item);
      mem.I32[item + size / 4 - 1] = 5;
      panics(
        () => uma_zalloc(z, M_NOWAIT),
        /Memory modified after free 0x[0-9a-f]+\(\d+\) val=0x5 @ 0x/,
      );
    });
  }
  test('a write into an item that was never given out', () => {
    const z = plain();
    const [a] = take(z, 1);
    const other = a + 12 < (a | 1023) ? a + 12 : a - 12;
    mem.I32[other] = 9;
    panics(() => take(z, ipers(z)), /Memory modified after free/);
  });
  test('state that a callback keeps is no damage', () => {
    const z = uma_zcreate('state', 48, { init });
    const [item] = take(z, 1);
    uma_zfree(z, item);
    mem.I32[item] = 5;
    assert.equal(uma_zalloc(z, M_NOWAIT), item);
  });
  test('nor is what was written while another zone stood on the keg', () => {
    const z = plain();
    const [item] = take(z, 1);
    uma_zfree(z, item);
    uma_reclaim();
    const second = uma_zsecond_create('second', ctor, 0, 0, 0, z);
    const other = take(second, 20);
    for (const each of other) mem.I32[each] = 123;
    for (const each of other) uma_zfree(second, each);
    assert.equal(uma_zdestroy(second), 0);
    const again = take(z, 20);
    assert.ok(again.some((each) => mem.I32[each] === 123));
    for (const each of again) uma_zfree(z, each);
    settled(z, 0);
  });
  test('uma_check sees an item in two places', () => {
    const z = plain();
    const [item] = take(z, 1);
    uma_zfree(z, item);
    const k = uma_zone.keg[z];
    uma_keg.free[k]++;
    panics(uma_check, /uma_check: free items/);
  });
});

describe('items that are more than may lie idle', () => {
  const SIZE = 300 * 1024;
  const play = (): [number, number] => {
    const z = uma_zcreate('large', SIZE);
    uma_reclaim();
    const before = vm_page_free_count();
    const held = Array.from({ length: 12 }, () => uma_zalloc(z, M_NOWAIT));
    assert.ok(!held.includes(0));
    for (const item of held) uma_zfree(z, item);
    uma_check();
    return [before, vm_page_free_count()];
  };
  test('are not cached: their pages come back at once', () => {
    up({ memory: '16M' });
    const [before, after] = play();
    assert.ok(after >= before - 2, `${before - after} pages stay`); // a header's, at most
  });
  test('are cached where memory is ample', () => {
    up({ memory: '512M' });
    const [before, after] = play();
    assert.ok(before - after > SIZE / 4096, `${before - after} pages stay`);
  });
  test('a limit of malloc and zones counts as the memory', () => {
    up({ memory: '512M', set: { 'vm.kmem_size': '16m' } });
    const [before, after] = play();
    assert.ok(after >= before - 2, `${before - after} pages stay`);
  });
});
