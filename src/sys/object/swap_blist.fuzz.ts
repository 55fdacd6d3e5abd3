/*
 * swap_blist (fuzz): the same seeded operations on the maps of a swap area and on an array.
 *
 * Runs of 1 to 16 slots are taken; ranges of any length are freed where all of it is taken, and
 * filled whatever is in them.  Now and then a section is taken back, as after a death.  Sizes go
 * from less than one word of bits to four levels.
 */
import { boot } from '../boot/whole.ts';
import { thr } from '../machine/cpu.ts';
import { M, machine, ROOT_SWAP } from '../machine/header.ts';
import { hw, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { elem } from '../machine/struct.ts';
import { type blist_t, SWAP_CLUSTER, swap_blist, swap_root, type swap_root_t } from '../h/swap.ts';
import { VM_ALLOC_SYSTEM } from '../h/vm_page.ts';
import { vm_page_alloc_run, vm_page_free_run, vm_page_wire } from '../page/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { undo_begin, undo_end, undo_play } from '../sync/undo.ts';
import {
  blist_alloc,
  blist_avail,
  blist_check,
  blist_fill,
  blist_free,
  blist_init,
  blist_is_free,
  blist_next,
  blist_words,
} from './swap_blist.ts';
import { BlistModel } from './swap_blist.model.ts';

/** Between two comparisons of everything. */
const WALK = 500;
const KEPT = 2;

/** The record whose lock guards all maps. */
const the_root = (): swap_root_t => machine.roots[elem(M, ROOT_SWAP)] as swap_root_t;

/** Maps of so many slots in pages of their own. The lock is held by who plays. */
class Maps {
  readonly b: blist_t;
  readonly #m: number;
  readonly #pages: number;

  constructor(slots: number) {
    this.#pages = Math.ceil((swap_blist.sizeof + blist_words(slots)) / PAGE_WORDS);
    this.#m = vm_page_alloc_run(this.#pages, VM_ALLOC_SYSTEM);
    if (this.#m === 0) throw new Error(`no memory for maps of ${slots} slots`);
    vm_page_wire(this.#m, this.#pages);
    const at = page_word(this.#m);
    hw.fill(at, -1, this.#pages * PAGE_WORDS);
    this.b = at as blist_t;
    checked_fresh(this.b, swap_blist.sizeof);
    blist_init(this.b, this.b + swap_blist.sizeof, slots, KEPT);
    checked_publish(this.b);
  }
  /** One step as a section of undo; or as one that is taken back. */
  section<T>(step: () => T, undone = false): T {
    undo_begin(swap_root.lock, the_root());
    const result = step();
    if (undone) undo_play(thr.pc, the_root() + swap_root.lock);
    undo_end();
    return result;
  }
  /** A range, word of bits by word of bits. Returns the sum of what the steps say. */
  range(s: number, n: number, step: (s: number, n: number) => number): number {
    const end = s + n;
    let sum = 0;
    for (; s < end; s = blist_next(s)) {
      const at = s;
      sum += this.section(() => step(at, end - at));
    }
    return sum;
  }
  end(): void {
    vm_page_free_run(this.#m, this.#pages);
  }
}
function same(what: string, got: number, expected: number): void {
  if (got !== expected) throw new Error(`${what}: ${got}, the model says ${expected}`);
}
function agree(maps: Maps, model: BlistModel): void {
  const { b } = maps;
  blist_check(b);
  same('slots free', blist_avail(b), model.avail());
  for (const [s, free] of model.free.entries()) {
    same(`slot ${s} is free`, Number(blist_is_free(b, s)), Number(free));
  }
}
function operate(maps: Maps, model: BlistModel, draw: (n: number) => number): void {
  const { b } = maps;
  const slots = model.free.length;
  const s = KEPT + draw(slots - KEPT);
  const n = Math.min(slots - s, 1 + draw(draw(4) === 0 ? 200 : SWAP_CLUSTER));
  const what = draw(20);
  if (what < 9) {
    const run = 1 + draw(SWAP_CLUSTER);
    same(
      `${run} slots`,
      maps.section(() => blist_alloc(b, run)),
      model.alloc(run),
    );
  } else if (what < 16) {
    const first = model.free.indexOf(false, s);
    if (first < 0) return;
    let end = first;
    while (end < first + n && model.free[end] === false) end++;
    same(
      'freed',
      maps.range(first, end - first, (at, some) => blist_free(b, at, some)),
      end - first,
    );
    model.release(first, end - first);
  } else if (what < 18) {
    same(
      'filled',
      maps.range(s, n, (at, some) => blist_fill(b, at, some)),
      model.fill(s, n),
    );
  } else if (what < 19) maps.section(() => blist_alloc(b, 1 + draw(SWAP_CLUSTER)), true);
  else if (model.free[s]) maps.section(() => blist_fill(b, s, n), true);
  else maps.section(() => blist_free(b, s, 1), true);
}
/** Plays on the machine that is up, on maps of so many slots. */
export function play(seed: number, steps: number, slots: number): void {
  const draw = dice(seed);
  const model = new BlistModel(slots, KEPT);
  mtx_lock(swap_root.lock, the_root());
  const maps = new Maps(slots);
  for (let step = 0; step < steps; step++) {
    try {
      operate(maps, model, draw);
      if (step % WALK === 0) agree(maps, model);
    } catch (e) {
      throw new Error(`seed ${seed}, ${slots} slots, step ${step}`, { cause: e });
    }
  }
  agree(maps, model);
  mtx_unlock(swap_root.lock, the_root());
  maps.end();
}
/** Sizes around the edges of words and levels. */
export const SIZES = [3, 31, 32, 33, 500, 1023, 1024, 1025, 5000, 33_000];
/** Plays `steps` operations; throws where maps and model differ. */
export function run(seed: number, steps: number): void {
  const booted = boot({
    memory: '16M',
    cpus: 1,
    fresh: true,
    options: { INVARIANTS: true },
    seed,
  });
  try {
    for (const [i, slots] of SIZES.entries())
      play(seed + i, Math.ceil(steps / SIZES.length), slots);
  } finally {
    booted.shutdown();
  }
}
