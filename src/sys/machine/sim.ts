/*
 * sim: where the seeded scheduler plugs in.
 *
 * Atomic operations, waits and notifications are the only places where one
 * CPU can observe another's timing.  They go through atomic.ts and slot_word.ts,
 * and there, when opt.SIM is on, they first call `sim.point`.  A scheduler
 * (sim/ at the top of the project) replaces these functions before boot; with
 * SIM off V8 removes the calls.
 */
export interface SimHooks {
  /** About to perform operation `kind` on word `w`; may run another CPU first. */
  point(kind: number, w: number): void;
  /** Stands for Atomics.wait: compares and sleeps in one step. */
  block(w: number, value: number, ms: number): 'ok' | 'not-equal' | 'timed-out';
  /** Stands for Atomics.notify. */
  wake(w: number, count: number): number;
  /** Virtual time, ms. */
  now(): number;
}

export const P_CAS = 1;
export const P_XCHG = 2;
export const P_ADD = 3;
export const P_AND = 4;
export const P_OR = 5;
export const P_LOAD = 6;
export const P_STORE = 7;
export const P_WAIT = 8;
export const P_NOTIFY = 9;
export const P_PLAIN = 10;

export const sim: SimHooks = {
  point() {},
  block() {
    return 'timed-out';
  },
  wake() {
    return 0;
  },
  now() {
    return 0;
  },
};
