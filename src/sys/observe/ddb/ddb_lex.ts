/*
 * ddb_lex: a command line, token by token.
 *
 *      x/lx  0x1f00 , 4            ident  /  ident  number  ,  number
 *      show zone "64"              ident  ident  name
 *
 * Numbers begin with a digit and are read in the radix that $radix says: 0x, 0o and 0t before
 * them say hexadecimal, octal and decimal.  Names of zones and types that are no identifiers
 * stand in double quotes.  BSD has no such names; there a double quote is the previous address,
 * which here is written ' as its manual has it.
 */
import { DdbError } from './ddb_session.ts';

export type TokenKind = 'end' | 'number' | 'ident' | 'name' | 'punct';
export interface Token {
  readonly kind: TokenKind;
  readonly text: string;
  /** Of a number. */
  readonly value: bigint;
  /** Where it begins and ends in the line. */
  readonly at: number;
  readonly end: number;
}

const PUNCT = ['..', '<<', '>>', '==', '!=', '<=', '>=', '&&', '||'];
const ONE = "+-*/%#()&|~!<>=,.'$;^";
const RADIX: Record<string, number> = { x: 16, o: 8, t: 10 };

/** A line that is read from left to right. */
export class Lexer {
  readonly line: string;
  readonly #radix: () => number;
  #at = 0;

  constructor(line: string, radix: () => number) {
    this.line = line;
    this.#radix = radix;
  }
  /** The next token, which stays. */
  peek(): Token {
    const at = this.#at;
    const t = this.take();
    this.#at = at;
    return t;
  }
  /** Whether the next token is that sign; then it is taken. */
  accept(text: string): boolean {
    const t = this.peek();
    if (t.kind !== 'punct' || t.text !== text) return false;
    this.#at = t.end;
    return true;
  }
  /** What follows the white space, to the end of the line; it is taken. */
  rest(): string {
    const text = this.line.slice(this.#at).trim();
    this.#at = this.line.length;
    return text;
  }
  /** The characters that follow at once, as far as they are letters and digits: modifiers. */
  letters(): string {
    const text = /^\w*/.exec(this.line.slice(this.#at))?.[0] ?? '';
    this.#at += text.length;
    return text;
  }
  take(): Token {
    while (/\s/.test(this.line[this.#at] ?? '')) this.#at++;
    const at = this.#at;
    const rest = this.line.slice(at);
    const c = rest[0];
    const token = (kind: TokenKind, text: string, length: number, value = 0n): Token => {
      this.#at = at + length;
      return { kind, text, value, at, end: this.#at };
    };
    if (c === undefined) return token('end', '', 0);
    const ident = /^[A-Za-z_][\w]*/.exec(rest)?.[0];
    if (ident !== undefined) return token('ident', ident, ident.length);
    if (c === '"') return this.#name(rest, token);
    if (/\d/.test(c)) return this.#number(rest, token);
    const two = PUNCT.find((p) => rest.startsWith(p));
    if (two !== undefined) return token('punct', two, 2);
    if (ONE.includes(c)) return token('punct', c, 1);
    throw new DdbError(`Bad character: ${JSON.stringify(c)}`);
  }
  #name(rest: string, token: (kind: TokenKind, text: string, length: number) => Token): Token {
    const end = rest.indexOf('"', 1);
    if (end < 0) throw new DdbError('A name without its closing quote');
    return token('name', rest.slice(1, end), end + 1);
  }
  #number(
    rest: string,
    token: (kind: TokenKind, text: string, length: number, value: bigint) => Token,
  ): Token {
    const text = /^\w+/.exec(rest)?.[0] as string;
    const said = /^0([xot])(.*)$/i.exec(text);
    const radix = said ? RADIX[said[1].toLowerCase()] : this.#radix();
    const digits = said ? said[2] : text;
    let value = 0n;
    for (const c of digits.toLowerCase()) {
      const d = '0123456789abcdef'.indexOf(c);
      if (d < 0 || d >= radix) throw new DdbError(`Bad number: ${text}, in radix 0t${radix}`);
      value = value * BigInt(radix) + BigInt(d);
    }
    if (digits === '') throw new DdbError(`Bad number: ${text}`);
    if (value >= 1n << 64n) throw new DdbError(`Bad number: ${text}: it has more than 64 bits`);
    return token('number', text, text.length, value);
  }
}
