/*
 * region_file (stress): a million seeded operations on a file beside a plain array, or as many as
 * the argument says, in parts with seeds of their own, with room for the file and without.
 */
import { SEED } from '../sys/machine/seed.test.lib.ts';
import { run } from './region_file.fuzz.ts';

const STEPS = Number(process.argv[2] ?? 1_000_000);
const PART = 20_000;
for (let done = 0, n = 0; done < STEPS; done += PART, n++) {
  run(SEED + n, Math.min(PART, STEPS - done), n % 2 === 0 ? {} : { memory: '2M', pages: 600 });
  if (n % 5 === 4) console.log(`${done + PART} operations, seed ${SEED + n}`);
}
console.log(`${STEPS} operations from seed ${SEED} on`);
