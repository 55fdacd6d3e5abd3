/*
 * count: 64-bit counts in two words, that one CPU adds to and others read.
 *
 * The fast paths count in a 32-bit word: in a tight loop the processor forwards
 * an integer from one store to the next load in 1.6 ns, a double in 8.  Once in
 * 2^32 counts the low word begins anew, and the high word takes the carry.  Two
 * words cannot change at once, so the high one also says that a carry is under
 * way: it holds twice the carries made, and one more during a carry.
 *
 *      low          high         count
 *      0xffffffff   2c           c     * 2^32 + low
 *      0xffffffff   2c + 1       c     * 2^32 + low     carry begun
 *      0            2c + 1       (c+1) * 2^32 + low     the low word has begun anew
 *      0            2c + 2       (c+1) * 2^32 + low     carry done
 *
 * So every state of the two words means one count.  A reader looks at low, high
 * and low again: if the low word has not gone back, no carry was made between
 * the two looks, and what the high word says belongs to both.  A thread that
 * dies during a carry leaves an odd word, which reads right until the low word
 * is past its middle; its reaper makes it even long before (count_settle).
 *
 * Counting itself is plain, `low = low + 1`, and is written out where it is done:
 *
 *      const v = (low[at] + 1) | 0;
 *      if (v === 0) count_carry(field_word(low, at), field_word(high, at));
 *      ... what is counted ...
 *      low[at] = v;
 *
 * Order.  count_carry uses atomic stores and the reader atomic loads, so that the
 * states above follow one another on any processor.  Between two different
 * counts of a CPU, plain stores keep their order on x86 but not on ARM: there a
 * reader may see a free before its allocation, and must bear it (sample.ts).
 */
import { atomic_load } from './atomic.ts';
import { mem } from './memory.ts';
import { type Field, field_word } from './struct.ts';

const CARRY = 2 ** 32;
const MIDDLE = 2 ** 31;

/** Carries, for a low word that is about to become 0, and makes it so. By the CPU that counts. */
export function count_carry(low: number, high: number): void {
  const words = mem.I32;
  const begun = words[high] | 1;
  Atomics.store(words, high, begun); // no function of ours: a full stack must not end it half-way
  Atomics.store(words, low, 0);
  Atomics.store(words, high, begun + 1);
}
/** Ends the carry that a dead CPU may have left half done. May be repeated. */
export function count_settle(low: number, high: number): void {
  const h = mem.I32[high];
  if ((h & 1) === 0) return;
  mem.I32[high] = mem.I32[low] >>> 0 < MIDDLE ? h + 1 : h - 1;
}
/** The count in two words, while its CPU may be counting. */
export function count_read(low: number, high: number): number {
  for (;;) {
    const before = atomic_load(low) >>> 0;
    const h = atomic_load(high);
    if (atomic_load(low) >>> 0 < before) continue; // a carry in between
    const odd = h & 1;
    const carries = (h - odd) / 2 + (odd === 1 && before < MIDDLE ? 1 : 0);
    return carries * CARRY + before;
  }
}
/** The same for two fields of a record. */
export function count_pair<P extends number>(low: Field<P>, high: Field<P>, p: P): number {
  return count_read(field_word(low, p), field_word(high, p));
}
