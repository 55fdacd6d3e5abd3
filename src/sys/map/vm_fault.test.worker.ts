/*
 * The worker of vm_fault_smp.slow.test.ts.
 *
 *   churn    spaces of its own range, forked from one another and from what was there, beside a
 *            model
 *   writer   one space that others use, too: x counts up in one page of it, by `two` forever
 *            copied to y in another one; its own pages hold what it wrote
 *
 * With `paging` they send pages of all out to the swap area, by lot.
 */
import { attach, detach } from '../boot/whole.ts';
import { atomic_add, atomic_load } from '../machine/atomic.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import { NULL } from '../machine/struct.ts';
import { done_word, map_at, map_drop, stop_word } from './vm_map.test.lib.ts';
import { pages_away } from './vm_swap.test.lib.ts';
import {
  type Cell,
  type Model,
  space_map,
  space_protect,
  space_read,
  space_unmap,
  space_write,
  spaces_step,
  WINDOW,
} from './vm_space.test.lib.ts';
import { RW_ALL, X_PAGE, Y_PAGE } from './vm_fault_litmus.test.lib.ts';

const BATCH = 16;
/** Operations between two times that pages are sent out. */
const AWAY_EACH = 5;
/** Sends pages out now and then, if the job says so. */
function away(paging: boolean, n: number, draw: (n: number) => number): void {
  if (paging && n % AWAY_EACH === 0) pages_away(draw, { written: 0, failed: 0, freed: 0 });
}

interface Churn {
  seed: number;
  first: number;
  count: number;
  paging: boolean;
}
function churn({ seed, first, count, paging }: Churn): number {
  const draw = dice(seed);
  const model: Model = new Map();
  // What is there was made by main, or by one who died: it is given up, for half of it is unknown.
  for (let s = first; s < first + count; s++) if (map_at(s) !== NULL) map_drop(s);
  let n = 0;
  for (; atomic_load(stop_word()) === 0; n++) {
    spaces_step(draw, model, first, count);
    away(paging, n, draw);
    if (n % BATCH === 0) atomic_add(done_word(), BATCH);
  }
  for (const s of model.keys()) map_drop(s);
  return n;
}

interface Part {
  seed: number;
  /** Which of the pages are its own: i % of === part. */
  part: number;
  of: number;
  paging: boolean;
}
/** Pages of its own in the space that all use; the first counts in x, the second copies to y. */
function writer({ seed, part, of, paging }: Part): number {
  const draw = dice(seed);
  const own = Array.from({ length: WINDOW }, (_, i) => i).filter(
    (i) => i % of === part && i !== X_PAGE && i !== Y_PAGE,
  );
  const holds = new Map<number, Cell>();
  for (const i of own) {
    space_map(0, i, 1);
    holds.set(i, { value: 0, prot: RW_ALL });
  }
  let n = 0;
  for (; atomic_load(stop_word()) === 0; n++) {
    if (part === 0) count(X_PAGE, n + 1);
    else if (part === 1) count(Y_PAGE, read(X_PAGE));
    own_page(draw, own[draw(own.length)], holds);
    away(paging, n, draw);
    if (n % BATCH === 0) atomic_add(done_word(), BATCH);
  }
  return n;
}
function read(i: number): number {
  const got = space_read(0, i);
  if (got === undefined) return read(i); // the other one is between its two words
  if (got < 0) throw new Error(`page ${i}: errno ${-got}`);
  return got;
}
function count(i: number, value: number): void {
  const error = space_write(0, i, value);
  if (error !== 0) throw new Error(`page ${i}: errno ${error}`);
}
function own_page(draw: (n: number) => number, i: number, holds: Map<number, Cell>): void {
  const cell = holds.get(i) ?? null;
  const what = draw(100);
  if (what < 40) {
    const value = 1 + draw(2 ** 30);
    const error = space_write(0, i, value);
    const may = cell !== null && cell.prot === RW_ALL;
    if ((error === 0) !== may) throw new Error(`own page ${i}: write says ${error}`);
    if (may) holds.set(i, { value, prot: RW_ALL });
  } else if (what < 80) {
    const got = space_read(0, i);
    const want = cell === null ? undefined : cell.value;
    if (want === undefined ? (got ?? 0) >= 0 : got !== want) {
      throw new Error(`own page ${i} holds ${got}, not ${want}`);
    }
  } else if (what < 90) {
    if (space_map(0, i, 1) === 0) holds.set(i, { value: 0, prot: RW_ALL });
  } else if (what < 95) {
    if (space_unmap(0, i, 1) === 0) holds.set(i, null);
  } else if (cell !== null && space_protect(0, i, 1, 1) === 0) holds.set(i, { ...cell, prot: 1 });
}

run_job<Churn & Part>((job, args) => ({ n: job === 'churn' ? churn(args) : writer(args) }), {
  join: attach,
  leave: () => void detach(),
});
