/*
 * vm_page (header): the page array, and what a page can be.
 *
 * One row per page of memory, indexed by the physical page number m; byte
 * address m * 4096, first word m << 10.  Page 0 holds NULL and is never given
 * out, so 0 means "no page".
 *
 * `info` is the authority on what a page is, in one packed word that free(9)
 * reads on its fast path:
 *
 *      bits 4..7   kind: PK_*
 *      bits 0..3   for PK_MALLOC, which is kind 0, the size class
 *
 * A word below 16 is therefore a page of malloc, and is its size class.
 *
 * Everything else about free pages (bitmaps, the run tree, the counts) can be
 * made anew from `info` and `flags`, and is, when a thread dies changing it.
 */
import { col8, col32, columns } from '../machine/struct.ts';

/** Not managed: boot structures, and page 0. */
export const PK_BOOT = 0x10;
/** Free. */
export const PK_FREE = 0x20;
/** Taken off the free queues, not yet given to an owner: in the hand of a CPU. */
export const PK_HAND = 0x30;
/** Part of a slab of some zone. */
export const PK_SLAB = 0x40;
/** Part of a slab of a malloc zone: the word is the size class. */
export const PK_MALLOC = 0;
/** First page of a large malloc block; `run` is its length. */
export const PK_LARGE = 0x50;
/** A further page of a block or run. */
export const PK_REST = 0x60;
/** Taken by vm_page_alloc for whoever asked. */
export const PK_WIRED = 0x70;
/** Free, in the cache of the CPU in `owner`. */
export const PK_CACHE = 0x80;
export const PK_MASK = 0xf0;
/** Words below this one are pages of malloc. */
export const PK_MALLOC_END = 16;

/** The page is all zeros. Means something only between allocation and first use, and while free. */
export const PG_ZERO = 0x40;

/*
 * Locks: (g) from and to PK_FREE under the free lock, else by the CPU in whose hand the page is
 *        (o) the CPU in whose hand the page is  (h) read by all
 */
export const vm_page = columns<number>('vm_page')({
  info: col32('gh', 'what the page is: PK_* and a class'),
  owner: col32('oh', 'by kind: its slab; of a large block, its type; the CPU that caches it'),
  index: col32('oh', 'by kind: of a large block, its pages; of a run, the request in bytes'),
  flags: col8('gh', 'PG_*'),
});

/* Allocation classes and flags. */
export const VM_ALLOC_NORMAL = 0;
export const VM_ALLOC_INTERRUPT = 1;
export const VM_ALLOC_SYSTEM = 2;
export const VM_ALLOC_CLASS = 3;
export const VM_ALLOC_WIRED = 0x20;
export const VM_ALLOC_ZERO = 0x40;
export const VM_ALLOC_NOOBJ = 0x100;
export const VM_ALLOC_NOBUSY = 0x200;

/** Colours: consecutive pages have consecutive ones. */
export const PQ_COLORS = 32;
