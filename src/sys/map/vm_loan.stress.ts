/*
 * vm_loan (stress): a million seeded operations on loans beside their model, some more with pages
 * that go to a swap area, then two threads that lend each other's pages and store to them, some of
 * them killed, for the rest of the time.
 */
import { shutdown } from '../boot/whole.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { run } from './vm_loan.fuzz.ts';
import { loans_churn } from './vm_loan_smp.test.lib.ts';

const STEPS = 1_000_000;
const SWAP_STEPS = 100_000;
const KILLS = 8;
const seconds = Number(process.env.KMEM_STRESS_SECONDS ?? 60);
const end = performance.now() + seconds * 1000;
run(SEED, STEPS, { INVARIANTS: false });
run(SEED + 1, SWAP_STEPS, { INVARIANTS: false, swap: 600 });
let [all, rounds] = [0, 0];
for (; rounds === 0 || performance.now() < end; rounds++) {
  const { done } = await loans_churn(rounds % 4 < 2 ? KILLS : 0, SEED + rounds, rounds % 2 === 0);
  all += done;
  shutdown();
}
console.log(`${STEPS} operations alone, ${all} by two threads in ${rounds} rounds, seed ${SEED}`);
