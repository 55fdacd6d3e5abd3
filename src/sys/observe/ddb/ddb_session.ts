/*
 * ddb_session: what one user of the debugger has, and where its text goes.
 *
 *      command ── db_printf ──> column, line count ──> io.print
 *                                     └─ $lines are full ──> io.more: page, line, quit
 *
 * The debugger looks at the memory to which the views of this thread are bound: that of the
 * machine that it is a CPU of, or a dump's (kvm.ts).  It takes no lock and waits for nobody, so
 * a thread that panics can run it.  What it knows from one command to the next, dot and the
 * radix and their like, is a session: plain data that goes over a wire and back.
 *
 * Every command ends.  It may print so many characters, and take so long, as its session
 * says; then it is cut, with a line that says so.  Whatever goes wrong in it, because the
 * memory is wrong there, is one line, too (DdbError), and never leaves the debugger.
 */
import { kprintf, type PrintfArg } from '../../machine/subr_prf.ts';

/** A command cannot go on; the text is all that the user sees of it. */
export class DdbError extends Error {
  override readonly name = 'DdbError';
}
/** The user has seen enough, or the command has had its share: nothing more is printed. */
export class DdbQuit extends Error {
  override readonly name = 'DdbQuit';
}

/** What is kept from one command to the next. */
export interface DdbState {
  /** Byte addresses: dot, the last one shown, the one behind it, the last one given. */
  dot: number;
  prev: number;
  next: number;
  last: number;
  /** Variables, `$radix` and its like. */
  vars: Record<string, number>;
  /** What a blank line repeats; '': nothing. */
  repeat: string;
  /** The format that `x` was given last. */
  format: string;
  /** What `search` looks for when it is repeated. */
  search: DdbSearch | null;
}
export interface DdbSearch {
  readonly size: number;
  readonly value: string;
  readonly mask: string;
}

/** Where the text goes, and who is asked when a screen is full. */
export interface DdbIo {
  print(text: string): void;
  /** Asked when `$lines` lines were printed; absent: nobody is. */
  more?(): 'page' | 'line' | 'quit';
}
/** One user of the debugger. */
export interface Ddb {
  readonly io: DdbIo;
  state: DdbState;
  /** Characters that the command may still print. */
  room: number;
  /** When it is cut, by performance.now(). */
  until: number;
  column: number;
  /** Lines until the pager asks. */
  left: number;
  /** Scripts inside one another. */
  depth: number;
  /** A command wants to leave the debugger. */
  leave: boolean;
  /** The last command ended with an error. */
  failed: boolean;
  /** The time of the memory: now, or when it was dumped; ms since the epoch. */
  now: () => number;
}

/** Columns of a line, unless $maxwidth says otherwise. */
const WIDTH = 80;
/** Lines of a screen, unless $lines says otherwise. */
const LINES = 24;
export const DDB_WORK = 32;
/** Variables with their first values. */
export const DDB_VARS: Readonly<Record<string, number>> = {
  radix: 16,
  maxoff: 0,
  maxwidth: WIDTH,
  lines: LINES,
  tabstops: 8,
};

export function ddb_state(): DdbState {
  const vars = { ...DDB_VARS };
  return { dot: 0, prev: 0, next: 0, last: 0, vars, repeat: '', format: 'x', search: null };
}
/** A session that nothing bounds but its user. */
export function ddb_session(io: DdbIo, state: DdbState = ddb_state()): Ddb {
  const none = Number.POSITIVE_INFINITY;
  const fresh = {
    room: none,
    until: none,
    column: 0,
    left: 0,
    depth: 0,
    leave: false,
    failed: false,
  };
  return { io, state, ...fresh, now: () => Date.now() };
}
/** The value of a variable; a work register that was never set is 0. */
export function db_var(db: Ddb, name: string): number {
  return db.state.vars[name] ?? DDB_VARS[name] ?? 0;
}

// --- the text --------------------------------------------------------------------------------

/** Throws DdbQuit when the command has had its time. For walks that print nothing. */
export function db_check(db: Ddb): void {
  if (performance.now() < db.until) return;
  cut(db, 'the command has had its time');
}
function cut(db: Ddb, why: string): never {
  const { column } = db;
  db.room = Number.POSITIVE_INFINITY;
  db.until = Number.POSITIVE_INFINITY;
  put(db, `${column > 0 ? '\n' : ''}--- ${why}: the rest is left out\n`);
  throw new DdbQuit(why);
}
function put(db: Ddb, text: string): void {
  db.io.print(text);
  const end = text.lastIndexOf('\n');
  const tabs = db_var(db, 'tabstops') || 1;
  let column = end < 0 ? db.column : 0;
  for (let i = end + 1; i < text.length; i++) {
    column = text[i] === '\t' ? (Math.floor(column / tabs) + 1) * tabs : column + 1;
  }
  db.column = column;
}
/** Prints text. */
export function db_puts(db: Ddb, text: string): void {
  db_check(db);
  if (text.length > db.room) {
    put(db, text.slice(0, db.room));
    cut(db, 'the command has printed all that it may');
  }
  db.room -= text.length;
  if (!db.io.more) return put(db, text);
  for (let at = 0; at < text.length; ) {
    const end = text.indexOf('\n', at);
    const next = end < 0 ? text.length : end + 1;
    put(db, text.slice(at, next));
    at = next;
    if (end >= 0 && --db.left <= 0) page_full(db);
  }
}
function page_full(db: Ddb): void {
  const answer = db.io.more?.() ?? 'page';
  if (answer === 'quit') throw new DdbQuit('the user has seen enough');
  db.left = answer === 'line' ? 1 : db_page(db);
}
/** Lines of a page: one is for the question. */
export function db_page(db: Ddb): number {
  const lines = db_var(db, 'lines');
  return lines > 1 ? lines - 1 : Number.POSITIVE_INFINITY;
}
/** Prints as kernels do. */
export function db_printf(db: Ddb, format: string, ...args: readonly PrintfArg[]): void {
  db_puts(db, kprintf(format, ...args));
}
/** Ends the line if less than `room` columns are left on it. */
export function db_end_line(db: Ddb, room: number): void {
  if (db.column + room > db_var(db, 'maxwidth')) db_puts(db, '\n');
}
/** A byte address, as the debugger shows them. */
export function db_hex(at: number): string {
  return `0x${at.toString(16)}`;
}
