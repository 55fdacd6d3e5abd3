/*
 * Shows: a map says of every page what an array of pages says: by itself and through page tables,
 * in a checked machine, and where memory for entries, objects or pages runs out at any place.
 * By what means: seeded operations beside the model (vm_map.fuzz.ts), the walkers on the way and
 * at the end.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { abandon, type Booted, boot, shutdown } from '../boot/whole.ts';
import { dice, SEED } from '../machine/seed.test.lib.ts';
import { page_failpoint } from '../page/vm_page.ts';
import { uma_check } from '../uma/uma_check.ts';
import { vm_map_lock, vm_map_unlock } from './vm_map.ts';
import { map_failpoint } from './vm_map_entry.ts';
import { MapPlay } from './vm_map.fuzz.ts';
import { tree_rebuild } from './vm_map_tree.ts';

afterEach(() => {
  page_failpoint.refuse = null;
  map_failpoint.refuse = null;
  try {
    uma_check();
    shutdown();
  } catch (e) {
    abandon();
    throw e;
  }
});
function up(options: Parameters<typeof boot>[0] = {}): Booted {
  const all = { INVARIANTS: true, WITNESS: true, FAILPOINTS: true };
  // Without a swap file: what is read and written here by hand does not look there.
  const set = { 'vm.swap_default': 0 };
  return boot({ cpus: 1, fresh: true, memory: '16M', options: all, set, ...options });
}

describe('beside the model', () => {
  function play(steps: number, seed: number, each: number, paged = false): MapPlay {
    const p = MapPlay.begin(seed, paged);
    for (let i = 0; i < steps; i++) {
      p.step();
      if (i % each === 0) p.check();
    }
    return p;
  }
  test('seeded operations: every page of two maps is what was done to it', () => {
    up();
    const p = play(30_000, SEED, 500);
    assert.ok(p.entries() > 0);
    assert.equal(p.short, 0);
    p.end();
  });
  test('the same through page tables', () => {
    up();
    play(20_000, SEED + 7, 500, true).end();
  });
  test('the same in a checked machine', () => {
    up({ checked: true });
    play(400, SEED + 1, 100, true).end();
  });
  test('every Nth entry or object refused: what was not done has changed nothing', () => {
    up();
    const draw = dice(SEED + 2);
    const p = MapPlay.begin(SEED + 2, true);
    for (let i = 0; i < 12_000; i++) {
      let left = draw(4);
      map_failpoint.refuse = () => left-- <= 0;
      p.step();
      map_failpoint.refuse = null;
      if (i % 200 === 0) p.check();
    }
    assert.ok(p.short > 0, `${p.short} refused`);
    p.end();
  });
  test('pages refused at every place: the same', () => {
    up();
    const draw = dice(SEED + 3);
    const p = MapPlay.begin(SEED + 3, true);
    // How often a page is asked for is the seed's: on until one was refused.
    for (let i = 0; i < 6000 || (p.short === 0 && i < 200_000); i++) {
      let left = draw(4);
      page_failpoint.refuse = () => left-- <= 0;
      p.step();
      page_failpoint.refuse = null;
      if (i % 200 === 0) p.check();
    }
    assert.ok(p.short > 0, `${p.short} refused`);
    p.end();
  });
  test('a tree that is made anew from the ring finds the same', () => {
    up();
    const p = play(3000, SEED + 4, 1000);
    for (const { mp } of p.pairs) {
      vm_map_lock(mp);
      tree_rebuild(mp);
      vm_map_unlock(mp);
    }
    p.check();
    for (let i = 0; i < 2000; i++) p.step();
    p.end();
  });
});
