/*
 * The worker of swap_load.slow.test.ts and space_limits.test.ts: writes and reads pages of regions
 * of its own, each of which says which one it is and when it was written, until it is told to stop.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach, type Handle, KmemError } from './index.ts';
import { dice } from '../sys/machine/seed.test.lib.ts';

interface Task {
  readonly handle: Handle;
  readonly name: string;
  /** Of the pages. Default 'pages'. */
  readonly region?: string;
  readonly pages: number;
  readonly seed: number;
  /** Whether to stop; steps that all have done. */
  readonly words: Int32Array;
}
const PAGE = 4096;
/** Of how many steps the others hear. */
const BATCH = 64;

const { handle, name, region = 'pages', pages, seed, words } = workerData as Task;
const machine = attach(handle);
const space = machine.space(name);
const m = space.mmap({ name: region, length: pages * PAGE });
const draw = dice(seed);
const times = new Uint32Array(pages);
function wrong(i: number): string {
  for (const at of [0, 1000, PAGE - 4]) {
    const expected = times[i] === 0 ? 0 : times[i] * 65_536 + i;
    const got = m.getU32(i * PAGE + at);
    if (got !== expected) return `page ${i}, byte ${at}: ${got} instead of ${expected}`;
  }
  return '';
}
/** Page i is wanted while all memory is in work elsewhere: the program waits and asks again. */
function patient(i: number): void {
  for (;;) {
    try {
      m.setU32(i * PAGE + PAGE - 8, 1);
      return;
    } catch (e) {
      if (!(e instanceof KmemError) || e.code !== 'ENOMEM') throw e;
      Atomics.wait(words, 0, 0, 1);
    }
  }
}
let fault = '';
let n = 0;
for (; Atomics.load(words, 0) === 0 && fault === ''; n++) {
  const i = draw(pages);
  patient(i);
  fault = wrong(i);
  if (draw(2) === 0) {
    times[i]++;
    for (const at of [0, 1000, PAGE - 4]) m.setU32(i * PAGE + at, times[i] * 65_536 + i);
  }
  if (n % BATCH === 0) Atomics.add(words, 1, BATCH);
}
for (let i = 0; i < pages && fault === ''; i++) {
  patient(i);
  fault = wrong(i);
}
space.dispose();
machine.detach();
parentPort?.postMessage({ fault, n });
