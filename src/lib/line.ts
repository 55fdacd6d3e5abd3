/*
 * line: the tasks of one thread that wait for one thing in its event loop.
 *
 *      channel of the kernel    record of thread 1 (3 tasks) -> record of thread 2 -> ...
 *                                     |
 *      line of thread 1         lane  task -> task -> task      a promise each
 *                               lane  task                      with time and signal
 *
 * However many tasks wait, the kernel sees one sleeper of the thread.  It counts the tasks,
 * so that it can be told once for each of them; when it is told, the line asks for its tasks
 * in the order in which they came, and stops when a request is refused.  A task that comes
 * while others wait goes to the end without asking.  So ten thousand tasks cost what one
 * does, each is served in its turn, and what comes free wakes no more than can use it.
 *
 * Requests of one size wait in one lane, because they fail alike.  A small request
 * may pass a large one that was refused.
 *
 * A round: queue at the channels, ask, sleep until told or for a slice; then again.  It
 * queues before it asks, so nothing falls between.  No lock of the kernel is held over an
 * await.  A slice ends a wait whose waker died with the wake-up in its hand.
 *
 * A wake-up is never spent on somebody who cannot use it.  Those that a line was told
 * and has no task for go to the next sleeper: when a task gives up, when all were served,
 * when the thread lets go of the object or leaves the machine.
 *
 * Here are what all lines have in common and the lines that sleep on wait channels; those
 * of mutexes are in lock_line.ts, those of chains in chain_wait.ts.
 */
import { atomic_notify } from '../sys/machine/atomic.ts';
import { poll } from '../sys/machine/cpu.ts';
import { ETIMEDOUT } from '../sys/machine/errno.ts';
import { mem, memory_state } from '../sys/machine/memory.ts';
import {
  sleepq_async_add,
  sleepq_async_end,
  sleepq_async_less,
  sleepq_async_more,
  sleepq_async_take,
  wakeup_n,
} from '../sys/sync/subr_sleepqueue.ts';
import { vm_page_ask } from '../sys/page/vm_page.ts';
import { type AsyncOptions, asyncOptionsOf } from './args.ts';
import { type Context, giveBack, gone, inKernel, type Mortal, type Wait } from './context.ts';
import { kmemError } from './errors.ts';
import { checkAbort, sayWaits, slices, TIMER_MAX_MS } from './wait.ts';

/** Where the host cannot wait in the event loop, it looks this often, ms. */
const POLL_MS = 4;
/** A request that was refused is not made again so soon because the time of a task is over, ms. */
const REFUSED_MS = 20;
const ALL = Number.POSITIVE_INFINITY;

/** What a task asks for. */
export interface Want<T> {
  readonly op: string;
  /** Of what is waited for, in errors. */
  readonly name: string;
  /** What the error says before the time, if that is over. Default: 'not in'. */
  readonly late?: string;
  /**
   * Requests with the same key fail alike.  A number says how much is asked for: where so
   * much is refused, more is not asked for.
   */
  readonly key: number | string;
  /** Whether it seems to be there, where that is known without asking. */
  readonly can?: (freePages?: number) => boolean;
  /** Whether it is pointless by now, which the attempt says. Looked at once a slice. */
  readonly over?: () => boolean;
  /** Makes the request without waiting; undefined: not now. */
  attempt(): T | undefined;
}

/** One task that waits. */
export class Task<T> {
  readonly want: Want<T>;
  readonly promise: Promise<T>;
  readonly age: number;
  prev: Task<unknown> | null = null;
  next: Task<unknown> | null = null;
  #resolve: (got: T) => void = () => {};
  #reject: (why: unknown) => void = () => {};
  #timer: ReturnType<typeof setTimeout> | undefined;
  #signal: AbortSignal | undefined;
  #aborted: (() => void) | undefined;

  constructor(want: Want<T>, age: number) {
    this.want = want;
    this.age = age;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }
  /** Calls `late` when `ms` have gone by, `aborted` when the signal says so. */
  limit(ms: number, late: () => void, signal: AbortSignal | undefined, aborted: () => void): void {
    if (ms !== ALL) this.#until(performance.now() + ms, late);
    if (signal === undefined) return;
    this.#signal = signal;
    this.#aborted = aborted;
    signal.addEventListener('abort', aborted, { once: true });
  }
  #until(deadline: number, late: () => void): void {
    const left = Math.ceil(deadline - performance.now());
    const ring = (): void => (performance.now() < deadline ? this.#until(deadline, late) : late());
    this.#timer = setTimeout(ring, Math.min(Math.max(0, left), TIMER_MAX_MS));
  }
  /** It has got what it wanted. */
  done(got: T): void {
    this.#end();
    this.#resolve(got);
  }
  fail(why: unknown): void {
    this.#end();
    this.#reject(why);
  }
  #end(): void {
    clearTimeout(this.#timer);
    if (this.#aborted) this.#signal?.removeEventListener('abort', this.#aborted);
  }
}

/** Tasks that fail alike, in the order in which they came. */
interface Lane {
  readonly key: number | string;
  /** When it was refused last. */
  refused: number;
  head: Task<unknown>;
  tail: Task<unknown>;
}

// --- a sleep of the line -----------------------------------------------------------------

type WaitAsync = (
  view: Int32Array,
  index: number,
  value: number,
  ms: number,
) => { async: boolean; value: Promise<string> | string };
const { waitAsync } = Atomics as unknown as { waitAsync?: WaitAsync };

/** Waits in the event loop until one of some words does not hold `value`, at most `ms`. */
export class Sleep {
  /** How it ended: by a word, by its time, or because it was cut short. */
  ended: 'told' | 'late' | 'cut' | '' = '';
  readonly done: Promise<void>;
  readonly #late: ((word: number, memory: Int32Array) => void) | null;
  readonly #memory = mem.I32;
  readonly #pending = new Set<number>();
  #resolve: () => void = () => {};
  #timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * The words are the line's own, unless `late` is given: that hears of a word for which
   * others wait too, if its wake-up comes when the sleep is over, perhaps when this thread has
   * left that memory.
   */
  constructor(
    words: readonly number[],
    value: number,
    ms: number,
    late: ((word: number, memory: Int32Array) => void) | null = null,
  ) {
    this.#late = late;
    const heard = memory_state.shared && waitAsync !== undefined && words.length > 0;
    const slice = heard || words.length === 0 ? ms : Math.min(ms, POLL_MS);
    this.done = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    // It keeps the thread alive, too: a waitAsync does not.
    this.#timer = setTimeout(() => this.#end('late'), slice);
    for (const w of heard ? words : []) {
      if (this.ended !== '') return;
      const r = (waitAsync as WaitAsync)(mem.I32, w, value, slice);
      if (!r.async) {
        this.#end('told');
        return;
      }
      this.#pending.add(w);
      (r.value as Promise<string>).then((how) => this.#heard(w, how));
    }
  }
  #heard(w: number, how: string): void {
    this.#pending.delete(w);
    if (this.ended === '') this.#end(how === 'timed-out' ? 'late' : 'told');
    else if (how === 'ok') this.#late?.(w, this.#memory);
  }
  /** Ends it. */
  cut(): void {
    this.#end('cut');
  }
  #end(how: 'told' | 'late' | 'cut'): void {
    if (this.ended !== '') return;
    this.ended = how;
    clearTimeout(this.#timer);
    // A waitAsync cannot be called off: it would hear the next wake-up in place of another.
    if (this.#late === null) for (const w of this.#pending) atomic_notify(w, 1);
    this.#resolve();
  }
}

// --- what all lines have in common -------------------------------------------------------

/** Why a line looks: a task came, it was told, a slice is over. */
export type Why = 'joined' | 'told' | 'late';

export abstract class Line implements Wait {
  readonly of: readonly Mortal[];
  protected readonly ctx: Context;
  /** Tasks that wait. */
  protected count = 0;
  readonly #lanes = new Map<number | string, Lane>();
  #age = 0;
  #running = false;
  #sleep: Sleep | null = null;

  /** `of`: the waits end when this thread lets go of it. */
  constructor(ctx: Context, of: Mortal | null) {
    this.ctx = ctx;
    this.of = of === null ? [] : [of];
  }
  /** Queues where wakers look, asks, and begins to sleep. null: nobody is left, or look again. */
  protected abstract look(why: Why): Sleep | null;
  /** Gives back what the line has in the kernel; what it was told is another's. */
  protected abstract leave(): void;
  /** A task came while others wait. True: the line is to look, because that changes something. */
  protected abstract joined(): boolean;
  /** A task has given up, and others still wait. */
  protected abstract quit(): void;
  /** Sleeps on words for a slice; without any it looks again soon. */
  protected sleepOn(words: readonly number[], value: number, ms: number): Sleep {
    return new Sleep(words, value, words.length > 0 ? ms : Math.min(ms, POLL_MS));
  }
  /** A task begins to wait. */
  protected begins(): void {}
  /** A sleep was ended by its word when nobody was left. */
  protected unused(): void {}

  /**
   * Makes a request, waiting in turn.  Rejects with the signal's reason, ETIMEDOUT, what
   * the request throws, ESHUTDOWN when this thread lets go of the object or leaves.
   */
  wait<T>(want: Want<T>, options: AsyncOptions | undefined): Promise<T> {
    // No async function: whoever is served at once would be heard before who was served earlier.
    try {
      const { signal, timeout = ALL } = asyncOptionsOf(want.op, options);
      checkAbort(signal);
      this.ctx.enter(want.op);
      const first = this.behind(want.key) ? undefined : want.attempt();
      if (first !== undefined) return Promise.resolve(first);
      sayWaits(want.op, want.name, timeout);
      return this.join(want, timeout, signal).promise;
    } catch (e) {
      return Promise.reject(e);
    }
  }
  /** Whether a request would have to wait for others that came before. */
  behind(key: number | string): boolean {
    if (this.#lanes.has(key)) return true;
    if (typeof key !== 'number') return false;
    for (const { key: other } of this.#lanes.values()) {
      if (typeof other === 'number' && other <= key) return true;
    }
    return false;
  }
  /** A new task at the end of the line. */
  join<T>(want: Want<T>, ms: number, signal: AbortSignal | undefined): Task<T> {
    const task = new Task(want, this.#age++);
    const late = (): void => this.#late(task, ms);
    task.limit(ms, late, signal, () => this.end(task, signal?.reason));
    this.#append(task as Task<unknown>);
    this.begins();
    if (!this.#running) void this.#run(want.op);
    else if (this.ctx.parked === null && this.joined()) this.#sleep?.cut();
    return task;
  }
  /** A task gives up. Does nothing if it is over. */
  end<T>(task: Task<T>, why: unknown): void {
    if (!this.#remove(task as Task<unknown>)) return;
    task.fail(why);
    this.#lessen();
  }
  /** A task is over outside of a round. */
  #lessen(): void {
    const { parked, up } = this.ctx;
    if (!up) return;
    if (parked !== null) void parked.then(() => this.#sleep?.cut());
    else if (this.count > 0) this.quit();
    else {
      this.#sleep?.cut();
      this.leave();
    }
  }
  /** The thread leaves the machine, or lets go of what is waited for: all waits end. */
  bury(): void {
    this.#fail((op) => whyGone(op, this.ctx));
    if (this.#sleep?.ended === 'told') this.unused(); // it has not been heard yet
    this.#sleep?.cut();
    this.leave();
  }

  async #run(op: string): Promise<void> {
    this.#running = true;
    this.ctx.waits.add(this);
    try {
      for (let why: Why = 'joined'; this.count > 0; ) {
        const sleep = this.look(why);
        why = 'joined';
        if (sleep === null) continue;
        this.#sleep = sleep;
        await sleep.done;
        while (this.ctx.parked !== null) await this.ctx.parked;
        this.#sleep = null;
        if (!this.ctx.up) break;
        if (this.count === 0) {
          if (sleep.ended === 'told') this.unused();
          break;
        }
        this.ctx.enter(op);
        poll();
        why = sleep.ended === 'told' || sleep.ended === 'late' ? sleep.ended : 'joined';
      }
    } catch (e) {
      this.#fail(() => e);
    }
    this.#running = false;
    this.ctx.waits.delete(this);
    if (this.ctx.up) this.leave();
  }
  #late<T>(task: Task<T>, ms: number): void {
    const { parked } = this.ctx;
    if (parked !== null) return void parked.then(() => this.#late(task, ms));
    const { want } = task;
    const lane = this.#lanes.get(want.key);
    // Its last chance, if it is its turn: nobody may be told of what lies in a cache.
    if (lane?.head === task && this.ctx.up) {
      const lately = performance.now() - lane.refused < REFUSED_MS;
      if (!lately && this.#serve(task as Task<unknown>) !== 'refused') return this.#lessen();
    }
    const text = `${want.name}: ${want.late ?? 'not in'} ${ms} ms`;
    this.end(task, kmemError(ETIMEDOUT, want.op, text));
  }
  /**
   * Asks for the tasks in turn, for at most so many that something comes of it; returns for
   * how many.  `ask` says which lanes are asked for at all.
   */
  protected ask(budget: number, ask: (want: Want<unknown>) => boolean = () => true): number {
    let ended = 0;
    let least = ALL;
    const refused = new Set<number | string>();
    for (let some = true; some && ended < budget; ) {
      some = false;
      for (const lane of this.#byAge()) {
        const { key, head } = lane;
        if (ended >= budget) break;
        if (refused.has(key) || (typeof key === 'number' && key >= least)) continue;
        if (this.#lanes.get(key) !== lane || lane.head !== head) continue; // ended meanwhile
        if (!ask(head.want) || this.#serve(head) === 'refused') {
          refused.add(key);
          lane.refused = performance.now();
          if (typeof key === 'number') least = Math.min(least, key);
          continue;
        }
        ended++;
        some = true;
      }
    }
    return ended;
  }
  /** Ends the tasks that wait for nothing any more, wherever they stand. */
  protected sweep(): void {
    for (const lane of this.#byAge()) {
      for (let task: Task<unknown> | null = lane.head; task !== null; ) {
        const next: Task<unknown> | null = task.next;
        if (task.want.over?.()) this.#serve(task);
        task = next;
      }
    }
  }
  /** The first of each lane, as the lanes' keys tell them apart. */
  protected wants(): Want<unknown>[] {
    return this.#byAge().map(({ head }) => head.want);
  }
  #byAge(): Lane[] {
    const lanes = [...this.#lanes.values()];
    return lanes.length < 2 ? lanes : lanes.sort((a, b) => a.head.age - b.head.age);
  }
  #serve(task: Task<unknown>): 'done' | 'failed' | 'refused' {
    let got: unknown;
    try {
      got = task.want.attempt();
    } catch (e) {
      if (this.#remove(task)) task.fail(e);
      return 'failed';
    }
    if (got === undefined) return 'refused';
    this.#remove(task);
    task.done(got);
    return 'done';
  }
  #append(task: Task<unknown>): void {
    this.count++;
    const { key } = task.want;
    const lane = this.#lanes.get(key);
    if (lane === undefined) {
      this.#lanes.set(key, { key, refused: 0, head: task, tail: task });
      return;
    }
    lane.tail.next = task;
    task.prev = lane.tail;
    lane.tail = task;
  }
  /** False: it was over already. */
  #remove(task: Task<unknown>): boolean {
    const lane = this.#lanes.get(task.want.key);
    const { prev, next } = task;
    if (lane === undefined || (prev === null && lane.head !== task)) return false;
    if (prev !== null) prev.next = next;
    else if (next !== null) lane.head = next;
    else this.#lanes.delete(lane.key);
    if (next !== null) next.prev = prev;
    else if (prev !== null) lane.tail = prev;
    task.prev = task.next = null;
    this.count--;
    return true;
  }
  #fail(why: (op: string) => unknown): void {
    const lanes = [...this.#lanes.values()];
    this.#lanes.clear();
    this.count = 0;
    for (const lane of lanes) {
      for (let task: Task<unknown> | null = lane.head; task !== null; task = task.next) {
        task.fail(why(task.want.op));
      }
    }
  }
}
/** What a call says whose object or machine is gone. */
export function whyGone(op: string, ctx: Context): unknown {
  try {
    return gone(op, ctx);
  } catch (e) {
    return e;
  }
}

// --- lines that sleep on wait channels ---------------------------------------------------

/** Where the tasks of a line wait, and what a wake-up there says. */
export interface Place {
  readonly ctx: Context;
  /** What is waited for. */
  readonly of: Mortal | null;
  readonly op: string;
  readonly wmesg: string;
  /**
   * `look`: something came free, perhaps much; `each`: one wake-up for each thing that came;
   * `only`: the wake-up is the thing, nothing is asked for without one.
   */
  readonly wakes: 'look' | 'each' | 'only';
  /** What a waker wakes. */
  channel(): number;
  /** Asks for wake-ups, once queued. */
  arm?(): void;
  /** A task begins to wait. */
  begins?(): void;
}

/** The sleeper of a line on a channel. */
interface Record {
  readonly word: number;
  readonly wchan: number;
}

/** A line that sleeps on one wait channel at a time. */
export class ChannelLine extends Line {
  readonly #place: Place;
  #record: Record | null = null;
  /** How long it sleeps without being told, ms: short after something came unannounced. */
  #slice = 0;
  /** Wake-ups may have found nobody although tasks waited. */
  #missed = false;

  constructor(place: Place) {
    super(place.ctx, place.of);
    this.#place = place;
  }
  protected look(why: Why): Sleep | null {
    const { wakes } = this.#place;
    const wchan = this.#place.channel();
    const told = inKernel(this.#place.op, () => this.#queue(wchan));
    this.#place.arm?.();
    /*
     * At the end of a slice all are asked: a waker may have died with any number of wake-ups in
     * its hand, and of a condition nobody but the waiter can tell whether its predicate holds.
     */
    const all = why === 'late' || (wakes !== 'only' && (why === 'joined' || this.#missed));
    this.#missed = false;
    const ask = (): number => this.ask(all || wakes === 'look' ? ALL : told);
    const ended = wakes === 'look' ? vm_page_ask(ask) : ask();
    if (why === 'late' && ended > 0 && wakes === 'look') this.#slice = slices.firstMs;
    else this.#slice = Math.min((this.#slice || ALL) * 2, slices.asyncMs);
    // Those that were refused have no use for what they were told: there is nothing.
    const over = this.count === 0 ? told - ended : 0;
    giveBack(this.#place.op, () => {
      if (over > 0) wakeup_n(wchan, over);
      this.#less(ended);
    });
    if (this.count === 0 || this.#place.channel() !== wchan) return null;
    return this.sleepOn(this.#record === null ? [] : [this.#record.word], 1, this.#slice);
  }
  /** Queues at the channel for all tasks; returns the wake-ups that the line was given. */
  #queue(wchan: number): number {
    if (this.#record !== null && this.#record.wchan !== wchan) this.#leave();
    const { count } = this;
    if (this.#record === null) {
      // A full table gives 0: then only the timer ends the sleep.
      const word = memory_state.shared ? sleepq_async_add(wchan, this.#place.wmesg, count) : 0;
      if (word !== 0) this.#record = { word, wchan };
      return 0;
    }
    const told = sleepq_async_take(this.#record.word, count);
    if (told >= count) this.#missed = true;
    if (told > count) wakeup_n(wchan, told - count);
    return Math.min(told, count);
  }
  /** So many tasks are over. */
  #less(tasks: number): void {
    const record = this.#record;
    if (record === null || tasks === 0) return;
    if (this.count === 0) return this.#leave();
    const over = sleepq_async_less(record.word, tasks);
    if (over > 0) wakeup_n(record.wchan, over);
  }
  #leave(): void {
    const record = this.#record;
    this.#record = null;
    if (record === null) return;
    const told = sleepq_async_end(record.word);
    if (told > 0) wakeup_n(record.wchan, told);
  }
  protected leave(): void {
    if (this.#record !== null) giveBack(this.#place.op, () => this.#leave());
  }
  protected joined(): boolean {
    const record = this.#record;
    if (record === null) return false;
    giveBack(this.#place.op, () => {
      if (sleepq_async_more(record.word)) this.#missed = true;
    });
    return false;
  }
  protected quit(): void {
    giveBack(this.#place.op, () => this.#less(1));
  }
  protected override begins(): void {
    this.#place.begins?.();
  }
}
