/*
 * store_post (header): what a thread asks of the one that has a browser's files open.
 *
 * A record for each CPU slot, and behind all of them a page for each: bytes that do not lie in
 * the memory of the machine go by way of it.  The state says whose the record is:
 *
 *      IDLE    the CPU's          ASKED, TAKEN   the thread's that has the files
 *      DONE    the CPU's, with the result
 */
import { i32, type Ptr, ptr, struct, u64, words } from '../machine/struct.ts';
import type { vm_store_t } from './vm_store.ts';

export type store_post_t = Ptr<'store_post'>;

export const POST_IDLE = 0;
export const POST_ASKED = 1;
export const POST_TAKEN = 2;
export const POST_DONE = 3;

/* What is asked. */
export const POST_OPEN = 1;
export const POST_SIZE = 2;
export const POST_READ = 3;
export const POST_WRITE = 4;
export const POST_TRUNCATE = 5;
export const POST_SYNC = 6;
export const POST_REMOVE = 7;

/** Views that go with one post: two clusters. */
export const POST_VIEWS = 32;
/** Words of a view: its page, its first byte there, its bytes. */
export const POST_VIEW_WORDS = 3;

/* Locks: (a) atomic  (-) whose it is, the state says */
export const store_post = struct<store_post_t>(
  'store_post',
  32,
)({
  state: i32('a', 'POST_IDLE, ASKED, TAKEN, DONE'),
  op: i32('-', 'what is asked'),
  store: ptr<vm_store_t>('-', 'of which store'),
  id: i32('-', 'its number'),
  how: i32('-', 'STORE_*, to open it'),
  count: i32('-', 'views'),
  at: u64('-', 'first byte, or how long the file shall be'),
  result: u64('-', 'the answer, or the errno, negated'),
  views: words('-', 'page, byte there and length of each', POST_VIEWS * POST_VIEW_WORDS),
});
