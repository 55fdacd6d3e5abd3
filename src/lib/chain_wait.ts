/*
 * chain_wait: how chains wait for memory, and why they got none.
 *
 *      request -> refused -> queued, frees marked -> counts say no -> asleep
 *                                  |                                   |
 *                            counts say yes ------> again <------ something freed
 *
 * A chain asks for several buffers of several sizes, all or nothing.  A request
 * that is refused gives back what it had got so far, and that looks like a free to
 * everybody who waits: two that wake each other so would never rest.  So a waiter
 * first looks at the counts of the zones, and asks only if what it needs seems to be
 * there.  A count may promise too much (items in the cache of a thread that does not
 * answer, pages that do not lie together), never too little; where it promised too
 * much the waiter tries again after a pause that doubles.
 *
 * Who is woken by what.  Whatever is given back takes an mbuf along, so that waiters
 * sleep on the keg of the mbufs, after marking all zones of buffers as full: frees
 * then go past the caches and wake.  The mark is gone with the first free, therefore
 * it is set before each sleep.  In the event loop a thread waits at the kegs that are
 * at their limit as well, because a limit may be raised, and for pages if these are
 * short.  All its requests wait together, as one sleeper; the oldest is asked for
 * first, and a small one may pass a large one.
 *
 * Locks.  Marks are set under the keg's lock.  Counts are looked at without one,
 * after the sleeper is queued.
 */
import { ENOMEM } from '../sys/machine/errno.ts';
import { memory_state } from '../sys/machine/memory.ts';
import { mb_root, MCLBYTES, MHLEN, MINCLSIZE, MJUM9BYTES, MJUMPAGESIZE } from '../sys/h/mbuf.ts';
import { type keg_t, uma_keg, uma_zone, type zone_t } from '../sys/h/uma.ts';
import { mb, nmbclusters_change } from '../sys/client/kern_mbuf.ts';
import { vm_page_free_count } from '../sys/page/vm_page.ts';
import { phys_root } from '../sys/page/vm_phys.ts';
import {
  sleepq_async_add,
  sleepq_async_end,
  tsleep,
  wakeup,
  wakeup_one,
} from '../sys/sync/subr_sleepqueue.ts';
import { W_KEGLIMIT } from '../sys/machine/wmesg.ts';
import { uma_zone_want } from '../sys/uma/uma_fetch.ts';
import { zone_name } from '../sys/uma/uma_int.ts';
import { zone_present } from '../sys/uma/uma_stats.ts';
import { uma_zone_get_max } from '../sys/uma/uma_zone.ts';
import type { AsyncOptions } from './args.ts';
import { mb_bytes_possible } from '../sys/client/uipc_mbuf_keep.ts';
import { channels } from './channels.ts';
import { type Context, giveBack, inKernel, tell } from './context.ts';
import { kmemError } from './errors.ts';
import { Line, Sleep, type Why } from './line.ts';
import { armForPages, memoryFailure, sleepForPages } from './type.ts';
import { slices } from './wait.ts';

// --- what there is -----------------------------------------------------------------------------

/** The zones that have a keg of their own; that of the mbufs serves the packets too. */
const ZONES = ['clust', 'mbuf', 'jumbop', 'jumbo9', 'jumbo16', 'ext_refcnt'] as const;
type ZoneName = (typeof ZONES)[number];

function zoneOf(which: ZoneName | 'pack'): zone_t {
  return mb_root[which][mb()] as zone_t;
}
function kegOf(which: ZoneName): keg_t {
  return uma_zone.keg[zoneOf(which)];
}
/** Items in use: what packets that nobody uses hold is not. */
function used(which: ZoneName): number {
  const n = zone_present(zoneOf(which));
  if (which === 'clust') return n.used - zone_present(zoneOf('pack')).free;
  if (which !== 'mbuf') return n.used;
  // Over both zones of the keg: an mbuf may leave by the one and come back by the other.
  const packets = zone_present(zoneOf('pack'));
  return n.allocs + packets.allocs - n.frees - packets.frees;
}
/** Items that could be had while so many pages are free: a sample, rather too many than too few. */
function supply(which: ZoneName, freePages: number): number {
  const k = kegOf(which);
  const slab = uma_keg.ppera[k];
  const most = uma_keg.maxpages[k];
  const pages = uma_keg.pages[k];
  const more = most === 0 ? freePages : Math.min(freePages, Math.max(0, most - pages));
  const slabs = Math.ceil(pages / slab) + Math.floor(more / slab);
  return slabs * uma_keg.ipers[k] - used(which);
}

/** Pages that are free, or would be if idle buffers of all sizes were reclaimed. */
function reachable(): number {
  let pages = vm_page_free_count();
  for (const which of ZONES) {
    const k = kegOf(which);
    pages += Math.floor(Math.max(0, supply(which, 0)) / uma_keg.ipers[k]) * uma_keg.ppera[k];
  }
  return pages;
}

/**
 * Whether memory for a request seems to be there.  `freePages`: with so many free
 * pages; as many as could be had, if it is not given.
 */
export type Can = (freePages?: number) => boolean;

/** For n bytes in new mbufs, as `room` takes them. */
export function canRoom(n: number, freePages = reachable()): boolean {
  const jumbo = n <= MCLBYTES ? 0 : Math.ceil((n - MCLBYTES) / MJUMPAGESIZE);
  const jumbos = jumbo === 0 ? 0 : Math.min(jumbo, Math.max(0, supply('jumbop', freePages)));
  const left = Math.max(0, n - jumbos * MJUMPAGESIZE);
  const over = left % MCLBYTES;
  const clusters = Math.floor(left / MCLBYTES) + (over >= MINCLSIZE ? 1 : 0);
  if (clusters > 0 && supply('clust', freePages) < clusters) return false;
  return canMbufs(Math.max(1, jumbos + clusters), freePages);
}
/** For so many mbufs without storage outside. */
export function canMbufs(n: number, freePages = reachable()): boolean {
  return supply('mbuf', freePages) >= n;
}
/** For n bytes in one piece. */
export function canPiece(n: number, freePages = reachable()): boolean {
  if (!canMbufs(1, freePages)) return false;
  if (n <= MHLEN) return true;
  if (n <= MCLBYTES) return supply('clust', freePages) >= 1;
  if (n <= MJUMPAGESIZE) return supply('jumbop', freePages) >= 1;
  return supply(n <= MJUM9BYTES ? 'jumbo9' : 'jumbo16', freePages) >= 1;
}

// --- why there is none ---------------------------------------------------------------------------

function atLimit(which: ZoneName): boolean {
  const k = kegOf(which);
  return uma_keg.maxpages[k] > 0 && uma_keg.pages[k] + uma_keg.ppera[k] > uma_keg.maxpages[k];
}
/** The zones whose limit may be in the way of `size` bytes, emptiest first. */
function fullZones(size: number): ZoneName[] {
  const first: ZoneName = size < MINCLSIZE ? 'mbuf' : 'clust';
  const free = (which: ZoneName): number => supply(which, 0);
  const full = ZONES.filter(atLimit).sort((a, b) => +(b === first) - +(a === first));
  return full.sort((a, b) => free(a) - free(b));
}
/** Why a chain got no memory for `size` bytes. */
export function chainFailure(op: string, size: number): Error {
  const [full] = fullZones(size);
  if (full === undefined) return memoryFailure(op, size, { zone: 'mbuf' });
  const z = zoneOf(full);
  const zone = zone_name(z);
  const details = { reason: 'limit', size, zone } as const;
  if (channels.enomem.hasSubscribers) tell(() => channels.enomem.publish({ op, ...details }));
  const limit = uma_zone_get_max(z);
  const free = Math.max(0, supply(full, 0));
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

/** What waiters sleep on. */
function channel(): number {
  return kegOf('mbuf');
}
/** Makes the next free of each zone go past the caches, and wake. */
function markFrees(): void {
  for (const which of ZONES) uma_zone_want(zoneOf(which), 0);
}
/** Counts a request that sleeps for a limit. */
function countSleep(): void {
  const [full] = fullZones(MCLBYTES);
  if (full !== undefined) uma_zone_want(zoneOf(full), 1);
}
// A limit that was raised is no free: it wakes the keg's own sleepers only.
nmbclusters_change.push(() => void wakeup(channel()));

/** Pause of a thread that blocks, where the counts promised too much, ms. */
const UNREACHED_MS = 5;
/** How often a thread that blocks looks whether pages came back, ms. */
const PAGES_MS = 20;
/** Sleeps until memory may be there, at most `ms`. */
export function sleepForChains(ms: number, can: Can): void {
  // There is some that the request could not get at: nobody would wake us for it.
  if (can()) return sleepForPages(Math.min(ms, UNREACHED_MS));
  countSleep();
  const until = performance.now() + ms;
  for (let left = ms; left > 0 && !can(); left = until - performance.now()) {
    // Pages that somebody frees wake nobody here: it is the buffers of others that may.
    const most = can(Number.POSITIVE_INFINITY) ? PAGES_MS : left;
    tsleep(channel(), W_KEGLIMIT, Math.min(most, left), () => {
      markFrees();
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
    const wchans = new Set<number>([channel()]);
    for (const which of ZONES) if (atLimit(which)) wchans.add(kegOf(which));
    if (this.wants().some(({ can }) => can?.(Number.POSITIVE_INFINITY))) wchans.add(phys_root());
    for (const wchan of wchans) {
      const word = sleepq_async_add(wchan, W_KEGLIMIT);
      if (word !== 0) this.#asleep.push({ word, wchan });
    }
    if (wchans.has(phys_root())) armForPages();
    markFrees();
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
    inKernel('chain', countSleep);
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
