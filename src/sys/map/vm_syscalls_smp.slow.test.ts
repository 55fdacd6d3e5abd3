/*
 * Shows: threads that map, unmap, protect, advise, load and store in one address space at once find
 * in their pages what they did there and nothing else, while it is forked and the copies dropped;
 * and those who are killed in the middle of a call cost the others nothing, nor is a page, an
 * entry, a table or a reference lost.
 * By what means: two workers beside their models (vm_syscalls.test.worker.ts), whose pages lie
 * side by side, some of them killed and replaced; the walkers afterwards.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { churn } from '../machine/kills.test.lib.ts';
import { SEED, ways } from '../machine/seed.test.lib.ts';
import { Crew, type Job } from '../machine/workers.test.lib.ts';
import { KERN_FAILURE, KERN_RESOURCE_SHORTAGE, type vm_map_t } from '../h/vm_map.ts';
import { vmspace_fork } from './vm_map_fork.ts';
import { done_word, map_at, map_drop, map_put, maps_make, stop_word } from './vm_map.test.lib.ts';
import { spaces_check, spaces_end } from './vm_space.test.lib.ts';
import { vector_page } from './vm_syscalls.fuzz.ts';
import { user_make } from './vm_syscalls.test.lib.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
type Work = Job<{ n: number }>;
const WORKERS = 2;
const COPIES = 40;

/** Forks the common space and drops the copy. False: a CPU was silent, or there was no memory. */
function fork_and_drop(): boolean {
  const made = vmspace_fork(map_at(0));
  if (made < 0) {
    assert.ok(made === -KERN_FAILURE || made === -KERN_RESOURCE_SHORTAGE, `fork: ${made}`);
    return false;
  }
  map_put(1, made as vm_map_t);
  map_drop(1);
  return true;
}
async function together(kills: number, seed: number, INVARIANTS: boolean): Promise<void> {
  const options = { INVARIANTS, WITNESS: INVARIANTS };
  const { handle } = boot({ memory: '16M', cpus: WORKERS + 1, options, fresh: true });
  maps_make();
  vector_page(user_make(0));
  const crew = new Crew<{ n: number }>(new URL('./vm_syscalls.test.worker.ts', import.meta.url));
  const start = (part: number, n: number): Work =>
    crew.start(handle, 'churn', { seed: seed + n, part, of: WORKERS });
  const words = { done: done_word(), stop: stop_word() };
  const beside = { times: COPIES, turn: fork_and_drop };
  await churn({ crew, workers: WORKERS, start, kills, seed, ...words, beside, work: 2000 });
  spaces_check();
  spaces_end();
}
for (const INVARIANTS of ways([true, false])) {
  const how = INVARIANTS ? 'with INVARIANTS' : 'as programs run';
  test(`two threads and forks of their space, ${how}`, () => together(0, SEED, INVARIANTS));
  test(`some of them killed, ${how}`, () => together(8, SEED + 1, INVARIANTS));
}
