/*
 * planted: a fuzz driver that fails on purpose.
 *
 * It plays random operations on a ring of small numbers and on its model, an
 * array.  The ring carries a planted bug: when the reader has wrapped exactly
 * to slot 0 and the ring is full, a push overwrites the oldest number instead
 * of being refused.  Few sequences meet that state, so finding it shows that
 * the runner plays enough, reports, and replays.
 *
 * Always true: the same seed gives the same operations, hence the same end.
 */

const SLOTS = 6;

/** A small seeded generator: mulberry32, good enough to draw operations. */
function generator(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}

class Ring {
  slots = new Int32Array(SLOTS);
  head = 0;
  count = 0;

  push(value: number): boolean {
    const full = this.count === SLOTS;
    const planted = full && this.head === 0 && this.slots[0] > 20;
    if (full && !planted) return false;
    this.slots[(this.head + this.count) % SLOTS] = value;
    if (!full) this.count++;
    return true;
  }

  shift(): number | undefined {
    if (this.count === 0) return undefined;
    const value = this.slots[this.head];
    this.head = (this.head + 1) % SLOTS;
    this.count--;
    return value;
  }
}

export function run(seed: number, steps: number): void {
  const next = generator(seed);
  const ring = new Ring();
  const model: number[] = [];
  for (let step = 0; step < steps; step++) {
    if (next() % 2 === 0) {
      const value = step;
      const taken = ring.push(value);
      const expected = model.length < SLOTS;
      if (expected) model.push(value);
      if (taken !== expected) {
        throw new Error(`step ${step}: push gave ${taken}, the model says ${expected} (planted)`);
      }
    } else {
      const got = ring.shift();
      const expected = model.shift();
      if (got !== expected) {
        throw new Error(`step ${step}: shift gave ${got}, the model says ${expected} (planted)`);
      }
    }
  }
}
