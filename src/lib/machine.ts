/*
 * machine: boot, attach, and the object a program holds.
 *
 *      boot({ memory: '256M' })      makes a machine; this thread is CPU 0
 *      attach(handle)                makes this thread a CPU of it
 *      current()                     what this thread is attached to
 *
 * One machine per thread at a time.  The handle is plain data: pass it in
 * workerData or a message as it is.  Everything that has a name (types, zones,
 * records, roots, locks, queues) is found by that name in every thread.
 *
 * A thread leaves by detach(); shutdown() ends the machine for all of them.
 * Both are idempotent, and `using` does the one that fits.  After that every
 * object of this thread throws ESHUTDOWN.  Read next: index.ts lists everything.
 */
import { type BootOptions, boot as kernel_boot } from '../sys/boot/main.ts';
import {
  type DebugLevel,
  debug_is_level,
  debug_level,
  debug_level_set,
  debug_no_level,
} from '../sys/boot/debug_level.ts';
import { machine_check } from '../sys/boot/machine_check.ts';
import {
  abandon,
  attach as kernel_attach,
  away_begin,
  away_end,
  current as kernel_current,
  detach as kernel_detach,
  shutdown as kernel_shutdown,
} from '../sys/boot/main.ts';
import { thr } from '../sys/machine/cpu.ts';
import { cpu_exited, cpus_attached } from '../sys/machine/death.ts';
import { EBUSY, EINVAL } from '../sys/machine/errno.ts';
import { M, machine as header, SITE_WORDS } from '../sys/machine/header.ts';
import { type Handle, machine_handle } from '../sys/machine/machdep.ts';
import { memory_state, memory_unshared } from '../sys/machine/memory.ts';
import { set_string } from '../sys/machine/struct.ts';
import { web_locks_look, web_locks_used } from '../sys/machine/web_locks.ts';
import { kernel_probe } from '../sys/sync/subr_trap.ts';
import { lowmem_subscribe } from '../sys/map/vm_lowmem.ts';
import { registry_locks_held } from '../sys/client/kern_registry.ts';
import type { SiteCount } from '../sys/client/mbuf_leak.ts';
import type { DumpResult } from '../sys/observe/kern_dump.ts';
import { channels } from './channels.ts';
import type { Chain } from './chain.ts';
import type { ChainOptions, ChainSource } from './chain_args.ts';
import { booleanOf, checkFunction, checkObject, shown } from './args.ts';
import { plainOptions } from './boot_args.ts';
import type { DumpOptions } from './dump.ts';
import {
  bracket,
  checkName,
  Context,
  contextIs,
  inKernel,
  letGo,
  machinePanicked,
  machineStopped,
  type Mortal,
} from './context.ts';
import { kmemError } from './errors.ts';
import { hostAtExit, hostWorker, isWorker, type WorkerLike, type WorkerOptions } from './host.ts';
import { showsItself } from './inspect.ts';
import type { Listener, ListenOptions } from './listen.ts';
import { Condition, Mutex, RwLock } from './locks.ts';
import {
  bytesAt,
  copyBytes,
  copyIn,
  copyOut,
  element,
  fillBytes,
  index,
  memoryClose,
  memoryOpen,
  noNumber,
  noWidth,
  type Place,
  readText,
  type Source,
  wholeViews,
  writeText,
} from './memory.ts';
import { memoryStats, type MemoryStats } from './memory_stats.ts';
import type { Metric, MetricsOptions, OtelApi } from './metrics.ts';
import { part, partIfThere } from './parts.ts';
import {
  Queue,
  type QueueOf,
  type QueueOptions,
  queueShapeOf,
  queueShapeText,
  type ValueOf,
} from './queue.ts';
import {
  type Fields,
  type FreeFields,
  type ItemOf,
  type Records,
  RecordSet,
  type RecordsOptions,
  recordsShapeOf,
  recordsShapeText,
} from './records.ts';
import { registry_join, registry_others } from '../sys/client/kern_registry.ts';
import { Roots } from './roots.ts';
import { callSite } from './site.ts';
import type { Space } from './space.ts';
import type { ContiguousOptions, Size, SpaceOptions } from './space_args.ts';
import type { Stats } from './stats.ts';
import type { BlockWindow } from './window.ts';
import { sysctlBytes, type SysctlInfo, sysctls, type SysctlValue, sysctlValue } from './sysctl.ts';
import { SwapCalls } from './swap_calls.ts';
import { type Block, MallocType } from './type.ts';
import { Zone, type ZoneOptions, zoneShapeOf, zoneShapeText } from './zone.ts';

export type { BootOptions, DumpResult, Handle };

/** How long asyncDispose waits for threads that nobody adopted to leave, ms. */
const LEAVE_MS = 500;

/**
 * A thread's hold on a machine: made by boot() or attach().  Everything named is the
 * same in every thread; a name has 1 to 31 bytes (else EINVAL, ENAMETOOLONG).  After
 * detach() or shutdown() its calls throw ESHUTDOWN.
 */
export class Machine extends SwapCalls implements Disposable, AsyncDisposable {
  /** What another thread needs in order to attach: plain data, to be cloned and posted. */
  readonly handle: Handle;
  /** The CPU slot of this thread, 0 to cpus - 1. */
  readonly cpu: number;
  /** False where the memory cannot be shared: then this thread is the only CPU. */
  readonly shared: boolean;
  /** Named words that other threads can find. */
  readonly roots: Roots;

  // Access at the speed of a typed array, checked by nobody.
  /** The whole memory as unsigned bytes. Index: machine.index(address, 1). */
  readonly u8: Uint8Array;
  /** The whole memory as signed bytes. Index: machine.index(address, 1). */
  readonly i8: Int8Array;
  /** The whole memory as unsigned 16-bit integers. Index: machine.index(address, 2). */
  readonly u16: Uint16Array;
  /** The whole memory as signed 16-bit integers. Index: machine.index(address, 2). */
  readonly i16: Int16Array;
  /** The whole memory as unsigned 32-bit integers. Index: machine.index(address, 4). */
  readonly u32: Uint32Array;
  /** The whole memory as signed 32-bit integers. Index: machine.index(address, 4). */
  readonly i32: Int32Array;
  /** The whole memory as 32-bit floats. Index: machine.index(address, 4). */
  readonly f32: Float32Array;
  /** The whole memory as 64-bit floats. Index: machine.index(address, 8). */
  readonly f64: Float64Array;

  readonly #ctx = new Context();
  /** Bytes that its calls may touch: 0 once this thread has left. */
  #reach: number;
  #left = false;
  readonly #booted: boolean;
  readonly #workers = new Set<WorkerLike>();
  readonly #atExit: () => void;
  static {
    showsItself(Machine.prototype, 'Machine', ({ cpu, shared, u8 }) => {
      return { cpu, shared, bytes: u8?.length };
    });
  }

  /** Use boot(), attach() or current(). */
  constructor(handle: Handle, booted: boolean) {
    super();
    const views = wholeViews();
    this.handle = handle;
    this.cpu = thr.cpu;
    this.shared = memory_state.shared;
    this.roots = new Roots(this.#ctx);
    this.u8 = views.u8;
    this.i8 = views.i8;
    this.u16 = views.u16;
    this.i16 = views.i16;
    this.u32 = views.u32;
    this.i32 = views.i32;
    this.f32 = views.f32;
    this.f64 = views.f64;
    this.#booted = booted;
    contextIs(this.#ctx);
    this.#reach = memoryOpen();
    const close = (): void => {
      this.#reach = 0;
      memoryClose();
    };
    this.#ctx.waits.add({ bury: close });
    this.#atExit = booted ? () => {} : hostAtExit(() => this.#exit());
    partIfThere('hearUncaught')?.();
  }
  /** Whether this thread is still attached, and the machine not shut down, nor in a panic. */
  get up(): boolean {
    return this.#ctx.up && !machineStopped();
  }

  // --- memory by name --------------------------------------------------------------------

  /**
   * The malloc type of that name, made if there is none.  Does not wait.  Throws ENOMEM.
   */
  type(name: string): MallocType {
    checkName('type', name);
    return this.#ctx.once('type', name, () => new MallocType(this.#ctx, name));
  }
  /**
   * The zone of that name, made if there is none; without options it must exist.
   * Does not wait.  Throws EEXIST if it has another shape, ENOENT, EINVAL, ENOMEM.
   */
  zone<const N extends string>(name: N, options?: ZoneOptions): Zone<N> {
    checkName('zone', name);
    const shape = options === undefined ? undefined : zoneShapeOf(name, options);
    // A constructor runs in this thread alone: it is no part of the shape.
    const text = shape && zoneShapeText(shape);
    const make = () => new Zone(this.#ctx, name, shape);
    return this.#shaped('zone', name, text, make, Boolean(shape?.ctor)) as Zone<N>;
  }
  /**
   * The records of that name, made if there are none: all memory for `capacity`
   * items is taken now.  Throws EEXIST if they have another shape, ENOMEM, EINVAL.
   */
  records<const N extends string, const F extends Fields, const O extends RecordsOptions>(
    name: N,
    fields: F & FreeFields<F>,
    options: O,
  ): Records<N, F, ItemOf<N, O>> {
    checkName('records', name);
    const shape = recordsShapeOf(name, fields, options);
    type Made = Records<N, F, ItemOf<N, O>>;
    const make = () => new RecordSet<N, F, ItemOf<N, O>>(this.#ctx, name, shape);
    return this.#shaped('records', name, recordsShapeText(shape), make) as Made;
  }
  /** The mutex of that name, made if there is none. Throws ENOMEM. */
  mutex(name: string): Mutex {
    checkName('mutex', name);
    return this.#ctx.once('mutex', name, () => new Mutex(this.#ctx, name));
  }
  /** The shared/exclusive lock of that name, made if there is none. Throws ENOMEM. */
  rwlock(name: string): RwLock {
    checkName('rwlock', name);
    return this.#ctx.once('rwlock', name, () => new RwLock(this.#ctx, name));
  }
  /** The condition of that name, made if there is none. Throws ENOMEM. */
  condition(name: string): Condition {
    checkName('condition', name);
    return this.#ctx.once('condition', name, () => new Condition(this.#ctx, name));
  }
  /**
   * The queue of that name, made if there is none: values are blocks of a type,
   * items of a zone or of records (`of`), or numbers.  Throws EEXIST, ENOMEM, EINVAL.
   */
  queue<const O extends QueueOf | undefined = undefined>(
    name: string,
    options?: QueueOptions<O>,
  ): Queue<ValueOf<O>> {
    checkName('queue', name);
    const shape = queueShapeOf(name, options as QueueOptions<QueueOf> | undefined);
    const make = () => new Queue<ValueOf<O>>(this.#ctx, name, shape);
    return this.#shaped('queue', name, queueShapeText(shape), make) as Queue<ValueOf<O>>;
  }
  /**
   * The object this thread has, if it was asked for with the same shape; else made, or
   * EEXIST.  `anew`: it is made in any case, as the one that this thread has from now on.
   */
  #shaped(
    kind: string,
    name: string,
    text: string | undefined,
    make: () => Mortal,
    anew = false,
  ): unknown {
    this.#live(kind);
    const known = this.#ctx.named.get(`${kind}:${name}`);
    if (known && !anew && (text === undefined || this.#shapes.get(known) === text)) return known;
    const made = make(); // throws EEXIST unless it is the same after all
    if (known && !anew) return known;
    this.#ctx.named.set(`${kind}:${name}`, made);
    this.#shapes.set(made, text ?? '');
    return made;
  }
  readonly #shapes = new WeakMap<Mortal, string>();

  // --- address spaces ----------------------------------------------------------------------

  /**
   * The address space of that name, made if there is none.  It lives until space.destroy().
   * Throws EEXIST if it has another limit, ENOENT with `create: false`, ENOMEM, EINVAL.
   */
  space(name: string, options?: SpaceOptions): Space {
    checkName('space', name);
    return part('space')(this.#ctx, name, options);
  }

  /**
   * A block of zeros of `bytes`, rounded to pages, that lies where the options say; pages of
   * address spaces move out of its way, or are paged out.  It may sleep, and write.  Throws ENOMEM
   * as alloc does; EINVAL for an alignment or a boundary that is no power of two, or a place too
   * small.
   */
  contiguous(bytes: Size, options?: ContiguousOptions): Block {
    return part('contiguous')(this.#ctx, bytes, options);
  }

  /**
   * `n` bytes of a block as flat memory, wherever it lies (`type.alloc(n, { contiguous: false })`),
   * held in place until the window is closed.  Throws EFAULT if they are not of one block, EBUSY if
   * another window overlaps it in part; ENOMEM for vm.window_max or vm.max_wired, or if there is no
   * run of free pages so long; EINVAL, ETIMEDOUT.  Meanwhile the block is EBUSY to free.
   */
  window(address: number, n: number, options?: { readonly write?: boolean }): BlockWindow {
    return part('window')(this.#ctx, address, n, options);
  }

  // --- buffers -----------------------------------------------------------------------------

  /**
   * A chain of buffers, with a copy of `source` in it if that is given.  Throws as
   * Chain.append does; ESHUTDOWN.
   */
  chain(source?: ChainSource, options?: ChainOptions): Chain {
    return part('chain')(this.#ctx, source, options);
  }
  /**
   * The chain that a thread let go of by release().  Throws EINVAL for a number that
   * is none, or that was adopted already.
   */
  adoptChain(released: number): Chain {
    return part('adoptChain')(this.#ctx, released);
  }
  /**
   * Places in the program that made chains, with how many of them are alive, over
   * all threads: as far as kern.ipc.mbuf_leak notes them (chain_leak.ts).  A sample.
   */
  chainSites(): SiteCount[] {
    return this.#look('chainSites', part('chainSites'));
  }
  /**
   * What modules of the façade that stand beside it (streams) need of this thread.
   * @internal
   */
  get context(): Context {
    return this.#ctx;
  }

  // --- touching memory ---------------------------------------------------------------------

  /**
   * The index of a byte address in the whole-memory view of elements of `width`
   * bytes (1, 2, 4, 8).  Throws EFAULT if it is not aligned or not in the memory, EINVAL.
   */
  index<A extends number>(at: Place<A>, width: 1 | 2 | 4 | 8): number {
    if (width !== 4 && width !== 8 && width !== 1 && width !== 2) noWidth(width);
    return index('index', at, width, this.#reach);
  }
  /** A view of `n` bytes: shared, no copy, some 20 ns to make. Throws EFAULT, EINVAL. */
  bytes<A extends number>(at: Place<A>, n: number): Uint8Array {
    return bytesAt(at, n, this.#reach);
  }
  /** The unsigned byte at an address. Throws EFAULT. */
  load8<A extends number>(at: Place<A>): number {
    return this.u8[element('load8', at, 1, this.#reach)];
  }
  /** The unsigned 16 bits at an even address. Throws EFAULT. */
  load16<A extends number>(at: Place<A>): number {
    return this.u16[element('load16', at, 2, this.#reach)];
  }
  /** The unsigned 32 bits at a multiple of 4. Throws EFAULT. */
  load32<A extends number>(at: Place<A>): number {
    return this.u32[element('load32', at, 4, this.#reach)];
  }
  /** The 64-bit float at a multiple of 8. Throws EFAULT. */
  load64f<A extends number>(at: Place<A>): number {
    return this.f64[element('load64f', at, 8, this.#reach)];
  }
  /** Stores the low 8 bits of `value`. Throws EFAULT, EINVAL. */
  store8<A extends number>(at: Place<A>, value: number): void {
    this.u8[element('store8', at, 1, this.#reach)] =
      typeof value === 'number' ? value : noNumber('store8', value);
  }
  /** Stores the low 16 bits at an even address. Throws EFAULT, EINVAL. */
  store16<A extends number>(at: Place<A>, value: number): void {
    this.u16[element('store16', at, 2, this.#reach)] =
      typeof value === 'number' ? value : noNumber('store16', value);
  }
  /** Stores the low 32 bits at a multiple of 4. Throws EFAULT, EINVAL. */
  store32<A extends number>(at: Place<A>, value: number): void {
    this.u32[element('store32', at, 4, this.#reach)] =
      typeof value === 'number' ? value : noNumber('store32', value);
  }
  /** Stores a 64-bit float at a multiple of 8. Throws EFAULT, EINVAL. */
  store64f<A extends number>(at: Place<A>, value: number): void {
    this.f64[element('store64f', at, 8, this.#reach)] =
      typeof value === 'number' ? value : noNumber('store64f', value);
  }
  /** Sets `n` bytes to `byte`, 0 unless given. Throws EFAULT; EINVAL if it is no byte. */
  fill<A extends number>(at: Place<A>, n: number, byte = 0): void {
    fillBytes(at, n, byte, this.#reach);
  }
  /** Copies `n` bytes inside the memory; the ranges may overlap. Throws EFAULT, EINVAL. */
  copy<A extends number, B extends number>(to: Place<A>, from: Place<B>, n: number): void {
    copyBytes(to, from, n, this.#reach);
  }
  /** Copies bytes of a buffer or view into the memory; returns how many. Throws EFAULT. */
  copyIn<A extends number>(at: Place<A>, from: Source): number {
    return copyIn(at, from, this.#reach);
  }
  /**
   * Copies `n` bytes out, into an array that nobody shares: for the few calls of
   * the host that take no shared memory (Response, crypto.subtle).  Throws EFAULT.
   */
  copyOut<A extends number>(at: Place<A>, n: number): Uint8Array<ArrayBuffer> {
    return copyOut(at, n, this.#reach);
  }
  /** Writes UTF-8, no NUL; returns the bytes. Throws EINVAL if they are more than `max`, EFAULT. */
  writeText<A extends number>(at: Place<A>, text: string, max: number): number {
    return writeText(at, text, max, this.#reach);
  }
  /** Reads `n` bytes of UTF-8. Throws EFAULT. */
  readText<A extends number>(at: Place<A>, n: number): string {
    return readText(at, n, this.#reach);
  }

  // --- looking inside ------------------------------------------------------------------------

  /** Where every byte is: memory, types, zones. A sample; stops nobody. Throws ESHUTDOWN. */
  stats(): Stats {
    return this.#look('stats', part('stats'));
  }
  /** Figures of the memory as a whole, bytes: cheap. Throws ESHUTDOWN. */
  memory(): MemoryStats {
    return this.#look('memory', () => memoryStats());
  }
  /** `vmstat -m`: types, `-z`: zones, `-o`: objects, `-s`: sums. Throws EINVAL, ESHUTDOWN. */
  vmstat(what: 'm' | 'z' | 'o' | 's' = 'm'): string {
    return this.#look('vmstat', part('vmstat')(what));
  }
  /** The text of `netstat -m`: mbufs and clusters in use, denied, delayed. Throws ESHUTDOWN. */
  netstat(): string {
    return this.#look('netstat', part('netstat'));
  }
  /** The text of `procstat -v`: what is mapped in all address spaces. Throws ESHUTDOWN. */
  procstat(): string {
    return this.#look('procstat', part('procstat'));
  }
  /**
   * A variable of the kernel, decoded; with `value` it is set, and the old value
   * returned.  Throws ENOENT, EISDIR, EPERM, EINVAL.
   */
  sysctl(name: string, value?: SysctlValue): SysctlValue {
    return this.#look('sysctl', () => sysctlValue(name, value));
  }
  /**
   * Sets how much is found out about who did what, and returns what it was: off, simple (stacks
   * of some requests), advanced, paranoid.  Of all threads, from now on.  Throws EINVAL,
   * ESHUTDOWN, and EOPNOTSUPP where `kmem/core` alone is loaded.
   */
  debug(level?: DebugLevel): DebugLevel {
    if (level !== undefined && !debug_is_level(level)) throw debug_no_level('debug', shown(level));
    return this.#look('debug', () => {
      const old = debug_level();
      const error = level === undefined ? 0 : debug_level_set(level);
      if (error !== 0) throw kmemError(error, 'debug', `the level ${level} could not be set`);
      return old;
    });
  }
  /** The raw bytes of a variable. Throws ENOENT, EISDIR. */
  sysctlBytes(name: string): Uint8Array {
    return this.#look('sysctlBytes', () => sysctlBytes(name));
  }
  /** Every variable with its type and description. Throws ESHUTDOWN. */
  sysctls(): SysctlInfo[] {
    return this.#look('sysctls', () => sysctls());
  }
  /**
   * The figures of memory, types and zones in the text format of Prometheus, version 0.0.4;
   * with { sysctls: true } every variable too.  Any thread answers for all.  Serve it as
   * `text/plain; version=0.0.4`.
   */
  collect(options?: MetricsOptions): string {
    return this.#look('collect', part('collect')(options));
  }
  /** The same figures as data. */
  metrics(options?: MetricsOptions): Metric[] {
    return this.#look('metrics', part('metrics')(options));
  }
  /**
   * Registers them with OpenTelemetry's API object; dispose of the result to end that.  Throws
   * EINVAL for what is not that API, ESHUTDOWN.
   */
  observe(api: OtelApi, options?: MetricsOptions): Disposable {
    this.#live('observe');
    if (typeof api?.metrics?.getMeter !== 'function') {
      const text = `${shown(api)} is not OpenTelemetry's API: pass the module`;
      throw kmemError(EINVAL, 'observe', text);
    }
    return part('observe')(this.#ctx, api, options);
  }
  /**
   * Calls `fn` from this thread's event loop when memory runs short, at most once in
   * vm.lowmem_period: give back what can be had again, caches above all.  The page daemon
   * notices (boot({ pagedaemon: true })).  Dispose of the result to end that.
   */
  onLowMemory(fn: () => void): Disposable {
    this.#live('onLowMemory');
    checkFunction('onLowMemory', fn);
    const end = lowmem_subscribe(() => {
      if (this.up) fn();
    });
    return { [Symbol.dispose]: end };
  }
  /**
   * Publishes each allocation and free of this thread's malloc types on the
   * diagnostics channels kmem:malloc and kmem:free, if somebody listens; false
   * ends that.  Off, nothing is looked at and nothing is paid.
   */
  trace(on: boolean): void {
    this.#live('trace');
    this.#ctx.traced = booleanOf('trace', 'on', on);
    for (const m of this.#ctx.named.values()) if (m instanceof MallocType) m.trace(on);
  }
  /**
   * Opens a control socket, by which `kmem vmstat`, `kmem sysctl` and others ask this
   * machine from outside, as long as this thread's event loop runs.  Only this user's
   * programs can connect.  It does not keep the process alive, and ends with the
   * machine.  Rejects with EOPNOTSUPP where there are no Unix sockets, EADDRINUSE,
   * EACCES, ENAMETOOLONG, ENOENT, EINVAL, EIO, ESHUTDOWN.
   */
  async listen(options: ListenOptions = {}): Promise<Listener> {
    this.#live('listen');
    return await part('listen')(this.#ctx, () => this.up, options);
  }
  /**
   * Writes the whole memory to a new file, which `kmem vmstat -M` reads: an ELF core file
   * with holes for what is zero, or compressed.  It holds every secret of the program that is
   * kept here; only its owner can read it.  Stops nobody; this thread waits for the disk.  After a
   * panic, too, in a thread that has not left.  Throws EEXIST if there is such a file or link,
   * ENOENT, ENOTDIR, EACCES, ENOSPC, EIO and what else a file system may say, EOPNOTSUPP
   * where there are no files, EINVAL, ESHUTDOWN; then there is no file.
   */
  dump(path: string, options?: DumpOptions): DumpResult {
    const write = part('dump')(path, options);
    // Nobody runs after a panic, and the memory cannot be booted again before this thread leaves.
    if (!this.#left && machinePanicked()) return write();
    return this.#look('dump', write);
  }
  /**
   * Proves the allocator's lists, the sleep queues, the sysctl tree, the registry
   * and address spaces, and settles the dead before; throws KernelPanic if something is wrong.  For
   * tests: no other thread may be at work, and it takes time in proportion to the memory.
   */
  check(): void {
    this.#look('check', () => machine_check(partIfThere('checkSpaces')));
  }

  // --- threads --------------------------------------------------------------------------------

  /**
   * Starts a worker that finds the handle in its workerData (beside
   * options.workerData, as `kmem`; alone if there is none), and hears its end.  The host's own
   * type has all members: machine.worker<Worker>(…), of node:worker_threads.
   * Bundlers want to see the worker made: adopt(new Worker(new URL(...))) there.
   * Throws EINVAL for what the host refuses, EOPNOTSUPP where there are no workers.
   */
  worker<W extends WorkerLike = WorkerLike>(url: URL | string, options: WorkerOptions = {}): W {
    this.#live('worker');
    checkObject('worker', options);
    return this.adopt(hostWorker(url, this.handle, options) as W);
  }
  /**
   * Hears the end of a worker, so that what it left behind is settled at once
   * wherever this thread's event loop runs: its CPU slot, its caches, its waits.
   * Returns the worker.
   */
  adopt<W extends WorkerLike>(worker: W): W {
    this.#live('adopt');
    if (!isWorker(worker)) throw kmemError(EINVAL, 'adopt', `${shown(worker)} is no worker`);
    const id = worker.threadId; // it is -1 once the thread is gone
    this.#workers.add(worker);
    worker.once?.('exit', (code) => {
      this.#workers.delete(worker);
      if (channels.exit.hasSubscribers) channels.exit.publish({ threadId: id, code });
      if (id !== undefined) void this.#settle(id);
    });
    return worker;
  }
  /** Settles what a worker left; when this thread is back, if it is parked. */
  async #settle(id: number): Promise<void> {
    while (this.#ctx.parked !== null) await this.#ctx.parked;
    // In the event loop nobody would catch that another thread ended the machine meanwhile.
    if (this.up) letGo(() => inKernel('exit', () => cpu_exited(id)));
  }
  /**
   * Runs `fn` with this thread parked: others may take what it caches meanwhile.
   * For leaving for long (a blocking read, a computation); `fn` is synchronous and
   * makes no call of the machine: EBUSY.
   */
  away<T>(fn: () => T): T {
    checkFunction('away', fn);
    const parked = this.park();
    return bracket(fn, () => parked[Symbol.dispose]());
  }
  /**
   * Parks this thread until the result is disposed of. See away.  If another thread ended the
   * machine meanwhile, the next call says so.
   */
  park(): Disposable {
    this.#live('park');
    const { promise, resolve } = Promise.withResolvers<void>();
    away_begin();
    this.#ctx.parked = promise;
    let parked = true;
    return {
      [Symbol.dispose]: () => {
        if (!parked) return;
        parked = false;
        this.#ctx.parked = null;
        resolve();
        if (this.#ctx.up) letGo(away_end);
      },
    };
  }
  /**
   * Takes this thread off the machine, which goes on without it. The second time does
   * nothing.  Throws EBUSY, naming them, if this thread holds locks.
   */
  detach(): void {
    const held = (this.up && letGo(registry_locks_held)) || [];
    if (held.length > 0) {
      const text = `this thread holds ${held.join(', ')}: give back what it holds first`;
      throw kmemError(EBUSY, 'detach', text);
    }
    this.#leave(false);
  }
  /**
   * Ends the machine for all threads: they find out at their next slow path
   * (ESHUTDOWN).  The second time does nothing.
   */
  shutdown(): void {
    this.#leave(true);
  }
  /** shutdown() in the thread that booted, detach() in the others. */
  [Symbol.dispose](): void {
    this.#leave(this.#booted);
  }
  /**
   * The same; in the thread that booted it first ends the workers that it started
   * or adopted, and gives other threads half a second to leave.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#booted && this.#ctx.up) {
      await this.endWorkers();
      this.shutdown();
      const until = performance.now() + LEAVE_MS;
      while (cpus_attached() > 0 && performance.now() < until) {
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    } else this[Symbol.dispose]();
  }
  /** Terminates the workers that this thread started or adopted, and settles what they left. */
  async endWorkers(): Promise<void> {
    await Promise.all([...this.#workers].map((worker) => worker.terminate()));
    // A browser does not say when they are gone: their locks do.
    const until = performance.now() + LEAVE_MS;
    while (web_locks_used() && registry_others() && performance.now() < until) {
      await web_locks_look();
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  #live(op: string): void {
    this.#ctx.enter(op);
  }
  /** Runs a call that looks at much of the kernel. */
  #look<T>(op: string, run: () => T): T {
    this.#ctx.enter(op);
    return inKernel(op, run);
  }
  /** The thread ends by itself: if it is parked it comes back, and it leaves. */
  #exit(): void {
    const parked = this.#ctx.parked !== null;
    this.#ctx.parked = null;
    if (parked && this.#ctx.up) letGo(away_end);
    this.#leave(false);
  }
  #leave(all: boolean): void {
    if (this.#left) return;
    // EBUSY
    if (this.#ctx.parked !== null && this.up) letGo(() => this.#live(all ? 'shutdown' : 'detach'));
    if (machinePanicked()) return this.#forget();
    kernel_probe();
    this.#left = true;
    try {
      this.#ctx.bury();
    } finally {
      this.#atExit();
      contextIs(null);
      if (live === this) live = null;
      if (!machineStopped()) letGo(all ? kernel_shutdown : kernel_detach, this.cpu);
      abandon(); // does nothing unless leaving was cut short
    }
    const heard = all ? channels.shutdown : channels.detach;
    if (heard.hasSubscribers) heard.publish({ cpu: this.cpu });
  }
  /** Leaves a machine that has panicked: nothing is given back, because a dump is to show it. */
  #forget(): void {
    this.#left = true;
    contextIs(null);
    this.#ctx.bury();
    this.#atExit();
    if (live === this) live = null;
    abandon();
  }
}

let live: Machine | null = null;

/**
 * Makes a machine and makes this thread its CPU 0.  Throws EBUSY, naming the
 * place of the first boot, if the thread is a CPU already; EINVAL for a bad
 * option; ENOMEM if the memory is too small for its own kernel.
 */
export function boot(options?: BootOptions): Machine {
  checkObject('boot', options);
  const plain = plainOptions(options ?? {});
  kernel_probe();
  const { handle } = kernel_boot(plain);
  set_string(header.site, M, SITE_WORDS, callSite());
  registry_join();
  if (!memory_state.shared) {
    console.warn(
      `kmem: ${memory_unshared()}: no memory can be shared, the machine has this thread ` +
        'as its only CPU',
    );
  }
  live = new Machine(handle, true);
  if (channels.boot.hasSubscribers) {
    channels.boot.publish({ cpu: live.cpu, memory: memory_state.size });
  }
  return live;
}
/**
 * Makes this thread a CPU of the machine that a handle names.  Takes
 * machine.handle as it is, or an object that has it as `kmem` (workerData).
 * Throws EINVAL for what is no handle of this version, ESHUTDOWN if the machine
 * was shut down, EAGAIN if all CPU slots are taken, EBUSY if the thread is a
 * CPU already, EOPNOTSUPP if the machine lies in memory that cannot be shared.
 */
export function attach(from: Handle | { readonly kmem: Handle }): Machine {
  if (typeof from !== 'object' || from === null) {
    const what = from === null ? 'null' : typeof from;
    throw kmemError(
      EINVAL,
      'attach',
      `got ${what}: pass machine.handle in workerData or a message`,
    );
  }
  const inner: unknown = from.kmem;
  const { kmem, memory, layout, id, generation } = (
    typeof inner === 'object' && inner !== null ? inner : from
  ) as Handle;
  kernel_probe();
  kernel_attach({ kmem, memory, layout, id, generation });
  const handle = machine_handle();
  live = new Machine(handle, false);
  try {
    registry_join();
  } catch (e) {
    live[Symbol.dispose](); // another thread ended it meanwhile
    throw e;
  }
  if (channels.attach.hasSubscribers) channels.attach.publish({ cpu: live.cpu });
  return live;
}
/** The machine this thread is attached to; null if there is none. */
export function current(): Machine | null {
  if (live) return live;
  const handle = kernel_current();
  if (handle) {
    live = new Machine(handle, false); // booted or attached underneath the façade
    registry_join();
  }
  return live;
}
