/*
 * locks: the kernel's own mutex, shared/exclusive lock and condition, by name.
 *
 *      const lock = machine.mutex('index');
 *      lock.run(() => { ... });               or  { using held = lock.lock(); ... }
 *      await lock.lockAsync({ signal });      where the thread must not block
 *
 * They lie in the machine's memory: every thread finds them by name, WITNESS
 * proves the order in which they are taken, the lock profile times them.  A
 * lock belongs to a thread, not to a task: tasks of one event loop that want it
 * take turns through lockAsync, in the order in which they came (lock_line.ts).
 *
 * A lock outlives its owner.  If a thread dies, or ends, with a mutex or the
 * exclusive hold of an rwlock, the lock is abandoned: what it guards may be half
 * changed.  Every call that would take it throws EOWNERDEAD, which names lock
 * and thread, until some thread has set things right:
 *
 *      try { lock.lock(); } catch (e) {
 *        if (e.code === 'EOWNERDEAD') lock.recover(() => rebuild()); ...
 *      }
 *
 * A shared hold changes nothing, so it is simply given back.
 *
 * Calls wait, save those that say try: mutex before condition; an rwlock may be
 * held while waiting for memory, a mutex should not be (WITNESS reports it).
 * Order: rwlocks, then mutexes.
 *
 * Code of the program (getters of options, predicates) never runs under a lock
 * by accident: options are read before anything is taken.
 */
import { atomic_load } from '../sys/machine/atomic.ts';
import { now_ms } from '../sys/machine/clock.ts';
import { tid_cpu } from '../sys/machine/cpu.ts';
import { reap_all } from '../sys/machine/death.ts';
import {
  EBUSY,
  EDEADLK,
  EINVAL,
  ENOLCK,
  EOWNERDEAD,
  EPERM,
  ESHUTDOWN,
  ETIMEDOUT,
} from '../sys/machine/errno.ts';
import { memory_state } from '../sys/machine/memory.ts';
import { field_word } from '../sys/machine/struct.ts';
import { reg_cv, reg_entry, type reg_entry_t } from '../sys/h/registry.ts';
import {
  mtx_end,
  mtx_init,
  mtx_leave,
  mtx_lock_word,
  mtx_owned_word,
  mtx_recover,
  mtx_settle,
  mtx_trylock_word,
  mtx_unlock_word,
  mtx_unrecover,
  mtx_why,
} from '../sys/sync/kern_mutex.ts';
import {
  rw_downgrade,
  rw_init,
  rw_rlock_word,
  rw_rowned_word,
  rw_runlock_word,
  rw_try_upgrade,
  rw_why,
  rw_wlock_word,
  rw_wowned_word,
  rw_wunlock_word,
} from '../sys/sync/kern_rwlock.ts';
import { LC_USER_MTX, LC_USER_SX } from '../sys/sync/lock_order.ts';
import { abandoned, lock_owner_tid } from '../sys/sync/lock_word.ts';
import { rw_end, rw_recover, rw_settle, rw_unrecover } from '../sys/sync/rw_death.ts';
import { msleep, wakeup, wakeup_one } from '../sys/sync/subr_sleepqueue.ts';
import { W_CV } from '../sys/machine/wmesg.ts';
import { asyncOptionsOf, checkFunction, shown, timeoutOf } from './args.ts';
import {
  bracket,
  checkMayBlock,
  type Context,
  enter,
  gone,
  giveBack,
  letGo,
  mayBlock,
  type Mortal,
} from './context.ts';
import { KernelPanic, kmemError } from './errors.ts';
import { showsItself } from './inspect.ts';
import { ChannelLine, type Want, whyGone } from './line.ts';
import { LockLine } from './lock_line.ts';
import { type Kind, obtain, release } from './registry.ts';
import { type AsyncOptions, checkAbort, sayWaits, slices } from './wait.ts';

/** How long taking a lock, or waiting for a condition, may last. */
export interface LockOptions {
  /** Longest wait, ms; ETIMEDOUT when it is over. Default: as long as it takes. */
  readonly timeout?: number;
}
const FOREVER = Number.POSITIVE_INFINITY;
/** A browser's main thread looks at a lock for this long at most, ms. */
const BROWSER_LOOK_MS = 1;
/** A call that does not wait asks the host whether the owner lives this often at most, ms. */
const OWNER_LOOK_MS = 20;

/** How long this thread may wait, if it asks for `ms`. */
function limit(ms: number): number {
  return mayBlock() ? ms : Math.min(ms, BROWSER_LOOK_MS);
}

/** What mutexes, rwlocks and conditions have in common: a name, and an end. */
abstract class Named implements Mortal, Disposable {
  /** Its name, the same in every thread. */
  readonly name: string;
  protected readonly ctx: Context;
  protected readonly entry: reg_entry_t;
  readonly #kind: Kind;
  /** Word of the lock or of the condition; 0: buried. */
  protected word: number;

  constructor(ctx: Context, kind: Kind, name: string, init: (e: reg_entry_t) => void) {
    this.name = name;
    this.ctx = ctx;
    this.#kind = kind;
    this.entry = obtain(kind, name, kind, init);
    this.word = this.entry + reg_entry.lock;
  }
  protected live(op: string): number {
    if (this.word === 0) {
      if (this.ctx.up) this.refuse(op, ESHUTDOWN, 'it was disposed of: ask for it by name again');
      gone(op, this.ctx);
    }
    enter(op);
    return this.word;
  }
  /** Ends it if nobody has it, or is about to; returns who has. */
  protected abstract end(l: number): string;
  /** Whether this thread has it. */
  protected abstract mine(l: number): boolean;
  /**
   * Lets go of it; with the last thread that lets go the name is free again.  This
   * thread's waits for it end (ESHUTDOWN).
   * Throws EBUSY if this thread holds it, or nobody else is left and a thread that
   * has let go of it holds it still.
   */
  dispose(): void {
    if (this.word !== 0) letGo(() => this.#dispose());
  }
  #dispose(): void {
    enter('dispose');
    if (this.mine(this.word)) this.refuse('dispose', EBUSY, 'this thread holds it');
    reap_all(); // of the dead nothing is left that names the lock
    const busy = (): boolean => {
      const by = this.end(this.word);
      return by === '' ? false : this.refuse('dispose', EBUSY, `${by} has it`);
    };
    const l = this.word;
    release(this.entry, busy, () => {
      this.ctx.endWaits(this);
      this.passOn(l);
    });
    this.ctx.forget(this.#kind, this.name);
    this.bury();
  }
  /** Waits of this thread have ended: what they had been told is another's. */
  protected passOn(_l: number): void {}
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

/** What an rwlock offers to a function with awaits. */
const ASYNC_RW = 'it is asynchronous: await before, or hold a mutex by runAsync';

/** What mutexes and rwlocks have in common: an owner that they may outlive. */
abstract class Lock extends Named {
  /** recover() runs. */
  protected recovering = false;
  #asked = 0;

  protected abstract take(l: number): boolean;
  protected abstract give(l: number): void;
  protected abstract spoil(l: number): void;
  protected abstract settle(l: number): boolean;

  /**
   * Makes an abandoned lock good again: runs `fn`, which sets right what the lock
   * guards, with the lock held.  True if `fn` returned; if it throws, or the thread
   * dies in it, the lock is abandoned still.  False, without running `fn`, if the
   * lock is not abandoned.  `fn` is synchronous.  Throws what `fn` throws, EINVAL if
   * that is a promise, EDEADLK if this thread has the lock.
   */
  recover(fn: () => void): boolean {
    const l = this.live('recover');
    checkFunction('recover', fn);
    if (this.mine(l)) this.refuse('recover', EDEADLK, 'this thread holds it');
    if (!this.take(l)) return false;
    this.recovering = true;
    let later = false;
    try {
      later = isLater(fn());
    } catch (e) {
      this.recovering = false;
      if (!(e instanceof KernelPanic) && this.word === l) this.spoil(l);
      throw e;
    }
    this.recovering = false;
    if (this.live('recover') !== l) gone('recover', this.ctx);
    if (later) {
      this.spoil(l);
      this.refuse('recover', EINVAL, 'fn is asynchronous: the lock is abandoned still');
    }
    this.give(l);
    return true;
  }
  /** Runs `fn`, then gives the lock back. A promise would outlive that: EINVAL, afterwards. */
  protected during<T>(op: string, fn: () => T, leave: () => void, instead: string): T {
    const result = bracket(fn, leave);
    if (isLater(result)) this.refuse(op, EINVAL, `fn went on without the lock: ${instead}`);
    return result;
  }
  /** After a try in vain: whether the owner turns out to be dead. Asks the host now and then. */
  protected ownerDead(l: number): boolean {
    const now = now_ms();
    if (now - this.#asked < OWNER_LOOK_MS) return abandoned(atomic_load(l));
    this.#asked = now;
    return this.settle(l);
  }
}
/** What `using` keeps: at its end `give` gives the lock back, unless the thread has left it. */
function held(word: () => number, give: () => void): Disposable {
  return { [Symbol.dispose]: () => void (word() !== 0 && letGo(give)) };
}
/** Whether a value is a promise. Its rejection is the concern of nobody. */
function isLater(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (!('then' in value) || typeof value.then !== 'function') return false;
  Promise.resolve(value).catch(() => {});
  return true;
}

/** A condition's wait for its mutex. */
export interface LockTask {
  readonly taken: Promise<unknown>;
  /** Ends the wait, if it is not over. */
  end(why: unknown): void;
}

/** The kernel's mutex, found by name in every thread. Made by machine.mutex(). */
export class Mutex extends Lock {
  readonly #held: Disposable;
  readonly #line: LockLine;
  static {
    showsItself(Mutex.prototype, 'Mutex', ({ name }) => ({ name }));
  }

  /** Use machine.mutex(name). */
  constructor(ctx: Context, name: string) {
    super(ctx, 'mutex', name, (e) => mtx_init(reg_entry.lock, e, LC_USER_MTX));
    this.#line = new LockLine(ctx, this, {
      word: () => this.word,
      settle: (l) => void this.ownerDead(l),
    });
    this.#held = held(
      () => this.word,
      () => this.owned && this.unlock(),
    );
  }
  /**
   * Takes the mutex, waiting if another thread has it.  The result gives it back
   * at the end of a `using`.  Throws EDEADLK if this thread has it already,
   * EOWNERDEAD if its owner died or left, ETIMEDOUT, EINVAL, EOPNOTSUPP on a
   * browser's main thread when it is taken.
   */
  lock(options?: LockOptions): Disposable {
    const ms = timeoutOf('lock', options);
    const l = this.live('lock');
    if (mtx_owned_word(l)) this.#own('lock');
    const error = mtx_lock_word(l, limit(ms));
    if (error !== 0) this.#not('lock', l, error, ms);
    return this.#held;
  }
  /**
   * Takes the mutex if it is free. Never waits. False: not taken. Throws EOWNERDEAD,
   * ESHUTDOWN.
   */
  tryLock(): boolean {
    const l = this.live('tryLock');
    if (mtx_owned_word(l)) return false;
    const error = mtx_trylock_word(l);
    if (error !== 0 && (error === EOWNERDEAD || this.ownerDead(l))) this.#dead('tryLock', l);
    return error === 0;
  }
  /** Gives the mutex back. Throws EPERM if this thread does not have it. */
  unlock(): void {
    const l = this.live('unlock');
    if (!mtx_owned_word(l)) this.refuse('unlock', EPERM, 'this thread does not hold it');
    if (this.recovering) this.refuse('unlock', EPERM, 'recover() gives it back');
    mtx_unlock_word(l);
  }
  /** Whether this thread has the mutex. */
  get owned(): boolean {
    return mtx_owned_word(this.live('owned'));
  }
  /**
   * Runs `fn` with the mutex held. `fn` is synchronous: see runAsync.  Throws as lock
   * does, and EINVAL, with the mutex given back, if `fn` returns a promise.
   */
  run<T>(fn: () => T, options?: LockOptions): T {
    checkFunction('run', fn);
    this.lock(options);
    return this.during('run', fn, () => this.unlock(), 'it is asynchronous: use runAsync');
  }
  /**
   * Takes the mutex, waiting in the event loop; other tasks of this thread wait
   * likewise.  Rejects with the signal's reason, ETIMEDOUT, EOWNERDEAD or EINVAL.
   */
  async lockAsync(options?: AsyncOptions): Promise<Disposable> {
    await this.#line.wait(this.#want('lockAsync'), options);
    return this.#held;
  }
  #want(op: string): Want<true> {
    return {
      op,
      name: `mutex '${this.name}'`,
      late: 'it was taken for',
      key: 0,
      attempt: () => {
        const l = this.live(op);
        const error = mtx_owned_word(l) ? EDEADLK : this.#line.take(l);
        if (error === EOWNERDEAD) this.#dead(op, l);
        return error === 0 || undefined;
      },
    };
  }
  /** Runs `fn` with the mutex held over its awaits, and waits in the event loop for the mutex. */
  async runAsync<T>(fn: () => T | Promise<T>, options?: AsyncOptions): Promise<T> {
    checkFunction('runAsync', fn);
    await this.lockAsync(options);
    let result: T;
    try {
      result = await fn();
    } catch (e) {
      if (!(e instanceof KernelPanic)) this.letGo();
      throw e;
    }
    this.unlock();
    return result;
  }
  /**
   * Its entry, for a condition. Throws EPERM if this thread may not give it up.
   * @internal
   */
  entryFor(op: string): reg_entry_t {
    const l = this.live(op);
    if (!mtx_owned_word(l)) this.refuse(op, EPERM, 'this thread does not hold it');
    if (this.recovering) this.refuse(op, EPERM, 'recover() may not give it up');
    return this.entry;
  }
  /**
   * Gives the mutex back if this thread has it.
   * @internal
   */
  letGo(): void {
    if (this.word !== 0 && mtx_owned_word(this.word)) mtx_unlock_word(this.word);
  }
  /**
   * Takes the mutex for a condition, waiting in the event loop; null: at once.
   * @internal
   */
  taskFor(op: string, ms: number, signal: AbortSignal | undefined): LockTask | null {
    const want = this.#want(op);
    const line = this.#line;
    if (!line.behind(0) && want.attempt()) return null;
    const task = line.join(want, ms, signal);
    return { taken: task.promise, end: (why) => line.end(task, why) };
  }
  /**
   * Throws the EOWNERDEAD that a condition met when it wanted the mutex back.
   * @internal
   */
  deadFor(op: string): never {
    return this.#dead(op, this.live(op));
  }
  protected end(l: number): string {
    mtx_settle(l);
    if (mtx_end(l)) return '';
    const owner = lock_owner_tid(l);
    return owner === 0 ? 'a waiter' : `CPU ${tid_cpu(owner)}`;
  }
  protected override passOn(l: number): void {
    mtx_leave(l, true);
  }
  protected mine(l: number): boolean {
    return mtx_owned_word(l);
  }
  protected take(l: number): boolean {
    return mtx_recover(l);
  }
  protected give(l: number): void {
    mtx_unlock_word(l);
  }
  protected spoil(l: number): void {
    mtx_unrecover(l);
  }
  protected settle(l: number): boolean {
    return mtx_settle(l);
  }

  #own(op: string): never {
    this.refuse(op, EDEADLK, 'this thread holds it already');
  }
  #dead(op: string, l: number): never {
    this.refuse(op, EOWNERDEAD, mtx_why(l));
  }
  #not(op: string, l: number, error: number, ms: number): never {
    if (error === EOWNERDEAD) this.#dead(op, l);
    checkMayBlock(op, 'lockAsync');
    this.refuse(op, ETIMEDOUT, `another thread held it for ${ms} ms`);
  }
}

/** The kernel's shared/exclusive lock, found by name in every thread. Made by machine.rwlock(). */
export class RwLock extends Lock {
  readonly #reads = held(
    () => this.word,
    () => this.unlockRead(),
  );
  readonly #writes = held(
    () => this.word,
    () => this.unlockWrite(),
  );
  static {
    showsItself(RwLock.prototype, 'RwLock', ({ name }) => ({ name }));
  }

  /** Use machine.rwlock(name). */
  constructor(ctx: Context, name: string) {
    super(ctx, 'rwlock', name, (e) => rw_init(reg_entry.lock, e, LC_USER_SX));
  }
  /**
   * Takes the lock shared: other readers may have it too.  Waits while a writer
   * has or wants it.  Throws EDEADLK if this thread writes, EOWNERDEAD if a writer
   * died or left, ENOLCK if this thread reads 24 locks already, ETIMEDOUT, EINVAL,
   * EOPNOTSUPP.
   */
  lockRead(options?: LockOptions): Disposable {
    const ms = timeoutOf('lockRead', options);
    const l = this.live('lockRead');
    if (rw_wowned_word(l)) this.refuse('lockRead', EDEADLK, 'this thread holds it exclusively');
    const error = rw_rlock_word(l, limit(ms));
    if (error !== 0) this.#not('lockRead', l, error, ms);
    return this.#reads;
  }
  /**
   * Takes the lock alone.  Throws EDEADLK if this thread has it in any way,
   * EOWNERDEAD, ETIMEDOUT, EINVAL, EOPNOTSUPP.
   */
  lockWrite(options?: LockOptions): Disposable {
    const ms = timeoutOf('lockWrite', options);
    const l = this.live('lockWrite');
    if (this.mine(l)) this.refuse('lockWrite', EDEADLK, 'this thread holds it already');
    const error = rw_wlock_word(l, limit(ms));
    if (error !== 0) this.#not('lockWrite', l, error, ms);
    return this.#writes;
  }
  /**
   * Takes the lock shared if that can be had now. Never waits. False: not taken.
   * Throws EOWNERDEAD, ENOLCK.
   */
  tryLockRead(): boolean {
    const l = this.live('tryLockRead');
    return !rw_wowned_word(l) && this.#tried('tryLockRead', l, rw_rlock_word(l, 0));
  }
  /**
   * Takes the lock alone if that can be had now. Never waits. False: not taken.
   * Throws EOWNERDEAD.
   */
  tryLockWrite(): boolean {
    const l = this.live('tryLockWrite');
    return !this.mine(l) && this.#tried('tryLockWrite', l, rw_wlock_word(l, 0));
  }
  /** Gives a shared hold back. Throws EPERM without one. */
  unlockRead(): void {
    const l = this.live('unlockRead');
    if (!rw_rowned_word(l)) this.#no('unlockRead', 'shared');
    rw_runlock_word(l);
  }
  /** Gives the exclusive hold back. Throws EPERM without one. */
  unlockWrite(): void {
    rw_wunlock_word(this.#written('unlockWrite'));
  }
  /** Turns this thread's shared hold, if it is the only one, into the exclusive one. False: not. */
  tryUpgrade(): boolean {
    const l = this.live('tryUpgrade');
    if (!rw_rowned_word(l)) this.#no('tryUpgrade', 'shared');
    return rw_try_upgrade(reg_entry.lock, this.entry);
  }
  /**
   * Turns the exclusive hold into a shared one. Throws EPERM without one, ENOLCK if
   * this thread reads 24 locks already: then it is exclusive still.
   */
  downgrade(): void {
    const l = this.#written('downgrade');
    if (!rw_downgrade(reg_entry.lock, this.entry))
      this.refuse('downgrade', ENOLCK, rw_why(l, ENOLCK));
  }
  /** Runs `fn`, which is synchronous, with the lock held shared. Throws as run does. */
  read<T>(fn: () => T, options?: LockOptions): T {
    checkFunction('read', fn);
    this.lockRead(options);
    return this.during('read', fn, () => this.unlockRead(), ASYNC_RW);
  }
  /** Runs `fn`, which is synchronous, with the lock held alone. Throws as run does. */
  write<T>(fn: () => T, options?: LockOptions): T {
    checkFunction('write', fn);
    this.lockWrite(options);
    return this.during('write', fn, () => this.unlockWrite(), ASYNC_RW);
  }
  protected end(l: number): string {
    rw_settle(l);
    const cpu = rw_end(l);
    return cpu < 0 ? '' : `CPU ${cpu}`;
  }
  protected mine(l: number): boolean {
    return rw_wowned_word(l) || rw_rowned_word(l);
  }
  protected take(l: number): boolean {
    return rw_recover(l);
  }
  protected give(l: number): void {
    rw_wunlock_word(l);
  }
  protected spoil(l: number): void {
    rw_unrecover(l);
  }
  protected settle(l: number): boolean {
    return rw_settle(l);
  }

  #tried(op: string, l: number, error: number): boolean {
    if (error === 0) return true;
    if (error === ENOLCK) this.refuse(op, ENOLCK, rw_why(l, ENOLCK));
    if (error === EOWNERDEAD || this.ownerDead(l)) this.#not(op, l, EOWNERDEAD, 0);
    return false;
  }
  #written(op: string): number {
    const l = this.live(op);
    if (!rw_wowned_word(l)) this.#no(op, 'exclusively');
    if (this.recovering) this.refuse(op, EPERM, 'recover() gives it back');
    return l;
  }
  #no(op: string, how: string): never {
    this.refuse(op, EPERM, `this thread does not hold it ${how}`);
  }
  #not(op: string, l: number, error: number, ms: number): never {
    if (error === EOWNERDEAD || error === ENOLCK) this.refuse(op, error, rw_why(l, error));
    checkMayBlock(op, 'tryLockRead or tryLockWrite');
    this.refuse(op, ETIMEDOUT, `it could not be had in ${ms} ms`);
  }
}

/** What threads wait for with a mutex in hand, found by name. Made by machine.condition(). */
export class Condition extends Named {
  readonly #named: string;
  readonly #line: ChannelLine;
  static {
    showsItself(Condition.prototype, 'Condition', ({ name }) => ({ name }));
  }

  /** Use machine.condition(name). */
  constructor(ctx: Context, name: string) {
    super(ctx, 'condition', name, () => {});
    this.#named = `condition '${name}'`;
    this.#line = new ChannelLine({
      ctx,
      of: this,
      op: 'waitAsync',
      wmesg: W_CV,
      wakes: 'only',
      channel: () => this.#channel('waitAsync'),
    });
  }
  /**
   * Gives the mutex up, sleeps until somebody signals, takes it again.  False
   * when `timeout` ms went by.  Test what you wait for in a loop, or use
   * waitUntil.  Throws EPERM if this thread does not hold the mutex, EOWNERDEAD,
   * without the mutex, if that was abandoned meanwhile, EDEADLK on memory that
   * nobody shares, EINVAL, EOPNOTSUPP.
   */
  wait(mutex: Mutex, options?: LockOptions): boolean {
    this.#wants('wait', mutex);
    return this.#wait('wait', mutex, timeoutOf('wait', options));
  }
  #wait(op: string, mutex: Mutex, ms: number): boolean {
    const chan = this.#channel(op);
    const mtx = mutex.entryFor(op);
    checkMayBlock(op, 'waitAsync');
    if (!memory_state.shared) this.refuse(op, EDEADLK, 'no other thread could signal');
    const slice = Math.min(ms, slices.sleepMs); // a signal may go to a thread that died
    const error = msleep(chan, reg_entry.lock, mtx, W_CV, slice);
    if (error === EOWNERDEAD) {
      wakeup_one(chan); // if it was a signal that ended the sleep, it is another's
      mutex.deadFor(op);
    }
    // The end of a slice looks like a signal: the caller tests its condition in any case.
    return error === 0 || ms > slice;
  }
  /**
   * Waits until `holds` is true, testing it with the mutex held. False after
   * `timeout` ms.  If `holds` throws, that is thrown, with the mutex held as before, and
   * the signal goes to another; EINVAL likewise if it returns a promise.
   */
  waitUntil(mutex: Mutex, holds: () => boolean, options?: LockOptions): boolean {
    this.#wants('waitUntil', mutex);
    checkFunction('waitUntil', holds);
    const deadline = performance.now() + timeoutOf('waitUntil', options);
    mutex.entryFor('waitUntil');
    for (let slept = false; ; slept = true) {
      try {
        if (this.#test('waitUntil', holds)) return true;
      } catch (e) {
        if (slept && !(e instanceof KernelPanic) && this.word !== 0) this.signal();
        throw e;
      }
      const left = deadline - performance.now();
      if (left <= 0) return false;
      this.#wait('waitUntil', mutex, left);
    }
  }
  /**
   * Waits in the event loop until `holds` is true; it is tested with the mutex
   * held, and the mutex is held when the promise resolves.  The mutex is not held
   * meanwhile.  Rejects without the mutex: with the signal's reason, what `holds`
   * throws, ETIMEDOUT, EOWNERDEAD, EINVAL; EPERM if this thread did not hold it.
   */
  async waitAsync(mutex: Mutex, holds: () => boolean, options?: AsyncOptions): Promise<void> {
    this.#wants('waitAsync', mutex);
    mutex.entryFor('waitAsync');
    let wanted: AsyncOptions;
    try {
      checkFunction('waitAsync', holds);
      wanted = asyncOptionsOf('waitAsync', options);
      checkAbort(wanted.signal);
    } catch (e) {
      mutex.letGo();
      throw e;
    }
    if (this.#tested(mutex, holds)) return;
    const { signal, timeout = FOREVER } = wanted;
    const chan = this.#channel('waitAsync');
    sayWaits('waitAsync', this.#named, timeout);
    // What it was told, and the wait for the mutex: both end with the condition.
    let told = false;
    let task: LockTask | null = null;
    const bury = (): void => {
      if (told) giveBack('waitAsync', () => wakeup_one(chan));
      told = false;
      task?.end(whyGone('waitAsync', this.ctx));
    };
    const want = {
      op: 'waitAsync',
      name: this.#named,
      key: 0,
      attempt: () => (told = true),
    };
    const wait = { of: [this], bury };
    this.ctx.waits.add(wait);
    try {
      const deadline = performance.now() + timeout;
      const left = (): number => Math.max(0, deadline - performance.now());
      for (;;) {
        // It is in the line before the mutex is given up: no signal falls between.
        const signalled = this.#line.join(want, left(), signal);
        signalled.promise.catch(() => {}); // nobody waits for it if the machine ends right here
        mutex.letGo();
        await this.#inTime(signalled.promise);
        this.#channel('waitAsync'); // disposed of: it says so
        checkAbort(signal);
        const last = left() === 0;
        task = mutex.taskFor('waitAsync', left(), signal);
        const taken = task === null || (await this.#inTime(task.taken));
        task = null;
        if (taken && this.word !== 0 && this.#tested(mutex, holds)) break;
        if (taken && this.word !== 0 && !last && !signal?.aborted) continue;
        if (taken) mutex.letGo();
        this.#channel('waitAsync');
        checkAbort(signal);
        this.refuse('waitAsync', ETIMEDOUT, `not in ${timeout} ms`);
      }
      told = false;
    } catch (e) {
      if (this.ctx.up) bury();
      this.ctx.waits.delete(wait);
      throw e;
    }
    this.ctx.waits.delete(wait);
  }
  /** A wait of waitAsync. False: its time is over. This thread is not parked. */
  async #inTime(wait: Promise<unknown>): Promise<boolean> {
    let late = false;
    try {
      await wait;
    } catch (e) {
      if ((e as { errno?: number }).errno !== ETIMEDOUT) throw e;
      late = true;
    }
    while (this.ctx.parked !== null) await this.ctx.parked;
    return !late;
  }
  /** Asks the predicate; the mutex is given up if that throws. */
  #tested(mutex: Mutex, holds: () => boolean): boolean {
    try {
      return this.#test('waitAsync', holds);
    } catch (e) {
      if (!(e instanceof KernelPanic)) mutex.letGo();
      throw e;
    }
  }
  /** Asks a predicate. A promise says nothing yet: EINVAL. */
  #test(op: string, holds: () => boolean): boolean {
    const answer = holds();
    if (isLater(answer)) this.refuse(op, EINVAL, 'the predicate is asynchronous');
    return answer;
  }
  /** Wakes one waiter, the oldest. Call it with the mutex held, or after. */
  signal(): void {
    wakeup_one(this.#channel('signal'));
  }
  /** Wakes all waiters. */
  broadcast(): void {
    wakeup(this.#channel('broadcast'));
  }
  /** Throws EINVAL for what is no mutex. */
  #wants(op: string, mutex: Mutex): void {
    if (mutex instanceof Mutex) return;
    this.refuse(op, EINVAL, `${shown(mutex)} is no mutex`);
  }
  protected end(): string {
    return '';
  }
  protected mine(): boolean {
    return false;
  }
  #channel(op: string): number {
    this.live(op);
    return field_word(reg_cv.signal, this.entry);
  }
}
