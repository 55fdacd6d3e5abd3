/*
 * packet_queue: packets go from one CPU to another, a word each.
 *
 *      line 0   head      packets put so far            (receiver)
 *      line 1   tail      packets taken so far          (sender)
 *      line 2   put_bell, taker_sleeps                  (bell: receiver)
 *      line 3   took_bell, putter_sleeps                (bell: sender)
 *      line 4   done      packets given back            (sender)
 *               wants, until: the receiver waits for that (receiver)
 *      slots …  QUEUE_SLOTS words: the first mbuf of each packet
 *
 * The queue lies in the machine's memory, a block of malloc(9).  A chain has one
 * owner; putting its number into the queue and moving `head`, by an atomic store,
 * hands it over with all that was written into it.
 *
 * Packets are shown to the other side some at a time, because a wake-up costs more
 * than a packet; flush shows the rest, and must be called before waiting for
 * anything that the other side holds.  A full queue is waited for until it is half
 * empty, for the same reason.
 *
 * Sleeping, without lost wake-ups.  Whoever finds the queue empty (full) notes the
 * bell, says that it sleeps, looks once more, and sleeps while the bell has the
 * value noted.  The other side moves its cursor first and then looks whether
 * somebody sleeps: one of the two sees the other.  A sleep is cut into slices, so
 * that a machine that stops is noticed.
 *
 * A receiver without memory waits for packets to be given back, half of those that
 * are with the sender, so that it does not wake for each.  It says so in `until`
 * and `wants`, and sleeps on `done`.
 *
 * Always true: 0 <= head - tail <= QUEUE_SLOTS, and tail - done packets wait with
 * the sender.
 */
import { away } from '../../sys/boot/whole.ts';
import {
  atomic_add,
  atomic_load,
  atomic_notify,
  atomic_store,
  atomic_wait,
  cpu_spinwait,
} from '../../sys/machine/atomic.ts';
import { mem } from '../../sys/machine/memory.ts';
import { NULL } from '../../sys/machine/struct.ts';

const LINE = 32;
const HEAD = 0;
const TAIL = LINE;
const PUT_BELL = 2 * LINE;
const TAKER_SLEEPS = PUT_BELL + 1;
const TOOK_BELL = 3 * LINE;
const PUTTER_SLEEPS = TOOK_BELL + 1;
const DONE = 4 * LINE;
const QUIET = DONE + 1;
const WANTS = DONE + 2;
const UNTIL = DONE + 3;
const SLOTS = 5 * LINE;

/** Packets a queue holds: some hundred microseconds of work. */
export const QUEUE_SLOTS = 512;
/** Bytes of a queue, to be zeroed. */
export const QUEUE_BYTES = (SLOTS + QUEUE_SLOTS) * 4;
/** In place of a packet: the capture was played once; all of it was. */
export const QUEUE_PASS = -1;
export const QUEUE_END = -2;

/** Packets shown at once. */
const SHOWN_AT_ONCE = 32;
/** A full queue is waited for until so much of it is free. */
const ROOM_TO_GO_ON = QUEUE_SLOTS / 2;
/** Looks before sleeping: a few microseconds, less than a sleep and a wake-up cost. */
const SPINS = 500;
const SLICE_MS = 50;
/**
 * Times a request is made while nobody holds anything: a CPU that the host does not let
 * run may be late with what lies in its caches.
 */
const IDLE_TRIES = 20;
const RETRY_MS = 1;

/** One end's handle of the queue at a word address; one thread puts, one takes. */
export class PacketQueue {
  readonly #q: number;
  /** The other side's cursor, as last seen, and our own. */
  #head: number;
  #tail: number;
  /** Packets put so far, those not shown yet included. */
  #next: number;

  constructor(word: number) {
    this.#q = word;
    this.#head = atomic_load(word + HEAD);
    this.#tail = atomic_load(word + TAIL);
    this.#next = this.#head;
  }

  /** Whether there is room for another packet, without waiting. */
  has_room(): boolean {
    return this.#free() > 0;
  }
  /** Free slots, at least; all of them are looked at when there seem to be none. */
  #free(): number {
    const free = QUEUE_SLOTS - ((this.#next - this.#tail) | 0);
    if (free > 0) return free;
    this.#tail = atomic_load(this.#q + TAIL);
    return QUEUE_SLOTS - ((this.#next - this.#tail) | 0);
  }
  /** Hands a packet over, with those before it or later; waits while the queue is full. */
  put(packet: number): void {
    if (this.#free() === 0) this.#put_wait();
    mem.I32[this.#q + SLOTS + (this.#next & (QUEUE_SLOTS - 1))] = packet;
    this.#next = (this.#next + 1) | 0;
    if (((this.#next - this.#head) | 0) >= SHOWN_AT_ONCE) this.flush();
  }
  /** Shows all packets to the other side. */
  flush(): void {
    if (this.#head === this.#next) return;
    this.#head = this.#next;
    atomic_store(this.#q + HEAD, this.#head);
    if (atomic_load(this.#q + TAKER_SLEEPS) !== 0) ring(this.#q + PUT_BELL);
  }
  #put_wait(): void {
    this.flush();
    wait(this.#q + TOOK_BELL, this.#q + PUTTER_SLEEPS, () => {
      this.#tail = atomic_load(this.#q + TAIL);
      return QUEUE_SLOTS - ((this.#next - this.#tail) | 0) >= ROOM_TO_GO_ON;
    });
  }

  /** Whether a packet is there, without waiting. */
  has_packet(): boolean {
    if (this.#head !== this.#tail) return true;
    this.#head = atomic_load(this.#q + HEAD);
    return this.#head !== this.#tail;
  }
  /** Returns when a packet is there. */
  wait(): void {
    wait(this.#q + PUT_BELL, this.#q + TAKER_SLEEPS, () => this.has_packet());
  }
  /** The next packet, QUEUE_PASS or QUEUE_END; waits for it. */
  take(): number {
    if (!this.has_packet()) this.wait();
    const packet = mem.I32[this.#q + SLOTS + (this.#tail & (QUEUE_SLOTS - 1))];
    this.#tail = (this.#tail + 1) | 0;
    atomic_store(this.#q + TAIL, this.#tail);
    if (atomic_load(this.#q + PUTTER_SLEEPS) !== 0) this.#took();
    return packet;
  }

  #took(): void {
    this.#head = atomic_load(this.#q + HEAD);
    const free = QUEUE_SLOTS - ((this.#head - this.#tail) | 0);
    if (free >= ROOM_TO_GO_ON) ring(this.#q + TOOK_BELL);
  }

  /** A packet that was taken is freed, or was no packet. */
  done(): void {
    const done = atomic_add(this.#q + DONE, 1) + 1;
    if (atomic_load(this.#q + WANTS) !== 0) this.#given(done);
  }
  #given(done: number): void {
    if (((done - atomic_load(this.#q + UNTIL)) | 0) >= 0) atomic_notify(this.#q + DONE, 1);
  }
  /** Packets put and not yet freed. */
  in_flight(): number {
    return (this.#next - atomic_load(this.#q + DONE)) | 0;
  }
  /** Whether everything was given back, and the other side sleeps until more is shown to it. */
  is_idle(): boolean {
    return this.in_flight() === 0 && atomic_load(this.#q + TAKER_SLEEPS) !== 0;
  }
  /** Returns when half of the packets that the other side has are given back. All must be shown. */
  wait_given(): void {
    const until = (this.#next - (this.in_flight() >> 1)) | 0;
    atomic_store(this.#q + UNTIL, until);
    atomic_store(this.#q + WANTS, 1);
    for (;;) {
      const done = atomic_load(this.#q + DONE);
      if (((done - until) | 0) >= 0) break;
      away(() => atomic_wait(this.#q + DONE, done, SLICE_MS));
    }
    atomic_store(this.#q + WANTS, 0);
  }
  /** Sleeps for `ms`, whatever happens. */
  pause(ms: number): void {
    pause(this.#q, ms);
  }
}

function ring(bell: number): void {
  atomic_add(bell, 1);
  atomic_notify(bell, 1);
}
function wait(bell: number, sleeps: number, ready: () => boolean): void {
  for (let spin = 0; spin < SPINS; spin++) {
    if (ready()) return;
    cpu_spinwait();
  }
  while (!ready()) {
    const now = atomic_load(bell);
    atomic_store(sleeps, 1);
    if (!ready()) away(() => atomic_wait(bell, now, SLICE_MS));
    atomic_store(sleeps, 0);
  }
}
/**
 * Asks for a packet until there is one; between two requests packets were given back.
 * NULL: there was none even while no packet was anywhere.
 */
export function retry_given<M extends number>(queues: readonly PacketQueue[], ask: () => M): M {
  for (const q of queues) q.flush();
  for (let tries = 0; ; ) {
    const idle = queues.every((q) => q.is_idle());
    const m = ask();
    if (m !== NULL || (idle && ++tries === IDLE_TRIES)) return m;
    if (!idle) for (const q of queues) q.wait_given();
    queues[0].pause(RETRY_MS);
  }
}
/** Sleeps for `ms` with this CPU parked, on a word that nobody rings. */
export function pause(queue_word: number, ms: number): void {
  away(() => atomic_wait(queue_word + QUIET, 0, ms));
}
