/*
 * backtrace: the calls that a thread is in, as data.
 *
 *      V8, Bun         at connect (file:///app/pool.ts:12:9)
 *      SpiderMonkey    connect@file:///app/pool.ts:12:9            -> connect, /app/pool.ts, 12, 9
 *      JavaScriptCore  connect@file:///app/pool.ts:12:9
 *
 * JavaScript has no other way to its own stack than the text of an Error, and each engine writes
 * that in its own way.  Here is the one parser of all of them; backtrace.test.ts has a table of
 * samples.  What has no place in a file (built-in functions, the host's own modules) is no
 * frame: a reader could not go there.
 *
 * Making the text costs 20 to 90 us, a thousand allocations.  Whoever wants many stacks samples.
 *
 * While it is made the program's own Error.prepareStackTrace is out of the way: it would run
 * inside the kernel, and may give anything but a text.
 */

/** A call that has not returned yet. */
export interface Frame {
  /** Its function; '' at the top of a module, or of a function without a name. */
  readonly fn: string;
  /** A path, or the address that a browser loaded it from; without `file://`. */
  readonly file: string;
  readonly line: number;
  /** 0: the engine did not say. */
  readonly column: number;
}

/** Our own frames may be as many, before the first of the program. */
const OWN_FRAMES = 16;

interface ErrorLimits {
  stackTraceLimit?: number;
  prepareStackTrace?: unknown;
}
/** The stack of the caller as the engine writes it, for `depth` frames of the program. */
export function backtrace_text(depth: number): string {
  const limits = Error as ErrorLimits;
  const { stackTraceLimit, prepareStackTrace } = limits;
  let stack: unknown;
  try {
    limits.stackTraceLimit = depth + OWN_FRAMES;
    if (prepareStackTrace !== undefined) limits.prepareStackTrace = undefined;
    stack = new Error().stack; // made into text here
    if (prepareStackTrace !== undefined) limits.prepareStackTrace = prepareStackTrace;
    if (stackTraceLimit !== undefined) limits.stackTraceLimit = stackTraceLimit;
  } catch {} // a program may have frozen Error: then it says how many frames there are
  return typeof stack === 'string' ? stack : '';
}
/**
 * The frames of a text, innermost first, `depth` at most.  Frames of our own at the top are left
 * out, unless there are no others.
 */
export function backtrace_frames(text: string, depth: number): Frame[] {
  const all = frames_of(text);
  const first = all.findIndex((f) => !frame_is_own(f.file));
  return all.slice(Math.max(first, 0), Math.max(first, 0) + depth);
}
/** All frames of a text. */
export function frames_of(text: string): Frame[] {
  const found: Frame[] = [];
  for (const line of text.split('\n')) {
    const frame = frame_of(line);
    if (frame !== null && !HOST.test(frame.file)) found.push(frame);
  }
  return found;
}
/** One frame as people read it. */
export function frame_text(f: Frame): string {
  return `${f.fn || '<anonymous>'} at ${f.file}:${f.line}${f.column > 0 ? `:${f.column}` : ''}`;
}

// --- one line ----------------------------------------------------------------------------------

/** Modules of the host, and code that lies in no file. */
const HOST = /^(?:node:|internal:|native$|bun:|debugger eval|\[native|<anonymous>|index \d|wasm:)/;
/** What engines write before the name of a function that is not called directly. */
const HOW = /^(?:async |new |(?:async|promise callback|[\w ]+ handler)\*)+/;

/** The frame that a line tells of; null: none. */
function frame_of(line: string): Frame | null {
  const v8 = /^\s+at (.*)$/.exec(line);
  return v8 === null ? frame_at_sign(line) : frame_v8(v8[1]);
}
/** `name (place)`, or the place alone. */
function frame_v8(text: string): Frame | null {
  const open = text.endsWith(')') ? text.indexOf(' (') : -1;
  if (open < 0) return frame('', text.replace(HOW, ''));
  return frame(text.slice(0, open), text.slice(open + 2, -1));
}
/** `name@place`; a place may have further @ in it. */
function frame_at_sign(line: string): Frame | null {
  const at = line.indexOf('@');
  return at < 0 ? null : frame(line.slice(0, at), line.slice(at + 1));
}
function frame(name: string, where: string): Frame | null {
  const m = /^(.*?)(?::(\d+))(?::(\d+))?$/.exec(outside_of_eval(where));
  if (m === null || m[1] === '') return null;
  return { fn: function_of(name), file: file_of(m[1]), line: +m[2], column: +(m[3] ?? 0) };
}
/** Code that was made by eval stands where eval was called. */
function outside_of_eval(where: string): string {
  if (where.startsWith('eval at ')) {
    return (
      /\(((?:[^()]|\([^()]*\))*:\d+:\d+)\)/.exec(where.slice(where.lastIndexOf('eval at ')))?.[1] ??
      ''
    );
  }
  return where.replace(/ line (\d+) > (?:eval|Function).*$/, ':$1');
}
function function_of(name: string): string {
  const plain = name.replace(HOW, '').replace(/ \[as [^\]]*\]$/, '');
  return /^(?:<anonymous>|global code|module code|eval code|eval)$/.test(plain) ? '' : plain;
}
function file_of(where: string): string {
  if (!where.startsWith('file://')) return where;
  const path = where.slice('file://'.length).replace(/^\/(?=[A-Za-z]:)/, ''); // C:/ on Windows
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

// --- our own frames ------------------------------------------------------------------------------

/** The file of this code, as frames name it: a bundle may say otherwise of itself, or nothing. */
const here = frames_of(backtrace_text(0))[0]?.file ?? file_of(import.meta.url ?? '');
const folder = here.slice(0, here.lastIndexOf('/') + 1);
const source = folder.endsWith('/sys/machine/') ? folder.slice(0, -'sys/machine/'.length) : '';
/** Where our own code lies: folders of the source, or the one of the package's bundles. */
const OWN = source === '' ? [folder] : [`${source}sys/`, `${source}lib/`];

/** Whether a file is the kernel's or the façade's. Tests are programs. */
export function frame_is_own(file: string): boolean {
  if (!OWN.some((own) => own !== '' && file.startsWith(own))) return false;
  return !/\.(?:test|fuzz|stress)\.(?:[\w.]+\.)?[jt]s$/.test(file);
}
