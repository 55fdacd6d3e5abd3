/*
 * paging_js: what a program does that pages by itself: readSync and writeSync.
 *
 *      node paging_js.ts set FILE       into and out of a buffer as large as a resident set
 *      node paging_js.ts hot FILE       the same by way of one buffer, always its beginning
 *
 * The file is in the system's page cache, as is what the kernel reads and writes.
 */
import { openSync, readSync, writeSync } from 'node:fs';
import { type Pattern, serve } from '../child.ts';
import {
  CLUSTER_BATCH,
  CLUSTER_BYTES,
  CLUSTERS,
  LARGE_BYTES,
  look,
  PAGE_BATCH,
  PAGE_BYTES,
  PAGES,
  SET_BYTES,
  SET_PAGES,
  shortest_batch,
} from '../paging_loops.ts';

const [, , kind, file = ''] = process.argv;
if (kind !== 'set' && kind !== 'hot') throw new Error('one of set, hot');
const fd = openSync(file, 'r+');
const bytes = new Uint8Array(new SharedArrayBuffer(kind === 'set' ? SET_BYTES : LARGE_BYTES));
const words = new Int32Array(bytes.buffer);
for (let at = 0; at < bytes.length; at += PAGE_BYTES) bytes[at] = 1;

/** Where in memory byte `at` of the file goes. */
const place = (at: number): number => (kind === 'set' ? at : 0);
let sink = 0;
const clusters = (run: (at: number) => void): Pattern => {
  const pass = { n: CLUSTERS, batch: CLUSTER_BATCH, run: (i: number) => run(i * CLUSTER_BYTES) };
  return (ops) => shortest_batch(ops, pass);
};
function read(at: number): void {
  readSync(fd, bytes, place(at), CLUSTER_BYTES, at);
}
function write(at: number): void {
  writeSync(fd, bytes, place(at), CLUSTER_BYTES, at);
}
function single(i: number): void {
  const at = PAGES[i] * PAGE_BYTES;
  readSync(fd, bytes, place(at), PAGE_BYTES, at);
}
/** Reads some bytes at a time, and looks at each page of them. */
function scan(size: number): Pattern {
  const run = (i: number): void => {
    const at = i * size;
    readSync(fd, bytes, place(at), size, at);
    sink ^= look(words, place(at) / 4, size / PAGE_BYTES);
  };
  const batch = size === LARGE_BYTES ? 1 : CLUSTER_BATCH;
  return (ops) => shortest_batch(ops, { n: SET_BYTES / size, batch, run });
}
await serve(
  {
    'in-runs': clusters(read),
    'in-scattered': clusters(read),
    'in-single': (ops) => shortest_batch(ops, { n: SET_PAGES, batch: PAGE_BATCH, run: single }),
    'out-runs': clusters(write),
    'out-scattered': clusters(write),
    scan: scan(CLUSTER_BYTES),
    'scan-large': scan(LARGE_BYTES),
    'scan-again': scan(CLUSTER_BYTES),
    'scan-large-again': scan(LARGE_BYTES),
  },
  kind,
);
process.exit(sink === 0.5 ? 1 : 0);
