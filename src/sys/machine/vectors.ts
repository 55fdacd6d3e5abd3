/*
 * vectors: functions that shared memory can name.
 *
 * A function cannot be stored in shared memory.  A field that holds "a function
 * pointer" (a zone's constructor, a page supplier) holds a number; every
 * thread finds the function under that number in a table of its own.  The
 * number is a hash of the function's name, so that threads agree on it
 * whatever they imported and in whatever order.
 */
import { panic } from './panic.ts';

// biome-ignore lint/complexity/noBannedTypes: a table of functions of any signature
const table = new Map<number, { name: string; run: Function }>();

/** The number under which threads know the function `name`; never 0. */
export function vector_number(name: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) h = Math.imul(h ^ name.charCodeAt(i), 0x01000193);
  return (h & 0x7fffffff) | 1;
}

/**
 * Puts a function into this thread's table and returns its number.  Every
 * thread that may call it registers it under the same name.
 */
// biome-ignore lint/complexity/noBannedTypes: see above
export function vector(name: string, run: Function): number {
  const n = vector_number(name);
  const old = table.get(n);
  if (old && old.name !== name) throw new Error(`vectors ${old.name} and ${name} have one number`);
  table.set(n, { name, run });
  return n;
}

/** The function with a number. Panics if this thread never registered it. */
export function vector_call<F>(n: number): F {
  const v = table.get(n);
  if (!v) panic('vector: this thread has not registered the function', n);
  return v.run as F;
}
/** The name of a vector, for tools. */
export function vector_name(n: number): string {
  return n === 0 ? '-' : (table.get(n)?.name ?? `vector ${n}`);
}
