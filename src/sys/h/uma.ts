/*
 * uma (header): zones, kegs, slabs, buckets and per-CPU caches as data.
 *
 *      zone ── keg ── slabs (partial, free, full) ── pages
 *       │  └─ full buckets, empty buckets
 *       └─ cache[cpu]: cur, spare
 *
 * A zone is a type of item with its constructor and its caches; a keg is the
 * layout and the pages behind it.  Several zones may stand on one keg
 * (secondary zones), and several kegs behind one zone (memory domains).
 */
import {
  i32,
  lock_words,
  type Ptr,
  ptr,
  struct,
  u64,
  unchecked,
  words,
} from '../machine/struct.ts';

export type zone_t = Ptr<'uma_zone'>;
export type keg_t = Ptr<'uma_keg'>;
export type slab_t = Ptr<'uma_slab'>;
export type bucket_t = Ptr<'uma_bucket'>;
export type cache_t = Ptr<'uma_cache'>;

export const UMA_NAME_WORDS = 8;
export const KEGS_PER_ZONE = 8;

/* Flags a caller may give. */
export const UMA_ZONE_ZINIT = 0x0002;
export const UMA_ZONE_OFFPAGE = 0x0008;
export const UMA_ZONE_MALLOC = 0x0010;
export const UMA_ZONE_NOFREE = 0x0020;
export const UMA_ZONE_VM = 0x0080;
export const UMA_ZONE_HASH = 0x0100;
export const UMA_ZONE_SECONDARY = 0x0200;
export const UMA_ZONE_REFCNT = 0x0400;
export const UMA_ZONE_MAXBUCKET = 0x0800;
export const UMA_ZONE_CACHESPREAD = 0x1000;
export const UMA_ZONE_VTOSLAB = 0x2000;
export const UMA_ZONE_INHERIT =
  UMA_ZONE_OFFPAGE | UMA_ZONE_MALLOC | UMA_ZONE_HASH | UMA_ZONE_REFCNT | UMA_ZONE_VTOSLAB;
/* Flags the allocator sets. */
/** It is being destroyed: it gives nothing out, and ends when every cache has been handed over. */
export const UMA_ZFLAG_GOING = 0x08000000;
/** A program made it, and asks for its items by M_GUARDABLE. */
export const UMA_ZFLAG_PROGRAM = 0x00800000;
export const UMA_ZFLAG_BUCKET = 0x02000000;
export const UMA_ZFLAG_MULTI = 0x04000000;
export const UMA_ZFLAG_PRIVALLOC = 0x10000000;
export const UMA_ZFLAG_INTERNAL = 0x20000000;
export const UMA_ZFLAG_FULL = 0x40000000;
export const UMA_ZFLAG_CACHEONLY = 0x80000000 | 0;

/* Alignment masks, bytes - 1. */
export const UMA_ALIGN_PTR = 7;
export const UMA_ALIGN_CACHE = -1;
export const UMA_CACHE_ALIGN_MASK = 63;

/*
 * Locks: (k) the keg's lock  (z) the lock of the zone's first keg
 *        (u) the UMA lock    (c) constant once created    (a) atomic
 *        (e) changes only while the keg is empty
 *        (p) of a cache: its CPU's own; of a bucket: the CPU's whose cache has it
 *        (h) beside another: a hint that is read without the lock, too
 */
export const uma_keg = struct<keg_t>(
  'uma_keg',
  16,
)({
  lock: lock_words(4, 'UMA zone', 'the keg and the zones whose first keg it is'),
  link: ptr<keg_t>('uh', 'next older keg'),
  zones: ptr<zone_t>('uh', 'first zone on the keg'),
  part: ptr<slab_t>('k', 'slabs with some items free'),
  free_slabs: ptr<slab_t>('kh', 'slabs with all items free'),
  full: ptr<slab_t>('k', 'slabs with no item free'),
  free: i32('kh', 'items free in slabs'),
  pages: i32('kh', 'pages in slabs'),
  maxpages: i32('kh', 'limit of pages, 0: none'),
  waiters: i32('k', 'threads asleep on the limit'),
  reserve: i32('k', 'items kept for M_USE_RESERVE'),
  size: i32('c', 'requested item size, bytes'),
  rsize: i32('c', 'distance of items, bytes'),
  align: i32('c', 'alignment mask'),
  ipers: i32('c', 'items in a slab'),
  ppera: i32('c', 'pages in a slab'),
  pgoff: i32('c', 'bytes from the slab start to an in-page header'),
  header_words: i32('c', 'words of a slab header with its bits and counts'),
  refcnt_off: i32('c', 'word of the first reference count in the header, 0: none'),
  user_off: i32('c', 'word of the malloc types of the items under INVARIANTS, 0: none'),
  dbg_off: i32('c', 'word of the bits that mark allocated items under INVARIANTS'),
  flags: i32('kh', 'UMA_ZONE_*, UMA_ZFLAG_*'),
  init: i32('e', 'vector: item enters the keg'),
  fini: i32('e', 'vector: item leaves the keg'),
  allocf: i32('e', 'vector: page supplier, 0: the page floor'),
  freef: i32('e', 'vector: takes pages back'),
  slabzone: ptr<zone_t>('c', 'zone of off-page headers'),
  domain: i32('kh', 'memory domain of its pages, -1: any'),
  mclass: i32('c', 'malloc size class + 1, 0: no malloc zone'),
  eager: i32('c', 'a free slab goes back at once: it is more than may lie idle'),
  short_slab: ptr<slab_t>('k', 'slab whose last items are never given out, 0: none'),
  withheld: i32('kh', 'how many these are'),
});

export const uma_zone = struct<zone_t>(
  'uma_zone',
  32,
)({
  name: words('c', 'shown by the tools', UMA_NAME_WORDS),
  link: ptr<zone_t>('uh', 'next zone on the keg'),
  keg: ptr<keg_t>('c', 'first keg: its lock is the lock of the zone'),
  kegs: words('zh', 'all kegs, the first included', KEGS_PER_ZONE),
  nkegs: i32('zh', 'number of kegs'),
  last_keg: i32(
    unchecked('a guess: any keg of the zone may be asked first'),
    'index of the keg that served last',
  ),
  ctor: i32('c', 'vector: every allocation'),
  dtor: i32('c', 'vector: every free'),
  zinit: i32('e', 'vector: item enters the caches of the zone'),
  zfini: i32('e', 'vector: item leaves them'),
  size: i32('c', 'item size, bytes'),
  flags: i32('a', 'UMA_ZONE_*, UMA_ZFLAG_*'),
  hooks: i32('a', 'ZH_*: what the fast paths must not do alone; 0: nothing'),
  full_buckets: ptr<bucket_t>('zh', 'buckets with items'),
  empty_buckets: ptr<bucket_t>('zh', 'buckets without'),
  full_items: i32('zh', 'items in full buckets'),
  count: i32(
    unchecked('a guess: CPUs raise it without a lock, and any size up to bucket_max is right'),
    'bucket size wanted now',
  ),
  bucket_max: i32('c', 'largest bucket for this item size'),
  mclass: i32('c', 'malloc size class + 1, 0: no malloc zone'),
  fails: u64('zh', 'requests that failed'),
  sleeps: u64('zh', 'requests that slept for the limit'),
  lost: u64('z', 'items lost with threads that vanished'),
  approximate: i32('a', 'samples of its numbers that were not exact'),
});

export const uma_cache = struct<cache_t>(
  'uma_cache',
  32,
)({
  cur: ptr<bucket_t>('ph', 'where items come from and go to'),
  spare: ptr<bucket_t>('ph', 'a full or an empty one, 0: none'),
  hand: ptr<bucket_t>('ph', 'between two places'),
  fill: ptr<bucket_t>('ph', 'being filled'),
  good: i32('p', 'items at its front that zinit has made'),
  drain: ptr<bucket_t>('ph', 'being drained into the slabs'),
  drain_item: i32('p', 'item at its end that zfini is unmaking, 0: none'),
  split: ptr<bucket_t>('p', 'half of its items are moving to the other of cur and spare'),
  split_cnt: i32('p', 'items it had before; while it has them, the others are copies'),
  seq: i32('a', 'odd while buckets change hands'),
  allocs: i32('ph', 'items given out, low word'),
  allocs_high: i32('ph', 'high word: twice the carries, and 1 around the next'),
  installed: u64('ph', 'items that came in with buckets'),
  returned: u64('ph', 'items that left with buckets'),
  lost: u64('ph', 'items known to be lost with earlier threads of this slot'),
});
/* Reasons to leave the fast path. */
export const ZH_CTOR = 1;
export const ZH_DTOR = 2;
export const ZH_DEBUG = 4;
export const ZH_FULL = 8;
export const ZH_NOCACHE = 16;
export const ZH_GOING = 32;
/** memguard is asked for each item that a program wants. */
export const ZH_GUARD = 128;
/** Requests may be noted with their stack (kmem/kern_stack_sample.ts). */
export const ZH_NOTE = 64;
/** Words from one CPU's cache to the next. */
export const CACHE_SHIFT = 5;

export const uma_slab = struct<slab_t>(
  'uma_slab',
  2,
)({
  keg: ptr<keg_t>('c', 'the keg'),
  next: ptr<slab_t>('k', 'next on its list'),
  prev: ptr<slab_t>('k', 'previous on its list'),
  data: i32('c', 'first word of the items'),
  page: i32('c', 'first page'),
  freecount: i32('k', 'items free'),
  hint: i32('k', 'word of the bits to look at first'),
  list: i32('kh', 'which list: SLAB_*'),
  bits: words('kh', 'a set bit: the item is free (as many words as the keg needs)', 2),
});
/** Words of the header before the bits. */
export const SLAB_HEAD_WORDS = 8;
export const SLAB_PART = 1;
export const SLAB_FREE = 2;
export const SLAB_FULL = 3;

export const uma_bucket = struct<bucket_t>(
  'uma_bucket',
  2,
)({
  cnt: i32('ph', 'items present'),
  entries: i32('c', 'items it can hold'),
  link: ptr<bucket_t>('z', 'next on the list of the zone'),
  zone: ptr<zone_t>('c', 'bucket zone it came from'),
  item: words('p', 'the items (as many as entries)', 2),
});
export const BUCKET_HEAD_WORDS = 4;

export const UMA_SMALLEST_UNIT = 16;
/** A slab may waste this many bytes before its header moves off the page. */
export const UMA_MAX_WASTE = 409;
