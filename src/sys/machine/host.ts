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
  writeSync(fd: number, data: Uint8Array): number;
  openSync(path: string, flags: string): number;
  closeSync(fd: number): void;
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
function builtin<T>(name: string): T | null {
  return (proc?.getBuiltinModule?.(name) as T | undefined) ?? null;
}
/** The host's file system, null in a browser. */
export const host_fs: FsLike | null = builtin<FsLike>('node:fs');
const threads = builtin<WorkerThreadsLike>('node:worker_threads');
const linux = proc?.platform === 'linux' && host_fs !== null && host_fs.existsSync('/proc/self');

/** Cores this process may use. */
export function host_cpus(): number {
  const os = builtin<OsLike>('node:os');
  const browser = (globalThis as { navigator?: { hardwareConcurrency?: number } }).navigator;
  return os?.availableParallelism?.() ?? browser?.hardwareConcurrency ?? 1;
}
/** worker_threads id of this thread; 0 on the main thread. */
export function host_js_tid(): number {
  return threads?.threadId ?? 0;
}
/** The host's id of this thread, 0 where there is none to be had. */
export function host_tid(): number {
  if (!linux || !host_fs) return 0;
  return Number(host_fs.readlinkSync('/proc/thread-self').split('/').pop());
}
/** PF_EXITING among a thread's kernel flags: it runs no code of its own any more. */
const THREAD_EXITING = 4;
/** When a thread of this process started, in the host's ticks; null: it is gone, or going. */
export function host_thread_start(tid: number): number | null {
  if (!host_fs) return null;
  try {
    const stat = host_fs.readFileSync(`/proc/self/task/${tid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields[0] === 'Z' || fields[0] === 'X') return null;
    // Who waited for its end may go on before the host has taken its entry away.
    if ((Number(fields[6]) & THREAD_EXITING) !== 0) return null;
    return Number(fields[19]) | 0;
  } catch {
    return null;
  }
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
