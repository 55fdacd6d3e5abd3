/*
 * turns: events on one block happen in the order of the trace, on whatever CPU.
 *
 *   id          0     1     2     3   …
 *   done      [ 4 ] [ 0 ] [ 7 ] [ 2 ]      shared: events on the id that are over
 *   seen      [ 4 ] [ 1 ] [ 9 ] [ 2 ]      this player's: events on the id so far
 *
 * Every player sees every event and so counts the same `seen`; the one that an
 * event belongs to plays it when `done` has come to what it saw before.  File
 * order is a legal order, so the earliest event not yet played can always go on.
 *
 * A player that has to wait long sleeps on the id's counter.  Waking costs as
 * much as a request of malloc, so a player wakes others only when `sleepers` says
 * that somebody sleeps.  The sleeper counts itself before its last look at the
 * counter, the waker moves the counter before it looks at `sleepers`: one of the
 * two sees the other.
 *
 * Always true: done <= seen of any player that has come as far in the trace.
 */
import { away } from '../../sys/boot/whole.ts';
import { ENOMEM, KmemError } from '../../sys/machine/errno.ts';

/** Blocks that may live at once in a trace with threads. */
export const TURN_IDS = 1 << 22;
const SPINS = 2000;
/** Longest sleep, so that a machine that stops is noticed. */
const WAIT_MS = 20;
/** Tables of one word an id: done, and those that the player adds. */
const TABLE_BYTES = TURN_IDS * 4;
const TABLES = 4;

/** Memory for the turns and three tables of the players; pages of it are taken when touched. */
export function turns_buffer(): SharedArrayBuffer {
  return new SharedArrayBuffer(TABLES * TABLE_BYTES + 4);
}
/** Where table `n`, from 1 to 3, begins: one word an id, for the players. */
export function turns_table(n: number): number {
  return n * TABLE_BYTES;
}

export class Turns {
  readonly #done: Int32Array;
  readonly #sleepers: Int32Array;
  readonly #seen = new Int32Array(TURN_IDS);

  constructor(buffer: SharedArrayBuffer) {
    this.#done = new Int32Array(buffer, 0, TURN_IDS);
    this.#sleepers = new Int32Array(buffer, TABLES * TABLE_BYTES, 1);
  }

  /** Notes an event on the id; answers how many events on it come before. */
  next(id: number): number {
    if (id >= TURN_IDS) {
      const text = `a threads trace may have ${TURN_IDS} live blocks, this one has more`;
      throw new KmemError(ENOMEM, 'replay', `${text}: replay it in parts`);
    }
    return this.#seen[id]++;
  }

  /** Returns when the events on the id before this turn are over. */
  wait(id: number, turn: number): void {
    const done = this.#done;
    for (let spin = 0; spin <= SPINS; spin++) if (Atomics.load(done, id) === turn) return;
    away(() => {
      Atomics.add(this.#sleepers, 0, 1);
      for (let now = Atomics.load(done, id); now !== turn; now = Atomics.load(done, id)) {
        Atomics.wait(done, id, now, WAIT_MS);
      }
      Atomics.sub(this.#sleepers, 0, 1);
    });
  }

  /** The event on the id is over. */
  end(id: number): void {
    Atomics.add(this.#done, id, 1);
    if (Atomics.load(this.#sleepers, 0) !== 0) Atomics.notify(this.#done, id);
  }
}
