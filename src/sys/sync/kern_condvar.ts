/*
 * kern_condvar: condition variables.
 *
 * A condition variable is a word that nobody reads: its address is the wait
 * channel.  cv_wait gives the mutex up and takes it again, as msleep does; the
 * caller tests its condition in a loop.
 */
import { now_ms } from '../machine/clock.ts';
import { EOWNERDEAD } from '../machine/errno.ts';
import type { LockField } from '../machine/struct.ts';
import { mtx_lock } from './kern_mutex.ts';
import { msleep, wakeup, wakeup_one } from './subr_sleepqueue.ts';

/** Waits until somebody signals the condition `cv` (a word index). */
export function cv_wait<P extends number>(
  cv: number,
  f: LockField<P>,
  p: P,
  wmesg: string,
): number {
  return msleep(cv, f, p, wmesg, Number.POSITIVE_INFINITY);
}
/** The same, at most `ms`. EWOULDBLOCK when the time is over. */
export function cv_timedwait<P extends number>(
  cv: number,
  f: LockField<P>,
  p: P,
  wmesg: string,
  ms: number,
): number {
  return msleep(cv, f, p, wmesg, ms);
}
/** Waits until `holds` is true or the time is over; the mutex is held at each test. */
export function cv_wait_until<P extends number>(
  cv: number,
  f: LockField<P>,
  p: P,
  wmesg: string,
  ms: number,
  holds: () => boolean,
): boolean {
  const deadline = now_ms() + ms;
  while (!holds()) {
    const left = deadline - now_ms();
    if (left <= 0) return false;
    if (msleep(cv, f, p, wmesg, left) === EOWNERDEAD) mtx_lock(f, p); // throws it, or has it
  }
  return true;
}
/** Wakes one waiter. */
export function cv_signal(cv: number): void {
  wakeup_one(cv);
}
/** Wakes all waiters. */
export function cv_broadcast(cv: number): void {
  wakeup(cv);
}
