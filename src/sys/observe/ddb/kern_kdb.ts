/*
 * kern_kdb: entering the debugger in a thread of the program.
 *
 *      panic ──> trace, if asked ──> db> on /dev/tty, if asked ──> the dump ──> KernelPanic
 *      debug.kdb.enter=1 ──> db> on /dev/tty, the others held ──> continue ──> all go on
 *
 * The thread reads commands from the terminal of its process and runs them where it stands: it is
 * in the kernel, and goes nowhere until `continue`.  After a panic the other CPUs have stopped;
 * otherwise they are held (machine/kdb.ts) unless debug.kdb.stop_cpus is 0.  No lock is taken
 * here, and nothing is changed but what a script or a variable is.
 *
 * The terminal may be in any mode, because the program may be reading keys from it: it is made
 * sane for the time, by stty where there is one.  Without a terminal nothing is entered.
 */
import { kconsole } from '../../machine/kconsole.ts';
import { thr } from '../../machine/cpu.ts';
import { EBUSY, ENXIO } from '../../machine/errno.ts';
import { M, machine, PANIC_TEXT_WORDS } from '../../machine/header.ts';
import { host_sleep } from '../../machine/host.ts';
import { host_tty, type Tty } from '../../machine/host_tty.ts';
import {
  kdb_enter_begin,
  kdb_enter_end,
  kdb_hold,
  kdb_release,
  kdb_running,
} from '../../machine/kdb.ts';
import { get_string } from '../../machine/struct.ts';
import { sysctl_get } from '../../machine/sysctl_decl.ts';
import { debugger_on_panic, kdb_stop_cpus, trace_on_panic } from '../kdb_vars.ts';
import { ddb_run } from './ddb.ts';
import { db_stop_frames } from './ddb_cpu.ts';
import { db_script_enter } from './ddb_script.ts';
import { type Ddb, type DdbIo, ddb_session } from './ddb_session.ts';

/** How long the others are held at a time, ms: they go on sooner if this thread dies. */
const HOLD_MS = 3_600_000;
/** How long they may take to stop, ms: one that computes does not. */
const STOP_MS = 1000;
const PROMPT = 'db> ';

function io_of(tty: Tty): DdbIo {
  return {
    print: (text) => tty.write(text),
    more: () => {
      tty.write('--More--');
      const key = tty.key();
      tty.write('\r        \r');
      return key === 'q' || key === '' ? 'quit' : key === ' ' ? 'page' : 'line';
    },
  };
}
/** Commands from the terminal, until one leaves or the terminal is gone. */
function loop(db: Ddb, tty: Tty): void {
  while (!db.leave) {
    tty.write(PROMPT);
    const line = tty.line();
    if (line === null) return;
    ddb_run(db, line);
  }
}
function on_terminal(tty: Tty, why: string, message: string): void {
  const rows = tty.rows();
  const db = ddb_session(io_of(tty));
  if (rows > 0) db.state.vars.lines = rows;
  tty.write(message);
  db_script_enter(db, why);
  loop(db, tty);
}
/** Holds the others, and gives them the time to come to a stop. */
function hold_others(): boolean {
  if (kdb_hold(HOLD_MS) !== 0) return false;
  const until = performance.now() + STOP_MS;
  while (kdb_running().length > 0 && performance.now() < until) host_sleep(1);
  return true;
}
/** This thread enters the debugger. 0; EBUSY: another one is in it; ENXIO: there is no terminal. */
export function kdb_enter(why: string, message: string): number {
  if (thr.cpu < 0) return ENXIO;
  const tty = host_tty();
  if (tty === null) return ENXIO;
  if (!kdb_enter_begin()) {
    tty.close();
    return EBUSY;
  }
  const held = sysctl_get(kdb_stop_cpus) !== 0 && hold_others();
  try {
    on_terminal(tty, why, `KDB: enter: ${message}\n[ CPU ${thr.cpu} ]\n`);
  } finally {
    if (held) kdb_release();
    kdb_enter_end();
    tty.close();
  }
  return 0;
}

/** What a panic says of itself. */
function panic_text(): string {
  const text = get_string(machine.panic_text, M, PANIC_TEXT_WORDS);
  return `${text}\ncpuid = ${thr.cpu}\nKDB: stack backtrace:\n${db_stop_frames(thr.cpu)}`;
}
/** In the thread that panicked, before the dump is written. */
export function kdb_panic(): void {
  const traced = sysctl_get(trace_on_panic) !== 0;
  if (traced) kconsole.print(panic_text().trimEnd());
  if (sysctl_get(debugger_on_panic) === 0) return;
  const tty = host_tty();
  if (tty === null || !kdb_enter_begin()) return tty?.close();
  try {
    on_terminal(
      tty,
      'panic',
      traced ? 'KDB: enter: panic\n' : `${panic_text()}KDB: enter: panic\n`,
    );
  } finally {
    kdb_enter_end();
    tty.close();
  }
}
