/*
 * Killing workers while they change shared memory under a lock with an undo log: used
 * for a few seconds by lock_takeover.test.ts and at length by lock_takeover.stress.ts.
 */
import assert from 'node:assert/strict';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { counter_get } from '../machine/counter.ts';
import { CPU_FREE, pcpu, pcpu_of, tid_cpu } from '../machine/cpu.ts';
import { v_reap_locks, v_reaps } from '../machine/death.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { field_word } from '../machine/struct.ts';
import { type Counts, type Job, sleep, until, within } from '../machine/workers.test.lib.ts';
import { sleepq_check } from './subr_sleepqueue.ts';
import {
  area,
  bring_up,
  leave,
  progress_of,
  reaped,
  start,
  stop_jobs,
  the_area,
} from './sync.test.lib.ts';

export const ITEMS = 160;
const state_of = (cpu: number): number => atomic_load(field_word(pcpu.state, pcpu_of(cpu)));

/** Kills movers at random moments. Two are replaced; a third must see all of it through. */
export async function kill_movers(kills: number, sx: boolean, seed: number): Promise<string> {
  const draw = dice(seed);
  const handle = bring_up({ cpus: 6 });
  const t = the_area();
  if (sx) atomic_store(field_word(area.sx_left, t), ITEMS);
  else atomic_store(field_word(area.left, t), ITEMS);
  const lock = t + (sx ? area.undo_sx : area.undo);
  const mover = (): Job<Counts> => start(handle, 'move', { seed: draw(1e6), items: ITEMS, sx });
  const jobs = [mover(), mover(), mover()];
  const cpus = await within(Promise.all(jobs.map((j) => j.up)), 'start');
  const failed: string[] = [];
  const killed = new Set<Job<Counts>>();
  const watch = (j: Job<Counts>): void =>
    void j.done.catch((e) => killed.has(j) || failed.push((e as Error).message));
  jobs.forEach(watch);
  let holding = 0;
  for (let n = 0; n < kills; n++) {
    await sleep(2 + draw(8));
    const i = draw(2);
    killed.add(jobs[i]);
    await jobs[i].worker.terminate();
    const owner = atomic_load(lock);
    if (owner !== 0 && tid_cpu(owner) === cpus[i]) holding++;
    const survivor = progress_of(t, cpus[2]);
    await until(() => progress_of(t, cpus[2]) > survivor, `the survivor moves, seed ${seed}`);
    await reaped(n + 1); // by this thread, or by one that waited for its lock
    await until(() => (state_of(cpus[i]) & CPU_FREE) !== 0, 'the slot is free again');
    jobs[i] = mover();
    watch(jobs[i]);
    cpus[i] = await within(jobs[i].up, `worker ${n} starts`);
  }
  stop_jobs(t);
  await within(Promise.all(jobs.map((j) => j.done)), `the survivors end, seed ${seed}`);
  assert.deepEqual(failed, [], `seed ${seed}`);
  const sum = sx ? area.sx_left[t] + area.sx_right[t] : area.left[t] + area.right[t];
  assert.equal(sum, ITEMS, `seed ${seed}`);
  assert.equal(atomic_load(lock) & ~3, 0, 'nobody holds the lock');
  assert.equal(counter_get(v_reaps), kills);
  sleepq_check();
  const took = counter_get(v_reap_locks);
  leave();
  return `${kills} kills, ${holding} seen holding the lock, ${took} taken over, sum ${sum}`;
}
