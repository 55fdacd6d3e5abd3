/*
 * chain_wait: how chains wait for memory, and why they got none.
 *
 *      request -> refused -> queued, frees marked -> counts say no -> asleep
 *                                  |                                   |
 *                            counts say yes ------> again <------ something freed
 *
 * What counts say and what is slept on is the kernel's (sys/client/kern_mbuf_supply.ts): a
 * waiter first looks there, and asks only if what it needs seems to be there, because a
 * request that is refused half-way looks like a free to the others who wait.  Where the
 * counts promised too much it tries again after a pause that doubles.
 *
 * In the event loop a thread waits at the kegs that are at their limit as well, because a
 * limit may be raised, and for pages if these are short.  All its requests wait together,
 * as one sleeper; the oldest is asked for first, and a small one may pass a large one.
 *
 * Counts are looked at after the sleeper is queued.
 */
import { ENOMEM } from '../sys/machine/errno.ts';
import { memory_state } from '../sys/machine/memory.ts';
import { nmbclusters_change } from '../sys/client/kern_mbuf.ts';
import {
  MB_ZONES,
  mb_at_limit,
  mb_bytes_possible,
  mb_channel,
  mb_count_sleep,
  mb_full_zones,
  mb_keg,
  mb_supply,
  mb_want,
  mb_zone,
} from '../sys/client/kern_mbuf_supply.ts';
import { W_KEGLIMIT } from '../sys/machine/wmesg.ts';
import { vm_wait_arm, vm_wait_channel } from '../sys/page/vm_page.ts';
import {
  sleepq_async_add,
  sleepq_async_end,
  tsleep,
  wakeup,
  wakeup_one,
} from '../sys/sync/subr_sleepqueue.ts';
import { zone_name } from '../sys/uma/uma_int.ts';
import { uma_zone_get_max } from '../sys/uma/uma_zone.ts';
import type { AsyncOptions } from './args.ts';
import { channels } from './channels.ts';
import { type Context, giveBack, inKernel, tell } from './context.ts';
import { kmemError } from './errors.ts';
import { Line, Sleep, type Why } from './line.ts';
import { memoryFailure, sleepForPages } from './type.ts';
import { slices } from './wait.ts';

/**
 * Whether memory for a request seems to be there.  `freePages`: with so many free
 * pages; as many as could be had, if it is not given.
 */
export type Can = (freePages?: number) => boolean;

// --- why there is none ---------------------------------------------------------------------------

/** Why a chain got no memory for `size` bytes. */
export function chainFailure(op: string, size: number): Error {
  const [full] = mb_full_zones(size);
  if (full === undefined) return memoryFailure(op, size, { zone: 'mbuf' });
  const z = mb_zone(full);
  const zone = zone_name(z);
  const details = { reason: 'limit', size, zone } as const;
  if (channels.enomem.hasSubscribers) tell(() => channels.enomem.publish({ op, ...details }));
  const limit = uma_zone_get_max(z);
  const free = Math.max(0, mb_supply(full, 0));
  const how = free === 0 ? `all ${limit}` : `all but ${free} of ${limit}`;
  const text = `limit: ${how} items of '${zone}' are in use, ${size} bytes were asked for`;
  return kmemError(ENOMEM, op, text, details);
}

/** Throws ENOMEM for more bytes than all limits together allow: waiting would not help. */
export function checkPossible(op: string, size: number): void {
  const most = mb_bytes_possible();
  if (size <= most) return;
  const text = `too large: ${size} bytes are more than all clusters together hold (${most})`;
  throw kmemError(ENOMEM, op, text, { reason: 'too large', size });
}

// --- asking to be told ---------------------------------------------------------------------------

// A limit that was raised is no free: it wakes the keg's own sleepers only.
nmbclusters_change.push(() => void wakeup(mb_channel()));

/** Pause of a thread that blocks, where the counts promised too much, ms. */
const UNREACHED_MS = 5;
/** How often a thread that blocks looks whether pages came back, ms. */
const PAGES_MS = 20;
/** Sleeps until memory may be there, at most `ms`. */
export function sleepForChains(ms: number, can: Can): void {
  // There is some that the request could not get at: nobody would wake us for it.
  if (can()) return sleepForPages(Math.min(ms, UNREACHED_MS));
  mb_count_sleep();
  const until = performance.now() + ms;
  for (let left = ms; left > 0 && !can(); left = until - performance.now()) {
    // Pages that somebody frees wake nobody here: it is the buffers of others that may.
    const most = can(Number.POSITIVE_INFINITY) ? PAGES_MS : left;
    tsleep(mb_channel(), W_KEGLIMIT, Math.min(most, left), () => {
      mb_want();
      return !can();
    });
  }
}

// --- in the event loop ---------------------------------------------------------------------------

/** First pause where the counts promised too much, ms; it doubles up to a slice. */
const PAUSE_MS = 1;

/** The requests of one thread for memory of chains: all wait together. */
class ChainLine extends Line {
  #asleep: { word: number; wchan: number }[] = [];
  /** How long the last pause was, ms; 0: there was none. */
  #pause = 0;

  constructor(ctx: Context) {
    super(ctx, null);
  }
  protected look(why: Why): Sleep | null {
    // What it was told is spent: the counts say whether there is anything.
    giveBack('chain', () => this.#unqueue(false));
    if (why === 'late') this.sweep();
    const missed = this.#ask(why === 'late' && this.#pause === 0);
    if (this.count === 0) return null;
    this.#pause = missed ? Math.min(Math.max(PAUSE_MS, this.#pause * 2), slices.asyncMs) : 0;
    if (missed) return new Sleep([], 1, this.#pause);
    inKernel('chain', () => this.#queue());
    if (this.wants().some(({ can }) => can?.())) return null;
    return this.sleepOn(
      this.#asleep.map(({ word }) => word),
      1,
      slices.asyncMs,
    );
  }
  /** Asks for those whose memory seems to be there, or for all. True: one got none nevertheless. */
  #ask(all: boolean): boolean {
    const promised = new Set<unknown>();
    this.ask(Number.POSITIVE_INFINITY, (want) => {
      if (want.can?.()) promised.add(want);
      else if (!all) return false;
      return true;
    });
    return this.wants().some((want) => promised.has(want));
  }
  /** Queues this thread wherever something may change. With a full table, the timer ends it. */
  #queue(): void {
    if (!memory_state.shared) return;
    const wchans = new Set<number>([mb_channel()]);
    for (const which of MB_ZONES) if (mb_at_limit(which)) wchans.add(mb_keg(which));
    if (this.wants().some(({ can }) => can?.(Number.POSITIVE_INFINITY)))
      wchans.add(vm_wait_channel());
    for (const wchan of wchans) {
      const word = sleepq_async_add(wchan, W_KEGLIMIT);
      if (word !== 0) this.#asleep.push({ word, wchan });
    }
    if (wchans.has(vm_wait_channel())) vm_wait_arm();
    mb_want();
  }
  #unqueue(passOn: boolean): void {
    const asleep = this.#asleep;
    this.#asleep = [];
    for (const { word, wchan } of asleep) {
      if (sleepq_async_end(word) > 0 && passOn) wakeup_one(wchan);
    }
  }
  protected leave(): void {
    giveBack('chain', () => this.#unqueue(true));
  }
  protected joined(): boolean {
    return true;
  }
  protected quit(): void {}
  protected override begins(): void {
    inKernel('chain', mb_count_sleep);
  }
}

const lines = new WeakMap<Context, ChainLine>();
function lineOf(ctx: Context): ChainLine {
  const known = lines.get(ctx) ?? new ChainLine(ctx);
  lines.set(ctx, known);
  return known;
}
/** What a chain waits for. */
export interface ChainWant {
  readonly op: string;
  /** Requests with the same key fail alike. */
  readonly key: string;
  /** Whether there seems to be enough. */
  readonly can: Can;
  /** Whether it is pointless by now, which the attempt says. */
  readonly over?: () => boolean;
}
/**
 * Repeats `attempt` in the event loop until memory for a chain is there; undefined
 * is "not now".  Rejects with what attempt throws, the signal's reason, ETIMEDOUT, ESHUTDOWN,
 * EINVAL for a bad timeout.
 */
export function chainMemory<T>(
  ctx: Context,
  want: ChainWant,
  options: AsyncOptions | undefined,
  attempt: () => T | undefined,
): Promise<T> {
  return lineOf(ctx).wait({ ...want, name: 'a chain', attempt }, options);
}
