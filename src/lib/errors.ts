/*
 * errors: what a program sees when something cannot be done.
 *
 * Ordinary failure is a KmemError: `code` is the name of the errno, `op` the
 * call that failed, and further fields say what about (type, zone, address,
 * size).  A broken machine is a KernelPanic, which no program should catch to
 * go on.  error_table.ts has the one table of codes.
 *
 *      try { cache.alloc(1 << 20) } catch (e) {
 *        if (e instanceof KmemError && e.code === 'ENOMEM') evict(e.freeBytes);
 *        else throw e;
 *      }
 */
import { KmemError as KernelError } from '../sys/machine/errno.ts';
import type { Holder } from '../sys/kmem/kern_holders.ts';

export type { Holder } from '../sys/kmem/kern_holders.ts';
export { KernelPanic } from '../sys/machine/panic.ts';

/** Why a request for memory failed. */
export type MemoryReason = 'full' | 'fragmented' | 'too large' | 'limit';

/** Why bytes of an address space could not be used. */
export type AccessReason = 'unmapped' | 'protection' | 'outside' | 'beyond-end-of-file' | 'io';

/** One thing that is still in use where nothing should be. */
export interface Leak {
  /** What it is. */
  readonly kind: 'type' | 'zone' | 'records' | 'queue' | 'mbuf' | 'chain' | 'space' | 'window';
  /** Its name; of windows, their space's; of chains, the place in the program that made them. */
  readonly name: string;
  /** Blocks, items, values, buffers, spaces, windows, or chains made at the place `name`. */
  readonly count: number;
  /** Bytes that these take. */
  readonly bytes: number;
}

/** What an error says beyond its code. Which fields are there depends on the code. */
export interface ErrorDetails {
  /** ENOMEM: 'full', 'fragmented', 'too large' or 'limit'; of an address space, AccessReason. */
  readonly reason?: MemoryReason | AccessReason;
  /** Bytes asked for. */
  readonly size?: number;
  /** Bytes in free pages at the time of the failure. */
  readonly freeBytes?: number;
  /** Bytes in the longest run of free pages: no larger block can be had. */
  readonly longestRun?: number;
  /**
   * ENOMEM: who holds most of the memory, up to three, the largest first; of address spaces, those
   * that this thread uses.
   */
  readonly holders?: readonly Holder[];
  /** Byte address the call was about. */
  readonly address?: number;
  /** Of a guarded block: where it was allocated, and freed; frames, [] if that is not known. */
  readonly allocatedAt?: readonly string[];
  readonly freedAt?: readonly string[];
  /** Name of the malloc type. */
  readonly type?: string;
  /** Name of the address space. */
  readonly space?: string;
  /** Name of the region in it; '' if it has none. */
  readonly region?: string;
  /** Bytes that a call over several pages had done when it failed. */
  readonly done?: number;
  /** Name of the zone or of the records. */
  readonly zone?: string;
  /** assertNoLeaks: what was still in use. */
  readonly leaks?: readonly Leak[];
}

/** An error of the machine or of a bad argument: `code`, `errno`, `op`, and details. */
export type KmemError = KernelError & ErrorDetails;
/** The class itself, for `instanceof`: the one that the kernel throws too. */
export const KmemError: {
  new (errno: number, op: string, text: string): KmemError;
  readonly prototype: KmemError;
} = KernelError;

/** A KmemError with details. */
export function kmemError(
  errno: number,
  op: string,
  text: string,
  details: ErrorDetails = {},
): KmemError {
  return Object.assign(new KernelError(errno, op, text), details);
}
