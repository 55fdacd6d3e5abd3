/*
 * A thread that writes every `step`-th block of a store that another writes too, each
 * byte of it with its own number, and says what it saw.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { STORE_WRITE, store_close, store_open, store_open_memory } from './store.ts';
import { store_read, store_sync, store_write } from './store_io.ts';

const { path, memory, me, step, blocks, size, foreign } = workerData;
const st = path ? store_open(path, STORE_WRITE) : store_open_memory(new Uint8Array(memory));
const out = new Uint8Array(size).fill(me + 1);
const into = new Uint8Array(size);
const errors: number[] = [];
for (let b = me; b < blocks; b += step) {
  errors.push(store_write(st, b * size, out));
  if (store_read(st, b * size, into) !== size || !into.every((v) => v === me + 1)) errors.push(-1);
}
errors.push(store_sync(st));
const stranger = store_read(foreign, 0, into);
errors.push(store_close(st));
parentPort?.postMessage({ st, errors: errors.filter((e) => e !== 0), stranger });
