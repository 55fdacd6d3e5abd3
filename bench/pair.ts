/*
 * pair: how two threads of one competitor are timed together.
 *
 *      first thread               second thread (a worker)
 *      ask(job, mine) ──message──► follow(words, theirs)
 *           meet ◄────────────────► meet            both leave together
 *           mine()                  theirs(job)
 *           sleep on DONE ◄───────  SPENT, DONE     set whether it succeeds or fails
 *
 * Between samples the second thread sits in its event loop, as an idle CPU does.
 * The time of a sample is that of the slower thread.
 */
import { once } from 'node:events';
import { parentPort, type Worker } from 'node:worker_threads';
import { now_ns } from './child.ts';

/** What is asked of the second thread; `ring` means what both sides make of it. */
export interface Job {
  name: string;
  ops: number;
  ring: number;
  round: number;
}

/** Memory that both threads see. Plain cloneable data. */
export interface PairWords {
  ctl: Int32Array;
  spent: Float64Array;
}

const START = 0;
const DONE = 16;
const FAILED = 32;
const CTL_WORDS = 48;
const MEET_NS = 20e9;
const SAMPLE_NS = 60e9;
const SPINS_BEFORE_REST = 4096;

const rest_word = new Int32Array(new SharedArrayBuffer(4));
const pause = (Atomics as { pause?: () => void }).pause ?? (() => {});

export function pair_words(): PairWords {
  return {
    ctl: new Int32Array(new SharedArrayBuffer(CTL_WORDS * 4)),
    spent: new Float64Array(new SharedArrayBuffer(8)),
  };
}

/** One turn of a wait; gives the processor away after many, as the C loops do. */
export function spin(spins: number): number {
  pause();
  if (spins < SPINS_BEFORE_REST) return spins + 1;
  Atomics.wait(rest_word, 0, 0, 0.01);
  return 0;
}

/** A meeting point for two threads: both leave it together. */
function meet(words: Int32Array, index: number, round: number): void {
  Atomics.add(words, index, 1);
  const deadline = now_ns() + MEET_NS;
  let spins = 0;
  while (Atomics.load(words, index) < 2 * round) {
    spins = spin(spins);
    if (spins === 0 && now_ns() > deadline) {
      throw new Error('the other thread did not come to the start within 20 seconds');
    }
  }
}

/** The second thread: does each job it is sent. */
export function follow({ ctl, spent }: PairWords, theirs: (job: Job) => number): void {
  parentPort!.on('message', (job: Job) => {
    try {
      meet(ctl, START, job.round);
      spent[0] = theirs(job);
    } catch (error) {
      Atomics.store(ctl, FAILED, 1);
      process.stderr.write(`bench: second thread: ${(error as Error).message}\n`);
    }
    Atomics.store(ctl, DONE, job.round);
    Atomics.notify(ctl, DONE);
  });
  parentPort!.postMessage('ready');
}

/** The first thread's end; the worker is started by the first question. */
export class Pair {
  readonly words = pair_words();
  readonly #start: (words: PairWords) => Worker;
  #worker: Promise<Worker> | undefined;
  #round = 0;

  constructor(start: (words: PairWords) => Worker) {
    this.#start = start;
  }

  /** Has the worker do `name` while this thread does `mine`; nanoseconds of the slower one. */
  async ask(name: string, ops: number, ring: number, mine: () => number): Promise<number> {
    this.#worker ??= this.#ready();
    const other = await this.#worker;
    const { ctl, spent } = this.words;
    const round = ++this.#round;
    other.postMessage({ name, ops, ring, round } satisfies Job);
    meet(ctl, START, round);
    const start = now_ns();
    const here = mine();
    while (Atomics.load(ctl, DONE) !== round) {
      if (now_ns() - start > SAMPLE_NS) throw new Error('the second thread did not finish');
      Atomics.wait(ctl, DONE, round - 1, 1000);
    }
    if (Atomics.load(ctl, FAILED) !== 0) throw new Error('the second thread failed');
    return Math.max(here, spent[0]);
  }

  async #ready(): Promise<Worker> {
    const worker = this.#start(this.words);
    worker.unref();
    await Promise.race([
      once(worker, 'message'),
      once(worker, 'exit').then(() => Promise.reject(new Error('the second thread ended at once'))),
    ]);
    worker.unref();
    return worker;
  }
}
