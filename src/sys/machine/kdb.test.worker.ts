/*
 * A worker of kdb.test.ts.
 *
 *      calls     allocates and frees, and counts, until word 2 is 1
 *      computes  counts without calling the kernel, until then
 *      tries     wants to hold all others, says what came of it, and leaves
 *      holds     holds all others and, when they have stopped, is gone
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach } from '../../lib/index.ts';
import { host_sleep } from './host.ts';
import { kdb_hold, kdb_running } from './kdb.ts';

const machine = attach(workerData);
const { job, word, id } = workerData as { job: string; word: number; id: number };
const words: Uint32Array = machine.u32;
const type = machine.type('kdb test');
const over = (): boolean => Atomics.load(words, word + 2) === 1;
if (job === 'tries') {
  parentPort?.postMessage(kdb_hold(1000));
  machine.detach();
  process.exit();
}
if (job === 'holds') {
  kdb_hold(3_600_000);
  // All others, the thread of the test too: when they have stopped, this one is gone.
  while (kdb_running().length > 0) host_sleep(1);
  process.exit();
}
let said = '';
parentPort?.postMessage('up');
try {
  while (!over()) {
    if (job === 'calls') {
      // More than a bucket has: so every round comes by a slow path.
      const blocks = Array.from({ length: 400 }, () => type.alloc(64));
      for (const b of blocks) type.free(b);
    }
    Atomics.add(words, word + id, 1);
  }
  machine.detach();
} catch (e) {
  said = `${(e as Error).name}: ${(e as Error).message}`;
}
parentPort?.postMessage(said);
parentPort?.close();
