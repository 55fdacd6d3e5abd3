/*
 * memory: four ways to touch memory, and what each costs.
 *
 *      machine.f64[machine.index(at, 8)]   a whole-memory view: under a ns, and
 *                                          checked by nobody
 *      load32(at), store32(at, v), copyIn  checked: in memory, aligned
 *      bytes(at, n)                        a view of its own, some 20 ns to make
 *      fill(at, n), copy(to, from, n)      checked; on shared memory an array's own
 *                                          fill and copyWithin take 2 to 10 times as long
 *
 * An address beyond the memory (kva.ts) is translated by all of them but the views, which only
 * guarded blocks have.
 * The checked ways refuse what lies on a guard page (page/vm_guard.ts), before they touch it.
 *
 * Addresses are in bytes.  An Address comes from alloc; adding an offset gives
 * a plain number, which all of these take too.  An Item of a zone or of records
 * is no address: zone.address(item) is.
 */
import { bcopy, bytes_fill, bytes_in, bytes_out } from '../sys/machine/bytes.ts';
import { EFAULT, EINVAL } from '../sys/machine/errno.ts';
import { mem, memory_state, PAGE_SIZE as PAGE_SIZE_ } from '../sys/machine/memory.ts';
import { KVA_BASE } from '../sys/h/vm_kern.ts';
import { PK_GUARD as PK_GUARD_, PK_MASK as PK_MASK_, vm_page } from '../sys/h/vm_page.ts';
import { whatis } from '../sys/kmem/kern_whatis.ts';
import { bytesOf, shown, type Source, whole, wholeIn } from './args.ts';
import { gone } from './context.ts';
import { kmemError } from './errors.ts';
import type { Kva } from './kva.ts';
import { partIfThere } from './parts.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const page = vm_page;
const PAGE_SIZE = PAGE_SIZE_;
const PK_GUARD = PK_GUARD_;
const PK_MASK = PK_MASK_;

/** A block's place: bytes from the start of the memory. The same in every thread. */
export type Address = number & { readonly __address: 'bytes' };
/** An item of the zone or the records `N`. The same in every thread; no address. */
export type Item<N extends string = string> = number & { readonly __item: N };
/** A byte address or a number computed from one; never an Item. */
export type Place<A extends number> = A extends { readonly __item: string } ? never : A;

export type { Source } from './args.ts';

export interface Views {
  readonly u8: Uint8Array;
  readonly i8: Int8Array;
  readonly u16: Uint16Array;
  readonly i16: Int16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly f32: Float32Array;
  readonly f64: Float64Array;
}
let known: { buffer: ArrayBufferLike; views: Views } | null = null;
/** The whole-memory views of this thread: the same objects while the memory is the same. */
export function wholeViews(): Views {
  const { buffer } = mem.U8;
  if (known?.buffer === buffer) return known.views;
  const views = {
    u8: mem.U8,
    i8: new Int8Array(buffer),
    u16: new Uint16Array(buffer),
    i16: new Int16Array(buffer),
    u32: mem.U32,
    i32: mem.I32,
    f32: new Float32Array(buffer),
    f64: mem.F64,
  };
  known = { buffer, views };
  return views;
}

/*
 * How far a call may reach: the bytes of the memory.  Each object of a machine has a
 * reach of its own, 0 once its thread has left: otherwise one that is kept by mistake
 * would write into the next machine, which often lies in the same memory.  What the
 * rest of the façade touches has been found by an object that is alive.
 */
let reach = 0;
/** This thread is in the machine that it is bound to. Returns how far calls may reach. */
export function memoryOpen(): number {
  reach = memory_state.size;
  return reach;
}
/** It has left, or the machine has stopped: every place is out of bounds. */
export function memoryClose(): void {
  reach = 0;
}
/** Bytes at the bottom that hold NULL: nobody's. */
const NULL_BYTES = 4;

/** The first address that is no place in the memory. */
const KVA = KVA_BASE * PAGE_SIZE;
/** What answers for an address beyond the memory; undefined: it is none, or nothing does. */
export function kvaFor(at: unknown, end = reach): Kva | undefined {
  if (typeof at !== 'number' || !(at >= KVA) || end === 0) return undefined;
  return Number.isInteger(at) ? partIfThere('kva')?.() : undefined;
}
/**
 * Throws EFAULT unless `n` bytes at `at` lie in the memory and on no guard page, EINVAL if `n` is
 * no length.
 */
export function checkRange(op: string, at: number, n: number, end = reach): void {
  if (!whole(n)) throw kmemError(EINVAL, op, `${shown(n)} is no length in bytes`);
  if (Number.isInteger(at) && at >= NULL_BYTES && at + n <= end) {
    const last = Math.floor((at + n - 1) / PAGE_SIZE);
    for (let m = Math.floor(at / PAGE_SIZE); m <= last; m++) if (guards(m)) trapped(op, at, n, m);
    return;
  }
  if (end === 0) gone(op); // of no context: its machine was left
  const beyond = Number.isInteger(at) && at >= KVA ? ': beyond it there are no views' : '';
  throw kmemError(
    EFAULT,
    op,
    `${shown(at)} with ${n} bytes is not in the memory of ${end}${beyond}`,
    {
      address: at,
      size: n,
    },
  );
}
/** The index of an address that is not in the memory, or not aligned: beyond it, or none. */
function indexBeyond(op: string, at: number, width: number, end: number): number {
  const kva = kvaFor(at, end);
  if (kva === undefined || at % width !== 0) fault(op, at, width, end);
  if (op !== 'index') return kva.place(op, at, width, op.startsWith('store')) / width;
  const flat = kva.flat(op, at, width);
  return flat < 0 ? fault(op, at, width, end) : flat / width;
}
function fault(op: string, at: number, width: number, end: number): never {
  checkRange(op, at, width, end);
  throw kmemError(EFAULT, op, `${shown(at)} is not a multiple of ${width}`, {
    address: at,
    size: width,
  });
}
/** The index of address `at` in a view of elements of `width` bytes. Throws EFAULT. */
export function index(op: string, at: number, width: number, end: number): number {
  if (typeof at !== 'number') fault(op, at, width, end);
  const i = at / width;
  const there = i === Math.floor(i) && at >= NULL_BYTES && at + width <= end;
  return there ? i : indexBeyond(op, at, width, end);
}
function guards(m: number): boolean {
  return (page.info[m] & PK_MASK) === PK_GUARD;
}
/** Somebody runs off a block, or off the kernel's own: the access is not made. */
function trapped(op: string, at: number, n: number, m: number): never {
  const text = `${at} with ${n} bytes touches ${whatis(m * (PAGE_SIZE / 4))}, which is a guard`;
  throw kmemError(EFAULT, op, text, { address: at, size: n });
}
/** index() for an access that is made now: on no guard page. Throws EFAULT. */
export function element(op: string, at: number, width: number, end: number): number {
  const i = index(op, at, width, end);
  const m = ((i * width) / PAGE_SIZE) | 0;
  if (guards(m)) trapped(op, at, width, m);
  return i;
}
/** Refuses a width that no view has. */
export function noWidth(width: unknown): never {
  throw kmemError(EINVAL, 'index', `${shown(width)} is no width: 1, 2, 4 or 8`);
}
/** Refuses a value that is no number: nothing is converted, but to the width. */
export function noNumber(op: string, value: unknown): never {
  throw kmemError(EINVAL, op, `${shown(value)} is no number`);
}
/** A view of `n` bytes at `at`: shared, no copy. Throws EFAULT, EINVAL. */
export function bytesAt(at: number, n: number, end = reach): Uint8Array {
  const flat = (whole(n) ? kvaFor(at, end)?.flat('bytes', at, n) : undefined) ?? -1;
  if (flat >= 0) return new Uint8Array(mem.U8.buffer, flat, n);
  checkRange('bytes', at, n, end);
  return new Uint8Array(mem.U8.buffer, at, n);
}

/** Copies bytes into the memory, for the call `op`; returns how many. Throws EFAULT. */
export function copyIn(at: number, from: Source, end = reach, op = 'copyIn'): number {
  const bytes = bytesOf(op, from);
  const kva = kvaFor(at, end);
  if (kva !== undefined) {
    kva.each(op, at, bytes.length, true, (to, n, done) => bytes_in(to, bytes, done, n));
    return bytes.length;
  }
  checkRange(op, at, bytes.length, end);
  bytes_in(at, bytes, 0, bytes.length);
  return bytes.length;
}
type Bytes = Uint8Array<ArrayBuffer>;
/** Copies `n` bytes out, for the call `op`, into an array that nobody shares. Throws EFAULT. */
export function copyOut(at: number, n: number, end: number, op = 'copyOut'): Bytes {
  const kva = whole(n) ? kvaFor(at, end) : undefined;
  if (kva === undefined) checkRange(op, at, n, end);
  const copy = new Uint8Array(n);
  if (kva !== undefined) {
    kva.each(op, at, n, false, (from, part, done) => bytes_out(copy, done, from, part));
    return copy;
  }
  bytes_out(copy, 0, at, n);
  return copy;
}
/** Sets `n` bytes at `at` to `byte`. Throws EFAULT, EINVAL. */
export function fillBytes(at: number, n: number, byte: number, end: number): void {
  const kva = whole(n) ? kvaFor(at, end) : undefined;
  if (kva === undefined) checkRange('fill', at, n, end);
  if (!wholeIn(byte, 0, 255))
    throw kmemError(EINVAL, 'fill', `${shown(byte)} is no byte: 0 to 255`);
  if (kva === undefined) bytes_fill(at, byte, n);
  else kva.each('fill', at, n, true, (to, part) => bytes_fill(to, byte, part));
}
/** Copies `n` bytes inside the memory; the ranges may overlap. Throws EFAULT, EINVAL. */
export function copyBytes(to: number, from: number, n: number, end: number): void {
  if (whole(n) && (kvaFor(to, end) !== undefined || kvaFor(from, end) !== undefined)) {
    copyIn(to, copyOut(from, n, end, 'copy'), end, 'copy'); // by way of a copy: they may overlap
    return;
  }
  checkRange('copy', to, n, end);
  checkRange('copy', from, n, end);
  bcopy(from, to, n);
}

const encoder = new TextEncoder();
/** A byte order mark is a character like others: what was written is read. */
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
/** The bytes of a text as it is stored: UTF-8. Throws EINVAL for what is no text. */
export function textBytes(text: string, op = 'text'): Uint8Array {
  if (typeof text !== 'string') throw kmemError(EINVAL, op, `${shown(text)} is no text`);
  return encoder.encode(text);
}
/** Writes a text as UTF-8; returns its bytes. Throws EINVAL if they are more than `max`. */
export function writeText(at: number, text: string, max: number, end: number): number {
  const bytes = textBytes(text, 'writeText');
  if (typeof max !== 'number' || !(bytes.length <= max)) {
    const why = `the text has ${bytes.length} bytes, more than the ${shown(max)} there is room for`;
    throw kmemError(EINVAL, 'writeText', why, { address: at, size: bytes.length });
  }
  return copyIn(at, bytes, end, 'writeText');
}
/** Bytes as UTF-8. */
export function textOf(bytes: Uint8Array<ArrayBuffer>): string {
  return decoder.decode(bytes);
}
/** Reads `n` bytes of UTF-8. Throws EFAULT, EINVAL. */
export function readText(at: number, n: number, end: number): string {
  if (kvaFor(at, end) !== undefined) return decoder.decode(copyOut(at, n, end, 'readText'));
  checkRange('readText', at, n, end);
  if (n <= SHORT_TEXT) {
    const text = ascii(at, n);
    if (text !== null) return text;
  }
  return decoder.decode(copyOut(at, n, end)); // browsers decode no shared memory: from a copy
}
/** A decoder takes longer to call than so many bytes to look at. */
const SHORT_TEXT = 32;
const codes: number[] = [];
function ascii(at: number, n: number): string | null {
  const { U8 } = mem;
  codes.length = n;
  for (let i = 0; i < n; i++) {
    const byte = U8[at + i];
    if (byte > 127) return null;
    codes[i] = byte;
  }
  return String.fromCharCode.apply(null, codes);
}
