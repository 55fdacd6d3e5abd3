/*
 * store_own: the files that this thread has open of stores which all threads know.
 *
 * A store has a number that no other one ever had (object/vm_store.ts).  This table leads from
 * it to the number under which this thread has the file open, and remembers how long ago each was
 * used.  It is private to the thread, as the host's descriptors are, and is emptied when the
 * thread leaves its machine, however that comes.
 */
import { store_abandon } from './store.ts';

/** A file that this thread has open. */
export interface OwnStore {
  /** Number of the store; OWN_NEW while it has none. */
  readonly id: number;
  /** Where its record lies. */
  readonly at: number;
  /** What the calls of store_io.ts take. */
  readonly number: number;
  /** When it was used last, in uses of the table. */
  used: number;
}
/** Stands for a store that is being made. */
export const OWN_NEW = 0;

/** How many stores had ended when this thread last closed its files of such; -1: it never did. */
export const own_heard = { ended: -1 };
const own = new Map<number, OwnStore>();
let uses = 0;
/** Found last: most calls in a row are for one store. */
let last: OwnStore | null = null;

/** The number of the store's file in this thread, -1: it has it not open. */
export function own_find(id: number): number {
  const one = last?.id === id ? last : own.get(id);
  if (one === undefined) return -1;
  one.used = ++uses;
  last = one;
  return one.number;
}
/** This thread has the store's file open under that number. */
export function own_enter(id: number, at: number, number: number): void {
  own.set(id, { id, at, number, used: ++uses });
}
/** It is in the table no more. Returns the number, which is open still; -1: it was not there. */
export function own_remove(id: number): number {
  const one = own.get(id);
  own.delete(id);
  last = null;
  return one?.number ?? -1;
}
/** How many there are. */
export function own_count(): number {
  return own.size;
}
/** All, the one that was used longest ago first. */
export function own_all(): OwnStore[] {
  return [...own.values()].sort((a, b) => a.used - b.used);
}
/** This thread leaves its machine: all are closed. */
export function own_forget(): void {
  for (const { number } of own.values()) store_abandon(number);
  own.clear();
  last = null;
  own_heard.ended = -1;
}
