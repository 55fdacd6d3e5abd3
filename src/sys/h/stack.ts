/*
 * stack (header): stacks that are kept in the machine, each distinct one once.
 *
 *      root.lists ──> stack ──> frame ──> string     function
 *        by hash        │         └─────> string     file
 *                       └───> up to STACK_DEPTH frames, innermost first
 *
 * Stacks, frames and strings never change once they are on their list, and stay for as long as
 * the machine is up: a stack is known by the number of its first word.
 */
import { i32, lock_words, type Ptr, ptr, struct, u32, u64, words } from '../machine/struct.ts';

export type stack_root_t = Ptr<'stack_root'>;
export type stack_t = Ptr<'stack'>;
export type stack_frame_t = Ptr<'stack_frame'>;
export type stack_string_t = Ptr<'stack_string'>;
export type stack_sample_t = Ptr<'stack_sample'>;
export type sample_table_t = Ptr<'sample_table'>;
export type audit_t = Ptr<'audit'>;
/** What stands before each of the first three. */
export type stack_head_t = Ptr<'stack_head'>;

/** Frames of a stack, as KDB keeps. */
export const STACK_DEPTH = 18;
export const STACK_STRING_WORDS = 45;
/* Sorts of records. */
export const SR_STACK = 0;
export const SR_FRAME = 1;
export const SR_STRING = 2;
/** Sorts that are on lists of the root. */
export const STACK_LISTED = 3;
export const SR_SAMPLE = 3;
export const SR_TABLE = 4;
export const SR_AUDIT = 5;
export const STACK_SORTS = 6;
/** Lists of a sort. */
export const STACK_LISTS = 128;
/** Words of vm.audit.zones. */
export const AUDIT_ZONES_WORDS = 64;
/** Operations of an item that are kept at most. */
export const AUDIT_DEPTH_MAX = 8;
/** Lists of samples, by page. */
export const SAMPLE_LISTS = 1024;

/* Locks: (s) the lock  (h) beside it: read by all */
export const stack_root = struct<stack_root_t>(
  'stack_root',
  32,
)({
  lock: lock_words(4, 'stacks', 'the lists, and the making of the zones'),
  made: i32('s', 'sorts of records that have their zone for good: a bit for each'),
  zones: words('s', 'zone of each sort of record, 0: nobody wanted one yet', STACK_SORTS),
  fresh: words('s', 'a record of each sort that is on no list yet, 0: none', STACK_SORTS),
  stacks: i32('sh', 'stacks that are kept'),
  lists: words('s', 'by sort and hash: the first record', STACK_LISTED * STACK_LISTS),
  level: i32('a', 'debug.level, by number'),
  sampling: i32('a', '1: some requests are noted with their stack'),
  samples: i32('sh', 'blocks and items that are noted now'),
  table: ptr<sample_table_t>('sh', 'lists of them, by page; 0: there was none yet'),
  gone: ptr<stack_sample_t>('s', 'one that is no more, on its way back to its zone; 0: none'),
  audited: i32('sh', 'items of which there are operations'),
  audits: ptr<sample_table_t>('sh', 'lists of them, by page; 0: there was none yet'),
  audit_gone: ptr<audit_t>('s', 'operations of one, on their way back to their zone; 0: none'),
  audit_turn: i32('a', 'times that audit_zones has changed'),
  audit_zones: words('sh', 'names of types and zones whose operations are kept', AUDIT_ZONES_WORDS),
});

/* Locks of this and the following: (c) constant once it is on its list  (n) the root's lock */
export const stack_head = struct<stack_head_t>('stack_head')({
  next: ptr<stack_head_t>('c', 'next on the list'),
  hash: i32('c', 'of all that follows'),
});
/** The number of a stack is that of its first word, behind the head. */
export const stack = struct<stack_t>('stack')({
  magic: i32('c', 'STACK_MAGIC'),
  depth: i32('c', 'frames'),
  frames: words('c', 'those frames, innermost first', STACK_DEPTH),
  total_bytes: u64('nh', 'bytes that were asked for there, by the samples of all time'),
  total_objects: u64('nh', 'requests, likewise'),
});
export const STACK_MAGIC = 0x57acc5;
export const stack_frame = struct<stack_frame_t>('stack_frame')({
  fn: ptr<stack_string_t>('c', 'its function'),
  file: ptr<stack_string_t>('c', 'the file'),
  line: i32('c', 'line in it'),
  column: i32('c', 'column, 0: not known'),
});
export const stack_string = struct<stack_string_t>('stack_string')({
  text: words('c', 'UTF-8, its end a zero', STACK_STRING_WORDS),
});

/* Whose a sample is. */
export const SK_TYPE = 1;
export const SK_ZONE = 2;
export const stack_sample = struct<stack_sample_t>('stack_sample')({
  next: ptr<stack_sample_t>('n', 'next on the list'),
  item: i32('n', 'word at which the block or item begins'),
  kind: i32('n', 'SK_*'),
  owner: i32('n', 'its malloc type, or its zone'),
  stack: i32('n', 'who asked for it, 0: not known'),
  interval: u32('n', 'bytes between two samples when it was drawn'),
  size: u64('n', 'bytes that were asked for'),
  time: u64('n', 'when, ms since the epoch'),
});
export const sample_table = struct<sample_table_t>('sample_table')({
  first: words('n', 'by page: the first sample', SAMPLE_LISTS),
});

/* What happened to an item: in the low byte of a word, the CPU above it. */
export const AU_ALLOC = 1;
export const AU_FREE = 2;
export const AU_REALLOC = 3;
/** Words of an operation: what and CPU, whose, stack, a spare one, time (a double). */
export const AUDIT_OP_WORDS = 6;
export const audit = struct<audit_t>('audit')({
  next: ptr<audit_t>('n', 'next on the list'),
  item: i32('n', 'first word of the item'),
  keg: i32('n', 'its keg, 0: a large block'),
  count: i32('n', 'operations so far'),
  ops: words('n', 'the last of them, in a ring', AUDIT_DEPTH_MAX * AUDIT_OP_WORDS),
});
