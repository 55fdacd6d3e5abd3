/*
 * page_runs (model): the free pages as two arrays of booleans, searched page by
 * page.
 *
 * It answers every question that the page floor answers with bitmaps and a
 * tree, in the most obvious way there is.  Always true: a zeroed page is a free
 * page.
 */
import type { RunLimits } from './vm_phys.ts';

const COLORS = 32;

export class PageModel {
  readonly low: number;
  readonly high: number;
  /** Domain d is [starts[d], starts[d + 1]). */
  readonly starts: readonly number[];
  readonly free: boolean[] = [];
  readonly zero: boolean[] = [];

  constructor(low: number, high: number, starts: readonly number[]) {
    this.low = low;
    this.high = high;
    this.starts = starts;
    for (let m = 0; m < high; m++) {
      this.free.push(false);
      this.zero.push(false);
    }
  }
  count(): number {
    return this.free.filter(Boolean).length;
  }
  zeroed(): number {
    return this.zero.filter(Boolean).length;
  }
  in_domain(d: number): number {
    return this.free.slice(this.starts[d], this.starts[d + 1]).filter(Boolean).length;
  }
  take(m: number, n: number): void {
    for (let i = m; i < m + n; i++) {
      this.free[i] = false;
      this.zero[i] = false;
    }
  }
  give(m: number, n: number, zero: boolean): void {
    for (let i = m; i < m + n; i++) {
      this.free[i] = true;
      this.zero[i] = zero;
    }
  }
  /** The first page of lo..hi-1 that is free, zeroed or not as told, and of the colour. */
  private lowest(zero: boolean, color: number, lo: number, hi: number): number {
    for (let m = lo; m < hi; m++) {
      const right = color < 0 || m % COLORS === color % COLORS;
      if (this.free[m] && this.zero[m] === zero && right) return m;
    }
    return 0;
  }
  /** The page that a request for one page must get: colour, then contents, then address. */
  choose(zero: boolean, color: number, domain: number): number {
    const places: [number, number][] = [];
    if (domain >= 0) places.push([this.starts[domain], this.starts[domain + 1]]);
    places.push([this.low, this.high]);
    for (const [lo, hi] of places) {
      for (const want of color >= 0 ? [color, -1] : [-1]) {
        const m = this.lowest(zero, want, lo, hi) || this.lowest(!zero, want, lo, hi);
        if (m !== 0) return m;
      }
    }
    return 0;
  }
  /** The highest place of n free pages within the limits; 0: none. */
  run(n: number, limits: RunLimits): number {
    const { low, high, align, boundary } = limits;
    for (let m = Math.min(high, this.high) - n; m >= Math.max(low, this.low); m--) {
      if (m % align !== 0) continue;
      if (boundary > 0 && Math.floor(m / boundary) !== Math.floor((m + n - 1) / boundary)) continue;
      let i = m;
      while (i < m + n && this.free[i]) i++;
      if (i === m + n) return m;
    }
    return 0;
  }
  longest(): number {
    let best = 0;
    let n = 0;
    for (const is of this.free) {
      n = is ? n + 1 : 0;
      best = Math.max(best, n);
    }
    return best;
  }
}
