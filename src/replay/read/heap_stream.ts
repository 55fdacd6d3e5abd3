/*
 * heap_stream: turns the operations of any heap trace into events and counts.
 *
 * The formats' parsers say what a line means (obtain, release, move); here it
 * is decided what that does to the set of live blocks, which events the players
 * get, and what is counted.  Players therefore never see an impossible event:
 *
 *   release of an address not live      counted, no event
 *   obtaining an address still live     FREE of the older block, then ALLOC
 *   realloc of an address not live      counted, then ALLOC
 *   realloc onto another live address   FREE of that one, then REALLOC
 *   anything refused                    counted, no event
 *
 * Addresses come in two 32-bit halves (address_map.ts).  The ring may be absent
 * when only the statistics are wanted.
 *
 * A block that goes before anything else comes or goes was a temporary one; a format
 * that has a rule of its own for that says so, and counts them itself.
 *
 * Always true after each call: the blocks in the address map are exactly those
 * that a player who followed all events holds.
 */

import { AddressMap, BlockIds, NO_BLOCK } from './address_map.ts';
import {
  ALIGN_SHIFT,
  MAX_TRACE_THREADS,
  OP_ALIGNED,
  OP_ALLOC,
  OP_END,
  OP_FREE,
  OP_REALLOC,
  OP_SITE,
  OP_THREAD,
  SIZE_SATURATED,
  THREAD_SHIFT,
} from '../ring/events.ts';
import type { RingWriter } from '../ring/ring.ts';
import { Sites, type TypeBy } from './sites.ts';
import type { TraceStats } from './trace_stats.ts';

export class HeapStream {
  readonly stats: TraceStats;
  readonly sites: Sites;
  readonly map = new AddressMap();
  readonly #writer: RingWriter;
  readonly #ids = new BlockIds();
  /* Trace thread that last obtained each block. */
  #owner = new Uint16Array(65536);
  /* The block that the last of all changes obtained. */
  #fresh: number = NO_BLOCK;
  /** The parser counts temporary blocks. */
  own_temporary = false;

  constructor(writer: RingWriter, stats: TraceStats, type_by: TypeBy) {
    this.#writer = writer;
    this.stats = stats;
    this.sites = new Sites(type_by, (type, name) => writer.put_named(OP_SITE, type, name));
  }

  /** A block was obtained.  `align_shift` is log2(alignment), 0 when none was asked for. */
  obtain(
    lo: number,
    hi: number,
    size: number,
    site: number,
    thread: number,
    align_shift: number,
  ): void {
    const id = this.#ids.take();
    const older = this.map.put(lo, hi, id);
    if (older !== NO_BLOCK) this.#lost(older, thread);
    const op = align_shift === 0 ? OP_ALLOC : OP_ALIGNED | (align_shift << ALIGN_SHIFT);
    this.#born(op, id, size, site, thread);
  }

  /** A block was released.  False when none lives at this address. */
  release(lo: number, hi: number, thread: number): boolean {
    const id = this.map.remove(lo, hi);
    if (id === NO_BLOCK) return false;
    this.#writer.put(OP_FREE | (thread << THREAD_SHIFT), id, 0, 0);
    this.#count_temporary(id);
    this.stats.died(id);
    this.#ids.give(id);
    this.#count_release(id, thread);
    return true;
  }

  /** A block got another size, perhaps another address.  False when none lived at the old one. */
  move(
    old_lo: number,
    old_hi: number,
    lo: number,
    hi: number,
    size: number,
    site: number,
    thread: number,
  ): boolean {
    const stats = this.stats;
    const same = old_lo === lo && old_hi === hi;
    if (same) stats.realloc_same_address++;
    else stats.realloc_moved++;
    const id = same ? this.map.get(lo, hi) : this.map.remove(old_lo, old_hi);
    if (id === NO_BLOCK) {
      stats.realloc_of_unknown++;
      this.obtain(lo, hi, size, site, thread, 0);
      return false;
    }
    this.#count_temporary(id);
    stats.died(id);
    this.#count_release(id, thread);
    if (!same) {
      const older = this.map.put(lo, hi, id);
      if (older !== NO_BLOCK) this.#lost(older, thread);
    }
    this.#born(OP_REALLOC, id, size, site, thread);
    return true;
  }

  /** A trace thread shows up for the first time; answers its index. */
  new_thread(number: number): number {
    const stats = this.stats;
    if (stats.threads.length === MAX_TRACE_THREADS) return MAX_TRACE_THREADS - 1;
    const index = stats.threads.push({ events: 0, acquisitions: 0, releases: 0, bytes: 0 }) - 1;
    stats.thread_numbers.push(number);
    this.#writer.put(OP_THREAD | (index << THREAD_SHIFT), index, number, 0);
    return index;
  }

  /** Tells the players that nothing follows. */
  end(): void {
    this.#writer.put(OP_END, 0, 0, 0);
    this.#writer.end();
  }

  live_ids = (fn: (id: number) => void): void => this.map.for_each(fn);

  #born(op: number, id: number, size: number, site: number, thread: number): void {
    if (id >= this.#owner.length) {
      const wide = new Uint16Array(this.#owner.length * 2);
      wide.set(this.#owner);
      this.#owner = wide;
    }
    this.#owner[id] = thread;
    const saturated = size < SIZE_SATURATED ? size : SIZE_SATURATED;
    this.#writer.put(op | (thread << THREAD_SHIFT), id, saturated, this.sites.type_of[site]);
    this.stats.born(id, size, site);
    this.#fresh = id;
  }
  #count_temporary(id: number): void {
    if (id === this.#fresh && !this.own_temporary) this.stats.temporary_at(this.stats.site_of(id));
    this.#fresh = NO_BLOCK;
  }

  /* Its release bypassed the tracer: the block is gone, nobody knows since when. */
  #lost(id: number, thread: number): void {
    this.stats.acquired_while_live++;
    this.#writer.put(OP_FREE | (thread << THREAD_SHIFT), id, 0, 0);
    this.stats.died(id);
    this.#ids.give(id);
  }

  #count_release(id: number, thread: number): void {
    if (this.#owner[id] === thread) this.stats.released_by_acquiring_thread++;
    else this.stats.released_by_other_thread++;
  }
}
