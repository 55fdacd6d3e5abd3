/*
 * A thread of pagedaemon.test.ts: it makes a space, so that threads that page out are started by
 * it, and end with it.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach } from './index.ts';

attach(workerData).space('of the worker');
parentPort?.on('message', () => {});
parentPort?.postMessage('up');
