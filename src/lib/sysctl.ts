/*
 * sysctl: the kernel's variables, decoded.
 *
 *      sysctlValue('vm.stats.vm.v_free_count')         a number
 *      sysctlValue('vm.lowmem_period', 5)              sets; returns the old value
 *      sysctlBytes('kern.malloc_stats')                the raw bytes of a node
 *
 * Nothing is known in advance: names, types and formats are asked of the tree
 * by its reserved queries, as the command does.
 */
import {
  EINVAL,
  EISDIR,
  ENOENT,
  ENOTDIR,
  EOPNOTSUPP,
  EPERM,
  errno_name,
} from '../sys/machine/errno.ts';
import { CTLFLAG_TUN, CTLFLAG_WR, help_of, sysctl_decls } from '../sys/machine/sysctl_decl.ts';
import { sysctl, sysctl_read, sysctlnametomib } from '../sys/observe/kern_sysctl.ts';
import { isBytes, shown } from './args.ts';
import { kmemError } from './errors.ts';

/** A value as JavaScript has it: a bigint beyond 2^53, an object for known structures. */
export type SysctlValue =
  | number
  | bigint
  | string
  | Uint8Array
  | readonly number[]
  | Readonly<Record<string, number>>;

/** What a variable is. */
export interface SysctlInfo {
  /** Its name, such as 'vm.lowmem_period'. */
  readonly name: string;
  /** Type of its value; 'opaque' ones are bytes or a structure. */
  readonly type: 'node' | 'int' | 'string' | 's64' | 'opaque' | 'uint' | 'long' | 'ulong' | 'u64';
  /** May be set while the machine runs. */
  readonly writable: boolean;
  /** May be given to boot({ set }). */
  readonly tunable: boolean;
  /** The format string: 'I', 'LU', 'A', 'S,clockinfo' … */
  readonly format: string;
  /** What it means, with its unit in brackets; '' in a thread that has `kmem/core` alone. */
  readonly description: string;
}

const TYPES = ['opaque', 'node', 'int', 'string', 's64', 'opaque', 'uint', 'long', 'ulong', 'u64'];
const NAME_BYTES = 1024;
const TEXT_BYTES = 65536;
const MIB_BYTES = 96;

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
const encoder = new TextEncoder();

function refuse(errno: number, name: string, reason?: string): never {
  const known: Record<number, string> = {
    [ENOENT]: 'there is no such variable (machine.sysctls() lists them)',
    [EISDIR]: 'it is a group of variables, not one',
    [ENOTDIR]: 'it is below a variable, not a group',
    [EPERM]: 'it may not be set',
    [EINVAL]: accepted(name),
    [EOPNOTSUPP]: needed(name),
  };
  const why = reason ?? known[errno] ?? errno_name(errno);
  throw kmemError(errno, 'sysctl', `${name}: ${why}`);
}
/** What a variable would have taken, as far as its declaration tells. */
function accepted(name: string): string {
  const d = sysctl_decls.find((x) => x.name === name);
  const narrow = d !== undefined && d.index >= 0 && d.bytes === 0 && d.max - d.min < 2 ** 31;
  const range = narrow ? ` (${d.min} to ${d.max})` : '';
  const help = d?.check ? `: ${help_of(d)}` : '';
  return `the value is not accepted${range}${help}`;
}
/** Why a variable has nothing to act on here. */
function needed(name: string): string {
  const d = sysctl_decls.find((x) => x.name === name);
  if (d?.needs) return `it does nothing without boot({ options: { ${d.needs}: true } })`;
  const core = d !== undefined && (d.check !== null || d.check_text !== null);
  return core ? "this thread has loaded kmem/core alone: load 'kmem' first" : 'not supported';
}
function mibOf(name: string): number[] {
  if (typeof name !== 'string') throw kmemError(EINVAL, 'sysctl', `name ${shown(name)} is no text`);
  const { error, mib } = sysctlnametomib(name);
  if (error !== 0) refuse(error, name);
  if (mib.length < 2) refuse(EISDIR, name);
  return mib;
}
function query(mib: readonly number[], max: number): Uint8Array | null {
  const old = new Uint8Array(max);
  const r = sysctl(mib, old, null);
  return r.error !== 0 ? null : old.subarray(0, r.oldlen);
}
function textOf(bytes: Uint8Array | null): string {
  return bytes ? decoder.decode(bytes).replace(/\0+$/, '') : '';
}
/** Kind and format of a node. */
function kindOf(mib: readonly number[]): { kind: number; format: string } {
  const bytes = query([0, 4, ...mib], NAME_BYTES);
  if (!bytes) return { kind: 0, format: '' };
  const kind = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  return { kind, format: textOf(bytes.subarray(4)) };
}

// --- reading --------------------------------------------------------------------------------

const WIDE = new Set(['s64', 'long', 'ulong', 'u64']);
const SIGNED = new Set(['int', 's64', 'long']);

function plain(n: bigint): number | bigint {
  const value = Number(n);
  return Number.isSafeInteger(value) ? value : n;
}
function numbers(type: string, v: DataView): (number | bigint)[] {
  const all: (number | bigint)[] = [];
  const width = WIDE.has(type) ? 8 : 4;
  for (let at = 0; at + width <= v.byteLength; at += width) {
    if (width === 8) {
      all.push(plain(SIGNED.has(type) ? v.getBigInt64(at, true) : v.getBigUint64(at, true)));
    } else all.push(SIGNED.has(type) ? v.getInt32(at, true) : v.getUint32(at, true));
  }
  return all;
}
/** Structures of 32-bit fields, or of 64-bit ones, by their format. */
const STRUCTS: Record<string, { wide: boolean; fields: string[] }> = {
  'S,clockinfo': { wide: false, fields: ['hz', 'tick', 'spare', 'stathz', 'profhz'] },
  'S,timeval': { wide: true, fields: ['sec', 'usec'] },
};
function decode(type: string, format: string, bytes: Uint8Array): SysctlValue {
  if (type === 'string') return textOf(bytes);
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (type !== 'opaque' && type !== 'node') {
    const all = numbers(type, v);
    return all.length === 1 ? all[0] : all.map(Number);
  }
  const known = STRUCTS[format];
  const width = known?.wide ? 8 : 4;
  if (!known || bytes.length !== known.fields.length * width) return bytes.slice();
  const values = numbers(known.wide ? 's64' : 'int', v);
  return Object.fromEntries(known.fields.map((field, i) => [field, Number(values[i])]));
}
/** The raw bytes of a node: a copy. Throws ENOENT, EISDIR. */
export function sysctlBytes(name: string): Uint8Array {
  mibOf(name);
  const bytes = sysctl_read(name);
  return typeof bytes === 'number' ? refuse(bytes, name) : bytes.slice();
}

// --- setting -----------------------------------------------------------------------------------

function encode(name: string, type: string, value: SysctlValue): Uint8Array {
  if (isBytes(value)) return value;
  if (type === 'string') {
    if (typeof value !== 'string') refuse(EINVAL, name, 'a text is wanted');
    return encoder.encode(value);
  }
  const whole = typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value));
  if (!whole) refuse(EINVAL, name, `${shown(value)} is not a whole number`);
  const n = BigInt(value as number | bigint);
  const bits = WIDE.has(type) ? 64 : 32;
  const fits = SIGNED.has(type) ? BigInt.asIntN(bits, n) : BigInt.asUintN(bits, n);
  if (fits !== n) refuse(EINVAL, name, `${n} does not fit its type ${type}`);
  const bytes = new Uint8Array(bits / 8);
  const v = new DataView(bytes.buffer);
  if (bits === 64) v.setBigInt64(0, BigInt.asIntN(64, n), true);
  else v.setInt32(0, Number(BigInt.asIntN(32, n)), true);
  return bytes;
}
/**
 * The value of a variable: a number (a bigint beyond 2^53), a text, an object
 * for the structures that are known, bytes for others.  With `value` it is set,
 * and the old value returned.  Throws ENOENT, EISDIR, EPERM, EINVAL.
 */
export function sysctlValue(name: string, value?: SysctlValue): SysctlValue {
  const mib = mibOf(name);
  const { kind, format } = kindOf(mib);
  const type = TYPES[kind & 0xf] ?? 'opaque';
  const old = decode(type, format, sysctlBytes(name));
  if (value === undefined) return old;
  if ((kind & CTLFLAG_WR) === 0) refuse(EPERM, name);
  const r = sysctl(mib, null, encode(name, type, value));
  if (r.error !== 0) refuse(r.error, name, r.reason);
  return old;
}

// --- all of them ---------------------------------------------------------------------------------

function ints(bytes: Uint8Array): number[] {
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: bytes.length >> 2 }, (_, i) => v.getInt32(i * 4, true));
}
/** Every variable, in the order of the tree. */
export function sysctls(): SysctlInfo[] {
  const all: SysctlInfo[] = [];
  for (let at: number[] = [1]; ; ) {
    const next = query([0, 2, ...at], MIB_BYTES);
    if (!next) return all;
    at = ints(next);
    const { kind, format } = kindOf(at);
    all.push({
      name: textOf(query([0, 1, ...at], NAME_BYTES)),
      type: (TYPES[kind & 0xf] ?? 'opaque') as SysctlInfo['type'],
      writable: (kind & CTLFLAG_WR) !== 0,
      tunable: (kind & CTLFLAG_TUN) !== 0,
      format,
      description: textOf(query([0, 5, ...at], TEXT_BYTES)),
    });
  }
}
