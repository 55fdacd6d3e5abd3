/*
 * Workers killed at 200 random moments, 50 in each of four machines: INVARIANTS on
 * and off, ample and little memory; again until KMEM_STRESS_SECONDS (default 60)
 * are over.  Prints the numbers of each.
 */
import { SEED } from '../../src/sys/machine/seed.test.lib.ts';
import { kill_round } from './kill.lib.ts';

const KILLS = Number(process.env.KMEM_KILLS ?? 50);
const seconds = Number(process.env.KMEM_STRESS_SECONDS ?? 60);
const first = Number(process.argv[2] ?? SEED);
const end = performance.now() + seconds * 1000;
let round = 0;
let said = '';
do {
  const memory = round % 4 < 2 ? '8M' : '1M';
  const INVARIANTS = round % 2 === 1;
  const few = memory === '1M' ? { pages_left: 30 + (round % 3) * 20 } : {};
  said = await kill_round(KILLS, first + round, { memory, options: { INVARIANTS }, ...few });
  console.log(`${memory} INVARIANTS ${INVARIANTS ? 'on ' : 'off'} seed ${first + round}: ${said}`);
  round++;
} while (round < 4 || performance.now() < end);
console.log(`${round * KILLS} kills; the last: ${said}`);
process.exit(0);
