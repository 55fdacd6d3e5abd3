/*
 * vm_window (stress): a million seeded operations on windows beside their model, then two threads
 * with windows onto each other's pages, some of them killed, for the rest of the time.
 */
import { shutdown } from '../boot/whole.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { run } from './vm_window.fuzz.ts';
import { windows_churn } from './vm_window_smp.test.lib.ts';

const STEPS = 1_000_000;
const KILLS = 8;
const seconds = Number(process.env.KMEM_STRESS_SECONDS ?? 60);
const end = performance.now() + seconds * 1000;
run(SEED, STEPS);
let [all, rounds] = [0, 0];
for (; rounds === 0 || performance.now() < end; rounds++) {
  const { done } = await windows_churn(rounds % 4 < 2 ? KILLS : 0, SEED + rounds, rounds % 2 === 0);
  all += done;
  shutdown();
}
console.log(`${STEPS} operations alone, ${all} by two threads in ${rounds} rounds, seed ${SEED}`);
