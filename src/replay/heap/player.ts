/*
 * player: plays the events of a heap trace on one CPU of a machine.
 *
 * A player follows the ring of events and makes the same requests of malloc(9)
 * that the recorded program made of its allocator.  Blocks are known by the
 * reader's dense ids, so that a plain array leads to the address.
 *
 * Ways of sharing the work:
 *   alone      one player plays the trace of a program with one thread
 *   programs   every player plays the whole trace: N programs on one heap
 *   threads    each player plays the threads of the trace that are its own.
 *              A block may be freed by another thread than the one that got it,
 *              so an event waits for the events before it on the same id, on
 *              whatever CPU they are (turns.ts).
 *
 * With verification each block is filled with a pattern of its own and looked
 * at before realloc and free: a word that differs was written by somebody else.
 *
 * A request that the machine cannot serve leaves its id without memory; its
 * release is skipped and counted, never executed, and a realloc of it is a first
 * request.  A realloc that cannot be served leaves the old block as it is.
 *
 * What is live.  Each player keeps two sums on a line of its own that all
 * players read: bytes asked for in live blocks, and bytes that the trace would
 * hold with enough memory, rounded as malloc rounds.  Players add up the lines
 * now and then to find the peaks; alone, a player looks each time and is exact.
 */
import { ENOMEM, KmemError } from '../../sys/machine/errno.ts';
import { mem } from '../../sys/machine/memory.ts';
import { away } from '../../sys/boot/whole.ts';
import { free, M_NOWAIT, malloc, type malloc_type_t, realloc } from '../../sys/kmem/kern_malloc.ts';
import { malloc_type_find_or_make } from '../../sys/kmem/kern_malloc_type.ts';
import {
  event_align_shift,
  event_thread,
  OP_ALIGNED,
  OP_END,
  OP_FREE,
  OP_MASK,
  OP_REALLOC,
  OP_SITE,
  OP_THREAD,
  site_units,
} from '../ring/events.ts';
import { RING_END, RING_FAILED, type RingHandle, RingReader } from '../ring/ring.ts';
import { TURN_IDS, Turns, turns_table } from '../ring/turns.ts';
import { TypeNames } from '../read/type_names.ts';

/** What a player's thread is told, and answers, when there is no task for it. */
export const DISMISSED = 'dismissed';

export interface PlayerTask {
  readonly ring: RingHandle;
  readonly index: number;
  readonly players: number;
  readonly verify: boolean;
  /** Turn counters and addresses of a threads trace, shared by the players. */
  readonly turns: SharedArrayBuffer;
  /** Each player's line of live bytes: live_lines() makes it. */
  readonly live: SharedArrayBuffer;
}
export interface PlayerTotals {
  events: number;
  skipped_events: number;
  failed: number;
  verify_errors: number;
  /** First few verify errors, as text. */
  complaints: string[];
  play_seconds: number;
  /** Most bytes in live blocks, over all players, that this player saw. */
  peak_requested_bytes: number;
  /** The same with enough memory for every request, each rounded as malloc rounds. */
  peak_rounded_bytes: number;
}

const COMPLAINTS_KEPT = 5;
/** Address of a block the machine had no memory for. */
const NO_MEMORY = -1;
const PAGE = 4096;
/** malloc aligns to a page at most; larger alignments are played as a page's. */
const PAGE_SHIFT = 12;
const FILL_BY_VIEW = 64;
/** Doubles from one player's line of live bytes to the next: 128 bytes. */
const LIVE_STRIDE = 16;
/** Births between two looks at the lines of the other players. */
const LOOK_EVERY = 32;

/** The lines of live bytes for so many players. */
export function live_lines(players: number): SharedArrayBuffer {
  return new SharedArrayBuffer(players * LIVE_STRIDE * 8);
}

/** What malloc makes of a size. */
function rounded(size: number): number {
  if (size > PAGE) return Math.ceil(size / PAGE) * PAGE;
  return size <= 16 ? 16 : 1 << (32 - Math.clz32(size - 1));
}

export class Player {
  readonly #ring: RingReader;
  readonly #task: PlayerTask;
  readonly #types: malloc_type_t[] = [];
  readonly #names = new TypeNames();
  /** Call sites without a type, for want of memory, by number. */
  readonly #untyped = new Map<number, string>();
  /** Address (word index) by id; shared between players of a threads trace. */
  #at: Int32Array;
  #size: Uint32Array;
  #type: Int32Array;
  /** Live bytes of all players, and where this one's line begins: requested, rounded. */
  readonly #live: Float64Array;
  readonly #line: number;
  #births_to_look = 1;
  /** The trace keeps its threads apart: a THREAD event came. */
  #turns: Turns | null = null;
  readonly totals: PlayerTotals = {
    events: 0,
    skipped_events: 0,
    failed: 0,
    verify_errors: 0,
    complaints: [],
    play_seconds: 0,
    peak_requested_bytes: 0,
    peak_rounded_bytes: 0,
  };

  constructor(task: PlayerTask) {
    this.#task = task;
    this.#ring = new RingReader(task.ring, task.index);
    this.#live = new Float64Array(task.live);
    this.#line = task.index * LIVE_STRIDE;
    this.#at = new Int32Array(65536);
    this.#size = new Uint32Array(65536);
    this.#type = new Int32Array(65536);
  }
  /** From the first THREAD event on, which comes before any block, the tables are shared. */
  #share(): void {
    if (this.#turns) return;
    const shared = this.#task.turns;
    this.#turns = new Turns(shared);
    this.#at = new Int32Array(shared, turns_table(1), TURN_IDS);
    this.#size = new Uint32Array(shared, turns_table(2), TURN_IDS);
    this.#type = new Int32Array(shared, turns_table(3), TURN_IDS);
  }

  /** Plays to the end of the trace. */
  run(): PlayerTotals {
    const ring = this.#ring;
    for (;;) {
      const n = away(() => ring.next_batch());
      if (n === RING_END || n === RING_FAILED) break; // why it failed, the reader tells
      const start = performance.now();
      this.#play(n);
      this.totals.play_seconds += (performance.now() - start) / 1000;
      ring.release(n);
    }
    ring.close();
    return this.totals;
  }

  #play(n: number): void {
    const { words, data, mask, first } = this.#ring;
    const { players, index } = this.#task;
    let played = 0;
    for (let i = 0; i < n; i++) {
      const at = data + (((first + i) & mask) << 2);
      const word0 = words[at];
      const op = word0 & OP_MASK;
      if (op === OP_SITE) {
        this.#site(words[at + 1], this.#ring.name_at(i));
        i += site_units(words[at + 2]) - 1;
        continue;
      }
      if (op === OP_END) break;
      if (op === OP_THREAD) {
        this.#share();
        continue;
      }
      const id = words[at + 1];
      const turns = this.#turns;
      if (turns) {
        const turn = turns.next(id);
        if (event_thread(word0) % players !== index) continue;
        turns.wait(id, turn);
      } else if (id >= this.#at.length) this.#widen(id);
      this.#event(op, word0, id, words[at + 2] >>> 0, words[at + 3]);
      played++;
      turns?.end(id);
    }
    this.totals.events += played;
  }

  #event(op: number, word0: number, id: number, size: number, site: number): void {
    if (op === OP_FREE) this.#free(id);
    else if (op === OP_REALLOC) this.#realloc(id, size, site);
    else if (op === OP_ALIGNED) {
      // A block is aligned to its size class: asking for no less than the alignment gives it.
      const shift = Math.min(event_align_shift(word0), PAGE_SHIFT);
      this.#alloc(id, size, Math.max(size, 1 << shift), site);
    } else this.#alloc(id, size, size, site);
  }

  // --- requests ----------------------------------------------------------------------------

  /** `room` is what malloc is asked for, no less than `size`. */
  #alloc(id: number, size: number, room: number, site: number): void {
    const t = this.#types[site] || this.#late_type(site);
    const p = t === 0 ? 0 : malloc(room, t, M_NOWAIT);
    this.#size[id] = size;
    this.#type[id] = t;
    if (p === 0) {
      this.#at[id] = NO_MEMORY;
      this.totals.failed++;
      this.#born(0, rounded(size));
      return;
    }
    this.#at[id] = p;
    this.#born(size, rounded(size));
    if (this.#task.verify) this.#fill(id, p, size);
  }
  #free(id: number): void {
    const p = this.#at[id];
    const size = this.#size[id];
    const live = this.#live;
    live[this.#line + 1] -= rounded(size);
    if (p === NO_MEMORY) {
      this.totals.skipped_events++;
      return;
    }
    if (this.#task.verify) this.#check(id, p, size, 'free');
    this.#at[id] = 0;
    free(p, this.#type[id] as malloc_type_t);
    live[this.#line] -= size; // last, so that no other player finds pages taken for nothing
  }
  #realloc(id: number, size: number, site: number): void {
    const p = this.#at[id];
    const old = this.#size[id];
    if (p === NO_MEMORY) {
      // The block was never there: what is asked for now is a first request.
      this.#live[this.#line + 1] -= rounded(old);
      this.#alloc(id, size, size, site);
      return;
    }
    if (this.#task.verify) this.#check(id, p, old, 'realloc');
    // The statistics must stay with the type that the block is counted under.
    const t = this.#type[id] as malloc_type_t;
    const q = realloc(p, size, t, M_NOWAIT);
    if (q === 0) {
      this.totals.failed++; // the old block lives on, with its old size
      return;
    }
    this.#born(size - old, rounded(size) - rounded(old));
    this.#at[id] = q;
    this.#size[id] = size;
    if (!this.#task.verify) return;
    this.#check(id, q, Math.min(old, size), 'realloc, the copy');
    this.#fill(id, q, size);
  }

  /** Counts live bytes, and looks for a peak: always when alone or the block is large. */
  #born(requested: number, room: number): void {
    const live = this.#live;
    live[this.#line] += requested;
    live[this.#line + 1] += room;
    if (--this.#births_to_look <= 0 || room >= PAGE) this.#look();
  }
  #look(): void {
    const { totals } = this;
    const { players } = this.#task;
    const live = this.#live;
    this.#births_to_look = players === 1 ? 1 : LOOK_EVERY;
    let requested = 0;
    let room = 0;
    for (let i = 0; i < players * LIVE_STRIDE; i += LIVE_STRIDE) {
      requested += live[i];
      room += live[i + 1];
    }
    if (requested > totals.peak_requested_bytes) totals.peak_requested_bytes = requested;
    if (room > totals.peak_rounded_bytes) totals.peak_rounded_bytes = room;
  }

  // --- patterns ----------------------------------------------------------------------------

  #pattern(id: number): number {
    const owner = this.#turns ? 0 : this.#task.index + 1;
    return Math.imul(id ^ (owner << 24), 0x9e3779b1) | 1;
  }
  #fill(id: number, p: number, size: number): void {
    const n = Math.floor(size / 4); // whole words, as they are looked at; a size may pass 2 GiB
    const v = this.#pattern(id);
    const words = mem.I32;
    if (n > FILL_BY_VIEW) words.fill(v, p, p + n);
    else for (let i = 0; i < n; i++) words[p + i] = v;
  }
  #check(id: number, p: number, size: number, when: string): void {
    const n = size >>> 2; // the last, partial word of a copy may hold anything behind it
    const v = this.#pattern(id);
    const words = mem.I32;
    for (let i = 0; i < n; i++) {
      if (words[p + i] === v) continue;
      this.totals.verify_errors++;
      if (this.totals.complaints.length < COMPLAINTS_KEPT) {
        const what = `word ${i} is 0x${(words[p + i] >>> 0).toString(16)}`;
        this.totals.complaints.push(
          `block at 0x${(p * 4).toString(16)} (${size} bytes): ${what} at ${when}`,
        );
      }
      return;
    }
  }

  // --- growth --------------------------------------------------------------------------------

  #site(site: number, name: string): void {
    try {
      this.#types[site] = this.#names.type(name, malloc_type_find_or_make);
    } catch (e) {
      if (!(e instanceof KmemError && e.errno === ENOMEM)) throw e;
      this.#types[site] = 0 as malloc_type_t;
      this.#untyped.set(site, name);
    }
  }
  /** The type that a site had no memory for; 0 still: what is requested there fails. */
  #late_type(site: number): malloc_type_t {
    const name = this.#untyped.get(site);
    if (name !== undefined && this.#untyped.delete(site)) this.#site(site, name);
    return this.#types[site];
  }
  #widen(id: number): void {
    let n = this.#at.length;
    while (n <= id) n *= 2;
    const at = new Int32Array(n);
    const size = new Uint32Array(n);
    const type = new Int32Array(n);
    at.set(this.#at);
    size.set(this.#size);
    type.set(this.#type);
    this.#at = at;
    this.#size = size;
    this.#type = type;
  }
}
