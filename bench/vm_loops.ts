/*
 * vm_loops: what typed loads and windows of an address space are measured by, and held against.
 *
 * The same loops run over a region (us_vm.ts) and over a plain typed array (raw_vm.ts): one
 * operation is one number that is loaded and added.  An answer is the shortest of many calls,
 * each over WINDOW_BYTES.
 */
import { now_ns } from './child.ts';

/** Bytes that loads go over: fewer pages than a CPU has tags for. */
export const BYTES = 2 ** 20;
/** Bytes of a window, and of a call of a loop. */
export const WINDOW_BYTES = 65_536;
/** Numbers in a call of a loop. */
const NUMBERS = WINDOW_BYTES / 4;
/** Places of numbers in random order, the same in all processes. */
export const PLACES = new Int32Array(NUMBERS * 4);
for (let i = 0, x = 1; i < PLACES.length; i++) {
  x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
  PLACES[i] = ((x >>> 8) % (BYTES / 4)) * 4;
}
/** Sums the numbers of a typed array. */
export function total(numbers: Uint32Array): number {
  let sum = 0;
  const n = numbers.length;
  for (let i = 0; i < n; i++) sum = (sum + numbers[i]) | 0;
  return sum;
}

let sink = 0;
/** Calls before the first one that counts: the compiler is done with a loop by then. */
const WARM_CALLS = 6000;
const warm = new Set<string>();
/** Nanoseconds for `ops` operations by the shortest call of `loop` (from: in numbers). */
export function shortest(name: string, ops: number, loop: (from: number) => number): number {
  const more = warm.has(name) ? 0 : WARM_CALLS * NUMBERS;
  warm.add(name);
  let best = Number.POSITIVE_INFINITY;
  for (let left = ops + more, from = 0; left > 0; left -= NUMBERS) {
    const start = now_ns();
    sink ^= loop(from);
    best = Math.min(best, now_ns() - start);
    from = (from + NUMBERS) % PLACES.length;
  }
  return (best / NUMBERS) * ops;
}
/** Something that depends on all that was summed. */
export function summed(): number {
  return sink;
}
const others: ((from: number) => number)[] = [
  (n) => n + 1,
  (n) => n + 2,
  (n) => n + 3,
  (n) => n + 4,
  (n) => n + 5,
  (n) => n + 6,
];
// Many have been called here before the first that counts: V8 compiles each loop by itself then,
// and not once more as a part of this function, where it takes six times as long.
for (const [i, loop] of others.entries()) shortest(`${i}`, NUMBERS, loop);
