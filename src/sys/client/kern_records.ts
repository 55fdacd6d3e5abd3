/*
 * kern_records: the numbers of records, and the handles that go stale.
 *
 *      run    | number 1 | number 2 | number 3 | ...       16 bytes each
 *               count      count      count
 *
 * A number is an item of a zone whose pages are one run, so that its place in memory
 * says which number it is: n = (word - base) / 4.  Taking and giving one is a
 * uma_zalloc and a uma_zfree, out of this CPU's cache, and a step of its count.
 *
 *                 records_alloc                records_free
 *      count 0  ---------------->  count 1  ---------------->  count 2  ---> 3 ...
 *      free                        in use                      free
 *
 * Odd means in use.  records_alloc stores the count plainly, because a number that is
 * not in use is nobody else's.  records_free swaps it (compare-and-swap), so of two CPUs
 * that free one number in the same instant exactly one succeeds, and the other is told.
 *
 * Handles.  The count is also a generation, from 1 on, and together with the number a name
 * for this one use of it:
 *
 *      handle = -(generation * 2^32 + number)      generation = (count + 1) / 2
 *
 * Below -2^32 it is no index, no address, no length and no usual mistake (-1), and exact
 * as a double, because generations end at 2^21 - 1.  Once its item is freed the count is
 * another, and the handle is stale.  A number that has had all generations is *retired*:
 * its count stays at NUMBER_RETIRED and it stays allocated, by nobody, so that no handle
 * is ever valid again.  The records have one number less from then on.
 *
 * Deaths and exceptions.  Between the zone's cache and the store of the count, and between
 * the swap of the count and the zone's cache, a number is in the hands of one CPU.  If it
 * dies there, that number is lost, and counts as used; nothing else is.  No function is
 * called between the two steps of records_alloc, because a call may fail for want of stack.
 *
 * Locks.  None.  The zone has its own; the making and the end of all numbers are under
 * the registry's lock (kern_registry_parts.ts).
 *
 * Always true, and proved by records_check():
 *   - of the zone's items in use, each has an odd count, or is retired, or was lost
 *   - `retired` is at most the number of counts that say so
 *
 * Unlike FreeBSD's unr(9), which hands out bare numbers under a lock: here a number is an
 * item of a zone, so that each CPU has some at hand.
 */
import { atomic_add, atomic_cas as atomic_cas_, atomic_store } from '../machine/atomic.ts';
import { EINVAL, ESTALE } from '../machine/errno.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { field_word, NULL } from '../machine/struct.ts';
import {
  NUMBER_RETIRED,
  number as number_,
  type number_t,
  type reg_entry_t,
  reg_records,
} from '../h/registry.ts';
import { uma_zalloc as uma_zalloc_, uma_zfree as uma_zfree_ } from '../uma/uma_core.ts';
import { zone_present } from '../uma/uma_stats.ts';

// tidy: hot. Local names: V8 takes them for constants, imported ones it does not.
const atomic_cas = atomic_cas_;
const opt = opt_;
const number = number_;
const records = reg_records;
const zalloc = uma_zalloc_;
const zfree = uma_zfree_;

/** Words of a number are 4: a shift turns numbers into words. */
const NUMBER_SHIFT = 2;
const GENERATION = 2 ** 32;

/** The item of number n. */
function item(e: reg_entry_t, n: number): number_t {
  return (records.base[e] + (n << NUMBER_SHIFT)) as number_t;
}

// --- numbers -----------------------------------------------------------------------------------

/** Takes a number; 0: none. `flags` as uma_zalloc has them. */
export function records_alloc(e: reg_entry_t, flags: number): number {
  const w = zalloc(records.zone[e], flags) as number_t;
  if (w === NULL) return 0;
  number.count[w] = (number.count[w] + 1) | 0;
  return (w - records.base[e]) >> NUMBER_SHIFT;
}
/** Gives a number back. 0, or EINVAL if it is none that is in use. Any CPU may. */
export function records_free(e: reg_entry_t, n: number): number {
  if (n < 1 || n > records.capacity[e]) return EINVAL;
  const w = (records.base[e] + (n << NUMBER_SHIFT)) as number_t;
  const count = number.count[w];
  if ((count & 1) === 0 || atomic_cas(w, count, (count + 1) | 0) !== count) return EINVAL;
  try {
    zfree(records.zone[e], w);
  } catch (x) {
    free_failed(x, w, count);
  }
  return 0;
}
/**
 * Passes an exception on.  The zone did not take the item, for want of stack, and nothing
 * was done: it is in use as before.  Under the seeded scheduler the exception is this
 * CPU's death, and the dead repair nothing.
 */
function free_failed(x: unknown, w: number_t, count: number): never {
  if (!opt.SIM) number.count[w] = count;
  throw x;
}
/** Whether number n, 1 to the capacity, is in use. */
export function records_live(e: reg_entry_t, n: number): boolean {
  return (number.count[item(e, n)] & 1) !== 0;
}

// --- handles -----------------------------------------------------------------------------------

function generation_of(handle: number): number {
  return Math.floor(-handle / GENERATION);
}
function handle_of(n: number, count: number): number {
  return -((count + 1) >>> 1) * GENERATION - n;
}
/** Takes a number and answers its handle; 0: none. */
export function records_alloc_handle(e: reg_entry_t, flags: number): number {
  const w = zalloc(records.zone[e], flags) as number_t;
  if (w === NULL) return 0;
  const count = (number.count[w] + 1) | 0;
  number.count[w] = count;
  // Written out: a call may fail for want of stack, and the item would be nobody's.
  return -((count + 1) >>> 1) * GENERATION - ((w - records.base[e]) >> NUMBER_SHIFT);
}
/** The number in a handle, be it stale or not; 0 if it is none. */
export function records_handle_number(e: reg_entry_t, handle: number): number {
  if (!Number.isSafeInteger(handle) || handle >= -GENERATION) return 0;
  const n = -handle - generation_of(handle) * GENERATION;
  return n >= 1 && n <= records.capacity[e] ? n : 0;
}
/** The number of a handle whose item is in use; 0 if the handle is stale, or none. */
export function records_index(e: reg_entry_t, handle: number): number {
  const n = records_handle_number(e, handle);
  return n !== 0 && number.count[item(e, n)] === generation_of(handle) * 2 - 1 ? n : 0;
}
/** The handle of number n, 1 to the capacity, if it is in use; else 0. */
export function records_handle(e: reg_entry_t, n: number): number {
  const count = number.count[item(e, n)];
  return (count & 1) !== 0 ? handle_of(n, count) : 0;
}
/** Gives a number back by its handle. 0, ESTALE if it was freed, EINVAL if it is no handle. */
export function records_free_handle(e: reg_entry_t, handle: number): number {
  const n = records_handle_number(e, handle);
  if (n === 0) return EINVAL;
  const w = item(e, n);
  const count = generation_of(handle) * 2 - 1;
  if (atomic_cas(w, count, count + 1) !== count) return ESTALE;
  if (count + 1 === NUMBER_RETIRED) {
    atomic_add(field_word(records.retired, e), 1);
    return 0;
  }
  try {
    zfree(records.zone[e], w);
  } catch (x) {
    free_failed(x, w, count);
  }
  return 0;
}

// --- all of them -------------------------------------------------------------------------------

/** Numbers in use: a sample while CPUs run. Retired ones are nobody's. */
export function records_used(e: reg_entry_t): number {
  return zone_present(records.zone[e]).used - records.retired[e];
}
/** Numbers that can be in use at a time. */
export function records_most(e: reg_entry_t): number {
  return records.capacity[e] - records.retired[e];
}
/** Gives retired numbers to the zone, which is about to end. The registry's lock is held. */
export function records_end(e: reg_entry_t): void {
  if (records.retired[e] === 0) return;
  for (let n = 1; n <= records.capacity[e]; n++) {
    const w = item(e, n);
    if (number.count[w] !== NUMBER_RETIRED) continue;
    number.count[w] = 0; // first: it must not go back twice
    zfree(records.zone[e], w);
  }
  atomic_store(field_word(records.retired, e), 0);
}
/** Proves the numbers. Panics if they are wrong. The machine is quiet. */
export function records_check(e: reg_entry_t): void {
  let live = 0;
  let retired = 0;
  for (let n = 1; n <= records.capacity[e]; n++) {
    const count = number.count[item(e, n)];
    if ((count & 1) !== 0) live++;
    else if (count === NUMBER_RETIRED) retired++;
  }
  const used = zone_present(records.zone[e]).used;
  const counted = records.retired[e];
  if (live + counted > used) panic('records_check: more live than used', live, counted, used);
  // Fewer may be counted: a CPU may die between the two.
  if (counted > retired) panic('records_check: retired', e * 4, counted, retired);
}
