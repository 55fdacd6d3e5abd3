/*
 * A million steps of the game of redzones on two threads, redzones switched a thousand times;
 * and the same with threads that are killed.  KMEM_STRESS_STEPS sets another number.
 */
import { SEED } from '../machine/seed.test.lib.ts';
import { play_redzones } from './redzone_smp.test.lib.ts';

const steps = Number(process.env.KMEM_STRESS_STEPS ?? 1_000_000);
let [pokes, reports, blocks] = [0, 0, 0];
for (const INVARIANTS of [false, true]) {
  for (const killed of [0, 5]) {
    const game = { seed: SEED, INVARIANTS, workers: 2, killed, steps, switches: 1000 };
    const tally = await play_redzones(game);
    console.log(JSON.stringify({ INVARIANTS, killed, ...tally }));
    pokes += tally.pokes;
    reports += tally.reports;
    blocks += tally.blocks;
  }
}
console.log(`4 x ${steps} steps: ${blocks} blocks, ${pokes} pokes, ${reports} reports`);
