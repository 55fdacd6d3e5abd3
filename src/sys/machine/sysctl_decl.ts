/*
 * sysctl_decl: variables and reports that a floor offers to the outside.
 *
 * A declaration is data and stands beside the code that reads the variable.
 * The word of a declared variable lies in shared memory, so that every CPU and
 * every tool sees it; a report (`proc`) names the function that produces it.
 * The sysctl tree on the observing floor is made from this list at boot.
 *
 * Words are numbered by name, not by order of import, so that each thread
 * finds the same variable at the same place.
 *
 * Its help says what it means.  In the published package that text is not where it is here,
 * but in a file of its own (boot/help.ts), which a page that counts bytes does not load.
 *
 * A tunable (flag TUN) takes its first value from the boot parameters:
 * boot({ set: { 'vm.kmem_size_scale': 2 } }).
 *
 * A text has a place of fixed length, and no lock: who reads it while it is set may see parts of
 * both values.  Its reader looks at something that `changed` changes, before and after.
 */
import { boot_alloc, M, machine } from './header.ts';
import { mem } from './memory.ts';
import type { Options } from './opt.ts';
import { get_chars, set_chars } from './struct.ts';

export const CTLFLAG_RD = 0x80000000 | 0;
export const CTLFLAG_WR = 0x40000000;
export const CTLFLAG_RW = CTLFLAG_RD | CTLFLAG_WR;
export const CTLFLAG_TUN = 0x00080000;
export const CTLFLAG_RDTUN = CTLFLAG_RD | CTLFLAG_TUN;
export const CTLFLAG_RWTUN = CTLFLAG_RW | CTLFLAG_TUN;
export const CTLFLAG_SKIP = 0x01000000;
export const CTLFLAG_MPSAFE = 0x00040000;

/** The request as a handler sees it; the sysctl floor implements it. */
export interface SysctlRequest {
  /** Copies bytes to the old buffer. 0, or ENOMEM when they do not all fit. */
  out(bytes: Uint8Array): number;
  /** The new value's bytes, or null when the request only reads. */
  readonly new_bytes: Uint8Array | null;
  /** The name's components behind a node with a handler. */
  readonly rest: readonly number[];
  /** A handler that refuses says why here, where the errno alone does not. */
  reason?: string;
  /** Fixes how much of the old buffer may be touched: `len` bytes, 0 for all. 0, or an errno. */
  wire(len: number): number;
}
export type SysctlHandler = (req: SysctlRequest) => number;

export type SysctlType = 'int' | 'uint' | 'long' | 'ulong' | 'u64' | 'string' | 'opaque' | 'node';
export interface SysctlDecl {
  readonly name: string;
  readonly type: SysctlType;
  readonly flags: number;
  /** What it means: read by help_of. */
  readonly help?: string | undefined;
  readonly unit: string;
  readonly fmt: string;
  /** Fixed number, for the historic names; otherwise the tree chooses. */
  readonly number: number | null;
  readonly min: number;
  readonly max: number;
  readonly value: number;
  readonly handler: SysctlHandler | null;
  /** Called before a write takes effect: 0, the errno that refuses it, or why it is EINVAL. */
  readonly check: ((value: number) => number | string) | null;
  /** The same of a text. */
  readonly check_text: ((text: string) => number | string) | null;
  /** Called when a value was set while the machine runs. */
  readonly changed: (() => void) | null;
  /** The kernel option without which it does nothing. */
  readonly needs: keyof Options | null;
  /** Bytes of a text, its NUL among them; 0: it is a number. */
  readonly bytes: number;
  /** First value of a text. */
  readonly text: string;
  /** Position of its first 64-bit word among the variables; -1: it has none. */
  index: number;
}
export const sysctl_decls: SysctlDecl[] = [];

/** Texts of variables and counters, by name, that are not in their places. */
export const help_texts = new Map<string, string>();
/** What a variable or a counter means; '' in a thread that has not loaded the texts. */
export function help_of(d: { readonly name: string; readonly help?: string | undefined }): string {
  return d.help ?? help_texts.get(d.name) ?? '';
}

export interface IntOptions {
  value: number;
  help: string;
  min?: number;
  max?: number;
  unit?: string;
  flags?: number;
  number?: number;
  check?: (value: number) => number | string;
  changed?: () => void;
  needs?: keyof Options;
}
export interface StringOptions {
  value: string;
  help: string;
  /** Room for it, with a NUL at its end: a multiple of 8. */
  bytes: number;
  flags?: number;
  check?: (text: string) => number | string;
  changed?: () => void;
}

function declare(d: SysctlDecl): SysctlDecl {
  if (d.help === '') throw new Error(`sysctl ${d.name} has no description`);
  sysctl_decls.push(d);
  return d;
}
function variable(name: string, type: SysctlType, fmt: string, o: IntOptions): SysctlDecl {
  return declare({
    name,
    type,
    fmt,
    flags: (o.flags ?? CTLFLAG_RW) | CTLFLAG_MPSAFE,
    help: o.help,
    unit: o.unit ?? '',
    number: o.number ?? null,
    min: o.min ?? (type === 'int' ? -(2 ** 31) : 0),
    max: o.max ?? (type === 'int' ? 2 ** 31 - 1 : type === 'uint' ? 2 ** 32 - 1 : 2 ** 53),
    value: o.value,
    handler: null,
    check: o.check ?? null,
    check_text: null,
    changed: o.changed ?? null,
    needs: o.needs ?? null,
    bytes: 0,
    text: '',
    index: 0,
  });
}

/** A signed 32-bit variable. */
export function sysctl_int(name: string, o: IntOptions): SysctlDecl {
  return variable(name, 'int', 'I', o);
}
/** An unsigned 32-bit variable. */
export function sysctl_uint(name: string, o: IntOptions): SysctlDecl {
  return variable(name, 'uint', 'IU', o);
}
/** An unsigned 64-bit variable, exact to 2^53. */
export function sysctl_ulong(name: string, o: IntOptions): SysctlDecl {
  return variable(name, 'ulong', 'LU', o);
}
/** A text. */
export function sysctl_string(name: string, { check, ...o }: StringOptions): SysctlDecl {
  const d = variable(name, 'string', 'A', { ...o, value: 0, min: 0, max: 0 });
  return Object.assign(d, { bytes: o.bytes, text: o.value, check_text: check ?? null });
}

export interface ProcOptions {
  help: string;
  type: SysctlType;
  fmt: string;
  flags?: number;
  number?: number;
  unit?: string;
}
/** A value produced, and perhaps taken, by a function. */
export function sysctl_proc(name: string, o: ProcOptions, handler: SysctlHandler): SysctlDecl {
  return declare({
    name,
    type: o.type,
    fmt: o.fmt,
    flags: (o.flags ?? CTLFLAG_RD) | CTLFLAG_MPSAFE,
    help: o.help,
    unit: o.unit ?? '',
    number: o.number ?? null,
    min: 0,
    max: 0,
    value: 0,
    handler,
    check: null,
    check_text: null,
    changed: null,
    needs: null,
    bytes: 0,
    text: '',
    index: -1,
  });
}
/** A number computed at each read. */
export function sysctl_value(
  name: string,
  o: { help: string; type?: 'int' | 'uint' | 'ulong' | 'u64'; unit?: string; number?: number },
  read: () => number,
): SysctlDecl {
  const type = o.type ?? 'ulong';
  const fmt = type === 'int' ? 'I' : type === 'uint' ? 'IU' : type === 'u64' ? 'QU' : 'LU';
  return sysctl_proc(name, { ...o, type, fmt }, (req) => req.out(sysctl_number(type, read())));
}

/** The bytes of a number as sysctl delivers it: 4 or 8, little endian. */
export function sysctl_number(type: SysctlType, value: number): Uint8Array {
  const wide = type !== 'int' && type !== 'uint';
  const bytes = new Uint8Array(wide ? 8 : 4);
  const view = new DataView(bytes.buffer);
  if (!wide) view.setInt32(0, value, true);
  else view.setBigInt64(0, BigInt(Math.trunc(value)), true);
  return bytes;
}

/**
 * Fixes how much of the old buffer a handler may touch while it holds a lock:
 * `len` bytes, 0 for all.  Does nothing for the kernel's own requests, without
 * an old buffer, and the second time.  No page is wired: the buffer is an array of
 * the host's, and no access to it faults.
 */
export function sysctl_wire_old_buffer(req: SysctlRequest, len: number): number {
  return req.wire(len);
}

/** Numbers the variables; the same in every thread, whatever the order of import. */
export function sysctl_freeze(): void {
  sysctl_decls.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  let index = 0;
  for (const [i, d] of sysctl_decls.entries()) {
    if (i > 0 && sysctl_decls[i - 1].name === d.name) {
      throw new Error(`sysctl ${d.name} is declared twice`);
    }
    if (d.index < 0) continue;
    d.index = index;
    index += variable_words(d) / 2;
  }
}
/** Words that a variable takes. */
function variable_words(d: SysctlDecl): number {
  return Math.max(2, d.bytes / 4);
}
/** The first word of a variable. */
export function sysctl_word(d: SysctlDecl): number {
  return machine.tunables[M] + d.index * 2;
}
/** Lays the variables out and gives them their first values. */
export function sysctl_boot(set: ReadonlyMap<string, number | string>): void {
  const with_word = sysctl_decls.filter((d) => d.index >= 0);
  const words = with_word.reduce((sum, d) => sum + variable_words(d), 0);
  machine.tunables[M] = boot_alloc(words, 'sysctl variables', 32);
  for (const d of with_word) {
    const given = set.get(d.name);
    if (d.bytes > 0) set_chars(sysctl_word(d), d.bytes, String(given ?? d.text));
    else sysctl_set(d, typeof given === 'number' ? given : d.value);
  }
}
/** The current value of a declared variable. */
export function sysctl_get(d: SysctlDecl): number {
  return mem.F64[(machine.tunables[M] >> 1) + d.index];
}
/** The current value of a declared text. */
export function sysctl_get_string(d: SysctlDecl): string {
  return get_chars(sysctl_word(d), d.bytes);
}
/** Sets a declared variable from inside the kernel: no range check. */
export function sysctl_set(d: SysctlDecl, value: number): void {
  mem.F64[(machine.tunables[M] >> 1) + d.index] = value;
}
