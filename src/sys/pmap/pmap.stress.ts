/*
 * pmap (stress): a million seeded operations beside the models, on single pages and on superpages,
 * then three threads on the same pages, one of them killed now and then, for the rest of the time.
 */
import { boot, shutdown } from '../boot/whole.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { play } from './pmap.fuzz.ts';
import { together } from './pmap_smp.test.lib.ts';
import { run as play_supers } from './pmap_super.fuzz.ts';

const STEPS = 1_000_000;
const KILLS = 8;
const seconds = Number(process.env.KMEM_STRESS_SECONDS ?? 60);
const end = performance.now() + seconds * 1000;
boot({ cpus: 2, fresh: true, memory: '4M', options: { INVARIANTS: true } });
play(STEPS, SEED, STEPS / 100);
shutdown();
play_supers(SEED, STEPS);
let [done, rounds] = [0, 0];
for (; rounds === 0 || performance.now() < end; rounds++) {
  const superpage = rounds % 4 > 1;
  const INVARIANTS = rounds % 2 === 0;
  done += await together({ kills: KILLS, seed: SEED + rounds, INVARIANTS, superpage });
  shutdown();
}
console.log(
  `${2 * STEPS} operations alone, ${done} by three threads, ${rounds * KILLS} killed, seed ${SEED}`,
);
