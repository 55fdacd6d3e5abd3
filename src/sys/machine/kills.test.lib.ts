/*
 * kills: workers that are killed at any moment, one after the other, and replaced.
 */
import { atomic_load } from './atomic.ts';
import { counter_get } from './counter.ts';
import { reap_all, v_reaps } from './death.ts';
import { type Counts, type Job, sleep, until, within } from './workers.test.lib.ts';

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
