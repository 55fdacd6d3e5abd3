/*
 * vm_map (stress): a million seeded operations beside the model, then two threads on one map, one
 * of them killed now and then, for the rest of the time.
 */
import { shutdown } from '../boot/whole.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { run } from './vm_map.fuzz.ts';
import { together } from './vm_map_smp.test.lib.ts';

const STEPS = 1_000_000;
const seconds = Number(process.env.KMEM_STRESS_SECONDS ?? 60);
const end = performance.now() + seconds * 1000;
run(SEED, STEPS);
let done = 0;
let kills = 0;
for (let round = 1; round === 1 || performance.now() < end; round++) {
  done += await together({
    kills: 8,
    seed: SEED + round,
    INVARIANTS: round % 2 === 0,
    work: 20_000,
  });
  kills += 8;
  shutdown();
}
console.log(
  `${STEPS} operations alone, ${done} by two threads, ${kills} of them killed, seed ${SEED}`,
);
