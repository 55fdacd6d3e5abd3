/*
 * vm_space (stress): two threads fault, write, read, map, unmap, protect and fork in one space at
 * once, each byte beside a model, with INVARIANTS and WITNESS, for the whole time; the walkers
 * after every round.
 */
import { shutdown } from '../boot/whole.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { add, NONE, together } from './vm_space_smp.test.lib.ts';

const OPERATIONS = 20_000;
const seconds = Number(process.env.KMEM_STRESS_SECONDS ?? 60);
const end = performance.now() + seconds * 1000;
const all = { ...NONE };
let [rounds, looks, shootdowns, faults] = [0, 0, 0, 0];
for (; rounds === 0 || performance.now() < end; rounds++) {
  const round = await together(SEED + rounds * 2, OPERATIONS);
  shutdown();
  add(all, round);
  looks += round.looks;
  shootdowns += round.shootdowns;
  faults += round.faults;
}
console.log(
  `${all.operations} operations, ${faults} faults, ${all.bytes >> 20} MiB compared, ` +
    `${all.forks} forks (${all.refused} refused), ${shootdowns} shoot-downs, ` +
    `${all.met} meetings, ${looks} lists, ${rounds} rounds, seed ${SEED}`,
);
