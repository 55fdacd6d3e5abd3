/*
 * lock_label: what a lock is called in panics, reports and profiles.
 *
 * A lock of the kernel is known by its class and address.  A lock of the
 * program has a name that the program gave it; the registry of names knows it,
 * several floors further up (life.lock_label).
 */
import { life } from '../machine/life.ts';
import { mem } from '../machine/memory.ts';
import { lock_order, user_class } from './lock_order.ts';
import { LOCK_CLASS } from './lock_word.ts';

/** `mutex 'index'` for a lock of the program that has a name; '' for all others. */
export function lock_label(l: number): string {
  return user_class(mem.I32[l + LOCK_CLASS]) ? life.lock_label(l) : '';
}
/** What a lock is called in messages: its name, or its class and address. */
export function lock_name(l: number): string {
  const label = lock_label(l);
  return label !== '' ? label : `'${lock_order[mem.I32[l + LOCK_CLASS]]?.name ?? '?'}' at ${l * 4}`;
}
