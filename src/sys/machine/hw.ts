/*
 * hw: the machine's few instructions that JavaScript lacks or has only slowly.
 *
 * A WebAssembly module of some 300 bytes, assembled here from its opcodes,
 * works on the machine's own memory: compare-and-swap, exchange, add, and, or,
 * load, store, fence, fill, copy and move.  It is to this kernel what the assembly
 * files are to another: a compare-and-swap takes 3 ns by it and 8 to 10 by
 * Atomics, zeroing a page 50 ns instead of 110 to 1100.
 *
 * All functions but `move` take word indices (byte offset / 4), so that the
 * caller never computes a byte offset beyond 2^31.  Over a 64-bit memory the
 * module widens them itself.  `move` takes byte addresses as doubles.
 *
 * Where WebAssembly is not to be had (a strict content policy, a plain
 * buffer), `hw_atomics` gives the same functions by Atomics or, on memory that
 * nobody shares, by plain loads and stores.
 */
/** A WebAssembly.Memory, for programs whose compiler was told of no WebAssembly. */
export interface WasmMemory {
  readonly buffer: ArrayBuffer | SharedArrayBuffer;
}

export interface Hw {
  cas(w: number, expected: number, value: number): number;
  xchg(w: number, value: number): number;
  add(w: number, value: number): number;
  and(w: number, value: number): number;
  or(w: number, value: number): number;
  load(w: number): number;
  store(w: number, value: number): void;
  fence(): void;
  /** Sets `words` words from `w` on to the byte `value` in each of their bytes. */
  fill(w: number, value: number, words: number): void;
  /** Copies `words` words; the ranges may overlap. */
  copy(to: number, from: number, words: number): void;
  /** Copies bytes; the ranges may overlap. Byte addresses: they do not fit 32 bits. */
  move(to: number, from: number, bytes: number): void;
}

const I32 = 0x7f;
const F64 = 0x7c;
const LOCAL_GET = 0x20;
const ATOMIC = 0xfe;
const MEMARG = [2, 0]; // alignment 2^2, offset 0
const END = 0x0b;

function leb(n: number): number[] {
  const out: number[] = [];
  let left = n;
  do {
    const low = left & 127;
    left = Math.floor(left / 128);
    out.push(left > 0 ? low | 128 : low);
  } while (left > 0);
  return out;
}
const vec = (items: number[][]): number[] => [...leb(items.length), ...items.flat()];
const section = (id: number, body: number[]): number[] => [id, ...leb(body.length), ...body];
const text = (s: string): number[] => [...leb(s.length), ...[...s].map((c) => c.charCodeAt(0))];

/** Assembles the module for a memory of `pages` 64 KiB pages. */
export function hw_assemble(pages: number, wide: boolean): Uint8Array<ArrayBuffer> {
  // A word index becomes a byte address: index << 2, in the memory's own width.
  const scaled = (local: number): number[] =>
    wide
      ? [LOCAL_GET, local, 0xad, 0x42, 2, 0x86] // i64.extend_i32_u, i64.const 2, i64.shl
      : [LOCAL_GET, local, 0x41, 2, 0x74]; // i32.const 2, i32.shl
  const param = (local: number): number[] => [LOCAL_GET, local];
  // A double becomes a byte address or count: i64.trunc_f64_u, i32.trunc_f64_u.
  const whole = (local: number): number[] => [LOCAL_GET, local, wide ? 0xb1 : 0xab];
  const types = [
    [0x60, 3, I32, I32, I32, 1, I32],
    [0x60, 2, I32, I32, 1, I32],
    [0x60, 1, I32, 1, I32],
    [0x60, 2, I32, I32, 0],
    [0x60, 0, 0],
    [0x60, 3, I32, I32, I32, 0],
    [0x60, 3, F64, F64, F64, 0],
  ];
  const rmw = (op: number): number[] => [...scaled(0), ...param(1), ATOMIC, op, ...MEMARG];
  const functions: [string, number, number[]][] = [
    ['cas', 0, [...scaled(0), ...param(1), ...param(2), ATOMIC, 0x48, ...MEMARG]],
    ['xchg', 1, rmw(0x41)],
    ['add', 1, rmw(0x1e)],
    ['and', 1, rmw(0x2c)],
    ['or', 1, rmw(0x33)],
    ['load', 2, [...scaled(0), ATOMIC, 0x10, ...MEMARG]],
    ['store', 3, [...scaled(0), ...param(1), ATOMIC, 0x17, ...MEMARG]],
    ['fence', 4, [ATOMIC, 0x03, 0]],
    ['fill', 5, [...scaled(0), ...param(1), ...scaled(2), 0xfc, 0x0b, 0]],
    ['copy', 5, [...scaled(0), ...scaled(1), ...scaled(2), 0xfc, 0x0a, 0, 0]],
    ['move', 6, [...whole(0), ...whole(1), ...whole(2), 0xfc, 0x0a, 0, 0]],
  ];
  const limits = wide ? 0x07 : 0x03; // shared with a maximum; 64-bit addresses
  return new Uint8Array([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, vec(types)),
    ...section(2, vec([[...text('m'), ...text('m'), 2, limits, ...leb(pages), ...leb(pages)]])),
    ...section(3, vec(functions.map(([, type]) => [type]))),
    ...section(7, vec(functions.map(([name], i) => [...text(name), 0, ...leb(i)]))),
    ...section(
      10,
      vec(
        functions.map(([, , code]) => {
          const body = [0, ...code, END];
          return [...leb(body.length), ...body];
        }),
      ),
    ),
  ]);
}

/** The helper over a WebAssembly memory; throws where WebAssembly is forbidden. */
export function hw_wasm(memory: WasmMemory, pages: number, wide: boolean): Hw {
  const module = new WebAssembly.Module(hw_assemble(pages, wide));
  const instance = new WebAssembly.Instance(module, { m: { m: memory } });
  return instance.exports as unknown as Hw;
}

/** The stand-in by Atomics, for shared memory without WebAssembly. */
export function hw_atomics(words: Int32Array): Hw {
  const bytes = new Uint8Array(words.buffer);
  return {
    cas: (w, expected, value) => Atomics.compareExchange(words, w, expected, value),
    xchg: (w, value) => Atomics.exchange(words, w, value),
    add: (w, value) => Atomics.add(words, w, value),
    and: (w, value) => Atomics.and(words, w, value),
    or: (w, value) => Atomics.or(words, w, value),
    load: (w) => Atomics.load(words, w),
    store: (w, value) => {
      Atomics.store(words, w, value);
    },
    fence: () => {
      Atomics.or(words, 0, 0); // a read-modify-write of any word orders like a fence here
    },
    fill: (w, value, n) => {
      if (value === 0) words.fill(0, w, w + n);
      else bytes.fill(value, w * 4, (w + n) * 4);
    },
    copy: (to, from, n) => {
      words.copyWithin(to, from, from + n);
    },
    move: (to, from, n) => {
      bytes.copyWithin(to, from, from + n);
    },
  };
}
