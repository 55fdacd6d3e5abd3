/*
 * lines: cuts a stream of byte chunks into lines, in bounded memory.
 *
 * All chunks are copied into one work buffer that lives as long as the reader:
 *
 *      ┌──────────────┬───────────────────────────┬────┬───────┐
 *      │ tail of the  │ chunk                     │ \n │ slack │
 *      │ last chunk   │                           │    │       │
 *      └──────────────┴───────────────────────────┴────┴───────┘
 *                                                   └ sentinel, so that the
 *                                                     search needs no bound
 *
 * The copy costs a fiftieth of the parsing and buys two things: a line that
 * straddles two chunks is whole without special care, and V8 sees the same
 * array all the time.
 *
 * The parser gets the whole range and calls newline_at() itself, so that its
 * loop stays in one function.  It answers with the first byte it did not use.
 *
 * The recorders end every line, so a last line without its newline is cut: its last number
 * may be another one.  It is no event (of heaptrack's a begun one is), and the file is told
 * to be cut.
 *
 * A line longer than MAX_LINE_BYTES is reported once and skipped up to its end,
 * however long it is; nothing grows.
 */

/** No trace tool writes lines like this; beyond it a line is garbage. */
export const MAX_LINE_BYTES = 65536;

const PIECE_BYTES = 1 << 20;
/** Words are read four bytes at a time and may reach past the end. */
const SLACK_BYTES = 16;

const NEWLINE = 10;
const NEWLINE_WORD = 0x0a0a0a0a;

/** What a format's parser offers to the line cutter. */
export interface LineParser {
  /** Uses up all complete lines in [from, to); returns where the incomplete one begins. */
  parse(from: number, to: number): number;
  /** The last line of a file, without its newline. True: nothing can be missing in it. */
  parse_cut(from: number, to: number): boolean;
  /** A line was too long; it counts as one malformed line. */
  long_line(): void;
}

export class LineCutter {
  readonly bytes = new Uint8Array(MAX_LINE_BYTES + PIECE_BYTES + SLACK_BYTES);
  readonly view = new DataView(this.bytes.buffer);
  #held = 0;
  #skipping = false;

  feed(chunk: Uint8Array, parser: LineParser): void {
    const bytes = this.bytes;
    const usable = bytes.length - SLACK_BYTES;
    let taken = 0;
    while (taken < chunk.length) {
      const n = Math.min(chunk.length - taken, usable - this.#held);
      bytes.set(
        taken === 0 && n === chunk.length ? chunk : chunk.subarray(taken, taken + n),
        this.#held,
      );
      taken += n;
      const to = this.#held + n;
      bytes[to] = NEWLINE;
      let from = 0;
      if (this.#skipping) {
        const nl = newline_at(this.view, 0);
        this.#skipping = nl >= to;
        from = Math.min(nl + 1, to);
      }
      const rest = parser.parse(from, to);
      this.#hold(rest, to, parser);
    }
  }

  /** The file is over. False: its last line is cut. */
  finish(parser: LineParser): boolean {
    this.bytes[this.#held] = NEWLINE;
    const whole = this.#held === 0 || parser.parse_cut(0, this.#held);
    this.#held = 0;
    this.#skipping = false;
    return whole;
  }

  #hold(rest: number, to: number, parser: LineParser): void {
    this.#held = to - rest;
    if (this.#held > MAX_LINE_BYTES) {
      parser.long_line();
      this.#skipping = true;
      this.#held = 0;
    } else if (this.#held > 0) {
      this.bytes.copyWithin(0, rest, to);
    }
  }
}

/** Where the next newline is, from `from` on.  There must be one. */
export function newline_at(view: DataView, from: number): number {
  for (let at = from; ; at += 4) {
    const word = view.getInt32(at, true) ^ NEWLINE_WORD;
    /* The lowest set bit marks the first zero byte; higher marks may be false ones. */
    const zero = (word - 0x01010101) & ~word & 0x80808080;
    if (zero !== 0) return at + ((31 - Math.clz32(zero & -zero)) >> 3);
  }
}
