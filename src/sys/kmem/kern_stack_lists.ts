/*
 * kern_stack_lists: records about items, found by the item's address.
 *
 *      root ──> table   first[page % 1024] ──> record ──> record
 *
 * Samples (kern_stack_sample.ts) and last operations (kern_audit.ts) are kept in such lists.  A
 * record comes from `fresh` (kern_stack.ts) and is on its list in one section; it leaves the list
 * for `gone` in another, and goes from there back to its zone: something leads to it at every
 * moment.
 *
 * All of it is guarded by the lock 'stacks', which the caller has; but for the first look of a free
 * (list_is_empty): who frees an item that has a record finds the list of its page not empty.
 */
import { atomic_load } from '../machine/atomic.ts';
import { hw, mem, word_page } from '../machine/memory.ts';
import { checked_publish } from '../machine/parts.ts';
import { elem, field_word, NULL, type WordField } from '../machine/struct.ts';
import {
  SAMPLE_LISTS,
  type sample_table_t,
  sample_table,
  SR_TABLE,
  stack_root,
  type stack_root_t,
} from '../h/stack.ts';
import { mtx_assert } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { zone_free_at } from '../uma/uma_core.ts';
import { stack_fresh, stack_zone } from './kern_stack.ts';

const root = stack_root;
const table = sample_table;

type Root<V = number> = WordField<stack_root_t, V>;
/** The lists of one sort of records. */
export interface ItemLists<P extends number> {
  readonly sort: number;
  readonly table: () => Root<sample_table_t>;
  readonly gone: () => Root<P>;
  readonly count: () => Root;
  readonly next: () => WordField<P, P>;
  readonly item: () => WordField<P>;
}
/** Where a record is, or would be: `found` is NULL if there is none. */
export interface Place<P extends number> {
  readonly list: sample_table_t;
  readonly before: P;
  readonly found: P;
}

function list_of(of: sample_table_t, item: number): sample_table_t {
  return elem(of, word_page(item) % SAMPLE_LISTS);
}
/** Whether nothing is noted about any item of a page, by a look without the lock. */
export function list_is_empty<P extends number>(
  l: ItemLists<P>,
  r: stack_root_t,
  item: number,
): boolean {
  const of = l.table()[r];
  return of === NULL || atomic_load(field_word(table.first, list_of(of, item))) === NULL;
}
/** The record of an item; null: there are no lists, and no memory for them if they are wanted. */
export function list_find<P extends number>(
  l: ItemLists<P>,
  r: stack_root_t,
  item: number,
): Place<P> | null {
  mtx_assert(root.lock, r);
  const of = l.table()[r] === NULL ? lists_made(l, r) : l.table()[r];
  if (of === NULL) return null;
  const list = list_of(of, item);
  const next = l.next();
  const at = l.item();
  let before = NULL as P;
  let found = table.first[list] as P;
  while (found !== NULL && at[found] !== (item | 0)) {
    before = found;
    found = next[found];
  }
  return { list, before, found };
}
function lists_made<P extends number>(l: ItemLists<P>, r: stack_root_t): sample_table_t {
  const of = stack_fresh(r, SR_TABLE) as sample_table_t;
  if (of === NULL) return of;
  hw.fill(of, 0, table.sizeof);
  checked_publish(of);
  undo_begin(root.lock, r);
  save(l.table(), r);
  save(root.fresh, elem(r, SR_TABLE));
  l.table()[r] = of;
  root.fresh[elem(r, SR_TABLE)] = NULL;
  undo_end();
  return of;
}
/** The fresh record p comes on a list, as its first; `also` changes what goes with it. */
export function list_put<P extends number>(
  l: ItemLists<P>,
  r: stack_root_t,
  list: sample_table_t,
  p: P,
  also: () => void = () => {},
): void {
  const next = l.next();
  next[p] = table.first[list] as (typeof next)[P];
  checked_publish(p);
  undo_begin(root.lock, r);
  save(table.first, list);
  save(root.fresh, elem(r, l.sort));
  save(l.count(), r);
  also();
  table.first[list] = p;
  root.fresh[elem(r, l.sort)] = NULL;
  l.count()[r]++;
  undo_end();
}
/** A record leaves its list, and goes back to its zone. */
export function list_take<P extends number>(
  l: ItemLists<P>,
  r: stack_root_t,
  { list, before, found }: Place<P>,
): void {
  give_back(l, r); // what one that died had in work
  const next = l.next();
  undo_begin(root.lock, r);
  save(l.gone(), r);
  save(l.count(), r);
  if (before === NULL) {
    save(table.first, list);
    table.first[list] = next[found];
  } else {
    save(next, before as NoInfer<P>);
    next[before] = next[found];
  }
  l.gone()[r] = found;
  l.count()[r]--;
  undo_end();
  give_back(l, r);
}
function give_back<P extends number>(l: ItemLists<P>, r: stack_root_t): void {
  const p = l.gone()[r];
  if (p !== NULL) zone_free_at(stack_zone(r, l.sort), p, field_word(l.gone(), r));
}
/** The n-th list; NULL: there are none. */
export function list_at<P extends number>(l: ItemLists<P>, r: stack_root_t, n: number): P {
  const of = l.table()[r];
  return (of === NULL ? NULL : table.first[elem(of, n % SAMPLE_LISTS)]) as P;
}
/** All records; without the lock, of a dump, it believes nothing and comes to an end. */
export function list_walk<P extends number>(
  l: ItemLists<P>,
  r: stack_root_t,
  words: number,
  fn: (p: P) => void,
): void {
  const of = l.table()[r];
  if (!(of > 0 && of + table.sizeof <= mem.I32.length)) return;
  let left = l.count()[r];
  for (let i = 0; i < SAMPLE_LISTS; i++) {
    let p = table.first[elem(of, i)] as P;
    for (; p > 0 && p + words <= mem.I32.length && left > 0; p = l.next()[p]) {
      fn(p);
      left--;
    }
  }
}
