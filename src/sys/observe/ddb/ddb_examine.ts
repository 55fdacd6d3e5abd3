/*
 * ddb_examine: memory as it lies there.
 *
 *      x/lx ADDR,COUNT        words in hexadecimal, as many as fit on a line
 *      print/d ADDR           the number itself
 *      search/l ADDR VALUE [MASK] [,COUNT]     where a value is
 *      set $NAME = VALUE      variables
 *
 * Sizes: b 1, h 2, l 4, g 8 bytes.  Formats: x u d o z r numbers, c s characters, m a dump of
 * 16 bytes a line, a what lies at that address, w a word as the pointer that it is here, and
 * f a number as 64-bit fields hold it.  BSD's i shows instructions: there are none here.
 */
import { mem, memory_state } from '../../machine/memory.ts';
import { whatis } from '../../kmem/kern_whatis.ts';
import { db_get_double, db_get_value, db_there } from './ddb_access.ts';
import {
  CS_OWN,
  CS_SET_DOT,
  DB_COMMAND,
  type DdbArgs,
  db_argument,
  db_no_more,
} from './ddb_command.ts';
import { db_address, db_variable_name } from './ddb_expr.ts';
import {
  type Ddb,
  DdbError,
  db_check,
  db_end_line,
  db_hex,
  db_printf,
  db_puts,
  db_var,
} from './ddb_session.ts';

const SIZES: Record<string, { bytes: number; width: number }> = {
  b: { bytes: 1, width: 4 },
  h: { bytes: 2, width: 8 },
  l: { bytes: 4, width: 12 },
  g: { bytes: 8, width: 20 },
};
const FORMATS = 'xudozrcsmawf';
const DUMP_LINE = 16;
/** Longest string that is shown. */
const STRING_MAX = 256;

/** How one number is printed, without its width. */
function number_text(format: string, v: bigint, radix: number): string {
  const based = (n: bigint, base: number): string =>
    n < 0n ? `-${(-n).toString(base)}` : n.toString(base);
  switch (format) {
    case 'u':
    case 'd':
      return v.toString();
    case 'o':
      return v.toString(8);
    case 'z':
      return based(v, 16);
    case 'r':
      return based(v, Math.min(Math.max(radix, 2), 16));
    default:
      return v.toString(16);
  }
}
const SIGNED = 'dzr';
function character(v: number): string {
  return v >= 32 && v < 127 ? String.fromCharCode(v) : `\\${v.toString(8).padStart(3, '0')}`;
}

/** Prints the address, at the beginning of a line. */
function line_start(db: Ddb, at: number): void {
  if (db.column > 0) return;
  db_puts(db, `${db_hex(at)}:\t`);
  db.state.prev = at;
}
/** Shows what is at `at` in one format; returns the address behind it. */
function show_one(db: Ddb, format: string, at: number, size: string): number {
  db_get_value(at, 1, false); // there is memory, before the line begins
  const { bytes, width } = SIZES[size];
  if (format === 's') return show_string(db, at);
  if (format === 'm') return show_dump(db, at);
  if (format === 'a') {
    line_start(db, at);
    db_puts(db, `${whatis(Math.floor(at / 4))}\n`);
    return at + bytes;
  }
  const wide = format === 'f' ? SIZES.g : { bytes, width };
  db_end_line(db, wide.width);
  line_start(db, at);
  if (format === 'f') db_printf(db, '%-*s', wide.width, String(db_get_double(at)));
  else if (format === 'c') db_puts(db, character(Number(db_get_value(at, 1, false))));
  else if (format === 'w') {
    const p = Number(db_get_value(at, 4, true));
    db_printf(db, '%-*s', width, db_hex(p * 4));
  } else {
    const v = db_get_value(at, bytes, SIGNED.includes(format));
    db_printf(db, '%-*s', width, number_text(format, v, db_var(db, 'radix')));
  }
  return at + (format === 'c' ? 1 : wide.bytes);
}
function show_string(db: Ddb, from: number): number {
  line_start(db, from);
  let at = from;
  for (; at < from + STRING_MAX; at++) {
    const c = Number(db_get_value(at, 1, false));
    if (c === 0) break;
    db_puts(db, character(c));
  }
  db_puts(db, '\n');
  return at + 1;
}
function show_dump(db: Ddb, at: number): number {
  const n = Math.max(1, Math.min(DUMP_LINE, memory_state.size - at));
  if (!db_there(at, n)) db_get_value(at, 1, false);
  line_start(db, at);
  const bytes = Array.from(mem.U8.subarray(at, at + n));
  const hex = bytes.map((b, i) => ` ${i === 8 ? ' ' : ''}${b.toString(16).padStart(2, '0')}`);
  const text = bytes.map((b) => (b >= 32 && b < 127 ? String.fromCharCode(b) : '.'));
  db_puts(db, `${hex.join('').padEnd(3 * DUMP_LINE + 1)}  |${text.join('')}|\n`);
  return at + n;
}
/** A format: sizes and formats, checked; what is not said comes from what was given last. */
function format_of(db: Ddb, modif: string): { formats: string; size: string } {
  const text = modif === '' ? db.state.format : modif;
  let size = 'l';
  let formats = '';
  for (const c of text) {
    if (Object.hasOwn(SIZES, c)) size = c;
    else if (FORMATS.includes(c)) formats += c;
    else throw new DdbError(`Bad format '${c}': sizes are b h l g, formats ${FORMATS}`);
  }
  db.state.format = text;
  return { formats: formats || 'x', size };
}
function db_examine({ db, addr, count, modif }: DdbArgs): void {
  const { formats, size } = format_of(db, modif);
  let at = addr;
  db.state.next = addr;
  for (let n = count < 0 ? 1 : count; n > 0; n--) {
    for (const f of formats) at = show_one(db, f, at, size);
    db.state.next = at;
  }
}
for (const name of ['x', 'examine']) {
  const flags = CS_SET_DOT;
  DB_COMMAND(name, 'Shows memory: /[bhlg][xudozrcsmawf] ADDRESS,COUNT', db_examine, { flags });
}
/** Prints numbers of 64 bits: they need not be addresses. */
function db_print(a: DdbArgs): void {
  const { db, lex } = a;
  const f = lex.accept('/') ? lex.letters() : 'x';
  if (f.length !== 1 || !'xudozrca'.includes(f)) {
    throw new DdbError(`Bad format '${f}': one of x u d o z r c a`);
  }
  const v = db_argument(a) ?? BigInt(db.state.dot);
  db_no_more(lex);
  if (f === 'c') return db_puts(db, `${character(Number(v & 0xffn))}\n`);
  if (f === 'a') {
    const at = db_address(v);
    return db_puts(db, `${db_hex(at)}: ${whatis(Math.floor(at / 4))}\n`);
  }
  const shown = SIGNED.includes(f) ? BigInt.asIntN(64, v) : BigInt.asUintN(64, v);
  db_puts(db, `${number_text(f, shown, db_var(db, 'radix'))}\n`);
}
DB_COMMAND('print', 'Prints a number: /[xudozrca] EXPRESSION', db_print, { flags: CS_OWN });

// --- search --------------------------------------------------------------------------------

/** Places between two looks at the clock. */
const SEARCH_CHECK = 65536;

/** Looks from dot on; the place is dot then. */
function search_on(db: Ddb, from: number, limit: number): void {
  const { search } = db.state;
  if (!search) throw new DdbError('Nothing to search for yet: search ADDRESS VALUE');
  const { size } = search;
  const mask = BigInt(search.mask);
  const value = BigInt(search.value) & mask;
  let at = from;
  for (let n = 0; n < limit && at + size <= memory_state.size; n++, at += size) {
    if (n % SEARCH_CHECK === SEARCH_CHECK - 1) {
      db.state.next = at;
      db_check(db);
    }
    if ((read(at, size) & mask) !== value) continue;
    db_puts(db, `${db_hex(at)}:\t${whatis(Math.floor(at / 4))}\n`);
    db.state.prev = at;
    db.state.next = at + size;
    return;
  }
  db.state.prev = from;
  db.state.next = at;
  db_puts(db, `Not found up to ${db_hex(at)}\n`);
}
function read(at: number, size: number): bigint {
  if (size === 4 && at % 4 === 0) return BigInt(mem.U32[at / 4]);
  return db_get_value(at, size, false);
}
function db_search(a: DdbArgs): void {
  const { db, lex } = a;
  if (lex.line === '') return search_on(db, a.addr, Number.POSITIVE_INFINITY); // a blank line
  const size = lex.accept('/') ? (SIZES[lex.letters()]?.bytes ?? 0) : 4;
  if (size === 0) throw new DdbError('Bad size: one of b h l g');
  const from = db_argument(a);
  if (from === null) throw new DdbError('Address missing');
  const value = db_argument(a);
  if (value === null) throw new DdbError('Value missing');
  const mask = db_argument(a) ?? -1n;
  const count = lex.accept(',') ? db_argument(a) : null;
  db_no_more(lex);
  const of = (v: bigint): string => BigInt.asUintN(size * 8, v).toString();
  db.state.search = { size, value: of(value), mask: of(mask) };
  const at = db_address(from);
  db_get_value(at, size, false);
  db.state.last = at;
  search_on(db, at, count === null ? Number.POSITIVE_INFINITY : Number(count));
}
DB_COMMAND('search', 'Where a value is: /[bhlg] ADDRESS VALUE [MASK] [,COUNT]', db_search, {
  flags: CS_OWN | CS_SET_DOT,
});

// --- variables -------------------------------------------------------------------------------

/** What a variable may be, where that is bounded. */
const LIMITS: Record<string, [number, number]> = {
  radix: [2, 16],
  maxwidth: [16, 1024],
  lines: [0, 10000],
  tabstops: [1, 16],
};
function db_set(a: DdbArgs): void {
  const { db, lex } = a;
  if (!lex.accept('$')) throw new DdbError('A variable begins with $: set $radix = 0t10');
  const name = db_variable_name(lex);
  lex.accept('=');
  const value = db_argument(a);
  if (value === null) throw new DdbError(`No value for $${name}`);
  db_no_more(lex);
  const n = Number(value);
  const [min, max] = LIMITS[name] ?? [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER];
  if (n < min || n > max) throw new DdbError(`$${name}: 0t${min} to 0t${max}, not 0t${n}`);
  db.state.vars[name] = n;
}
DB_COMMAND('set', 'Sets a variable: $NAME = VALUE', db_set, { flags: CS_OWN });
DB_COMMAND('vars', 'The variables and their values', ({ db }) => {
  for (const [name, value] of Object.entries(db.state.vars)) {
    db_printf(db, '%-12s 0t%d (%s)\n', `$${name}`, value, db_hex(value));
  }
});
