/*
 * Shows that workers that vanish while they allocate wedge nobody and cost at
 * most an item: terminate() at random moments, with INVARIANTS and without, in
 * ample and in little memory.  The survivor goes on after each kill (a watchdog
 * says so); at the end the walkers are clean, and every item and page is
 * accounted for.  The numbers are printed.
 */
import { afterEach, test } from 'node:test';
import { host_sees_threads } from '../../src/sys/machine/host.ts';
import { ALL_WAYS, SEED } from '../../src/sys/machine/seed.test.lib.ts';
import { end_workers, kill_round } from './kill.lib.ts';

afterEach(end_workers);
const skip = !host_sees_threads();
const KILLS = ALL_WAYS ? 10 : 5;
const cases: [string, string, boolean][] = [
  ['INVARIANTS off', '8M', false],
  ['INVARIANTS on', '8M', true],
  ['INVARIANTS on, 1 MiB', '1M', true],
];
for (const [name, memory, INVARIANTS] of cases) {
  test(`killed at ${KILLS} random moments, ${name}`, { skip }, async (t) => {
    const few = memory === '1M' ? { pages_left: 40 } : {};
    const line = await kill_round(KILLS, SEED, { memory, options: { INVARIANTS }, ...few });
    t.diagnostic(`seed ${SEED}: ${line}`);
  });
}
