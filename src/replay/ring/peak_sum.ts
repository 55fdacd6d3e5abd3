/*
 * peak_sum: a sum that several threads add to, and the most that it ever was.
 *
 *      word 0   the sum
 *      word 1   its peak: raised by whoever finds his sum above it
 *
 * Always true: the peak is no less than any sum that an addition led to, once that returned.
 */
const SUM = 0;
const MOST = 1;

/** Bytes of shared memory, all zero at first, that it takes. */
export const PEAK_SUM_BYTES = 8;

export class PeakSum {
  readonly #words: Int32Array;

  constructor(buffer: SharedArrayBuffer, at: number) {
    this.#words = new Int32Array(buffer, at, 2);
  }
  /** Adds, or takes away. */
  add(more: number): void {
    const words = this.#words;
    const now = Atomics.add(words, SUM, more) + more;
    let most = Atomics.load(words, MOST);
    while (now > most) {
      const seen = Atomics.compareExchange(words, MOST, most, now);
      if (seen === most) return;
      most = seen;
    }
  }
  most(): number {
    return Atomics.load(this.#words, MOST);
  }
}
