/*
 * Two and three workers on shared zones, with a reclaimer and a reader beside
 * them, for KMEM_STRESS_SECONDS (default 60) in turns: memory ample, scarce
 * and far too small, with and without the checks.  Afterwards every item and
 * page must be accounted for.
 */
import { SEED } from '../machine/seed.test.lib.ts';
import { play_smp } from './uma_smp.test.lib.ts';

const seconds = Number(process.env.KMEM_STRESS_SECONDS ?? 60);
const end = performance.now() + seconds * 1000;
const turn = Math.min(10_000, (seconds * 1000) / 6);
let allocs = 0;
let seed = Number(process.argv[2] ?? SEED);
while (performance.now() < end) {
  for (const [workers, memory, INVARIANTS] of [
    [2, '64M', true],
    [2, '1M', true],
    [3, '1M', true],
    [3, '4M', false],
  ] as const) {
    if (performance.now() >= end) break;
    const options = { INVARIANTS, WITNESS: INVARIANTS };
    const totals = await play_smp({ workers, memory, ms: turn, seed: ++seed, most: 300, options });
    allocs += totals.allocs;
  }
}
console.log(`${(allocs / 1e6).toFixed(1)} M items`);
