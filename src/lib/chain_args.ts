/*
 * chain_args: what programs pass to chains and get from them, as bytes.
 *
 * A wrong argument is refused by one line that says what it was: a chain is never
 * half changed by it.  Bytes come as any view or buffer, shared or not; a text is
 * stored as UTF-8, where half a surrogate pair becomes U+FFFD.
 */
import { bytesOf, type Known, type Source, type Wait } from './args.ts';
import { type Address, textBytes } from './memory.ts';
import type { Chain } from './chain.ts';
import type { MallocType } from './type.ts';

/** What can be copied into a chain: bytes, or a text as UTF-8. */
export type ChainSource = string | Source;
/** The bytes of a source: a view of it, or the UTF-8 of a text. Throws EINVAL. */
export function sourceBytes(op: string, source: ChainSource): Uint8Array {
  return typeof source === 'string' ? textBytes(source) : bytesOf(op, source);
}
/** How a loan becomes part of a chain (loan.ts). */
export const LENT: unique symbol = Symbol('lent');
/** Memory that was lent: a chain takes it without a copy. */
export interface Lent {
  [LENT](op: string): Chain;
}
export function isLent(source: unknown): source is Lent {
  return typeof source === 'object' && source !== null && LENT in source;
}
export interface ChainOptions {
  /** Waits for memory: true as long as it takes, or so many milliseconds. Default: never. */
  readonly wait?: Wait;
}
/** Names of AdoptOptions. */
export const ADOPT: Known = ['offset', 'front'];
/** How a block becomes part of a chain. */
export interface AdoptOptions {
  /** Where in the block the bytes begin. Default 0. */
  readonly offset?: number;
  /** The bytes go in front of the chain instead of behind it. Default false. */
  readonly front?: boolean;
}
/** Bytes of a block that become part of a chain. */
export interface Adopted extends Required<AdoptOptions> {
  readonly type: MallocType;
  readonly address: Address;
  /** Bytes that the block really has. */
  readonly size: number;
  readonly n: number;
}
/** A Buffer where the host has them (Node), else a Uint8Array. */
export type HostBuffer = typeof globalThis extends {
  Buffer: { alloc(size: number): infer B };
}
  ? B
  : Uint8Array<ArrayBuffer>;
/** -1, 0 or 1: how bytes in pieces sort before, with or behind others. */
export function compareBytes(a: readonly Uint8Array[], b: readonly Uint8Array[]): -1 | 0 | 1 {
  let [i, j, x, y] = [0, 0, 0, 0];
  while (i < a.length && j < b.length) {
    const n = Math.min(a[i].length - x, b[j].length - y);
    for (let k = 0; k < n; k++) {
      const by = a[i][x + k] - b[j][y + k];
      if (by !== 0) return by < 0 ? -1 : 1;
    }
    x += n;
    y += n;
    if (x === a[i].length) [i, x] = [i + 1, 0];
    if (y === b[j].length) [j, y] = [j + 1, 0];
  }
  if (i < a.length) return 1;
  return j < b.length && b[j].length > y ? -1 : 0;
}
