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
 *
 * A wake-up is never spent on somebody who cannot use it.  A call that was chosen by a
 * waker is *told*, until its request succeeds.  If it ends otherwise (an exception, the
 * signal, its time), it wakes the next.  When the thread lets go of the object, its
 * waits for it end at once and do the same.
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
  type Wait as ContextWait,
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
export class WordWait implements ContextWait {
  /** What it is for: it ends when the thread lets go of one of them. */
  readonly of: readonly Mortal[];
  /** Whether its time ran out. */
  expired = false;
  /** Gives back what belongs to the machine, if the thread leaves it in the middle. */
  cleanup: () => void = () => {};
  /** Other threads wait for the same word. */
  shares = false;
  readonly #ctx: Context;
  readonly #done: Promise<void>;
  #over = false;
  #resolve: () => void = () => {};

  /** Without a word, or where the host cannot wait for one, it ends after a moment. */
  constructor(
    ctx: Context,
    words: readonly number[],
    value: number,
    ms: number,
    of: readonly Mortal[] = [],
  ) {
    this.#ctx = ctx;
    this.of = of;
    const heard = memory_state.shared && waitAsync !== undefined && words.length > 0;
    const slice = Math.min(ms, heard ? slices.asyncMs : POLL_MS);
    this.#done = new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.expired = true;
        this.#over = true;
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
      if (r.async) (r.value as Promise<string>).then((how) => this.#heard(w, how));
      else this.cut();
    }
  }
  #heard(w: number, how: string): void {
    // It was over already, but could not be called off: who waits beside it is to hear of it.
    if (this.#over && this.shares && how === 'ok' && this.#ctx.up) atomic_notify(w, 1);
    this.expired ||= how === 'timed-out';
    this.cut();
  }
  /** Ends the wait. */
  cut(): void {
    this.#over = true;
    this.#resolve();
  }
  /** The thread leaves the machine, or lets go of what is waited for. */
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
 * Waits in the event loop while word `w`, for which others wait too, holds `value`, at
 * most a slice.  The caller looks again whether its objects are alive, and at its condition.
 */
export async function waitWord(
  of: readonly Mortal[],
  ctx: Context,
  w: number,
  value: number,
  ms: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const wait = new WordWait(ctx, [w], value, ms, of);
  wait.shares = true;
  await wait.over(signal);
}

export interface AsyncWait<T> {
  readonly ctx: Context;
  /** What is waited for: the wait ends when this thread lets go of it. */
  readonly of: Mortal;
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
  /** Gives up what the request is made with, once queued: a condition's mutex. */
  letGo?(): void;
  /** Has it again before the next request; false: not in time, or it is not wanted any more. */
  back?(deadline: number, signal: AbortSignal | undefined): Promise<boolean>;
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
  const told: Told = { wchan: 0 };
  try {
    for (;;) {
      const got = await waitOnce(o, told, signal, deadline);
      if (got !== undefined) return got;
      checkAbort(signal);
      if (performance.now() >= deadline) {
        throw kmemError(ETIMEDOUT, o.op, `${o.name}: not in ${timeout} ms`);
      }
    }
  } catch (e) {
    if (o.ctx.up) passOn(o, told);
    throw e;
  }
}
/** Where a waker chose this call, which has not succeeded yet; 0: nowhere. */
interface Told {
  wchan: number;
}
/** Wakes the next: this call cannot use what it was told. */
function passOn<T>(o: AsyncWait<T>, told: Told): void {
  const { wchan } = told;
  told.wchan = 0;
  if (wchan !== 0) giveBack(o.op, () => wakeup_one(wchan));
}
/** Queues, asks once more, waits a slice, asks again. */
async function waitOnce<T>(
  o: AsyncWait<T>,
  told: Told,
  signal: AbortSignal | undefined,
  deadline: number,
): Promise<T | undefined> {
  o.ctx.enter(o.op);
  const wchan = o.wchan();
  if (told.wchan !== wchan) passOn(o, told); // what it lacks is another thing by now
  // A full table gives 0: then only the timer ends the wait.
  let word = memory_state.shared ? inKernel(o.op, () => sleepq_async_add(wchan, o.wmesg)) : 0;
  const leave = (): void => {
    const mine = word;
    word = 0;
    if (mine !== 0) giveBack(o.op, () => unqueue(mine, wchan, told));
  };
  let ended = false;
  try {
    o.arm?.();
    const got = o.attempt();
    if (got !== undefined || o.wchan() !== wchan) {
      leave();
      if (got !== undefined) passOn(o, told); // it came by itself
      return got;
    }
    o.letGo?.();
    const ms = deadline - performance.now();
    const wait = new WordWait(o.ctx, word === 0 ? [] : [word], 1, ms, [o.of]);
    wait.cleanup = () => {
      ended = true;
      leave();
      passOn(o, told);
    };
    await wait.over(signal);
  } catch (e) {
    leave();
    throw e;
  }
  if (ended || !o.ctx.up) {
    o.wchan(); // an object that was disposed of says so
    gone(o.op, o.ctx);
  }
  o.ctx.enter(o.op);
  poll();
  leave();
  if (o.back !== undefined && !(await o.back(deadline, signal))) return undefined;
  return signal?.aborted === true ? undefined : o.attempt();
}
/** Gives the sleep record back, and notes whether a waker had chosen it. */
function unqueue(word: number, wchan: number, told: Told): void {
  if (sleepq_async_end(word)) told.wchan = wchan;
  WordWait.settle(word);
}
