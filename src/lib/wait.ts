/*
 * wait: how façade calls wait with the thread blocked.
 *
 * A request is made without waiting; if it fails, the thread sleeps on the
 * kernel's own wait channel and makes the request again.  Items freed by
 * another thread may stay in that thread's cache without a wake-up, so sleeps
 * are short at first and grow.  Where nobody else could free anything, waiting
 * is a deadlock and says so.
 *
 * How tasks wait in the event loop is in line.ts; what both have in common is here: how
 * long a single sleep lasts, and who is told that a call begins to wait.
 */
import { poll } from '../sys/machine/cpu.ts';
import { cpus_attached, reap_all } from '../sys/machine/death.ts';
import { EDEADLK, ETIMEDOUT } from '../sys/machine/errno.ts';
import { memory_state } from '../sys/machine/memory.ts';
import type { Wait } from './args.ts';
import { channels } from './channels.ts';
import { checkMayBlock, inKernel, tell } from './context.ts';
import { kmemError } from './errors.ts';
import { registry_others } from '../sys/client/kern_registry.ts';

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
/** A timer of the host that is to run longer would end at once, ms. */
export const TIMER_MAX_MS = 2 ** 31 - 1;

export type { AsyncOptions, Wait } from './args.ts';

/** Whether some other living thread could free memory. Settles dead ones first. */
export function othersCouldFree(): boolean {
  if (!memory_state.shared || cpus_attached() <= 1) return false;
  reap_all();
  return registry_others();
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

/** Rejects with the signal's reason once it is aborted. */
export function checkAbort(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw signal.reason;
}
