/*
 * memory: the one shared memory that is the machine, and this thread's views of it.
 *
 *      word 0        64            columns              pages
 *      | NULL, guard | machine     | page array, ...    | 4 KiB pages
 *      |             | header      | boot structures    | to the end
 *
 * Its length is fixed for life: a growable buffer makes every access 10 to 25
 * times slower.  It belongs to a shared WebAssembly.Memory where there is one,
 * so that the helper in hw.ts works on it.
 *
 * A pointer is a word index (byte offset / 4): up to 8 GiB it stays below
 * 2^31, where V8 keeps it in a machine register.  Word 0 is NULL.
 *
 * The views are added to `mem` and to each structure once per thread and never
 * assigned again while the memory stays the same: V8 treats them as constants.
 * A thread that boots again takes its old memory over for that reason; one
 * that moves to another memory binds again and runs somewhat slower.
 */
import { EINVAL, KmemError } from './errno.ts';
import { type Hw, hw_atomics, hw_wasm, type WasmMemory } from './hw.ts';
import { once, opt } from './opt.ts';

export const PAGE_SHIFT = 12;
export const PAGE_SIZE = 1 << PAGE_SHIFT;
export const PAGE_WORDS = PAGE_SIZE >> 2;
export const PAGE_WORD_SHIFT = PAGE_SHIFT - 2;
const WASM_PAGE = 65536;

/** Smallest memory a machine boots in, bytes. */
export const MEMORY_MIN = 2 ** 20;
/** Largest with 32-bit WebAssembly addresses, bytes. */
export const MEMORY_MAX_32 = 2 ** 32;
/** Largest at all: beyond it word indices leave V8's fast path. Bytes. */
export const MEMORY_MAX = 2 ** 33;

export interface Views {
  readonly I32: Int32Array;
  readonly U32: Uint32Array;
  readonly U8: Uint8Array;
  readonly F64: Float64Array;
}

/** This thread's views of the whole memory. */
export const mem = {} as Views;
/** This thread's instructions. */
export const hw = {} as Hw;

export type SharedMemory = WasmMemory | SharedArrayBuffer | ArrayBuffer;

/** What is bound now: length in bytes (0: nothing), sharing, and how atomics are done. */
export const memory_state = {
  size: 0,
  shared: false,
  wasm: false,
  /** The structure views are guards of a checked boot. */
  checked: false,
  memory: null as SharedMemory | null,
};

const followers: ((buffer: ArrayBufferLike) => void)[] = [];

/** Calls `bind` for every memory this thread binds, at once if one is bound already. */
export function memory_follow(bind: (buffer: ArrayBufferLike) => void): void {
  followers.push(bind);
  if (memory_state.size > 0) bind(mem.I32.buffer);
}

/** Reads a size such as 4194304, '512M', '1.5G' (powers of 1024). Throws EINVAL. */
export function memory_size(value: number | string): number {
  let bytes = Number.NaN;
  if (typeof value === 'number') bytes = value;
  else {
    const m = /^\s*(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?\s*$/i.exec(value);
    if (m) bytes = Number(m[1]) * 1024 ** ' kmg'.indexOf((m[2] || ' ').toLowerCase());
  }
  const advice = 'use 1M to 8G, such as 256M';
  if (!Number.isFinite(bytes)) {
    throw new KmemError(EINVAL, 'boot', `memory: '${value}' is not a size: ${advice}`);
  }
  if (bytes < MEMORY_MIN) {
    throw new KmemError(EINVAL, 'boot', `memory: ${value} is below 1M: ${advice}`);
  }
  if (bytes > MEMORY_MAX) {
    throw new KmemError(
      EINVAL,
      'boot',
      `memory: ${value} is above 8G, where word addresses leave the fast path: ${advice}`,
    );
  }
  return Math.ceil(bytes / WASM_PAGE) * WASM_PAGE;
}

export type AtomicsKind = 'wasm' | 'atomics' | 'auto';

/** Makes memory of `size` bytes. `kind` 'atomics' asks for a plain SharedArrayBuffer. */
export function memory_create(size: number, kind: AtomicsKind): SharedMemory {
  if (typeof SharedArrayBuffer === 'undefined') return new ArrayBuffer(size);
  try {
    if (kind === 'atomics' || typeof WebAssembly === 'undefined') {
      return new SharedArrayBuffer(size);
    }
    const pages = size / WASM_PAGE;
    if (size <= MEMORY_MAX_32) {
      return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    }
    return wide_memory(pages) ?? new SharedArrayBuffer(size);
  } catch (e) {
    throw new KmemError(
      EINVAL,
      'boot',
      `memory: this host refuses ${size / 2 ** 20}M of shared memory (${(e as Error).message})`,
    );
  }
}

/** Why this thread can make no memory that others share, and what to do about it. */
export function memory_unshared(): string {
  const { crossOriginIsolated } = globalThis as { crossOriginIsolated?: boolean };
  return crossOriginIsolated === true
    ? 'the page is cross-origin isolated, but this browser offers no SharedArrayBuffer ' +
        '(switch it on, or use another browser)'
    : 'the page is not cross-origin isolated (send the COOP and COEP headers)';
}

function wide_memory(pages: number): WebAssembly.Memory | null {
  try {
    return new WebAssembly.Memory({
      initial: BigInt(pages) as unknown as number,
      maximum: BigInt(pages) as unknown as number,
      shared: true,
      address: 'i64',
    } as WebAssembly.MemoryDescriptor);
  } catch {
    return null; // no 64-bit memory here: Atomics on a plain buffer serve
  }
}

/** The bytes behind a memory, whichever kind it is. */
export function memory_buffer(memory: SharedMemory): ArrayBufferLike {
  return 'buffer' in memory ? memory.buffer : memory;
}

/** The getter of byteLength: it throws for all that is no SharedArrayBuffer, of any realm. */
const shared_bytes =
  typeof SharedArrayBuffer === 'undefined'
    ? undefined
    : Object.getOwnPropertyDescriptor(SharedArrayBuffer.prototype, 'byteLength')?.get;
/** Whether a value from outside is a shared memory of either kind. */
export function is_shared_memory(value: unknown): value is SharedMemory {
  if (typeof value !== 'object' || value === null || shared_bytes === undefined) return false;
  try {
    return shared_bytes.call(memory_buffer(value as SharedMemory)) !== undefined;
  } catch {
    return false;
  }
}

/** Binds this thread's views and instructions to a memory. */
export function memory_bind(memory: SharedMemory): void {
  const buffer = memory_buffer(memory);
  memory_state.size = buffer.byteLength;
  memory_state.shared = !(buffer instanceof ArrayBuffer);
  memory_state.memory = memory;
  memory_state.checked = opt.CHECKED;
  once(mem, 'I32', new Int32Array(buffer));
  once(mem, 'U32', new Uint32Array(buffer));
  once(mem, 'U8', new Uint8Array(buffer));
  once(mem, 'F64', new Float64Array(buffer));
  const instructions = memory_hw(memory, buffer);
  for (const name of Object.keys(instructions) as (keyof Hw)[]) {
    once(hw, name, instructions[name]);
  }
  for (const bind of followers) bind(buffer);
}

function memory_hw(memory: SharedMemory, buffer: ArrayBufferLike): Hw {
  memory_state.wasm = false;
  if (!('buffer' in memory)) return hw_atomics(mem.I32);
  try {
    const pages = buffer.byteLength / WASM_PAGE;
    const made = hw_wasm(memory, pages, buffer.byteLength > MEMORY_MAX_32);
    memory_state.wasm = true;
    return { ...made };
  } catch (e) {
    if (!(e instanceof WebAssembly.CompileError)) throw e;
    return hw_atomics(mem.I32); // the host forbids compiling: Atomics on the same memory
  }
}

/** Pages to bytes. */
export function ptoa(pages: number): number {
  return pages * PAGE_SIZE;
}
/** Bytes to whole pages, rounding down. */
export function atop(bytes: number): number {
  return Math.floor(bytes / PAGE_SIZE);
}
/** How many `y` cover `x`. */
export function howmany(x: number, y: number): number {
  return Math.floor((x + y - 1) / y);
}
/** The smallest multiple of `y` that is not below `x`. */
export function roundup(x: number, y: number): number {
  return howmany(x, y) * y;
}
/** The first word of page `m`. */
export function page_word(m: number): number {
  return m << PAGE_WORD_SHIFT;
}
/** The page that holds word `w`. */
export function word_page(w: number): number {
  return w >>> PAGE_WORD_SHIFT;
}
