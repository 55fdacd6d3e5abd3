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
 * The ring, its lock and the sleeping are the kernel's (sys/client/kern_queue.ts), which
 * also says what a death in the middle of a push or pop leaves behind: at most the value
 * in the dead thread's hands is lost.  Here is what the façade adds: which arguments are
 * right, how long to wait, and errors with words.  A wait is cut into slices, because a
 * wake-up may have gone to a thread that died.
 */
import { poll } from '../sys/machine/cpu.ts';
import { EAGAIN, EDEADLK, EINVAL, ENOMEM, ESHUTDOWN, ETIMEDOUT } from '../sys/machine/errno.ts';
import { memory_state } from '../sys/machine/memory.ts';
import { field_word, NULL, type WordField } from '../sys/machine/struct.ts';
import { type reg_entry_t, reg_queue } from '../sys/h/registry.ts';
import {
  queue_close,
  queue_ended,
  queue_init,
  queue_put,
  queue_sleep_items,
  queue_sleep_space,
  queue_take,
} from '../sys/client/kern_queue.ts';
import { registry_shape } from '../sys/client/kern_registry.ts';
import { kernel_enter_proved, kernel_leave, kernel_threw } from '../sys/sync/subr_trap.ts';
import { W_QPOP, W_QPUSH } from '../sys/machine/wmesg.ts';
import { checkOptions, type Known, shown, timeoutOf, wholeIn } from './args.ts';
import { channels } from './channels.ts';
import {
  checkMayBlock,
  type Context,
  enter,
  gone,
  inKernel,
  letGo,
  type Mortal,
  tell,
} from './context.ts';
import { kmemError } from './errors.ts';
import { ChannelLine } from './line.ts';
import type { Address, Item } from './memory.ts';
import { type Fields, type ItemHandle, RecordSet } from './records.ts';
import { obtain, release } from './registry.ts';
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
function make(e: reg_entry_t, name: string, capacity: number): void {
  if (queue_init(e, capacity) === 0) return;
  throw kmemError(ENOMEM, 'queue', `no memory for the ring of '${name}'`);
}

/** The queue is closed, and nothing is left in it. */
const ENDED = Symbol('ended');

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
  #e: reg_entry_t;

  /** Use machine.queue(name, options). */
  constructor(ctx: Context, name: string, given: QueueShape) {
    const { capacity } = given;
    const shape = queueShapeText(given);
    this.#e = obtain('queue', name, shape, (e) => make(e, name, capacity));
    this.name = name;
    this.capacity = capacity;
    this.#ctx = ctx;
    this.#named = `queue '${name}'`;
    const line = (op: string, wmesg: string, channel: WordField<reg_entry_t>): ChannelLine =>
      new ChannelLine({
        ctx,
        of: this,
        op,
        wmesg,
        wakes: 'each',
        channel: () => field_word(channel, this.#live(op)),
      });
    this.#poppers = line('popAsync', W_QPOP, reg_queue.items);
    this.#pushers = line('pushAsync', W_QPUSH, reg_queue.space);
  }
  /** What the queue is, as EEXIST shows it. */
  get shape(): string {
    return registry_shape(this.#live('shape'));
  }
  /** Values in the queue: a sample while threads run. */
  get length(): number {
    return reg_queue.count[this.#live('length')];
  }
  /** Whether close() was called. */
  get closed(): boolean {
    return reg_queue.closed[this.#live('closed')] !== 0;
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
    let error = this.#put('push', e, value);
    if (error === EAGAIN) error = this.#pushSlow(e, value, ms);
    if (error === ESHUTDOWN) this.#closed('push');
  }
  /** Puts a value at the end if there is room. Never waits. Throws ESHUTDOWN if it is closed. */
  tryPush(value: T): boolean {
    this.#check('tryPush', value);
    const error = this.#put('tryPush', this.#live('tryPush'), value);
    if (error === ESHUTDOWN) this.#closed('tryPush');
    return error === 0;
  }
  /**
   * Takes the first value, waiting while the queue is empty; undefined when it is
   * closed and empty.  Throws ETIMEDOUT, EDEADLK, EOPNOTSUPP.
   */
  pop(options?: QueueWait): T | undefined {
    const ms = timeoutOf('pop', options);
    const e = this.#live('pop');
    return this.#take('pop', e) ?? this.#popSlow(e, ms);
  }
  /** Takes the first value; undefined if there is none. Never waits. */
  tryPop(): T | undefined {
    return this.#take('tryPop', this.#live('tryPop'));
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
    const attempt = (): T | typeof ENDED | undefined =>
      this.tryPop() ?? (this.closed ? this.#last() : undefined);
    const want = { op: 'popAsync', name: this.#named, key: 0, attempt };
    const got = await this.#poppers.wait(want, options);
    return got === ENDED ? undefined : got;
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
    inKernel('close', () => queue_close(e));
  }
  /**
   * Lets go of the queue; with its last user it ends, if it is empty.  This thread's
   * waits for it end (ESHUTDOWN).  Returns the values in it if it stays for that reason.
   */
  dispose(): number {
    const e = this.#e;
    if (e === NULL) return 0;
    return letGo(() => this.#dispose(e)) ?? 0;
  }
  #dispose(e: reg_entry_t): number {
    enter('dispose');
    let left = 0;
    this.#ctx.forget('queue', this.name);
    this.bury();
    const busy = (): boolean => {
      left = reg_queue.count[e];
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
    this.#e = NULL as reg_entry_t;
  }

  #live(op: string): reg_entry_t {
    if (this.#e === NULL) gone(op, this.#ctx);
    enter(op);
    return this.#e;
  }
  #check(op: string, value: T): void {
    if (typeof value === 'number') return;
    throw kmemError(EINVAL, op, `queue '${this.name}': ${shown(value)} is not a number`);
  }
  /** Puts a value, by a call that has entered. 0, EAGAIN if it is full, ESHUTDOWN if closed. */
  #put(op: string, e: reg_entry_t, value: T): number {
    const outer = kernel_enter_proved();
    let error = 0;
    try {
      error = queue_put(e, value as number);
    } catch (x) {
      kernel_threw(x, outer, op);
    }
    kernel_leave(outer);
    return error;
  }
  /** Takes a value, by a call that has entered; undefined if there is none. */
  #take(op: string, e: reg_entry_t): T | undefined {
    const outer = kernel_enter_proved();
    let value: number | undefined;
    try {
      value = queue_take(e);
    } catch (x) {
      kernel_threw(x, outer, op);
    }
    kernel_leave(outer);
    return value as T | undefined;
  }
  /** 0, or ESHUTDOWN. */
  #pushSlow(e: reg_entry_t, value: T, ms: number): number {
    const deadline = performance.now() + ms;
    for (;;) {
      this.#sleep(e, 'push', deadline, ms);
      const error = this.#put('push', e, value);
      if (error !== EAGAIN) return error;
    }
  }
  #popSlow(e: reg_entry_t, ms: number): T | undefined {
    const deadline = performance.now() + ms;
    while (!queue_ended(e)) {
      this.#sleep(e, 'pop', deadline, ms);
      const value = this.#take('pop', e);
      if (value !== undefined) return value;
    }
    return undefined;
  }
  /** Sleeps for a slice, unless there is something by then. */
  #sleep(e: reg_entry_t, op: 'push' | 'pop', deadline: number, ms: number): void {
    const left = deadline - performance.now();
    if (left <= 0) {
      const text = `queue '${this.name}': ${op === 'push' ? 'full' : 'empty'} for ${ms} ms`;
      throw kmemError(ETIMEDOUT, op, text);
    }
    if (!memory_state.shared) this.#alone(op);
    checkMayBlock(op, `${op}Async`);
    const slice = Math.min(left, slices.sleepMs);
    inKernel(op, () => (op === 'push' ? queue_sleep_space(e, slice) : queue_sleep_items(e, slice)));
    poll();
  }
  #alone(op: string): never {
    throw kmemError(EDEADLK, op, `queue '${this.name}': no other thread could end this wait`);
  }
  #closed(op: string): never {
    throw kmemError(ESHUTDOWN, op, `queue '${this.name}' is closed`);
  }
  /** Closed: a value that came in before is still there to be taken. */
  #last(): T | typeof ENDED {
    return this.tryPop() ?? ENDED;
  }
}
function reportLeft(name: string, count: number): void {
  tell(() => {
    const leak = { kind: 'queue', name, count, bytes: count * 8 };
    if (channels.leak.hasSubscribers) channels.leak.publish(leak);
    console.error(`kmem: queue '${name}' was disposed of with ${count} values in it: it stays`);
  });
}
