/*
 * swap_blist (model): which slots are free, as one array.
 */

/** Slots of a word of bits: no run reaches from one into the next. */
const WORD = 32;

export class BlistModel {
  readonly free: boolean[];

  constructor(slots: number, kept: number) {
    this.free = Array.from({ length: slots }, (_, i) => i >= kept);
  }
  avail(): number {
    return this.free.filter(Boolean).length;
  }
  /** The lowest n free slots within one word; -1: there are none. */
  alloc(n: number): number {
    for (let s = 0; s + n <= this.free.length; s++) {
      if (Math.floor(s / WORD) !== Math.floor((s + n - 1) / WORD)) continue;
      if (!this.free.slice(s, s + n).every(Boolean)) continue;
      this.free.fill(false, s, s + n);
      return s;
    }
    return -1;
  }
  release(s: number, n: number): void {
    this.free.fill(true, s, s + n);
  }
  /** How many of them were free. */
  fill(s: number, n: number): number {
    const were = this.free.slice(s, s + n).filter(Boolean).length;
    this.free.fill(false, s, s + n);
    return were;
  }
}
