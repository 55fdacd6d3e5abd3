/*
 * sysctl: shows and sets the kernel's variables.
 *
 *      sysctl name ...          value; of a group, everything below it
 *      sysctl name=value ...    sets, and shows old -> new
 *      sysctl -a                everything;  -A with the opaque ones,  -X in hex
 *
 *      -b raw bytes   -d descriptions   -e name=value   -h 1,000s   -x hex
 *      -i no complaint about unknown names   -q fewer warnings
 *      -N names only  -n values only    -o opaque values too   -t types
 *      -T tunables only   -W writable ones only   -w nothing, for old habits
 *
 * Nothing is known in advance: names, types and formats are asked of the tree
 * by its reserved queries.  Layout and messages are BSD's; --json prints one
 * document instead.
 */
import {
  EACCES,
  EINVAL,
  ENOENT,
  ENOMEM,
  ENOTDIR,
  EOPNOTSUPP,
  EPERM,
  errno_name,
} from '../sys/machine/errno.ts';
import { value_decode, value_json, value_text } from './sysctl_value.ts';
import {
  EXIT_FAIL,
  EXIT_OK,
  EXIT_USAGE,
  type Flags,
  type ToolContext,
  tool_flags,
} from './tool.ts';

const LETTERS = 'aAbdehiNnoqTtWwxX';
const USAGE =
  'sysctl [-bdehiNnoqTtWx] [--json] name[=value] ... | sysctl [-bdehNnoqTtWx] [--json] -a';

export const SYSCTL_HELP = `usage: kmem sysctl [-bdehiNnoqTtWx] [--json] NAME[=VALUE] ...
       kmem sysctl [-bdehNnoqTtWx] [--json] -a

Shows and sets the variables of a running machine's kernel. NAME may be a group:
everything below it is shown.

  -a  all variables           -A  -a with opaque ones    -X  -a in hexadecimal
  -b  raw bytes               -d  descriptions           -e  NAME=VALUE
  -h  1,000s                  -i  ignore unknown names   -N  names only
  -n  values only             -o  opaque values too      -q  fewer warnings
  -T  boot tunables only      -t  types                  -W  writable ones only
  -w  nothing: as it was      -x  hexadecimal
  --json           one JSON document

examples:
  kmem sysctl vm.stats
  kmem sysctl -ad
  kmem sysctl vm.lowmem_period=5
  kmem sysctl -n kern.ipc.nmbclusters -p 4711
`;

const CTLTYPE = 0xf;
const NODE = 1;
const STRING = 3;
const OPAQUE = 5;
const WRITABLE = 0x40000000;
const TUNABLE = 0x00080000;
const OID_BYTES_MAX = 96;
const NAME_BYTES_MAX = 1024;

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** How the tools say an errno. */
export const STRERROR: Record<number, string> = {
  [EPERM]: 'Operation not permitted',
  [ENOENT]: 'No such file or directory',
  [EINVAL]: 'Invalid argument',
  [ENOMEM]: 'Cannot allocate memory',
  [EACCES]: 'Permission denied',
};
function strerror(error: number): string {
  return STRERROR[error] ?? errno_name(error);
}
/** Ends the command with a message and status 1. */
class Fatal extends Error {}

interface Run {
  ctx: ToolContext;
  on: ReadonlySet<string>;
  /** What --json prints. */
  document: Record<string, unknown>;
  /** Sets that failed with a warning. */
  warnings: number;
}

// --- asking the tree -----------------------------------------------------------------

function ask(run: Run, mib: readonly number[], max: number): Uint8Array | number {
  const old = new Uint8Array(max);
  const r = run.ctx.sysctl(mib, old, null);
  return r.error !== 0 ? r.error : old.subarray(0, r.oldlen);
}
function text_of(bytes: Uint8Array | number): string {
  return typeof bytes === 'number' ? '' : decoder.decode(bytes.slice()).replace(/\0+$/, '');
}
function ints_of(bytes: Uint8Array): number[] {
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: bytes.length >> 2 }, (_, i) => v.getInt32(i * 4, true));
}
/** The numbers of a name, null: unknown. */
function name2oid(run: Run, name: string): number[] | null {
  const old = new Uint8Array(OID_BYTES_MAX);
  const r = run.ctx.sysctl([0, 3], old, encoder.encode(name));
  return r.error !== 0 ? null : ints_of(old.subarray(0, r.oldlen));
}
interface Kind {
  kind: number;
  fmt: string;
}
function oidfmt(run: Run, mib: readonly number[]): Kind | null {
  const bytes = ask(run, [0, 4, ...mib], NAME_BYTES_MAX);
  if (typeof bytes === 'number') return null;
  const kind = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  return { kind, fmt: text_of(bytes.subarray(4)) };
}
/** A value, in a buffer twice the size it had a moment ago; null: it vanished. */
function read_value(run: Run, mib: readonly number[]): Uint8Array | null {
  for (let tries = 0; tries < 10; tries++) {
    const probe = run.ctx.sysctl(mib, null, null);
    if (probe.error !== 0) return null;
    const bytes = ask(run, mib, probe.oldlen * 2 + 8);
    if (bytes !== ENOMEM) return typeof bytes === 'number' ? null : bytes;
  }
  return null;
}

// --- showing ----------------------------------------------------------------------------

/** Shows one variable without its line end. False: nothing was shown. */
function show_var(run: Run, mib: readonly number[], value_only: boolean): boolean {
  const { on, ctx } = run;
  const k = oidfmt(run, mib);
  if (!k) return false;
  if (on.has('T') && (k.kind & TUNABLE) === 0) return false;
  if (on.has('W') && (k.kind & WRITABLE) === 0) return false;
  const name = text_of(ask(run, [0, 1, ...mib], NAME_BYTES_MAX));
  const label = value_only ? '' : `${name}${on.has('e') ? '=' : ': '}`;
  if (on.has('N')) {
    run.document[name] = null;
    ctx.out(name);
    return true;
  }
  if (on.has('t')) return said(run, name, label, type_name(k.kind));
  if (on.has('d')) return said(run, name, label, text_of(ask(run, [0, 5, ...mib], 65536)));
  const bytes = read_value(run, mib);
  if (!bytes) return false;
  if (on.has('b')) {
    ctx.out(bytes);
    return true;
  }
  const v = value_decode(k.kind & CTLTYPE, k.fmt, bytes);
  const show = { hex: on.has('x') || on.has('X'), human: on.has('h') };
  if (v.form === 'opaque' && !on.has('o') && !on.has('A') && !show.hex) return false;
  run.document[name] = value_json(v);
  ctx.out(label + value_text(v, show));
  return true;
}
function said(run: Run, name: string, label: string, text: string): boolean {
  run.document[name] = text;
  run.ctx.out(label + text);
  return true;
}
const TYPE_NAMES = [
  '',
  'node',
  'integer',
  'string',
  'int64_t',
  'opaque',
  'unsigned integer',
  'long integer',
  'unsigned long',
  'uint64_t',
];
function type_name(kind: number): string {
  return TYPE_NAMES[kind & CTLTYPE] ?? 'unknown';
}
function line_end(run: Run): void {
  if (!run.on.has('b')) run.ctx.out('\n');
}
/** Everything below `top`; with [] all but the node of the queries. */
function show_all(run: Run, top: readonly number[]): void {
  let at: readonly number[] = top.length > 0 ? top : [1];
  for (;;) {
    const bytes = ask(run, [0, 2, ...at], OID_BYTES_MAX);
    if (typeof bytes === 'number') return;
    at = ints_of(bytes);
    if (top.some((n, i) => at[i] !== n)) return;
    if (show_var(run, at, run.on.has('n'))) line_end(run);
  }
}

// --- setting ----------------------------------------------------------------------------

/** Reads a number as C does with base 0; null: something is left over. */
function parse_integer(text: string): bigint | null {
  const m = /^\s*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)$/.exec(text);
  if (!m) return null;
  const octal = /^0[0-7]+$/.test(m[2]);
  const n = BigInt(octal ? `0o${m[2].slice(1)}` : m[2]);
  return m[1] === '-' ? -n : n;
}
const NUMBER_NAMES: Record<number, [string, number]> = {
  2: ['integer', 4],
  4: ['int64_t', 8],
  6: ['unsigned integer', 4],
  7: ['long integer', 8],
  8: ['unsigned long integer', 8],
  9: ['uint64_t', 8],
};
/** The bytes of a new value. Throws Fatal with BSD's words. */
function parse_value(name: string, k: Kind, text: string): Uint8Array {
  const type = k.kind & CTLTYPE;
  if (type === STRING) return encoder.encode(text);
  const number = NUMBER_NAMES[type];
  if (!number) throw new Fatal(`oid '${name}' is type ${type}, cannot set that`);
  if (text === '') throw new Fatal('empty numeric value');
  const kelvin = /^IK(\d*)$/.exec(k.fmt);
  const n = kelvin ? parse_kelvin(text, Number(kelvin[1] || 1)) : parse_integer(text);
  if (n === null) throw new Fatal(`invalid ${kelvin ? 'value' : number[0]} '${text}'`);
  const bytes = new Uint8Array(number[1]);
  const v = new DataView(bytes.buffer);
  if (number[1] === 8) v.setBigInt64(0, BigInt.asIntN(64, n), true);
  else v.setInt32(0, Number(BigInt.asIntN(32, n)), true);
  return bytes;
}
/** A temperature such as 36.6C, 98F or 310: stored in tenths of a kelvin or finer. */
function parse_kelvin(text: string, digits: number): bigint | null {
  const m = /^([+-]?[0-9.]+)([CFK]?)$/i.exec(text);
  const given = m ? Number(m[1]) : Number.NaN;
  if (!m || !Number.isFinite(given)) return null;
  const unit = m[2].toUpperCase();
  const kelvin =
    unit === 'C' ? given + 273.15 : unit === 'F' ? ((given - 32) * 5) / 9 + 273.15 : given;
  return BigInt(Math.round(kelvin * 10 ** digits));
}

const WHY_BYTES = 512;
function set_var(run: Run, name: string, text: string): void {
  const { ctx } = run;
  const mib = name2oid(run, name);
  const k = mib ? oidfmt(run, mib) : null;
  if (!mib || !k) return unknown(run, name);
  if ((k.kind & CTLTYPE) === NODE) throw new Fatal(`oid '${name}' isn't a leaf node`);
  if ((k.kind & WRITABLE) === 0) {
    if ((k.kind & TUNABLE) === 0) throw new Fatal(`oid '${name}' is read only`);
    throw new Fatal(
      `oid '${name}' is a read only tunable: give it to boot, set: { '${name}': ${text} }`,
    );
  }
  const bytes = parse_value(name, k, text);
  const old = (k.kind & CTLTYPE) === OPAQUE ? false : show_var(run, mib, run.on.has('n'));
  const before = run.document[name];
  // Room for the old value: a text that says why comes there too.
  const number = (k.kind & CTLTYPE) in NUMBER_NAMES;
  const { error, reason } = ctx.sysctl(mib, number ? new Uint8Array(WHY_BYTES) : null, bytes);
  if (error !== 0) {
    if (old) line_end(run);
    if (error === EOPNOTSUPP) throw new Fatal(`${name}: value is not available`);
    if (error === ENOTDIR) throw new Fatal(`${name}: specification is incomplete`);
    if (error === ENOMEM) throw new Fatal(`${name}: type is unknown to this program`);
    ctx.err(`sysctl: ${name}: ${strerror(error)}${reason === undefined ? '' : `: ${reason}`}\n`);
    run.warnings++;
    return;
  }
  if (!run.on.has('b')) ctx.out(' -> ');
  show_var(run, mib, true);
  line_end(run);
  run.document[name] = { old: before, new: run.document[name] };
}
function unknown(run: Run, name: string): void {
  if (run.on.has('i')) return;
  throw new Fatal(run.on.has('q') ? '' : `unknown oid '${name}'`);
}
function operand(run: Run, word: string): void {
  const at = word.indexOf('=');
  const name = at < 0 ? word : word.slice(0, at);
  if (name.length >= NAME_BYTES_MAX) throw new Fatal(`oid too long: '${name.slice(0, 60)}...'`);
  if (at >= 0) return set_var(run, name, word.slice(at + 1));
  const mib = name2oid(run, name);
  if (!mib) return unknown(run, name);
  const k = oidfmt(run, mib);
  if (!k) throw new Fatal(`couldn't find format of oid '${name}'`);
  if ((k.kind & CTLTYPE) === NODE) {
    return mib.join() === DEBUG.join() ? show_debug(run) : show_all(run, mib);
  }
  if (show_var(run, mib, run.on.has('n'))) line_end(run);
}
/** sysctl.debug: the tree, as the kernel prints it. */
const DEBUG = [0, 0];
const DEBUG_BYTES_MAX = 2 ** 20;
function show_debug(run: Run): void {
  const bytes = ask(run, DEBUG, DEBUG_BYTES_MAX);
  // A number: the kernel of this process has printed it on the console.
  if (typeof bytes === 'object') run.ctx.out(text_of(bytes));
}

function usage_error(flags: Flags): string | null {
  const { on, operands } = flags;
  const all = on.has('a') || on.has('A') || on.has('X');
  if (on.has('N') && on.has('n')) return '-N and -n exclude each other';
  if (all && operands.length > 0) return `${operands[0]}: -a takes no names`;
  if (!all && operands.length === 0) return 'no name given';
  return null;
}

/** The command. Returns its exit code. */
export function sysctl_main(argv: readonly string[], ctx: ToolContext): number {
  const flags = tool_flags(argv, LETTERS, USAGE, ctx);
  if (!flags) return EXIT_USAGE;
  const wrong = usage_error(flags);
  if (wrong) {
    ctx.err(`sysctl: ${wrong}; usage: ${USAGE}\n`);
    return EXIT_USAGE;
  }
  const json = flags.on.has('json');
  const quiet = json ? { ...ctx, out: () => {} } : ctx;
  const run: Run = { ctx: quiet, on: flags.on, document: {}, warnings: 0 };
  try {
    if (flags.operands.length === 0) show_all(run, []);
    for (const word of flags.operands) operand(run, word);
  } catch (e) {
    if (!(e instanceof Fatal)) throw e;
    if (e.message !== '') ctx.err(`sysctl: ${e.message}\n`);
    return EXIT_FAIL;
  }
  if (json) {
    const shown = flags.on.has('N') ? Object.keys(run.document) : run.document;
    ctx.out(`${JSON.stringify(shown)}\n`);
  }
  return run.warnings > 0 ? Math.min(run.warnings, 125) : EXIT_OK;
}
