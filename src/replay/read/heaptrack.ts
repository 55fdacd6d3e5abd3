/*
 * heaptrack: reads what heaptrack(1) records, file formats 1 to 3.
 *
 * One letter, then fields in hexadecimal without 0x, one blank between:
 *
 *   v VERSION FORMAT        first line; FORMAT is absent in 1.0 (which means 1)
 *   X COMMAND LINE          what was recorded
 *   I BYTES PAGES           size of a page, pages of the machine
 *   s LENGTH TEXT           a string; before format 3 without its length
 *   i ADDRESS MODULE [FUNCTION [FILE LINE [FUNCTION FILE LINE] …]]   a frame
 *   t FRAME CALLER          a node of the back-traces
 *   a SIZE TRACE            an allocation: all blocks of this size from there
 *   + ALLOCATION            a block of it was obtained
 *   - ALLOCATION            one was released
 *   c MILLISECONDS          time since the start
 *   R PAGES                 resident pages now
 *   S PATTERN               a leak that the program asks not to be told
 *   A                       the recorder was attached to a running program here
 *   # COMMENT               `# ips:` ends a whole file; an empty line is one, too
 *
 * Strings, frames and nodes are numbered from 1, allocations from 0, in the order
 * they come (heaptrack_sites.ts).  A line may only name what came before it.
 *
 * Which block?  `-` names an allocation and no address, so any of its live blocks
 * may be meant; all have one size and one call site, and no count depends on it.
 * We take the newest (last in, first out).  Allocation number k with n live
 * blocks is then the stack of made-up addresses k:1 … k:n, and one counter for
 * each allocation is all there is to keep.
 *
 * Raw files (`heaptrack --raw`, not yet interpreted) have real addresses and no
 * names, and differ in these lines; `x` or `m` comes before the first event:
 *
 *   x LENGTH FILE           the program's file, elsewhere called `x`
 *   m LENGTH FILE BASE [START LENGTH] …    a module and its segments; `-`: forget all
 *   t ADDRESS CALLER        a node of the back-traces
 *   + SIZE TRACE BLOCK      a block was obtained
 *   - BLOCK                 it was released
 *
 * Temporary allocations are counted as heaptrack_print counts them: a release right
 * behind the request of a block of the same allocation.  Right behind another
 * release it counts one of allocation 0 as well, and so does this.  A raw file is
 * counted as the interpreted one that heaptrack would make of it: by allocations,
 * without the releases of unknown blocks.
 *
 * heaptrack writes a realloc as `-` and `+`, and refused requests not at all.
 *
 * Always true: a line changes the live blocks only if all of it made sense.  A
 * malformed s, i, t or a line still takes its number, as its writer counted it,
 * and stands for what is unknown; blocks of an allocation of unknown size do not
 * exist.
 */

import { NO_BLOCK } from './address_map.ts';
import type { HeapStream } from './heap_stream.ts';
import { HeaptrackSites } from './heaptrack_sites.ts';
import { type LineCutter, type LineParser, MAX_LINE_BYTES, newline_at } from './lines.ts';
import { HEX_VALUE } from './mtrace.ts';
import { SourceError } from './source.ts';
import type { TraceDocument } from './trace_stats.ts';

const BLANK = 32;
const RETURN = 13;
const HASH = 35;
const PLUS = 43;
const MINUS = 45;
const LETTER_A = 65;
const LETTER_I = 73;
const LETTER_R = 82;
const LETTER_S = 83;
const LETTER_X = 88;
const LETTER_a = 97;
const LETTER_c = 99;
const LETTER_i = 105;
const LETTER_m = 109;
const LETTER_s = 115;
const LETTER_t = 116;
const LETTER_v = 118;
const LETTER_x = 120;

/** Formats whose strings carry no length, and the newest one. */
const UNSIZED_FORMAT = 2;
const NEWEST_FORMAT = 3;
/** The one release that had format 1 without saying so. */
const UNNUMBERED_RELEASE = 0x010200;
const HEX_DIGITS_MAX = 16;
/** Made-up addresses are this far apart, as glibc's blocks are. */
const ADDRESS_SHIFT = 4;
const END_MARK = '# ips:';

export class HeaptrackParser implements LineParser {
  readonly format = 'heaptrack';
  readonly #cutter: LineCutter;
  readonly #heap: HeapStream;
  readonly #tables: HeaptrackSites;
  /* The allocations: size (NaN: unknown), call site, live blocks. */
  #size = new Float64Array(4096);
  #site = new Int32Array(4096);
  #live = new Uint32Array(4096);
  #allocations = 0;
  /* Null until a line shows it. */
  #raw: boolean | null = null;
  #file_format = 0;
  #recorder = '';
  #version_line = '';
  #program = '';
  readonly #about: Partial<TraceDocument> = {};
  #resident_pages = 0;
  #suppressions = 0;
  #attached = false;
  #complete = false;
  #obtained = 0;
  #released = 0;
  /* The allocation of the block that the event before obtained; if none, 0, the first one. */
  #fresh = 0;
  /* Raw files: allocations by back-trace and size, and that of each live block. */
  readonly #by_trace = new Map<number, Map<number, number>>();
  #kinds = 0;
  #kind_of = new Uint32Array(4096);
  /* The field that #hex() read, and the place behind it. */
  #lo = 0;
  #hi = 0;
  #next = 0;
  /* Where an incomplete line begins, in case it turns out too long. */
  #rest = 0;

  constructor(cutter: LineCutter, heap: HeapStream) {
    this.#cutter = cutter;
    this.#heap = heap;
    this.#tables = new HeaptrackSites(heap.sites);
    heap.own_temporary = true;
  }

  parse(from: number, to: number): number {
    const { bytes, view } = this.#cutter;
    const stats = this.#heap.stats;
    for (let at = from; ; ) {
      const nl = newline_at(view, at);
      if (nl >= to) {
        this.#rest = at;
        return at;
      }
      stats.line++;
      if (nl - at > MAX_LINE_BYTES) this.#too_long(bytes[at]);
      else this.#line(bytes, at, bytes[nl - 1] === RETURN && nl > at ? nl - 1 : nl);
      at = nl + 1;
    }
  }

  /**
   * A cut number is another number.  Yet an event that has begun did happen, and heaptrack_print
   * counts it for the allocation that is named so far; so does this.
   */
  parse_cut(from: number, to: number): boolean {
    this.#heap.stats.line++;
    const { bytes } = this.#cutter;
    const op = bytes[from];
    const event = this.#raw === false && (op === PLUS || op === MINUS);
    if (event && bytes[from + 1] === BLANK) this.#event(bytes, op, from + 2, to);
    return op === HASH;
  }

  long_line(): void {
    this.#heap.stats.line++;
    this.#too_long(this.#cutter.bytes[this.#rest]);
  }

  finish(): string {
    return '';
  }

  document(): Omit<TraceDocument, 'uncompressed_bytes' | 'compressed_bytes' | 'sha256'> {
    const stats = this.#heap.stats;
    const raw = this.#raw === true;
    const { page_bytes = 0 } = this.#about;
    const peak_rss_bytes = this.#resident_pages * page_bytes;
    return {
      format: this.format,
      file_version: this.#file_format,
      recorder: this.#recorder,
      raw,
      pairing: raw ? 'address' : 'last in, first out',
      ...this.#about,
      attached: this.#attached,
      leak_suppressions: this.#suppressions,
      ...(peak_rss_bytes > 0 ? { peak_rss_bytes } : {}),
      ...(this.#about.recorded_ms === undefined ? {} : { peak_live_ms: stats.peak_ms }),
      event_lines: stats.event_lines,
      ...(raw ? {} : { end_line: this.#complete }),
      lines_by_op: { '+': this.#obtained, '-': this.#released },
      interned: {
        strings: this.#tables.strings.count,
        frames: this.#tables.frames,
        traces: this.#tables.traces,
        allocations: this.#allocations,
      },
      ...stats.common(this.#heap.live_ids),
      ...stats.sites(this.#heap.sites, this.#heap.live_ids),
    };
  }

  #bad(reason: string): void {
    this.#heap.stats.malformed_line(reason);
  }
  #too_long(letter: number): void {
    this.#take_number(letter);
    this.#bad(`longer than ${MAX_LINE_BYTES} bytes; no trace line is`);
  }

  /* A line that makes no sense, or is too long to be looked at, is numbered all the same. */
  #take_number(letter: number): void {
    if (letter === LETTER_t) this.#tables.add_trace(0, 0);
    if (this.#raw === true) return;
    if (letter === LETTER_s) this.#tables.strings.add(this.#cutter.bytes, 0, 0);
    else if (letter === LETTER_i) this.#tables.add_frame(0, 0, 0);
    else if (letter === LETTER_a) this.#add_allocation(Number.NaN, 0);
  }

  #line(bytes: Uint8Array, from: number, to: number): void {
    const letter = bytes[from];
    const blank = bytes[from + 1] === BLANK && to > from + 1;
    let wrong: string | null = 'not a letter, a blank and fields behind it';
    if (letter === PLUS || letter === MINUS) {
      if (blank) wrong = this.#event(bytes, letter, from + 2, to);
    } else if (letter === HASH || from === to) {
      return this.#comment(bytes, from, to);
    } else if (blank || to === from + 1) {
      wrong = this.#record(bytes, letter, Math.min(from + 2, to), to);
      if (wrong !== null) this.#take_number(letter);
    }
    if (wrong !== null) this.#bad(wrong);
  }

  /* Each of these answers what is wrong with its line; null: nothing, and it was done. */

  #event(bytes: Uint8Array, op: number, at: number, to: number): string | null {
    if (this.#raw === true) return this.#raw_event(bytes, op, at, to);
    this.#raw = false;
    if (!this.#hex(bytes, at, to) || this.#next !== to) return 'not the number of an allocation';
    const n = this.#lo >>> 0;
    if (this.#hi !== 0 || n >= this.#allocations) {
      return `allocation ${this.#text(at, to)} was not told before`;
    }
    const size = this.#size[n];
    if (Number.isNaN(size)) return `the line of allocation ${this.#text(at, to)} is malformed`;
    if (op === PLUS) {
      this.#obtain(++this.#live[n] << ADDRESS_SHIFT, n + 1, size, this.#site[n]);
      this.#fresh = n;
    } else {
      this.#count_temporary(n, this.#site[n]);
      if (this.#live[n] > 0) this.#release(this.#live[n]-- << ADDRESS_SHIFT, n + 1);
      else this.#release(0, 0);
    }
    return null;
  }
  #count_temporary(allocation: number, site: number): void {
    if (this.#fresh === allocation) this.#heap.stats.temporary_at(site);
    this.#fresh = 0;
  }

  #raw_event(bytes: Uint8Array, op: number, at: number, to: number): string | null {
    if (op === MINUS) {
      if (!this.#hex(bytes, at, to) || this.#next !== to || (this.#lo | this.#hi) === 0) {
        return 'not the address of a block';
      }
      const block = this.#heap.map.get(this.#lo, this.#hi);
      if (block !== NO_BLOCK) {
        this.#count_temporary(this.#kind_of[block], this.#heap.stats.site_of(block));
      }
      this.#release(this.#lo, this.#hi);
      return null;
    }
    if (!this.#hex(bytes, at, to)) return 'not `+ SIZE TRACE BLOCK`';
    const size = this.#value();
    const trace = this.#field(bytes, to) ? this.#value() : Number.NaN;
    if (!this.#field(bytes, to) || this.#next !== to || (this.#lo | this.#hi) === 0) {
      return 'not `+ SIZE TRACE BLOCK`';
    }
    if (trace > this.#tables.traces) return 'a back-trace that was not told before';
    const [lo, hi] = [this.#lo, this.#hi];
    this.#obtain(lo, hi, size, this.#tables.site(trace));
    this.#fresh = this.#kind(trace, size);
    this.#note_kind(this.#heap.map.get(lo, hi), this.#fresh);
    return null;
  }
  /* The number that interpreting the file would give to the allocation. */
  #kind(trace: number, size: number): number {
    let by_size = this.#by_trace.get(trace);
    if (by_size === undefined) this.#by_trace.set(trace, (by_size = new Map()));
    let kind = by_size.get(size);
    if (kind === undefined) by_size.set(size, (kind = this.#kinds++));
    return kind;
  }
  #note_kind(block: number, kind: number): void {
    if (block >= this.#kind_of.length) {
      const wide = new Uint32Array(2 * Math.max(block, this.#kind_of.length));
      wide.set(this.#kind_of);
      this.#kind_of = wide;
    }
    this.#kind_of[block] = kind;
  }

  #obtain(lo: number, hi: number, size: number, site: number): void {
    const stats = this.#heap.stats;
    stats.event_lines++;
    stats.acquisitions++;
    this.#obtained++;
    this.#heap.obtain(lo, hi, size, site, 0, 0);
  }
  #release(lo: number, hi: number): void {
    const stats = this.#heap.stats;
    stats.event_lines++;
    this.#released++;
    if (!this.#heap.release(lo, hi, 0)) stats.free_of_unknown++;
  }

  #record(bytes: Uint8Array, letter: number, at: number, to: number): string | null {
    switch (letter) {
      case LETTER_s:
        return this.#is_raw(false) ?? this.#string(bytes, at, to);
      case LETTER_i:
        return this.#is_raw(false) ?? this.#frame(bytes, at, to);
      case LETTER_a:
        return this.#is_raw(false) ?? this.#allocation(bytes, at, to);
      case LETTER_m:
        return this.#is_raw(true) ?? this.#module(bytes, at, to);
      case LETTER_x:
        return this.#is_raw(true) ?? this.#executable(bytes, at, to);
      case LETTER_t:
        return this.#trace(bytes, at, to);
      case LETTER_I:
      case LETTER_c:
      case LETTER_R:
        return this.#figures(bytes, letter, at, to);
      case LETTER_v:
        return this.#version(bytes, at, to);
      case LETTER_X:
        this.#about.command = this.#text(at, to);
        return null;
      case LETTER_S:
        this.#suppressions++;
        return null;
      case LETTER_A:
        this.#attached = true;
        return null;
      default:
        return 'begins with none of the letters of the format';
    }
  }

  /* The first line that only one kind of file has says which kind this is. */
  #is_raw(raw: boolean): string | null {
    this.#raw ??= raw;
    if (this.#raw === raw) return null;
    return raw ? 'a line of raw files in an interpreted one' : 'an interpreted line in a raw file';
  }

  #string(bytes: Uint8Array, at: number, to: number): string | null {
    let start = at;
    if (this.#file_format > UNSIZED_FORMAT) {
      const sized = this.#hex(bytes, at, to) && bytes[this.#next] === BLANK;
      start = this.#next + 1;
      if (!sized || start > to) return 'not `s LENGTH TEXT`';
      if (this.#value() !== to - start) return 'the string is not as long as it says';
    }
    this.#tables.strings.add(bytes, start, to);
    return null;
  }

  #frame(bytes: Uint8Array, at: number, to: number): string | null {
    const strings = this.#tables.strings.count;
    if (!this.#hex(bytes, at, to)) return 'not `i ADDRESS MODULE [FUNCTION [FILE LINE] …]`';
    const lo = this.#lo;
    const hi = this.#hi;
    const fields: number[] = [];
    while (this.#field(bytes, to)) fields.push(this.#value());
    /* Module, or module and function, or module and any number of function, file, line. */
    const n = fields.length;
    if (this.#next !== to || (n !== 2 && n % 3 !== 1)) {
      return 'not `i ADDRESS MODULE [FUNCTION [FILE LINE] …]`';
    }
    const unknown = fields.find((s, i) => (i === 0 || i % 3 !== 0) && s > strings);
    if (unknown !== undefined) return `string ${unknown.toString(16)} was not told before`;
    this.#tables.add_frame(lo, hi, fields[0]);
    for (let i = 1; i < n; i += 3) this.#tables.add_function(fields[i]);
    return null;
  }

  #trace(bytes: Uint8Array, at: number, to: number): string | null {
    this.#raw ??= false;
    const tables = this.#tables;
    if (!this.#hex(bytes, at, to)) return 'not two numbers';
    const lo = this.#lo;
    const hi = this.#hi;
    const frame = this.#value();
    if (!this.#field(bytes, to) || this.#next !== to) return 'not two numbers';
    const caller = this.#value();
    if (caller > tables.traces) return `trace ${caller.toString(16)} was not told before`;
    if (this.#raw) tables.add_raw_trace(lo, hi, caller);
    else if (frame > tables.frames) return `frame ${frame.toString(16)} was not told before`;
    else tables.add_trace(frame, caller);
    return null;
  }

  #allocation(bytes: Uint8Array, at: number, to: number): string | null {
    if (!this.#hex(bytes, at, to)) return 'not `a SIZE TRACE`';
    const size = this.#value();
    if (!this.#field(bytes, to) || this.#next !== to) return 'not `a SIZE TRACE`';
    const trace = this.#value();
    if (trace > this.#tables.traces) return `trace ${trace.toString(16)} was not told before`;
    this.#add_allocation(size, this.#tables.site(trace));
    return null;
  }
  #add_allocation(size: number, site: number): void {
    if (this.#allocations === this.#size.length) {
      const sizes = new Float64Array(this.#allocations * 2);
      const sites = new Int32Array(this.#allocations * 2);
      const live = new Uint32Array(this.#allocations * 2);
      sizes.set(this.#size);
      sites.set(this.#site);
      live.set(this.#live);
      this.#size = sizes;
      this.#site = sites;
      this.#live = live;
    }
    this.#size[this.#allocations] = size;
    this.#site[this.#allocations++] = site;
  }

  #executable(bytes: Uint8Array, at: number, to: number): string | null {
    const file = this.#file_name(bytes, at, to);
    if (file === null || this.#next !== to) return 'not `x LENGTH FILE`';
    this.#program = file;
    return null;
  }

  #module(bytes: Uint8Array, at: number, to: number): string | null {
    const wrong = 'not `m LENGTH FILE BASE [START LENGTH] …`';
    const file = this.#file_name(bytes, at, to);
    if (file === null) return wrong;
    if (file === '-') {
      this.#tables.clear_modules();
      return null;
    }
    const fields: number[] = [];
    while (this.#field(bytes, to)) fields.push(this.#value());
    if (this.#next !== to || fields.length % 2 === 0) return wrong;
    const module = this.#tables.module(file === 'x' ? this.#program : file);
    const base = fields[0];
    for (let i = 1; i < fields.length; i += 2) {
      const start = base + fields[i];
      this.#tables.add_segment(module, base, start, start + fields[i + 1]);
    }
    return null;
  }

  /* With its length before it, or up to a blank in the older formats; null: there is none. */
  #file_name(bytes: Uint8Array, at: number, to: number): string | null {
    let start = at;
    let end = at;
    if (this.#file_format > UNSIZED_FORMAT) {
      if (!this.#hex(bytes, at, to) || bytes[this.#next] !== BLANK) return null;
      start = this.#next + 1;
      end = start + this.#value();
    } else {
      while (end < to && bytes[end] !== BLANK) end++;
    }
    if (end > to || end <= start || (end < to && bytes[end] !== BLANK)) return null;
    this.#next = end;
    return this.#text(start, end);
  }

  #figures(bytes: Uint8Array, letter: number, at: number, to: number): string | null {
    if (!this.#hex(bytes, at, to)) return 'not a number';
    const first = this.#value();
    if (letter === LETTER_I) {
      if (!this.#field(bytes, to) || this.#next !== to) return 'not `I BYTES PAGES`';
      this.#about.page_bytes = first;
      this.#about.machine_bytes = first * this.#value();
      return null;
    }
    if (this.#next !== to) return 'more than one number';
    if (letter === LETTER_c) this.#about.recorded_ms = this.#heap.stats.clock_ms = first;
    else this.#resident_pages = Math.max(this.#resident_pages, first);
    return null;
  }

  #version(bytes: Uint8Array, at: number, to: number): string | null {
    if (!this.#hex(bytes, at, to)) return 'not `v VERSION FORMAT`';
    const release = this.#value();
    let format = release === UNNUMBERED_RELEASE ? 1 : 0;
    if (this.#field(bytes, to)) format = this.#value();
    if (this.#next !== to) return 'not `v VERSION FORMAT`';
    const { file, line } = this.#heap.stats;
    if (this.#recorder !== '') {
      if (this.#text(at, to) !== this.#version_line)
        return 'a version that is not at the beginning';
      const reason = `line ${line}: a second recording begins here`;
      throw new SourceError(file, null, reason, 'replay one recording at a time');
    }
    const numbers = [release / 65536, release / 256, release].map((n) => Math.floor(n) % 256);
    this.#recorder = `heaptrack ${numbers.join('.')}`;
    this.#version_line = this.#text(at, to);
    this.#file_format = format;
    this.#heap.stats.notes++;
    if (format >= 1 && format <= NEWEST_FORMAT) return null;
    const reason = `recognised as heaptrack, but in file format ${format} (${this.#recorder})`;
    const advice = `kmem replays formats 1 to ${NEWEST_FORMAT}, of heaptrack 1.0 and later`;
    throw new SourceError(file, 0, reason, advice);
  }

  #comment(bytes: Uint8Array, from: number, to: number): void {
    this.#heap.stats.notes++;
    if (to - from >= END_MARK.length && bytes[from + 2] === LETTER_i) {
      this.#complete ||= this.#text(from, from + END_MARK.length) === END_MARK;
    }
  }

  // --- fields ------------------------------------------------------------------------------

  #text(from: number, to: number): string {
    return new TextDecoder().decode(this.#cutter.bytes.subarray(from, to));
  }

  /* The number in #lo and #hi; of 2^53 and above the nearest double. */
  #value(): number {
    return (this.#hi >>> 0) * 0x100000000 + (this.#lo >>> 0);
  }

  /* The next field, if there is one, behind a blank. */
  #field(bytes: Uint8Array, to: number): boolean {
    const at = this.#next;
    return bytes[at] === BLANK && at < to && this.#hex(bytes, at + 1, to);
  }

  /* The number at `at` into #lo and #hi: 1 to 16 digits up to a blank or the end. */
  #hex(bytes: Uint8Array, at: number, to: number): boolean {
    let lo = 0;
    let hi = 0;
    let next = at;
    for (; next < to; next++) {
      const digit = HEX_VALUE[bytes[next]];
      if (digit < 0) break;
      hi = (hi << 4) | (lo >>> 28);
      lo = (lo << 4) | digit;
    }
    this.#lo = lo;
    this.#hi = hi;
    const ends = next === to || bytes[next] === BLANK;
    const good = ends && next > at && next - at <= HEX_DIGITS_MAX;
    if (good) this.#next = next;
    return good;
  }
}
