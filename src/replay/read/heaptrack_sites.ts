/*
 * heaptrack_sites: from the back-traces of a heaptrack file to call sites.
 *
 * heaptrack writes each thing once and names it by its number from then on:
 *
 *      s  string        1, 2, 3 …         a name of a function, file or module
 *      i  frame         1, 2, 3 …    ┌──► address, module, functions (inlined ones
 *                                    │    first, each with the one it stands in)
 *      t  trace node    1, 2, 3 …    └─── frame + the node of its caller
 *
 *      node 9 ──► node 8 ──► … ──► 0      a back-trace, innermost call first
 *
 * 0 is no string, no frame, the end of a back-trace.  A node comes after its
 * caller's, so the nodes are a forest that is walked towards lower numbers.
 *
 * The call site of an allocation is its innermost frame that is not the
 * allocator's own (malloc, operator new, heaptrack's own library).  It is
 * called `function (module)`; where the function is unknown, `module:[0xaddress]`
 * as in mtrace.  A back-trace with nothing else shows its innermost frame.
 *
 * A raw file knows modules by where they are loaded and functions not at all:
 * an address is then told relative to its module's start, which is the same in
 * every run.  There `operator new` cannot be told from its library, so the
 * language's run-time library counts as the allocator's own.
 *
 * Memory: some bytes for each different string, frame and node of the file,
 * outside of the JavaScript heap; JavaScript strings only for sites.
 *
 * Locks: none; the reader's thread owns all of it.
 */

import type { Sites } from './sites.ts';

/** Functions that obtain memory for whoever calls them. */
const ALLOCATORS = new RegExp(
  [
    '^operator new(\\[\\])?\\(',
    '^(__libc_|__)?(malloc|calloc|realloc|reallocarray|memalign|posix_memalign)$',
    '^(__libc_|__)?(aligned_alloc|valloc|pvalloc)$',
    '^__(rust|rdl|rg)_(alloc|alloc_zeroed|realloc)$',
  ].join('|'),
);
const RECORDER_LIBRARY = /(^|\/)libheaptrack[^/]*$/;
const RUNTIME_LIBRARY = /(^|\/)(libheaptrack|libstdc\+\+|libc\+\+)[^/]*$/;

const NO_BACKTRACE = '(no backtrace)';
const UNKNOWN_MODULE = '(unknown module)';

/** A list of numbers below 2^32 that grows. */
class Numbers {
  length = 0;
  #at = new Uint32Array(1024);

  push(value: number): void {
    if (this.length === this.#at.length) {
      const wide = new Uint32Array(this.length * 2);
      wide.set(this.#at);
      this.#at = wide;
    }
    this.#at[this.length++] = value;
  }
  get(i: number): number {
    return this.#at[i];
  }
}

/** The strings of a file, as bytes. */
class Strings {
  readonly #ends = new Numbers();
  readonly #read = new Map<number, string>();
  #bytes = new Uint8Array(65536);

  get count(): number {
    return this.#ends.length;
  }
  add(bytes: Uint8Array, from: number, to: number): void {
    const start = this.#start(this.count + 1);
    const end = start + (to - from);
    if (end > this.#bytes.length) {
      const wide = new Uint8Array(Math.max(end, this.#bytes.length * 2));
      wide.set(this.#bytes);
      this.#bytes = wide;
    }
    this.#bytes.set(bytes.subarray(from, to), start);
    this.#ends.push(end);
  }
  /** The string of this number; '' when there is none. */
  text(n: number): string {
    if (n === 0 || n > this.count) return '';
    const known = this.#read.get(n);
    if (known !== undefined) return known;
    const text = new TextDecoder().decode(
      this.#bytes.subarray(this.#start(n), this.#ends.get(n - 1)),
    );
    this.#read.set(n, text);
    return text;
  }
  #start(n: number): number {
    return n <= 1 ? 0 : this.#ends.get(n - 2);
  }
}

interface Segment {
  start: number;
  end: number;
  base: number;
  module: number;
}

export class HeaptrackSites {
  readonly strings = new Strings();
  readonly #sites: Sites;
  /* Frames: address in two halves, module, and where their functions begin. */
  readonly #address_lo = new Numbers();
  readonly #address_hi = new Numbers();
  readonly #module = new Numbers();
  readonly #functions_from = new Numbers();
  readonly #functions = new Numbers();
  /* Trace nodes: frame, caller's node, and site + 1 once it is known. */
  readonly #frame = new Numbers();
  readonly #caller = new Numbers();
  #site = new Int32Array(1024);
  /* Raw files: what is loaded where; sorted when it is next asked. */
  #segments: Segment[] = [];
  #sorted = true;
  readonly #module_numbers = new Map<string, number>();
  #own_library = RECORDER_LIBRARY;

  constructor(sites: Sites) {
    this.#sites = sites;
  }

  get frames(): number {
    return this.#module.length;
  }
  get traces(): number {
    return this.#frame.length;
  }

  /** A frame; its functions follow by add_function(). */
  add_frame(lo: number, hi: number, module: number): void {
    this.#address_lo.push(lo);
    this.#address_hi.push(hi);
    this.#module.push(module);
    this.#functions_from.push(this.#functions.length);
  }
  /** A function of the newest frame; the innermost comes first. */
  add_function(name: number): void {
    this.#functions.push(name);
  }
  add_trace(frame: number, caller: number): void {
    this.#frame.push(frame);
    this.#caller.push(caller);
  }

  // --- raw files ---------------------------------------------------------------------------

  /** The number of the string that names this module. */
  module(file: string): number {
    this.#own_library = RUNTIME_LIBRARY;
    let n = this.#module_numbers.get(file);
    if (n === undefined) {
      const bytes = new TextEncoder().encode(file);
      this.strings.add(bytes, 0, bytes.length);
      n = this.strings.count;
      this.#module_numbers.set(file, n);
    }
    return n;
  }
  /** Everything is unloaded; what is loaded now follows. */
  clear_modules(): void {
    this.#segments = [];
  }
  add_segment(module: number, base: number, start: number, end: number): void {
    this.#segments.push({ start, end, base, module });
    this.#sorted = false;
  }
  /** A trace node known by its address alone. */
  add_raw_trace(lo: number, hi: number, caller: number): void {
    const address = (hi >>> 0) * 0x100000000 + (lo >>> 0);
    const found = this.#segment(address);
    if (found === null) this.add_frame(lo, hi, 0);
    else {
      const offset = address - found.base;
      this.add_frame(offset, offset / 0x100000000, found.module);
    }
    this.add_trace(this.frames, caller);
  }
  #segment(address: number): Segment | null {
    const all = this.#segments;
    if (!this.#sorted) all.sort((a, b) => a.start - b.start);
    this.#sorted = true;
    let low = 0;
    let high = all.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (all[middle].start <= address) low = middle + 1;
      else high = middle;
    }
    const found = all[low - 1];
    return found && address < found.end ? found : null;
  }

  // --- sites -------------------------------------------------------------------------------

  /** The site of allocations with this back-trace. */
  site(trace: number): number {
    if (trace === 0 || trace > this.traces)
      return this.#sites.intern_in(UNKNOWN_MODULE, NO_BACKTRACE);
    if (trace >= this.#site.length) {
      const wide = new Int32Array(Math.max(trace + 1, this.#site.length * 2));
      wide.set(this.#site);
      this.#site = wide;
    }
    let site = this.#site[trace] - 1;
    if (site < 0) {
      site = this.#find_site(trace);
      this.#site[trace] = site + 1;
    }
    return site;
  }
  #find_site(trace: number): number {
    for (let node = trace; node !== 0; node = this.#caller.get(node - 1)) {
      const name = this.#name(this.#frame.get(node - 1), false);
      if (name !== '') return this.#intern(this.#frame.get(node - 1), name);
    }
    const innermost = this.#frame.get(trace - 1);
    return this.#intern(innermost, this.#name(innermost, true) || NO_BACKTRACE);
  }
  #intern(frame: number, name: string): number {
    return this.#sites.intern_in(this.#module_name(frame) || UNKNOWN_MODULE, name);
  }
  #module_name(frame: number): string {
    return frame === 0 ? '' : this.strings.text(this.#module.get(frame - 1));
  }

  /* What a frame is called; '' when it is nothing but the allocator's own, unless that will do. */
  #name(frame: number, own_too: boolean): string {
    if (frame === 0) return '';
    const module = this.#module_name(frame);
    if (!own_too && this.#own_library.test(module)) return '';
    const first = this.#functions_from.get(frame - 1);
    const last = frame < this.frames ? this.#functions_from.get(frame) : this.#functions.length;
    let named = false;
    for (let i = first; i < last; i++) {
      const name = this.strings.text(this.#functions.get(i));
      if (name === '') continue;
      named = true;
      if (own_too || !ALLOCATORS.test(name)) return module === '' ? name : `${name} (${module})`;
    }
    if (named) return '';
    const hi = this.#address_hi.get(frame - 1);
    const lo = this.#address_lo.get(frame - 1).toString(16);
    const address = hi === 0 ? lo : hi.toString(16) + lo.padStart(8, '0');
    return module === '' ? `[0x${address}]` : `${module}:[0x${address}]`;
  }
}
