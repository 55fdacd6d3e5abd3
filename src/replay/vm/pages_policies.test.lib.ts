/*
 * pages_policies: what simple ways of choosing a page miss, for comparison with the kernel's.
 *
 *      FIFO     the page that is in memory for longest goes
 *      CLOCK    the same, but a page that was used since the hand passed it is passed once more
 *
 * Both are told each use, as no kernel is.
 */
import { hear_pages } from '../ring/page_events.ts';
import { RingReader } from '../ring/ring.ts';
import { open_reader } from '../read/reader.ts';

class Circle {
  misses = 0;
  readonly size: number;
  readonly #clock: boolean;
  readonly #slots: Int32Array;
  readonly #used: Uint8Array;
  readonly #where: number[] = [];
  #hand = 0;

  constructor(size: number, clock: boolean) {
    this.size = size;
    this.#clock = clock;
    this.#slots = new Int32Array(size).fill(-1);
    this.#used = new Uint8Array(size);
  }
  use(index: number): void {
    const at = this.#where[index] ?? -1;
    if (at >= 0) {
      this.#used[at] = 1;
      return;
    }
    this.misses++;
    while (this.#clock && this.#used[this.#hand] !== 0) {
      this.#used[this.#hand] = 0;
      this.#step();
    }
    const old = this.#slots[this.#hand];
    if (old >= 0) this.#where[old] = -1;
    this.#slots[this.#hand] = index;
    this.#used[this.#hand] = 1;
    this.#where[index] = this.#hand;
    this.#step();
  }
  #step(): void {
    this.#hand = (this.#hand + 1) % this.size;
  }
}

/** What FIFO and CLOCK miss of a recording in memories of so many pages. */
export async function simple_misses(
  file: string,
  sizes: readonly number[],
): Promise<Map<number, { fifo: number; clock: number }>> {
  const all = sizes.map((size) => ({
    fifo: new Circle(size, false),
    clock: new Circle(size, true),
  }));
  const reader = open_reader({ files: [file], cpus: 1 });
  hear_pages(new RingReader(reader.ring_handle, 0), {
    page: () => {},
    reference: (index) => {
      for (const { fifo, clock } of all) {
        fifo.use(index);
        clock.use(index);
      }
    },
  });
  await reader.done;
  return new Map(
    all.map(({ fifo, clock }) => [fifo.size, { fifo: fifo.misses, clock: clock.misses }]),
  );
}
