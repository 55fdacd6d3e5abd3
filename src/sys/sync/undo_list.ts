/*
 * undo_list: records that hang together, and do so still when the CPU that changes that dies.
 *
 *      root    first ──> newest ──> older ──> oldest ──> 0        next
 *              count         <──       <──                        prev
 *
 * BSD's LIST_INSERT_HEAD and LIST_REMOVE (queue.h), with a count, in a section of undo: the caller
 * has locked the list and opened a section, into which go the words that change.  A record's own
 * links do not: off the list they mean nothing, and on it the section that puts it there is whole.
 * So nobody who finds a record may believe its links unless the list leads to it.
 *
 * `next` is written before the list leads there, and stays when the record leaves.  Whoever walks
 * without the lock, for a look, comes to an end; what it sees may be gone.
 */
import { NULL, type WordField } from '../machine/struct.ts';
import { save } from './undo.ts';

/** A structure that has the list. */
interface Root<R extends number, P extends number> {
  readonly first: WordField<R, P>;
  readonly count: WordField<R>;
}
/** The structure of what is on it. */
interface Links<P extends number> {
  readonly next: WordField<P, P>;
  readonly prev: WordField<P, P>;
}
/* Which structures they are, only the callers' types know. */
type AnyRoot = Root<number, number>;
type AnyLinks = Links<number>;

/** Record `p` comes on the list of `r`, as its first. In a section. */
export function list_insert<R extends number, P extends number>(
  root: Root<R, P>,
  r: R,
  links: Links<P>,
  p: P,
): void;
export function list_insert(root: AnyRoot, r: number, links: AnyLinks, p: number): void {
  const first = root.first[r];
  save(root.first, r);
  save(root.count, r);
  links.next[p] = first;
  links.prev[p] = NULL;
  if (first !== NULL) {
    save(links.prev, first);
    links.prev[first] = p;
  }
  root.first[r] = p;
  root.count[r]++;
}
/** Record `p` leaves the list of `r`. In a section. */
export function list_remove<R extends number, P extends number>(
  root: Root<R, P>,
  r: R,
  links: Links<P>,
  p: P,
): void;
export function list_remove(root: AnyRoot, r: number, links: AnyLinks, p: number): void {
  const next = links.next[p];
  const prev = links.prev[p];
  if (next !== NULL) {
    save(links.prev, next);
    links.prev[next] = prev;
  }
  if (prev !== NULL) {
    save(links.next, prev);
    links.next[prev] = next;
  } else {
    save(root.first, r);
    root.first[r] = next;
  }
  save(root.count, r);
  root.count[r]--;
}
