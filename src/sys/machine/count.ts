/*
 * count: 64-bit counts in two words, that one CPU adds to and others read.
 *
 * The fast paths count in a 32-bit word: in a tight loop the processor forwards
 * an integer from one store to the next load in 1.6 ns, a double in 8.  Once in
 * 2^32 counts the low word begins anew, and the high word must take the carry.  Two
 * words cannot change at once, so the high one says in good time that a carry is
 * to come: it holds twice the carries made, and one more around the next one.
 *
 *      low                      high         count
 *      from 0    to 2^30        2c, 2c - 1   c * 2^32 + low     carried; the mark goes at the end
 *      from 2^30 to 3 * 2^30    2c           c * 2^32 + low
 *      from 3 * 2^30 to 2^32    2c + 1, 2c   c * 2^32 + low     a carry is to come: marked
 *
 * So every state of the two words means one count, and it matters to nobody whether
 * the high word changes a little before or after the low one: a processor that keeps
 * no order of stores may show them either way, and a thread that dies between the two
 * leaves a count that reads right for another 2^30.  Its reaper sets or clears the
 * mark long before (count_settle).  A reader looks at low, high and low again.  A thread
 * that is held up between its looks may find the high word of another quarter: it looks
 * again unless the low word has gone ahead, and by half a quarter at most.
 *
 * Counting itself is plain, and is written out where it is done.  It calls nothing:
 * a full stack must not end it half-way.
 *
 *      const v = (low[at] + 1) | 0;
 *      ... what is counted ...
 *      low[at] = v;
 *      if (v << 1 === COUNT_TURN) high[at] = v < 0 ? high[at] | 1 : (high[at] + 1) & ~1;
 *
 * Order.  Between two different counts of a CPU, plain stores keep their order on x86
 * but not on ARM: there a reader may see a free before its allocation, and must bear
 * it (sample.ts).
 */
import { atomic_add, atomic_cas, atomic_load } from './atomic.ts';
import { mem } from './memory.ts';
import { type Field, field_word } from './struct.ts';

const CARRY = 2 ** 32;
const CLEAR = 2 ** 30;
const MIDDLE = 2 ** 31;
const MARK = 3 * 2 ** 30;
/** Most that is added at once, and by which a reader may lag: neither passes a whole quarter. */
const STEP = 2 ** 29;

/** A low word shifted left by one when it is 2^30 or 3 * 2^30: the mark goes, or comes. */
export const COUNT_TURN = -(2 ** 31);

/** Adds one, by the CPU that counts. */
export function count_up(low: number, high: number): void {
  const words = mem.I32;
  const v = (words[low] + 1) | 0;
  words[low] = v;
  if (v << 1 === COUNT_TURN) words[high] = v < 0 ? words[high] | 1 : (words[high] + 1) & ~1;
}
/** Adds n to a count that several threads add to. */
export function count_add(low: number, high: number, n: number): void {
  for (let left = n; left > 0; left -= STEP) {
    atomic_add(low, Math.min(left, STEP));
    count_settle(low, high);
  }
}
/** Sets or clears the mark that a dead CPU may have left undone. May be repeated. */
export function count_settle(low: number, high: number): void {
  const h = atomic_load(high);
  const v = atomic_load(low) >>> 0;
  const late = (h & 1) === 0 ? v >= MARK : v >= CLEAR && v < MIDDLE;
  if (late) atomic_cas(high, h, h + 1); // else another thread has done it
}
/** The count in two words, while its CPU may be counting. */
export function count_read(low: number, high: number): number {
  for (;;) {
    const before = atomic_load(low) >>> 0;
    const h = atomic_load(high);
    const ahead = (atomic_load(low) >>> 0) - before;
    if (ahead < 0 || ahead > STEP) continue; // the high word may be of another quarter
    const odd = h & 1;
    const carries = (h - odd) / 2 + (odd === 1 && before < MIDDLE ? 1 : 0);
    return carries * CARRY + before;
  }
}
/** The same for two fields of a record. */
export function count_pair<P extends number>(low: Field<P>, high: Field<P>, p: P): number {
  return count_read(field_word(low, p), field_word(high, p));
}
