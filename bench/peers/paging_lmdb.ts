/*
 * paging_lmdb: pages of a database: the package lmdb, a page of 4 KiB under each number.
 *
 *      node paging_lmdb.ts MODULE FOLDER
 *
 * `getBinaryFast` is its fastest call: the bytes come in a buffer that the next call uses again.
 */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { serve } from '../child.ts';
import { PAGE_BATCH, PAGE_BYTES, PAGES, SET_PAGES, shortest_batch } from '../paging_loops.ts';

/** What is used of the package. */
interface Lmdb {
  open(options: object): {
    transactionSync(run: () => void): void;
    putSync(key: number, value: Uint8Array): void;
    getBinaryFast(key: number): Uint8Array;
  };
}
const [, , module, folder = ''] = process.argv;
const { open } = (await import(pathToFileURL(module).href)) as Lmdb;
const path = join(folder, `lmdb-${process.pid}`);
const options = {
  path,
  encoding: 'binary',
  keyEncoding: 'uint32',
  noSync: true,
  compression: false,
};
const db = open({ ...options, mapSize: 256 * 2 ** 20 });
const value = Buffer.alloc(PAGE_BYTES, 7);
db.transactionSync(() => {
  for (let i = 0; i < SET_PAGES; i++) {
    value.writeUInt32LE(i, 0);
    db.putSync(i, value);
  }
});
let sink = 0;
function get(i: number): void {
  sink ^= db.getBinaryFast(PAGES[i])[0];
}
for (let i = 0; i < SET_PAGES; i++) {
  const got = db.getBinaryFast(i);
  if (got[0] + got[1] * 256 !== i || got[PAGE_BYTES - 1] !== 7)
    throw new Error(`lmdb: page ${i} holds something else`);
}
const resident = (ops: number): number =>
  shortest_batch(ops, { n: SET_PAGES, batch: PAGE_BATCH, run: get });
await serve({ resident, 'resident-word': resident }, 'lmdb');
process.exit(sink === 0.5 ? 1 : 0);
