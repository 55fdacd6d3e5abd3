/*
 * Workers killed at random moments for KMEM_STRESS_SECONDS (default 60), while
 * they move items under a mutex and under an sx lock: the sum stays whole, the
 * others go on, every slot comes back.
 */
import { SEED } from '../machine/seed.test.lib.ts';
import { kill_movers } from './lock_takeover.test.lib.ts';

const KILLS = 50;
const seconds = Number(process.env.KMEM_STRESS_SECONDS ?? 60);
const end = performance.now() + seconds * 1000;
const seed = Number(process.argv[2] ?? SEED);
let round = 0;
let said = '';
do {
  said = await kill_movers(KILLS, round % 2 === 1, seed + round);
  console.log(`${round % 2 === 1 ? 'sx   ' : 'mutex'} seed ${seed + round}: ${said}`);
  round++;
} while (performance.now() < end);
console.log(`${round} rounds of ${KILLS} kills, the last: ${said}`);
process.exit(0);
