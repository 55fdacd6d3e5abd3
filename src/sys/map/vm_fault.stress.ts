/*
 * vm_fault (stress): a million seeded operations on address spaces beside their models, then two
 * threads that fault, map, protect, unmap and fork at once, some of them killed, for the rest of
 * the time.
 */
import { boot, shutdown } from '../boot/whole.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { maps_make } from './vm_map.test.lib.ts';
import { snapshots, spaces_churn } from './vm_fault_smp.test.lib.ts';
import { spaces_end, spaces_play } from './vm_space.test.lib.ts';

const STEPS = 1_000_000;
const KILLS = 6;
const seconds = Number(process.env.KMEM_STRESS_SECONDS ?? 60);
const end = performance.now() + seconds * 1000;
boot({ cpus: 1, fresh: true, memory: '16M', options: { INVARIANTS: true } });
maps_make();
spaces_play(STEPS, SEED, STEPS / 200);
spaces_end();
shutdown();
let [done, rounds] = [0, 0];
for (; rounds === 0 || performance.now() < end; rounds++) {
  const INVARIANTS = rounds % 2 === 0;
  done += await spaces_churn(KILLS, SEED + rounds, INVARIANTS);
  shutdown();
  done += await snapshots(rounds % 4 < 2 ? 0 : KILLS, SEED + rounds, INVARIANTS);
  shutdown();
}
console.log(`${STEPS} operations alone, ${done} by two threads in ${rounds} rounds, seed ${SEED}`);
