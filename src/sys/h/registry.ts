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
 * A user is the tid of the thread that has the object: slot and incarnation, so
 * that the next owner of the slot has no right to it.
 */
import { i32, lock_words, type Ptr, ptr, struct, words } from '../machine/struct.ts';

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
export const REG_VALUES = 8;
export const REG_LOCK_WORDS = 8;
export const REG_STATES = 8;

/*
 * Locks: (g) the registry's lock  (c) constant once created
 *        (h) beside it: read for messages without the lock, too
 *        (-) by the rules of the kind: an object's own lock, or atomically
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
  value: words('-', 'what the kind needs; pairs may be a double', REG_VALUES),
  lock: words('-', 'a lock of the kind', REG_LOCK_WORDS),
  count: words('-', 'counts and wait channels of the kind', REG_STATES),
});
/* The same as word offsets, for code that has an entry as a plain number. */
export const E_VALUE = 8;
export const E_LOCK = 16;
export const E_STATE = 24;

/* Values of a zone and of records. */
export const V_ZONE = 0;
export const V_START = 1;
/** Block with the word of each column, how many of them count, and their malloc type. */
export const V_COLUMNS = 2;
export const V_TYPE = 3;
export const V_NCOLUMNS = 4;
/** Pages of the run that no slab has yet: first and how many. */
export const V_RUN = 5;
export const V_RUN_PAGES = 6;
/** Numbers whose generations are used up: they are given out no more. */
export const V_RETIRED = 7;
/** Count of such a number: 2^21 - 1 generations had an allocation and a free each. */
export const NUMBER_RETIRED = 2 ** 22 - 2;
/* Values of a queue. */
export const V_RING = 0;
export const V_CAPACITY = 1;
