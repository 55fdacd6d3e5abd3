/*
 * mtrace: reads what glibc's mtrace() writes.
 *
 *   = Start
 *   @ CALLER + ADDRESS SIZE      obtained          (nil) for ADDRESS: refused
 *   @ CALLER - ADDRESS           released
 *   @ CALLER < ADDRESS           realloc, old address …
 *   @ CALLER > ADDRESS SIZE      … new address, on the next line
 *   @ CALLER ! ADDRESS SIZE      realloc refused; the block lives on
 *   = End                        only when the program stops the tracing
 *
 * Lines are read from the right-hand end.  CALLER begins with what the program
 * calls itself, and that may hold blanks, colons and even something that looks
 * like an operation; the fields to the right of it are hexadecimal and hold no
 * blank.  glibc leaves `@ CALLER` out when it knows no caller; old ones wrote
 * CALLER without `@`, and then it ends in `]`.
 *
 * Everything is done on bytes: no string is made for a line, only one for each
 * new call site (sites.ts).
 *
 * Always true: a line changes the live blocks only if all of it made sense.
 */

import type { HeapStream } from './heap_stream.ts';
import { type LineCutter, type LineParser, MAX_LINE_BYTES, newline_at } from './lines.ts';
import type { TraceDocument } from './trace_stats.ts';

const BLANK = 32;
const AT = 64;
const EQUALS = 61;
const PLUS = 43;
const MINUS = 45;
const LESS = 60;
const GREATER = 62;
const BANG = 33;
const RETURN = 13;
const LETTER_X = 120;
const CLOSING = 41;
const BRACKET = 93;
const ZERO = 48;

/** Value of a hexadecimal digit, -1 for any other byte. */
export const HEX_VALUE = new Int8Array(256).fill(-1);
for (let d = 0; d < 16; d++) {
  const digit = d.toString(16);
  HEX_VALUE[digit.charCodeAt(0)] = d;
  HEX_VALUE[digit.toUpperCase().charCodeAt(0)] = d;
}

const NO_CALLER = '(no caller)';

/** What the field left of a place turned out to be. */
const FIELD_HEX = 0;
const FIELD_NIL = 1;
const FIELD_BAD = 2;

export class MtraceParser implements LineParser {
  readonly format = 'mtrace';
  readonly #cutter: LineCutter;
  readonly #heap: HeapStream;
  /* Lines by operation, indexed by the operation's character. */
  readonly #ops = new Float64Array(128);
  /* The field that #field() read, and the blank before it. */
  #lo = 0;
  #hi = 0;
  #blank = 0;
  /* The old address of a realloc whose second line is due. */
  #old_due = false;
  #old_lo = 0;
  #old_hi = 0;

  constructor(cutter: LineCutter, heap: HeapStream) {
    this.#cutter = cutter;
    this.#heap = heap;
  }

  parse(from: number, to: number): number {
    const { bytes, view } = this.#cutter;
    const stats = this.#heap.stats;
    for (let at = from; ; ) {
      const nl = newline_at(view, at);
      if (nl >= to) return at;
      stats.line++;
      if (nl - at > MAX_LINE_BYTES) this.#too_long();
      else this.#line(bytes, view, at, nl);
      at = nl + 1;
    }
  }

  /** A cut number is another number. Of banners, `= End` is whole without its newline. */
  parse_cut(from: number, to: number): boolean {
    const { stats } = this.#heap;
    stats.line++;
    const banner = this.#banner(this.#cutter.bytes, from, to);
    if (banner) stats.notes++;
    return banner;
  }

  long_line(): void {
    this.#heap.stats.line++;
    this.#too_long();
  }

  /** The last file is read: a realloc may be left half. */
  finish(): string {
    return this.#old_due ? "the recording ends between a realloc's '<' and '>' lines" : '';
  }

  document(): Omit<TraceDocument, 'uncompressed_bytes' | 'compressed_bytes' | 'sha256'> {
    const stats = this.#heap.stats;
    const lines_by_op: Record<string, number> = {};
    for (const op of '+-<>!') lines_by_op[op] = this.#ops[op.charCodeAt(0)];
    return {
      format: this.format,
      event_lines: stats.event_lines,
      start_line: stats.start_line,
      end_line: stats.end_line,
      unparsed_lines: stats.malformed_lines,
      lines_by_op,
      ...stats.common(this.#heap.live_ids),
      ...stats.sites(this.#heap.sites, this.#heap.live_ids),
    };
  }

  #too_long(): void {
    this.#heap.stats.malformed_line(`longer than ${MAX_LINE_BYTES} bytes; no trace line is`);
  }

  #line(bytes: Uint8Array, view: DataView, from: number, nl: number): void {
    const to = bytes[nl - 1] === RETURN && nl > from ? nl - 1 : nl;
    const last = this.#field(bytes, from, to);
    if (last === FIELD_BAD) return this.#other_slow(bytes, from, to);
    let blank = this.#blank;
    let op = bytes[blank - 1];
    if ((op === MINUS || op === LESS) && this.#op_stands_alone(bytes, from, blank)) {
      if (this.#is_null()) return this.#bad('a null address cannot be released');
      return this.#one_field(op);
    }
    if (last === FIELD_NIL) return this.#bad('(nil) where a size belongs');
    const size = (this.#hi >>> 0) * 0x100000000 + (this.#lo >>> 0);
    const address = this.#field(bytes, from, blank);
    blank = this.#blank;
    op = bytes[blank - 1];
    if (address === FIELD_BAD || !this.#op_stands_alone(bytes, from, blank)) {
      return this.#bad('not `@ CALLER OP ADDRESS SIZE`');
    }
    const caller_end = blank - 2;
    if (op === PLUS) {
      this.#event(op);
      this.#heap.stats.acquisitions++;
      if (this.#is_null()) this.#heap.stats.failed++;
      else
        this.#heap.obtain(
          this.#lo,
          this.#hi,
          size,
          this.#site(bytes, view, from, caller_end),
          0,
          0,
        );
    } else if (op === GREATER) {
      this.#second_half(size, bytes, view, from, caller_end);
    } else if (op === BANG) {
      this.#event(op);
      this.#heap.stats.failed++;
    } else {
      this.#bad('none of the operations + - < > !');
    }
  }

  #one_field(op: number): void {
    this.#event(op);
    if (op === LESS) {
      this.#old_due = true;
      this.#old_lo = this.#lo;
      this.#old_hi = this.#hi;
    } else if (!this.#heap.release(this.#lo, this.#hi, 0)) {
      this.#heap.stats.free_of_unknown++;
    }
  }

  #second_half(
    size: number,
    bytes: Uint8Array,
    view: DataView,
    from: number,
    caller_end: number,
  ): void {
    if (!this.#old_due) return this.#bad("'>' without a '<' on the line before");
    if (this.#is_null()) return this.#bad("'>' with a null address");
    this.#old_due = false;
    this.#event(GREATER);
    this.#heap.stats.acquisitions++;
    const site = this.#site(bytes, view, from, caller_end);
    this.#heap.move(this.#old_lo, this.#old_hi, this.#lo, this.#hi, size, site, 0);
  }

  /* Counts an event line.  A realloc's first line must be followed by its second. */
  #event(op: number): void {
    if (this.#old_due) {
      this.#old_due = false;
      this.#bad("the line before is a realloc's '<', so '>' was due");
    }
    this.#ops[op]++;
    this.#heap.stats.event_lines++;
  }

  #bad(reason: string): void {
    this.#heap.stats.malformed_line(reason);
  }

  /* `(nil)`, `0x0` or `0`. */
  #is_null(): boolean {
    return (this.#lo | this.#hi) === 0;
  }

  /* The operation is one character between blanks after `@ CALLER` or `…]`, or begins the line. */
  #op_stands_alone(bytes: Uint8Array, from: number, blank: number): boolean {
    if (blank - 1 === from) return true;
    if (blank - 2 <= from || bytes[blank - 2] !== BLANK) return false;
    return (bytes[from] === AT && bytes[from + 1] === BLANK) || bytes[blank - 3] === BRACKET;
  }

  /* The site of the caller, with or without `@ `, up to the blank before the operation. */
  #site(bytes: Uint8Array, view: DataView, from: number, end: number): number {
    const sites = this.#heap.sites;
    const start = bytes[from] === AT && bytes[from + 1] === BLANK ? from + 2 : from;
    if (end > start) return sites.intern(bytes, view, start, end);
    return sites.intern_name(NO_CALLER);
  }

  /*
   * Reads the field that ends before `to` backwards: 0x…, (nil) or 0.  Leaves its value in #lo
   * and #hi and the place of the blank before it in #blank.
   */
  #field(bytes: Uint8Array, from: number, to: number): number {
    let at = to - 1;
    let lo = 0;
    let hi = 0;
    let digit = HEX_VALUE[bytes[at]];
    for (let shift = 0; digit >= 0 && shift < 32; shift += 4) {
      lo |= digit << shift;
      digit = HEX_VALUE[bytes[--at]];
    }
    for (let shift = 0; digit >= 0 && shift < 32; shift += 4) {
      hi |= digit << shift;
      digit = HEX_VALUE[bytes[--at]];
    }
    if (bytes[at] === LETTER_X && bytes[at - 1] === ZERO && bytes[at - 2] === BLANK) {
      this.#lo = lo;
      this.#hi = hi;
      this.#blank = at - 2;
      const good = at < to - 1 && at - 3 >= from;
      return good ? FIELD_HEX : FIELD_BAD;
    }
    return this.#field_odd(bytes, from, to);
  }

  #field_odd(bytes: Uint8Array, from: number, to: number): number {
    this.#lo = 0;
    this.#hi = 0;
    if (bytes[to - 1] === ZERO && bytes[to - 2] === BLANK && to - 3 >= from) {
      this.#blank = to - 2;
      return FIELD_HEX;
    }
    const nil = '(nil)';
    if (bytes[to - 1] !== CLOSING || to - nil.length - 2 < from) return FIELD_BAD;
    for (let i = 0; i < nil.length; i++) {
      if (bytes[to - nil.length + i] !== nil.charCodeAt(i)) return FIELD_BAD;
    }
    this.#blank = to - nil.length - 1;
    return bytes[this.#blank] === BLANK ? FIELD_NIL : FIELD_BAD;
  }

  /* Whether it is `= Start` or `= End`, which are noted. */
  #banner(bytes: Uint8Array, from: number, to: number): boolean {
    const text = new TextDecoder().decode(bytes.subarray(from, Math.min(to, from + 16)));
    const { stats } = this.#heap;
    if (text === '= Start') stats.start_line = true;
    if (text === '= End') stats.end_line = true;
    return text === '= Start' || text === '= End';
  }
  /* A line whose last field is no number: a banner, or garbage. */
  #other_slow(bytes: Uint8Array, from: number, to: number): void {
    const stats = this.#heap.stats;
    if (bytes[from] === EQUALS) {
      if (this.#banner(bytes, from, to)) stats.notes++;
      else this.#bad('a banner other than `= Start` and `= End`');
      return;
    }
    if (from === to) return this.#bad('an empty line');
    this.#bad('does not end in an address or size (0x and 1 to 16 hexadecimal digits)');
  }
}
