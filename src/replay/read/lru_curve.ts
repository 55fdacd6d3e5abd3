/*
 * lru_curve: what exact LRU would miss, in memories of several sizes at a time.
 *
 *      used last   p4  p9 ┆ p1  p7 ┆ p0  p3  p5  p2        used longest ago
 *      zone         0   0 ┆  1   1 ┆  2   2   2   2
 *      marks              p9       p7                      sizes 2 and 4
 *
 * An LRU memory of N pages holds the N that were used last.  So one list of all pages by their last
 * use stands for memories of every size: a page in zone z would be missed by the first z sizes.
 * A mark is the last page that a size holds.  A page that is used goes to the front; each
 * mark that it passes steps one page forward, and the page it leaves falls into the next zone.
 * That is a few stores for each size that missed, and none for those that held the page.
 *
 * A page that is used for the first time is missed by all.
 */
import { widened } from './widened.ts';

const NONE = -1;

export class LruCurve {
  /** Sizes of the memories, ascending. */
  readonly sizes: readonly number[];
  /** References to pages in each zone. */
  readonly #hits: Float64Array;
  readonly #marks: Int32Array;
  #next = new Int32Array(1024);
  #prev = new Int32Array(1024);
  #zone = new Uint8Array(1024);
  #head = NONE;
  #tail = NONE;
  #pages = 0;

  constructor(sizes: Iterable<number>) {
    this.sizes = [...new Set(sizes)].sort((a, b) => a - b);
    this.#hits = new Float64Array(this.sizes.length + 1);
    this.#marks = new Int32Array(this.sizes.length).fill(NONE);
  }

  /** A page is used; indexes are given from 0 on, without a gap. */
  use(index: number): void {
    if (index === this.#head) this.#hits[0]++;
    else if (index < this.#pages) this.#again(index);
    else this.#first(index);
  }
  /** References that a memory of each size would have missed. */
  misses(): Record<string, number> {
    const all: Record<string, number> = {};
    let missed = this.#pages;
    for (let z = this.sizes.length; z > 0; z--) {
      missed += this.#hits[z];
      all[String(this.sizes[z - 1])] = missed;
    }
    return all;
  }

  #again(index: number): void {
    const zone = this.#zone[index];
    this.#hits[zone]++;
    const [prev, next] = [this.#prev, this.#next];
    const [before, after] = [prev[index], next[index]];
    if (this.#marks[zone] === index) this.#marks[zone] = before;
    next[before] = after;
    if (after === NONE) this.#tail = before;
    else prev[after] = before;
    this.#to_front(index, zone);
  }
  #first(index: number): void {
    if (index !== this.#pages) throw new Error(`lru_curve: page ${index} after ${this.#pages}`);
    this.#pages++;
    if (this.#pages > this.#next.length) {
      this.#next = widened(this.#next);
      this.#prev = widened(this.#prev);
      this.#zone = widened(this.#zone);
    }
    if (this.#head === NONE) this.#tail = index;
    this.#to_front(index, this.sizes.length);
    const full = this.sizes.indexOf(this.#pages);
    if (full >= 0) this.#marks[full] = this.#tail;
  }
  /** A page that was in a zone, or is new, is the first; what it passed is one place further. */
  #to_front(index: number, zone: number): void {
    const head = this.#head;
    this.#prev[index] = NONE;
    this.#next[index] = head;
    if (head !== NONE) this.#prev[head] = index;
    this.#head = index;
    this.#zone[index] = 0;
    const marks = this.#marks;
    for (let j = 0; j < zone; j++) {
      const m = marks[j];
      if (m === NONE) return; // larger ones are not full, either
      this.#zone[m]++;
      marks[j] = this.#prev[m];
    }
  }
}
