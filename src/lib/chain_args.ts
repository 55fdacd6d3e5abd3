/*
 * chain_args: what programs pass to chains, looked at before anything is done.
 *
 * A wrong argument is refused by one line that says what it was: a chain is never
 * half changed by it.  Bytes come as any view or buffer, shared or not; a text is
 * stored as UTF-8, where half a surrogate pair becomes U+FFFD.
 */
import { EINVAL } from '../sys/machine/errno.ts';
import { kmemError } from './errors.ts';
import { type Source, textBytes } from './memory.ts';

/** What can be copied into a chain: bytes, or a text as UTF-8. */
export type ChainSource = string | Source;
/** The bytes of a source: a view of it, or the UTF-8 of a text. */
export function sourceBytes(op: string, source: ChainSource): Uint8Array {
  if (source instanceof Uint8Array) {
    return source.length === 0 && detached(source.buffer) ? transferred(op) : source;
  }
  if (typeof source === 'string') return textBytes(source);
  if (ArrayBuffer.isView(source)) {
    try {
      return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
    } catch {
      return transferred(op);
    }
  }
  if (Object.prototype.toString.call(source).endsWith('ArrayBuffer]')) {
    return detached(source) ? transferred(op) : new Uint8Array(source);
  }
  throw kmemError(EINVAL, op, `${what(source)} is neither bytes nor a text`);
}
/** What a wrong argument is, for a message. */
export function what(value: unknown): string {
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value !== 'object' && typeof value !== 'function') return String(value);
  return value === null ? 'null' : (value.constructor?.name ?? 'an object');
}
function detached(buffer: ArrayBufferLike): boolean {
  return (buffer as { detached?: boolean }).detached === true;
}
function transferred(op: string): never {
  throw kmemError(EINVAL, op, 'the ArrayBuffer was transferred, or has shrunk: the bytes are gone');
}
/** A number as the program wrote it. */
export function shown(value: unknown): string {
  return typeof value === 'number'
    ? `${value}`
    : typeof value === 'string'
      ? `'${value}'`
      : what(value);
}
/** Whether it is a whole number from 0 on. */
export function whole(n: number): boolean {
  return Number.isInteger(n) && n >= 0;
}
