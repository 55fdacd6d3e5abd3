/*
 * alloc_js: what JavaScript itself offers for a piece of memory.
 *
 *      node --expose-gc alloc_js.ts buffer | uint8array | object
 *
 * One process plays one kind, so that the loops below see one `make` only and
 * V8 inlines it.  Freeing is dropping the last reference; the collector's work
 * falls where it falls, inside the time, except for one full collection before
 * each sample, which clears away what the pattern before has left behind.
 *
 * Every object is stored where the loop's caller can see it, and in pattern a
 * the next one replaces it there: V8 would not make an object at all that never
 * leaves its loop, or whose reference is taken back at once.  An `object` has three fields in
 * every pattern, whatever size was asked for.
 */
import {
  BATCH,
  FIFO_LIVE,
  type Pattern,
  RANDOM_LIVE,
  random_size,
  random_victim,
  SEED,
  SMALL_BYTES,
  serve,
  timed,
  xorshift,
} from '../child.ts';

type Make = (size: number, mark: number) => unknown;

const kinds: Record<string, Make> = {
  buffer(size, mark) {
    const b = Buffer.allocUnsafe(size);
    b[0] = mark;
    return b;
  },
  uint8array(size, mark) {
    const b = new Uint8Array(size);
    b[0] = mark;
    return b;
  },
  object(size, mark) {
    return { mark, size, next: null };
  },
};

/** The four patterns over one kind of object. */
function patterns_of(make: Make): Record<string, Pattern> {
  const held: unknown[] = new Array(BATCH).fill(null);
  const fifo: unknown[] = new Array(FIFO_LIVE).fill(null);
  const live: unknown[] = new Array(RANDOM_LIVE).fill(null);
  let at = 0;
  let x = SEED;

  const loop_a = (ops: number): void => {
    for (let i = 0; i < ops; i++) {
      held[0] = make(SMALL_BYTES, i);
    }
  };
  const loop_b = (ops: number): void => {
    for (let done = 0; done < ops; done += BATCH) {
      for (let i = 0; i < BATCH; i++) held[i] = make(SMALL_BYTES, i);
      for (let i = BATCH - 1; i >= 0; i--) held[i] = null;
    }
  };
  const loop_c = (ops: number): void => {
    let n = at;
    for (let i = 0; i < ops; i++) {
      fifo[n] = make(SMALL_BYTES, i);
      if (++n === FIFO_LIVE) n = 0;
    }
    at = n;
  };
  const loop_d = (ops: number): void => {
    let y = x;
    for (let i = 0; i < ops; i++) {
      y = xorshift(y);
      live[random_victim(y)] = make(random_size(y), i);
    }
    x = y;
  };
  const over = (set: unknown[], loop: (ops: number) => void): Pattern => {
    return (ops) => {
      gc_if_there();
      for (let i = 0; i < set.length; i++) {
        x = xorshift(x);
        set[i] = make(set === live ? random_size(x) : SMALL_BYTES, i);
      }
      const spent = timed(ops, loop);
      set.fill(null);
      return spent;
    };
  };
  return { a: over([], loop_a), b: over([], loop_b), c: over(fifo, loop_c), d: over(live, loop_d) };
}

function gc_if_there(): void {
  (globalThis as { gc?: () => void }).gc?.();
}

const kind = process.argv[2] ?? '';
const make = Object.hasOwn(kinds, kind) ? kinds[kind] : undefined;
if (make === undefined) {
  process.stderr.write(`alloc_js: kind '${kind}': one of ${Object.keys(kinds).join(', ')}\n`);
  process.exitCode = 2;
} else {
  await serve(patterns_of(make), `${kind} on Node ${process.version}`);
}
