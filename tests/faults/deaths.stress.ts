/*
 * A thousand threads killed over all calls of the façade, joining and leaving too:
 * INVARIANTS on and off, with and without the page daemon, one memory domain and two;
 * then a hundred thousand orderly attaches.  KMEM_KILLS and KMEM_ATTACHES set other
 * numbers.  Prints what each machine lost, got back and did; a panic ends it.
 */
import { Worker } from 'node:worker_threads';
import { boot } from '../../src/lib/index.ts';
import { counter_get } from '../../src/sys/machine/counter.ts';
import { cpus_attached, v_reaps } from '../../src/sys/machine/death.ts';
import { SEED } from '../../src/sys/machine/seed.test.lib.ts';
import { deaths } from './deaths.lib.ts';

const KILLS = Number(process.env.KMEM_KILLS ?? 1000);
const ATTACHES = Number(process.env.KMEM_ATTACHES ?? 100_000);
const first = Number(process.argv[2] ?? SEED);
let lost = 0;
let pages = 0;
for (let round = 0; round < 8; round++) {
  const options = {
    options: { INVARIANTS: (round & 1) !== 0 },
    pagedaemon: (round & 2) !== 0,
    domains: (round & 4) !== 0 ? 2 : 1,
  };
  const d = await deaths(Math.ceil(KILLS / 8), first + round, options);
  lost += d.lost;
  pages += d.pages;
  console.log(JSON.stringify({ seed: first + round, ...options, ...d }));
}
const m = boot({ memory: '8M', cpus: 4, fresh: true });
const owner = new Int32Array(new SharedArrayBuffer(4 * 80));
const rounds = Math.ceil(ATTACHES / 3);
const ends = await Promise.all(
  [1, 2, 3].map((_) => {
    const workerData = { job: 'churn', handle: m.handle, owner, rounds };
    const w = m.adopt(new Worker(new URL('./slots.worker.ts', import.meta.url), { workerData }));
    return new Promise<{ twice: number; full: number }>((resolve, reject) => {
      w.once('message', resolve);
      w.once('error', reject);
    });
  }),
);
const twice = ends.reduce((sum, e) => sum + e.twice, 0);
m.check();
const good = twice === 0 && counter_get(v_reaps) === 0;
console.log(
  `${KILLS} kills, ${lost} items lost, ${pages} pages recovered, 0 panics; ` +
    `${rounds * 3} attaches, ` +
    `${twice} slots with two threads, ${counter_get(v_reaps)} settled, ${cpus_attached()} attached`,
);
process.exit(good ? 0 : 1);
