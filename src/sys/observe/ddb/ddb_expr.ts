/*
 * ddb_expr: address expressions.
 *
 *      sum      product { + - product }
 *      product  unary { * / % # unary }       a # b: a rounded up to a multiple of b
 *      unary    - ~ unary    * unary: the word at that address    term
 *      term     number   . dot   + next   .. the start of the last line examined
 *               ' the last address that was given   $variable   ( expression )
 *               a name: a zone, a type, a record of the kernel
 *      shifts bind less than sums, comparisons less, and & ^ | && || least, as in C
 *
 * Addresses are bytes.  Numbers have 64 bits and wrap; what is used as an address must be
 * one.
 */
import { db_get_value } from './ddb_access.ts';
import type { Lexer, Token } from './ddb_lex.ts';
import { type Ddb, DdbError, db_var, DDB_VARS, DDB_WORK } from './ddb_session.ts';

/** Bytes of a word: what `*` reads. */
const WORD = 4;
const wrap = (v: bigint): bigint => BigInt.asIntN(64, v);

/** Finds what a name stands for: a byte address; undefined if nothing has it. */
export type DbSymbols = (name: string) => number | undefined;

/** Operators, those that bind least first. */
const LEVELS: readonly (readonly string[])[] = [
  ['||'],
  ['&&'],
  ['|'],
  ['^'],
  ['&'],
  ['==', '!='],
  ['<', '>', '<=', '>='],
  ['<<', '>>'],
  ['+', '-'],
  ['*', '/', '%', '#'],
];
function divisor(op: string, b: bigint): bigint {
  if (b === 0n) throw new DdbError(op === '%' ? 'Divide by 0' : `Divide by 0 in '${op}'`);
  return b;
}
function apply(op: string, a: bigint, b: bigint): bigint {
  const yes = (v: boolean): bigint => (v ? 1n : 0n);
  switch (op) {
    case '||':
      return yes(a !== 0n || b !== 0n);
    case '&&':
      return yes(a !== 0n && b !== 0n);
    case '|':
      return a | b;
    case '^':
      return a ^ b;
    case '&':
      return a & b;
    case '==':
      return yes(a === b);
    case '!=':
      return yes(a !== b);
    case '<':
      return yes(a < b);
    case '>':
      return yes(a > b);
    case '<=':
      return yes(a <= b);
    case '>=':
      return yes(a >= b);
    case '<<':
    case '>>':
      if (b < 0n || b > 63n) throw new DdbError(`Negative shift amount, or above 63: ${b}`);
      return op === '<<' ? a << b : a >> b;
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '/':
      return a / divisor(op, b);
    case '%':
      return a % divisor(op, b);
    default:
      return ((a + divisor(op, b) - 1n) / b) * b;
  }
}

/** Deepest nesting of parentheses and signs: the stack of a thread that panics may be short. */
const DEPTH_MAX = 64;

class Parser {
  readonly #db: Ddb;
  readonly #lex: Lexer;
  readonly #symbols: DbSymbols;
  #depth = 0;

  constructor(db: Ddb, lex: Lexer, symbols: DbSymbols) {
    this.#db = db;
    this.#lex = lex;
    this.#symbols = symbols;
  }
  /** null: no expression begins here. */
  level(n: number): bigint | null {
    if (n === LEVELS.length) return this.#unary();
    let a = this.level(n + 1);
    while (a !== null) {
      const t = this.#lex.peek();
      if (t.kind !== 'punct' || !LEVELS[n].includes(t.text)) return a;
      this.#lex.take();
      const b = this.level(n + 1);
      if (b === null) throw new DdbError(`Expression syntax error after '${t.text}'`);
      a = wrap(apply(t.text, a, b));
    }
    return a;
  }
  #unary(): bigint | null {
    if (++this.#depth > DEPTH_MAX) throw new DdbError('Expression too deep');
    const v = this.#signed();
    this.#depth--;
    return v;
  }
  #signed(): bigint | null {
    const t = this.#lex.peek();
    if (t.kind !== 'punct' || !'-~!*'.includes(t.text)) return this.#term(t);
    this.#lex.take();
    const v = this.#unary();
    if (v === null) throw new DdbError(`Expression syntax error after '${t.text}'`);
    if (t.text === '-') return wrap(-v);
    if (t.text === '~') return ~v;
    if (t.text === '!') return v === 0n ? 1n : 0n;
    return db_get_value(db_address(v), WORD, false);
  }
  #term(t: Token): bigint | null {
    const { state } = this.#db;
    if (t.kind === 'number') {
      this.#lex.take();
      return t.value;
    }
    if (t.kind === 'ident' || t.kind === 'name') return this.#symbol(this.#lex.take());
    if (t.kind !== 'punct') return null;
    const marks: Record<string, number> = {
      '.': state.dot,
      '+': state.next,
      '..': state.prev,
      "'": state.last,
    };
    if (Object.hasOwn(marks, t.text)) {
      this.#lex.take();
      return BigInt(marks[t.text]);
    }
    if (t.text === '$') return this.#variable();
    if (t.text !== '(') return null;
    this.#lex.take();
    const v = this.level(0);
    if (v === null || !this.#lex.accept(')')) throw new DdbError('Unmatched ()s');
    return v;
  }
  #symbol({ text }: Token): bigint {
    const v = this.#symbols(text);
    if (v === undefined) throw new DdbError(`Symbol not found: ${text}`);
    return BigInt(v);
  }
  #variable(): bigint {
    this.#lex.take();
    return BigInt(db_var(this.#db, db_variable_name(this.#lex)));
  }
}
/** The name behind a `$`. Throws DdbError unless there is such a variable. */
export function db_variable_name(lex: Lexer): string {
  const { text } = lex.take();
  const work = /^work(\d+)$/.exec(text);
  if (Object.hasOwn(DDB_VARS, text) || (work && Number(work[1]) < DDB_WORK)) return text;
  throw new DdbError(`Unknown variable: $${text}`);
}
/** A number that is used as an address. */
export function db_address(v: bigint): number {
  const at = Number(BigInt.asUintN(64, v));
  if (!Number.isSafeInteger(at)) throw new DdbError(`No memory at 0x${at.toString(16)}`);
  return at;
}
/** Reads an expression; null if none begins here. Throws DdbError. */
export function db_expression(db: Ddb, lex: Lexer, symbols: DbSymbols): bigint | null {
  return new Parser(db, lex, symbols).level(0);
}
