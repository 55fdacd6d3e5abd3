/*
 * seed.test.lib: what random tests draw from.
 *
 * Everything random in a test comes from one seed.  It is drawn anew for each
 * run, so that many runs see many cases, and a file that fails prints it when it
 * ends; KMEM_SEED plays that run again:
 *
 *      KMEM_SEED=259802118 node --test src/replay/garbage.test.ts
 *
 * Several generators of one test take SEED, SEED + 1, and so on.  What a test
 * asserts must hold for every seed: what holds for most is a failure to come.
 */
import { isMainThread } from 'node:worker_threads';

/** Seeds are drawn below this: nine digits, whole, exact in every generator here. */
const SEED_LIMIT = 1e9;

function seed_of_run(): number {
  const given = process.env.KMEM_SEED;
  if (given === undefined || given === '') return Math.floor(Math.random() * SEED_LIMIT);
  const seed = Number(given);
  if (Number.isInteger(seed) && seed >= 0 && seed < 2 ** 31) return seed;
  throw new Error(`KMEM_SEED=${given}: a whole number from 0 to ${2 ** 31 - 1}`);
}

/** The seed of this run: KMEM_SEED, or drawn. */
export const SEED = seed_of_run();
if (isMainThread) {
  process.on('exit', (code) => {
    if (code !== 0) console.error(`random tests of this file drew from KMEM_SEED=${SEED}`);
  });
}

/** A small generator of numbers from 0 up to n: the same seed gives the same numbers. */
export function dice(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = Math.imul(state ^ (state >>> 15), state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return Math.floor((((z ^ (z >>> 14)) >>> 0) / 2 ** 32) * n);
  };
}
/** Threads are tried in every way there is: by smp.stress.ts (KMEM_SMP=all). */
export const ALL_WAYS = process.env.KMEM_SMP === 'all';
const draw_way = dice(SEED);
/** Of the ways to play a test on threads those that this run takes: with checks or without, say. */
export function ways<T>(all: readonly T[], most = 1): T[] {
  return ALL_WAYS ? [...all] : some_of(all, most, draw_way);
}
/** So many of these, in the order they have, drawn; all, where there are no more. */
export function some_of<T>(all: readonly T[], most: number, draw = dice(SEED)): T[] {
  const some = [...all];
  while (some.length > most) some.splice(draw(some.length), 1);
  return some;
}
