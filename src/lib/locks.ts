/*
 * locks: the kernel's own mutex, shared/exclusive lock and condition, by name.
 *
 *      const lock = machine.mutex('index');
 *      lock.run(() => { ... });               or  { using held = lock.lock(); ... }
 *      await lock.lockAsync({ signal });      where the thread must not block
 *
 * They lie in the machine's memory: every thread finds them by name, WITNESS
 * proves the order in which they are taken, the lock profile times them.  A
 * lock belongs to a thread, not to a task: two tasks of one event loop that
 * want it take turns through lockAsync.
 *
 * A thread that dies holding one stops the machine (KernelPanic in the others):
 * nobody can know what it left half done.  Programs for which that is too much
 * keep such sections short, or hand work over through a queue.
 *
 * Calls wait, save those that say try: mutex before condition; an rwlock may be
 * held while waiting for memory, a mutex should not be (WITNESS reports it).
 * Order: rwlocks, then mutexes.
 */
import { atomic_cas, atomic_load, atomic_notify, atomic_or } from '../sys/machine/atomic.ts';
import { pcpu, thr } from '../sys/machine/cpu.ts';
import { tid_alive } from '../sys/machine/death.ts';
import { EDEADLK, EPERM, ETIMEDOUT } from '../sys/machine/errno.ts';
import { memory_state } from '../sys/machine/memory.ts';
import { elem } from '../sys/machine/struct.ts';
import {
  LK_WAITERS,
  mtx_init,
  mtx_lock_word,
  mtx_owned_word,
  mtx_trylock,
  mtx_unlock_word,
} from '../sys/sync/kern_mutex.ts';
import {
  HELD_READ,
  rw_downgrade,
  rw_init,
  rw_runlock,
  rw_timedrlock,
  rw_timedwlock,
  rw_try_upgrade,
  rw_wowned,
  rw_wunlock,
} from '../sys/sync/kern_rwlock.ts';
import { LC_USER_MTX, LC_USER_SX } from '../sys/sync/lock_order.ts';
import { msleep, wakeup, wakeup_one } from '../sys/sync/subr_sleepqueue.ts';
import {
  bracket,
  checkMayBlock,
  type Context,
  enter,
  gone,
  mayBlock,
  type Mortal,
} from './context.ts';
import { kmemError } from './errors.ts';
import { E_LOCK, E_STATE, type Kind, obtain, release, WORD } from './registry.ts';
import { type AsyncOptions, checkAbort, waitForAsync, waitWord } from './wait.ts';

/** How long taking a lock, or waiting for a condition, may last. */
export interface LockOptions {
  /** Longest wait, ms; ETIMEDOUT when it is over. Default: as long as it takes. */
  readonly timeout?: number;
}
const FLAGS = 7;
/** A mutex that was handed to a waiter who has not taken it yet (kern_mutex.ts). */
const GRANT = 127 << 3;
/** A dead owner is noticed by a wait of this length, ms. */
const DEAD_OWNER_MS = 50;
/** A sleep for a condition is cut into slices, ms: a signal may go to a thread that died. */
const CV_SLICE_MS = 1000;

/** What mutexes, rwlocks and conditions have in common: a name, and an end. */
abstract class Named implements Mortal, Disposable {
  readonly name: string;
  protected readonly ctx: Context;
  protected readonly entry: number;
  readonly #kind: Kind;
  /** Word of the lock or of the condition; 0: buried. */
  protected word: number;

  constructor(ctx: Context, kind: Kind, name: string, init: (l: number) => void) {
    this.name = name;
    this.ctx = ctx;
    this.#kind = kind;
    this.entry = obtain(kind, name, kind, (e) => init(e + E_LOCK));
    this.word = this.entry + E_LOCK;
  }
  protected live(op: string): number {
    if (this.word === 0) gone(op);
    enter(op);
    return this.word;
  }
  /** Whether it may not be ended now. */
  protected abstract busy(): boolean;
  /** Lets go of it; with the last thread that has it the name is free again. */
  dispose(): void {
    if (this.word === 0) return;
    enter('dispose');
    this.ctx.forget(this.#kind, this.name);
    release(this.entry, () => this.busy());
    this.bury();
  }
  /** dispose() at the end of a `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
  /** @internal */
  bury(): void {
    this.word = 0;
  }
  protected refuse(op: string, errno: number, why: string): never {
    throw kmemError(errno, op, `${this.#kind} '${this.name}': ${why}`);
  }
}

/** The kernel's mutex, found by name in every thread. Made by machine.mutex(). */
export class Mutex extends Named {
  readonly #held: Disposable;

  /** Use machine.mutex(name). */
  constructor(ctx: Context, name: string) {
    super(ctx, 'mutex', name, (l) => mtx_init(WORD, l, LC_USER_MTX));
    this.#held = { [Symbol.dispose]: () => this.owned && this.unlock() };
  }
  /**
   * Takes the mutex, waiting if another thread has it.  The result gives it back
   * at the end of a `using`.  Throws EDEADLK if this thread has it already,
   * ETIMEDOUT, EOPNOTSUPP on a browser's main thread when it is taken.
   */
  lock(options: LockOptions = {}): Disposable {
    const l = this.live('lock');
    if (mtx_owned_word(l)) this.#own('lock');
    if (!mayBlock()) {
      if (!mtx_trylock(WORD, l)) checkMayBlock('lock', 'lockAsync');
    } else if (!mtx_lock_word(l, options.timeout ?? Number.POSITIVE_INFINITY)) {
      this.refuse('lock', ETIMEDOUT, `another thread held it for ${options.timeout} ms`);
    }
    return this.#held;
  }
  /** Takes the mutex if it is free. Never waits. False: not taken. Throws ESHUTDOWN. */
  tryLock(): boolean {
    const l = this.live('tryLock');
    return !mtx_owned_word(l) && mtx_trylock(WORD, l);
  }
  /** Gives the mutex back. Throws EPERM if this thread does not have it. */
  unlock(): void {
    const l = this.live('unlock');
    if (!mtx_owned_word(l)) this.refuse('unlock', EPERM, 'this thread does not hold it');
    mtx_unlock_word(l);
  }
  /** Whether this thread has the mutex. */
  get owned(): boolean {
    return mtx_owned_word(this.live('owned'));
  }
  /** Runs `fn` with the mutex held. `fn` is synchronous: see runAsync. Throws as lock does. */
  run<T>(fn: () => T, options?: LockOptions): T {
    this.lock(options);
    return bracket(fn, () => this.unlock());
  }
  /**
   * Takes the mutex, waiting in the event loop; other tasks of this thread wait
   * likewise.  Rejects with the signal's reason, or ETIMEDOUT.
   */
  async lockAsync(options: AsyncOptions = {}): Promise<Disposable> {
    const { signal, timeout } = options;
    checkAbort(signal);
    const deadline = performance.now() + (timeout ?? Number.POSITIVE_INFINITY);
    for (let waited = false; ; waited = true) {
      const l = this.live('lockAsync');
      if (!mtx_owned_word(l) && mtx_trylock(WORD, l)) {
        // Others may sleep on it, and their flag went with the unlock.
        if (waited) atomic_or(l, LK_WAITERS);
        return this.#held;
      }
      const left = deadline - performance.now();
      if (left <= 0) this.refuse('lockAsync', ETIMEDOUT, `it was taken for ${timeout} ms`);
      await this.#waitAsync(l, left, signal);
      if (signal?.aborted) atomic_notify(this.live('lockAsync'), 1); // a wake-up goes to the next
      checkAbort(signal);
    }
  }
  /** Runs `fn` with the mutex held over its awaits, and waits in the event loop for the mutex. */
  async runAsync<T>(fn: () => T | Promise<T>, options?: AsyncOptions): Promise<T> {
    await this.lockAsync(options);
    try {
      return await fn();
    } finally {
      this.unlock();
    }
  }
  /**
   * The lock word, for a condition.
   * @internal
   */
  wordFor(op: string): number {
    const l = this.live(op);
    if (!mtx_owned_word(l)) this.refuse(op, EPERM, 'this thread does not hold it');
    return l;
  }
  protected busy(): boolean {
    return atomic_load(this.word) !== 0;
  }

  async #waitAsync(l: number, ms: number, signal: AbortSignal | undefined): Promise<void> {
    const v = atomic_load(l);
    if ((v & ~FLAGS) === 0) return;
    if ((v & LK_WAITERS) === 0 && atomic_cas(l, v, v | LK_WAITERS) !== v) return;
    await waitWord(this.ctx, 'lockAsync', l, v | LK_WAITERS, ms, signal);
    const now = atomic_load(l);
    const owner = now & ~FLAGS;
    // Handed over: perhaps to us, perhaps to a thread that gave up.  Anybody may have it.
    if (owner === GRANT) {
      if (atomic_cas(l, now, 0) === now) atomic_notify(l, 1);
    } else if (owner !== 0 && !tid_alive(owner)) {
      if (mtx_lock_word(l, DEAD_OWNER_MS)) mtx_unlock_word(l); // panics: what it left is unknown
    }
  }
  #own(op: string): never {
    this.refuse(op, EDEADLK, 'this thread holds it already');
  }
}

/** The kernel's shared/exclusive lock, found by name in every thread. Made by machine.rwlock(). */
export class RwLock extends Named {
  readonly #reads: Disposable = { [Symbol.dispose]: () => this.unlockRead() };
  readonly #writes: Disposable = { [Symbol.dispose]: () => this.unlockWrite() };

  /** Use machine.rwlock(name). */
  constructor(ctx: Context, name: string) {
    super(ctx, 'rwlock', name, (l) => rw_init(WORD, l, LC_USER_SX));
  }
  /**
   * Takes the lock shared: other readers may have it too.  Waits while a writer
   * has or wants it.  Throws EDEADLK if this thread writes, ETIMEDOUT, EOPNOTSUPP.
   */
  lockRead(options: LockOptions = {}): Disposable {
    const l = this.live('lockRead');
    if (rw_wowned(WORD, l)) this.refuse('lockRead', EDEADLK, 'this thread holds it exclusively');
    const ms = options.timeout ?? Number.POSITIVE_INFINITY;
    if (rw_timedrlock(WORD, l, mayBlock() ? ms : 0)) return this.#reads;
    return this.#late('lockRead', ms);
  }
  /**
   * Takes the lock alone.  Throws EDEADLK if this thread has it in any way,
   * ETIMEDOUT, EOPNOTSUPP.
   */
  lockWrite(options: LockOptions = {}): Disposable {
    const l = this.live('lockWrite');
    if (rw_wowned(WORD, l) || this.#reading(l)) {
      this.refuse('lockWrite', EDEADLK, 'this thread holds it already');
    }
    const ms = options.timeout ?? Number.POSITIVE_INFINITY;
    if (rw_timedwlock(WORD, l, mayBlock() ? ms : 0)) return this.#writes;
    return this.#late('lockWrite', ms);
  }
  /** Takes the lock shared if that can be had now. Never waits. False: not taken. */
  tryLockRead(): boolean {
    const l = this.live('tryLockRead');
    return !rw_wowned(WORD, l) && rw_timedrlock(WORD, l, 0);
  }
  /** Takes the lock alone if that can be had now. Never waits. False: not taken. */
  tryLockWrite(): boolean {
    const l = this.live('tryLockWrite');
    return !rw_wowned(WORD, l) && !this.#reading(l) && rw_timedwlock(WORD, l, 0);
  }
  /** Gives a shared hold back. Throws EPERM without one. */
  unlockRead(): void {
    const l = this.live('unlockRead');
    if (!this.#reading(l)) this.refuse('unlockRead', EPERM, 'this thread does not hold it shared');
    rw_runlock(WORD, l);
  }
  /** Gives the exclusive hold back. Throws EPERM without one. */
  unlockWrite(): void {
    const l = this.live('unlockWrite');
    if (!rw_wowned(WORD, l)) this.refuse('unlockWrite', EPERM, 'this thread does not hold it');
    rw_wunlock(WORD, l);
  }
  /** Turns this thread's shared hold, if it is the only one, into the exclusive one. False: not. */
  tryUpgrade(): boolean {
    const l = this.live('tryUpgrade');
    if (!this.#reading(l)) this.refuse('tryUpgrade', EPERM, 'this thread does not hold it shared');
    return rw_try_upgrade(WORD, l);
  }
  /** Turns the exclusive hold into a shared one. Throws EPERM without one. */
  downgrade(): void {
    const l = this.live('downgrade');
    if (!rw_wowned(WORD, l)) this.refuse('downgrade', EPERM, 'this thread does not hold it');
    rw_downgrade(WORD, l);
  }
  /** Runs `fn` with the lock held shared. Throws as lockRead does. */
  read<T>(fn: () => T, options?: LockOptions): T {
    this.lockRead(options);
    return bracket(fn, () => this.unlockRead());
  }
  /** Runs `fn` with the lock held alone. Throws as lockWrite does. */
  write<T>(fn: () => T, options?: LockOptions): T {
    this.lockWrite(options);
    return bracket(fn, () => this.unlockWrite());
  }
  protected busy(): boolean {
    return atomic_load(this.word) >>> 2 !== 0;
  }

  /** Whether this thread has a shared hold: they are noted in the CPU's record. */
  #reading(l: number): boolean {
    for (let i = pcpu.held_n[thr.pc] - 1; i >= 0; i--) {
      const mode = pcpu.held[elem(thr.pc, i * 2 + 1)];
      if (pcpu.held[elem(thr.pc, i * 2)] === l && mode === HELD_READ) return true;
    }
    return false;
  }
  #late(op: string, ms: number): never {
    checkMayBlock(op, 'tryLockRead or tryLockWrite');
    this.refuse(op, ETIMEDOUT, `it could not be had in ${ms} ms`);
  }
}

/** What threads wait for with a mutex in hand, found by name. Made by machine.condition(). */
export class Condition extends Named {
  /** Use machine.condition(name). */
  constructor(ctx: Context, name: string) {
    super(ctx, 'condition', name, () => {});
  }
  /**
   * Gives the mutex up, sleeps until somebody signals, takes it again.  False
   * when `timeout` ms went by.  Test what you wait for in a loop, or use
   * waitUntil.  Throws EPERM if this thread does not hold the mutex, EDEADLK on
   * memory that nobody shares, EOPNOTSUPP.
   */
  wait(mutex: Mutex, options: LockOptions = {}): boolean {
    const chan = this.#channel('wait');
    const l = mutex.wordFor('wait');
    checkMayBlock('wait', 'waitAsync');
    if (!memory_state.shared) this.refuse('wait', EDEADLK, 'no other thread could signal');
    const ms = Math.min(options.timeout ?? Number.POSITIVE_INFINITY, CV_SLICE_MS);
    const error = msleep(chan, WORD, l, 'cv', ms);
    // The end of a slice looks like a signal: the caller tests its condition in any case.
    return error === 0 || options.timeout === undefined || options.timeout > CV_SLICE_MS;
  }
  /** Waits until `holds` is true, testing it with the mutex held. False after `timeout` ms. */
  waitUntil(mutex: Mutex, holds: () => boolean, options: LockOptions = {}): boolean {
    const deadline = performance.now() + (options.timeout ?? Number.POSITIVE_INFINITY);
    mutex.wordFor('waitUntil');
    while (!holds()) {
      const timeout = deadline - performance.now();
      if (timeout <= 0) return false;
      this.wait(mutex, { timeout });
    }
    return true;
  }
  /**
   * Waits in the event loop until `holds` is true; it is tested with the mutex
   * held, and the mutex is held when the promise resolves.  The mutex is not held
   * meanwhile.  Rejects with the signal's reason or ETIMEDOUT, without the mutex.
   */
  async waitAsync(mutex: Mutex, holds: () => boolean, options: AsyncOptions = {}): Promise<void> {
    mutex.wordFor('waitAsync');
    if (holds()) return;
    mutex.unlock();
    await waitForAsync({
      ctx: this.ctx,
      op: 'waitAsync',
      name: `condition '${this.name}'`,
      wmesg: 'cv',
      options,
      wchan: () => this.#channel('waitAsync'),
      attempt: () => {
        if (!mutex.tryLock()) return undefined;
        if (holds()) return true;
        mutex.unlock();
        return undefined;
      },
    });
  }
  /** Wakes one waiter, the oldest. Call it with the mutex held, or after. */
  signal(): void {
    wakeup_one(this.#channel('signal'));
  }
  /** Wakes all waiters. */
  broadcast(): void {
    wakeup(this.#channel('broadcast'));
  }
  protected busy(): boolean {
    return false;
  }
  #channel(op: string): number {
    this.live(op);
    return this.entry + E_STATE;
  }
}
