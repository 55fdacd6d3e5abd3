/*
 * args: what programs pass, looked at before anything is done.
 *
 *      const wait = waitOf('alloc', options)       read once, before the first lock
 *      if (!whole(n)) ... `${shown(n)} is no ...`  whatever it is: EINVAL, in one line
 *
 * An argument may be anything: NaN, a symbol, a bigint, an object with a getter that
 * throws, a Proxy.  It is looked at by typeof and comparison, never converted, so
 * that no code of the program runs in the middle of a call; an option is read once,
 * at the start of the call.  Messages show primitive values, and of an object its kind.
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
/** Throws EINVAL for options that are no object; none are as good as empty ones. */
export function checkOptions(op: string, options: unknown): void {
  if (options === undefined || (typeof options === 'object' && options !== null)) return;
  throw kmemError(EINVAL, op, `options: ${shown(options)} is no object`);
}
/** Throws EINVAL for a timeout that is no time. */
export function checkTimeout(op: string, ms: unknown): void {
  if (ms === undefined || (typeof ms === 'number' && ms >= 0)) return;
  throw kmemError(EINVAL, op, `timeout ${shown(ms)} is no number of milliseconds from 0 on`);
}
/** The timeout among options, read once; Infinity if there is none. Throws EINVAL. */
export function timeoutOf(op: string, options: { readonly timeout?: number } | undefined): number {
  if (options === undefined) return Number.POSITIVE_INFINITY;
  checkOptions(op, options);
  const { timeout } = options;
  checkTimeout(op, timeout);
  return timeout ?? Number.POSITIVE_INFINITY;
}
/** How long a call may take: true is as long as it takes, a number is milliseconds. */
export type Wait = boolean | number;
/** The option `wait`, read once; 0 stands for none. Throws EINVAL for what is no Wait. */
export function waitOf(op: string, options: { readonly wait?: Wait } | undefined): Wait {
  if (options === undefined) return false;
  checkOptions(op, options);
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
  /** Longest wait, ms; the promise rejects with ETIMEDOUT. */
  readonly timeout?: number;
}
/** They, read once. Throws EINVAL. */
export function asyncOptionsOf(op: string, options: AsyncOptions | undefined): AsyncOptions {
  if (options === undefined) return {};
  checkOptions(op, options);
  const { signal, timeout } = options;
  checkTimeout(op, timeout);
  checkSignal(op, signal);
  return { signal, timeout };
}
function checkSignal(op: string, signal: unknown): void {
  if (signal === undefined || signal instanceof AbortSignal) return;
  // One of another realm, or of a library that makes its own.
  if (typeof signal === 'object' && signal !== null && 'addEventListener' in signal) return;
  throw kmemError(EINVAL, op, `signal: ${shown(signal)} is no AbortSignal`);
}
