/*
 * A thread of core.test.ts.  It loads the entry that it is told, core.ts or index.ts, and
 * answers with what its job returns, or with the text of what it throws.
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { Machine } from './index.ts';

const { attach } = workerData.whole ? await import('./index.ts') : await import('./core.ts');

const ROUNDS = 2000;
/** Takes and gives back chains, and leaves what its CPU caches of them to whoever finds it dead. */
function chains(machine: Machine): string {
  for (let i = 0; i < ROUNDS; i++) {
    const chain = machine.chain('x'.repeat(1 + ((i * 37) % 5000)));
    if (i % 8 === 0) chain.clone().free();
    chain.free();
  }
  return 'made chains';
}
/** Frees what comes through the queue, and counts. */
function blocks(machine: Machine): number {
  const type = machine.type('block');
  const queue = machine.queue('blocks', { of: type, capacity: 16 });
  let n = 0;
  for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
    if (machine.load32(at) !== n++) throw new Error(`block ${n - 1} holds ${machine.load32(at)}`);
    type.free(at);
  }
  return n;
}
const jobs: Record<string, (machine: Machine) => unknown> = {
  cpu: ({ cpu }) => cpu,
  chains,
  blocks,
};
try {
  const machine = attach(workerData.kmem) as Machine;
  parentPort?.postMessage(jobs[workerData.job](machine));
  // Until it is terminated, without a word to the machine.
  if (workerData.job === 'chains') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  machine.detach();
} catch (e) {
  parentPort?.postMessage(String(e));
}
