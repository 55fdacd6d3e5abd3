/*
 * page_lines: what recordings of references to pages have in common, whatever their lines are.
 *
 * A line of the recording is cut out here, without what ends it; what it says is the
 * format's (lackey.ts, kmem_pages.ts).  The recorders end every line, so that of a last line
 * without its newline nothing is believed.
 *
 * Always true: a line has references only if all of it made sense.
 */
import type { LineStats } from './line_stats.ts';
import { type LineCutter, type LineParser, MAX_LINE_BYTES, newline_at } from './lines.ts';
import type { PageFigures, PageRefs } from './page_refs.ts';

export const BLANK = 32;
const RETURN = 13;
const ZERO = 48;

/** What a recording of references says. */
export interface PagesReading extends PageFigures {
  format: string;
  lines: number;
  event_lines: number;
  lines_by_op: Record<string, number>;
  page_bytes: number;
  /** kmem-pages: its first line, lines with references and those that write, and the smallest
   *  memory for which counts of misses are those of the whole run. */
  header?: string;
  records?: number;
  write_records?: number;
  exact_from?: number;
  /** lackey: lines of Valgrind's own, and references that cross from a page to the next. */
  other_lines?: number;
  references_crossing_a_page?: number;
  malformed_lines: number;
  malformed: string[];
}

export abstract class PageLines implements LineParser {
  abstract readonly format: string;
  protected readonly lines: LineStats;
  protected readonly refs: PageRefs;
  /** Lines by operation, indexed by its character. */
  protected readonly ops = new Float64Array(128);
  /** Where what hex_at() or decimal_at() read ends. */
  protected next = 0;
  readonly #cutter: LineCutter;

  constructor(cutter: LineCutter, lines: LineStats, refs: PageRefs) {
    this.#cutter = cutter;
    this.lines = lines;
    this.refs = refs;
  }

  /** One line, from its first byte up to `to`. */
  protected abstract line(bytes: Uint8Array, from: number, to: number): void;
  /** Whether it is a line about the recording, with no references. */
  protected abstract is_note(bytes: Uint8Array, from: number, to: number): boolean;

  parse(from: number, to: number): number {
    const { bytes, view } = this.#cutter;
    const { lines } = this;
    for (let at = from; ; ) {
      const nl = newline_at(view, at);
      if (nl >= to) return at;
      lines.line++;
      if (nl - at > MAX_LINE_BYTES) this.#too_long();
      else this.line(bytes, at, bytes[nl - 1] === RETURN && nl > at ? nl - 1 : nl);
      at = nl + 1;
    }
  }
  parse_cut(from: number, to: number): boolean {
    this.lines.line++;
    const note = this.is_note(this.#cutter.bytes, from, to);
    if (note) this.lines.notes++;
    return note;
  }
  long_line(): void {
    this.lines.line++;
    this.#too_long();
  }
  finish(): string {
    this.refs.finish();
    return '';
  }
  #too_long(): void {
    this.bad(`longer than ${MAX_LINE_BYTES} bytes; no trace line is`);
  }

  protected bad(reason: string): void {
    this.lines.malformed_line(reason);
  }
  protected common(ops: string, page_bytes: number) {
    const { lines, event_lines, malformed_lines, malformed } = this.lines;
    return {
      format: this.format,
      lines,
      event_lines,
      lines_by_op: Object.fromEntries([...ops].map((op) => [op, this.ops[op.charCodeAt(0)]])),
      page_bytes,
      ...this.refs.figures(),
      malformed_lines,
      malformed,
    };
  }
  /** The decimal number at a place; -1: there is none, or it is more than 2^31. */
  protected decimal_at(bytes: Uint8Array, at: number, to: number): number {
    let value = 0;
    let next = at;
    for (; next < to && value < 2 ** 31; next++) {
      const digit = bytes[next] - ZERO;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
    }
    this.next = next;
    return next > at && value < 2 ** 31 ? value : -1;
  }
}
