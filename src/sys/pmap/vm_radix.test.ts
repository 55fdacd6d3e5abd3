/*
 * Shows: an index gives what was stored under each key and nothing else, in order; its
 * nodes go when nothing needs them; without memory for a node a store is refused and
 * nothing has changed.
 * By what means: seeded operations on a tree and on a Map (vm_radix.fuzz.ts), in a machine with
 * INVARIANTS and WITNESS and in a checked one; memory runs out at every node of every sort of
 * store.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { type Booted, boot } from '../boot/whole.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import { page_failpoint } from '../page/vm_page.ts';
import { uma_zalloc, uma_zfree, uma_zfree_past_caches } from '../uma/uma_core.ts';
import { zone_present } from '../uma/uma_stats.ts';
import { play, Tree } from './vm_radix.fuzz.ts';
import { radix_lookup, radix_store } from './vm_radix.ts';

let booted: Booted | null = null;

afterEach(() => {
  page_failpoint.refuse = null;
  booted?.shutdown();
  booted = null;
});
function begin(options: Parameters<typeof boot>[0]): void {
  booted = boot({ cpus: 1, fresh: true, ...options });
}
test('a tree and a map, the same seeded operations', () => {
  begin({ memory: '16M', options: { INVARIANTS: true, WITNESS: true } });
  play(SEED, 100_000);
});
test('the same in a checked machine', () => {
  begin({ memory: '16M', checked: true });
  play(SEED + 1, 300);
});
test('two values at one key, a value at a key without nodes: panics that say so', () => {
  begin({ memory: '16M' });
  const tree = new Tree();
  tree.lock();
  assert.ok(tree.store(7, 70));
  tree.begin();
  assert.throws(() => radix_store(tree.t, 7, 71), /offset already allocated/);
});
test('out of memory at each node of a store: refused, and nothing has changed', () => {
  assert.ok(nodes_refused([3, 64, 4096, 2 ** 31 - 1, 2 ** 20, 0]) >= 5, 'a node for each level');
});
test('the same where a value stands in the root, without a node', () => {
  assert.ok(nodes_refused([0, 2 ** 31 - 1, 3]) >= 5, 'a node for each level');
});
/** Stores at these keys, each with no memory for its nodes at first. The most that one needed. */
function nodes_refused(keys: readonly number[]): number {
  begin({ memory: '16M', options: { FAILPOINTS: true, INVARIANTS: true } });
  const tree = new Tree();
  const { t, z } = tree;
  tree.lock();
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
  for (const key of keys) {
    let n = 0;
    for (leave(0); !tree.store(key, key ^ 5 || 1); leave(++n)) {
      assert.equal(radix_lookup(t, key), 0);
      tree.agree(model, held.length);
    }
    model.set(key, key ^ 5 || 1);
    tree.agree(model, held.length);
    most = Math.max(most, n);
  }
  for (const key of model.keys()) assert.equal(tree.clear(key), key ^ 5 || 1);
  tree.agree(new Map(), held.length);
  for (const node of held) uma_zfree(z, node);
  assert.equal(zone_present(z).used, 0);
  tree.unlock();
  return most;
}
