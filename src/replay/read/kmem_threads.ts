/*
 * kmem_threads: reads `kmem-threads v1`, a heap trace that knows its threads.
 *
 *   # kmem-threads v1
 *   TID \t OP \t ADDR \t SIZE [\t EXTRA]
 *
 *   m malloc    c calloc    a aligned (EXTRA = alignment)    f free
 *   r realloc   (EXTRA = old address or 0x0)
 *       ADDR 0x0, SIZE 0     the old block was released
 *       ADDR 0x0, SIZE > 0   refused; the old block lives on
 *
 * File order is a legal order: no address is obtained before the line that
 * released it.  Each event carries its thread's index, so that a player can keep
 * each thread's order and leave everything else to run side by side.
 *
 * The format has no callers; the kind of call stands in for one.
 *
 * Always true: a line changes the live blocks only if all of it made sense.
 */

import type { HeapStream } from './heap_stream.ts';
import { type LineCutter, type LineParser, MAX_LINE_BYTES, newline_at } from './lines.ts';
import { HEX_VALUE } from './mtrace.ts';
import type { ThreadRow, TraceDocument } from './trace_stats.ts';

const TAB = 9;
const RETURN = 13;
const HASH = 35;
const ZERO = 48;
const MINUS = 45;
const LETTER_A = 97;
const LETTER_C = 99;
const LETTER_F = 102;
const LETTER_M = 109;
const LETTER_R = 114;
const LETTER_X = 120;

const OPS = 'mcarf';
/** Thread numbers below this are looked up in an array. */
const SMALL_TIDS = 65536;
const MAX_TID = 2 ** 31 - 1;
const MAX_SIZE = 2 ** 64;
/** Largest alignment an event can carry in its byte, far above what any allocator takes. */
const MAX_ALIGN_SHIFT = 63;

export class ThreadsParser implements LineParser {
  readonly format = 'kmem-threads v1';
  readonly #cutter: LineCutter;
  readonly #heap: HeapStream;
  readonly #ops = new Float64Array(128);
  readonly #site = new Int32Array(128);
  readonly #small_tids = new Int32Array(SMALL_TIDS);
  readonly #large_tids = new Map<number, number>();
  /* What the field readers leave behind: the place after the field, and an address. */
  #next = 0;
  #lo = 0;
  #hi = 0;

  constructor(cutter: LineCutter, heap: HeapStream) {
    this.#cutter = cutter;
    this.#heap = heap;
    this.#site[LETTER_M] = heap.sites.intern_name('malloc');
    this.#site[LETTER_C] = heap.sites.intern_name('calloc');
    this.#site[LETTER_A] = heap.sites.intern_name('aligned');
    this.#site[LETTER_R] = heap.sites.intern_name('realloc');
  }

  parse(from: number, to: number): number {
    const { bytes, view } = this.#cutter;
    const stats = this.#heap.stats;
    for (let at = from; ; ) {
      const nl = newline_at(view, at);
      if (nl >= to) return at;
      stats.line++;
      if (nl - at > MAX_LINE_BYTES) this.#too_long();
      else this.#line(bytes, at, nl);
      at = nl + 1;
    }
  }

  /** A cut number is another number; a comment is a comment. */
  parse_cut(from: number): boolean {
    const { stats } = this.#heap;
    stats.line++;
    const comment = this.#cutter.bytes[from] === HASH;
    if (comment) stats.notes++;
    return comment;
  }

  long_line(): void {
    this.#heap.stats.line++;
    this.#too_long();
  }

  finish(): string {
    return '';
  }

  document(): Omit<TraceDocument, 'uncompressed_bytes' | 'compressed_bytes' | 'sha256'> {
    const stats = this.#heap.stats;
    const lines_by_op: Record<string, number> = {};
    for (const op of OPS) lines_by_op[op] = this.#ops[op.charCodeAt(0)];
    return {
      format: this.format,
      event_lines: stats.event_lines,
      lines_by_op,
      threads: stats.threads.length,
      released_by_acquiring_thread: stats.released_by_acquiring_thread,
      released_by_other_thread: stats.released_by_other_thread,
      threads_with_1000_events_or_more: stats.busy_threads(),
      ...stats.common(this.#heap.live_ids),
      ...stats.sites(this.#heap.sites, this.#heap.live_ids),
    };
  }

  #too_long(): void {
    this.#heap.stats.malformed_line(`longer than ${MAX_LINE_BYTES} bytes; no trace line is`);
  }

  #bad(reason: string): void {
    this.#heap.stats.malformed_line(reason);
  }

  #line(bytes: Uint8Array, from: number, nl: number): void {
    const to = bytes[nl - 1] === RETURN && nl > from ? nl - 1 : nl;
    if (from === to) return this.#bad('an empty line');
    if (bytes[from] === HASH) {
      this.#heap.stats.notes++;
      return;
    }
    const tid = this.#decimal(bytes, from, to);
    let at = this.#next;
    if (!(tid >= 0 && tid <= MAX_TID)) return this.#bad('does not begin with a thread number');
    const op = bytes[at + 1];
    if (bytes[at] !== TAB || bytes[at + 2] !== TAB || at + 2 >= to) {
      return this.#bad('not `TID OP ADDR SIZE [EXTRA]` with tabs between');
    }
    if (!this.#address(bytes, at + 3, to))
      return this.#bad('the address is not 0x and 1 to 16 digits');
    const lo = this.#lo;
    const hi = this.#hi;
    at = this.#next;
    if (bytes[at] !== TAB || at >= to) return this.#bad('no size');
    if (bytes[at + 1] === MINUS) return this.#bad('a negative size');
    const size = this.#decimal(bytes, at + 1, to);
    if (!(size >= 0 && size <= MAX_SIZE)) return this.#bad('the size is not a number below 2^64');
    at = this.#next;
    if (at !== to && bytes[at] !== TAB) return this.#bad('the size is not a decimal number');
    this.#operation(bytes, op, tid, lo, hi, size, at, to);
  }

  #operation(
    bytes: Uint8Array,
    op: number,
    tid: number,
    lo: number,
    hi: number,
    size: number,
    at: number,
    to: number,
  ): void {
    if (op === LETTER_M || op === LETTER_C) {
      if (at !== to) return this.#bad('a fifth field after a malloc or calloc');
      this.#obtain(op, tid, lo, hi, size, 0);
    } else if (op === LETTER_F) {
      if (at !== to) return this.#bad('a fifth field after a free');
      this.#release(tid, lo, hi);
    } else if (op === LETTER_R) {
      if (at === to || !this.#address(bytes, at + 1, to) || this.#next !== to) {
        return this.#bad('a realloc without its old address');
      }
      this.#reallocate(tid, this.#lo, this.#hi, lo, hi, size);
    } else if (op === LETTER_A) {
      const alignment = at === to ? Number.NaN : this.#decimal(bytes, at + 1, to);
      if (!(alignment >= 0) || this.#next !== to) return this.#bad('no alignment');
      this.#aligned(tid, lo, hi, size, alignment);
    } else {
      this.#bad('none of the operations m c a r f');
    }
  }

  #obtain(
    op: number,
    tid: number,
    lo: number,
    hi: number,
    size: number,
    align_shift: number,
  ): void {
    const thread = this.#event(op, tid);
    this.#acquisition(thread);
    if ((lo | hi) === 0) {
      this.#heap.stats.failed++;
      return;
    }
    this.#heap.stats.threads[thread].bytes += size;
    this.#heap.obtain(lo, hi, size, this.#site[op], thread, align_shift);
  }

  #aligned(tid: number, lo: number, hi: number, size: number, alignment: number): void {
    const shift = Math.round(Math.log2(alignment));
    const power = 2 ** shift === alignment && shift <= MAX_ALIGN_SHIFT;
    /* A program may ask for nonsense and be refused; to be given a block for it makes no sense. */
    if (!power && (lo | hi) !== 0) return this.#bad('an alignment that is no power of two');
    this.#obtain(LETTER_A, tid, lo, hi, size, shift);
  }

  #release(tid: number, lo: number, hi: number): void {
    if ((lo | hi) === 0) return this.#bad('a null address cannot be released');
    const thread = this.#event(LETTER_F, tid);
    if (this.#heap.release(lo, hi, thread)) this.#row(thread).releases++;
    else this.#heap.stats.free_of_unknown++;
  }

  #reallocate(
    tid: number,
    old_lo: number,
    old_hi: number,
    lo: number,
    hi: number,
    size: number,
  ): void {
    const old_null = (old_lo | old_hi) === 0;
    if (old_null) return this.#obtain(LETTER_R, tid, lo, hi, size, 0);
    const thread = this.#event(LETTER_R, tid);
    if ((lo | hi) !== 0) {
      this.#acquisition(thread);
      this.#row(thread).bytes += size;
      const site = this.#site[LETTER_R];
      const known = this.#heap.move(old_lo, old_hi, lo, hi, size, site, thread);
      if (known) this.#row(thread).releases++;
    } else if (size > 0) {
      this.#heap.stats.failed++;
    } else if (this.#heap.release(old_lo, old_hi, thread)) {
      this.#row(thread).releases++;
    } else {
      this.#heap.stats.realloc_of_unknown++;
    }
  }

  #row(thread: number): ThreadRow {
    return this.#heap.stats.threads[thread];
  }

  #acquisition(thread: number): void {
    this.#heap.stats.acquisitions++;
    this.#row(thread).acquisitions++;
  }

  /* Counts an event line; answers the index of its thread. */
  #event(op: number, tid: number): number {
    const thread = this.#thread(tid);
    this.#ops[op]++;
    this.#heap.stats.event_lines++;
    this.#row(thread).events++;
    return thread;
  }

  #thread(tid: number): number {
    if (tid < SMALL_TIDS) {
      const known = this.#small_tids[tid];
      if (known !== 0) return known - 1;
      const index = this.#heap.new_thread(tid);
      this.#small_tids[tid] = index + 1;
      return index;
    }
    const known = this.#large_tids.get(tid);
    if (known !== undefined) return known;
    const before = this.#heap.stats.threads.length;
    const index = this.#heap.new_thread(tid);
    if (this.#heap.stats.threads.length > before) this.#large_tids.set(tid, index);
    return index;
  }

  /* The decimal number at `at`; NaN when there is none. */
  #decimal(bytes: Uint8Array, at: number, to: number): number {
    let next = at;
    let value = 0;
    for (; next < to; next++) {
      const digit = bytes[next] - ZERO;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
    }
    this.#next = next;
    return next > at ? value : Number.NaN;
  }

  /* The address at `at` into #lo and #hi; false when there is none. */
  #address(bytes: Uint8Array, at: number, to: number): boolean {
    if (bytes[at] !== ZERO || bytes[at + 1] !== LETTER_X) return false;
    let lo = 0;
    let hi = 0;
    let next = at + 2;
    const most = Math.min(to, next + 16);
    for (; next < most; next++) {
      const digit = HEX_VALUE[bytes[next]];
      if (digit < 0) break;
      hi = (hi << 4) | (lo >>> 28);
      lo = (lo << 4) | digit;
    }
    this.#lo = lo;
    this.#hi = hi;
    this.#next = next;
    return next > at + 2 && (next === to || bytes[next] === TAB);
  }
}
