/*
 * A million and more random operations on chains against arrays of bytes, then
 * two and three workers that exchange and free shared clusters, in turns:
 * memory ample and far too small, few clusters, with and without the checks,
 * and with workers killed.  KMEM_STRESS_SECONDS (default 60) for the workers;
 * KMEM_STRESS_OPS operations (default a million).
 */
import { run } from './mbuf.fuzz.ts';
import { end_all, type Game, play } from './mbuf_smp.test.lib.ts';

const seconds = Number(process.env.KMEM_STRESS_SECONDS ?? 60);
const ops = Number(process.env.KMEM_STRESS_OPS ?? 1_000_000);
const PER_SEED = 50_000;
let seed = Number(process.env.KMEM_STRESS_SEED ?? Date.now() % 100_000);

let refused = 0;
for (let done = 0; done < ops; done += PER_SEED) refused += run(++seed, PER_SEED);
console.log(`${ops} operations, ${refused} refused, the last seed ${seed}`);

const ms = Math.min(10_000, (seconds * 1000) / 6);
const bare = { INVARIANTS: false, WITNESS: false };
const games: Omit<Game, 'seed' | 'ms'>[] = [
  { workers: 2, memory: '16M', most: 60 },
  { workers: 2, memory: '8M', most: 40, clusters: 48 },
  { workers: 3, memory: '1M', most: 80, options: bare },
  { workers: 3, memory: '16M', most: 40, options: bare },
  { workers: 2, memory: '16M', most: 30, kills: 20, options: { WITNESS: false } },
  { workers: 2, memory: '8M', most: 30, clusters: 48, kills: 20, options: bare },
];
const end = performance.now() + seconds * 1000;
const sums = { made: 0, copies: 0, swaps: 0 };
while (performance.now() < end) {
  for (const game of games) {
    if (performance.now() >= end) break;
    const totals = await play({ ...game, ms, seed: ++seed });
    for (const k of ['made', 'copies', 'swaps'] as const) sums[k] += totals[k];
    await end_all();
  }
}
console.log(`${ops} operations; ${sums.made} chains, ${sums.copies} copies, ${sums.swaps} swaps`);
process.exit(0);
