/*
 * A thread of life.test.ts: it hears that memory is short.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach } from './index.ts';

const { heard } = workerData as { heard: Int32Array };
const m = attach(workerData);
m.onLowMemory(() => Atomics.add(heard, 1, 1));
parentPort?.on('message', () => {});
parentPort?.postMessage('up');
