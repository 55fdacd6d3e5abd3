/*
 * The worker of kva.test.ts: it reads the text of a block beyond the memory, and frees the block.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { type Address, attach } from './index.ts';

const { kmem, at } = workerData;
const machine = attach(kmem);
const text = machine.readText((at as number) + 2 * 4096 - 2, 6);
machine.type('far').free(at as Address);
machine.detach();
parentPort?.postMessage(text);
