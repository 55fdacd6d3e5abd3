/*
 * player.test.worker: a thread that follows a ring the way a real player does, for tests.
 *
 * It keeps the set of live blocks from the events alone and checks what events.ts promises:
 * an ALLOC names a dead id, a FREE or REALLOC a live one, a site is named before it is used.
 * Posts its totals at the end.  `release_units` makes it give units back in small portions,
 * `pause_every` makes it slow, `stop_after` makes it leave early, `die_after` makes it throw.
 */

import { parentPort, workerData } from 'node:worker_threads';
import {
  event_align_shift,
  event_thread,
  OP_ALIGNED,
  OP_ALLOC,
  OP_END,
  OP_FREE,
  OP_MASK,
  OP_REALLOC,
  OP_SITE,
  OP_THREAD,
  site_units,
} from '../ring/events.ts';
import { type RingHandle, RingReader } from '../ring/ring.ts';

export interface PlayerTask {
  ring: RingHandle;
  index: number;
  release_units?: number;
  pause_every?: number;
  stop_after?: number;
}

export interface PlayerTotals {
  ending: number;
  fault: number;
  events: number;
  allocs: number;
  frees: number;
  reallocs: number;
  aligned: number;
  live: number;
  bytes: number;
  threads: number;
  sites: string[];
  ended: boolean;
  checksum: number;
  complaints: string[];
}

class TestPlayer {
  readonly #live = new Map<number, number>();
  readonly totals: PlayerTotals = {
    ending: 0,
    fault: 0,
    events: 0,
    allocs: 0,
    frees: 0,
    reallocs: 0,
    aligned: 0,
    live: 0,
    bytes: 0,
    threads: 0,
    sites: [],
    ended: false,
    checksum: 0,
    complaints: [],
  };

  /* Plays the i-th unit; answers how many units it took. */
  unit(ring: RingReader, i: number): number {
    const totals = this.totals;
    const at = ring.word_of(i);
    const [word0, id, size, site] = ring.words.subarray(at, at + 4);
    totals.events++;
    totals.checksum = (Math.imul(totals.checksum, 31) + (word0 ^ id ^ size ^ site)) | 0;
    if (totals.ended) this.#complain('an event after END');
    switch (word0 & OP_MASK) {
      case OP_ALIGNED:
        if (event_align_shift(word0) > 0) totals.aligned++;
        this.#alloc(id, size >>> 0, site);
        return 1;
      case OP_ALLOC:
        this.#alloc(id, size >>> 0, site);
        return 1;
      case OP_REALLOC:
        totals.reallocs++;
        if (!this.#live.has(id)) this.#complain(`realloc of dead id ${id}`);
        this.#live.set(id, size >>> 0);
        totals.bytes += size >>> 0;
        return 1;
      case OP_FREE:
        totals.frees++;
        if (!this.#live.delete(id)) this.#complain(`free of dead id ${id}`);
        if (event_thread(word0) >= Math.max(1, totals.threads)) this.#complain('unknown thread');
        return 1;
      case OP_SITE:
        if (id !== totals.sites.length) this.#complain(`site ${id} out of order`);
        totals.sites.push(ring.name_at(i));
        return site_units(size);
      case OP_THREAD:
        totals.threads++;
        return 1;
      case OP_END:
        totals.ended = true;
        return 1;
      default:
        this.#complain(`op ${word0 & OP_MASK}`);
        return 1;
    }
  }

  finish(ending: number, fault: number): PlayerTotals {
    this.totals.ending = ending;
    this.totals.fault = fault;
    this.totals.live = this.#live.size;
    return this.totals;
  }

  #alloc(id: number, size: number, site: number): void {
    this.totals.allocs++;
    if (this.#live.has(id)) this.#complain(`alloc of live id ${id}`);
    if (site >= this.totals.sites.length) this.#complain(`site ${site} without a name`);
    this.#live.set(id, size);
    this.totals.bytes += size;
  }

  #complain(what: string): void {
    if (this.totals.complaints.length < 10) this.totals.complaints.push(what);
  }
}

function play(task: PlayerTask): PlayerTotals {
  const ring = new RingReader(task.ring, task.index);
  const player = new TestPlayer();
  let batches = 0;
  let ready = ring.next_batch();
  while (ready > 0) {
    let done = 0;
    while (done < ready) {
      const before = done;
      while (done < ready && done - before < (task.release_units ?? ready)) {
        done += player.unit(ring, done);
      }
      ring.release(done);
      ready -= done;
      done = 0;
      batches++;
      if (task.pause_every !== undefined && batches % task.pause_every === 0) sleep(1);
      if (player.totals.events >= (task.stop_after ?? Number.POSITIVE_INFINITY)) {
        ring.close();
        return player.finish(0, 0);
      }
    }
    ready = ring.next_batch();
  }
  return player.finish(ready, ring.fault());
}

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

parentPort?.postMessage(play(workerData as PlayerTask));
