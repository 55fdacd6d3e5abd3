/*
 * atomic: atomic operations on words, waiting and waking.
 *
 * Order between CPUs exists only where an atomic read reads what an atomic
 * write wrote; everything the writer did before is then visible.  Plain
 * accesses order nothing: a plain look may save time, but neither safety nor
 * progress may rest on it.
 *
 * Kernel code calls the helper's atomics, Atomics.wait and Atomics.notify by these
 * wrappers only, so that a seeded scheduler sees every point where CPUs can meet
 * (sim.ts).  Elsewhere stand the words of slot_word.ts, which tell the scheduler
 * themselves, and the waits of an event loop (Atomics.waitAsync in cpu_slots.ts and in
 * the façade), which it does not see.
 */
import { now_ms } from './clock.ts';
import { host_can_block } from './host.ts';
import { look_rows } from './hw.ts';
import { hw as hw_, mem as mem_, memory_state } from './memory.ts';
import { opt as opt_ } from './opt.ts';
import {
  P_ADD,
  P_AND,
  P_CAS,
  P_LOAD,
  P_NOTIFY,
  P_OR,
  P_PLAIN,
  P_STORE,
  P_WAIT,
  P_XCHG,
  sim,
} from './sim.ts';

// tidy: hot. Local names: V8 takes them for constants, imported ones it does not.
const mem = mem_;
const hw = hw_;
const opt = opt_;

/** Compare-and-swap: stores `value` if the word holds `expected`; returns what it held. */
export function atomic_cas(w: number, expected: number, value: number): number {
  if (opt.SIM) sim.point(P_CAS, w);
  return hw.cas(w, expected, value);
}
/** Exchanges; returns the old value. */
export function atomic_xchg(w: number, value: number): number {
  if (opt.SIM) sim.point(P_XCHG, w);
  return hw.xchg(w, value);
}
/** Adds; returns the old value. */
export function atomic_add(w: number, value: number): number {
  if (opt.SIM) sim.point(P_ADD, w);
  return hw.add(w, value);
}
/** Clears the bits that are 0 in `mask`; returns the old value. */
export function atomic_and(w: number, mask: number): number {
  if (opt.SIM) sim.point(P_AND, w);
  return hw.and(w, mask);
}
/** Sets bits; returns the old value. */
export function atomic_or(w: number, bits: number): number {
  if (opt.SIM) sim.point(P_OR, w);
  return hw.or(w, bits);
}
/** Loads with acquire order. */
export function atomic_load(w: number): number {
  if (opt.SIM) sim.point(P_LOAD, w);
  return hw.load(w);
}
/** Exchanges `w`, then loads `other` with acquire order; returns that. Two steps. */
export function atomic_xchg_load(w: number, value: number, other: number): number {
  if (opt.SIM) {
    atomic_xchg(w, value);
    return atomic_load(other);
  }
  return hw.xchg_load(w, value, other);
}
/** The first CPU, + 1, whose row names the lock (hw.ts); 0: none. As many steps as words. */
export function atomic_look(
  rows: number,
  cpus: number,
  lock: number,
  skip: number,
  kernel: number,
): number {
  if (opt.SIM) return look_rows(atomic_load, rows, cpus, lock, skip, kernel);
  return hw.look(rows, cpus, lock, skip, kernel);
}
/** Stores with release order. */
export function atomic_store(w: number, value: number): void {
  if (opt.SIM) sim.point(P_STORE, w);
  hw.store(w, value);
}
/** A place where the scheduler may switch although no atomic is done. */
export function sim_point(w: number): void {
  if (opt.SIM) sim.point(P_PLAIN, w);
}

/**
 * Sleeps while the word holds `value`, at most `ms`.  Compares and queues in
 * one step.  On memory that nobody shares nobody could wake the sleeper: the
 * call returns 'timed-out' at once.  A thread that may not block, such as a
 * browser's main thread, looks at the word for LOOK_MS at most instead.
 */
export function atomic_wait(
  w: number,
  value: number,
  ms: number,
): 'ok' | 'not-equal' | 'timed-out' {
  if (opt.SIM) {
    sim.point(P_WAIT, w);
    return sim.block(w, value, ms);
  }
  if (!memory_state.shared) return mem.I32[w] === value ? 'timed-out' : 'not-equal';
  if (!host_can_block()) return look(w, value, Math.min(ms, LOOK_MS));
  return Atomics.wait(mem.I32, w, value, ms);
}
const LOOK_MS = 1;
function look(w: number, value: number, ms: number): 'not-equal' | 'timed-out' {
  const until = now_ms() + ms;
  do {
    if (hw.load(w) !== value) return 'not-equal';
    pause_hint();
  } while (now_ms() < until);
  return 'timed-out';
}
/** Wakes up to `count` sleepers on the word; returns how many. */
export function atomic_notify(w: number, count: number): number {
  if (opt.SIM) {
    sim.point(P_NOTIFY, w);
    return sim.wake(w, count);
  }
  return memory_state.shared ? Atomics.notify(mem.I32, w, count) : 0;
}

type WaitAsync = (
  view: Int32Array,
  index: number,
  value: number,
  ms: number,
) => { async: boolean; value: Promise<string> | string };
/** The same in the event loop, for a thread with nothing else to do; not seen by the scheduler. */
export async function atomic_wait_async(w: number, value: number, ms: number): Promise<void> {
  const wait_async = (Atomics as unknown as { waitAsync?: WaitAsync }).waitAsync;
  if (!memory_state.shared || !wait_async) {
    await new Promise((resolve) => setTimeout(resolve, Math.min(ms, LOOK_MS)));
  } else await wait_async(mem.I32, w, value, ms).value;
}

/** The same in a memory that this thread may have left: it may be bound to another by now. */
export function notify_in(words: Int32Array, w: number, count: number): void {
  if (words.buffer instanceof ArrayBuffer) return;
  Atomics.notify(words, w, count);
}

const pause_hint: () => void = (Atomics as { pause?: () => void }).pause ?? (() => {});
/** Tells the processor that this is a spin loop, where the host knows how. */
export function cpu_spinwait(): void {
  if (!opt.SIM) pause_hint();
}
