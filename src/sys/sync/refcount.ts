/*
 * refcount: how many hold on to something that many CPUs share.
 *
 * The count is a word of the counted record.  Whoever brings it to zero owns
 * the record alone and frees it.
 */
import { atomic_add } from '../machine/atomic.ts';
import { opt } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { type Field, field_word } from '../machine/struct.ts';

/** Takes a reference. The caller has one already, or a lock that keeps the record. */
export function refcount_acquire<P extends number>(f: Field<P, number>, p: P): void {
  const old = atomic_add(field_word(f, p), 1);
  if (opt.INVARIANTS && old <= 0) panic('refcount_acquire: the record was free', old, p * 4);
}
/** Gives a reference back. True if it was the last. */
export function refcount_release<P extends number>(f: Field<P, number>, p: P): boolean {
  const old = atomic_add(field_word(f, p), -1);
  if (opt.INVARIANTS && old <= 0) panic('refcount_release: no reference was left', old, p * 4);
  return old === 1;
}
