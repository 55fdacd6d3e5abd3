/*
 * zone: items of one size, with a limit that holds over all threads.
 *
 *      const conn = machine.zone('conn', { size: 96, limit: 10_000 });
 *      const c = conn.alloc();               an Item<'conn'>
 *      conn.bytes(c).set(header);
 *      conn.free(c);
 *
 * A zone is found by its name in every thread: who asks first makes it, who
 * asks with another shape gets EEXIST.  An alloc and a free are a few plain
 * loads and stores on this thread's own cache.  The limit counts items in use
 * and items that caches hold; at the limit the caches of other threads are called
 * in before a request fails, which takes vm.drain_deadline (50 ms) at most, and frees
 * go past the caches, so that a waiting thread sees them: that is the back-pressure.
 */
import { EFAULT, EINVAL, ENOMEM } from '../sys/machine/errno.ts';
import { memory_state, PAGE_WORD_SHIFT as PAGE_WORD_SHIFT_ } from '../sys/machine/memory.ts';
import { M_DRAIN, M_GUARDABLE, M_NOWAIT } from '../sys/h/malloc_flags.ts';
import { type reg_entry_t, reg_zone } from '../sys/h/registry.ts';
import { type keg_t, uma_zone, type zone_t } from '../sys/h/uma.ts';
import { vm_page } from '../sys/h/vm_page.ts';
import { item_of_keg, whatis } from '../sys/kmem/kern_whatis.ts';
import { W_KEGLIMIT } from '../sys/machine/wmesg.ts';
import { vm_wait_arm, vm_wait_channel } from '../sys/page/vm_page.ts';
import {
  uma_zalloc as uma_zalloc_,
  uma_zfree as uma_zfree_,
  uma_cache_give as uma_cache_give_,
  uma_zfreed_last,
} from '../sys/uma/uma_core.ts';
import { uma_zone_want } from '../sys/uma/uma_fetch.ts';
import { keg_item_starts } from '../sys/uma/uma_keg.ts';
import { registry_shape } from '../sys/client/kern_registry.ts';
import { part_zone } from '../sys/client/kern_registry_parts.ts';
import { zone_present } from '../sys/uma/uma_stats.ts';
import { uma_zone_exhausted, uma_zone_get_max, uma_zone_sleep } from '../sys/uma/uma_zone.ts';
import {
  ALLOC,
  ALLOC_ASYNC,
  asyncOptionsOf,
  checkOptions,
  type Known,
  shown,
  type Wait,
  waitOf,
  wholeIn,
  ZERO,
} from './args.ts';
import { channels } from './channels.ts';
import {
  type Context,
  enter,
  giveBack,
  gone,
  inKernel,
  letGo,
  type Mortal,
  tell,
} from './context.ts';
import { kmemError } from './errors.ts';
import { ChannelLine } from './line.ts';
import { type Address, bytesAt, type Item, kvaFor } from './memory.ts';
import { partIfThere } from './parts.ts';
import { obtain, release } from './registry.ts';
import { type AllocOptions, memoryFailure, sleepForPages, zeroFlags } from './type.ts';
import { type AsyncOptions, waitFor } from './wait.ts';

const zalloc = uma_zalloc_;
const zfree = uma_zfree_;
const cache_give = uma_cache_give_;
const page = vm_page;
const PAGE_WORD_SHIFT = PAGE_WORD_SHIFT_;
const NOWAIT = M_NOWAIT | M_DRAIN | M_GUARDABLE;
/** Of a zone that was let go: no page's. */
const NO_KEG = -1 as keg_t;

/** The shape of a zone; every thread that asks for the zone gives the same. */
export interface ZoneOptions {
  /** Bytes of an item, 1 to 2^24. */
  readonly size: number;
  /** Most items at a time, over all threads; rounded up to whole slabs. Default: no limit. */
  readonly limit?: number;
  /** Items start at multiples of this: a power of two, 4 to 4096. Default 8. */
  readonly align?: number;
  /** Runs in this thread on each item it allocates, before it is returned. */
  readonly ctor?: (address: Address, size: number) => void;
}
/** Numbers of a zone over all threads. */
export interface ZoneStats {
  /** Its name. */
  readonly name: string;
  /** Bytes of an item. */
  readonly size: number;
  /** Most items at a time, 0: no limit. */
  readonly limit: number;
  /** Items in use. */
  readonly used: number;
  /** Items in caches and slabs, ready to be taken. */
  readonly free: number;
  /** Requests that were served, since the zone was made. */
  readonly requests: number;
  /** Requests that failed. */
  readonly fails: number;
  /** Requests that slept for the limit. */
  readonly sleeps: number;
  /** Present if the sample may be off by more than 64 items. */
  readonly approximate?: true;
}
const OPTIONS: Known = ['size', 'limit', 'align', 'ctor'];
const SIZE_MAX = 2 ** 24;
const ALIGN_MAX = 4096;

/** The options of a zone, read once and whole. */
export interface ZoneShape {
  readonly size: number;
  readonly limit: number | undefined;
  readonly align: number;
  readonly ctor: ZoneOptions['ctor'] | null;
}
/** Reads and checks what a program gave. Throws EINVAL. */
export function zoneShapeOf(name: string, options: ZoneOptions): ZoneShape {
  const bad = (why: string): never => {
    throw kmemError(EINVAL, 'zone', `'${name}': ${why}`, { zone: name });
  };
  checkOptions('zone', options, OPTIONS);
  const { size, limit, align = 8, ctor = null } = options;
  if (!wholeIn(size, 1, SIZE_MAX))
    bad(`size ${shown(size)} is not whole bytes from 1 to ${SIZE_MAX}`);
  if (limit !== undefined && !wholeIn(limit, 1, 2 ** 31 - 1)) {
    bad(`limit ${shown(limit)} is not a whole number from 1 on`);
  }
  if (!wholeIn(align, 4, ALIGN_MAX) || (align & (align - 1)) !== 0) {
    bad(`align ${shown(align)} is not a power of two from 4 to ${ALIGN_MAX}`);
  }
  if (ctor !== null && typeof ctor !== 'function') bad(`ctor ${shown(ctor)} is no function`);
  return { size, limit, align, ctor };
}
/** What the zone is, as EEXIST shows it. */
export function zoneShapeText({ size, align, limit }: ZoneShape): string {
  return `${size} bytes, align ${align}, ${limit === undefined ? 'no limit' : `limit ${limit}`}`;
}

/** What an empty zone answers: at its limit of so many items, or out of memory. */
export function zoneFailure(op: string, z: zone_t, name: string, limit: number): Error {
  const size = uma_zone.size[z];
  if (!uma_zone_exhausted(z)) return memoryFailure(op, size, { zone: name });
  const details = { reason: 'limit', size, zone: name } as const;
  if (channels.enomem.hasSubscribers) tell(() => channels.enomem.publish({ op, ...details }));
  return kmemError(ENOMEM, op, `limit: all ${limit} items of '${name}' are in use`, details);
}
/** Sleeps until an item may be free: for the limit if that is what is in the way, or for pages. */
export function sleepForZone(z: zone_t, ms: number): void {
  if (!uma_zone_exhausted(z)) return sleepForPages(ms);
  uma_zone_sleep(z, ms);
}
/** What asks a zone for an item. */
export interface ZoneAsk {
  readonly zone: zone_t;
  readonly name: string;
  /** Most items at a time, for the error. */
  readonly limit: number;
  /** Asks once; 0: there is none now. Items of records are asked for in another way. */
  readonly attempt: () => number;
}
/** What `attempt` gives, waiting as told. Throws ENOMEM, EDEADLK, ETIMEDOUT, EOPNOTSUPP. */
export function zoneAlloc({ zone, name, limit, attempt }: ZoneAsk, wait: Wait): number {
  const got = attempt();
  if (got !== 0) return got;
  if (!wait) throw zoneFailure('alloc', zone, name, limit);
  return waitFor({
    op: 'alloc',
    name: `zone '${name}'`,
    instead: 'allocAsync',
    wait,
    attempt,
    sleep: (ms) => sleepForZone(zone, ms),
  });
}
/** The tasks of this thread that wait for an item of a zone. `zone` throws once that is gone. */
export function zoneLine(of: Mortal, ctx: Context, zone: () => zone_t): ChannelLine {
  const op = 'allocAsync';
  return new ChannelLine({
    ctx,
    of,
    op,
    wmesg: W_KEGLIMIT,
    wakes: 'look',
    channel: () => (uma_zone_exhausted(zone()) ? uma_zone.keg[zone()] : vm_wait_channel()),
    arm: vm_wait_arm,
    begins: () => {
      if (uma_zone_exhausted(zone())) inKernel(op, () => uma_zone_want(zone(), 1));
    },
  });
}
/** zoneAlloc in the event loop. */
export function zoneAllocAsync(
  line: ChannelLine,
  name: string,
  ask: () => number,
  options: AsyncOptions | undefined,
): Promise<number> {
  const attempt = (): number | undefined => ask() || undefined;
  return line.wait({ op: 'allocAsync', name: `zone '${name}'`, key: 0, attempt }, options);
}
/** Ends a zone that nobody uses; one that still holds items is left as it is, and reported. */
export function zoneRelease(
  kind: 'zone' | 'records',
  e: reg_entry_t,
  z: zone_t,
  name: string,
  inUse: () => number,
  leave: () => void,
): number {
  const size = uma_zone.size[z];
  let left = 0;
  const busy = (): boolean => {
    left = inUse();
    return left > 0;
  };
  release(e, busy, leave);
  if (left > 0) reportLeft(kind, name, left, left * size);
  return left;
}
function reportLeft(kind: 'zone' | 'records', name: string, count: number, bytes: number): void {
  tell(() => {
    if (channels.leak.hasSubscribers) channels.leak.publish({ kind, name, count, bytes });
    console.error(`kmem: ${kind} '${name}' was disposed of with ${count} items in use: it stays`);
  });
}

/** Items of one size, found by name in every thread. Made by machine.zone(). */
export class Zone<N extends string = string> implements Mortal, Disposable {
  /** Its name, the same in every thread. */
  readonly name: N;
  /** Bytes of an item. */
  readonly size: number;
  /** Most items at a time, as the kernel rounded it; 0: no limit. */
  readonly limit: number;
  readonly #ctx: Context;
  readonly #e: reg_entry_t;
  readonly #end: number;
  readonly #ctor: ZoneOptions['ctor'] | null;
  /** Where in a page items begin, a bit for each word. */
  readonly #starts: Int32Array;
  readonly #line: ChannelLine;
  readonly #mine = (): zone_t => this.#zone('allocAsync');
  #keg: keg_t;
  #z: zone_t;

  /** Use machine.zone(name, options). */
  constructor(ctx: Context, name: N, shape: ZoneShape | undefined) {
    this.#e = obtain('zone', name, shape ? zoneShapeText(shape) : null, (e) => {
      const o = shape as ZoneShape;
      if (part_zone(e, name, o.size, o.align, o.limit ?? 0) !== 0) {
        throw kmemError(ENOMEM, 'zone', `no memory for '${name}'`, { zone: name });
      }
    });
    const z = reg_zone.zone[this.#e];
    this.name = name;
    this.size = uma_zone.size[z];
    this.limit = uma_zone_get_max(z);
    this.#ctx = ctx;
    this.#end = memory_state.size / 4;
    this.#ctor = shape?.ctor ?? null;
    this.#keg = uma_zone.keg[z] as keg_t;
    this.#starts = keg_item_starts(this.#keg);
    this.#z = z;
    this.#line = zoneLine(this, ctx, this.#mine);
  }

  /** What the zone is, as EEXIST shows it. */
  get shape(): string {
    this.#zone('shape');
    return registry_shape(this.#e);
  }
  /**
   * Takes an item; its contents are what its last user left, unless `zero`.
   * Does not wait unless `wait` is given.  Throws ENOMEM with reason 'limit',
   * 'full' or 'fragmented'; with `wait` also EDEADLK, ETIMEDOUT, EOPNOTSUPP.
   */
  alloc(options?: AllocOptions): Item<N> {
    const z = this.#z;
    if (z === 0 || options !== undefined || this.#ctor !== null) return this.#allocWith(options);
    const w = zalloc(z, NOWAIT);
    return (w === 0 ? this.#fail() : w * 4) as Item<N>;
  }
  /** An item if there is one, undefined if not. Never waits. */
  tryAlloc(options?: { zero?: boolean }): Item<N> | undefined {
    const flags = zeroFlags('tryAlloc', options, ZERO) & ~M_DRAIN;
    const w = zalloc(this.#zone('tryAlloc'), flags);
    return w === 0 ? undefined : this.#made('tryAlloc', w);
  }
  /** alloc that waits in the event loop. Rejects with the signal's reason, ETIMEDOUT. */
  async allocAsync(options?: AsyncOptions & { zero?: boolean }): Promise<Item<N>> {
    const flags = zeroFlags('allocAsync', options, ALLOC_ASYNC);
    const wanted = asyncOptionsOf('allocAsync', options, ALLOC_ASYNC);
    const ask = (): number => zalloc(this.#mine(), flags);
    const w = await zoneAllocAsync(this.#line, this.name, ask, wanted);
    return this.#made('allocAsync', w);
  }
  /**
   * Gives an item back: any thread may.  Never waits.  Throws EFAULT for what is no item of
   * this zone, and for the item that this thread gave back last.
   */
  free(item: Item<N>): void {
    let w = 0;
    try {
      w = item >>> 2;
    } catch {
      return this.#freeFar(item); // a bigint or a symbol; to look at its type would cost
    }
    // The page says whose it is; 0 and what lies beyond 4 GiB go the slow way too.
    if (
      (w << 2) >>> 0 !== item ||
      page.index[w >>> PAGE_WORD_SHIFT] !== this.#keg ||
      ((this.#starts[(w >>> 5) & 31] >>> w) & 1) === 0 ||
      !cache_give(this.#z, w)
    ) {
      this.#freeFar(item);
    }
  }
  /** The byte address of an item, for load, store and the whole-memory views. */
  address(item: Item<N>): Address {
    return item as number as Address;
  }
  /** The item at a byte address that `address` gave. */
  item(address: Address): Item<N> {
    return address as number as Item<N>;
  }
  /** A view of the item's bytes: shared, no copy, some 20 ns to make. Throws EFAULT, ESHUTDOWN. */
  bytes(item: Item<N>): Uint8Array {
    if (this.#z === 0) gone('bytes', this.#ctx);
    return bytesAt(item, this.size);
  }
  /** Items in use over all threads: a sample while they run. */
  get used(): number {
    return zone_present(this.#zone('used')).used;
  }
  /** Numbers of the zone over all threads: a sample while they run. */
  get stats(): ZoneStats {
    const n = zone_present(this.#zone('stats'));
    const { name, size, limit } = this;
    const { used, free, allocs: requests, fails, sleeps } = n;
    const mark = n.approximate ? { approximate: true as const } : {};
    return { name, size, limit, used, free, requests, fails, sleeps, ...mark };
  }
  /**
   * Lets go of the zone; with its last user it ends, if no item is in use.
   * Returns the items in use if it stays for that reason.  The second time does
   * nothing.
   */
  dispose(): number {
    const z = this.#z;
    if (z === 0) return 0;
    return letGo(() => this.#dispose(z)) ?? 0;
  }
  #dispose(z: zone_t): number {
    enter('dispose');
    const inUse = (): number => {
      return zone_present(z).used + (partIfThere('kva')?.().guarded(z, true).count ?? 0);
    };
    this.#ctx.forget('zone', this.name);
    this.bury();
    return zoneRelease('zone', this.#e, z, this.name, inUse, () => this.#ctx.endWaits(this));
  }
  /** dispose() at the end of a `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
  /** @internal */
  bury(): void {
    this.#z = 0 as zone_t;
    this.#keg = NO_KEG;
  }

  #zone(op: string): zone_t {
    if (this.#z === 0) gone(op, this.#ctx);
    enter(op);
    return this.#z;
  }
  /**
   * Constructs an item. If the constructor throws, nobody has the item: it goes back.
   * If it left the machine, the item is in use by nobody, and this throws ESHUTDOWN.
   */
  #made(op: string, w: number): Item<N> {
    const at = (w * 4) as Address;
    const ctor = this.#ctor;
    if (!ctor) return at as number as Item<N>;
    try {
      ctor(at, this.size);
    } catch (e) {
      const z = this.#z;
      if (z !== 0) giveBack(op, () => zfree(z, w));
      throw e;
    }
    if (!this.#ctx.up) gone(op, this.#ctx);
    return at as number as Item<N>;
  }
  #allocWith(options: AllocOptions | undefined): Item<N> {
    const flags = zeroFlags('alloc', options, ALLOC);
    const wait = waitOf('alloc', options, ALLOC);
    const zone = this.#zone('alloc');
    const { name, limit } = this;
    const w = zoneAlloc({ zone, name, limit, attempt: () => zalloc(zone, flags) }, wait);
    return this.#made('alloc', w);
  }
  #fail(): never {
    throw zoneFailure('alloc', this.#z, this.name, this.limit);
  }
  /** An item beyond 4 GiB, none, or one that was freed just now. 0 is ignored. */
  #freeFar(item: number): void {
    const z = this.#zone('free');
    if (item === 0) return;
    const w = typeof item === 'number' ? item / 4 : -1;
    const wrong = (why: string): never => {
      throw kmemError(EFAULT, 'free', `${shown(item)} ${why}`, { address: item, zone: this.name });
    };
    const kva = kvaFor(item);
    if (kva !== undefined) {
      if (kva.freeItem(item, z)) return;
      wrong(`is no item of zone '${this.name}'${kva.what(item)}`);
    }
    if ((w | 0) !== w || w < 0 || w >= this.#end) wrong('is no item');
    if (!item_of_keg(this.#keg, w)) wrong(`is no item of zone '${this.name}': it is ${whatis(w)}`);
    if (uma_zfreed_last(z, w)) wrong(`of zone '${this.name}' is free already: it was freed twice`);
    zfree(z, w);
  }
}
