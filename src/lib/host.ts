/*
 * host: what the façade asks of the JavaScript host.
 *
 * Nothing is imported from node, so that the same files load in a browser:
 * what is Node's own is asked for at run time and may be missing.
 */
import { EINVAL, EOPNOTSUPP } from '../sys/machine/errno.ts';
import { shown } from './args.ts';
import { KmemError, kmemError } from './errors.ts';

export interface DiagnosticsChannel {
  readonly hasSubscribers: boolean;
  publish(message: unknown): void;
}
interface Diagnostics {
  channel(name: string): DiagnosticsChannel;
}
/** A worker of either world, as far as the façade touches it. */
export interface WorkerLike {
  /** Node's number of the thread; absent in browsers. */
  readonly threadId?: number;
  postMessage(value: unknown): void;
  terminate(): unknown;
  /** Hears the end of the worker; absent in browsers. */
  once?(event: 'exit', hear: (code: number) => void): unknown;
}
/** Options of a worker: Node's own, and whatever the host takes beyond them. */
export interface WorkerOptions {
  /** What the worker finds in its workerData, with the machine's handle beside it as `kmem`. */
  readonly workerData?: object;
  /** Name of the thread in debuggers. */
  readonly name?: string;
  readonly [option: string]: unknown;
}
interface Threads {
  Worker: new (url: URL | string, options: WorkerOptions) => WorkerLike;
}
interface ProcessLike {
  getBuiltinModule?(name: string): unknown;
  once?(event: 'exit', hear: () => void): void;
  off?(event: 'exit', hear: () => void): void;
}

const world = globalThis as {
  process?: ProcessLike;
  Worker?: new (url: URL | string, options: object) => WorkerLike;
};
/** A module of Node's own, by its name with `node:`; null where there is none. */
export function hostBuiltin<T>(name: string): T | null {
  return (world.process?.getBuiltinModule?.(name) as T | undefined) ?? null;
}

const silent: DiagnosticsChannel = { hasSubscribers: false, publish: () => {} };
/** A diagnostics channel; one that nobody can hear where the host has none. */
export function hostChannel(name: string): DiagnosticsChannel {
  return hostBuiltin<Diagnostics>('node:diagnostics_channel')?.channel(name) ?? silent;
}

/**
 * Starts a worker that finds the handle: in Node in its workerData, in a browser
 * in the first message it gets.
 */
export function hostWorker(url: URL | string, handle: object, options: WorkerOptions): WorkerLike {
  const { workerData: data, ...others } = options;
  if (data !== undefined && (typeof data !== 'object' || data === null)) {
    throw kmemError(EINVAL, 'worker', `workerData: ${shown(data)} is no object`);
  }
  const workerData = data === undefined ? handle : { ...data, kmem: handle };
  const threads = hostBuiltin<Threads>('node:worker_threads');
  const start = (): WorkerLike => {
    if (threads) return new threads.Worker(url, { ...others, workerData });
    if (!world.Worker) throw kmemError(EOPNOTSUPP, 'worker', 'this host has no workers');
    const worker = new world.Worker(url, { type: 'module', ...others });
    worker.postMessage(workerData);
    return worker;
  };
  return byHost('worker', start);
}
/** Runs a call of the host that is given what the program gave: what it refuses is EINVAL. */
export function byHost<T>(op: string, run: () => T): T {
  try {
    return run();
  } catch (e) {
    if (e instanceof KmemError) throw e;
    throw kmemError(EINVAL, op, `the host refuses it: ${(e as Partial<Error> | null)?.message}`);
  }
}
/** Whether it can be ended as a worker of either world can. */
export function isWorker(worker: unknown): worker is WorkerLike {
  if (typeof worker !== 'object' || worker === null || !('terminate' in worker)) return false;
  const { once } = worker as Partial<WorkerLike>;
  return (
    typeof worker.terminate === 'function' && (once === undefined || typeof once === 'function')
  );
}

/** What is done when this thread ends by itself: one handler of the host for all of it. */
const atExit = new Set<() => void>();
function exits(): void {
  const wrong: unknown[] = [];
  for (const fn of atExit) {
    try {
      fn();
    } catch (e) {
      wrong.push(e); // the others run nevertheless
    }
  }
  if (wrong.length > 0) throw wrong[0];
}
/** Runs `fn` when this thread ends by itself; returns what calls that off. */
export function hostAtExit(fn: () => void): () => void {
  if (atExit.size === 0) world.process?.once?.('exit', exits);
  atExit.add(fn);
  return () => {
    if (atExit.delete(fn) && atExit.size === 0) world.process?.off?.('exit', exits);
  };
}
