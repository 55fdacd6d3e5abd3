/*
 * Shows how items lie in slabs: the published table of sizes, and for every
 * size and alignment that no item overlaps another, the header or the end of
 * the slab, that each is aligned, that the header moves off the page exactly
 * when the waste rule says so, and that staggered items start on lines spread
 * over the cache.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import fc from 'fast-check';
import { mem } from '../machine/memory.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import {
  UMA_ALIGN_CACHE,
  UMA_MAX_WASTE,
  UMA_ZONE_CACHESPREAD,
  UMA_ZONE_OFFPAGE,
  UMA_ZONE_REFCNT,
  uma_keg,
  uma_slab,
  uma_zone,
  type zone_t,
} from '../h/uma.ts';
import { bucket_max_for } from './uma_bucket.ts';
import { uma_check } from './uma_check.ts';
import { uma_zalloc, uma_zfree } from './uma_core.ts';
import { BUCKET_SIZES } from './uma_int.ts';
import { slab_header_words, vtoslab } from './uma_keg.ts';
import { uma_zcreate, uma_zdestroy, uma_zone_rsize } from './uma_zone.ts';
import { down, panics, up } from './uma.test.lib.ts';

afterEach(down);

function layout(z: zone_t): { rsize: number; ipers: number; ppera: number; off: boolean } {
  const k = uma_zone.keg[z];
  return {
    rsize: uma_keg.rsize[k],
    ipers: uma_keg.ipers[k],
    ppera: uma_keg.ppera[k],
    off: (uma_keg.flags[k] & UMA_ZONE_OFFPAGE) !== 0,
  };
}
const create = (size: number, align = 7, flags = 0): zone_t =>
  uma_zcreate('layout', size, { align, flags });

test('the table: sizes, items of a slab, place of the header', () => {
  up({ options: { INVARIANTS: false } });
  const table: [number, number, number, number, number, number, boolean][] = [
    // size, align, flags -> rsize, ipers, ppera, off page.  Headers: 32 bytes and a bit an item.
    [16, 7, 0, 16, 252, 1, false],
    [32, 7, 0, 32, 126, 1, false],
    [64, 7, 0, 64, 63, 1, false],
    [128, 7, 0, 128, 31, 1, false],
    [256, 7, 0, 256, 15, 1, false],
    [512, 7, 0, 512, 8, 1, true],
    [1024, 7, 0, 1024, 4, 1, true],
    [2048, 7, 0, 2048, 2, 1, true],
    [4096, 7, 0, 4096, 1, 1, true],
    [256, 255, 0, 256, 15, 1, false],
    [2048, 7, UMA_ZONE_REFCNT, 2048, 2, 1, true],
    [9216, 7, 0, 9216, 1, 3, true],
    [16384, 7, 0, 16384, 1, 4, true],
    [256, 63, UMA_ZONE_CACHESPREAD, 320, 64, 5, true],
    [2048, 63, UMA_ZONE_CACHESPREAD, 2112, 62, 32, true],
    [1, 0, 0, 16, 252, 1, false],
    [20, UMA_ALIGN_CACHE, 0, 64, 63, 1, false],
  ].map((row) => row as [number, number, number, number, number, number, boolean]);
  for (const [size, align, flags, rsize, ipers, ppera, off] of table) {
    const z = create(size, align, flags);
    assert.deepEqual(layout(z), { rsize, ipers, ppera, off }, `size ${size} align ${align}`);
    assert.equal(uma_zone_rsize(z), rsize);
  }
});

for (const INVARIANTS of [false, true]) {
  test(`any size fits its slab, ${INVARIANTS ? 'with' : 'without'} INVARIANTS`, () => {
    up({ memory: '16M', options: { INVARIANTS } });
    const any = fc.record({
      size: fc.oneof(fc.integer({ min: 1, max: 4200 }), fc.integer({ min: 4000, max: 20000 })),
      align: fc.constantFrom(0, 1, 3, 7, 15, 63, 255),
      flags: fc.constantFrom(0, 0, UMA_ZONE_REFCNT, UMA_ZONE_OFFPAGE),
    });
    fc.assert(
      fc.property(any, ({ size, align, flags }) => fits(size, align, flags)),
      { numRuns: 150, seed: SEED },
    );
  });
}
function fits(size: number, align: number, flags: number): void {
  const z = create(size, align, flags);
  const k = uma_zone.keg[z];
  const { rsize, ipers, ppera, off } = layout(z);
  assert.equal(rsize % Math.max(align + 1, 4), 0);
  assert.ok(rsize >= size && ipers >= 1);
  const refcnt = (flags & UMA_ZONE_REFCNT) !== 0;
  const header = off ? 0 : slab_header_words(ipers, refcnt) * 4;
  assert.ok(ipers * rsize + header <= ppera * 4096, 'items and header fit');
  const in_page = most_in_page(rsize, refcnt);
  const cap = refcnt ? 16 : 256;
  const most = Math.min(Math.floor(4096 / rsize), cap);
  const waste = 4096 - in_page * rsize - slab_header_words(in_page, refcnt) * 4;
  const moves = in_page === 0 || (waste >= UMA_MAX_WASTE && in_page < most);
  assert.equal(off, moves || (flags & UMA_ZONE_OFFPAGE) !== 0, 'the waste rule');
  const held: number[] = [];
  for (let i = 0; i < ipers + 1 && i < 40; i++) held.push(uma_zalloc(z, M_NOWAIT));
  for (const item of held) {
    assert.equal((item * 4) % (align + 1 > 4096 ? 4096 : align + 1), 0, 'aligned');
    const s = vtoslab(item);
    const at = item - uma_slab.data[s];
    assert.ok(at >= 0 && at * 4 + rsize <= ppera * 4096 - header, 'clear of the header');
    mem.I32.fill(item, item, item + (rsize >> 2));
  }
  for (const item of held)
    for (let i = 0; i < rsize >> 2; i++) assert.equal(mem.I32[item + i], item);
  uma_check();
  for (const item of held) uma_zfree(z, item);
  assert.equal(uma_zdestroy(z), 0);
  assert.equal(uma_keg.pages[k], 0);
}
function most_in_page(rsize: number, refcnt: boolean): number {
  let n = 0;
  while ((n + 1) * rsize + slab_header_words(n + 1, refcnt) * 4 <= 4096 && n < 256) n++;
  return n;
}

test('staggered items start on different lines of the cache', () => {
  up();
  for (const size of [256, 2048]) {
    const z = create(size, 63, UMA_ZONE_CACHESPREAD);
    const { rsize, ipers } = layout(z);
    const lines = new Map<number, number>();
    for (let i = 0; i < ipers; i++) {
      const line = ((i * rsize) / 64) % 64;
      lines.set(line, (lines.get(line) ?? 0) + 1);
    }
    // Without staggering all of them would share 4096 / size lines.
    assert.ok(lines.size >= Math.min(ipers, 62), `${size}: ${lines.size} lines`);
    const items = Array.from({ length: ipers }, () => uma_zalloc(z, M_NOWAIT));
    const offsets = items
      .map((item) => (item - uma_slab.data[vtoslab(item)]) * 4)
      .sort((a, b) => a - b);
    assert.deepEqual(
      offsets,
      Array.from({ length: ipers }, (_, i) => i * rsize),
    );
    for (const item of items) uma_zfree(z, item);
    uma_check();
  }
});

test('counts for more items than a header has room for are refused', () => {
  up({ memory: '8M' });
  const flags = UMA_ZONE_CACHESPREAD | UMA_ZONE_REFCNT;
  panics(() => create(256, 63, flags), /UMA slab won't fit/);
});

test('larger items get smaller buckets', () => {
  const sizes = [16, 128, 129, 256, 512, 1024, 2048, 4096, 5000, 8192, 16384, 20000];
  const most = sizes.map(bucket_max_for);
  for (let i = 1; i < most.length; i++) assert.ok(most[i] <= most[i - 1], `${sizes[i]}`);
  assert.equal(most[0], BUCKET_SIZES.at(-1));
  assert.equal(most.at(-1), 1);
  for (const [i, size] of sizes.entries()) {
    if (size > 128) assert.ok(most[i] * size <= 65536, `${size}: ${most[i]} items`);
  }
});
