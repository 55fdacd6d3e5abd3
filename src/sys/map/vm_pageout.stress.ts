/*
 * vm_pageout (stress): two threads use four times as many pages as there is memory for, each page
 * beside a model, for the whole time: with a page daemon or none, with further pager threads, under
 * a limit, with and without INVARIANTS, and with threads killed; the walkers after every round.
 */
import { shutdown } from '../boot/whole.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { pressure } from './vm_pageout_smp.test.lib.ts';

const seconds = Number(process.env.KMEM_STRESS_SECONDS ?? 60);
const end = performance.now() + seconds * 1000;
const all = { operations: 0, refused: 0, pageins: 0, pageouts: 0, kills: 0 };
let rounds = 0;
for (; rounds === 0 || performance.now() < end; rounds++) {
  const done = await pressure({
    seed: SEED + rounds * 100,
    operations: 4000,
    daemon: rounds % 3 !== 0,
    pagers: rounds % 4 === 1 ? 2 : 0,
    INVARIANTS: rounds % 2 === 0,
    kills: rounds % 5 === 0 ? 0 : 6,
    set: rounds % 7 === 0 ? { 'vm.v_resident_max': 150 } : {},
  });
  shutdown();
  for (const key of Object.keys(all) as (keyof typeof all)[]) all[key] += done[key];
}
console.log(
  `${all.operations} operations, ${all.pageins} pages in, ${all.pageouts} out, ` +
    `${all.kills} kills, ${all.refused} refused, ${rounds} rounds, seed ${SEED}`,
);
