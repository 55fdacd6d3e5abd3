/*
 * The worker of memguard.test.ts: it reads a guarded block, runs off it, takes one of its own, and
 * frees both.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { type Address, attach, KmemError } from './index.ts';

const { kmem, at } = workerData;
const machine = attach(kmem);
const type = machine.type('sessions');
const text = machine.readText(at as number, 6);
let stray = 'nothing';
try {
  machine.load8((at as number) + 64);
} catch (e) {
  stray = e instanceof KmemError ? e.code : `${e}`;
}
const own = type.alloc(10);
type.free(at as Address);
type.free(own);
machine.detach();
parentPort?.postMessage({ text, stray, own: own >= 2 ** 33 });
