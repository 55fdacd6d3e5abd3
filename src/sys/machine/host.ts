/*
 * host: the few things the machine asks of the JavaScript host.
 *
 * Which thread is this, is that thread still there, how many cores, may this
 * thread block.  On Linux a thread is looked up under /proc, so that even a
 * blocked waiter can tell that the owner of its lock is gone; elsewhere the
 * death of a worker is heard by an event loop and reported to death.ts.
 *
 * Nothing here is imported from node: the same file loads in a browser.
 */
interface FsLike {
  readlinkSync(path: string): string;
  readFileSync(path: string, encoding: string): string;
  existsSync(path: string): boolean;
  statSync(path: string, options: { throwIfNoEntry: false }): StatLike | undefined;
  statSync(path: string, options: { bigint: true }): FileIdLike;
  writeSync(fd: number, data: Uint8Array): number;
  writeSync(fd: number, bytes: Uint8Array, from: number, n: number, at: number): number;
  openSync(path: string, flags: string | number, mode?: number): number;
  fstatSync(fd: number): FileLike;
  fstatSync(fd: number, options: { bigint: true }): FileIdLike;
  lstatSync(path: string): FileLike;
  lstatSync(path: string, options: { bigint: true }): FileIdLike;
  ftruncateSync(fd: number, size: number): void;
  unlinkSync(path: string): void;
  linkSync(from: string, to: string): void;
  renameSync(from: string, to: string): void;
  readSync(fd: number, into: Uint8Array, from: number, n: number, at: number): number;
  readvSync(fd: number, into: readonly Uint8Array[], at: number): number;
  writevSync(fd: number, bytes: readonly Uint8Array[], at: number): number;
  fsyncSync(fd: number): void;
  closeSync(fd: number): void;
  readonly constants: Readonly<Record<string, number | undefined>>;
}
interface StatLike {
  isFile(): boolean;
  isDirectory(): boolean;
}
interface FileLike extends StatLike {
  isSymbolicLink(): boolean;
  readonly size: number;
}
/** Device, number and birth: together they tell a file from every other. */
export interface FileIdLike extends StatLike {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly birthtimeNs: bigint;
  readonly ctimeNs: bigint;
}
/** A stream that unpacks: bytes are written to it, and come out as it is iterated. */
export interface UnpackLike extends AsyncIterable<Uint8Array> {
  on(event: 'close', hear: () => void): void;
  write(bytes: Uint8Array, taken: () => void): boolean;
  end(): void;
  destroy(): void;
}
interface ZipLike {
  gzipSync(bytes: Uint8Array, options: { level: number }): Uint8Array;
  /** Not in every host. */
  zstdCompressSync?(bytes: Uint8Array, options: { params: Record<number, number> }): Uint8Array;
  readonly constants: { readonly ZSTD_c_checksumFlag?: number };
  createGunzip(): UnpackLike;
  createZstdDecompress?(): UnpackLike;
}
interface PathLike {
  resolve(path: string): string;
}
interface OsLike {
  availableParallelism?(): number;
}
interface WorkerLike {
  unref(): void;
  on(event: 'error', hear: (e: Error) => void): void;
}
interface WorkerThreadsLike {
  threadId: number;
  workerData: unknown;
  Worker: new (file: URL, options: { workerData: unknown }) => WorkerLike;
}
interface WorkerScopeLike {
  addEventListener(
    event: 'message',
    hear: (e: { data: unknown }) => void,
    options: { once: true },
  ): void;
  close?(): void;
}
interface LocksLike {
  request<T>(
    name: string,
    options: { mode: 'exclusive' | 'shared'; ifAvailable?: boolean },
    use: (lock: object | null) => T | Promise<T>,
  ): Promise<T>;
}
interface ProcessLike {
  platform?: string;
  getBuiltinModule?(name: string): unknown;
}

const proc = (globalThis as { process?: ProcessLike }).process;
/** A module of the host that needs no loading; null in a browser. */
export function host_builtin<T>(name: string): T | null {
  return (proc?.getBuiltinModule?.(name) as T | undefined) ?? null;
}
/** The host's file system, null in a browser. */
export const host_fs: FsLike | null = host_builtin<FsLike>('node:fs');
/** What packs and unpacks bytes, null in a browser. */
export const host_zip: ZipLike | null = host_builtin<ZipLike>('node:zlib');
const threads = host_builtin<WorkerThreadsLike>('node:worker_threads');
const linux = proc?.platform === 'linux' && host_fs !== null && host_fs.existsSync('/proc/self');

let births: boolean | null = null;
/**
 * Whether this host says when a file was made, and always the same.  One that does not know
 * gives the time of the last change instead, as for /proc, which has no birth: that would be 0.
 */
export function host_births(): boolean {
  if (births === null) births = linux && proc_has_no_birth();
  return births;
}
function proc_has_no_birth(): boolean {
  try {
    const stat = host_fs?.statSync('/proc', { bigint: true });
    return stat !== undefined && stat.birthtimeNs !== stat.ctimeNs;
  } catch {
    return false;
  }
}
/** Flags that open a file and never wait, should a pipe be there; null: this host has none. */
export function host_nonblock(writable: boolean): number | null {
  const { O_RDONLY, O_RDWR, O_NONBLOCK } = host_fs?.constants ?? {};
  const how = writable ? O_RDWR : O_RDONLY;
  return linux && how !== undefined && O_NONBLOCK !== undefined ? how | O_NONBLOCK : null;
}
/** A path by which any thread opens the file that descriptor `fd` of this process has open. */
export function host_fd_path(fd: number): string | null {
  return linux ? `/proc/self/fd/${fd}` : null;
}
/** The path from the root on. */
export function host_path(path: string): string {
  return host_builtin<PathLike>('node:path')?.resolve(path) ?? path;
}

/** Cores this process may use. */
export function host_cpus(): number {
  const os = host_builtin<OsLike>('node:os');
  const browser = (globalThis as { navigator?: { hardwareConcurrency?: number } }).navigator;
  return os?.availableParallelism?.() ?? browser?.hardwareConcurrency ?? 1;
}
/** worker_threads id of this thread; 0 on the main thread. */
export function host_js_tid(): number {
  return threads?.threadId ?? 0;
}
/** An object that all code of this thread sees, and no other thread. */
export function host_thread_object(): object {
  return threads ?? globalThis;
}
/** The host's id of this thread, 0 where there is none to be had. */
export function host_tid(): number {
  if (!linux || !host_fs) return 0;
  try {
    return Number(host_fs.readlinkSync('/proc/thread-self').split('/').pop());
  } catch {
    return 0;
  }
}
/** PF_EXITING among a thread's kernel flags: it runs no code of its own any more. */
const THREAD_EXITING = 4;
/**
 * When a thread of this process started, in the host's ticks.  'gone': it is no
 * more, or runs no more code of its own.  'unknown': the host could not say, for
 * want of a descriptor or of memory; that proves nothing.
 */
function thread_start(fs: FsLike, tid: number): number | 'gone' | 'unknown' {
  try {
    const stat = fs.readFileSync(`/proc/self/task/${tid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields[0] === 'Z' || fields[0] === 'X') return 'gone';
    // Who waited for its end may go on before the host has taken its entry away.
    if ((Number(fields[6]) & THREAD_EXITING) !== 0) return 'gone';
    return Number(fields[19]);
  } catch (e) {
    return is_no_thread(e) ? 'gone' : 'unknown';
  }
}
/** Of all errors these two alone say that there is no such thread. */
function is_no_thread(e: unknown): boolean {
  const { code } = e as { code?: string };
  return code === 'ENOENT' || code === 'ESRCH';
}

/*
 * Who a thread is, in 41 bits, told apart from every other thread of all times:
 *
 *      Linux      bits 0..21 the host's id · 22..39 its start, ticks mod 2^18, 0: unknown
 *      elsewhere  bit 40, and the JavaScript id; in a browser a random number
 *
 * A start that was cut short errs on the safe side: another one proves that the id
 * was given to another thread since, an equal one proves nothing.
 */
const WHO_OTHER = 2 ** 40;
const TID_SPAN = 2 ** 22;
const START_SPAN = 2 ** 18;
let self = 0;
/** Who this thread is. Worked out once, before it takes its first slot. */
export function host_who(): number {
  if (self === 0) self = who_am_i();
  return self;
}
function who_am_i(): number {
  const tid = host_tid();
  if (tid > 0 && tid < TID_SPAN && host_fs) {
    const start = thread_start(host_fs, tid);
    return tid + (typeof start === 'number' ? start % START_SPAN : 0) * TID_SPAN;
  }
  return threads ? host_who_of_js(threads.threadId) : WHO_OTHER + random_40();
}
function random_40(): number {
  return 1 + Math.floor(Math.random() * (WHO_OTHER - 1));
}
/** Who the thread with that JavaScript id is where the host shows no threads. */
export function host_who_of_js(js_tid: number): number {
  return WHO_OTHER + js_tid;
}
/** The host's id in a `who`; 0 where it carries none. */
export function host_who_tid(who: number): number {
  return who >= WHO_OTHER ? 0 : who % TID_SPAN;
}
/**
 * Whether a thread is proved to be gone.  The look for its entry needs no
 * descriptor; only where the entry is there and its start is known are more
 * questions asked.  Every answer but a clear one means: it lives, ask again.
 */
export function host_gone(who: number): boolean {
  if (who >= WHO_OTHER || who === 0 || !linux || !host_fs) return false;
  const tid = who % TID_SPAN;
  try {
    // ENOENT comes back as undefined; what is thrown is another error.
    if (host_fs.statSync(`/proc/self/task/${tid}`, { throwIfNoEntry: false }) === undefined) {
      return true;
    }
  } catch (e) {
    return is_no_thread(e);
  }
  const known = Math.floor(who / TID_SPAN);
  const start = thread_start(host_fs, tid);
  if (start === 'gone') return true;
  return known !== 0 && typeof start === 'number' && start % START_SPAN !== known;
}

const gate = typeof SharedArrayBuffer === 'undefined' ? null : new SharedArrayBuffer(4);
/** Asks the host: only it knows which of its threads may wait (a page's may not). */
function may_block(): boolean {
  if (!gate) return (globalThis as { document?: unknown }).document === undefined;
  try {
    Atomics.wait(new Int32Array(gate), 0, 0, 0);
    return true;
  } catch {
    return false;
  }
}
const can_block = may_block();
/** False on a browser's main thread, which may not wait. */
export function host_can_block(): boolean {
  return can_block;
}
/** Sleeps, without touching the machine; does nothing where blocking is forbidden. */
export function host_sleep(ms: number): void {
  if (gate && can_block) Atomics.wait(new Int32Array(gate), 0, 0, ms);
}
/** True where a vanished thread can be noticed without an event loop. */
export function host_sees_threads(): boolean {
  return linux;
}

/** The Web Locks of a browser; null in Node, and where the page is not secure. */
export function host_locks(): LocksLike | null {
  const { navigator } = globalThis as { navigator?: { locks?: LocksLike } };
  return threads ? null : (navigator?.locks ?? null);
}

/** The host's class of worker threads, null in a browser. */
export function builtin_worker(): WorkerThreadsLike['Worker'] | null {
  return threads?.Worker ?? null;
}
/**
 * Calls `run` with what this worker was started with: in Node its workerData, at
 * once; in a browser the first message that comes.
 */
export function host_started(run: (data: unknown) => void): void {
  if (threads) return run(threads.workerData);
  const scope = globalThis as unknown as WorkerScopeLike;
  scope.addEventListener('message', ({ data }) => run(data), { once: true });
}
/** Ends this worker, where it does not end by having nothing to do. */
export function host_end(): void {
  if (!threads) (globalThis as unknown as WorkerScopeLike).close?.();
}
