/*
 * ddb_command: from a line to a command that runs.
 *
 *      show page/p 0x3000,4        table show: page   modifier p   address 0x3000   count 4
 *      x/lx                        at dot
 *      (blank)                     the last one again, at `next`
 *
 * Commands stand in tables, which are kept sorted by name; a name that is there already is
 * refused.  A user types as much of a name as tells it from the others; a whole name is
 * always its own.  A word of a table of tables (`show`, `show all`) is followed by a word of the
 * inner one.
 *
 * A command gets an address, which is dot unless one is given, a count (-1: none was given),
 * and letters behind a slash.  One that reads its line by itself says so (CS_OWN).  Those that
 * show memory move dot on (CS_SET_DOT), so that a blank line goes on where they stopped.
 *
 * What goes wrong is one line, and the debugger goes on: that the line makes no sense, that there
 * is no memory at an address, that a list does not end, that the command threw because what it
 * read cannot be.
 */
import { checked_quiet } from '../../machine/parts.ts';
import { KernelPanic } from '../../machine/panic.ts';
import { db_address, db_expression, type DbSymbols } from './ddb_expr.ts';
import { Lexer } from './ddb_lex.ts';
import {
  type Ddb,
  DdbError,
  DdbQuit,
  db_end_line,
  db_page,
  db_printf,
  db_puts,
  db_var,
} from './ddb_session.ts';

/** It reads its line by itself. */
export const CS_OWN = 1;
/** It shows memory: a blank line goes on behind what was shown. */
export const CS_SET_DOT = 0x100;

/** What a command gets. */
export interface DdbArgs {
  readonly db: Ddb;
  /** Byte address: the one that was given, or dot. */
  readonly addr: number;
  readonly have_addr: boolean;
  /** -1: none was given. */
  readonly count: number;
  readonly modif: string;
  /** What is left of the line, for CS_OWN. */
  readonly lex: Lexer;
}
export interface DdbCommand {
  readonly name: string;
  readonly help: string;
  /** What it does; absent in a table of tables. */
  readonly run?: (a: DdbArgs) => void;
  readonly more?: DdbTable;
  readonly flags: number;
  /** What its address may be named by; others may be, too, as a last resort. */
  readonly symbols: DbSymbols | null;
}
/** Commands by name, sorted. */
export class DdbTable {
  readonly #all: DdbCommand[] = [];

  /** Enters a command. Throws if there is one of its name. */
  add(c: DdbCommand): void {
    const at = this.#all.findIndex((other) => other.name >= c.name);
    if (at >= 0 && this.#all[at].name === c.name) {
      throw new Error(`ddb: the command ${c.name} is there already`);
    }
    this.#all.splice(at < 0 ? this.#all.length : at, 0, c);
  }
  get all(): readonly DdbCommand[] {
    return this.#all;
  }
  /** The command of that name or, if the name is the beginning of one only, that. */
  find(name: string): DdbCommand {
    const near = this.#all.filter((c) => c.name.startsWith(name));
    const exact = near.find((c) => c.name === name);
    if (exact ?? near.length === 1) return exact ?? near[0];
    if (near.length === 0) throw new DdbError(`No such command: ${name}; help and show list them`);
    throw new DdbError(`Ambiguous: ${near.map((c) => c.name).join(', ')}`);
  }
}

export const db_cmds = new DdbTable();
export const db_show_cmds = new DdbTable();
export const db_show_all_cmds = new DdbTable();

interface More {
  flags?: number;
  symbols?: DbSymbols;
}
function command(name: string, help: string, run: DdbCommand['run'], o: More): DdbCommand {
  if (help === '') throw new Error(`ddb: the command ${name} has no description`);
  const rest = { flags: o.flags ?? 0, symbols: o.symbols ?? null };
  return { name, help, ...(run ? { run } : {}), ...rest };
}
export function DB_COMMAND(
  name: string,
  help: string,
  run: (a: DdbArgs) => void,
  o: More = {},
): void {
  db_cmds.add(command(name, help, run, o));
}
export function DB_SHOW_COMMAND(
  name: string,
  help: string,
  run: (a: DdbArgs) => void,
  o: More = {},
): void {
  db_show_cmds.add(command(name, help, run, o));
}
export function DB_SHOW_ALL_COMMAND(
  name: string,
  help: string,
  run: (a: DdbArgs) => void,
  o: More = {},
): void {
  db_show_all_cmds.add(command(name, help, run, o));
}
db_cmds.add({ ...command('show', 'What the kernel has', undefined, {}), more: db_show_cmds });
db_show_cmds.add({ ...command('all', 'The same of all', undefined, {}), more: db_show_all_cmds });

// --- names --------------------------------------------------------------------------------

const symbol_sources: DbSymbols[] = [];
/** Names that any expression may use: what `find` knows. The first source that knows one counts. */
export function db_symbols(find: DbSymbols): void {
  symbol_sources.push(find);
}
function symbols_of(c: DdbCommand): DbSymbols {
  const all = c.symbols ? [c.symbols, ...symbol_sources] : symbol_sources;
  return (name) => {
    for (const find of all) {
      const at = find(name);
      if (at !== undefined) return at;
    }
    return undefined;
  };
}
/** An expression of a command that reads its line by itself; null: none begins here. */
export function db_argument({ db, lex }: DdbArgs, own?: DbSymbols): bigint | null {
  const find: DbSymbols = (name) =>
    own?.(name) ?? symbol_sources.map((s) => s(name)).find((at) => at !== undefined);
  return db_expression(db, lex, find);
}
/** Refuses what is left of a line. */
export function db_no_more(lex: Lexer): void {
  const { text } = lex.peek();
  if (lex.peek().kind !== 'end') throw new DdbError(`'${text}' is not expected here`);
}

// --- running --------------------------------------------------------------------------------

/** Prints the names of a table in columns of 12. */
export function db_cmd_list(db: Ddb, table: DdbTable): void {
  for (const { name } of table.all) {
    db_end_line(db, 12);
    db_printf(db, '%-12s', name.length < 12 ? name : `${name} `);
  }
  db_puts(db, '\n');
}
function find_command(db: Ddb, lex: Lexer): DdbCommand | null {
  let table = db_cmds;
  for (;;) {
    const t = lex.take();
    if (t.kind === 'end' && table !== db_cmds) {
      db_cmd_list(db, table);
      return null;
    }
    if (t.text === '!') throw new DdbError('Functions cannot be called here');
    if (t.kind !== 'ident') throw new DdbError('A command begins with its name: see help');
    const c = table.find(t.text);
    if (!c.more) return c;
    table = c.more;
  }
}
/** Modifiers, address and count of a command. */
function arguments_of(db: Ddb, lex: Lexer, c: DdbCommand): DdbArgs {
  const { state } = db;
  const at_dot = { db, lex, addr: state.dot, have_addr: false, count: -1, modif: '' };
  if (c.flags & CS_OWN) return at_dot;
  const modif = lex.accept('/') ? modifiers(lex) : '';
  const find = symbols_of(c);
  const given = db_expression(db, lex, find);
  const addr = given === null ? state.dot : db_address(given);
  if (given !== null) {
    state.dot = addr;
    state.last = addr;
  }
  let count = -1;
  if (lex.accept(',')) {
    const n = db_expression(db, lex, find);
    if (n === null) throw new DdbError('Count missing');
    count = Number(n);
  }
  db_no_more(lex);
  return { db, lex, addr, have_addr: given !== null, count, modif };
}
function modifiers(lex: Lexer): string {
  const text = lex.letters();
  if (text === '') throw new DdbError('Bad modifier');
  return text;
}
function execute(db: Ddb, c: DdbCommand, a: DdbArgs): void {
  const { state } = db;
  c.run?.(a);
  if (c.flags & CS_SET_DOT) state.dot = state.prev;
  else state.next = state.dot;
}
/** The last command again, at `next`. */
function repeat(db: Ddb): void {
  const { state } = db;
  if (state.repeat === '') return;
  let c: DdbCommand | null = null;
  let table = db_cmds;
  for (const word of state.repeat.split(' ')) {
    c = table.find(word);
    table = c.more ?? table;
  }
  if (!c) return;
  state.dot = state.next;
  const lex = new Lexer('', () => db_var(db, 'radix'));
  execute(db, c, { db, lex, addr: state.next, have_addr: false, count: 1, modif: '' });
}
/** The whole name of a command, as `repeat` finds it. */
function full_name(c: DdbCommand): string {
  if (db_cmds.all.includes(c)) return c.name;
  return db_show_cmds.all.includes(c) ? `show ${c.name}` : `show all ${c.name}`;
}
function line_run(db: Ddb, line: string): void {
  const lex = new Lexer(line, () => db_var(db, 'radix'));
  if (lex.peek().kind === 'end') return repeat(db);
  db.state.repeat = '';
  const c = find_command(db, lex);
  if (!c) return;
  const a = arguments_of(db, lex, c);
  db.state.repeat = full_name(c);
  execute(db, c, a);
}

/**
 * Runs one line.  Throws nothing but what stops this CPU: another thread's panic, or the
 * end of the machine.
 */
export function db_command(db: Ddb, line: string): void {
  db.left = db_page(db);
  db.failed = false;
  checked_quiet(true);
  try {
    line_run(db, line);
  } catch (e) {
    db_failed(db, e);
  }
  checked_quiet(false);
  end_of_line(db);
}
function end_of_line(db: Ddb): void {
  if (db.column > 0) db.io.print('\n');
  db.column = 0;
}
/** Says in a line why a command ended. */
function db_failed(db: Ddb, e: unknown): void {
  if (e instanceof DdbQuit) return;
  if (e instanceof KernelPanic) throw e;
  end_of_line(db);
  db.failed = true;
  if (e instanceof DdbError) return db.io.print(`${e.message}\n`);
  const { message } = e as Error;
  db.io.print(`The memory is wrong there: ${message.replace(/\s+/g, ' ')}\n`);
}
