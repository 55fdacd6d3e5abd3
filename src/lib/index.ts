/*
 * kmem: one heap, typed records, named roots and locks for all threads of a program.
 *
 *      import { boot, attach } from 'kmem';
 *
 *      using machine = boot({ memory: '256M' });        in the first thread
 *      using machine = attach(workerData);              in each worker
 *
 *      machine.type('x')      blocks of any size, counted by type
 *      machine.zone('x', …)   items of one size, with a limit
 *      machine.records(…)     typed records in columns
 *      machine.chain(…)       buffers in pieces that chains and threads share
 *      machine.space(…)       an address space: paged, copied on write
 *      machine.roots          named words
 *      machine.mutex(…)       and rwlock, condition, queue: by name, over all threads
 *
 * This file lists what there is; each thing is explained where it is made.  core.ts is
 * the smaller entry, with the same functions.
 */
/// <reference lib="esnext.disposable" preserve="true" />
import './whole.ts';

export { attach, boot, current, Machine } from './machine.ts';
export type { BootOptions, DumpResult, Handle } from './machine.ts';
export type { DebugLevel } from '../sys/boot/debug_level.ts';
export type { Listener, ListenOptions } from './listen.ts';
export type { DumpOptions } from './dump.ts';
export { assertNoLeaks, leaks, testMachine, withMachine } from './testing.ts';
export type { TestContext } from './testing.ts';
export { ERRORS } from './error_table.ts';
export type { ErrorEntry } from './error_table.ts';
export { KernelPanic, KmemError } from './errors.ts';
export type { AccessReason, ErrorDetails, Holder, Leak, MemoryReason } from './errors.ts';
export type { Address, Item, Place, Source } from './memory.ts';
export type {
  AllocAsyncOptions,
  AllocOptions,
  Block,
  BlockOptions,
  MallocType,
  TypeStats,
} from './type.ts';
export type { Zone, ZoneOptions, ZoneStats } from './zone.ts';
export type {
  Columns,
  FieldKind,
  Fields,
  ItemHandle,
  ItemOf,
  Records,
  RecordSet,
  RecordsOptions,
  Values,
} from './records.ts';
export type { Chain } from './chain.ts';
export type { AdoptOptions, ChainOptions, ChainSource, HostBuffer } from './chain_args.ts';
export { readableChains, writableChains } from './chain_web.ts';
export type { ReadableChainsOptions, WritableChainsOptions } from './chain_web.ts';
export type { SiteCount } from '../sys/client/mbuf_leak.ts';
export type { Roots } from './roots.ts';
export type { Condition, LockOptions, Mutex, RwLock } from './locks.ts';
export type { Queue, QueueOf, QueueOptions, QueueWait, ValueOf } from './queue.ts';
export type { MemoryStats } from './memory_stats.ts';
export type { RegionInfo, Space } from './space.ts';
export type { SavedSpace } from './space_file.ts';
export type { Region } from './region.ts';
export type { Loan } from './loan.ts';
export type { BlockWindow, Window } from './window.ts';
export type { ArrayKind, PagedArray } from './paged_array.ts';
export type {
  Advice,
  ContiguousOptions,
  ForkOptions,
  Inherit,
  LimitOptions,
  LockAllOptions,
  LoadAsyncOptions,
  LoadProgress,
  Protection,
  RegionOptions,
  SaveAsyncOptions,
  SaveOptions,
  SaveProgress,
  Size,
  SpaceLimits,
  SpaceOptions,
  WaitOptions,
  WindowOptions,
  WindowsOptions,
} from './space_args.ts';
export type { SwapOptions } from './swap_calls.ts';
export type { SwapInfo, SwapKind } from '../sys/observe/swap_info.ts';
export type { Stats, TypeRow } from './stats.ts';
export type { SysctlInfo, SysctlValue } from './sysctl.ts';
export type { Metric, MetricsOptions, OtelApi } from './metrics.ts';
export type { AsyncOptions, Wait } from './wait.ts';
export type { WorkerLike, WorkerOptions } from './host.ts';
export { CHANNEL_NAMES } from './channels.ts';
