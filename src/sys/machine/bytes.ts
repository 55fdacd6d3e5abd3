/*
 * bytes: copying between the machine's memory and JavaScript's own.
 *
 * An array's own set, fill and copyWithin treat shared memory as if every word
 * were watched: 64 KiB take 2 us where both sides are equally aligned, and 24 us,
 * a byte at a time, where they are not.  The helper (hw.ts) moves bytes inside the
 * memory at full speed, but sees nothing outside of it.  So bytes from elsewhere
 * go in two steps, the first to where they are aligned:
 *
 *      source      |abcdefghijklmnop|
 *      1. set            ....abcdefghijkl|         shifted up to 7 bytes
 *      2. move           |abcdefghijkl....         into place
 *      3. the rest       |abcdefghijklmnop|        byte by byte
 *
 * 64 KiB take 4 us then.  All of it lies inside the target from the beginning.
 */
import { hw as hw_, mem as mem_, memory_state as memory_state_ } from './memory.ts';

// tidy: hot. Local names: V8 takes them for constants, imported ones it does not.
const mem = mem_;
const hw = hw_;
const memory_state = memory_state_;

/** So many bytes at most are cheaper in a loop. */
const SHORT = 24;
/** The same inside the memory, where nothing has to be looked at. */
const MOVE_SHORT = 10;
/** Fewer bytes are cheaper in one slow step than in two fast ones. */
const TWO_STEPS = 256;
/** What both sides must be equal in to be copied by words, bytes. */
const WORD = 8;

/** Bytes from `from` up to where it is aligned as `to` is; 0 where that makes no difference. */
function shift(to: number, from: number, n: number): number {
  if (n < TWO_STEPS || !memory_state.shared || !memory_state.wasm) return 0;
  return (from - to) & (WORD - 1);
}

/** A few bytes from one array to another, which may be the same memory. */
function few(to: Uint8Array, at: number, src: Uint8Array, from: number, n: number): void {
  // Backwards where the target may lie on what is still to be read.
  if (to.byteOffset + at > src.byteOffset + from) {
    for (let i = n - 1; i >= 0; i--) to[at + i] = src[from + i];
  } else for (let i = 0; i < n; i++) to[at + i] = src[from + i];
}

/** Copies n bytes inside the memory; the ranges may overlap. Byte addresses, in C's order. */
export function bcopy(from: number, to: number, n: number): void {
  if (n > MOVE_SHORT) hw.move(to, from, n);
  else few(mem.U8, to, mem.U8, from, n);
}
/** Sets n bytes from byte address `at` on. */
export function bytes_fill(at: number, byte: number, n: number): void {
  const { U8 } = mem;
  const end = at + n;
  if (n < SHORT) {
    for (let i = at; i < end; i++) U8[i] = byte;
    return;
  }
  const first = Math.ceil(at / 4);
  const last = Math.floor(end / 4);
  hw.fill(first, byte, last - first);
  for (let i = at; i < first * 4; i++) U8[i] = byte;
  for (let i = last * 4; i < end; i++) U8[i] = byte;
}
/** Copies n bytes of `src`, also a view of the memory, from `at` on to byte address `to`. */
export function bytes_in(to: number, src: Uint8Array, at: number, n: number): void {
  const { U8 } = mem;
  if (n <= SHORT) return few(U8, to, src, at, n);
  const k = shift(to, src.byteOffset + at, n);
  if (k === 0) U8.set(at === 0 && n === src.length ? src : src.subarray(at, at + n), to);
  else if (src.buffer === U8.buffer) hw.move(to, src.byteOffset + at, n);
  else {
    const most = n - k;
    U8.set(src.subarray(at, at + most), to + k);
    hw.move(to, to + k, most);
    for (let i = most; i < n; i++) U8[to + i] = src[at + i];
  }
}
/** Copies n bytes from byte address `from` on into `dst`, also a view of the memory, at `at`. */
export function bytes_out(dst: Uint8Array, at: number, from: number, n: number): void {
  const { U8 } = mem;
  if (n <= SHORT) return few(dst, at, U8, from, n);
  const k = shift(dst.byteOffset + at, from, n);
  if (k === 0) dst.set(U8.subarray(from, from + n), at);
  else if (dst.buffer === U8.buffer) hw.move(dst.byteOffset + at, from, n);
  else {
    const most = n - k;
    dst.set(U8.subarray(from, from + most), at + k);
    dst.copyWithin(at, at + k, at + n);
    for (let i = most; i < n; i++) dst[at + i] = U8[from + i];
  }
}
