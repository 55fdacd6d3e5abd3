/*
 * ddb_script: help, scripts, and what ends the debugger.
 *
 *      help [COMMAND]                      script NAME=COMMAND; COMMAND
 *      scripts    run NAME    unscript NAME
 *      continue                            leaves; after a panic the dump follows
 *
 * A script is kept in the machine's memory (machine/kdb.ts), so every thread has it.  When the
 * debugger is entered, the one called kdb.enter.WHY runs, or kdb.enter.default if there is
 * none: WHY is panic, sysctl or witness.  Limits are BSD's: 8 scripts, names of 32 characters,
 * 128 characters each, three inside one another.
 */
import { kdb_scripts, kdb_scripts_set, SCRIPTS_BYTES_MAX } from '../../machine/kdb.ts';
import {
  CS_OWN,
  DB_COMMAND,
  type DdbArgs,
  db_cmd_list,
  db_cmds,
  db_command,
  db_no_more,
} from './ddb_command.ts';
import { type Ddb, DdbError, db_printf, db_puts } from './ddb_session.ts';

const SCRIPTS_MAX = 8;
const NAME_MAX = 32;
const TEXT_MAX = 128;
const DEPTH_MAX = 3;

function scripts(): Map<string, string> {
  const lines = kdb_scripts().split('\n');
  return new Map(
    lines
      .filter((line) => line.includes('='))
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
}
function scripts_set(all: ReadonlyMap<string, string>): void {
  const text = [...all].map(([name, commands]) => `${name}=${commands}`).join('\n');
  if (new TextEncoder().encode(text).length > SCRIPTS_BYTES_MAX) {
    throw new DdbError('No room is left for scripts');
  }
  if (!kdb_scripts_set(text)) throw new DdbError('Another thread changes the scripts');
}
function check_name(name: string): string {
  if (/^[\w.-]+$/.test(name) && name.length <= NAME_MAX) return name;
  throw new DdbError(`Bad name of a script: ${JSON.stringify(name)}`);
}
function db_script({ db, lex }: DdbArgs): void {
  const text = lex.rest();
  const at = text.indexOf('=');
  const all = scripts();
  const name = check_name((at < 0 ? text : text.slice(0, at)).trim());
  if (at < 0) {
    const there = all.get(name);
    if (there === undefined) throw new DdbError(`There is no script ${name}`);
    return db_printf(db, '%s=%s\n', name, there);
  }
  const commands = text.slice(at + 1).trim();
  if (commands.length > TEXT_MAX) throw new DdbError(`A script has at most ${TEXT_MAX} characters`);
  if (!all.has(name) && all.size >= SCRIPTS_MAX) {
    throw new DdbError(`There are ${SCRIPTS_MAX} scripts already`);
  }
  scripts_set(all.set(name, commands));
}
/** Runs a script's commands. False: there is no such script. */
export function db_script_run(db: Ddb, name: string): boolean {
  const commands = scripts().get(name);
  if (commands === undefined) return false;
  if (db.depth >= DEPTH_MAX) throw new DdbError(`Scripts are ${DEPTH_MAX} inside one another`);
  db.depth++;
  for (const c of commands.split(';')) {
    if (c.trim() === '' || db.leave) continue;
    db_printf(db, 'db:%d:%s>  %s\n', db.depth - 1, name, c.trim());
    db_command(db, c);
  }
  db.depth--;
  return true;
}
/** What runs by itself when the debugger is entered. */
export function db_script_enter(db: Ddb, why: string): void {
  if (!db_script_run(db, `kdb.enter.${why}`)) db_script_run(db, 'kdb.enter.default');
}
DB_COMMAND('script', 'Makes a script: NAME=COMMAND; COMMAND. Without =: shows it', db_script, {
  flags: CS_OWN,
});
DB_COMMAND('scripts', 'All scripts', ({ db }) => {
  for (const [name, commands] of scripts()) db_printf(db, '%s=%s\n', name, commands);
});
DB_COMMAND(
  'run',
  'Runs a script',
  ({ db, lex }) => {
    const name = check_name(lex.rest());
    if (!db_script_run(db, name)) throw new DdbError(`There is no script ${name}`);
  },
  { flags: CS_OWN },
);
DB_COMMAND(
  'unscript',
  'Removes a script',
  ({ lex }) => {
    const name = check_name(lex.rest());
    const all = scripts();
    if (!all.delete(name)) throw new DdbError(`There is no script ${name}`);
    scripts_set(all);
  },
  { flags: CS_OWN },
);
for (const name of ['continue', 'c', 'quit', 'exit']) {
  DB_COMMAND(name, 'Leaves the debugger', ({ db }) => {
    db.leave = true;
  });
}
DB_COMMAND('stop', 'Holds the other CPUs of a running program, until continue', () => {
  throw new DdbError('There is nothing to stop: only a running program is held (-p PID)');
});

// --- help --------------------------------------------------------------------------------

function db_help({ db, lex }: DdbArgs): void {
  let table = db_cmds;
  let t = lex.take();
  if (t.kind === 'end') return db_cmd_list(db, table);
  for (;;) {
    const c = table.find(t.text);
    db_printf(db, '%s: %s\n', c.name, c.help);
    t = lex.take();
    if (t.kind === 'end') {
      if (c.more) db_cmd_list(db, c.more);
      return;
    }
    if (!c.more) return db_no_more(lex);
    table = c.more;
    db_puts(db, '  ');
  }
}
DB_COMMAND('help', 'The commands, or what one does', db_help, { flags: CS_OWN });
