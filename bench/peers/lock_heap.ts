/*
 * lock_heap: malloc(9) as a program would write it without caches for each CPU.
 *
 * Power-of-two classes, a free list for each, a page table of bytes that tells
 * free the class, and counts and bytes for one type.  All of it lies in shared
 * memory behind one lock, taken for each call: the baseline that caches for
 * each CPU are measured against.
 *
 *      lock word     0 free, 1 taken, 2 taken and somebody sleeps on it
 *      by Atomics    what plain JavaScript has
 *      by wasm       the kernel's own compare-and-swap helper, three times faster
 */
import { hw_atomics, hw_wasm, type Hw } from '../../src/sys/machine/hw.ts';
import type { Heap } from '../heap_loops.ts';

const PAGES = 1024; // of 64 KiB: 64 MiB
const SMALL_PAGE_SHIFT = 12;
const CLASSES = 9;
const CHUNK = 4096;

/* Words at the start of the memory. */
const LOCK = 0;
const TOP = 32;
const HEADS = 64;
const ALLOCS = 96;
const FREES = 128;
const CLASS_OF_PAGE = 4096; // bytes: one for each page of 4 KiB
const FIRST_BYTE = 65536;

/** Looks before sleeping: some 30 us, so that only a lock whose holder lost its CPU is slept on. */
const SPINS = 1000;
const pause = (Atomics as { pause?: () => void }).pause ?? (() => {});

export function lock_memory(): WebAssembly.Memory {
  const memory = new WebAssembly.Memory({ initial: PAGES, maximum: PAGES, shared: true });
  new Int32Array(memory.buffer)[TOP] = FIRST_BYTE;
  return memory;
}

export function lock_heap(memory: WebAssembly.Memory, by: 'atomics' | 'wasm'): Heap {
  const words = new Int32Array(memory.buffer);
  const bytes = new Uint8Array(memory.buffer);
  const live_bytes = new Float64Array(memory.buffer, 1024, 1);
  const hw: Hw = by === 'wasm' ? hw_wasm(memory, PAGES, false) : hw_atomics(words);

  const wait = (): void => {
    for (let i = 0; i < SPINS; i++) {
      pause();
      if (hw.load(LOCK) === 0 && hw.cas(LOCK, 0, 1) === 0) return;
    }
    while (hw.xchg(LOCK, 2) !== 0) Atomics.wait(words, LOCK, 2);
  };
  const wake = (): void => {
    Atomics.notify(words, LOCK, 1);
  };

  /* A page's worth of blocks of class c onto its list; false: no memory. */
  const carve = (c: number): boolean => {
    const p = words[TOP];
    if (p + CHUNK > bytes.length) return false;
    words[TOP] = p + CHUNK;
    bytes[CLASS_OF_PAGE + (p >> SMALL_PAGE_SHIFT)] = c;
    for (let at = p + CHUNK - (16 << c); at >= p; at -= 16 << c) {
      words[at >> 2] = words[HEADS + c];
      words[HEADS + c] = at;
    }
    return true;
  };

  const get = (size: number): number => {
    if (size > 16 << (CLASSES - 1)) return 0;
    const c = size <= 16 ? 0 : 28 - Math.clz32(size - 1);
    if (hw.cas(LOCK, 0, 1) !== 0) wait();
    let p = words[HEADS + c];
    if (p === 0 && carve(c)) p = words[HEADS + c];
    if (p !== 0) {
      words[HEADS + c] = words[p >> 2];
      words[ALLOCS + c]++;
      live_bytes[0] += 16 << c;
    }
    if (hw.xchg(LOCK, 0) === 2) wake();
    return p;
  };
  const give = (p: number): void => {
    const c = bytes[CLASS_OF_PAGE + (p >> SMALL_PAGE_SHIFT)];
    if (hw.cas(LOCK, 0, 1) !== 0) wait();
    words[p >> 2] = words[HEADS + c];
    words[HEADS + c] = p;
    words[FREES + c]++;
    live_bytes[0] -= 16 << c;
    if (hw.xchg(LOCK, 0) === 2) wake();
  };
  return { get, give, words: () => words };
}
