/*
 * Shows: an index gives what was stored under each key and nothing else, in order; its
 * nodes go when nothing needs them; without memory for a node a store is refused and
 * nothing has changed.
 * By what means: seeded stores, replacements, removals and looks, near one another and far
 * apart, on a tree and on a Map, and the walker, in a machine with INVARIANTS and WITNESS
 * and in a checked one; memory runs out at every node of every sort of store.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { type Booted, boot } from '../boot/whole.ts';
import { dice, SEED } from '../machine/seed.test.lib.ts';
import { hw, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { i32, lock_words, type Ptr, struct } from '../machine/struct.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import { VM_ALLOC_SYSTEM } from '../h/vm_page.ts';
import { vm_radix, type vm_radix_t } from '../h/vm_radix.ts';
import type { zone_t } from '../h/uma.ts';
import { page_failpoint, vm_page_alloc, vm_page_wire } from '../page/vm_page.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { MTX_WORDS, mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_VM_OBJECT } from '../sync/lock_order.ts';
import { undo_begin, undo_end } from '../sync/undo.ts';
import { uma_zalloc, uma_zfree, uma_zfree_past_caches } from '../uma/uma_core.ts';
import { zone_present } from '../uma/uma_stats.ts';
import {
  radix_check,
  radix_clear,
  radix_init,
  radix_lookup,
  radix_next,
  radix_replace,
  radix_reserve,
  radix_store,
  radix_trim,
  radix_zone_create,
} from './vm_radix.ts';

type holder_t = Ptr<'test_radix_holder'>;
/* Locks: (c) constant */
const holder = struct<holder_t>('test_radix_holder')({
  lock: lock_words(MTX_WORDS, 'VM object', 'the tree'),
  spare: i32('c', 'nothing: the tree begins behind'),
});
let booted: Booted | null = null;
let h = 0 as holder_t;
let t = 0 as vm_radix_t;
let z = 0 as zone_t;

afterEach(() => {
  page_failpoint.refuse = null;
  booted?.shutdown();
  booted = null;
});
function begin(options: Parameters<typeof boot>[0]): void {
  booted = boot({ cpus: 1, fresh: true, ...options });
  const m = vm_page_alloc(-1, VM_ALLOC_SYSTEM);
  vm_page_wire(m, 1);
  hw.fill(page_word(m), 0, PAGE_WORDS);
  h = page_word(m) as holder_t;
  t = (h + 32) as number as vm_radix_t;
  z = radix_zone_create('TEST NODE');
  mtx_init(holder.lock, h, LC_VM_OBJECT);
  checked_fresh(t, vm_radix.sizeof);
  radix_init(t, h + holder.lock);
  checked_publish(t);
}
/** A section under the tree's lock. */
function section<T>(run: () => T): T {
  undo_begin(holder.lock, h);
  const result = run();
  undo_end();
  return result;
}
function store(key: number, value: number): boolean {
  if (!radix_reserve(t, key, z)) return false;
  section(() => radix_store(t, key, value));
  return true;
}
function clear(key: number): number {
  const value = section(() => radix_clear(t, key));
  radix_trim(t, key, z);
  return value;
}
/** Proves the tree against the model; so many nodes are somebody else's. */
function agree(model: ReadonlyMap<number, number>, others = 0): void {
  const seen = new Map<number, number>();
  let before = -1;
  const nodes = radix_check(t, true, (key, value) => {
    assert.ok(key > before, `${key} comes after ${before}`);
    before = key;
    seen.set(key, value);
  });
  assert.deepEqual(
    [...seen.entries()],
    [...model.entries()].sort(([a], [b]) => a - b),
  );
  assert.equal(zone_present(z).used, nodes + others);
}
/** Keys of several neighbourhoods, up to the largest. */
function keys_from(random: (n: number) => number): () => number {
  const bases = [0, 60, 4090, 2 ** 18 - 3, 2 ** 24 + 5, 2 ** 30 - 1, 2 ** 31 - 70];
  return () => bases[random(bases.length)] + random(70);
}
function play(steps: number, seed: number): void {
  const random = dice(seed);
  const key_of = keys_from(random);
  const model = new Map<number, number>();
  const keys = (): number[] => [...model.keys()].sort((a, b) => a - b);
  mtx_lock(holder.lock, h);
  for (let i = 0; i < steps; i++) {
    const key = key_of();
    const value = 1 + random(2 ** 20);
    const had = model.get(key) ?? 0;
    assert.equal(radix_lookup(t, key), had, `${key}`);
    const what = random(5);
    if (what < 2 && had === 0) {
      assert.ok(store(key, value));
      model.set(key, value);
    } else if (what === 2 && had !== 0) {
      section(() => radix_replace(t, key, value));
      model.set(key, value);
    } else if (what === 3) {
      assert.equal(clear(key), had);
      model.delete(key);
    } else if (i % 50 === 0) {
      assert.equal(radix_next(t, key), keys().find((k) => k >= key) ?? -1, `next of ${key}`);
    }
    if (i % 1000 === 0) agree(model);
  }
  agree(model);
  for (const key of keys()) assert.equal(clear(key), model.get(key));
  agree(new Map());
  mtx_unlock(holder.lock, h);
}

test('a tree and a map, the same seeded operations', () => {
  begin({ memory: '16M', options: { INVARIANTS: true, WITNESS: true } });
  play(100_000, SEED);
  assert.equal(zone_present(z).used, 0);
});
test('the same in a checked machine', () => {
  begin({ memory: '16M', checked: true });
  play(300, SEED + 1);
});
test('two values at one key, a value at a key without nodes: panics that say so', () => {
  begin({ memory: '16M' });
  mtx_lock(holder.lock, h);
  assert.ok(store(7, 70));
  undo_begin(holder.lock, h);
  assert.throws(() => radix_store(t, 7, 71), /offset already allocated/);
});
test('out of memory at each node of a store: refused, and nothing has changed', () => {
  begin({ memory: '16M', options: { FAILPOINTS: true, INVARIANTS: true } });
  mtx_lock(holder.lock, h);
  const model = new Map<number, number>();
  const held: number[] = [];
  /** From here on there are just `n` nodes to be had. */
  const leave = (n: number): void => {
    page_failpoint.refuse = held.length > n ? () => true : null;
    for (let node = take(); node !== 0; node = take()) {
      held.push(node);
      page_failpoint.refuse = () => true;
    }
    for (let i = 0; i < n; i++) uma_zfree_past_caches(z, held.pop() as number);
  };
  const take = (): number => uma_zalloc(z, M_NOWAIT);
  let most = 0;
  for (const key of [3, 64, 4096, 2 ** 31 - 1, 2 ** 20, 0]) {
    let n = 0;
    for (leave(0); !store(key, key ^ 5 || 1); leave(++n)) {
      assert.equal(radix_lookup(t, key), 0);
      agree(model, held.length);
    }
    model.set(key, key ^ 5 || 1);
    agree(model, held.length);
    most = Math.max(most, n);
  }
  assert.ok(most >= 5, 'a store far away needs a node for each level');
  for (const key of model.keys()) assert.equal(clear(key), key ^ 5 || 1);
  agree(new Map(), held.length);
  for (const node of held) uma_zfree(z, node);
  assert.equal(zone_present(z).used, 0);
  mtx_unlock(holder.lock, h);
});
