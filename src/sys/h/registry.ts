/*
 * registry (header): the records by which threads find named objects.
 *
 *      root ── heads[64] ── entry ── entry
 *
 *      entry   0 next   1 kind   2 hash   3 bytes of the name   4 of the shape
 *              5 state   8..15 values of its kind       16..23 a lock, on a line
 *              of its own      24..31 counts and wait channels of its kind
 *              32.. users: a tid for each CPU, then name and shape, UTF-8
 *
 * An entry is one block, whatever its kind.  What the values and counts mean depends on
 * the kind; a structure for each says it, like the arms of a C union: reg_zone,
 * reg_records, reg_queue, reg_value, reg_cv, reg_space.  They lie over the entry and are indexed by
 * the same pointer, so `reg_queue.count[e]` is right for an entry of kind queue only.
 *
 * A user is the tid of the thread that has the object: slot and incarnation, so
 * that the next owner of the slot has no right to it.
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
import type { malloc_type_t } from './malloc.ts';
import type { zone_t } from './uma.ts';
import type { vm_map_t } from './vm_map.ts';

export type reg_root_t = Ptr<'reg_root'>;
export type reg_entry_t = Ptr<'reg_entry'>;

/** Kinds of named objects; their numbers stand in the memory. */
export const REG_KINDS = [
  'zone',
  'records',
  'mutex',
  'rwlock',
  'condition',
  'queue',
  'root',
  'space',
] as const;
export type RegKind = (typeof REG_KINDS)[number];
export function reg_kind(kind: RegKind): number {
  return REG_KINDS.indexOf(kind) + 1;
}

/* States of an entry. */
/** Linked; its parts are being made, and it leads to those that are. */
export const REG_MAKING = 1;
export const REG_READY = 2;
/** Linked still; its parts are being given back. */
export const REG_GOING = 3;

export const REG_BUCKETS = 64;
/* Words of an entry, part by part. */
const HEAD_WORDS = 8;
const VALUE_WORDS = 8;
const LOCK_WORDS = 8;
export const REG_STATES = 8;

/*
 * Locks: (g) the registry's lock  (c) constant once created
 *        (h) beside it: read without the lock by users of the object, whose parts stay
 *            as long as it has users, and for messages
 */
export const reg_root = struct<reg_root_t>(
  'reg_root',
  16,
)({
  lock: lock_words(4, 'registry', 'all names, and what is done to an entry'),
  count: i32('g', 'entries that are linked'),
  worker: i32('g', 'tid of the thread that makes or ends an entry, 0: none does'),
  work: ptr<reg_entry_t>('g', 'the entry it makes or ends, 0: none yet or no longer'),
  fresh: ptr<reg_entry_t>('g', 'an entry that is not linked: its block comes or goes'),
  heads: words('gh', 'first entry of each bucket', REG_BUCKETS),
});

export const reg_entry = struct<reg_entry_t>(
  'reg_entry',
  16,
)({
  next: ptr<reg_entry_t>('gh', 'next of its bucket'),
  kind: i32('gh', 'number of its kind, from 1 on'),
  hash: i32('g', 'of kind and name'),
  name_bytes: i32('gh', 'length of the name'),
  shape_bytes: i32('g', 'length of the shape'),
  state: i32('g', 'REG_MAKING, REG_READY, REG_GOING'),
  even_gap: words('g', 'keeps the values on even words', 2),
  value: words('g', 'what the kind needs', VALUE_WORDS),
  lock: lock_words(LOCK_WORDS, 'user mutex', 'the lock of a mutex, an rwlock or a queue'),
  count: words('g', 'counts and wait channels of the kind', REG_STATES),
});

/* Locks: (g) the registry's lock  (h) beside it: read by users of the zone without it */
export const reg_zone = struct<reg_entry_t>(
  'reg_zone',
  16,
)({
  head_gap: words('g', 'what every entry has', HEAD_WORDS),
  zone: ptr<zone_t>('gh', 'the zone'),
});

/*
 * Locks: (g) the registry's lock  (h) beside it: read by users of the records without it
 *        (a) atomic
 */
export const reg_records = struct<reg_entry_t>(
  'reg_records',
  16,
)({
  head_gap: words('g', 'what every entry has', HEAD_WORDS),
  zone: ptr<zone_t>('gh', 'the zone of the numbers'),
  base: i32('gh', 'word where an item with number 0 would be'),
  columns: i32('gh', 'block with the word of each column'),
  type: ptr<malloc_type_t>('g', 'malloc type of that block and of the columns'),
  ncolumns: i32('g', 'how many words of that block count'),
  run: i32('g', 'first of the pages of the run that no slab has yet'),
  run_pages: i32('g', 'how many they are'),
  capacity: i32('gh', 'numbers that there are: 1 to this'),
  retired: i32('a', 'numbers whose generations are used up: they are given out no more'),
});
/** Count of a retired number: 2^21 - 1 generations had an allocation and a free each. */
export const NUMBER_RETIRED = 2 ** 22 - 2;

export type number_t = Ptr<'number'>;
export const number = struct<number_t>(
  'number',
  4,
)({
  count: i32(
    unchecked('stored plainly by who has the number, swapped by who frees it, read by all'),
    'allocations and frees that it had: odd while it is in use',
  ),
  gap: words('-', 'the smallest item that is 16-byte aligned', 3),
});

/*
 * Locks: (g) the registry's lock  (s) the queue's own
 *        (h) beside them: read without it, as a hint or where it changes no more
 */
export const reg_queue = struct<reg_entry_t>(
  'reg_queue',
  16,
)({
  head_gap: words('g', 'what every entry has', HEAD_WORDS),
  ring: i32('gh', 'word of the first value: even, because values are doubles'),
  capacity: i32('gh', 'most values in the queue'),
  even_gap: words('g', 'keeps the lock on a line of its own', VALUE_WORDS - 2),
  lock: lock_words(LOCK_WORDS, 'registry', 'what is in the ring'),
  head: i32('s', 'place in the ring of the next value to be taken'),
  count: i32('sh', 'values in the ring'),
  closed: i32('sh', 'whether no more may be put: 1 for good'),
  items: i32('a', 'threads that wait for a value sleep on it'),
  space: i32('a', 'threads that wait for room sleep on it'),
});

/* Locks: (g) the registry's lock */
export const reg_value = struct<reg_entry_t>(
  'reg_value',
  16,
)({
  head_gap: words('g', 'what every entry has', HEAD_WORDS),
  value: u64('g', 'the number that a root is'),
});

/* Locks: (a) atomic: sleep queues know its address, nobody reads it */
export const reg_cv = struct<reg_entry_t>(
  'reg_cv',
  16,
)({
  head_gap: words('-', 'what every entry has', HEAD_WORDS),
  even_gap: words('-', 'a condition has no values and no lock', VALUE_WORDS + LOCK_WORDS),
  signal: i32('a', 'threads that wait for a signal sleep on it'),
});

/* Locks: (g) the registry's lock */
export const reg_space = struct<reg_entry_t>(
  'reg_space',
  16,
)({
  head_gap: words('g', 'what every entry has', HEAD_WORDS),
  map: ptr<vm_map_t>('g', 'the address space; its name is a reference to it'),
});
