/*
 * Two workers hammer a shared heap for KMEM_STRESS_SECONDS (default 60), in
 * machines of ample and of little memory by turns, while the streams are read.
 */
import { SEED } from '../../src/sys/machine/seed.test.lib.ts';
import { hammer } from './hammer.lib.ts';

const seconds = Number(process.env.KMEM_STRESS_SECONDS ?? 60);
const first = Number(process.argv[2] ?? SEED);
let said = '';
for (let round = 0; round < 4; round++) {
  const options = round < 2 ? { INVARIANTS: true, WITNESS: true } : {};
  const memory = round % 2 === 0 ? '16M' : '1M';
  const few = round % 2 === 0 ? {} : { pages_left: 20 + 10 * round };
  said = await hammer((seconds * 1000) / 4, first + round, { memory, options, ...few });
  console.log(`${memory} ${Object.keys(options).join(' ')} seed ${first + round}: ${said}`);
}
console.log(`the last: ${said}`);
process.exit(0);
