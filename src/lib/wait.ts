/*
 * wait: how façade calls wait, blocking or in the event loop.
 *
 * Blocking.  A request is made without waiting; if it fails, the thread sleeps
 * on the kernel's own wait channel and makes the request again.  Items freed by
 * another thread may stay in that thread's cache without a wake-up, so sleeps
 * are short at first and grow.  Where nobody else could free anything, waiting
 * is a deadlock and says so.
 *
 * In the event loop.  A sleep record of the kernel's table is queued on the
 * channel, then the request is made once more (nothing falls between), then
 * waitAsync waits for the record's word; a timer keeps the thread alive and
 * bounds each wait, because a waitAsync cannot be called off and a wake-up may
 * have gone to a thread that died.  No kernel lock is held over an await.
 */
import { atomic_notify } from '../sys/machine/atomic.ts';
import { poll } from '../sys/machine/cpu.ts';
import { cpus_attached, reap_all } from '../sys/machine/death.ts';
import { EDEADLK, ETIMEDOUT } from '../sys/machine/errno.ts';
import { mem, memory_state } from '../sys/machine/memory.ts';
import { sleepq_async_add, sleepq_async_end, wakeup_one } from '../sys/sync/subr_sleepqueue.ts';
import { type AsyncOptions, asyncOptionsOf, type Wait } from './args.ts';
import { channels } from './channels.ts';
import {
  type Context,
  checkMayBlock,
  gone,
  giveBack,
  inKernel,
  type Mortal,
  tell,
} from './context.ts';
import { kmemError } from './errors.ts';
import { othersAttached } from './registry.ts';

/**
 * How long a single wait lasts before it looks around, ms: what a wake-up costs that
 * a dying thread took along.  Tests make them long: then nothing but wake-ups is left.
 */
export const slices = {
  /** The first one of a thread that blocks, */
  firstMs: 2,
  /** and the longest: each is twice the one before. */
  mostMs: 100,
  /** In the event loop. */
  asyncMs: 250,
  /** Of a thread that sleeps for a condition or a queue. */
  sleepMs: 1000,
};
/** Where the host cannot wait in the event loop, it looks this often, ms. */
const POLL_MS = 4;
/** A timer of the host that is to run longer would end at once, ms. */
export const TIMER_MAX_MS = 2 ** 31 - 1;

export type { AsyncOptions, Wait } from './args.ts';
export { checkTimeout } from './args.ts';

/** Whether some other living thread could free memory. Settles dead ones first. */
export function othersCouldFree(): boolean {
  if (!memory_state.shared || cpus_attached() <= 1) return false;
  reap_all();
  return othersAttached();
}

export interface BlockingWait {
  readonly op: string;
  /** Name of what is waited for. */
  readonly name: string;
  /** The call to use where this thread may not block. */
  readonly instead: string;
  readonly wait: Wait;
  /** Makes the request; 0: not now. */
  attempt(): number;
  /** Sleeps for at most `ms`, or returns at once if the request may succeed now. */
  sleep(ms: number): void;
}
/** Milliseconds that a Wait allows. */
export function waitMs(wait: Wait): number {
  if (wait === true) return Number.POSITIVE_INFINITY;
  return typeof wait === 'number' && wait > 0 ? wait : 0;
}
/** Repeats a request until it succeeds. Throws EDEADLK, ETIMEDOUT, EOPNOTSUPP. */
export function waitFor(o: BlockingWait): number {
  checkMayBlock(o.op, o.instead);
  const ms = waitMs(o.wait);
  sayWaits(o.op, o.name, ms);
  return inKernel(o.op, () => waitIn(o, ms));
}
/** Tells who listens that a call begins to wait. */
export function sayWaits(op: string, name: string, ms: number): void {
  if (channels.wait.hasSubscribers) tell(() => channels.wait.publish({ op, name, ms }));
}
function waitIn(o: BlockingWait, ms: number): number {
  const deadline = performance.now() + ms;
  for (let slice = slices.firstMs; ; slice = Math.min(slice * 2, slices.mostMs)) {
    if (!othersCouldFree()) {
      const text = `${o.name}: no other thread is there that could free memory`;
      throw kmemError(EDEADLK, o.op, text);
    }
    const left = deadline - performance.now();
    if (left <= 0) throw kmemError(ETIMEDOUT, o.op, `${o.name}: nothing came free in ${ms} ms`);
    o.sleep(Math.min(slice, left));
    poll();
    const got = o.attempt();
    if (got !== 0) return got;
  }
}

// --- in the event loop -----------------------------------------------------------------

type WaitAsync = (
  view: Int32Array,
  index: number,
  value: number,
  ms: number,
) => { async: boolean; value: Promise<string> | string };
const { waitAsync } = Atomics as unknown as { waitAsync?: WaitAsync };

/** One wait in the event loop until one of some words changes, cut short by `cut`. */
export class WordWait implements Mortal {
  /** Whether its time ran out. */
  expired = false;
  /** Gives back what belongs to the machine, if the thread leaves it in the middle. */
  cleanup: () => void = () => {};
  readonly #ctx: Context;
  readonly #done: Promise<void>;
  #resolve: () => void = () => {};

  /** Without a word, or where the host cannot wait for one, it ends after a moment. */
  constructor(ctx: Context, words: readonly number[], value: number, ms: number) {
    this.#ctx = ctx;
    const heard = memory_state.shared && waitAsync !== undefined && words.length > 0;
    const slice = Math.min(ms, heard ? slices.asyncMs : POLL_MS);
    this.#done = new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.expired = true;
        resolve();
      }, slice);
      this.#resolve = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    ctx.waits.add(this);
    for (const w of heard ? words : []) {
      const r = (waitAsync as WaitAsync)(mem.I32, w, value, slice);
      if (r.async) (r.value as Promise<string>).then((how) => this.#heard(how));
      else this.cut();
    }
  }
  #heard(how: string): void {
    this.expired ||= how === 'timed-out';
    this.cut();
  }
  /** Ends the wait. */
  cut(): void {
    this.#resolve();
  }
  /** The thread leaves the machine. */
  bury(): void {
    this.cleanup();
    this.cut();
  }
  /**
   * Resolves when the wait is over, and the thread not parked; true if it is still in
   * the machine.
   */
  async over(signal?: AbortSignal): Promise<boolean> {
    const cut = (): void => this.cut();
    signal?.addEventListener('abort', cut, { once: true });
    await this.#done;
    while (this.#ctx.parked !== null) await this.#ctx.parked;
    signal?.removeEventListener('abort', cut);
    this.#ctx.waits.delete(this);
    return this.#ctx.up;
  }
  /** Ends a waitAsync that is still pending on a word. */
  static settle(word: number): void {
    atomic_notify(word, 1);
  }
}

/**
 * Waits in the event loop while word `w` holds `value`, at most a slice.  The
 * caller looks at its condition again.  Throws ESHUTDOWN if the thread left the
 * machine meanwhile.
 */
export async function waitWord(
  ctx: Context,
  op: string,
  w: number,
  value: number,
  ms: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (!(await new WordWait(ctx, [w], value, ms).over(signal))) gone(op);
}

export interface AsyncWait<T> {
  readonly ctx: Context;
  readonly op: string;
  readonly name: string;
  readonly wmesg: string;
  readonly options: AsyncOptions | undefined;
  /** What a waker wakes. */
  wchan(): number;
  /** Makes the request without waiting; undefined: not now. */
  attempt(): T | undefined;
  /** Asks for wake-ups, once queued. */
  arm?(): void;
}
/** Rejects with the signal's reason once it is aborted. */
export function checkAbort(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw signal.reason;
}
/** Repeats a request, waiting in the event loop. */
export async function waitForAsync<T>(o: AsyncWait<T>): Promise<T> {
  const { signal, timeout } = asyncOptionsOf(o.op, o.options);
  checkAbort(signal);
  o.ctx.enter(o.op);
  const first = o.attempt();
  if (first !== undefined) return first;
  const ms = timeout ?? Number.POSITIVE_INFINITY;
  sayWaits(o.op, o.name, ms);
  const deadline = performance.now() + ms;
  for (;;) {
    const got = await waitOnce(o, signal, deadline - performance.now());
    if (got !== undefined) return got;
    checkAbort(signal);
    if (performance.now() >= deadline) {
      throw kmemError(ETIMEDOUT, o.op, `${o.name}: not in ${timeout} ms`);
    }
  }
}
/** Queues, asks once more, waits a slice, asks again. */
async function waitOnce<T>(
  o: AsyncWait<T>,
  signal: AbortSignal | undefined,
  ms: number,
): Promise<T | undefined> {
  o.ctx.enter(o.op);
  const wchan = o.wchan();
  // A full table gives 0: then only the timer ends the wait.
  const word = memory_state.shared ? inKernel(o.op, () => sleepq_async_add(wchan, o.wmesg)) : 0;
  const leave = (pass_on: boolean): void => {
    if (word !== 0) giveBack(o.op, () => unqueue(word, wchan, pass_on));
  };
  let queued = true;
  try {
    o.arm?.();
    const got = o.attempt();
    if (got !== undefined) {
      queued = false;
      leave(true);
      return got;
    }
    if (o.wchan() !== wchan) {
      queued = false;
      leave(true);
      return undefined; // what it lacks is another thing by now
    }
    const wait = new WordWait(o.ctx, word === 0 ? [] : [word], 1, ms);
    wait.cleanup = () => {
      queued = false;
      leave(true);
    };
    const here = await wait.over(signal);
    queued = queued && here; // else it was unqueued when the thread left
  } catch (e) {
    if (queued) leave(true);
    throw e;
  }
  if (!queued) gone(o.op);
  o.ctx.enter(o.op);
  poll();
  const given_up = signal?.aborted === true;
  leave(given_up);
  return given_up ? undefined : o.attempt();
}
/** Gives the sleep record back; a wake-up that is not used goes to the next. */
function unqueue(word: number, wchan: number, pass_on: boolean): void {
  const chosen = sleepq_async_end(word);
  WordWait.settle(word);
  if (pass_on && chosen) wakeup_one(wchan);
}
