/*
 * malloc (header): types, and their statistics.
 *
 * A type's record carries, for each CPU, a pointer to a block of counters that
 * is made when that CPU first uses the type.  Per size class one count of
 * allocations and one of frees: bytes, totals and the sizes used are all
 * derived from them by the reader.  These counts are pairs of words with a
 * carry (machine/count.ts).
 */
import { i32, lock_words, type Ptr, ptr, struct, u32, u64, words } from '../machine/struct.ts';
import type { zone_t } from './uma.ts';

export type malloc_type_t = Ptr<'malloc_type'>;
export type mtstats_t = Ptr<'malloc_type_stats'>;
export type malloc_root_t = Ptr<'malloc_root'>;

export const M_MAGIC = 877983977;
export const M_VERSION = 2020110501;
export const MALLOC_NAME_WORDS = 8;
export const KMEM_ZMAX = 4096;
/** Size classes 16, 32 … 4096. */
export const KMEM_CLASSES = 9;
/** Most zones that a size class can have. */
export const MULTIZONE_MOST = 32;
/** Counts of late frees: the classes, large blocks, pages of large blocks. */
const LATE = KMEM_CLASSES + 2;

/*
 * Locks: (l) the malloc lock  (c) constant once created  (a) atomic
 *        (p) each CPU its own element, or its own block
 *        (h) beside another: read without it, for a sample
 */
export const malloc_type = struct<malloc_type_t>(
  'malloc_type',
  2,
)({
  magic: u32('c', 'M_MAGIC'),
  version: u32('c', 'M_VERSION'),
  next: ptr<malloc_type_t>('lh', 'next older type'),
  registered: i32('l', 'on the list'),
  name: words('c', 'short description', MALLOC_NAME_WORDS),
  approximate: i32('a', 'samples of its numbers that were not exact'),
  told: i32('a', 'MT_TOLD_*: what the log has heard about it'),
  subzone: i32('c', 'its class: which of the zones of a size its blocks come from'),
  redzone: i32('a', 'RT_*, and above them the number of the settings by which they were chosen'),
  late: words(
    'a',
    'frees by CPUs that had no memory for a block: per class, large, their pages',
    LATE,
  ),
  stats: words('ph', 'block of each CPU, 0: not used there yet (as many as CPUs)', 2),
});
/** Words of a type before the array of blocks. */
export const MALLOC_TYPE_HEAD = 16 + LATE;
/* What the settings of redzones choose for a type. */
/** Its blocks get redzones. */
export const RT_WANTED = 1;
/** The stack of each of its requests is kept. */
export const RT_STACKS = 2;
export const RT_SHIFT = 2;
/* What the log hears once of a type. */
/** More blocks were freed under it than allocated. */
export const MT_TOLD_BELOW = 1;
/** A large block of it was freed under another type. */
export const MT_TOLD_FREED = 2;

/** Freed large blocks that a machine with the option QUARANTINE keeps from use. */
export const QUARANTINE_BLOCKS = 64;

/*
 * A type's counts on one CPU.  What each request counts stands last: the first such block
 * and the first bucket of a size class both begin a page, and the processor takes words
 * that lie the same way in their pages for one another.  Where a count was stored between
 * a bucket's item and its next load, that load waited: 2 ns a pair.
 */
export const mtstats = struct<mtstats_t>(
  'malloc_type_stats',
  16,
)({
  allocs_high: words('ph', 'high words: twice the carries, and 1 around the next', KMEM_CLASSES),
  frees_high: words('ph', 'high words: twice the carries, and 1 around the next', KMEM_CLASSES),
  large_alloced: u64('ph', 'bytes of large blocks allocated'),
  large_allocs: u64('ph', 'large blocks allocated'),
  large_freed: u64('ph', 'bytes of large blocks freed'),
  large_frees: u64('ph', 'large blocks freed'),
  failed: u64('ph', 'requests that failed'),
  tried: i32('ph', 'classes of failed small requests: they too show under Size(s)'),
  type: ptr<malloc_type_t>('c', 'its type: by it the fast path knows that both are sound'),
  allocs: words('ph', 'allocations of each class, low words', KMEM_CLASSES),
  frees: words('ph', 'frees of each class, low words', KMEM_CLASSES),
});

/* Detectors that look at blocks of malloc before they are given out (uma_root.detect). */
/** Blocks in pages of their own, with guards (kmem/memguard.ts). */
export const MD_MEMGUARD = 1;
/** Blocks with a pattern before and behind (kmem/redzone.ts). */
export const MD_REDZONE = 2;
/** Blocks of which a stack is kept: some, or all. */
export const MD_STACK = 4;
/** Types and zones whose last operations are kept (kmem/kern_audit.ts). */
export const MD_AUDIT = 8;
/** What notes something about blocks, and makes none itself: items of zones, too. */
export const MD_NOTES = MD_STACK | MD_AUDIT;

export const malloc_root = struct<malloc_root_t>(
  'malloc_root',
  16,
)({
  lock: lock_words(4, 'malloc', 'the list of types'),
  types: ptr<malloc_type_t>('lh', 'newest type'),
  count: i32('lh', 'types on the list'),
  type_zone: ptr<zone_t>('c', 'zone of the type records'),
  stats_zone: ptr<zone_t>('c', 'zone of the counter blocks'),
  zones: words(
    'c',
    'zone of each size class; as often as there are',
    KMEM_CLASSES * MULTIZONE_MOST,
  ),
  numzones: i32('c', 'zones of each size class'),
  profile: i32('c', 'kern.mprof counts, 0: option off'),
  gone: ptr<mtstats_t>(
    'c',
    'a block for each CPU and zone of a size: what types that are no more had counted',
  ),
  held_n: i32('lh', 'freed large blocks that wait in quarantine'),
  held_pages: i32('lh', 'their pages'),
  held_next: i32('lh', 'place of the oldest in the ring'),
  held: words('l', 'their first pages', QUARANTINE_BLOCKS),
  redzone: i32('a', 'number of the settings of redzones: one more each time they change'),
});
