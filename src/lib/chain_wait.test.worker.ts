/*
 * A worker of chain_wait.test: it holds buffers and gives them back when it is told
 * to, or waits for some, blocking or in its event loop.  Nothing but wake-ups ends a
 * wait here: slices are as long as can be.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach, type Chain } from './index.ts';
import { slices } from './wait.ts';

const machine = attach(workerData as Parameters<typeof attach>[0]);
const chains: Chain[] = [];

const jobs: Record<string, (n: number) => unknown> = {
  /** Takes chains of n bytes until there are no more; returns how many it got. */
  take(n) {
    try {
      for (;;) chains.push(machine.chain(new Uint8Array(n)));
    } catch {
      return chains.length;
    }
  },
  /** Gives n chains back, then computes for a while without a call of the kernel. */
  give(n) {
    for (const chain of chains.splice(0, n)) chain.free();
    const end = performance.now() + 150; // longer than a drain waits for an answer
    while (performance.now() < end);
    return chains.length;
  },
  block(n) {
    machine.chain(new Uint8Array(n), { wait: true }).free();
    return n;
  },
  async wait(n) {
    (await machine.chain().appendAsync(new Uint8Array(n))).free();
    return n;
  },
  end: () => machine.detach(),
};

slices.firstMs = slices.mostMs = slices.asyncMs = 2 ** 30;
parentPort?.on('message', async ({ job, n }: { job: string; n: number }) => {
  parentPort?.postMessage(await jobs[job](n));
  if (job === 'end') parentPort?.close();
});
