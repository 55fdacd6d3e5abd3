/*
 * ddb_serve: the debugger, for a command of another process.
 *
 * A request is JSON in UTF-8, and so is the answer.  The session is the other side's: it comes
 * with each line and goes back with the text, so nothing of it stays here, and any number of
 * users do not know of each other.
 *
 *      { "line": "show malloc", "state": … }    →   { "text": "…", "failed": false, "state": … }
 *      { "hold": 3000 }              →   { "running": ["CPU 1 (thread 2)"], "answers": "CPU 0 …" }
 *      { "hold": 0 }                 →   { "running": [], "answers": "CPU 0 …" }
 *
 * A line that is no such request is answered with `error`.  The thread that serves it stands
 * still for the time that the command takes: TIME_MS at most, and TEXT_MAX characters.
 */
import { ddb_run } from './ddb.ts';
import { db_cpu_text } from './ddb_lock.ts';
import {
  DDB_VARS,
  DDB_WORK,
  type DdbSearch,
  type DdbState,
  ddb_session,
  ddb_state,
} from './ddb_session.ts';
import { thr } from '../../machine/cpu.ts';
import { kdb_hold, kdb_release, kdb_running } from '../../machine/kdb.ts';

/** Longest time for a command, ms. */
const TIME_MS = 200;
/** Longest text of a command, characters. */
const TEXT_MAX = 2 ** 20;
/** Longest line. */
const LINE_MAX = 4096;
/** Longest lease, ms: whoever wants more renews it. */
export const DDB_LEASE_MS = 3000;

/** An answer to a line. */
export interface DdbAnswer {
  readonly text: string;
  /** The command ended with an error. */
  readonly failed: boolean;
  readonly state: DdbState;
}
/** Who runs although all were asked to stop; and who answers, and is never held. */
export interface DdbHeld {
  readonly running: string[];
  readonly answers: string;
}
/** What a request gets. */
export type DdbReply = DdbAnswer | DdbHeld | { readonly error: string };

type Json = Readonly<Record<string, unknown>>;
function is_record(v: unknown): v is Json {
  return typeof v === 'object' && v !== null && !Array.isArray(v);
}
function number_of(v: unknown, otherwise: number): number {
  return typeof v === 'number' && Number.isSafeInteger(v) && v >= 0 ? v : otherwise;
}
function text_of(v: unknown, most: number): string {
  return typeof v === 'string' && v.length <= most ? v : '';
}
function search_of(v: unknown): DdbSearch | null {
  if (!is_record(v)) return null;
  const [size, value, mask] = [v.size, v.value, v.mask];
  const digits = (t: unknown): t is string => typeof t === 'string' && /^\d{1,20}$/.test(t);
  const known = size === 1 || size === 2 || size === 4 || size === 8;
  return known && digits(value) && digits(mask) ? { size, value, mask } : null;
}
/** A session as it came over the wire: what is no part of one is left out. */
function state_of(v: unknown): DdbState {
  const s = ddb_state();
  if (!is_record(v)) return s;
  for (const name of ['dot', 'prev', 'next', 'last'] as const) s[name] = number_of(v[name], 0);
  const names = [
    ...Object.keys(DDB_VARS),
    ...Array.from({ length: DDB_WORK }, (_, i) => `work${i}`),
  ];
  const vars = is_record(v.vars) ? v.vars : {};
  for (const name of names) {
    const value = vars[name];
    if (typeof value === 'number' && Number.isSafeInteger(value)) s.vars[name] = value;
  }
  s.vars.radix = Math.min(Math.max(s.vars.radix, 2), 16);
  s.vars.tabstops = Math.min(Math.max(s.vars.tabstops, 1), 16);
  s.vars.maxwidth = Math.min(Math.max(s.vars.maxwidth, 16), 1024);
  s.repeat = text_of(v.repeat, 64);
  s.format = text_of(v.format, 16) || s.format;
  s.search = search_of(v.search);
  return s;
}

/** Runs a line of a session that came over the wire. */
function answer_line(line: string, given: unknown): DdbAnswer {
  let text = '';
  const io = { print: (more: string) => void (text += more) };
  const db = ddb_session(io, state_of(given));
  db.room = TEXT_MAX;
  db.until = performance.now() + TIME_MS;
  ddb_run(db, line);
  return { text, failed: db.failed, state: db.state };
}
function answer(request: unknown): DdbReply {
  if (!is_record(request)) return { error: 'no request of the debugger' };
  const { line, hold } = request;
  if (typeof line === 'string' && line.length <= LINE_MAX) return answer_line(line, request.state);
  if (typeof hold !== 'number' || !(hold >= 0)) return { error: 'no request of the debugger' };
  if (hold === 0) {
    kdb_release();
    return { running: [], answers: db_cpu_text(thr.cpu) };
  }
  if (kdb_hold(Math.min(hold, DDB_LEASE_MS)) !== 0) {
    return { error: 'EBUSY: another debugger holds the CPUs, from another thread' };
  }
  return { running: kdb_running().map(db_cpu_text), answers: db_cpu_text(thr.cpu) };
}
/** Serves a request. Throws what stops this CPU. */
export function ddb_serve(bytes: Uint8Array): Uint8Array {
  let request: unknown = null;
  try {
    request = JSON.parse(new TextDecoder().decode(bytes.slice()));
  } catch {
    request = null;
  }
  return new TextEncoder().encode(JSON.stringify(answer(request)));
}
