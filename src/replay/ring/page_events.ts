/*
 * page_events: references to pages, on their way from a reader to players.
 *
 *   PAGE   a page is seen for the first time: word 1 = its place, words 2 and 3 = lower and
 *          upper half of the number that it has in the recording.  Pages are counted from
 *          0 in this order; the count is a page's index
 *   REFS   word 0: op, how many << 8   words 1 to 3: index << 1 | written, one a reference
 *
 * They share the ring of events.ts and its unit of 16 bytes; END is OP_END there.
 *
 * Places.  Recorded pages lie all over 2^52.  The pages of one region of REGION_PAGES keep their
 * neighbours; regions lie one behind another in the order in which they were first seen:
 *
 *      recorded    0x4000..      0x1ffe00..     0x401a..
 *                     |             |              |
 *      places      [ 0, 512 )   [ 512, 1024 )      └ in the first region again
 *
 * Always true: a PAGE stands before the first REFS that names its index.
 */
import { OP_END, OP_MASK } from './events.ts';
import { RING_END, RING_FAILED, type RingReader, type RingWriter } from './ring.ts';

export const OP_PAGE = 32;
export const OP_REFS = 33;
const COUNT_SHIFT = 8;
/** References in a unit. */
const REFS_MOST = 3;

/** Pages of a region, whose places are side by side. */
export const REGION_PAGES = 512;
/** Places that there are. */
export const PLACES_MAX = 2 ** 27;
/** Pages that are told apart. */
export const PAGES_MAX = 2 ** 24;

/** What is told of references. */
export interface PageHearer {
  /** The page with the next index: its number in the recording, and its place. */
  page(recorded: number, place: number): void;
  reference(index: number, write: boolean): void;
}
/** Where references go; flush: those that are held, too. */
export interface PageSink extends PageHearer {
  flush(): void;
}
/** Puts references into a ring. */
export class PageRingWriter implements PageSink {
  readonly #writer: RingWriter;
  #held = 0;
  #first = 0;
  #second = 0;

  constructor(writer: RingWriter) {
    this.#writer = writer;
  }
  page(recorded: number, place: number): void {
    this.#writer.put(OP_PAGE, place, recorded | 0, Math.floor(recorded / 2 ** 32));
  }
  reference(index: number, write: boolean): void {
    const ref = (index << 1) | (write ? 1 : 0);
    this.#held++;
    if (this.#held === 1) this.#first = ref;
    else if (this.#held === 2) this.#second = ref;
    else this.#put(ref);
  }
  /** What is held goes into the ring. */
  flush(): void {
    if (this.#held > 0) this.#put(0);
  }
  #put(third: number): void {
    this.#writer.put(OP_REFS | (this.#held << COUNT_SHIFT), this.#first, this.#second, third);
    this.#held = 0;
    this.#second = 0;
  }
}

/**
 * Tells a player what comes out of a ring until that ends or fails; `wait` is given what may
 * sleep.  The ring is this reader's own, and is closed at the end.
 */
export function hear_pages(
  ring: RingReader,
  hearer: PageHearer,
  wait: (next: () => number) => number = (next) => next(),
): void {
  try {
    for (;;) {
      const n = wait(() => ring.next_batch());
      if (n === RING_END || n === RING_FAILED) return;
      batch(ring, n, hearer);
      ring.release(n);
    }
  } finally {
    ring.close();
  }
}
function batch(ring: RingReader, n: number, hearer: PageHearer): void {
  const { words } = ring;
  for (let i = 0; i < n; i++) {
    const at = ring.word_of(i);
    const op = words[at] & OP_MASK;
    if (op === OP_REFS) {
      const last = at + Math.min(words[at] >> COUNT_SHIFT, REFS_MOST);
      for (let w = at + 1; w <= last; w++) hearer.reference(words[w] >> 1, (words[w] & 1) !== 0);
    } else if (op === OP_PAGE) {
      hearer.page(words[at + 3] * 2 ** 32 + (words[at + 2] >>> 0), words[at + 1]);
    } else if (op !== OP_END) throw new Error(`page_events: event ${op} is no reference`);
  }
}
