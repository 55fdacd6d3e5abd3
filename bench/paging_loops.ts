/*
 * paging_loops: what paging is measured by, and held against.
 *
 * The same work is done by the kernel (us_paging.ts) and by calls of the file system
 * (peers/paging_js.ts): 64 KiB, or one page, come into memory or go out of it.  All the memory that
 * it goes to is as large as what the kernel keeps resident, so that both meet a processor's caches
 * alike; a program that reads into one small buffer again and again has its bytes in them.
 *
 * An answer is the shortest batch of a sample, as of all figures of virtual memory (us_vm.ts).
 */
import { now_ns } from './child.ts';

export const PAGE_BYTES = 4096;
/** Pages of a cluster: what a pager reads or writes at once. */
export const CLUSTER_PAGES = 16;
export const CLUSTER_BYTES = CLUSTER_PAGES * PAGE_BYTES;
/** Bytes of the file, of what is resident, and of a peer's buffer. */
export const SET_BYTES = 32 * 2 ** 20;
export const SET_PAGES = SET_BYTES / PAGE_BYTES;
export const CLUSTERS = SET_PAGES / CLUSTER_PAGES;
/** A large window, and what is read at once instead. */
export const LARGE_BYTES = 2 ** 20;
/** Clusters, and single pages, of a batch. */
export const CLUSTER_BATCH = 16;
export const PAGE_BATCH = 64;

/** Pages in random order, the same in all processes. */
export const PAGES = new Int32Array(SET_PAGES).map((_, i) => i);
for (let i = SET_PAGES - 1, x = 1; i > 0; i--) {
  x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
  const j = (x >>> 8) % (i + 1);
  [PAGES[i], PAGES[j]] = [PAGES[j], PAGES[i]];
}

/** What a pass goes over: `n` operations, some at a time. */
export interface Pass {
  readonly n: number;
  readonly batch: number;
  /** Before each pass, and not timed. */
  readonly ready?: () => void;
  readonly run: (i: number) => void;
  /** Whether a batch that began at operation `i` counts. */
  readonly suits?: (i: number) => boolean;
}
/** Nanoseconds for `ops` operations by the shortest batch of as many passes as that takes. */
export function shortest_batch(ops: number, { n, batch, ready, run, suits }: Pass): number {
  let best = Number.POSITIVE_INFINITY;
  for (let left = ops; left > 0; left -= n) {
    ready?.();
    for (let i = 0; i < n; i += batch) {
      const start = now_ns();
      for (let j = i; j < i + batch; j++) run(j);
      const ns = now_ns() - start;
      if (ns < best && suits?.(i) !== false) best = ns;
    }
  }
  if (best === Number.POSITIVE_INFINITY) throw new Error('no batch had pages of that sort');
  return (best / batch) * ops;
}
/** The first word of each page of some bytes, so that none is left out. */
export function look(words: Int32Array | Uint32Array, first: number, pages: number): number {
  let sum = 0;
  for (let i = 0; i < pages; i++) sum ^= words[first + i * (PAGE_BYTES / 4)];
  return sum;
}
