/*
 * queue: hands values from any thread to any thread, in order, bounded.
 *
 *      const jobs = machine.queue('jobs', { of: machine.type('job'), capacity: 64 });
 *      jobs.push(address);            waits while it is full
 *      const at = jobs.pop();         waits while it is empty
 *      for await (const at of jobs)   the same in the event loop, until close()
 *
 *      ring   | value | value |  ...  |     doubles; head: next to pop; count
 *
 * A value is an address, an item, or a number; a block is handed over by its
 * address, without a copy, and who pops it may free it.
 *
 * The ring changes under a mutex of recovery class `undo`: head and count go
 * into the undo log before they change, so that a thread may die at any point of
 * push or pop and the queue goes on; at most the value in its hands is lost.
 * Threads sleep on the kernel's sleep queues (wait channels qpush, qpop).
 */
import { poll } from '../sys/machine/cpu.ts';
import { EDEADLK, EINVAL, ENOMEM, ESHUTDOWN, ETIMEDOUT } from '../sys/machine/errno.ts';
import { mem, memory_state } from '../sys/machine/memory.ts';
import { type reg_entry_t, V_RING as V_RING_ } from '../sys/h/registry.ts';
import { part_ring } from '../sys/client/kern_registry_parts.ts';
import { mtx_init, mtx_lock, mtx_unlock_word } from '../sys/sync/kern_mutex.ts';
import { LC_REGISTRY } from '../sys/sync/lock_order.ts';
import { msleep, wakeup, wakeup_one } from '../sys/sync/subr_sleepqueue.ts';
import { kernel_enter_proved, kernel_leave, kernel_threw } from '../sys/sync/subr_trap.ts';
import { save_word, undo_begin, undo_end } from '../sys/sync/undo.ts';
import { W_QPOP, W_QPUSH } from '../sys/machine/wmesg.ts';
import { checkOptions, type Known, shown, timeoutOf, wholeIn } from './args.ts';
import { channels } from './channels.ts';
import {
  checkMayBlock,
  type Context,
  enter,
  gone,
  inKernel,
  mayBlock,
  type Mortal,
  tell,
} from './context.ts';
import { kmemError } from './errors.ts';
import { ChannelLine } from './line.ts';
import type { Address, Item } from './memory.ts';
import { type Fields, type ItemHandle, RecordSet } from './records.ts';
import { E_LOCK, E_STATE, E_VALUE, entryShape, obtain, release, WORD } from './registry.ts';
import { MallocType } from './type.ts';
import { type AsyncOptions, slices } from './wait.ts';
import { Zone } from './zone.ts';

/** What a queue's values are. */
export type QueueOf = MallocType | Zone<string> | RecordSet<string, Fields, QueueValue>;
/** What a queue hands over: a number, as addresses and items are, or a checked handle. */
export type QueueValue = number | ItemHandle;
/** The values of a queue of such things: addresses of blocks, items, or numbers. */
export type ValueOf<O> = O extends MallocType
  ? Address
  : O extends Zone<infer N>
    ? Item<N>
    : O extends RecordSet<string, Fields, infer H>
      ? H
      : number;
/** The shape of a queue; every thread that asks for the queue gives the same. */
export interface QueueOptions<O> {
  /** The type, zone or records whose blocks or items are handed over; none: plain numbers. */
  readonly of?: O;
  /** Most values in the queue, 1 to 2^24. Default 256. */
  readonly capacity?: number;
}
/** How long push and pop wait. */
export interface QueueWait {
  /** Longest wait, ms; ETIMEDOUT when it is over. Default: as long as it takes. */
  readonly timeout?: number;
}

const OPTIONS: Known = ['of', 'capacity'];
const CAPACITY = 256;
const CAPACITY_MAX = 2 ** 24;
const V_RING = E_VALUE + V_RING_; // word of the first value: even
const S_HEAD = E_STATE;
const S_COUNT = E_STATE + 1;
const S_CLOSED = E_STATE + 2;
/* Wait channels: words that nobody reads. */
const S_ITEMS = E_STATE + 3;
const S_SPACE = E_STATE + 4;

/** Values in the queue of an entry: for the leak check. */
export function queueCount(e: number): number {
  return mem.I32[e + S_COUNT];
}
/** The options of a queue, read once. */
export interface QueueShape {
  /** What its values are, as EEXIST shows it. */
  readonly of: string;
  readonly capacity: number;
}
/** Reads and checks what a program gave. Throws EINVAL. */
export function queueShapeOf(name: string, options: QueueOptions<QueueOf> | undefined): QueueShape {
  const bad = (why: string): never => {
    throw kmemError(EINVAL, 'queue', `'${name}': ${why}`);
  };
  checkOptions('queue', options, OPTIONS);
  const { of, capacity = CAPACITY } = options ?? {};
  if (!wholeIn(capacity, 1, CAPACITY_MAX)) {
    bad(`capacity ${shown(capacity)} is not a whole number from 1 to ${CAPACITY_MAX}`);
  }
  if (of === undefined) return { of: 'numbers', capacity };
  if (of instanceof MallocType) return { of: `blocks of type '${of.name}'`, capacity };
  if (of instanceof Zone || of instanceof RecordSet)
    return { of: `items of '${of.name}'`, capacity };
  return bad(`of: ${shown(of)} is no type, zone or records`);
}
/** The same as EEXIST shows it. */
export function queueShapeText({ of, capacity }: QueueShape): string {
  return `${of}, capacity ${capacity}`;
}
function makeRing(e: number, name: string, capacity: number): void {
  mtx_init(WORD, e + E_LOCK, LC_REGISTRY);
  if (part_ring(e as reg_entry_t, capacity) !== 0) {
    throw kmemError(ENOMEM, 'queue', `no memory for the ring of '${name}'`);
  }
}

const EMPTY = Symbol('empty');

/** A bounded queue of numbers, found by name in every thread. Made by machine.queue(). */
export class Queue<T extends QueueValue = number> implements Mortal, Disposable {
  /** Its name, the same in every thread. */
  readonly name: string;
  /** Most values in the queue. */
  readonly capacity: number;
  readonly #ctx: Context;
  readonly #named: string;
  readonly #poppers: ChannelLine;
  readonly #pushers: ChannelLine;
  #e: number;

  /** Use machine.queue(name, options). */
  constructor(ctx: Context, name: string, given: QueueShape) {
    const { capacity } = given;
    const shape = queueShapeText(given);
    this.#e = obtain('queue', name, shape, (e) => makeRing(e, name, capacity));
    this.name = name;
    this.capacity = capacity;
    this.#ctx = ctx;
    this.#named = `queue '${name}'`;
    const line = (op: string, wmesg: string, channel: number): ChannelLine =>
      new ChannelLine({
        ctx,
        of: this,
        op,
        wmesg,
        wakes: 'each',
        channel: () => this.#live(op) + channel,
      });
    this.#poppers = line('popAsync', W_QPOP, S_ITEMS);
    this.#pushers = line('pushAsync', W_QPUSH, S_SPACE);
  }
  /** What the queue is, as EEXIST shows it. */
  get shape(): string {
    return entryShape(this.#live('shape'));
  }
  /** Values in the queue: a sample while threads run. */
  get length(): number {
    return mem.I32[this.#live('length') + S_COUNT];
  }
  /** Whether close() was called. */
  get closed(): boolean {
    return mem.I32[this.#live('closed') + S_CLOSED] !== 0;
  }
  /**
   * Puts a value at the end, waiting while the queue is full.  Throws ETIMEDOUT,
   * ESHUTDOWN when the queue is closed, EDEADLK on memory that nobody shares,
   * EOPNOTSUPP on a browser's main thread.
   */
  push(value: T, options?: QueueWait): void {
    const ms = timeoutOf('push', options);
    this.#check('push', value);
    const e = this.#live('push');
    const outer = kernel_enter_proved();
    try {
      mtx_lock(WORD, e + E_LOCK);
      if (!this.#put(e, value)) this.#pushSlow(e, value, ms);
      mtx_unlock_word(e + E_LOCK);
      wakeup_one(e + S_ITEMS);
    } catch (x) {
      kernel_threw(x, outer, 'push');
    }
    kernel_leave(outer);
  }
  /** Puts a value at the end if there is room. Never waits. Throws ESHUTDOWN if it is closed. */
  tryPush(value: T): boolean {
    this.#check('tryPush', value);
    const e = this.#live('tryPush');
    const outer = kernel_enter_proved();
    let done = false;
    try {
      mtx_lock(WORD, e + E_LOCK);
      done = this.#put(e, value);
      mtx_unlock_word(e + E_LOCK);
      if (done) wakeup_one(e + S_ITEMS);
    } catch (x) {
      kernel_threw(x, outer, 'tryPush');
    }
    kernel_leave(outer);
    if (!done && mem.I32[e + S_CLOSED] !== 0) this.#closed('tryPush');
    return done;
  }
  /**
   * Takes the first value, waiting while the queue is empty; undefined when it is
   * closed and empty.  Throws ETIMEDOUT, EDEADLK, EOPNOTSUPP.
   */
  pop(options?: QueueWait): T | undefined {
    const ms = timeoutOf('pop', options);
    return this.#pop('pop', this.#live('pop'), ms);
  }
  #pop(op: 'pop' | 'tryPop', e: number, ms: number): T | undefined {
    const outer = kernel_enter_proved();
    let value: T | typeof EMPTY = EMPTY;
    try {
      mtx_lock(WORD, e + E_LOCK);
      value = this.#take(e);
      if (value === EMPTY && op === 'pop') value = this.#popSlow(e, ms);
      mtx_unlock_word(e + E_LOCK);
      if (value !== EMPTY) wakeup_one(e + S_SPACE);
    } catch (x) {
      kernel_threw(x, outer, op);
    }
    kernel_leave(outer);
    return value === EMPTY ? undefined : value;
  }
  /** Takes the first value; undefined if there is none. Never waits. */
  tryPop(): T | undefined {
    return this.#pop('tryPop', this.#live('tryPop'), 0);
  }
  /** push that waits in the event loop. Rejects with the signal's reason, ETIMEDOUT, ESHUTDOWN. */
  async pushAsync(value: T, options?: AsyncOptions): Promise<void> {
    this.#check('pushAsync', value);
    const attempt = (): true | undefined => this.tryPush(value) || undefined;
    await this.#pushers.wait({ op: 'pushAsync', name: this.#named, key: 0, attempt }, options);
  }
  /**
   * pop that waits in the event loop; undefined when the queue is closed and
   * empty.  Rejects with the signal's reason, ETIMEDOUT, ESHUTDOWN.
   */
  async popAsync(options?: AsyncOptions): Promise<T | undefined> {
    const attempt = (): T | typeof EMPTY | undefined =>
      this.tryPop() ?? (this.closed ? this.#last() : undefined);
    const want = { op: 'popAsync', name: this.#named, key: 0, attempt };
    const got = await this.#poppers.wait(want, options);
    return got === EMPTY ? undefined : got;
  }
  /** The values as they come, in the event loop, until the queue is closed and empty. */
  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for (;;) {
      const value = await this.popAsync();
      if (value === undefined) return;
      yield value;
    }
  }
  /** Ends the queue for all threads: no push any more; pops take what is left, then undefined. */
  close(): void {
    const e = this.#live('close');
    inKernel('close', () => {
      mtx_lock(WORD, e + E_LOCK);
      mem.I32[e + S_CLOSED] = 1;
      mtx_unlock_word(e + E_LOCK);
      wakeup(e + S_ITEMS);
      wakeup(e + S_SPACE);
    });
  }
  /**
   * Lets go of the queue; with its last user it ends, if it is empty.  This thread's
   * waits for it end (ESHUTDOWN).  Returns the values in it if it stays for that reason.
   */
  dispose(): number {
    const e = this.#e;
    if (e === 0) return 0;
    enter('dispose');
    let left = 0;
    this.#ctx.forget('queue', this.name);
    this.bury();
    const busy = (): boolean => {
      left = queueCount(e);
      return left > 0;
    };
    release(e, busy, () => this.#ctx.endWaits(this));
    if (left > 0) reportLeft(this.name, left);
    return left;
  }
  /** dispose() at the end of a `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
  /** @internal */
  bury(): void {
    this.#e = 0;
  }

  #live(op: string): number {
    if (this.#e === 0) gone(op, this.#ctx);
    enter(op);
    return this.#e;
  }
  #check(op: string, value: T): void {
    if (typeof value === 'number') return;
    throw kmemError(EINVAL, op, `queue '${this.name}': ${shown(value)} is not a number`);
  }
  /** The lock is held. False: full, or closed. */
  #put(e: number, value: T): boolean {
    const n = mem.I32[e + S_COUNT];
    if (n >= this.capacity || mem.I32[e + S_CLOSED] !== 0) return false;
    const at = (mem.I32[e + S_HEAD] + n) % this.capacity;
    mem.F64[(mem.I32[e + V_RING] >> 1) + at] = value as number; // nobody's before the count says so
    undo_begin(WORD, e + E_LOCK);
    save_word(e + S_COUNT);
    mem.I32[e + S_COUNT] = n + 1;
    undo_end();
    return true;
  }
  /** The lock is held. */
  #take(e: number): T | typeof EMPTY {
    const n = mem.I32[e + S_COUNT];
    if (n === 0) return EMPTY;
    const head = mem.I32[e + S_HEAD];
    const value = mem.F64[(mem.I32[e + V_RING] >> 1) + head] as T;
    undo_begin(WORD, e + E_LOCK);
    save_word(e + S_HEAD);
    save_word(e + S_COUNT);
    mem.I32[e + S_HEAD] = head + 1 === this.capacity ? 0 : head + 1;
    mem.I32[e + S_COUNT] = n - 1;
    undo_end();
    return value;
  }
  /** The lock is held; given up where this throws. */
  #pushSlow(e: number, value: T, ms: number): void {
    const deadline = performance.now() + ms;
    while (!this.#put(e, value)) {
      if (mem.I32[e + S_CLOSED] !== 0) this.#leave(e, () => this.#closed('push'));
      this.#sleep(e, 'push', S_SPACE, deadline, ms);
    }
  }
  #popSlow(e: number, ms: number): T | typeof EMPTY {
    const deadline = performance.now() + ms;
    for (;;) {
      const value = this.#take(e);
      if (value !== EMPTY || mem.I32[e + S_CLOSED] !== 0) return value;
      this.#sleep(e, 'pop', S_ITEMS, deadline, ms);
    }
  }
  #sleep(e: number, op: 'push' | 'pop', channel: number, deadline: number, ms: number): void {
    const left = deadline - performance.now();
    if (left <= 0) {
      const text = `queue '${this.name}': ${op === 'push' ? 'full' : 'empty'} for ${ms} ms`;
      this.#leave(e, () => {
        throw kmemError(ETIMEDOUT, op, text);
      });
    }
    if (!memory_state.shared) this.#leave(e, () => this.#alone(op));
    if (!mayBlock()) this.#leave(e, () => checkMayBlock(op, `${op}Async`));
    // A wake-up may have gone to a thread that died.
    const slice = Math.min(left, slices.sleepMs);
    // errno: woken, late or called off, the loop looks again with the lock
    msleep(e + channel, WORD, e + E_LOCK, `q${op}`, slice);
    poll();
  }
  #leave(e: number, say: () => void): never {
    mtx_unlock_word(e + E_LOCK);
    say();
    throw new Error('queue: somebody must say why');
  }
  #alone(op: string): never {
    throw kmemError(EDEADLK, op, `queue '${this.name}': no other thread could end this wait`);
  }
  #closed(op: string): never {
    throw kmemError(ESHUTDOWN, op, `queue '${this.name}' is closed`);
  }
  /** Closed: a value that came in before is still there to be taken. */
  #last(): T | typeof EMPTY {
    return this.tryPop() ?? EMPTY;
  }
}
function reportLeft(name: string, count: number): void {
  tell(() => {
    const leak = { kind: 'queue', name, count, bytes: count * 8 };
    if (channels.leak.hasSubscribers) channels.leak.publish(leak);
    console.error(`kmem: queue '${name}' was disposed of with ${count} values in it: it stays`);
  });
}
