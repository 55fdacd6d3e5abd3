/*
 * kmem_pages: reads `kmem-pages v1`, the references of a program to its pages.
 *
 *   # kmem-pages v1 page_bytes=4096 exact_from=8
 *   r 401a          page 0x401a is read
 *   w 1fff000       written, or read and written
 *
 * Pages are numbers in hexadecimal.  A recording of this kind is reduced: references that do
 * not change what an LRU memory of `exact_from` pages or more misses were left out when it was
 * made, and a write among them moved to the next reference to its page.  Lines that begin
 * with # are comments.
 */
import { HEX_VALUE } from './mtrace.ts';
import { BLANK, PageLines, type PagesReading } from './page_lines.ts';
import { PAGE_MAX } from './page_refs.ts';

const HASH = 35;
const LETTER_R = 114;
const LETTER_W = 119;
const PAGE_BYTES = 4096;

export class PagesParser extends PageLines {
  readonly format = 'kmem-pages v1';
  #header = '';

  document(): PagesReading {
    const header = this.#header;
    const number = (name: string, otherwise: number): number =>
      Number(new RegExp(`\\b${name}=(\\d+)`).exec(header)?.[1] ?? otherwise);
    return {
      ...this.common('rw', number('page_bytes', PAGE_BYTES)),
      header,
      exact_from: number('exact_from', 1),
      records: this.lines.event_lines,
      write_records: this.ops[LETTER_W],
    };
  }

  protected line(bytes: Uint8Array, from: number, to: number): void {
    const op = bytes[from];
    if ((op !== LETTER_R && op !== LETTER_W) || bytes[from + 1] !== BLANK) {
      return this.#other(bytes, from, to);
    }
    let page = 0;
    let at = from + 2;
    for (; at < to; at++) {
      const digit = HEX_VALUE[bytes[at]];
      if (digit < 0 || page >= PAGE_MAX) break;
      page = page * 16 + digit;
    }
    if (at < to || at === from + 2 || page >= PAGE_MAX) {
      return this.bad('the page is not a hexadecimal number below 2^52');
    }
    if (!this.refs.use(page, op === LETTER_W)) return this.bad('one page too many');
    this.ops[op]++;
    this.lines.event_lines++;
  }
  protected is_note(bytes: Uint8Array, from: number): boolean {
    return bytes[from] === HASH;
  }
  #other(bytes: Uint8Array, from: number, to: number): void {
    if (from === to) return this.bad('an empty line');
    if (!this.is_note(bytes, from)) return this.bad('not `r PAGE` or `w PAGE`');
    this.lines.notes++;
    if (this.#header === '') this.#header = new TextDecoder().decode(bytes.subarray(from, to));
  }
}
