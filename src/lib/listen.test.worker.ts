/*
 * A worker of the program in listen.test.program: allocates, frees, and passes
 * chains to the other worker, until the root `pause` is 1; then it stands still,
 * with what it holds.  2 ends it.
 */
import { workerData } from 'node:worker_threads';
import { dice } from '../sys/machine/seed.test.lib.ts';
import { type Address, attach, type Chain } from './index.ts';

const HELD_MOST = 40;
const STEPS = 50;
/** Between them, ms: some of the time is for the tools that look at it, and for other tests. */
const BREATH_MS = 5;
const { n, seed } = workerData as { n: number; seed: number };
const machine = attach(workerData as Parameters<typeof attach>[0]);
const next = dice(seed + n);
const type = machine.type('load');
const mine = machine.queue(`to ${n}`, { capacity: 16 });
const theirs = machine.queue(`to ${1 - n}`, { capacity: 16 });
const blocks: Address[] = [];
const chains: Chain[] = [];

function step(): void {
  blocks.push(type.alloc(16 + next(4000)));
  if (blocks.length > next(HELD_MOST)) type.free(blocks.splice(next(blocks.length), 1)[0]);
  chains.push(machine.chain(new Uint8Array(1 + next(6000))));
  if (chains.length > next(HELD_MOST)) {
    const [chain] = chains.splice(next(chains.length), 1);
    const number = chain.release();
    if (!theirs.tryPush(number)) machine.adoptChain(number).free();
  }
  const got = mine.tryPop();
  if (got !== undefined) machine.adoptChain(got).free();
}

step();
machine.roots.set(`still ${n}`, 0); // it has begun
for (;;) {
  const state = machine.roots.get('pause') ?? 0;
  if (state === 2) break;
  if (state === 1) machine.roots.set(`still ${n}`, 1);
  else for (let i = 0; i < STEPS; i++) step();
  await new Promise((resolve) => setTimeout(resolve, BREATH_MS));
  if (state === 0 && machine.roots.get(`still ${n}`) === 1) machine.roots.set(`still ${n}`, 0);
}
for (const at of blocks) type.free(at);
for (const chain of chains) chain.free();
machine.detach();
