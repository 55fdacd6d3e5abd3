/*
 * Shows: of two threads that make the same file a swap area one does, and the other is told that it
 * is in use; the file says whose it is, and pages that go there come back.  By what means: two
 * workers that begin together, on one file after another.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { within } from '../sys/machine/workers.test.lib.ts';
import { withMachine } from './index.ts';

const ROUNDS = 12;
const LABEL = 4096;
test('of two threads one makes a file an area', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'kmem-test-'));
  try {
    await withMachine({ memory: '8M', cpus: 3 }, async (machine) => {
      const words = new Int32Array(new SharedArrayBuffer(4));
      const file = new URL('./swap_on.test.worker.ts', import.meta.url);
      const workers = [0, 1].map(() => {
        return machine.worker<Worker>(file, { workerData: { handle: machine.handle, words } });
      });
      for (let round = 0; round < ROUNDS; round++) {
        const path = join(folder, `${round}`);
        machine.swapon(path, { size: '256K' });
        const label = readFileSync(path).subarray(0, LABEL);
        machine.swapoff(path);
        words[0] = 0;
        const said = workers.map((worker) => {
          return new Promise<string>((resolve, reject) => {
            worker.once('message', resolve);
            worker.once('error', reject);
          });
        });
        for (const worker of workers) worker.postMessage(path);
        assert.deepEqual((await within(Promise.all(said), 'both')).sort(), ['EBUSY', 'on']);
        assert.deepEqual(
          machine.swaps().map((area) => area.path),
          [path],
        );
        assert.deepEqual(readFileSync(path).subarray(0, LABEL), label, 'it says whose it is');
        machine.swapoff(path);
        writeFileSync(path, ''); // nobody has it
      }
      const ends = workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve)));
      for (const worker of workers) worker.postMessage(null);
      await within(Promise.all(ends), 'the workers end');
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
