/*
 * Shown: additions of several threads are all in the sum, and its peak is no less than what any
 * of them came to, and no more than all of them together could.
 * By what means: two threads that add and take away at once.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { PEAK_SUM_BYTES, PeakSum } from './peak_sum.ts';

const STEPS = 20_000;
const MORE = 7;

test('the sum, and the most that it was', async () => {
  const buffer = new SharedArrayBuffer(8 + PEAK_SUM_BYTES);
  const sum = new PeakSum(buffer, 8);
  sum.add(5);
  sum.add(-2);
  assert.equal(sum.most(), 5);
  const threads = [0, 1].map(
    () =>
      new Promise((resolve, reject) => {
        const workerData = { buffer, at: 8, steps: STEPS, more: MORE };
        const worker = new Worker(new URL('./peak_sum.test.worker.ts', import.meta.url), {
          workerData,
        });
        worker.once('exit', resolve).once('error', reject);
      }),
  );
  await Promise.all(threads);
  const most = sum.most();
  assert.ok(most >= 3 + STEPS + MORE && most <= 3 + 2 * (STEPS + MORE), `${most}`);
  const before = new Int32Array(buffer, 8)[0];
  assert.equal(before, 3);
  sum.add(most - 3 + 1);
  assert.equal(sum.most(), most + 1);
});
