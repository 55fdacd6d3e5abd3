/*
 * vm_pageq (header): the record of the page queues, and what a page says about its queue.
 *
 *      page.queue   | 0 | lapped | act_count | queue |
 *                          bit 16    8 bits    8 bits
 *
 * `lapped` is set at a dirty page that the page daemon has let go round the inactive queue once
 * before it writes it; a page that changes its queue loses it.
 */
import { elem, i32, lock_words, type Ptr, struct, words } from '../machine/struct.ts';
import { M, machine as machine_, ROOT_PAGEQ } from '../machine/header.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const machine = machine_;

/* Queues. */
export const PQ_NONE = 0;
export const PQ_INACTIVE = 1;
export const PQ_ACTIVE = 2;
export const PQ_CACHE = 3;
export const PQ_COUNT = 4;
export const PQ_MASK = 0xff;
export const ACT_SHIFT = 8;
export const ACT_MASK = 0xff;
export const PQ_LAPPED = 1 << 16;

export type vm_pageq_t = Ptr<'vm_pageq'>;
/* Locks: (s) the lock  (h) read by all, for a sample */
export const vm_pageq = struct<vm_pageq_t>(
  'vm_pageq',
  32,
)({
  lock: lock_words(4, 'page queue', 'queues, links and wirings of pages with owners'),
  head: words('s', 'first page of each queue, 0: none', PQ_COUNT),
  tail: words('s', 'last page of each', PQ_COUNT),
  count: words('sh', 'pages on each', PQ_COUNT),
  wired: i32('sh', 'pages of objects that are wired'),
});
const pageq = vm_pageq;
/** The record. */
export function pageq_root(): vm_pageq_t {
  return machine.roots[elem(M, ROOT_PAGEQ)] as vm_pageq_t;
}
/** Pages on a queue: a sample. */
export function pageq_count(q: number): number {
  return pageq.count[elem(pageq_root(), q)];
}
