/*
 * A space is forked for a minute, or for as many seconds as the argument says, while three threads
 * store to all of its pages: each copy shows each thread between two of its stores.
 */
import { once } from 'node:events';
import type { Worker } from 'node:worker_threads';
import { withMachine } from './index.ts';
import { between_stores, REGION, spaces_gone } from './space.test.lib.ts';

const MS = Number(process.argv[2] ?? 60) * 1000;
const FILE = new URL('./space_threads.test.worker.ts', import.meta.url);
const THREADS = 3;
await withMachine({ memory: '32M', cpus: 6 }, async (machine) => {
  const space = machine.space('s');
  space.mmap(REGION);
  const workers: Worker[] = [];
  for (let id = 0; id < THREADS; id++) {
    const worker = machine.worker<Worker>(FILE, { workerData: { job: 'rounds', id } });
    await once(worker, 'message');
    workers.push(worker);
  }
  let forks = 0;
  for (const end = performance.now() + MS; performance.now() < end; forks++) {
    const copy = await space.forkAsync('copy', { wait: 60_000 });
    for (let id = 0; id < THREADS; id++) between_stores(copy.region('m'), id);
    copy.destroy();
  }
  await Promise.all(workers.map((w) => w.terminate()));
  spaces_gone(machine);
  console.log(`${forks} forks, each of one moment`);
});
