/*
 * space_args: what programs pass to address spaces, looked at before anything is done.
 *
 * Sizes are bytes, or texts such as '200M'; rights are texts such as 'rw'.  Read next: args.ts.
 */
import { EINVAL } from '../sys/machine/errno.ts';
import { kenv_number } from '../sys/machine/kenv.ts';
import { PAGE_SIZE } from '../sys/machine/memory.ts';
import {
  MADV_DONTNEED,
  MADV_FREE,
  MADV_NORMAL,
  MADV_RANDOM,
  MADV_SEQUENTIAL,
  MADV_WILLNEED,
  VM_INHERIT_COPY,
  VM_INHERIT_NONE,
  VM_INHERIT_SHARE,
  VM_INHERIT_ZERO,
  VM_MAP_MAX,
  VM_SUPER_PAGES,
} from '../sys/h/vm_map.ts';
import { MCL_CURRENT, MCL_FUTURE } from '../sys/h/mman.ts';
import {
  VM_PROT_ALL,
  VM_PROT_EXECUTE,
  VM_PROT_NONE,
  VM_PROT_READ,
  VM_PROT_WRITE,
} from '../sys/h/vm_prot.ts';
import {
  booleanOf,
  checkFunction,
  checkOptions,
  checkSignal,
  checkWait,
  type Known,
  shown,
  type Wait,
  waitOf,
  wholeIn,
} from './args.ts';
import { checkName } from './context.ts';
import { kmemError } from './errors.ts';
import { Loan } from './loan.ts';

/** A number of bytes, or a text such as '64K', '200M', '1G'. */
export type Size = number | string;
/** Where machine.contiguous() puts a block. Bytes, or sizes such as '64M'. */
export interface ContiguousOptions {
  /** The malloc type that it counts under. Default 'contiguous'. */
  readonly type?: string;
  /** It begins at a multiple of this, a power of two. Default: of 4096. */
  readonly align?: Size;
  /** No multiple of this, a power of two, lies in it. Default 0: none. */
  readonly boundary?: Size;
  /** It begins at this address or behind it. Default 0. */
  readonly low?: Size;
  /** It ends before this address. Default: the end of the memory. */
  readonly high?: Size;
  /**
   * A guard page lies on each side: calls that touch one are EFAULT, and stores through views are
   * found there.  Not with `boundary`, nor with an `align` beyond 4096.
   */
  readonly guard?: boolean;
}
/** What may be done with memory: read, write, both, or neither. */
export type Protection = 'none' | 'r' | 'w' | 'rw' | 'rx' | 'rwx';
/** How memory will be used. */
export type Advice = 'normal' | 'random' | 'sequential' | 'willneed' | 'dontneed' | 'free';
/** What a fork makes of memory: the same for both, a copy, nothing, or zeros. */
export type Inherit = 'share' | 'copy' | 'none' | 'zero';

/** What an address space may be like. */
export interface SpaceOptions {
  /** The most bytes that may be mapped in it. Default: no limit. */
  readonly limit?: Size;
  /** Whether it is made if there is none of that name. Default true. */
  readonly create?: boolean;
}
/** Limits of a space that can be changed; what is absent stays. */
export interface LimitOptions {
  /** The most bytes of it that are in memory and in use at a time; Infinity: any number. */
  readonly resident?: Size;
  /** The most bytes of it that may be locked; Infinity: any number. */
  readonly memlock?: Size;
  /** The most bytes that may be mapped in it; Infinity: any number. */
  readonly size?: Size;
}
/** Limits of a space, bytes; Infinity: there is none. */
export interface SpaceLimits {
  /** The most that may be mapped in it. */
  readonly mapped: number;
  /** The most of it that is in memory and in use at a time. */
  readonly resident: number;
  /** The most of it that may be locked. */
  readonly memlock: number;
}
/** What is mapped. */
export interface RegionOptions {
  /** Bytes; the last page is mapped whole. Of a file, default: all from `offset` on. */
  readonly length?: Size;
  /** A file, by its path, that is to be seen there. Default: memory, zeros at first. */
  readonly file?: string;
  /**
   * What was lent, by this thread, from the beginning of a page on: it holds what the loan shows,
   * and shares its pages until one of the two is stored to.  The loan may go before or after.
   */
  readonly loan?: Loan;
  /** Whether what is stored goes to the file; else to copies of its pages. Default true. */
  readonly shared?: boolean;
  /** Whether it may be written to; a file that is shared gets `length` then. Default false. */
  readonly write?: boolean;
  /** Where in the file it begins: a multiple of 4096. Default 0. */
  readonly offset?: Size;
  /** By which other threads find it, 1 to 31 bytes. Default: it is found by its address. */
  readonly name?: string;
  /** Where it is to begin: a multiple of 4096. Default: where there is room. */
  readonly address?: number;
  /**
   * 'super': its pages are to lie side by side, 4 MiB at a time, and are one translation where they
   * do and all of them are used.  Of less than 4 MiB, and in a machine with less than 64 MiB, they
   * are as others.  Default: as others.
   */
  readonly align?: 'super';
  /** Default 'rw'; of a file, what `write` says. */
  readonly protect?: Protection;
  /** What forks make of it. Default 'copy'; of a file that is shared, 'share'. */
  readonly inherit?: Inherit;
}
/** How a space is forked. */
export interface ForkOptions {
  /** What may be done with the copy, whatever may be done with the original. */
  readonly protect?: Protection;
  /** Longest wait for the answers of other threads, ms. Default 1000. */
  readonly wait?: number;
  /** 'refuse': EBUSY while a window is open. Default 'copy': pages under windows are copied. */
  readonly windows?: 'copy' | 'refuse';
}
/** How a space is saved. */
export interface SaveOptions {
  /** Longest wait for the answers of other threads, ms, as for a fork. Default 1000. */
  readonly wait?: number;
  /** 'refuse': EBUSY while a window is open. Default 'copy', as for a fork. */
  readonly windows?: 'copy' | 'refuse';
}
/** How far saving has come. */
export interface SaveProgress {
  /** Bytes of the space that it is through with, and that are mapped in all. */
  readonly done: number;
  readonly total: number;
  /** Bytes of contents that were written. */
  readonly written: number;
}
/** How a space is saved in turns of the event loop. */
export interface SaveAsyncOptions extends SaveOptions {
  /** Ends it: the promise rejects with the signal's reason, and no file is left. */
  readonly signal?: AbortSignal;
  /** Called from the event loop now and then, and at the end. */
  readonly onProgress?: (progress: SaveProgress) => void;
}
/** How far loading has come. */
export interface LoadProgress {
  /** Bytes of contents that were read, and that the file has in all. */
  readonly done: number;
  readonly total: number;
}
/** How a space is loaded in turns of the event loop. */
export interface LoadAsyncOptions {
  /** Ends it: the promise rejects with the signal's reason, and nothing is mapped. */
  readonly signal?: AbortSignal;
  /** Called from the event loop now and then, and at the end. */
  readonly onProgress?: (progress: LoadProgress) => void;
}
/** What waits, and how long: milliseconds, or true for as long as it takes. Default: not at all. */
export interface WaitOptions {
  readonly wait?: Wait;
}

/** How a window is opened. */
export interface WindowOptions extends WaitOptions {
  /** Whether its views may be written to. Default false. */
  readonly write?: boolean;
}
/** How windows are opened one after another. */
export interface WindowsOptions extends WindowOptions {
  /** Bytes of each; the last one may have fewer. Default 64 KiB. */
  readonly size?: Size;
  /** Where to begin. Default 0. */
  readonly offset?: number;
  /** Bytes in all. Default: to the end. */
  readonly length?: Size;
}

const SPACE: Known = ['limit', 'create'];
const LIMITS: Known = ['resident', 'memlock', 'size'];
const MEMORY: Known = ['length', 'name', 'address', 'align', 'protect', 'inherit'];
const REGION: Known = [...MEMORY, 'file', 'loan', 'shared', 'write', 'offset'];
const SYNC: Known = ['wait', 'invalidate'];
const FORK: Known = ['protect', 'wait', 'windows'];
const SAVE: Known = ['wait', 'windows'];
const SAVE_ASYNC: Known = [...SAVE, 'signal', 'onProgress'];
const LOAD_ASYNC: Known = ['signal', 'onProgress'];
const WINDOW: Known = ['write', 'wait'];
const WINDOWS: Known = [...WINDOW, 'size', 'offset', 'length'];
const WINDOW_BYTES = 64 * 1024;
const FORK_WAIT_MS = 1000;
/** Bytes that an address space has. */
const SPACE_BYTES = 2 ** 43;
/** Addresses have 48 bits. */
const ADDRESSES = 2 ** 48;

/** A size in bytes, from 1 to `max`. Throws EINVAL. */
export function sizeOf(op: string, what: string, size: unknown, max = SPACE_BYTES): number {
  const n = typeof size === 'string' ? kenv_number(size) : size;
  if (typeof n === 'number' && Number.isSafeInteger(n) && n >= 1 && n <= max) return n;
  const why = `is no size: bytes, 1 to ${max}, or a text such as '64M'`;
  throw kmemError(EINVAL, op, `${what} ${shown(size)} ${why}`);
}
function wordOf<T>(op: string, what: string, word: unknown, known: Readonly<Record<string, T>>): T {
  if (typeof word === 'string' && Object.hasOwn(known, word)) return known[word];
  const list = Object.keys(known).join(', ');
  throw kmemError(EINVAL, op, `${what} ${shown(word)}: known are ${list}`);
}
const PROTECTIONS: Readonly<Record<Protection, number>> = {
  none: VM_PROT_NONE,
  r: VM_PROT_READ,
  w: VM_PROT_WRITE,
  rw: VM_PROT_READ | VM_PROT_WRITE,
  rx: VM_PROT_READ | VM_PROT_EXECUTE,
  rwx: VM_PROT_READ | VM_PROT_WRITE | VM_PROT_EXECUTE,
};
/** The VM_PROT_* of a protection. Throws EINVAL. */
export function protectionOf(op: string, word: unknown): number {
  return wordOf(op, 'protection', word, PROTECTIONS);
}
/** The protection of VM_PROT_*. */
export function protectionName(prot: number): Protection {
  const r = prot & VM_PROT_READ ? 'r' : '';
  const w = prot & VM_PROT_WRITE ? 'w' : '';
  const x = prot & VM_PROT_EXECUTE ? 'x' : '';
  return (`${r}${w}${x}` || 'none') as Protection;
}
const ADVICES: Readonly<Record<Advice, number>> = {
  normal: MADV_NORMAL,
  random: MADV_RANDOM,
  sequential: MADV_SEQUENTIAL,
  willneed: MADV_WILLNEED,
  dontneed: MADV_DONTNEED,
  free: MADV_FREE,
};
/** The MADV_* of an advice. Throws EINVAL. */
export function adviceOf(op: string, word: unknown): number {
  return wordOf(op, 'advice', word, ADVICES);
}
const INHERITS: Readonly<Record<Inherit, number>> = {
  share: VM_INHERIT_SHARE,
  copy: VM_INHERIT_COPY,
  none: VM_INHERIT_NONE,
  zero: VM_INHERIT_ZERO,
};
/** The word for VM_INHERIT_*. */
export function inheritName(how: number): Inherit {
  return (Object.keys(INHERITS) as Inherit[]).find((word) => INHERITS[word] === how) ?? 'copy';
}
/** The VM_INHERIT_* of a word. Throws EINVAL. */
export function inheritOf(op: string, word: unknown): number {
  return wordOf(op, 'inherit', word, INHERITS);
}

/** The options of a space, read once; `limit` undefined: none was said. Throws EINVAL. */
export interface SpaceShape {
  readonly limit: number | undefined;
  readonly create: boolean;
}
export function spaceShapeOf(options: SpaceOptions | undefined): SpaceShape {
  checkOptions('space', options, SPACE);
  const { limit, create = true } = options ?? {};
  if (typeof create !== 'boolean') {
    throw kmemError(EINVAL, 'space', `create ${shown(create)} is neither true nor false`);
  }
  return { limit: limit === undefined ? undefined : sizeOf('space', 'limit', limit), create };
}
/** Limits that are to be, in pages; of `resident` 0 is none. Those that are undefined stay. */
export interface LimitsShape {
  readonly resident: number | undefined;
  readonly memlock: number | undefined;
  readonly size: number | undefined;
}
/** The limits that are to be. Throws EINVAL. */
export function limitsShapeOf(options: LimitOptions | undefined): LimitsShape {
  checkOptions('limits', options, LIMITS);
  const { resident, memlock, size } = options ?? {};
  const pages = (what: string, bytes: unknown, none: number): number | undefined => {
    if (bytes === undefined) return undefined;
    if (bytes === Number.POSITIVE_INFINITY) return none;
    return Math.floor(sizeOf('limits', what, bytes) / PAGE_SIZE);
  };
  const most = pages('resident', resident, 0);
  return {
    resident: most === 0 && resident !== Number.POSITIVE_INFINITY ? 1 : most,
    memlock: pages('memlock', memlock, VM_MAP_MAX),
    size: pages('size', size, VM_MAP_MAX),
  };
}
const LOCK_ALL: Known = ['current', 'future'];
/** What is to be locked. */
export interface LockAllOptions {
  /** What is mapped now. Default true. */
  readonly current?: boolean;
  /** What will be mapped. Default false. */
  readonly future?: boolean;
}
/** The MCL_* of lockAll. Throws EINVAL. */
export function lockAllOf(options: LockAllOptions | undefined): number {
  checkOptions('lockAll', options, LOCK_ALL);
  const { current = true, future = false } = options ?? {};
  for (const [what, is] of Object.entries({ current, future })) {
    if (typeof is === 'boolean') continue;
    throw kmemError(EINVAL, 'lockAll', `${what} ${shown(is)} is neither true nor false`);
  }
  if (!current && !future) throw kmemError(EINVAL, 'lockAll', 'neither current nor future');
  return (current ? MCL_CURRENT : 0) | (future ? MCL_FUTURE : 0);
}
/** A file that is wanted. */
export interface FileShape {
  readonly path: string;
  readonly shared: boolean;
  readonly write: boolean;
  readonly offset: number;
}
/** A region that is wanted, its options read once. */
export interface RegionShape {
  /** 0, of a file: to its end. */
  readonly length: number;
  readonly name: string;
  /** -1: anywhere. */
  readonly address: number;
  readonly prot: number;
  readonly inherit: number;
  /** Of superpages, where they can be. */
  readonly superpages: boolean;
  /** Undefined: memory. */
  readonly file: FileShape | undefined;
  /** Undefined: none. */
  readonly loan: Loan | undefined;
}
const SUPER_BYTES = VM_SUPER_PAGES * PAGE_SIZE;
/** Whether superpages are asked for. Throws EINVAL: by another word, or where none can lie. */
function superpagesOf(align: unknown, address: number, offset: number): boolean {
  if (align === undefined) return false;
  if (align !== 'super') throw kmemError(EINVAL, 'mmap', `align ${shown(align)}: known is 'super'`);
  if (address < 0 || (address - offset) % SUPER_BYTES === 0) return true;
  const than =
    offset === 0 ? '' : `, or ${offset % SUPER_BYTES} bytes behind one, as its offset is`;
  const why = `align 'super' wants a multiple of ${SUPER_BYTES}${than}`;
  throw kmemError(EINVAL, 'mmap', `address ${address}: ${why}`);
}
/** Throws EINVAL, ENAMETOOLONG. */
export function regionShapeOf(options: RegionOptions): RegionShape {
  if (options === undefined) throw kmemError(EINVAL, 'mmap', 'options: give the length, or a file');
  checkOptions('mmap', options, REGION);
  const { name, address, align, protect, inherit, loan } = options;
  const length = loan === undefined ? options.length : loanLength(options);
  const file = fileShapeOf(options);
  if (name !== undefined) checkName('mmap', name);
  if (address !== undefined) {
    const good = Number.isSafeInteger(address) && address >= 0 && address < ADDRESSES;
    if (!good || address % PAGE_SIZE !== 0) {
      const why = `is no multiple of ${PAGE_SIZE} below 2^48`;
      throw kmemError(EINVAL, 'mmap', `address ${shown(address)} ${why}`);
    }
  }
  if (file !== undefined && protect !== undefined) {
    throw kmemError(EINVAL, 'mmap', 'protect: what may be done with a file is said by write');
  }
  if (file?.shared === true && inherit !== undefined && inherit !== 'share' && inherit !== 'none') {
    const why = 'a file that is shared is so with forks, or they have none of it';
    throw kmemError(EINVAL, 'mmap', `inherit ${shown(inherit)}: ${why}`);
  }
  const { prot, forks } = file === undefined ? { prot: 'rw', forks: 'copy' } : defaults(file);
  return {
    length: file !== undefined && length === undefined ? 0 : sizeOf('mmap', 'length', length),
    name: name ?? '',
    address: address ?? -1,
    prot: protectionOf('mmap', protect ?? prot),
    inherit: inheritOf('mmap', inherit ?? forks),
    superpages: superpagesOf(align, address ?? -1, file?.offset ?? 0),
    file,
    loan,
  };
}
/** Bytes of a loan that is to be mapped. Throws EINVAL. */
function loanLength({ loan, length, file }: RegionOptions): number {
  if (!(loan instanceof Loan)) throw kmemError(EINVAL, 'mmap', `loan ${shown(loan)} is none`);
  const other = file !== undefined ? 'file' : length !== undefined ? 'length' : '';
  if (other === '') return loan.length;
  throw kmemError(EINVAL, 'mmap', `${other}: what a loan shows is as long as it, and no file`);
}
function defaults({ shared, write }: FileShape): { prot: Protection; forks: Inherit } {
  return { prot: write ? 'rw' : 'r', forks: shared ? 'share' : 'copy' };
}
/** The file among the options of a region; undefined: none. */
function fileShapeOf(options: RegionOptions): FileShape | undefined {
  const { file, shared, write, offset } = options;
  if (file === undefined) {
    const of = Object.entries({ shared, write, offset }).find(([, value]) => value !== undefined);
    if (of === undefined) return undefined;
    throw kmemError(EINVAL, 'mmap', `${of[0]}: it is for a file: give its path as file`);
  }
  if (typeof file !== 'string' || file === '' || file.includes('\0')) {
    throw kmemError(EINVAL, 'mmap', `file ${shown(file)} is no path`);
  }
  const at = offset === undefined || offset === 0 ? 0 : sizeOf('mmap', 'offset', offset);
  if (at % PAGE_SIZE !== 0) {
    throw kmemError(EINVAL, 'mmap', `offset ${shown(offset)} is no multiple of ${PAGE_SIZE}`);
  }
  return {
    path: file,
    shared: booleanOf('mmap', 'shared', shared === undefined ? true : shared),
    write: booleanOf('mmap', 'write', write),
    offset: at,
  };
}
/** How a file is to be written. */
export interface SyncOptions {
  /** Until it is kept, come what may; else until the host has it. Default true. */
  readonly wait?: boolean;
  /** Its pages leave the memory, and are read again when they are used. Default false. */
  readonly invalidate?: boolean;
}
/** The same, read once. Throws EINVAL. */
export function syncShapeOf(options: SyncOptions | undefined): Required<SyncOptions> {
  checkOptions('sync', options, SYNC);
  const { wait, invalidate } = options ?? {};
  return {
    wait: booleanOf('sync', 'wait', wait === undefined ? true : wait),
    invalidate: booleanOf('sync', 'invalidate', invalidate),
  };
}
/** How to fork, read once; `prot`: what may be done with the copy at most. Throws EINVAL. */
export interface ForkShape {
  readonly prot: number;
  readonly ms: number;
  readonly refuse: boolean;
}
export function forkShapeOf(op: string, options: ForkOptions | undefined): ForkShape {
  checkOptions(op, options, FORK);
  const { protect, wait, windows } = options ?? {};
  return {
    prot: protect === undefined ? VM_PROT_ALL : protectionOf(op, protect),
    ...cutShapeOf(op, wait, windows),
  };
}
function cutShapeOf(
  op: string,
  wait: unknown = FORK_WAIT_MS,
  windows: unknown = 'copy',
): { ms: number; refuse: boolean } {
  const ms = checkWait(op, wait);
  if (typeof ms !== 'number') {
    throw kmemError(EINVAL, op, `wait ${shown(wait)} is no number of milliseconds`);
  }
  return { ms, refuse: wordOf(op, 'windows', windows, { copy: false, refuse: true }) };
}
/** How to save, read once. Throws EINVAL. */
export interface SaveShape {
  readonly ms: number;
  readonly refuse: boolean;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((progress: SaveProgress) => void) | undefined;
}
export function saveShapeOf(
  op: string,
  options: SaveOptions | SaveAsyncOptions | undefined,
  inTurns: boolean,
): SaveShape {
  checkOptions(op, options, inTurns ? SAVE_ASYNC : SAVE);
  const { wait, windows, signal, onProgress }: SaveAsyncOptions = options ?? {};
  checkSignal(op, signal);
  if (onProgress !== undefined) checkFunction(op, onProgress);
  return { ...cutShapeOf(op, wait, windows), signal, onProgress };
}
/** How to load, read once. Throws EINVAL. */
export function loadShapeOf(op: string, options: LoadAsyncOptions | undefined): LoadAsyncOptions {
  checkOptions(op, options, LOAD_ASYNC);
  const { signal, onProgress } = options ?? {};
  checkSignal(op, signal);
  if (onProgress !== undefined) checkFunction(op, onProgress);
  return { signal, onProgress };
}
/** How to open a window, read once. Throws EINVAL. */
export function windowShapeOf(
  op: string,
  options: WindowOptions | undefined,
  known = WINDOW,
): { write: boolean; ms: number } {
  checkOptions(op, options, known);
  const { write, wait } = options ?? {};
  return { write: booleanOf(op, 'write', write), ms: waitMs(op, { wait }) };
}
/** How to open windows on a region of `most` bytes. Throws EINVAL. */
export function windowsShapeOf(
  options: WindowsOptions | undefined,
  most: number,
): { size: number; offset: number; length: number; write: boolean; ms: number } {
  const how = windowShapeOf('windows', options, WINDOWS);
  const { size = WINDOW_BYTES, offset = 0, length } = options ?? {};
  if (!wholeIn(offset, 0, most)) {
    throw kmemError(EINVAL, 'windows', `offset ${shown(offset)} is none of 0 to ${most}`);
  }
  return {
    ...how,
    size: sizeOf('windows', 'size', size),
    offset,
    length: length === undefined ? most - offset : sizeOf('windows', 'length', length),
  };
}
/** How long to wait, ms, read once. Throws EINVAL. */
export function waitMs(op: string, options: WaitOptions | undefined): number {
  const wait = waitOf(op, options);
  if (wait === true) return Number.POSITIVE_INFINITY;
  return wait === false ? 0 : wait;
}
