/* A thread that adds to a sum, step by step, and takes all of it away again. */
import { workerData } from 'node:worker_threads';
import { PeakSum } from './peak_sum.ts';

const { buffer, at, steps, more } = workerData;
const sum = new PeakSum(buffer, at);
for (let i = 0; i < steps; i++) sum.add(1);
sum.add(more);
sum.add(-more);
for (let i = 0; i < steps; i++) sum.add(-1);
