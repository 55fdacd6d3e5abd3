/*
 * Threads killed while they read, write, upgrade, downgrade, recover, ask for a
 * sysctl and for metrics: KMEM_STRESS_KILLS of them, or as many as fit into
 * KMEM_STRESS_SECONDS (default 60).  No panic, no hang, no half change; with and
 * without INVARIANTS in turn.
 */
import { counter_get } from '../sys/machine/counter.ts';
import { v_reap_locks } from '../sys/machine/death.ts';
import { SEED } from '../sys/machine/seed.test.lib.ts';
import { boot } from './index.ts';
import { killMills } from './locks.test.lib.ts';

const ROUND_KILLS = 500;
const CREW = 4;
const CPUS = 12;
const kills = Number(process.env.KMEM_STRESS_KILLS ?? Number.POSITIVE_INFINITY);
const by_kills = Number.isFinite(kills);
const seconds = by_kills ? 86_400 : Number(process.env.KMEM_STRESS_SECONDS ?? 60);
const end = performance.now() + seconds * 1000;
const seed = Number(process.argv[2] ?? SEED);
let total = 0;
let round = 0;
let said = '';
do {
  const INVARIANTS = round % 2 === 0;
  const machine = boot({ memory: '16M', cpus: CPUS, options: { INVARIANTS } });
  const left = Math.max(0, Math.min(ROUND_KILLS, kills - total) - CREW);
  said = await killMills(machine, { kills: left, crew: CREW, seed: seed + round, end });
  total += Number.parseInt(said, 10);
  const took = counter_get(v_reap_locks);
  console.log(`seed ${seed + round}${INVARIANTS ? '' : ', plain'}: ${said}, ${took} taken over`);
  machine.shutdown();
  round++;
} while (performance.now() < end && total < kills);
console.log(`${total} kills in ${round} rounds: no panic, no hang; the last: ${said}`);
process.exit(0);
