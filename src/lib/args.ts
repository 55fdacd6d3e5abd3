/*
 * args: what programs pass, looked at before anything is done.
 *
 *      const wait = waitOf('alloc', options)       read once, before the first lock
 *      if (!whole(n)) ... `${shown(n)} is no ...`  whatever it is: EINVAL, in one line
 *
 * Each kind of check is made here and nowhere else: whole numbers, timeouts, options,
 * functions, bytes.  An argument may be anything: NaN, a symbol, a bigint, an object
 * with a getter that throws, a Proxy.  It is looked at by typeof and comparison, never
 * converted, so that no code of the program runs in the middle of a call; an option is
 * read once, at the start of the call.  An option whose name the call does not know is
 * refused: a slip of the pen would otherwise be no option at all.  Messages show
 * primitive values, on one line, and of an object its kind.
 *
 * Fast paths call nothing of this: they come here when their own comparison has failed.
 */
import { EINVAL } from '../sys/machine/errno.ts';
import { kmemError } from './errors.ts';

/** What a wrong argument is, for a message. */
export function what(value: unknown): string {
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value !== 'object' && typeof value !== 'function') return String(value);
  if (value === null) return 'null';
  try {
    const { name } = value.constructor;
    return typeof name === 'string' && name !== '' ? name : 'an object';
  } catch {
    return 'an object'; // none of its own, or it does not let itself be looked at
  }
}
/** A value as the program wrote it. */
export function shown(value: unknown): string {
  return typeof value === 'string' ? `'${value}'` : what(value);
}
/** Whether it is a whole number from 0 on. */
export function whole(n: unknown): n is number {
  return typeof n === 'number' && Number.isSafeInteger(n) && n >= 0;
}
/** Whether it is a whole number in that range. */
export function wholeIn(n: unknown, from: number, to: number): n is number {
  return whole(n) && n >= from && n <= to;
}
/** Throws EINVAL for what cannot be called. */
export function checkFunction(op: string, fn: unknown): void {
  if (typeof fn !== 'function') throw kmemError(EINVAL, op, `${shown(fn)} is no function`);
}

// --- options ---------------------------------------------------------------------------

/** Names of the options that a call knows. */
export type Known = readonly string[];
const WAIT: Known = ['wait'];
const TIMEOUT: Known = ['timeout'];
const ASYNC: Known = ['signal', 'timeout'];
/** Options of try calls. */
export const ZERO: Known = ['zero'];
/** Options of alloc. */
export const ALLOC: Known = ['zero', 'wait'];
/** Options of alloc of a type. */
export const ALLOC_BLOCK: Known = ['zero', 'wait', 'contiguous'];
/** Options of allocAsync. */
export const ALLOC_ASYNC: Known = ['zero', 'signal', 'timeout'];

/** Throws EINVAL for options that are no object; none are as good as empty ones. */
export function checkObject(op: string, options: unknown): void {
  if (options === undefined || (typeof options === 'object' && options !== null)) return;
  throw kmemError(EINVAL, op, `options: ${shown(options)} is no object`);
}
/**
 * Throws EINVAL for options that are no object, or that have a name which the call does
 * not know; none are as good as empty ones.  The message calls each a `noun`.
 */
export function checkOptions(
  op: string,
  options: object | undefined,
  known: Known,
  noun = 'option',
): void {
  checkObject(op, options);
  for (const name in options) {
    let i = known.length - 1;
    while (i >= 0 && known[i] !== name) i--; // includes() takes longer than all the rest
    if (i < 0 && !(name in Object.prototype)) unknownOption(op, name, known, noun);
  }
}
function unknownOption(op: string, name: string, known: Known, noun: string): never {
  const text = `${noun} ${shown(name)}: there is no such ${noun}; known: ${known.join(', ')}`;
  throw kmemError(EINVAL, op, text);
}
/** An option that is true or false, as it was read; false if there is none. Throws EINVAL. */
export function booleanOf(op: string, name: string, value: unknown): boolean {
  if (value === undefined || typeof value === 'boolean') return value ?? false;
  throw kmemError(EINVAL, op, `${name} ${shown(value)} is neither true nor false`);
}
/** Throws EINVAL for a timeout that is no time. */
export function checkTimeout(op: string, ms: unknown): void {
  if (ms === undefined || (typeof ms === 'number' && ms >= 0)) return;
  throw kmemError(EINVAL, op, `timeout ${shown(ms)} is no number of milliseconds from 0 on`);
}
/** The timeout among options, read once; Infinity if there is none. Throws EINVAL. */
export function timeoutOf(op: string, options: { readonly timeout?: number } | undefined): number {
  if (options === undefined) return Number.POSITIVE_INFINITY;
  checkOptions(op, options, TIMEOUT);
  const { timeout } = options;
  checkTimeout(op, timeout);
  return timeout ?? Number.POSITIVE_INFINITY;
}
/** How long a call may take: true is as long as it takes, a number is milliseconds. */
export type Wait = boolean | number;
/** The option `wait`, read once; 0 stands for none. Throws EINVAL for what is no Wait. */
export function waitOf(
  op: string,
  options: { readonly wait?: Wait } | undefined,
  known: Known = WAIT,
): Wait {
  if (options === undefined) return false;
  checkOptions(op, options, known);
  return checkWait(op, options.wait);
}
/** A Wait, false if there is none. Throws EINVAL for what is no Wait. */
export function checkWait(op: string, wait: unknown): Wait {
  if (wait === undefined || typeof wait === 'boolean') return wait ?? false;
  if (typeof wait === 'number' && wait >= 0) return wait;
  throw kmemError(EINVAL, op, `wait ${shown(wait)} is neither true nor milliseconds from 0 on`);
}
/** Options of a wait in the event loop. */
export interface AsyncOptions {
  /** Ends the wait: the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Longest wait, ms; the promise rejects with ETIMEDOUT. Default: as long as it takes. */
  readonly timeout?: number;
}
/** They, read once. Throws EINVAL. */
export function asyncOptionsOf(
  op: string,
  options: AsyncOptions | undefined,
  known: Known = ASYNC,
): AsyncOptions {
  if (options === undefined) return {};
  checkOptions(op, options, known);
  const { signal, timeout } = options;
  checkTimeout(op, timeout);
  checkSignal(op, signal);
  return { signal, timeout };
}
/** Throws EINVAL for a signal that is none. */
export function checkSignal(op: string, signal: unknown): void {
  if (signal === undefined || signal instanceof AbortSignal) return;
  // One of another realm, or of a library that makes its own.
  if (typeof signal === 'object' && signal !== null && 'addEventListener' in signal) return;
  throw kmemError(EINVAL, op, `signal: ${shown(signal)} is no AbortSignal`);
}

// --- bytes -----------------------------------------------------------------------------

/** Something that can be copied in. */
export type Source = ArrayBufferLike | ArrayBufferView;
/** Whether it is a Uint8Array, and no Proxy of one. */
export function isBytes(value: unknown): value is Uint8Array {
  return ArrayBuffer.isView(value) && value instanceof Uint8Array;
}
/** A view of the bytes of a view or buffer. Throws EINVAL for others, and for lost ones. */
export function bytesOf(op: string, from: Source): Uint8Array {
  if (isBytes(from) && from.length > 0) return from; // to ask for its buffer would cost
  const view = ArrayBuffer.isView(from);
  if (!view && !isBuffer(from))
    throw kmemError(EINVAL, op, `${shown(from)} is no bytes: give a view or a buffer`);
  const buffer = view ? from.buffer : from;
  if ((buffer as { detached?: boolean }).detached === true) transferred(op);
  if (!view) return new Uint8Array(from);
  if (isBytes(from)) return from;
  try {
    return new Uint8Array(from.buffer, from.byteOffset, from.byteLength);
  } catch {
    return transferred(op);
  }
}
function transferred(op: string): never {
  throw kmemError(EINVAL, op, 'the ArrayBuffer was transferred, or has shrunk: the bytes are gone');
}
/** The getters of byteLength: they throw for all but buffers, those of other realms included. */
const LENGTHS = [ArrayBuffer, globalThis.SharedArrayBuffer]
  .filter((kind) => kind !== undefined)
  .map(({ prototype }) => Object.getOwnPropertyDescriptor(prototype, 'byteLength')?.get);
function isBuffer(value: unknown): value is ArrayBufferLike {
  return LENGTHS.some((length) => {
    try {
      return length?.call(value) !== undefined;
    } catch {
      return false;
    }
  });
}
