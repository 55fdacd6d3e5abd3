/*
 * kills: workers that are killed at any moment, one after the other, and replaced.
 *
 *      kill_in_turn    just that
 *      work_done       waits until the workers have done so much
 *      churn           the life of a crew: they start, some are killed, the others do their work,
 *                      are told to stop, and say what they counted
 */
import { atomic_load, atomic_store } from './atomic.ts';
import { counter_get } from './counter.ts';
import { reap_all, v_reaps } from './death.ts';
import { dice } from './seed.test.lib.ts';
import { type Counts, type Crew, type Job, sleep, until, within } from './workers.test.lib.ts';

export interface Kills<C extends Counts> {
  /** The workers at work; a dead one's place is its successor's. */
  readonly jobs: Job<C>[];
  readonly kills: number;
  readonly draw: (n: number) => number;
  /** A word that counts what all of them have done. */
  readonly done: number;
  /** Starts the successor of worker `i` after the n-th kill, from 0 on. */
  readonly start: (i: number, n: number) => Job<C>;
}
/** Kills them in turn, each some ms after work was done, and waits until it is settled. */
export async function kill_in_turn<C extends Counts>(o: Kills<C>): Promise<void> {
  for (let n = 0; n < o.kills; n++) {
    const done = atomic_load(o.done);
    await until(() => atomic_load(o.done) !== done, 'some work');
    await sleep(o.draw(5));
    const i = o.draw(o.jobs.length);
    await o.jobs[i].worker.terminate();
    await until(() => {
      reap_all();
      return counter_get(v_reaps) > n;
    }, 'it is settled');
    o.jobs[i] = o.start(i, n);
    await within(o.jobs[i].up, 'a new worker');
  }
}
/** Waits until so much more is done, by the word that counts it; a worker that fails says why. */
export async function work_done<C extends Counts>(
  jobs: readonly Job<C>[],
  done: number,
  work: number,
): Promise<void> {
  const enough = atomic_load(done) + work;
  let ended = false;
  const ends = jobs.map((j) => j.done.finally(() => (ended = true)));
  const more = async (): Promise<void> => {
    while (!ended && atomic_load(done) < enough) await sleep(2);
  };
  await within(Promise.race([more(), ...ends]), `${work} operations`);
}

export interface Churn<C extends Counts> {
  readonly crew: Crew<C>;
  readonly workers: number;
  /** Starts a worker in place `i`, the n-th of all. */
  readonly start: (i: number, n: number) => Job<C>;
  readonly kills: number;
  readonly seed: number;
  /** Words: one counts what they have done, the other tells them to stop. */
  readonly done: number;
  readonly stop: number;
  /** How much they do after the last kill. */
  readonly work: number;
  /** What this thread does meanwhile, so often at least.  False: it could not; once it must. */
  readonly beside?: { readonly times: number; readonly turn: () => boolean };
}
/** The life of a crew. What those counted who lived. */
export async function churn<C extends Counts>(o: Churn<C>): Promise<C[]> {
  const { crew, workers, kills, done, beside } = o;
  try {
    const jobs = Array.from({ length: workers }, (_, i) => o.start(i, i));
    await within(Promise.all(jobs.map((j) => j.up)), 'the workers');
    const start = (i: number, n: number): Job<C> => o.start(i, workers + n);
    let over = false;
    const killing = kill_in_turn({ jobs, kills, draw: dice(o.seed), done, start });
    void killing.finally(() => (over = true)).catch(() => undefined);
    // Of workers that are not killed one that ends says why.
    const ends = kills === 0 ? jobs.map((j) => j.done) : [];
    let did = beside === undefined;
    for (let n = 0; beside && (n < beside.times || !over || !did); n++) {
      did = beside.turn() || did;
      await Promise.race([...ends, sleep(5)]);
    }
    await killing;
    await work_done(jobs, done, o.work);
    atomic_store(o.stop, 1);
    return await within(Promise.all(jobs.map((j) => j.done)), 'the workers');
  } finally {
    await crew.end();
  }
}
