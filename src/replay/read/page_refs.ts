/*
 * page_refs: the references of a recording of pages: their indexes, places and counts.
 *
 *      lines ─► lackey, kmem_pages ─► page_refs ─┬─► lru_curve    what exact LRU would miss
 *                                                └─► ring         indexes and places
 *
 * A page of the recording, a number up to 2^52, gets an index when it is first seen, from 0 on,
 * and a place (ring/page_events.ts).  Programs use the same few pages again and again: a table
 * of the pages used last, by their lowest bits, answers nearly all references.
 *
 * Always true: each reference counts, reaches the curve, and reaches the players, once.
 */
import { PAGES_MAX, type PageSink, PLACES_MAX, REGION_PAGES } from '../ring/page_events.ts';
import { LruCurve } from './lru_curve.ts';
import { widened } from './widened.ts';

/** Sizes of memories that a document tells by themselves. */
const SIZES = [16, 64, 256];
/** And those of its curve, in powers of two. */
const CURVE = Array.from({ length: 16 }, (_, i) => 8 << i);
/** A page is less than this. */
export const PAGE_MAX = 2 ** 52;
const RECENT = 1024;
const NONE = -1;

export interface PageFigures {
  references: number;
  pages: number;
  written_pages: number;
  /** What an exact LRU memory of the size that was asked for misses; absent: none was. */
  asked_misses?: number;
  /** References that an exact LRU memory of so many pages misses, first ones included. */
  lru_misses: Record<string, number>;
  /** The same for powers of two, up to the first that misses first ones alone. */
  lru_curve: Record<string, number>;
}

export class PageRefs {
  references = 0;
  readonly #asked: number;
  readonly #out: PageSink;
  readonly #curve: LruCurve;
  readonly #indexes = new Map<number, number>();
  readonly #regions = new Map<number, number>();
  readonly #recent = new Float64Array(RECENT).fill(NONE);
  readonly #recent_index = new Int32Array(RECENT);
  #written = new Uint8Array(1024);
  #written_pages = 0;

  /** `asked`: a size of memory that is of interest beside the usual ones; 0: none. */
  constructor(out: PageSink, asked: number) {
    this.#out = out;
    this.#asked = asked;
    this.#curve = new LruCurve([...SIZES, ...CURVE, ...(asked > 0 ? [asked] : [])]);
  }

  /** A page is used. False: it is one too many, and nothing was done. */
  use(page: number, write: boolean): boolean {
    const slot = page % RECENT;
    let index = this.#recent_index[slot];
    if (this.#recent[slot] !== page) {
      index = this.#indexes.get(page) ?? this.#new(page);
      if (index === NONE) return false;
      this.#recent[slot] = page;
      this.#recent_index[slot] = index;
    }
    this.references++;
    this.#curve.use(index);
    if (write && this.#written[index] === 0) {
      this.#written[index] = 1;
      this.#written_pages++;
    }
    this.#out.reference(index, write);
    return true;
  }
  /** All are there. */
  finish(): void {
    this.#out.flush();
  }
  figures(): PageFigures {
    const misses = this.#curve.misses();
    const pages = this.#indexes.size;
    const of = (sizes: readonly number[]): Record<string, number> =>
      Object.fromEntries(sizes.map((size) => [String(size), misses[String(size)]]));
    const enough = CURVE.findIndex((size) => misses[String(size)] === pages);
    return {
      references: this.references,
      pages,
      written_pages: this.#written_pages,
      ...(this.#asked > 0 ? { asked_misses: misses[String(this.#asked)] } : {}),
      lru_misses: of(SIZES),
      lru_curve: of(CURVE.slice(0, enough < 0 ? CURVE.length : enough + 1)),
    };
  }

  #new(page: number): number {
    const index = this.#indexes.size;
    const number = Math.floor(page / REGION_PAGES);
    const region = this.#regions.get(number) ?? this.#regions.size;
    const place = region * REGION_PAGES + (page % REGION_PAGES);
    if (index === PAGES_MAX || place >= PLACES_MAX) return NONE;
    this.#regions.set(number, region);
    this.#indexes.set(page, index);
    if (index === this.#written.length) this.#written = widened(this.#written);
    this.#out.page(page, place);
    return index;
  }
}
