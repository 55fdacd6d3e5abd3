/*
 * core: the entry for pages that count bytes.
 *
 *      import { boot, attach } from 'kmem/core';
 *
 *      machine.type, zone, records, roots, mutex, rwlock, condition, queue, sysctl, worker ...
 *      await import('kmem');          from here on chains, metrics, vmstat and all others
 *
 * The functions and the class are those of `kmem`, which can be loaded beside it, sooner or
 * later; parts.ts lists the calls that throw EOPNOTSUPP until it is.  A bundler makes the rest
 * a file of its own that way.
 */
/// <reference lib="esnext.disposable" preserve="true" />
export { attach, boot, current } from './machine.ts';
export type { BootOptions, Handle, Machine } from './machine.ts';
export { KernelPanic, KmemError } from './errors.ts';
export type { ErrorDetails, Holder, MemoryReason } from './errors.ts';
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
export type { Roots } from './roots.ts';
export type { Condition, LockOptions, Mutex, RwLock } from './locks.ts';
export type { Queue, QueueOf, QueueOptions, QueueWait, ValueOf } from './queue.ts';
export type { MemoryStats } from './memory_stats.ts';
export type { SysctlInfo, SysctlValue } from './sysctl.ts';
export type { AsyncOptions, Wait } from './wait.ts';
export type { WorkerLike, WorkerOptions } from './host.ts';
