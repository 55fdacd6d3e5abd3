/*
 * vm_radix (fuzz): the same seeded stores, alone and in rows, replacements, removals and looks on
 * an index and on a Map, near one another and far apart, up to the largest key.
 *
 * Now and then the walker proves the tree and that it leads to what the Map has, in order, with
 * no node more than that needs.
 */
import { boot } from '../boot/whole.ts';
import { hw, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { i32, lock_words, type Ptr, struct } from '../machine/struct.ts';
import type { zone_t } from '../h/uma.ts';
import { VM_ALLOC_SYSTEM } from '../h/vm_page.ts';
import { RADIX_BITS, vm_radix, type vm_radix_t } from '../h/vm_radix.ts';
import { vm_page_alloc, vm_page_wire } from '../page/vm_page.ts';
import { MTX_WORDS, mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_VM_OBJECT } from '../sync/lock_order.ts';
import { undo_begin, undo_end } from '../sync/undo.ts';
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
  radix_store_run,
  radix_trim,
  radix_zone_create,
} from './vm_radix.ts';

/** Between two proofs by the walker, and between two searches for the next key. */
const WALK = 1000;
const NEXT = 50;

type holder_t = Ptr<'test_radix_holder'>;
/* Locks: (c) constant */
const holder = struct<holder_t>('test_radix_holder')({
  lock: lock_words(MTX_WORDS, 'VM object', 'the tree'),
  spare: i32('c', 'nothing: the tree begins behind'),
});

/** A tree behind a lock of its own, in a page of its own. Its lock is held by who plays. */
export class Tree {
  readonly h: holder_t;
  readonly t: vm_radix_t;
  readonly z: zone_t;

  constructor() {
    const m = vm_page_alloc(-1, VM_ALLOC_SYSTEM);
    vm_page_wire(m, 1);
    hw.fill(page_word(m), 0, PAGE_WORDS);
    this.h = page_word(m) as holder_t;
    this.t = (this.h + 32) as number as vm_radix_t;
    this.z = radix_zone_create('TEST NODE');
    mtx_init(holder.lock, this.h, LC_VM_OBJECT);
    checked_fresh(this.t, vm_radix.sizeof);
    radix_init(this.t, this.h + holder.lock);
    checked_publish(this.t);
  }
  lock(): void {
    mtx_lock(holder.lock, this.h);
  }
  unlock(): void {
    mtx_unlock(holder.lock, this.h);
  }
  /** Opens a section under the tree's lock. */
  begin(): void {
    undo_begin(holder.lock, this.h);
  }
  /** False: no memory, and nothing has changed. */
  store(key: number, value: number): boolean {
    if (!radix_reserve(this.t, key, this.z)) return false;
    this.begin();
    radix_store(this.t, key, value);
    undo_end();
    return true;
  }
  replace(key: number, value: number): void {
    this.begin();
    radix_replace(this.t, key, value);
    undo_end();
  }
  reserve(key: number): boolean {
    return radix_reserve(this.t, key, this.z);
  }
  trim(key: number): void {
    radix_trim(this.t, key, this.z);
  }
  store_run(key: number, n: number, value: number): boolean {
    this.begin();
    const done = radix_store_run(this.t, key, n, value);
    undo_end();
    return done;
  }
  clear(key: number): number {
    this.begin();
    const value = radix_clear(this.t, key);
    undo_end();
    radix_trim(this.t, key, this.z);
    return value;
  }
  /** Proves the tree against the model; so many nodes of the zone are somebody else's. */
  agree(model: ReadonlyMap<number, number>, others = 0): void {
    let before = -1;
    let n = 0;
    const nodes = radix_check(this.t, true, (key, value) => {
      if (key <= before) throw new Error(`${key} comes after ${before}`);
      same(`the value at ${key}`, value, model.get(key));
      before = key;
      n++;
    });
    same('values', n, model.size);
    same('nodes', zone_present(this.z).used, nodes + others);
  }
}
function same(what: string, got: number, expected: number | undefined): void {
  if (got !== expected) throw new Error(`${what}: ${got}, the model says ${expected}`);
}
/** Keys of several neighbourhoods, up to the largest. */
function keys_from(draw: (n: number) => number): () => number {
  const bases = [0, 60, 4090, 2 ** 18 - 3, 2 ** 24 + 5, 2 ** 30 - 1, 2 ** 31 - 70];
  return () => bases[draw(bases.length)] + draw(70);
}

/** Plays on the machine that is up; at the end the tree is empty. */
export function play(seed: number, steps: number): void {
  const tree = new Tree();
  const draw = dice(seed);
  const key_of = keys_from(draw);
  const model = new Map<number, number>();
  const step = (i: number): void => {
    const key = key_of();
    const value = 1 + draw(2 ** 20);
    const had = model.get(key) ?? 0;
    same(`${key}`, radix_lookup(tree.t, key), had);
    const what = draw(5);
    if (what < 2 && had === 0) {
      if (tree.store(key, value)) model.set(key, value);
    } else if (what === 2 && had !== 0) {
      tree.replace(key, value);
      model.set(key, value);
    } else if (what === 3) {
      same(`what was at ${key}`, tree.clear(key), had);
      model.delete(key);
    } else if (what === 4 && value % 4 === 0) {
      const n = 1 + draw(20);
      const olds = Array.from({ length: n }, (_, k) => model.get(key + k) ?? 0);
      const there = olds.every((_, k) => key + k < 2 ** 31 && tree.reserve(key + k));
      const done = there && tree.store_run(key, n, value);
      const in_one = key >>> RADIX_BITS === (key + n - 1) >>> RADIX_BITS;
      const alike = olds.every((v, k) => v - olds[0] === k * ((olds[1] ?? 0) - olds[0]));
      const all = olds.every((v) => v === 0) || olds.every((v) => v !== 0);
      // A tree of one value has no node, and whether it needs one depends on what came before.
      if (done !== (there && in_one && alike && all) && key > 0) {
        throw new Error(`a run of ${n} at ${key} over ${olds}: ${done}`);
      }
      for (let k = 0; done && k < n; k++) model.set(key + k, value + k);
      for (let k = 0; k < n; k++) tree.trim(key + k);
    } else if (i % NEXT === 0) {
      const next = Math.min(...[...model.keys()].filter((k) => k >= key));
      same(`next of ${key}`, radix_next(tree.t, key), Number.isFinite(next) ? next : -1);
    }
    if (i % WALK === 0) tree.agree(model);
  };
  tree.lock();
  try {
    for (let i = 0; i < steps; i++) step(i);
  } catch (e) {
    throw new Error(`seed ${seed}`, { cause: e });
  }
  tree.agree(model);
  for (const [key, value] of model) same(`the end of ${key}`, tree.clear(key), value);
  tree.agree(new Map());
  tree.unlock();
}
/** Plays `steps` operations; throws where the index and its model differ. */
export function run(seed: number, steps: number): void {
  const machine = boot({
    memory: '16M',
    cpus: 1,
    fresh: true,
    options: { INVARIANTS: true },
    seed,
  });
  try {
    play(seed, steps);
  } finally {
    machine.shutdown();
  }
}
