/*
 * parts: what a machine can do that a small program does without.
 *
 *      kmem/core  ─── machine.ts ──── parts.ts        calls of a part that is not there: EOPNOTSUPP
 *      kmem       ─── whole.ts ───────────┘           fills the table with all of them
 *
 * A page pays for every byte that it loads, and seldom wants address spaces, chains of buffers, a
 * control socket, dumps, metrics or the tables of vmstat.  The class Machine has calls for all of
 * them; what runs them is looked up here, by the name of the call.  The entry `kmem` fills the
 * table when it is loaded, `kmem/core` leaves it empty: a program that loaded the core alone has
 * all calls from the moment on at which it has loaded the rest (`await import('kmem')`).
 *
 * The kernel is the same with both, so that a thread with the core alone and one with everything
 * may share a machine: each settles what the other leaves when it dies.
 */
import { EOPNOTSUPP } from '../sys/machine/errno.ts';
import type { SiteCount } from '../sys/client/mbuf_leak.ts';
import type { DumpResult } from '../sys/observe/kern_dump.ts';
import type { Chain } from './chain.ts';
import type { ChainOptions, ChainSource } from './chain_args.ts';
import type { Context } from './context.ts';
import type { DumpOptions } from './dump.ts';
import { kmemError } from './errors.ts';
import type { blockWindow, Kva } from './kva.ts';
import type { Listener, ListenOptions } from './listen.ts';
import type { Metric, MetricsOptions, OtelApi } from './metrics.ts';
import type { Space } from './space.ts';
import type { ContiguousOptions, Size, SpaceOptions } from './space_args.ts';
import type { Stats } from './stats.ts';
import type { SwapInfo } from '../sys/observe/swap_info.ts';
import type { SwapOptions } from './swap_calls.ts';
import type { Block } from './type.ts';

/** What runs a call of Machine, by the name of the call. */
export interface Parts {
  readonly chain: (ctx: Context, source?: ChainSource, options?: ChainOptions) => Chain;
  readonly space: (ctx: Context, name: string, options?: SpaceOptions) => Space;
  /** The walkers of address spaces, which check() runs. */
  readonly checkSpaces: () => void;
  readonly contiguous: (ctx: Context, bytes: Size, options?: ContiguousOptions) => Block;
  readonly adoptChain: (ctx: Context, released: number) => Chain;
  readonly chainSites: () => SiteCount[];
  readonly stats: () => Stats;
  /** Looks at the letter, and gives what runs in the kernel. */
  readonly vmstat: (what: 'm' | 'z' | 'o' | 's') => () => string;
  readonly netstat: () => string;
  readonly procstat: () => string;
  /** Reads the options, and gives what runs in the kernel. */
  readonly collect: (options?: MetricsOptions) => () => string;
  /** The same. */
  readonly metrics: (options?: MetricsOptions) => () => Metric[];
  readonly observe: (ctx: Context, api: OtelApi, options?: MetricsOptions) => Disposable;
  readonly listen: (ctx: Context, up: () => boolean, given: ListenOptions) => Promise<Listener>;
  readonly swapon: (ctx: Context, path: string, options?: SwapOptions) => SwapInfo;
  readonly swapoff: (ctx: Context, path: string) => void;
  readonly swaps: (ctx: Context) => SwapInfo[];
  /** Reads the options, and gives what runs in the kernel. */
  readonly dump: (path: string, options?: DumpOptions) => () => DumpResult;
  /** An error that nobody catches leaves a dump. */
  readonly hearUncaught: () => void;
  /** Blocks beyond the memory. */
  readonly kva: () => Kva;
  readonly window: typeof blockWindow;
}

const parts: Partial<Parts> = {};

/** Has all calls of Machine from now on. */
export function partsAre(all: Parts): void {
  Object.assign(parts, all);
}
/** The same where it may be done without: undefined if it is not there. */
export function partIfThere<K extends keyof Parts>(call: K): Parts[K] | undefined {
  return parts[call];
}
/** What runs the call. Throws EOPNOTSUPP if the program has loaded the core alone. */
export function part<K extends keyof Parts>(call: K): Parts[K] {
  const run = parts[call];
  if (run !== undefined) return run;
  const text = "kmem/core leaves this call out: load it first, with await import('kmem')";
  throw kmemError(EOPNOTSUPP, call, text);
}
