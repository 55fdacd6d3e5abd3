/*
 * memguard (stress): a million seeded operations of two threads on guarded blocks beside their
 * models, while memguard is switched on and off a thousand times; then, for the rest of the time,
 * the same with threads that are killed, and alone with all checks.
 */
import { SEED } from '../machine/seed.test.lib.ts';
import { run } from './memguard.fuzz.ts';
import { guard_down } from './memguard.test.lib.ts';
import { guard_churn } from './memguard_smp.test.lib.ts';

/** Machines, one after the other, and what each of two threads does on one: a million in all. */
const MACHINES = 20;
const STEPS = 25_000;
/** How often memguard is switched on and off again on each: a thousand times in all. */
const SWITCHES = 50;
const KILLS = 8;
const seconds = Number(process.env.KMEM_STRESS_SECONDS ?? 60);
const end = performance.now() + seconds * 1000;
let [n, traps, guarded] = [0, 0, 0];
for (let i = 0; i < MACHINES; i++) {
  const how = { seed: SEED + 100 * i, steps: STEPS, switches: SWITCHES, kills: 0 };
  const did = await guard_churn({ ...how, INVARIANTS: i % 4 === 0 });
  guard_down();
  n += did.n;
  traps += did.traps;
  guarded += did.guarded;
}
console.log(`${n} operations of two threads, ${guarded} blocks guarded, ${traps} traps`);
let [rounds, killed] = [0, 0];
for (; rounds === 0 || performance.now() < end; rounds++) {
  const how = { seed: SEED + rounds, steps: 0, switches: 50, kills: KILLS };
  killed += (await guard_churn({ ...how, INVARIANTS: rounds % 2 === 0 })).n;
  guard_down();
  run(SEED + rounds, 20_000);
}
console.log(`${n + killed} operations of two threads, ${rounds} rounds with kills, seed ${SEED}`);
