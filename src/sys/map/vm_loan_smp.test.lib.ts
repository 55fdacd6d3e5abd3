/*
 * Test driver: two threads that lend pages of one space, and store to them; this one copies the
 * space.  Some of them are killed.
 */
import assert from 'node:assert/strict';
import { boot } from '../boot/whole.ts';
import { atomic_load } from '../machine/atomic.ts';
import { churn } from '../machine/kills.test.lib.ts';
import { Crew, type Job } from '../machine/workers.test.lib.ts';
import { KERN_FAILURE, KERN_RESOURCE_SHORTAGE, KERN_SUCCESS } from '../h/vm_map.ts';
import { done_word, map_drop, maps_make, stop_word } from './vm_map.test.lib.ts';
import { vm_loan_drop } from './vm_loan.ts';
import { loans_all } from './vm_loan_check.ts';
import {
  space_fork,
  space_make,
  space_map,
  spaces_check,
  spaces_end,
  WINDOW,
} from './vm_space.test.lib.ts';

type Work = Job<{ n: number; made: number }>;
const WORKER = new URL('./vm_loan.test.worker.ts', import.meta.url);
const WORKERS = 2;
const COPIES = 20;
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
/** Returns the operations done, and the loans that those made who were not killed. */
export async function loans_churn(
  kills: number,
  seed: number,
  INVARIANTS: boolean,
): Promise<{ done: number; made: number }> {
  const options = { INVARIANTS, WITNESS: INVARIANTS };
  const set = { 'vm.loan_max': 1000 };
  const { handle } = boot({ memory: '16M', cpus: WORKERS + 1, options, set, fresh: true });
  maps_make();
  assert.ok(space_make(0));
  assert.equal(space_map(0, 0, WINDOW), KERN_SUCCESS);
  const crew = new Crew<{ n: number; made: number }>(WORKER);
  const start = (part: number, n: number): Work =>
    crew.start(handle, 'churn', { seed: seed + n, part, of: WORKERS });
  const words = { done: done_word(), stop: stop_word() };
  const beside = { times: COPIES, turn: copy };
  const all = await churn({
    ...{ crew, workers: WORKERS, start, kills, seed, ...words, beside },
    work: OPERATIONS,
  });
  const made = all.reduce((sum, one) => sum + one.made, 0);
  assert.ok(made > 0, 'nothing was lent');
  assert.ok(
    loans_all().length <= kills,
    'who leaves has no loan any more, nor has a dead thread, but one that it was making storage',
  );
  const done = atomic_load(done_word());
  spaces_check();
  for (const l of loans_all()) vm_loan_drop(l);
  spaces_end();
  return { done, made };
}
