/*
 * ddb: the kernel's debugger, as a command.
 *
 *      kmem ddb                    of the running program that is found
 *      kmem ddb -p PID             of that process; of a copy of its memory if it does not answer
 *      kmem ddb -M FILE            of a dump
 *      kmem ddb -e 'show malloc' -e 'show page'      commands, and out again
 *
 * The debugger runs where the memory is: in the program, asked over its control socket
 * (sys/observe/ddb/ddb_serve.ts), or here, over a dump that this process has opened.  Here are the
 * terminal, its line editor with a history, and the pager.
 *
 * A running program goes on while it is looked at.  `stop` holds its CPUs at their next call into
 * the kernel, all but that of the thread that answers us, until `continue`.  It is a lease: it is
 * renewed from here once a second, and when we are gone, whatever the reason, all go on.
 */
import { createInterface, type Interface } from 'node:readline';
import { ddb_run } from '../sys/observe/ddb/ddb.ts';
import { db_cmds } from '../sys/observe/ddb/ddb_command.ts';
import {
  DDB_LEASE_MS,
  type DdbAnswer,
  type DdbHeld,
  type DdbReply,
} from '../sys/observe/ddb/ddb_serve.ts';
import { type Ddb, ddb_session, type DdbState, ddb_state } from '../sys/observe/ddb/ddb_session.ts';
import type { Connection } from './connect.ts';
import { EXIT_FAIL, EXIT_OK } from './tool.ts';
import { UsageError } from './usage.ts';

export const DDB_HELP = `usage: kmem ddb [-e COMMAND]...
       kmem ddb -M FILE [-e COMMAND]...

The kernel's debugger: looks at the memory of a running machine, or at a dump of
one, as it lies there.  It takes no lock and changes nothing, so it answers where
other commands wait.

  -e COMMAND       runs it, and no terminal; again: further ones
  -M FILE          of a dump, as machine.dump(FILE) or a panic wrote it
  -p PID           of that process; if it does not answer, because its event loop
                   is busy, a copy of its memory is looked at

Some commands; help and show list them all, help COMMAND says what one does:
  show malloc, show uma, show zone NAME     what the allocators hold
  show map, show object, show pginfo/p ADDR what is mapped, and what a page is
  whatis ADDR      page, slab and item at an address, and what is beside it
  show alllocks, show allchains             who holds what, and who waits for whom
  trace            where a machine panicked, and what each CPU does
  show struct NAME [ADDR]                   any record, field by field
  x/lx ADDR,N      memory; print, search, set $radix = 0t10
  stop, continue   holds the CPUs of a running program, and lets them go on
  quit             or the end of the input

examples:
  kmem ddb -e 'show malloc'
  kmem ddb -p 4711 -e stop -e 'show allchains' -e 'show alllocks'
  kmem ddb -M app.core -e trace
`;

/** Most bytes of an answer. */
const ROOM = 2 ** 23;
const RENEW_MS = 1000;
/** How long CPUs may take to stop, and between two looks at them, ms. */
const STOP_MS = 2000;
const LOOK_MS = 20;

/** Where the memory is. */
export interface DdbTarget {
  /** Runs a line; null: it leaves. */
  run(line: string): DdbAnswer | null;
  /** Holds the other CPUs, for a lease: who still runs; or lets them go on. Absent: a dump. */
  hold?(ms: number): DdbHeld;
}

/** Memory that this thread is bound to, and does not change any more; of which time it is. */
export function local_target(time: number): DdbTarget {
  let state = ddb_state();
  return {
    run: (line) => {
      let text = '';
      const db: Ddb = ddb_session({ print: (more) => void (text += more) }, state);
      db.now = () => time;
      ddb_run(db, line);
      state = db.state;
      return db.leave ? null : { text, failed: db.failed, state };
    },
  };
}
/** A running program. */
export function live_target(to: Connection): DdbTarget {
  let state: DdbState = ddb_state();
  const ask = (request: object): DdbReply => {
    const value = new TextEncoder().encode(JSON.stringify(request));
    const { error, bytes } = to.request({ mib: [], room: ROOM, value, ddb: true });
    if (error !== 0) throw new Error('the answer of the debugger is too long');
    return JSON.parse(new TextDecoder().decode(bytes)) as DdbReply;
  };
  return {
    run: (line) => {
      if (leaves(line)) return null;
      const r = ask({ line, state });
      if (!('text' in r)) return { text: `${said(r)}\n`, failed: true, state };
      state = r.state;
      return r;
    },
    hold: (ms) => {
      const r = ask({ hold: ms });
      if ('running' in r) return r;
      throw new HoldError(said(r));
    },
  };
}
function said(r: DdbReply): string {
  return 'error' in r ? r.error : 'no answer';
}
class HoldError extends Error {}
type Hold = NonNullable<DdbTarget['hold']>;
/** The whole name of the command that a line begins with; '' if it is none. */
function command_of(line: string): string {
  const word = /^\s*([A-Za-z_]\w*)\s*$/.exec(line)?.[1];
  if (word === undefined) return '';
  try {
    return db_cmds.find(word).name;
  } catch {
    return '';
  }
}
function leaves(line: string): boolean {
  return ['quit', 'exit'].includes(command_of(line));
}

// --- one session -----------------------------------------------------------------------------

/** A session over a target: its lines one after the other, and the lease. */
export class DdbFront {
  readonly #to: DdbTarget;
  #timer: ReturnType<typeof setInterval> | null = null;

  constructor(to: DdbTarget) {
    this.#to = to;
  }
  /** Runs a line. null: it leaves. */
  async run(line: string): Promise<DdbAnswer | null> {
    const { hold } = this.#to;
    const name = hold ? command_of(line) : '';
    if (name === 'stop' && hold) return await this.#stop(hold);
    if ((name === 'continue' || name === 'c') && hold) return this.#go(hold);
    return this.#to.run(line);
  }
  async #stop(hold: Hold): Promise<DdbAnswer> {
    const answer = (text: string, failed: boolean): DdbAnswer => {
      return { text, failed, state: ddb_state() };
    };
    try {
      let { running, answers } = hold(DDB_LEASE_MS);
      this.#renew(hold);
      for (const until = performance.now() + STOP_MS; running.length > 0; ) {
        if (performance.now() > until) break;
        await new Promise((go) => setTimeout(go, LOOK_MS));
        ({ running, answers } = hold(DDB_LEASE_MS));
      }
      const but = `${answers}, which answers here, is never held`;
      if (running.length === 0) return answer(`All CPUs have stopped; ${but}\n`, false);
      return answer(`Still running: ${running.join(', ')}; ${but}\n`, true);
    } catch (e) {
      if (!(e instanceof HoldError)) throw e;
      return answer(`${e.message}\n`, true);
    }
  }
  #renew(hold: Hold): void {
    this.#timer ??= setInterval(() => {
      try {
        hold(DDB_LEASE_MS);
      } catch {
        this.#end(); // the program is gone: the next command says so
      }
    }, RENEW_MS);
    this.#timer.unref();
  }
  #end(): void {
    if (this.#timer) clearInterval(this.#timer);
    this.#timer = null;
  }
  #go(hold: Hold): DdbAnswer {
    const held = this.#timer !== null;
    this.#end();
    if (held) hold(0);
    return { text: held ? '' : 'Nobody is held\n', failed: !held, state: ddb_state() };
  }
  /** Nobody is held any more. */
  close(): void {
    if (this.#timer !== null && this.#to.hold) {
      try {
        this.#to.hold(0);
      } catch {} // the program is gone
    }
    this.#end();
  }
}

// --- the terminal ------------------------------------------------------------------------------

/** Waits for one key. */
function key(): Promise<string> {
  return new Promise((resolve) => {
    process.stdin.setRawMode(true);
    process.stdin.resume();
    process.stdin.once('data', (bytes: Uint8Array) => {
      process.stdin.setRawMode(false);
      resolve(String.fromCharCode(bytes[0]));
    });
  });
}
/** Prints a text, a screen at a time. */
async function paged(text: string, say: (text: string) => void): Promise<void> {
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  const page = (): number => Math.max(2, process.stdout.rows || 24) - 1;
  let left = page();
  for (const [i, line] of lines.entries()) {
    say(`${line}\n`);
    if (--left > 0 || i === lines.length - 1) continue;
    say('--More--');
    const k = await key();
    say('\r        \r');
    if (k === 'q' || k === '\x03') return;
    left = k === ' ' ? page() : 1;
  }
}
/** Lines from standard input: from a terminal with a prompt, a history and a pager. */
async function interactive(front: DdbFront, say: (text: string) => void): Promise<number> {
  const terminal = process.stdin.isTTY === true && process.stdout.isTTY === true;
  let failed = false;
  let history: string[] = [];
  const open = (): Interface => {
    const o = { input: process.stdin, output: process.stdout, terminal, history, prompt: 'db> ' };
    return createInterface(terminal ? o : { input: process.stdin });
  };
  if (!terminal) {
    for await (const line of open()) {
      const answer = await front.run(line);
      if (answer === null) break;
      say(answer.text);
      failed ||= answer.failed;
    }
    return failed ? EXIT_FAIL : EXIT_OK;
  }
  for (;;) {
    const rl = open();
    rl.on('history', (all) => {
      history = all.slice(0, 100);
    });
    const line = await new Promise<string | null>((resolve) => {
      rl.once('line', resolve);
      rl.once('close', () => resolve(null));
      rl.prompt();
    });
    rl.close();
    if (line === null) {
      say('\n');
      return EXIT_OK;
    }
    const answer = await front.run(line);
    if (answer === null) return EXIT_OK;
    await paged(answer.text, say);
  }
}

/** What of a command line is ddb's own. */
export interface DdbLine {
  readonly commands: string[];
  /** The dump of -M. */
  readonly dump: string | undefined;
  readonly rest: string[];
}
/** Takes -e and -M off a command line. Throws UsageError. */
export function ddb_line(argv: readonly string[]): DdbLine {
  const words = [...argv];
  const commands: string[] = [];
  const rest: string[] = [];
  let dump: string | undefined;
  const value = (what: string): string => {
    const text = words.shift();
    if (text === undefined) throw new UsageError(what, 'ddb');
    return text;
  };
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    if (word === '-e') commands.push(value('-e: give a command'));
    else if (word === '-M') dump = value('-M: give the file of a dump');
    else rest.push(word);
  }
  if (dump !== undefined && rest.some((word) => /^(-p|--socket|--timeout)/.test(word))) {
    const text = '-M: a dump is read, no program is asked: no -p, no --socket';
    throw new UsageError(text, 'ddb');
  }
  return { commands, dump, rest };
}
/** The command, over a target. Returns its exit code: 1 if a command failed. */
export async function ddb_main(
  commands: readonly string[],
  to: DdbTarget,
  say: (text: string) => void,
): Promise<number> {
  const front = new DdbFront(to);
  try {
    if (commands.length === 0) return await interactive(front, say);
    let failed = false;
    for (const line of commands) {
      const answer = await front.run(line);
      if (answer === null) break;
      say(answer.text);
      failed ||= answer.failed;
    }
    return failed ? EXIT_FAIL : EXIT_OK;
  } finally {
    front.close();
  }
}
