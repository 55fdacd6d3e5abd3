/*
 * clock: one time for all threads.
 *
 * performance.now() counts from the start of each thread, so the thread's own
 * origin is added: milliseconds since the epoch, with fractions, never going
 * back within a thread.  Under the seeded scheduler time is the scheduler's.
 */
import { opt } from './opt.ts';
import { sim } from './sim.ts';

/** Milliseconds, comparable between threads of one host. */
export function now_ms(): number {
  if (opt.SIM) return sim.now();
  return performance.timeOrigin + performance.now();
}
