/* space_lock: a thread that locks a region of a space, says so, and waits for its end. */
import { parentPort, workerData } from 'node:worker_threads';
import { attach } from './index.ts';

const machine = attach(workerData);
const m = machine.space('s').region('m');
m.lock();
m.lock(0, 4096);
parentPort?.postMessage('locked');
Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
