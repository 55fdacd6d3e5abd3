/*
 * workers.test.lib: the threads of a test, and waiting for them.
 *
 * A test starts workers, each with the name of a job and its arguments; the
 * worker joins the machine as a CPU, does the job and says what it counted.
 *
 *      the test                                  its worker's file
 *
 *      const crew = new Crew(FILE)               run_job(jobs, { join, leave })
 *      const job = crew.start(handle, 'mutex')
 *      await within(job.up, ...)          <-     { up: cpu }, once it is a CPU
 *      await within(job.done, ...)        <-     { result } or { error }
 *      await crew.end()                          terminated, if it still runs
 *
 * Waiting.  A test waits for something to be true, never for some time to be
 * over: the machine may be as slow as it likes.  A limit says that a wake-up
 * was lost, so it is far longer than any wait; WAIT_MS is for all of them.
 */
import { parentPort, Worker, workerData } from 'node:worker_threads';
import type { Handle } from './machdep.ts';

/** A wait that takes so long will never end. */
export const WAIT_MS = 240_000;
/** How often a condition is looked at, ms. */
const LOOK_MS = 2;

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
/** Waits, with the event loop running, until `holds`; fails after WAIT_MS. */
export async function until(holds: () => boolean, what: string): Promise<void> {
  const end = performance.now() + WAIT_MS;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`gave up waiting: ${what}`);
    await sleep(LOOK_MS);
  }
}
/** Waits for a promise, but not for ever: a lost wake-up is a failed test. */
export async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end: ${what}`)), WAIT_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

// --- in the test -------------------------------------------------------------------

/** What a job counted, by name. */
export type Counts = Record<string, unknown>;

export interface Job<C extends Counts> {
  readonly worker: Worker;
  /** Resolves with the slot once the worker is a CPU. */
  readonly up: Promise<number>;
  /** What the job returned; rejects with what it threw. */
  readonly done: Promise<C>;
}
interface Task {
  readonly handle: Handle;
  readonly job: string;
  readonly args: Record<string, unknown>;
}
interface Said<C> {
  up?: number;
  result?: C;
  error?: string;
}

/** The workers of one file, started one by one and ended together. */
export class Crew<C extends Counts> {
  readonly #file: URL;
  readonly #workers: Worker[] = [];

  constructor(file: URL) {
    this.#file = file;
  }
  /** Starts a worker that joins the machine and runs a job of the file. */
  start(handle: Handle, job: string, args: Record<string, unknown> = {}): Job<C> {
    const workerData: Task = { handle, job, args };
    const worker = new Worker(this.#file, { workerData });
    this.#workers.push(worker);
    const up = Promise.withResolvers<number>();
    const done = Promise.withResolvers<C>();
    const fail = (e: Error): void => {
      up.reject(e);
      done.reject(e);
    };
    worker.on('message', (m: Said<C>) => {
      if (m.up !== undefined) up.resolve(m.up);
      else if (m.error !== undefined) fail(new Error(m.error));
      else done.resolve(m.result as C);
    });
    worker.on('error', fail);
    worker.on('exit', (code) => fail(new Error(`${job}: its thread ended with code ${code}`)));
    up.promise.catch(() => {});
    done.promise.catch(() => {}); // a test that kills the worker does not wait for it
    return { worker, up: up.promise, done: done.promise };
  }
  /** Ends those that still run, so that a failed test does not hang. */
  async end(): Promise<void> {
    await Promise.all(this.#workers.splice(0).map((worker) => worker.terminate()));
  }
}

// --- in the worker -----------------------------------------------------------------

/** Runs the job that the test asked for; nothing in a thread that is no such worker. */
export function run_job<A>(
  run: (job: string, args: A) => Counts,
  machine: { join: (handle: Handle) => number; leave: () => void; failed?: () => void },
): void {
  const task = workerData as Task | null;
  if (parentPort === null || task?.job === undefined) return;
  const { handle, job, args } = task;
  try {
    const up = machine.join(handle);
    parentPort.postMessage({ up } satisfies Said<Counts>);
    const result = run(job, args as A);
    machine.leave();
    parentPort.postMessage({ result } satisfies Said<Counts>);
  } catch (e) {
    const { name, message, stack } = e instanceof Error ? e : new Error(String(e));
    const error = `${job}: ${name}: ${message}\n${stack ?? ''}`;
    parentPort.postMessage({ error } satisfies Said<Counts>);
    machine.failed?.();
  }
}
