/*
 * line_stats: how far the reading of a recording of text has come, and lines of no sense.
 *
 * Every format counts its lines here: those that are events, those that say nothing of
 * what was recorded, and those that do not follow the format.  These are left out and
 * told with their place; a strict reading ends at the first one.
 */

/** Places of malformed lines that are kept. */
const MALFORMED_KEPT = 20;

/** Thrown at the first malformed line of a strict reading. */
export class MalformedLine extends Error {}

export class LineStats {
  event_lines = 0;
  malformed_lines = 0;
  /** Lines that say nothing of what was recorded: a beginning, an end, a comment. */
  notes = 0;
  /** Name and line of the file being read, for places. */
  file = '';
  line = 0;
  #lines_before = 0;
  readonly malformed: string[] = [];
  readonly #strict: boolean;

  constructor(strict: boolean) {
    this.#strict = strict;
  }

  /** The next file begins. */
  begin(file: string): void {
    this.#lines_before += this.line;
    this.file = file;
    this.line = 0;
  }
  /** Lines of all files so far. */
  get lines(): number {
    return this.#lines_before + this.line;
  }

  /** Counts a line that makes no sense, keeps its place, and stops a strict reading. */
  malformed_line(reason: string, line = this.line): void {
    this.malformed_lines++;
    const place = `${this.file}:${line}: ${reason}`;
    if (this.malformed.length < MALFORMED_KEPT) this.malformed.push(place);
    if (this.#strict) throw new MalformedLine(place);
  }
}
