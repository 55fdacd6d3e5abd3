/*
 * ddb_access: reading memory that may be wrong.
 *
 *      db_get_value(at, 4, false)          the word at a byte address; no memory there: an error
 *      db_record(at, 'uma_zone', words)    the word index of a record that lies in the memory
 *      db_walk(db, { first, next, … })     the members of a list, up to as many as there can be
 *
 * Views give `undefined` beyond the end and trap nowhere.  So every address that a user
 * gives, and every pointer that a walk follows, is looked at here before a field is read by it;
 * a list that leads out of the memory, or back into itself, ends with an error that says
 * after how many members.
 */
import { M, machine } from '../../machine/header.ts';
import { mem, memory_state } from '../../machine/memory.ts';
import { type Ddb, DdbError, db_check, db_hex } from './ddb_session.ts';

/** Most members of a list that are followed: more do not fit in the largest memory. */
const WALK_MAX = 2 ** 21;
/** Members between two looks at the clock. */
const WALK_CHECK = 256;

/** Whether `bytes` bytes from `at` on are memory. */
export function db_there(at: number, bytes: number): boolean {
  return Number.isSafeInteger(at) && at >= 4 && at + bytes <= memory_state.size;
}
function no_memory(at: number): never {
  const size = db_hex(memory_state.size);
  throw new DdbError(`No memory at ${db_hex(at)}: there is ${size} of it`);
}
/** The number of `size` bytes at a byte address, which need not be aligned. */
export function db_get_value(at: number, size: number, signed: boolean): bigint {
  if (!db_there(at, size)) no_memory(at);
  let v = 0n;
  for (let i = size - 1; i >= 0; i--) v = (v << 8n) | BigInt(mem.U8[at + i]);
  return signed ? BigInt.asIntN(size * 8, v) : v;
}
/** The 64-bit number at a byte address, as 64-bit fields are kept: a double. */
export function db_get_double(at: number): number {
  if (!db_there(at, 8)) no_memory(at);
  return new DataView(mem.U8.buffer, at, 8).getFloat64(0, true);
}
/** The word index of a record of so many words; an error if there is no room for it. */
export function db_record(at: number, what: string, words: number): number {
  if (at % 4 !== 0) throw new DdbError(`${db_hex(at)}: ${what} begins at a multiple of 4`);
  if (!db_there(at, words * 4)) no_memory(at);
  return at / 4;
}
/** Whether a pointer can be that of a record. */
export function db_pointer(p: number, words: number): boolean {
  return Number.isInteger(p) && p > 0 && db_there(p * 4, words * 4);
}
/** A page number; an error if there is no such page. */
export function db_page_number(m: number): number {
  const pages = machine.npages[M];
  if (Number.isInteger(m) && m >= 0 && m < pages) return m;
  throw new DdbError(`There is no page ${db_hex(m)}: there are ${db_hex(pages)}`);
}

/** How a list is followed. */
export interface DbWalk<P extends number> {
  readonly what: string;
  readonly first: P;
  /** Words of a member. */
  readonly words: number;
  next(p: P): number;
  /** Most members, where the memory says it. */
  readonly max?: number;
}
/** The members of a list that ends with 0. Throws DdbError where it leads astray. */
export function* db_walk<P extends number>(db: Ddb, w: DbWalk<P>): Generator<P> {
  const max = Math.min(w.max ?? WALK_MAX, memory_state.size / (w.words * 4));
  let n = 0;
  for (let p: number = w.first; p !== 0; n++) {
    if (n >= max) throw new DdbError(`${w.what}: it does not end after ${n}`);
    if (!db_pointer(p, w.words)) {
      throw new DdbError(`${w.what}: it leads out of the memory after ${n}, to ${db_hex(p * 4)}`);
    }
    if (n % WALK_CHECK === WALK_CHECK - 1) db_check(db);
    yield p as P;
    p = w.next(p as P);
  }
}
