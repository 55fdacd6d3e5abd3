/*
 * us_loops: the measuring loops over the kernel's own malloc and zones.
 *
 * The same loops as peers/alloc.c, statement for statement, called straight
 * into the kernel as a floor above it would call.  malloc and zone loops are
 * written out apart: a loop shared by both would see two callees and V8 would
 * inline neither.
 *
 * Everything here runs on a thread that has booted or attached; the two-thread
 * loops know nothing of threads and only follow the words of a ring.  The ring
 * lies in the machine's memory, so that its flags are read and written by the
 * machine's own atomic load and store.
 *
 *      ring      RING_SLOTS words: 0, or the object handed over
 *      batches   RING_BATCHES flags, FLAG_WORDS apart (a cache line pair each),
 *                then RING_BATCHES x BATCH object words
 */
import { free, M_NOWAIT, malloc } from '../src/sys/kmem/kern_malloc.ts';
import { hw, mem } from '../src/sys/machine/memory.ts';
import { uma_zalloc, uma_zfree } from '../src/sys/uma/uma_core.ts';
import {
  BATCH,
  FIFO_LIVE,
  RANDOM_LIVE,
  random_size,
  random_victim,
  SEED,
  SMALL_BYTES,
  timed,
  xorshift,
} from './child.ts';
import { spin } from './pair.ts';

/** What malloc takes as a type and UMA as a zone; their own types, whatever these are. */
export type Type = Parameters<typeof malloc>[1];
export type Zone = Parameters<typeof uma_zalloc>[0];
export type Address = ReturnType<typeof malloc>;

/* Local names: V8 takes the views for constants through these, not through imports. */
const memory = mem;
const machine = hw;
const NOWAIT = M_NOWAIT;

export const RING_SLOTS = 1024;
export const RING_BATCHES = 16;
export const FLAG_WORDS = 32;
export const RING_BYTES = RING_SLOTS * 4;
export const BATCHES_BYTES = RING_BATCHES * (FLAG_WORDS + BATCH) * 4;

function out_of_memory(): never {
  throw new Error('the bench machine is out of memory: boot it larger');
}

/* ---- malloc, one thread ---- */

/*
 * Tables of addresses are typed arrays, as the C loops' tables are arrays of
 * words.  Each loop takes what it uses into local constants first: V8 does not
 * look through imports and module constants in the function that it compiles.
 * The size stands there as a literal, as in C.
 */
const held = new Int32Array(BATCH);
const fifo = new Int32Array(FIFO_LIVE);
const live = new Int32Array(RANDOM_LIVE);
if (SMALL_BYTES !== 64) throw new Error('the loops are written for blocks of 64 bytes');
let fifo_at = 0;
let random = SEED;

export function malloc_a(t: Type, ops: number): void {
  const words = memory.I32;
  const get = malloc;
  const give = free;
  for (let i = 0; i < ops; i++) {
    const p = get(64, t, NOWAIT);
    if (p === 0) out_of_memory();
    words[p] = i;
    give(p, t);
  }
}

export function malloc_b(t: Type, ops: number): void {
  const words = memory.I32;
  const get = malloc;
  const give = free;
  const table = held;
  for (let done = 0; done < ops; done += BATCH) {
    for (let i = 0; i < BATCH; i++) {
      const p = get(64, t, NOWAIT);
      if (p === 0) out_of_memory();
      words[p] = i;
      table[i] = p;
    }
    for (let i = BATCH - 1; i >= 0; i--) give(table[i], t);
  }
}

function malloc_c_loop(t: Type, ops: number): void {
  const words = memory.I32;
  const get = malloc;
  const give = free;
  const table = fifo;
  let at = fifo_at;
  for (let i = 0; i < ops; i++) {
    give(table[at], t);
    const p = get(64, t, NOWAIT);
    if (p === 0) out_of_memory();
    words[p] = i;
    table[at] = p;
    if (++at === FIFO_LIVE) at = 0;
  }
  fifo_at = at;
}

function malloc_d_loop(t: Type, ops: number): void {
  const words = memory.I32;
  const get = malloc;
  const give = free;
  const table = live;
  let x = random;
  for (let i = 0; i < ops; i++) {
    x = xorshift(x);
    const at = random_victim(x);
    give(table[at], t);
    const p = get(random_size(x), t, NOWAIT);
    if (p === 0) out_of_memory();
    words[p] = i;
    table[at] = p;
  }
  random = x;
}

/** Pattern c with its live set made before and freed after the time; returns nanoseconds. */
export function malloc_c(t: Type, ops: number): number {
  for (let i = 0; i < FIFO_LIVE; i++) {
    fifo[i] = malloc(64, t, NOWAIT);
    if (fifo[i] === 0) out_of_memory();
  }
  const spent = timed(ops, (chunk) => malloc_c_loop(t, chunk));
  for (const p of fifo) free(p, t);
  return spent;
}

/** Pattern d, likewise. */
export function malloc_d(t: Type, ops: number): number {
  for (let i = 0; i < RANDOM_LIVE; i++) {
    random = xorshift(random);
    live[i] = malloc(random_size(random), t, NOWAIT);
    if (live[i] === 0) out_of_memory();
  }
  const spent = timed(ops, (chunk) => malloc_d_loop(t, chunk));
  for (const p of live) free(p, t);
  return spent;
}

/* ---- a zone of 64-byte items, one thread ---- */

const zheld = new Int32Array(BATCH);
const zfifo = new Int32Array(FIFO_LIVE);
let zfifo_at = 0;

export function zone_a(z: Zone, ops: number): void {
  const words = memory.I32;
  const get = uma_zalloc;
  const give = uma_zfree;
  for (let i = 0; i < ops; i++) {
    const p = get(z, NOWAIT);
    if (p === 0) out_of_memory();
    words[p] = i;
    give(z, p);
  }
}

export function zone_b(z: Zone, ops: number): void {
  const words = memory.I32;
  const get = uma_zalloc;
  const give = uma_zfree;
  const table = zheld;
  for (let done = 0; done < ops; done += BATCH) {
    for (let i = 0; i < BATCH; i++) {
      const p = get(z, NOWAIT);
      if (p === 0) out_of_memory();
      words[p] = i;
      table[i] = p;
    }
    for (let i = BATCH - 1; i >= 0; i--) give(z, table[i]);
  }
}

function zone_c_loop(z: Zone, ops: number): void {
  const words = memory.I32;
  const get = uma_zalloc;
  const give = uma_zfree;
  const table = zfifo;
  let at = zfifo_at;
  for (let i = 0; i < ops; i++) {
    give(z, table[at]);
    const p = get(z, NOWAIT);
    if (p === 0) out_of_memory();
    words[p] = i;
    table[at] = p;
    if (++at === FIFO_LIVE) at = 0;
  }
  zfifo_at = at;
}

export function zone_c(z: Zone, ops: number): number {
  for (let i = 0; i < FIFO_LIVE; i++) {
    zfifo[i] = uma_zalloc(z, NOWAIT);
    if (zfifo[i] === 0) out_of_memory();
  }
  const spent = timed(ops, (chunk) => zone_c_loop(z, chunk));
  for (const p of zfifo) uma_zfree(z, p);
  return spent;
}

/* ---- handing objects from one thread to another ---- */

function produce_loop(t: Type, ring: number, from: number, ops: number): void {
  const words = memory.I32;
  const get = malloc;
  let spins = 0;
  for (let i = from; i < from + ops; i++) {
    const slot = ring + (i % RING_SLOTS);
    const p = get(64, t, NOWAIT);
    if (p === 0) out_of_memory();
    words[p] = i;
    while (machine.load(slot) !== 0) spins = spin(spins);
    machine.store(slot, p);
  }
}

function consume_loop(t: Type, ring: number, from: number, ops: number): void {
  const give = free;
  let spins = 0;
  for (let i = from; i < from + ops; i++) {
    const slot = ring + (i % RING_SLOTS);
    let p = machine.load(slot);
    while (p === 0) {
      spins = spin(spins);
      p = machine.load(slot);
    }
    machine.store(slot, 0);
    give(p as Address, t);
  }
}

function produce_batches_loop(t: Type, flags: number, from: number, ops: number): void {
  const words = memory.I32;
  const get = malloc;
  const objects = flags + RING_BATCHES * FLAG_WORDS;
  let spins = 0;
  for (let done = from; done < from + ops; done += BATCH) {
    const b = (done / BATCH) % RING_BATCHES;
    const flag = flags + b * FLAG_WORDS;
    const first = objects + b * BATCH;
    while (machine.load(flag) !== 0) spins = spin(spins);
    for (let i = 0; i < BATCH; i++) {
      const p = get(64, t, NOWAIT);
      if (p === 0) out_of_memory();
      words[p] = i;
      words[first + i] = p;
    }
    machine.store(flag, 1);
  }
}

function consume_batches_loop(t: Type, flags: number, from: number, ops: number): void {
  const words = memory.I32;
  const give = free;
  const objects = flags + RING_BATCHES * FLAG_WORDS;
  let spins = 0;
  for (let done = from; done < from + ops; done += BATCH) {
    const b = (done / BATCH) % RING_BATCHES;
    const flag = flags + b * FLAG_WORDS;
    const first = objects + b * BATCH;
    while (machine.load(flag) === 0) spins = spin(spins);
    for (let i = 0; i < BATCH; i++) give(words[first + i] as Address, t);
    machine.store(flag, 0);
  }
}

type RingLoop = (t: Type, ring: number, from: number, ops: number) => void;

function over_ring(loop: RingLoop): (t: Type, ring: number, ops: number) => number {
  return (t, ring, ops) => {
    let from = 0;
    return timed(ops, (chunk) => {
      loop(t, ring, from, chunk);
      from += chunk;
    });
  };
}

export const produce = over_ring(produce_loop);
export const consume = over_ring(consume_loop);
export const produce_batches = over_ring(produce_batches_loop);
export const consume_batches = over_ring(consume_batches_loop);
