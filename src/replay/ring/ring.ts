/*
 * ring: events travel from one writer to several readers through shared memory.
 *
 * The ring is a SharedArrayBuffer: a header of 128-byte lines, then a power of
 * two of 16-byte units.  Every reader sees every event (broadcast), so a unit
 * may be written over once the slowest reader has released it.
 *
 *   line 0  written     units published so far          (writer)
 *   line 1  rung        bumped when readers should look  (writer, parent)
 *   line 2  state, fault                                 (writer, parent)
 *   line 3  wants, until, freed: the writer sleeps       (writer; freed: readers)
 *   line 4  progress: bytes, total, events, malformed    (writer)
 *   line 5+ one a reader: released, gone                 (that reader, parent)
 *           units …
 *
 *        released(slow)        released(fast)         written
 *   ───────┴─────────────────────┴──────────────────────┴────────  unit numbers
 *          └ at most `capacity` units ─────────────────┘
 *
 * Unit numbers run on and wrap at 2^32; the place of unit u is u & (capacity-1).
 * Cursors sit on lines of their own because two threads writing to one line
 * cost each other several times the store.
 *
 * Publishing.  The writer fills units, then makes a whole batch visible with
 * one atomic store of `written`.  Batches rather than events, because the store
 * and the wake-up cost about as much as parsing a line.
 *
 * Sleeping, without lost wake-ups.  A reader notes `rung`, looks at `written`
 * and `state`, and sleeps only while `rung` still has the value noted.  Whoever
 * changes what it looked at bumps `rung` afterwards.  The writer, when the ring
 * is full, announces in `until` how far the slowest reader has to come (a
 * quarter of the ring, so that it is not woken for every unit), sets `wants`,
 * looks again and sleeps on `freed`; a reader that passes `until` bumps it.
 *
 * Endings.  The writer ends or fails the ring; the parent fails it when the
 * writer's thread dies, and marks a reader gone when a player's thread dies.
 * Readers first get all that was published, then the ending.  When every
 * reader is gone the ring is closed, and the writer finds out at its next
 * full batch: that is how a replay is aborted.
 *
 * Always true: 0 <= written - released <= capacity for each reader present.
 */

import { EVENT_BYTES, EVENT_WORDS, site_units } from './events.ts';

const LINE_WORDS = 32;
const WRITTEN = 0;
const RUNG = 1 * LINE_WORDS;
const STATE = 2 * LINE_WORDS;
const FAULT = STATE + 1;
const WANTS = 3 * LINE_WORDS;
const UNTIL = WANTS + 1;
const FREED = WANTS + 2;
const PROGRESS = 4 * LINE_WORDS;
const READERS = 5 * LINE_WORDS;
const GONE = 1;

const STATE_OPEN = 0;
const STATE_ENDED = 1;
const STATE_FAILED = 2;

/** next_batch(): the stream is over and all of it was seen. */
export const RING_END = 0;
/** next_batch(): the writer failed or died; ring.fault() says which. */
export const RING_FAILED = -1;
/** next_batch(timeout): nothing came in time. */
export const RING_TIMEOUT = -2;

/** Why a ring failed. */
export const FAULT_INPUT = 1;
export const FAULT_WRITER_DIED = 2;
export const FAULT_ABORTED = 3;

export const RING_DEFAULT_EVENTS = 65536;
export const RING_MIN_EVENTS = 16;
export const RING_MAX_EVENTS = 1 << 22;
export const RING_MAX_READERS = 64;

/** Looks before sleeping: a few microseconds, less than a sleep and a wake-up cost. */
const SPINS = 200;
/** Units a batch: a store and a wake-up are then a fraction of a nanosecond an event. */
const BATCH_UNITS = 4096;
/** A name longer than this is cut: a kernel type's name is far shorter. */
const MAX_SITE_NAME_BYTES = 1024;

const pause: () => void = (Atomics as unknown as { pause?: () => void }).pause ?? (() => {});

/** Plain cloneable data: post it to a player's worker, which then makes a RingReader of it. */
export interface RingHandle {
  readonly buffer: SharedArrayBuffer;
  readonly readers: number;
  readonly capacity: number;
}

export interface RingProgress {
  bytes_read: number;
  bytes_total: number;
  events: number;
  malformed_lines: number;
}

/**
 * Makes a ring for so many readers; `events` is rounded up to a power of two.  Unit numbers begin
 * at `first`, which matters to nobody but a test of how they wrap.
 */
export function make_ring(
  readers: number,
  events: number = RING_DEFAULT_EVENTS,
  first: number = 0,
): RingHandle {
  if (!Number.isInteger(readers) || readers < 1 || readers > RING_MAX_READERS) {
    throw new RangeError(`ring: ${readers} readers; give 1 to ${RING_MAX_READERS}`);
  }
  if (!(events >= RING_MIN_EVENTS && events <= RING_MAX_EVENTS)) {
    throw new RangeError(`ring: ${events} events; give ${RING_MIN_EVENTS} to ${RING_MAX_EVENTS}`);
  }
  const capacity = 2 ** Math.ceil(Math.log2(events));
  const length = READERS + readers * LINE_WORDS + capacity * EVENT_WORDS;
  const words = new Int32Array(new SharedArrayBuffer(length * 4));
  words[WRITTEN] = first;
  for (let r = 0; r < readers; r++) words[reader_line(r)] = first;
  return { buffer: words.buffer, readers, capacity };
}

function data_start(handle: RingHandle): number {
  return READERS + handle.readers * LINE_WORDS;
}

function reader_line(index: number): number {
  return READERS + index * LINE_WORDS;
}

function ring_readers(words: Int32Array): void {
  Atomics.add(words, RUNG, 1);
  Atomics.notify(words, RUNG);
}

function ring_writer(words: Int32Array): void {
  Atomics.add(words, FREED, 1);
  Atomics.notify(words, FREED);
}

/** The writer's end.  One thread at a time. */
export class RingWriter {
  /** True once all readers are gone: nobody will see what is put from now on. */
  closed = false;
  /** Milliseconds spent waiting for the slowest reader. */
  waited_ms = 0;
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #progress: Float64Array;
  readonly #data: number;
  readonly #mask: number;
  readonly #readers: number;
  readonly #batch: number;
  #next: number;
  #published: number;
  #room: number;

  constructor(handle: RingHandle) {
    this.#words = new Int32Array(handle.buffer);
    this.#bytes = new Uint8Array(handle.buffer);
    this.#progress = new Float64Array(handle.buffer, PROGRESS * 4, 4);
    this.#data = data_start(handle);
    this.#mask = handle.capacity - 1;
    this.#readers = handle.readers;
    this.#batch = Math.min(BATCH_UNITS, handle.capacity >> 3);
    this.#room = handle.capacity;
    this.#next = Atomics.load(this.#words, WRITTEN);
    this.#published = this.#next;
  }

  /** Adds one event; waits when the ring is full.  Dropped silently once `closed`. */
  put(word0: number, word1: number, word2: number, word3: number): void {
    if (this.#room === 0) this.#put_wait(1);
    const next = this.#next;
    const at = this.#data + ((next & this.#mask) << 2);
    const words = this.#words;
    words[at] = word0;
    words[at + 1] = word1;
    words[at + 2] = word2;
    words[at + 3] = word3;
    this.#room--;
    this.#next = (next + 1) | 0;
    if (((this.#next - this.#published) | 0) >= this.#batch) this.publish();
  }

  /** Adds an event followed by a name, all published together. */
  put_named(word0: number, word1: number, name: string): void {
    let bytes = new TextEncoder().encode(name);
    const most = Math.min(MAX_SITE_NAME_BYTES, ((this.#mask + 1) / 2 - 1) * EVENT_BYTES);
    if (bytes.length > most) bytes = new TextEncoder().encode(cut_utf8(bytes, most));
    const units = site_units(bytes.length);
    if (this.#room < units) this.#put_wait(units);
    const words = this.#words;
    const at = this.#data + ((this.#next & this.#mask) << 2);
    words[at] = word0;
    words[at + 1] = word1;
    words[at + 2] = bytes.length;
    words[at + 3] = 0;
    const packed = new Int32Array((units - 1) * EVENT_WORDS);
    new Uint8Array(packed.buffer).set(bytes);
    for (let i = 0; i < packed.length; i++) {
      const unit = (this.#next + 1 + (i >> 2)) & this.#mask;
      words[this.#data + (unit << 2) + (i & 3)] = packed[i];
    }
    this.#room -= units;
    this.#next = (this.#next + units) | 0;
    if (((this.#next - this.#published) | 0) >= this.#batch) this.publish();
  }

  /**
   * Adds units made of `head` and, behind them, bytes, all in one piece; where the ring ends
   * too soon, a unit (`pad`, units to skip) fills it up.  Together at most half the ring.
   */
  put_bytes(head: readonly number[], bytes: Uint8Array, pad: number): void {
    const units = (head.length >> 2) + Math.ceil(bytes.length / EVENT_BYTES);
    const to_end = this.#mask + 1 - (this.#next & this.#mask);
    if (units > to_end) {
      if (this.#room < to_end) this.#put_wait(to_end);
      const at = this.#data + ((this.#next & this.#mask) << 2);
      this.#words[at] = pad;
      this.#words[at + 1] = to_end;
      this.#room -= to_end;
      this.#next = (this.#next + to_end) | 0;
    }
    if (this.#room < units) this.#put_wait(units);
    const at = this.#data + ((this.#next & this.#mask) << 2);
    for (let i = 0; i < head.length; i++) this.#words[at + i] = head[i];
    this.#bytes.set(bytes, (at + head.length) * 4);
    this.#room -= units;
    this.#next = (this.#next + units) | 0;
    if (((this.#next - this.#published) | 0) >= this.#batch) this.publish();
  }

  /** Makes all events put so far visible to the readers. */
  publish(): void {
    if (this.#next === this.#published) return;
    this.#published = this.#next;
    Atomics.store(this.#words, WRITTEN, this.#next);
    ring_readers(this.#words);
  }

  /** Notes how far the reading has come, for whoever draws a progress line. */
  progress(read: number, total: number, events: number, malformed: number): void {
    const progress = this.#progress;
    progress[0] = read;
    progress[1] = total;
    progress[2] = events;
    progress[3] = malformed;
  }

  /** True when the writer should stop: nobody listens, or the parent failed the ring. */
  check_closed(): boolean {
    if (!this.closed) this.#free_units();
    return this.closed;
  }

  /** The trace was read to its end. */
  end(): void {
    this.publish();
    Atomics.compareExchange(this.#words, STATE, STATE_OPEN, STATE_ENDED);
    ring_readers(this.#words);
  }

  /** The trace cannot be read further; readers get what was published, then RING_FAILED. */
  fail(fault: number = FAULT_INPUT): void {
    this.publish();
    fail_words(this.#words, fault);
  }

  #put_wait(units: number): void {
    this.publish();
    if (this.#free_units() >= units) return;
    const began = performance.now();
    const words = this.#words;
    const capacity = this.#mask + 1;
    const hysteresis = Math.max(units, capacity >> 2);
    const until = (this.#next - capacity + hysteresis) | 0;
    for (let spin = 0; spin < SPINS && this.#room < hysteresis; spin++) {
      pause();
      this.#free_units();
    }
    while (this.#room < units) {
      const freed = Atomics.load(words, FREED);
      Atomics.store(words, UNTIL, until);
      Atomics.store(words, WANTS, 1);
      if (this.#free_units() < hysteresis) Atomics.wait(words, FREED, freed);
      Atomics.store(words, WANTS, 0);
      this.#free_units();
    }
    this.waited_ms += performance.now() - began;
  }

  /* How many units the slowest reader leaves free.  Plenty, when there is no reader left. */
  #free_units(): number {
    const words = this.#words;
    const capacity = this.#mask + 1;
    let used = -1;
    for (let r = 0; r < this.#readers; r++) {
      const line = reader_line(r);
      if (Atomics.load(words, line + GONE) !== 0) continue;
      used = Math.max(used, (this.#next - Atomics.load(words, line)) | 0);
    }
    if (used < 0 || Atomics.load(words, STATE) === STATE_FAILED) {
      this.closed = true;
      used = 0;
    }
    this.#room = capacity - used;
    return this.#room;
  }
}

function cut_utf8(bytes: Uint8Array, most: number): string {
  let end = most;
  while (end > 0 && (bytes[end] & 0xc0) === 0x80) end--;
  return new TextDecoder().decode(bytes.subarray(0, end));
}

function fail_words(words: Int32Array, fault: number): void {
  if (Atomics.compareExchange(words, STATE, STATE_OPEN, STATE_FAILED) === STATE_OPEN) {
    Atomics.store(words, FAULT, fault);
  }
  ring_readers(words);
  ring_writer(words);
}

/**
 * One reader's end.  The loop of a player:
 *
 *   for (let n = ring.next_batch(); n > 0; n = ring.next_batch()) {
 *     for (let i = 0; i < n; i++) {
 *       const at = ring.word_of(i);            // words[at] … words[at + 3]
 *       if ((words[at] & OP_MASK) === OP_SITE) { …ring.name_at(i); i += site_units(…) - 1; }
 *     }
 *     ring.release(n);
 *   }
 */
export class RingReader {
  /** All words of the ring; word_of(i) says where an event begins. */
  readonly words: Int32Array;
  /** First word of unit 0, and the mask for unit numbers: word_of() by hand. */
  readonly data: number;
  readonly mask: number;
  /** Number of the first unit not yet released. */
  first: number;
  readonly #line: number;

  constructor(handle: RingHandle, index: number) {
    if (!Number.isInteger(index) || index < 0 || index >= handle.readers) {
      throw new RangeError(`ring: reader ${index} of a ring for ${handle.readers}`);
    }
    this.words = new Int32Array(handle.buffer);
    this.data = data_start(handle);
    this.mask = handle.capacity - 1;
    this.#line = reader_line(index);
    this.first = Atomics.load(this.words, this.#line);
  }

  /**
   * Waits until there are events and says how many units lie ready from `first` on, released
   * ones excluded.  RING_END, RING_FAILED or RING_TIMEOUT when there will be none.
   */
  next_batch(timeout_ms: number = Number.POSITIVE_INFINITY): number {
    const ready = (Atomics.load(this.words, WRITTEN) - this.first) | 0;
    return ready !== 0 ? ready : this.#next_batch_wait(timeout_ms);
  }

  /** Index of the first word of the i-th unit of the batch. */
  word_of(i: number): number {
    return this.data + (((this.first + i) & this.mask) << 2);
  }

  /** The name that follows the i-th unit of the batch, which is a SITE event. */
  name_at(i: number): string {
    const length = this.words[this.word_of(i) + 2];
    const packed = new Int32Array((site_units(length) - 1) * EVENT_WORDS);
    for (let w = 0; w < packed.length; w++) {
      packed[w] = this.words[this.word_of(i + 1 + (w >> 2)) + (w & 3)];
    }
    return new TextDecoder().decode(new Uint8Array(packed.buffer, 0, length));
  }

  /** Gives n units back to the writer. */
  release(n: number): void {
    const words = this.words;
    this.first = (this.first + n) | 0;
    Atomics.store(words, this.#line, this.first);
    if (Atomics.load(words, WANTS) !== 0) {
      if (((this.first - Atomics.load(words, UNTIL)) | 0) >= 0) ring_writer(words);
    }
  }

  /** This reader wants no more; the writer goes on for the others. */
  close(): void {
    Atomics.store(this.words, this.#line + GONE, 1);
    ring_writer(this.words);
  }

  /** Why the ring failed: one of FAULT_*. */
  fault(): number {
    return Atomics.load(this.words, FAULT);
  }

  #next_batch_wait(timeout_ms: number): number {
    const words = this.words;
    for (let spin = 0; spin < SPINS; spin++) {
      const ready = (Atomics.load(words, WRITTEN) - this.first) | 0;
      if (ready !== 0) return ready;
      pause();
    }
    for (;;) {
      const rung = Atomics.load(words, RUNG);
      const state = Atomics.load(words, STATE);
      const ready = (Atomics.load(words, WRITTEN) - this.first) | 0;
      if (ready !== 0) return ready;
      if (state === STATE_ENDED) return RING_END;
      if (state === STATE_FAILED) return RING_FAILED;
      if (Atomics.wait(words, RUNG, rung, timeout_ms) === 'timed-out') return RING_TIMEOUT;
    }
  }
}

/** What the thread that owns both ends' workers may do to a ring. */
export class RingControl {
  readonly handle: RingHandle;
  readonly #words: Int32Array;
  readonly #progress: Float64Array;

  constructor(handle: RingHandle) {
    this.handle = handle;
    this.#words = new Int32Array(handle.buffer);
    this.#progress = new Float64Array(handle.buffer, PROGRESS * 4, 4);
  }

  /** Fails the ring for everyone: the writer died, or the replay is called off. */
  fail(fault: number): void {
    fail_words(this.#words, fault);
  }

  /** A player's thread is gone: the writer must not wait for it. */
  reader_gone(index: number): void {
    Atomics.store(this.#words, reader_line(index) + GONE, 1);
    ring_writer(this.#words);
  }

  is_open(): boolean {
    return Atomics.load(this.#words, STATE) === STATE_OPEN;
  }

  fault(): number {
    return Atomics.load(this.#words, FAULT);
  }

  progress(): RingProgress {
    const progress = this.#progress;
    return {
      bytes_read: progress[0],
      bytes_total: progress[1],
      events: progress[2],
      malformed_lines: progress[3],
    };
  }
}
