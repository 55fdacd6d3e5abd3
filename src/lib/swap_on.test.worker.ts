/*
 * The worker of swap_on.test.ts: makes files swap areas when it is told to, each as soon as it can,
 * and says what became of it.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach, type Handle, KmemError } from './index.ts';

const { handle, words } = workerData as { handle: Handle; words: Int32Array };
const machine = attach(handle);
parentPort?.on('message', (path: string | null) => {
  if (path === null) {
    machine.detach();
    parentPort?.close();
    return;
  }
  Atomics.add(words, 0, 1);
  while (Atomics.load(words, 0) < 2); // both at once
  let said = 'on';
  try {
    machine.swapon(path);
  } catch (e) {
    said = e instanceof KmemError ? e.code : String(e);
  }
  parentPort?.postMessage(said);
});
