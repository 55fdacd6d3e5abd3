/*
 * Shows how zones are made, shared, limited and destroyed: secondary zones in
 * any order, several kegs behind one zone with the share of local pages
 * printed, reference counts, limits and reserves, preallocation, the leak
 * report, and the allocator's own zones at the top of the list.
 */
import { kconsole } from '../machine/kconsole.ts';
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { atomic_add } from '../machine/atomic.ts';
import { E2BIG, EBUSY, EINVAL, ENOMEM } from '../machine/errno.ts';
import { mem } from '../machine/memory.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { M_NOWAIT, M_USE_RESERVE, M_WAITOK } from '../h/malloc_flags.ts';
import {
  KEGS_PER_ZONE,
  UMA_ZONE_NOFREE,
  UMA_ZONE_OFFPAGE,
  UMA_ZONE_REFCNT,
  UMA_ZONE_VTOSLAB,
  uma_keg,
  uma_slab,
  uma_zone,
  type zone_t,
} from '../h/uma.ts';
import { vector } from '../machine/vectors.ts';
import { VM_ALLOC_SYSTEM, VM_ALLOC_WIRED } from '../h/vm_page.ts';
import { vm_page_alloc_run, vm_page_domain, vm_page_free_run } from '../page/vm_page.ts';
import { uma_check, uma_free_or_records } from './uma_check.ts';
import { uma_zalloc, uma_zfree } from './uma_core.ts';
import { uma_reclaim } from './uma_drain.ts';
import { uma, uma_each_zone, uma_root, zone_name } from './uma_int.ts';
import { uma_find_refcnt, uma_find_refcnt_word, vtoslab } from './uma_keg.ts';
import { zone_present } from './uma_stats.ts';
import {
  uma_prealloc,
  uma_zcreate,
  uma_zdestroy,
  uma_zone_exhausted,
  uma_zone_get_cur,
  uma_zone_get_max,
  uma_zone_reserve,
  uma_zone_set_allocf,
  uma_zone_set_domain,
  uma_zone_set_init,
  uma_zone_set_max,
  uma_zone_set_obj,
  uma_zone_set_zinit,
  uma_zsecond_add,
  uma_zsecond_create,
} from './uma_zone.ts';
import { down, panics, up } from './uma.test.lib.ts';

const real_print = kconsole.print;
const printed: string[] = [];
beforeEach(() => {
  printed.length = 0;
  kconsole.print = (text) => void printed.push(text);
});
afterEach(async () => {
  kconsole.print = real_print;
  await down();
});
const ipers = (z: zone_t): number => uma_keg.ipers[uma_zone.keg[z]];
function take(z: zone_t, n: number, flags = M_NOWAIT): number[] {
  const held: number[] = [];
  for (let i = 0; i < n; i++) {
    const item = uma_zalloc(z, flags);
    if (item !== 0) held.push(item);
  }
  return held;
}
function give(z: zone_t, held: readonly number[]): void {
  for (const item of held) uma_zfree(z, item);
}
function names(): string[] {
  const all: string[] = [];
  uma_each_zone((z) => void all.push(zone_name(z)));
  return all;
}

test('a keg with a supplier of its own takes pages from it, and gives them back', () => {
  up();
  const out = new Set<number>();
  const allocf = vector('test_allocf', (n: number) => {
    const m = vm_page_alloc_run(n, VM_ALLOC_SYSTEM | VM_ALLOC_WIRED);
    if (m !== 0) out.add(m);
    return m;
  });
  const freef = vector('test_freef', (m: number, n: number) => {
    assert.ok(out.delete(m), 'a page of the supplier');
    vm_page_free_run(m, n);
  });
  const z = uma_zcreate('supplied', 1000);
  uma_zone_set_allocf(z, allocf, freef);
  const held = take(z, 50);
  assert.equal(held.length, 50);
  assert.equal(out.size, uma_keg.pages[uma_zone.keg[z]]);
  assert.ok(
    held.every((item) => out.has(item >>> 10)),
    'every item lies on one',
  );
  uma_check();
  give(z, held);
  assert.equal(uma_zdestroy(z), 0);
  assert.equal(out.size, 0);
  uma_check();
});

test('a store of its own: so many items, whole slabs, and no page of it goes back', () => {
  up();
  const z = uma_zcreate('store', 700);
  const { ipers, pages } = uma_keg;
  const k = uma_zone.keg[z];
  const n = uma_zone_set_obj(z, 13);
  assert.equal(n, Math.ceil(13 / ipers[k]) * ipers[k]);
  const held = take(z, n + 10);
  assert.equal(held.length, n);
  assert.equal(uma_zalloc(z, M_NOWAIT), 0, 'at its limit');
  const most = pages[k];
  give(z, held);
  uma_reclaim();
  assert.equal(pages[k], most);
  assert.equal(take(z, n).length, n);
  panics(() => uma_zone_set_obj(z, 40), /uma_zone_set_obj on non-empty keg/);
});

test("the first zones are the allocator's own, in the order that vmstat -z begins with", () => {
  up();
  const oldest = names().reverse();
  assert.deepEqual(oldest.slice(0, 11), [
    'UMA Kegs',
    'UMA Zones',
    'UMA Slabs',
    'UMA RCntSlabs',
    'UMA Hash',
    '4 Bucket',
    '8 Bucket',
    '16 Bucket',
    '32 Bucket',
    '64 Bucket',
    '128 Bucket',
  ]);
  assert.equal(uma_root.nzones[uma()], oldest.length);
});

describe('secondary zones', () => {
  beforeEach(() => void up());
  for (const order of [
    [0, 1, 2, 3],
    [3, 2, 1, 0],
    [1, 0, 3, 2],
    [2, 3, 0, 1],
  ]) {
    test(`share a keg and go in the order ${order.join(' ')}`, () => {
      const before = names();
      uma_reclaim();
      const free = uma_free_or_records();
      const master = uma_zcreate('master', 100);
      const zones = [master];
      for (let i = 1; i < 4; i++) zones.push(uma_zsecond_create(`s${i}`, 0, 0, 0, 0, zones[i - 1]));
      const held = zones.map((z) => take(z, 50));
      assert.equal(new Set(held.flat()).size, 200);
      assert.ok(zones.every((z) => uma_zone.keg[z] === uma_zone.keg[master]));
      uma_check();
      for (const i of order) {
        give(zones[i], held[i]);
        assert.equal(uma_zone_get_cur(zones[i]), 0);
        assert.equal(uma_zdestroy(zones[i]), 0);
        uma_check();
      }
      assert.deepEqual(printed, []);
      assert.deepEqual(names(), before);
      uma_reclaim();
      assert.equal(uma_free_or_records(), free);
    });
  }
  test('a zone made from one whose master is gone stands on the same keg', () => {
    const master = uma_zcreate('master', 100);
    const second = uma_zsecond_create('second', 0, 0, 0, 0, master);
    uma_zdestroy(master);
    const third = uma_zsecond_create('third', 0, 0, 0, 0, second);
    uma_zdestroy(second);
    const held = take(third, 70);
    give(third, held);
    uma_check();
    assert.equal(uma_zdestroy(third), 0);
    assert.deepEqual(printed, []);
  });
  test('not on a keg of the allocator', () => {
    panics(
      () => uma_zsecond_create('x', 0, 0, 0, 0, uma_root.slab_zone[uma()]),
      /on an internal keg/,
    );
  });
});

/** A zone whose items all lead to their slabs through the page array. */
function vtoslab_zone(name: string, size: number): zone_t {
  return uma_zcreate(name, size, { flags: UMA_ZONE_VTOSLAB });
}
describe('several kegs behind one zone', () => {
  test('uma_zsecond_add says what does not fit', () => {
    up();
    const m1 = vtoslab_zone('m1', 512);
    const m2 = vtoslab_zone('m2', 512);
    const other_size = vtoslab_zone('other size', 256);
    const counted = uma_zcreate('counted', 512, { flags: UMA_ZONE_REFCNT });
    const z = uma_zsecond_create('z', 0, 0, 0, 0, m1);
    assert.equal(uma_zsecond_add(m1, m2), EINVAL, 'm1 is no secondary zone');
    const in_page = uma_zcreate('in page', 256);
    const other_second = uma_zsecond_create('other second', 0, 0, 0, 0, other_size);
    assert.equal(uma_zsecond_add(other_second, in_page), EINVAL, 'its items lead to no slab');
    const second = uma_zsecond_create('second', 0, 0, 0, 0, in_page);
    assert.equal(uma_zsecond_add(second, other_size), EINVAL, "this zone's do not");
    assert.equal(uma_zsecond_add(z, counted), EINVAL, 'only one keeps counts');
    assert.equal(uma_zsecond_add(z, other_size), E2BIG);
    assert.equal(uma_zsecond_add(z, m1), EINVAL, 'it has that keg');
    assert.equal(uma_zsecond_add(z, m2), 0);
    assert.equal(uma_zsecond_add(z, m2), EINVAL);
    for (let i = 2; i < KEGS_PER_ZONE; i++) {
      assert.equal(uma_zsecond_add(z, vtoslab_zone(`m${i + 1}`, 512)), 0);
    }
    assert.equal(uma_zsecond_add(z, vtoslab_zone('m9', 512)), ENOMEM);
    const zc = uma_zsecond_create('zc', 0, 0, 0, 0, counted);
    assert.equal(uma_zsecond_add(zc, m1), EINVAL);
    const plain = uma_zsecond_create('in page too', 0, 0, 0, 0, other_size);
    const off_page = uma_zcreate('off page', 256, { flags: UMA_ZONE_OFFPAGE });
    assert.equal(uma_zsecond_add(plain, off_page), 0, 'distances and headers may differ');
    give(plain, take(plain, 100));
    uma_check();
  });
  test('the second keg serves when the first is full, and items go home', () => {
    up();
    const m1 = vtoslab_zone('m1', 512);
    const m2 = vtoslab_zone('m2', 512);
    const z = uma_zsecond_create('z', 0, 0, 0, 0, m1);
    assert.equal(uma_zsecond_add(z, m2), 0);
    const max = uma_zone_set_max(m1, 16) + uma_zone_set_max(m2, 24);
    const held = take(z, max + 10);
    assert.equal(held.length, max);
    const homes = held.map((item) => uma_slab.keg[vtoslab(item)]);
    assert.equal(homes.filter((k) => k === uma_zone.keg[m1]).length, 16);
    assert.equal(homes.filter((k) => k === uma_zone.keg[m2]).length, 24);
    uma_check();
    give(z, held);
    uma_reclaim();
    assert.equal(uma_keg.pages[uma_zone.keg[m1]] + uma_keg.pages[uma_zone.keg[m2]], 0);
    assert.equal(take(z, max).length, max, 'and are there again');
  });
  test('the keg that served last is tried first', () => {
    up();
    const m1 = vtoslab_zone('m1', 2048);
    const m2 = vtoslab_zone('m2', 2048);
    const z = uma_zsecond_create('z', 0, 0, 0, 0, m1);
    assert.equal(uma_zsecond_add(z, m2), 0);
    uma_zone_set_max(m1, 2);
    take(z, 2);
    for (let i = 0; i < 5; i++) {
      assert.equal(take(z, 1).length, 1);
      if (i > 1) assert.equal(uma_zone.last_keg[z], 1);
    }
  });
  test("a master whose keg is another zone's too stays until that zone is gone", () => {
    up();
    const m1 = vtoslab_zone('m1', 512);
    const m2 = vtoslab_zone('m2', 512);
    const z = uma_zsecond_create('z', 0, 0, 0, 0, m1);
    uma_zsecond_add(z, m2);
    assert.equal(uma_zdestroy(m2), EBUSY);
    give(z, take(z, 40));
    assert.equal(uma_zdestroy(z), 0);
    assert.equal(uma_zdestroy(m2), 0);
    assert.equal(uma_zdestroy(m1), 0);
    assert.deepEqual(printed, []);
    uma_check();
  });
  test('what one zone frees the other may get: no false report of damage', () => {
    up();
    const m1 = vtoslab_zone('m1', 512);
    const m2 = vtoslab_zone('m2', 512);
    const z = uma_zsecond_create('z', 0, 0, 0, 0, m1);
    uma_zsecond_add(z, m2);
    uma_zone_set_max(m1, 8);
    const held = take(z, 60);
    for (const item of held) mem.I32.fill(7, item, item + 128);
    give(z, held);
    uma_reclaim();
    give(m2, take(m2, 60));
    give(m1, take(m1, 8));
    uma_check();
  });
  test("two domains: pages come from the CPU's own while it has any", () => {
    up({ memory: '4M', domains: 2 });
    const masters = [0, 1].map((d) => {
      const m = vtoslab_zone(`domain ${d}`, 512);
      assert.equal(uma_zone_set_domain(m, d), 0);
      return m;
    });
    assert.equal(uma_zone_set_domain(masters[0], 2), EINVAL);
    const z = uma_zsecond_create('z', 0, 0, 0, 0, masters[1]);
    assert.equal(uma_zsecond_add(z, masters[0]), 0);
    const held = take(z, 1500);
    const local = held.filter((item) => vm_page_domain(item >>> 10) === 0).length;
    const r = uma();
    const slabs = uma_root.domain_local[r] + uma_root.domain_remote[r];
    console.log(
      `two domains, CPU 0: ${uma_root.domain_local[r]} of ${slabs} slabs local, ` +
        `${((local / held.length) * 100).toFixed(1)} % of ${held.length} items`,
    );
    assert.equal(local, held.length);
    assert.equal(uma_root.domain_remote[r], 0);
    // When the own domain is exhausted the other one serves.
    const more = take(z, 6000);
    assert.ok(more.some((item) => vm_page_domain(item >>> 10) === 1));
    uma_check();
    give(z, [...held, ...more]);
    uma_reclaim();
    uma_check();
  });
});

test('reference counts lie in the slab and start at 0', () => {
  up();
  const z = uma_zcreate('clusters', 2048, { flags: UMA_ZONE_REFCNT });
  const small = uma_zcreate('small', 64, { flags: UMA_ZONE_REFCNT });
  const none = uma_zcreate('none', 64);
  const held = [...take(z, 9), ...take(small, 100)];
  const words = held.map(uma_find_refcnt_word);
  assert.equal(new Set(words).size, held.length);
  for (const item of held) assert.equal(uma_find_refcnt(item), 0);
  for (const [i, w] of words.entries()) atomic_add(w, i + 1);
  for (const [i, item] of held.entries()) assert.equal(uma_find_refcnt(item), i + 1);
  for (const item of held) mem.I32.fill(-1, item, item + (held.indexOf(item) < 9 ? 512 : 16));
  for (const [i, item] of held.entries()) assert.equal(uma_find_refcnt(item), i + 1);
  uma_check();
  const [item] = take(none, 1);
  panics(() => uma_find_refcnt(item), /keeps no counts/);
});

describe('limits', () => {
  beforeEach(() => void up());
  test('are rounded up to whole slabs, and hold', () => {
    const draw = dice(3);
    for (const size of [48, 512, 1024, 2048, 5000]) {
      const z = uma_zcreate(`l${size}`, size);
      for (const n of [1, ipers(z), ipers(z) + 1, 1 + draw(100)]) {
        const max = uma_zone_set_max(z, n);
        assert.equal(max, Math.ceil(n / ipers(z)) * ipers(z));
        assert.equal(uma_zone_get_max(z), max);
        const held = take(z, max + 5);
        assert.equal(held.length, max);
        assert.ok(uma_zone_exhausted(z));
        assert.ok(zone_present(z).fails >= 5);
        give(z, held);
        uma_reclaim();
        assert.ok(!uma_zone_exhausted(z));
      }
      assert.equal(uma_zone_set_max(z, 0), 0);
      assert.equal(take(z, 200).length, 200);
    }
    uma_check();
  });
  test('alone at the limit, WAITOK fails at once instead of sleeping for ever', () => {
    const z = uma_zcreate('alone', 512);
    const held = take(z, uma_zone_set_max(z, 20));
    assert.equal(uma_zalloc(z, M_WAITOK), 0);
    uma_zfree(z, held.pop() ?? 0);
    const item = uma_zalloc(z, M_WAITOK);
    assert.notEqual(item, 0);
    assert.equal(uma_zalloc(z, M_NOWAIT), 0);
    assert.equal(uma_zone_get_cur(z), uma_zone_get_max(z));
  });
  test('preallocation fills the free list and ignores the limit', () => {
    const z = uma_zcreate('pre', 512);
    const max = uma_zone_set_max(z, 8);
    const n = ipers(z) * 3 + 1;
    assert.equal(uma_prealloc(z, n), 0);
    assert.equal(uma_keg.free[uma_zone.keg[z]], ipers(z) * 4);
    uma_check();
    assert.ok(take(z, 100).length === ipers(z) * 4 && ipers(z) * 4 > max);
    assert.equal(uma_prealloc(z, 1_000_000), ENOMEM);
    uma_check();
  });
  test('a reserve is for those who ask for it', () => {
    const z = uma_zcreate('reserve', 512);
    const n = ipers(z);
    uma_zone_set_max(z, n * 3);
    uma_zone_reserve(z, n);
    const held = take(z, n * 3);
    assert.equal(held.length, n * 2);
    assert.equal(uma_keg.free[uma_zone.keg[z]], n);
    const last = take(z, n + 3, M_NOWAIT | M_USE_RESERVE);
    assert.equal(last.length, n);
    give(z, [...held, ...last]);
    uma_reclaim();
    assert.equal(uma_keg.free[uma_zone.keg[z]], n, 'reclaim leaves it');
    assert.equal(uma_zdestroy(z), 0);
    assert.deepEqual(printed, [], 'but the end of the zone does not');
    uma_check();
  });
  test('init and zinit are fixed once there are pages', () => {
    const z = uma_zcreate('fixed', 48);
    uma_zone_set_init(z, 0, 0);
    uma_zone_set_zinit(z, 0, 0);
    take(z, 1);
    panics(() => uma_zone_set_init(z, 0, 0), /uma_zone_set_init on non-empty keg/);
  });
});

describe('the end of a zone', () => {
  beforeEach(() => void up());
  test('items in use are reported, their pages lost, and counted as such', () => {
    const z = uma_zcreate('leaky', 1000);
    const held = take(z, ipers(z) * 2 + 1);
    for (const item of held.slice(2)) uma_zfree(z, item);
    const pages = new Set(held.slice(0, 2).map((item) => item >>> 10)).size;
    assert.equal(uma_zdestroy(z), 0);
    assert.deepEqual(printed, [
      `Freed UMA keg (leaky) was not empty (2 items).  Lost ${pages} pages of memory.`,
    ]);
    uma_check();
    assert.ok(!names().includes('leaky'));
    give(uma_zcreate('next', 1000), []);
    uma_reclaim();
    uma_check();
  });
  test('pages of a NOFREE zone stay until then', () => {
    uma_reclaim();
    const free = uma_free_or_records();
    const z = uma_zcreate('nofree', 1000, { flags: UMA_ZONE_NOFREE });
    give(z, take(z, 30));
    uma_reclaim();
    assert.ok(uma_keg.pages[uma_zone.keg[z]] > 0);
    assert.equal(uma_zdestroy(z), 0);
    assert.deepEqual(printed, []);
    uma_reclaim();
    assert.equal(uma_free_or_records(), free);
  });
  test('a hundred zones come and go in random order', () => {
    const draw = dice(11);
    uma_reclaim();
    const free = uma_free_or_records();
    const before = names();
    const zones: zone_t[] = [];
    for (let i = 0; i < 200; i++) {
      if (zones.length < 20 || draw(2) === 0) {
        const from = zones.length > 0 && draw(2) === 0 ? zones[draw(zones.length)] : 0;
        zones.push(
          from === 0
            ? uma_zcreate(`z${i}`, 16 + draw(3000))
            : uma_zsecond_create(`z${i}`, 0, 0, 0, 0, from as zone_t),
        );
        const z = zones.at(-1) as zone_t;
        give(z, take(z, draw(20)));
      } else assert.equal(uma_zdestroy(zones.splice(draw(zones.length), 1)[0]), 0);
    }
    uma_check();
    for (const z of zones) assert.equal(uma_zdestroy(z), 0);
    assert.deepEqual(names(), before);
    assert.deepEqual(printed, []);
    uma_reclaim();
    assert.equal(uma_free_or_records(), free);
  });
});
