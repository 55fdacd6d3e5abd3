/*
 * heap_loops: the measuring loops over a heap that JavaScript calls as
 * get(bytes) and give(address).
 *
 * The loops of us_loops.ts and peers/alloc.c, statement for statement, for
 * peers that hand out byte addresses: allocators compiled to WebAssembly,
 * allocators written in JavaScript, and the one-lock baseline.  One process
 * plays one heap, so that every call has one target and V8 compiles it as it
 * compiles ours.
 *
 * A heap may move its view when it grows, so each loop takes the view anew; a
 * loop lasts 6400 operations at most (child.ts).
 *
 * The ring of two threads lies in a memory of its own under the same helper
 * that the kernel's ring uses: a flag costs both sides the same.
 */
import { hw_wasm, type Hw } from '../src/sys/machine/hw.ts';
import {
  BATCH,
  FIFO_LIVE,
  type Pattern,
  RANDOM_LIVE,
  random_size,
  random_victim,
  SEED,
  timed,
  xorshift,
} from './child.ts';
import { spin } from './pair.ts';

/** Byte addresses; 0: no memory. */
export interface Heap {
  get: (bytes: number) => number;
  give: (p: number) => void;
  /** Absent where the heap has none worth measuring. */
  resize?: (p: number, bytes: number) => number;
  words: () => Int32Array;
  /** Frees everything at once: for a heap whose single free takes very long. */
  reset?: () => void;
}

export function out_of_memory(): never {
  throw new Error('the peer is out of memory');
}

const held = new Int32Array(BATCH);
const fifo = new Int32Array(FIFO_LIVE);
const live = new Int32Array(RANDOM_LIVE);
let fifo_at = 0;
let random = SEED;

function loop_a(heap: Heap, ops: number): void {
  const words = heap.words();
  const get = heap.get;
  const give = heap.give;
  for (let i = 0; i < ops; i++) {
    const p = get(64);
    if (p === 0) out_of_memory();
    words[p >> 2] = i;
    give(p);
  }
}

function loop_b(heap: Heap, ops: number): void {
  const words = heap.words();
  const get = heap.get;
  const give = heap.give;
  const table = held;
  for (let done = 0; done < ops; done += BATCH) {
    for (let i = 0; i < BATCH; i++) {
      const p = get(64);
      if (p === 0) out_of_memory();
      words[p >> 2] = i;
      table[i] = p;
    }
    for (let i = BATCH - 1; i >= 0; i--) give(table[i]);
  }
}

function loop_c(heap: Heap, ops: number): void {
  const words = heap.words();
  const get = heap.get;
  const give = heap.give;
  const table = fifo;
  let at = fifo_at;
  for (let i = 0; i < ops; i++) {
    give(table[at]);
    const p = get(64);
    if (p === 0) out_of_memory();
    words[p >> 2] = i;
    table[at] = p;
    if (++at === FIFO_LIVE) at = 0;
  }
  fifo_at = at;
}

function loop_d(heap: Heap, ops: number): void {
  const words = heap.words();
  const get = heap.get;
  const give = heap.give;
  const table = live;
  let x = random;
  for (let i = 0; i < ops; i++) {
    x = xorshift(x);
    const at = random_victim(x);
    give(table[at]);
    const p = get(random_size(x));
    if (p === 0) out_of_memory();
    words[p >> 2] = i;
    table[at] = p;
  }
  random = x;
}

/** Runs `loop` over a live set that is made before and freed after the time. */
function over(heap: Heap, table: Int32Array, loop: (chunk: number) => void, ops: number): number {
  for (let i = 0; i < table.length; i++) {
    random = xorshift(random);
    const p = heap.get(table === live ? random_size(random) : 64);
    if (p === 0) out_of_memory();
    heap.words()[p >> 2] = i;
    table[i] = p;
  }
  const spent = timed(ops, loop);
  if (heap.reset) heap.reset();
  else for (const p of table) heap.give(p);
  return spent;
}

export function one_thread(heap: Heap): Record<string, Pattern> {
  return {
    a: (ops) => timed(ops, (chunk) => loop_a(heap, chunk)),
    b: (ops) => timed(ops, (chunk) => loop_b(heap, chunk)),
    c: (ops) => over(heap, fifo, (chunk) => loop_c(heap, chunk), ops),
    d: (ops) => over(heap, live, (chunk) => loop_d(heap, chunk), ops),
  };
}

/* ---- two threads ---- */

const RING_SLOTS = 1024;
const RING_BATCHES = 16;
const FLAG_WORDS = 32;
/* The batches lie behind the ring: what one pattern leaves there, the other must not find. */
const FLAGS = RING_SLOTS;
const OBJECTS = FLAGS + RING_BATCHES * FLAG_WORDS;
const RING_PAGES = 1;

export function make_ring(): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: RING_PAGES, maximum: RING_PAGES, shared: true });
}

interface Ring {
  hw: Hw;
  words: Int32Array;
}

function open_ring(memory: WebAssembly.Memory): Ring {
  return { hw: hw_wasm(memory, RING_PAGES, false), words: new Int32Array(memory.buffer) };
}

function produce(heap: Heap, ring: Ring, from: number, ops: number): void {
  const words = heap.words();
  const get = heap.get;
  const machine = ring.hw;
  let spins = 0;
  for (let i = from; i < from + ops; i++) {
    const slot = i % RING_SLOTS;
    const p = get(64);
    if (p === 0) out_of_memory();
    words[p >> 2] = i;
    while (machine.load(slot) !== 0) spins = spin(spins);
    machine.store(slot, p);
  }
}

function consume(heap: Heap, ring: Ring, from: number, ops: number): void {
  const give = heap.give;
  const machine = ring.hw;
  let spins = 0;
  for (let i = from; i < from + ops; i++) {
    const slot = i % RING_SLOTS;
    let p = machine.load(slot);
    while (p === 0) {
      spins = spin(spins);
      p = machine.load(slot);
    }
    machine.store(slot, 0);
    give(p);
  }
}

function produce_batches(heap: Heap, ring: Ring, from: number, ops: number): void {
  const words = heap.words();
  const get = heap.get;
  const machine = ring.hw;
  const table = ring.words;
  let spins = 0;
  for (let done = from; done < from + ops; done += BATCH) {
    const b = (done / BATCH) % RING_BATCHES;
    const flag = FLAGS + b * FLAG_WORDS;
    const first = OBJECTS + b * BATCH;
    while (machine.load(flag) !== 0) spins = spin(spins);
    for (let i = 0; i < BATCH; i++) {
      const p = get(64);
      if (p === 0) out_of_memory();
      words[p >> 2] = i;
      table[first + i] = p;
    }
    machine.store(flag, 1);
  }
}

function consume_batches(heap: Heap, ring: Ring, from: number, ops: number): void {
  const give = heap.give;
  const machine = ring.hw;
  const table = ring.words;
  let spins = 0;
  for (let done = from; done < from + ops; done += BATCH) {
    const b = (done / BATCH) % RING_BATCHES;
    const flag = FLAGS + b * FLAG_WORDS;
    const first = OBJECTS + b * BATCH;
    while (machine.load(flag) === 0) spins = spin(spins);
    for (let i = 0; i < BATCH; i++) give(table[first + i]);
    machine.store(flag, 0);
  }
}

/** What one thread does for so many operations; nanoseconds. */
export type Half = (ops: number) => number;

/** What the first and the second thread do in each two-thread pattern. */
export function two_threads(
  heap: Heap,
  memory: WebAssembly.Memory,
): Record<string, { here: Half; there: Half }> {
  const ring = open_ring(memory);
  const ringed = (loop: typeof produce): Half => {
    return (ops) => {
      let from = 0;
      return timed(ops, (chunk) => {
        loop(heap, ring, from, chunk);
        from += chunk;
      });
    };
  };
  const both = (loop: typeof loop_a): { here: Half; there: Half } => {
    const half: Half = (ops) => timed(ops, (chunk) => loop(heap, chunk));
    return { here: half, there: half };
  };
  return {
    a2: both(loop_a),
    b2: both(loop_b),
    x: { here: ringed(produce), there: ringed(consume) },
    xb: { here: ringed(produce_batches), there: ringed(consume_batches) },
  };
}
