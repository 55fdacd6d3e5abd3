/*
 * Test driver: two threads at work on the pages of one space, which this one copies, some of them
 * killed.
 */
import assert from 'node:assert/strict';
import { boot } from '../boot/whole.ts';
import { atomic_load } from '../machine/atomic.ts';
import { churn } from '../machine/kills.test.lib.ts';
import { Crew, type Job } from '../machine/workers.test.lib.ts';
import { KERN_FAILURE, KERN_RESOURCE_SHORTAGE, KERN_SUCCESS } from '../h/vm_map.ts';
import { done_word, map_drop, maps_make, stop_word } from './vm_map.test.lib.ts';
import { space_fork, space_make, space_map, WINDOW } from './vm_space.test.lib.ts';

const WORKERS = 2;
const OPERATIONS = 3000;

/** Copies the common space and drops the copy. False: a CPU was silent, or there was no memory. */
function copy(): boolean {
  const result = space_fork(0, 1);
  if (result !== KERN_SUCCESS) {
    assert.ok(result === KERN_FAILURE || result === KERN_RESOURCE_SHORTAGE, `fork: ${result}`);
    return false;
  }
  map_drop(1);
  return true;
}
export interface Churn {
  readonly kills: number;
  readonly seed: number;
  readonly INVARIANTS: boolean;
  /** How often the space is copied at least. */
  readonly copies: number;
  /** Tunables of the machine. */
  readonly set?: Record<string, number>;
}
/** Returns the operations done, and what those said who were not killed; the space stays. */
export async function space_churn<T extends { n: number }>(
  worker: URL,
  { kills, seed, INVARIANTS, copies, set }: Churn,
): Promise<{ done: number; all: T[] }> {
  const options = { INVARIANTS, WITNESS: INVARIANTS };
  const { handle } = boot({ memory: '16M', cpus: WORKERS + 1, options, set, fresh: true });
  maps_make();
  assert.ok(space_make(0));
  assert.equal(space_map(0, 0, WINDOW), KERN_SUCCESS);
  const crew = new Crew<T>(worker);
  const start = (part: number, n: number): Job<T> =>
    crew.start(handle, 'churn', { seed: seed + n, part, of: WORKERS });
  const words = { done: done_word(), stop: stop_word() };
  const beside = { times: copies, turn: copy };
  const all = await churn({
    ...{ crew, workers: WORKERS, start, kills, seed, ...words, beside },
    work: OPERATIONS,
  });
  return { done: atomic_load(done_word()), all };
}
