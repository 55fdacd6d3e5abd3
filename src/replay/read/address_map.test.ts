/*
 * Shown: the address map answers as a Map does, over random scripts on addresses that collide on
 * purpose, and its invariants hold; ids are dense and come back only after a long while.
 * By what means: a seeded script on both; the map's own check(); the seed is in the failure.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AddressMap, BlockIds, NO_BLOCK, REUSE_DISTANCE } from './address_map.ts';
import { random_from, SEED } from './traces.test.common.ts';

test('the address map behaves as a Map', () => {
  for (let round = 0; round < 6; round++) {
    const seed = SEED + round;
    const random = random_from(seed);
    const map = new AddressMap();
    const model = new Map<string, number>();
    const places = [64, 500, 4000, 20000][round % 4];
    for (let step = 0; step < 40000; step++) {
      /* Arenas that begin at the same offsets, halves with the top bit set, odd addresses. */
      const lo = (random(4) * 0x40000000 + random(places) * [16, 16, 1, 4096][round % 4]) | 0;
      const hi = [0, 0x7fff, 0x80000000, 0xffffffff][random(4)] | 0;
      const key = `${lo},${hi}`;
      const expected = model.get(key) ?? NO_BLOCK;
      const what = random(3);
      if (what === 0) {
        assert.equal(map.put(lo, hi, step), expected, `put, seed ${seed} step ${step}`);
        model.set(key, step);
      } else if (what === 1) {
        assert.equal(map.remove(lo, hi), expected, `remove, seed ${seed} step ${step}`);
        model.delete(key);
      } else {
        assert.equal(map.get(lo, hi), expected, `get, seed ${seed} step ${step}`);
      }
      if (step % 5000 === 0) map.check();
    }
    map.check();
    const ids: number[] = [];
    map.for_each((id) => ids.push(id));
    const by_number = (a: number, b: number): number => a - b;
    assert.deepEqual(ids.sort(by_number), [...model.values()].sort(by_number), `seed ${seed}`);
  }
});

test('the table follows the live blocks, not the events', () => {
  const map = new AddressMap();
  for (let i = 0; i < 1_000_000; i++) {
    map.put(i * 16, 0x55d8, i);
    if (i >= 1000) assert.equal(map.remove((i - 1000) * 16, 0x55d8), i - 1000);
  }
  map.check();
  assert.equal(map.count, 1000);
  assert.ok(map.entries <= 4096, `${map.entries} entries for 1000 live blocks`);
});

test('ids are dense and come back late', () => {
  const random = random_from(SEED);
  const ids = new BlockIds();
  const live: number[] = [];
  const taken_at = new Map<number, number>();
  let most_live = 0;
  for (let takes = 0; takes < 300_000; ) {
    if (live.length === 0 || random(100) < 51) {
      const id = ids.take();
      const before = taken_at.get(id);
      const apart = before === undefined ? Number.POSITIVE_INFINITY : takes - before;
      assert.ok(apart > REUSE_DISTANCE, `id ${id} again after ${apart}, seed ${SEED}`);
      taken_at.set(id, takes++);
      live.push(id);
      most_live = Math.max(most_live, live.length);
    } else {
      const at = random(live.length);
      ids.give(live[at]);
      live[at] = live[live.length - 1];
      live.pop();
    }
    if (live.length > 40_000) for (const id of live.splice(0)) ids.give(id);
  }
  assert.equal(new Set(live).size, live.length);
  assert.ok(ids.made <= most_live + REUSE_DISTANCE + 1, `${ids.made} ids for ${most_live}`);
});
