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
import { i32, lock_words, type Ptr, ptr, struct, words } from '../machine/struct.ts';

export type stack_root_t = Ptr<'stack_root'>;
export type stack_t = Ptr<'stack'>;
export type stack_frame_t = Ptr<'stack_frame'>;
export type stack_string_t = Ptr<'stack_string'>;
/** What stands before each of them. */
export type stack_head_t = Ptr<'stack_head'>;

/** Frames of a stack, as KDB keeps. */
export const STACK_DEPTH = 18;
export const STACK_STRING_WORDS = 45;
/* Sorts of records. */
export const SR_STACK = 0;
export const SR_FRAME = 1;
export const SR_STRING = 2;
export const STACK_SORTS = 3;
/** Lists of a sort. */
export const STACK_LISTS = 128;

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
  lists: words('s', 'by sort and hash: the first record', STACK_SORTS * STACK_LISTS),
});

/* Locks of this and the following: (c) constant once it is on its list */
export const stack_head = struct<stack_head_t>('stack_head')({
  next: ptr<stack_head_t>('c', 'next on the list'),
  hash: i32('c', 'of all that follows'),
});
/** The number of a stack is that of its first word, behind the head. */
export const stack = struct<stack_t>('stack')({
  magic: i32('c', 'STACK_MAGIC'),
  depth: i32('c', 'frames'),
  frames: words('c', 'those frames, innermost first', STACK_DEPTH),
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
