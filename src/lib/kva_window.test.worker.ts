/* The worker of kva_window.test.ts: opens a window onto a block, uses it, and stays. */
import { parentPort, workerData } from 'node:worker_threads';
import { attach, type Handle } from './index.ts';

const { kmem, at, n } = workerData as { kmem: Handle; at: number; n: number };
const machine = attach(kmem);
const w = machine.window(at, n, { write: true });
w.u32[0] = 41;
w.u32[w.u32.length - 1] = machine.load32(at) + 1;
parentPort?.postMessage('open');
setInterval(() => w.u32[1]++, 1);
