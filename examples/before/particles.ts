/*
 * particles, by hand: columns in a SharedArrayBuffer, a barrier made of Atomics.
 *
 * This is what one writes today, and the loops are as fast as they get.  What
 * has to be done by hand: the layout, its alignment, its capacity for ever, and
 * the barrier's two words.  Every particle lives as long as the buffer.
 */
import { once } from 'node:events';
import { isMainThread, Worker, workerData } from 'node:worker_threads';

const COUNT = 100_000;
const STEPS = Number(process.argv[2] ?? 50);
const WORKERS = 2;
const BYTES = 28 * COUNT + 8;

/* x and y, 8 bytes each; vx, vy and bounces, 4 each; then how many arrived, and the step. */
function columns(memory: SharedArrayBuffer) {
  return {
    x: new Float64Array(memory, 0, COUNT),
    y: new Float64Array(memory, 8 * COUNT, COUNT),
    vx: new Float32Array(memory, 16 * COUNT, COUNT),
    vy: new Float32Array(memory, 20 * COUNT, COUNT),
    bounces: new Int32Array(memory, 24 * COUNT, COUNT),
    meeting: new Int32Array(memory, 28 * COUNT, 2),
  };
}
/** Waits until all workers have done step `step`. */
function barrier(meeting: Int32Array, step: number): void {
  if (Atomics.add(meeting, 0, 1) + 1 === (step + 1) * WORKERS) {
    Atomics.store(meeting, 1, step + 1);
    Atomics.notify(meeting, 1);
    return;
  }
  while (Atomics.load(meeting, 1) === step) Atomics.wait(meeting, 1, step);
}
function move(memory: SharedArrayBuffer, from: number, to: number): void {
  const { x, y, vx, vy, bounces, meeting } = columns(memory);
  for (let step = 0; step < STEPS; step++) {
    for (let p = from; p < to; p++) {
      x[p] += vx[p];
      y[p] += vy[p];
      if (x[p] < 0 || x[p] > 1000) {
        vx[p] = -vx[p];
        bounces[p]++;
      }
    }
    barrier(meeting, step);
  }
}

if (isMainThread) {
  const memory = new SharedArrayBuffer(BYTES);
  const { x, y, vx, vy, bounces } = columns(memory);
  for (let p = 0; p < COUNT; p++) {
    x[p] = (p + 1) % 1000;
    vx[p] = ((p + 1) % 7) - 3;
    vy[p] = 0.5;
  }
  const argv = process.argv.slice(2);
  const workers = Array.from({ length: WORKERS }, (_, n) => {
    return new Worker(import.meta.filename, { argv, workerData: { memory, n } });
  });
  await Promise.all(workers.map((worker) => once(worker, 'exit')));
  const sum = (column: Int32Array | Float64Array): number => {
    let total = 0;
    for (let p = 0; p < COUNT; p++) total += column[p];
    return total;
  };
  console.log(`${COUNT} particles, ${STEPS} steps by ${WORKERS} workers`);
  console.log(`bounces ${sum(bounces)}, mean height ${sum(y) / COUNT}`);
} else {
  const { memory, n } = workerData;
  const half = COUNT / WORKERS;
  move(memory, n * half, (n + 1) * half);
}
