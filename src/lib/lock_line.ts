/*
 * lock_line: the tasks of one thread that wait for a mutex in its event loop.
 *
 *      task 1 holds it   line: task 2 -> task 3 -> ...     one waitAsync on the lock's word
 *
 * To the kernel the line is one waiter: it sets the flag that makes unlock wake somebody, and
 * sleeps on the word of the lock, as a thread that blocks does.  Told that the mutex is free, it
 * takes it for its first task; a mutex that was handed over is taken as it is.  The others
 * sleep on until that task gives it back.
 *
 * Threads that lock and unlock without a pause would leave the event loop nothing.  If
 * the line was told in vain for HANDOFF_MS, it asks that the mutex be handed over.  A thread that
 * blocks asks for that much sooner: a mutex in the hand of an event loop that computes is
 * nobody's.
 *
 * A waitAsync cannot be called off.  If the line hears of the mutex when nobody is left in
 * it, the next waiter is woken.
 */
import {
  atomic_cas,
  atomic_load,
  atomic_notify,
  atomic_or,
  notify_in,
} from '../sys/machine/atomic.ts';
import { mtx_leave, mtx_trylock_told, mtx_trylock_word } from '../sys/sync/kern_mutex.ts';
import { abandoned, GRANT, LK_HANDOFF, LK_WAITERS, word_owner } from '../sys/sync/lock_word.ts';
import type { Context, Mortal } from './context.ts';
import { Line, Sleep, type Why } from './line.ts';
import { slices } from './wait.ts';

/** How long the line is told in vain before it asks that the mutex be handed over, ms. */
const HANDOFF_MS = 20;

/** The mutex that a line waits for. */
export interface LockPlace {
  /** Its word; 0 once this thread has let go of it. */
  word(): number;
  /** Abandons it if its owner is dead. Asks the host now and then. */
  settle(l: number): void;
}

export class LockLine extends Line {
  readonly #lock: LockPlace;
  /** It was woken, and has not used that. */
  #told = false;
  /** What the word held when the sleep began. */
  #seen = 0;
  /** Since when its first task was told and refused; 0: it was not. */
  #refused = 0;

  constructor(ctx: Context, of: Mortal, lock: LockPlace) {
    super(ctx, of);
    this.#lock = lock;
  }
  /**
   * Takes the mutex for the first task, or for one that does not wait.  Returns 0,
   * EWOULDBLOCK or EOWNERDEAD.
   */
  take(l: number): number {
    const error = this.#told ? mtx_trylock_told(l) : mtx_trylock_word(l);
    if (error === 0 && this.count > 0) {
      this.#told = false;
      this.#refused = 0;
      atomic_or(l, LK_WAITERS); // others may sleep on it, and their flag went with the unlock
    }
    return error;
  }
  protected look(why: Why): Sleep | null {
    const l = this.#lock.word();
    this.#told ||= why === 'told';
    if (why !== 'joined') this.#lock.settle(l);
    // A grant that stood through a whole slice was meant for a waiter that is gone.
    const seen = this.#seen;
    if (why === 'late' && word_owner(seen) === GRANT && atomic_cas(l, seen, 0) === seen) {
      atomic_notify(l, 1);
    }
    const ended = this.ask(1);
    if (this.count === 0) return null;
    const now = performance.now();
    if (why === 'told' && ended === 0 && this.#refused === 0) this.#refused = now;
    const passed = this.#refused !== 0 && now - this.#refused > HANDOFF_MS;
    const v = atomic_load(l);
    if (word_owner(v) === 0 || abandoned(v)) return null;
    const flags = LK_WAITERS | (passed ? LK_HANDOFF : 0);
    if ((v & flags) !== flags && atomic_cas(l, v, v | flags) !== v) return null;
    this.#told = false;
    this.#seen = v | flags;
    return new Sleep([l], v | flags, slices.asyncMs, (w, memory) => this.#heard(w, memory));
  }
  /** A wake-up for which no sleep is left. */
  #heard(l: number, memory: Int32Array): void {
    if (this.ctx.up && this.#lock.word() === l) mtx_leave(l, true);
    else notify_in(memory, l, 1); // disposed of, or left: it may be another thing by now
  }
  protected leave(): void {
    if (this.#told && this.#lock.word() !== 0) mtx_leave(this.#lock.word(), true);
    this.#told = false;
    this.#refused = 0;
  }
  protected override unused(): void {
    if (this.#lock.word() !== 0) mtx_leave(this.#lock.word(), true);
  }
  protected joined(): boolean {
    return false;
  }
  protected quit(): void {}
}
