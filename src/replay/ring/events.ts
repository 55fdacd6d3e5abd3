/*
 * events: what a trace looks like once it has been read.
 *
 * Every trace format ends up as the same stream of binary events, 16 bytes
 * each, so that players never see text:
 *
 *        word 0                        word 1     word 2          word 3
 *   31      24 23          8 7    0
 *   ┌─────────┬─────────────┬──────┐ ┌────────┐ ┌─────────────┐ ┌────────────┐
 *   │ log2    │ trace       │ op   │ │ block  │ │ size, uint32│ │ site index │
 *   │ align   │ thread      │      │ │ id     │ │ saturated   │ │            │
 *   └─────────┴─────────────┴──────┘ └────────┘ └─────────────┘ └────────────┘
 *
 *   ALLOC    block `id` is born with `size` bytes, asked for by `site`
 *   ALIGNED  the same, with log2(alignment) in the top byte of word 0
 *   REALLOC  block `id` lives on with a new size; word 3 is the new site
 *   FREE     block `id` dies; words 2 and 3 are zero
 *   SITE     word 1 = site index, word 2 = bytes of its name; the UTF-8 bytes
 *            follow in site_units(bytes) - 1 further 16-byte units
 *   THREAD   a trace thread appears: word 1 = its index, word 2 = its number in
 *            the trace
 *   END      nothing follows; always the last event of a trace that was read
 *            to its end
 *
 * Block ids are small, dense and used again after a long while (address_map.ts
 * says how long), so a player keeps a plain array indexed by id.
 *
 * Always true: a SITE event comes before the first event that names its index,
 * and is published together with its name; a FREE or REALLOC names a live id;
 * an ALLOC names a dead one.
 */

export const EVENT_BYTES = 16;
export const EVENT_WORDS = 4;

export const OP_ALLOC = 1;
export const OP_FREE = 2;
export const OP_REALLOC = 3;
export const OP_SITE = 4;
export const OP_THREAD = 5;
export const OP_END = 6;
export const OP_ALIGNED = 7;

export const OP_MASK = 0xff;
export const THREAD_SHIFT = 8;
export const THREAD_MASK = 0xffff;
export const ALIGN_SHIFT = 24;

/** Sizes of 4 GiB and more are shown to players as this one; the statistics keep them exact. */
export const SIZE_SATURATED = 0xffffffff;

/** Trace threads beyond this many share the last index; their order is kept all the same. */
export const MAX_TRACE_THREADS = THREAD_MASK + 1;

/** Units a SITE event takes, its own included, for a name of so many bytes. */
export function site_units(name_bytes: number): number {
  return 1 + Math.ceil(name_bytes / EVENT_BYTES);
}

export function event_op(word0: number): number {
  return word0 & OP_MASK;
}

export function event_thread(word0: number): number {
  return (word0 >>> THREAD_SHIFT) & THREAD_MASK;
}

export function event_align_shift(word0: number): number {
  return word0 >>> ALIGN_SHIFT;
}
