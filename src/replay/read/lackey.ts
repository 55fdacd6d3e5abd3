/*
 * lackey: reads what Valgrind's lackey writes with --trace-mem=yes.
 *
 *   ==31308== Lackey, an example Valgrind tool      a line of Valgrind's own
 *   I  040099d1,3                                   an instruction is fetched
 *    L 1ffeffe7e,8                                  loaded
 *    S 1ffeffe70,8                                  stored
 *    M 04a3c040,4                                   loaded and stored
 *
 * Addresses are hexadecimal, with or without leading zeros, sizes decimal.  A line is a reference
 * to its page; one that crosses the end of a page is a reference to each page it touches, in
 * ascending order.  What stores is a write.
 */
import { HEX_VALUE } from './mtrace.ts';
import { BLANK, PageLines, type PagesReading } from './page_lines.ts';
import { PAGE_MAX } from './page_refs.ts';

const EQUALS = 61;
const MINUS = 45;
const COMMA = 44;
const LETTER_I = 73;
const LETTER_L = 76;
const LETTER_M = 77;
const LETTER_S = 83;
const PAGE_BYTES = 4096;
/** The widest access of a processor is far below this. */
const SIZE_MAX = 65536;

export class LackeyParser extends PageLines {
  readonly format = 'lackey';
  #crossing = 0;

  document(): PagesReading {
    return {
      ...this.common('ILSM', PAGE_BYTES),
      other_lines: this.lines.notes,
      references_crossing_a_page: this.#crossing,
    };
  }

  protected line(bytes: Uint8Array, from: number, to: number): void {
    const op = this.#operation(bytes, from);
    if (op === 0) return this.#other(bytes, from, to);
    // The page and the byte in it, apart: an address may have 64 bits.
    let page = 0;
    let byte = 0;
    let at = from + 3;
    for (; at < to; at++) {
      const digit = HEX_VALUE[bytes[at]];
      if (digit < 0) break;
      page = page * 16 + (byte >> 8);
      byte = ((byte << 4) | digit) & (PAGE_BYTES - 1);
    }
    if (at === from + 3 || page >= PAGE_MAX || bytes[at] !== COMMA) {
      return this.bad('the address is not a hexadecimal number of 64 bits');
    }
    const size = this.decimal_at(bytes, at + 1, to);
    if (size <= 0 || size > SIZE_MAX || this.next !== to) {
      return this.bad(`the size is not a number from 1 to ${SIZE_MAX}`);
    }
    const last = page + Math.floor((byte + size - 1) / PAGE_BYTES);
    if (last >= PAGE_MAX) return this.bad('it ends above the last address');
    const write = op === LETTER_S || op === LETTER_M;
    for (let n = page; n <= last; n++) {
      if (!this.refs.use(n, write)) return this.bad('one page too many');
    }
    if (last > page) this.#crossing++;
    this.ops[op]++;
    this.lines.event_lines++;
  }
  /** The operation, 0: none. */
  #operation(bytes: Uint8Array, from: number): number {
    const [first, second, third] = [bytes[from], bytes[from + 1], bytes[from + 2]];
    if (third !== BLANK) return 0;
    if (first === LETTER_I) return second === BLANK ? LETTER_I : 0;
    const data = second === LETTER_L || second === LETTER_S || second === LETTER_M;
    return first === BLANK && data ? second : 0;
  }
  /** `==31308== …` and `--31308-- …`. */
  protected is_note(bytes: Uint8Array, from: number): boolean {
    const mark = bytes[from];
    return (mark === EQUALS || mark === MINUS) && bytes[from + 1] === mark;
  }
  #other(bytes: Uint8Array, from: number, to: number): void {
    if (from === to) return this.bad('an empty line');
    if (this.is_note(bytes, from)) this.lines.notes++;
    else this.bad('not `I  ADDRESS,SIZE` or ` L`, ` S`, ` M ADDRESS,SIZE`');
  }
}
