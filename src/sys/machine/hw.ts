/*
 * hw: the machine's few instructions that JavaScript lacks or has only slowly.
 *
 * A WebAssembly module of some 500 bytes, assembled here from its opcodes,
 * works on the machine's own memory: compare-and-swap, exchange, add, and, or,
 * load, store, fence, fill, copy and move, and two that the shared/exclusive
 * locks need: `xchg_load` (exchange one word, then load another) and `look`
 * (is there a row that names this lock?).  Neither of the two is one step; they
 * save calls.  The module is to this kernel what the assembly
 * files are to another: a compare-and-swap takes 3 ns by it and 8 to 10 by
 * Atomics, zeroing a page 50 ns instead of 110 to 1100.
 *
 * A row is what one CPU says about the locks that it reads (sync/rw_row.ts):
 *
 *      row   0 used: of program words, bits 0..7; of kernel words, bits 8..15
 *            1..8 kernel words      9..32 program words      to 48: nothing
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
  /** Exchanges the word `w`, then loads the word `other`; returns what that held. */
  xchg_load(w: number, value: number, other: number): number;
  /**
   * The first CPU, + 1, in whose row a used word holds `lock`; 0: none.  `rows` is the
   * first row, `cpus` the word that says how many there are; the row of CPU `skip` is
   * left out.  `kernel` 1 looks at the kernel words, 0 at the program words.
   */
  look(rows: number, cpus: number, lock: number, skip: number, kernel: number): number;
  store(w: number, value: number): void;
  fence(): void;
  /** Sets `words` words from `w` on to the byte `value` in each of their bytes. */
  fill(w: number, value: number, words: number): void;
  /** Copies `words` words; the ranges may overlap. */
  copy(to: number, from: number, words: number): void;
  /** Copies bytes; the ranges may overlap. Byte addresses: they do not fit 32 bits. */
  move(to: number, from: number, bytes: number): void;
}

/** Words from one CPU's row to the next: three cache lines. */
export const ROW_WORDS = 48;
/** Words for locks of the kernel, and for those of the program. */
export const ROW_KERNEL_WORDS = 8;
export const ROW_PROGRAM_WORDS = 24;
/** Where the two kinds begin in a row. */
const ROW_KERNEL = 1;
const ROW_PROGRAM = ROW_KERNEL + ROW_KERNEL_WORDS;
/** Bits of a row's first word for each kind. */
const USED_SHIFT = 8;
const USED_MASK = 0xff;

/** `look` in JavaScript: `load` is an atomic load of a word. */
export function look_rows(
  load: (w: number) => number,
  rows: number,
  cpus: number,
  lock: number,
  skip: number,
  kernel: number,
): number {
  const n = load(cpus);
  for (let cpu = 0; cpu < n; cpu++) {
    if (cpu === skip) continue;
    const row = rows + cpu * ROW_WORDS;
    const first = row + ROW_PROGRAM - ROW_KERNEL_WORDS * kernel;
    const end = first + ((load(row) >> (USED_SHIFT * kernel)) & USED_MASK);
    for (let w = first; w < end; w++) if (load(w) === lock) return cpu + 1;
  }
  return 0;
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
/** The opcodes of `look`; `scaled` makes a byte address of a local. */
function look_code(scaled: (local: number) => number[]): number[] {
  const get = (local: number): number[] => [LOCAL_GET, local];
  const set = (local: number): number[] => [0x21, local];
  const number = (n: number): number[] => [0x41, n]; // below 64: one byte
  const load = (local: number): number[] => [...scaled(local), ATOMIC, 0x10, ...MEMARG];
  const add = 0x6a;
  const [LOCK, SKIP, KERNEL, CPU, CPUS, ROW, AT, LAST] = [2, 3, 4, 5, 6, 7, 8, 9];
  const [BLOCK, LOOP, IF, BR, BR_IF, VOID] = [0x02, 0x03, 0x04, 0x0c, 0x0d, 0x40];
  const [EQ, NE, GE_S, MUL, SUB, AND, SHR_S, RETURN] = [
    0x46, 0x47, 0x4e, 0x6c, 0x6b, 0x71, 0x75, 0x0f,
  ];
  const words = [
    // at = row + ROW_PROGRAM - 8 * kernel;  last = at + (used >> 8 * kernel & 255)
    ...[...get(ROW), ...number(ROW_PROGRAM), add],
    ...[...get(KERNEL), ...number(ROW_KERNEL_WORDS), MUL, SUB, ...set(AT)],
    ...[...load(ROW), ...get(KERNEL), ...number(USED_SHIFT), MUL, SHR_S],
    ...[0x41, 0xff, 0x01, AND, ...get(AT), add, ...set(LAST)],
    ...[BLOCK, VOID, LOOP, VOID],
    ...[...get(AT), ...get(LAST), GE_S, BR_IF, 1],
    ...[...load(AT), ...get(LOCK), EQ, IF, VOID, ...get(CPU), ...number(1), add, RETURN, END],
    ...[...get(AT), ...number(1), add, ...set(AT), BR, 0, END, END],
  ];
  return [
    ...[...load(1), ...set(CPUS), ...get(0), ...set(ROW)],
    ...[BLOCK, VOID, LOOP, VOID],
    ...[...get(CPU), ...get(CPUS), GE_S, BR_IF, 1],
    ...[...get(CPU), ...get(SKIP), NE, IF, VOID, ...words, END],
    ...[...get(ROW), ...number(ROW_WORDS), add, ...set(ROW)],
    ...[...get(CPU), ...number(1), add, ...set(CPU), BR, 0, END, END],
    ...number(0),
  ];
}
const LOOK_LOCALS = 5;

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
    [0x60, 5, I32, I32, I32, I32, I32, 1, I32],
  ];
  const rmw = (op: number): number[] => [...scaled(0), ...param(1), ATOMIC, op, ...MEMARG];
  const functions: [string, number, number[], number?][] = [
    ['cas', 0, [...scaled(0), ...param(1), ...param(2), ATOMIC, 0x48, ...MEMARG]],
    ['xchg', 1, rmw(0x41)],
    ['add', 1, rmw(0x1e)],
    ['and', 1, rmw(0x2c)],
    ['or', 1, rmw(0x33)],
    ['load', 2, [...scaled(0), ATOMIC, 0x10, ...MEMARG]],
    ['store', 3, [...scaled(0), ...param(1), ATOMIC, 0x17, ...MEMARG]],
    [
      'xchg_load',
      0,
      [...rmw(0x41), 0x1a, ...scaled(2), ATOMIC, 0x10, ...MEMARG], // drop what was there
    ],
    ['look', 7, look_code(scaled), LOOK_LOCALS],
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
        functions.map(([, , code, locals]) => {
          const body = [...(locals ? [1, locals, I32] : [0]), ...code, END];
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
  const load = (w: number): number => Atomics.load(words, w);
  return {
    cas: (w, expected, value) => Atomics.compareExchange(words, w, expected, value),
    xchg: (w, value) => Atomics.exchange(words, w, value),
    add: (w, value) => Atomics.add(words, w, value),
    and: (w, value) => Atomics.and(words, w, value),
    or: (w, value) => Atomics.or(words, w, value),
    load,
    xchg_load: (w, value, other) => {
      Atomics.exchange(words, w, value);
      return Atomics.load(words, other);
    },
    look: (rows, cpus, lock, skip, kernel) => look_rows(load, rows, cpus, lock, skip, kernel),
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
