/*
 * Shows that the code of the two lowest floors keeps the rules that it
 * declares: locks, sleeps, a death and its recovery run on several CPUs of a
 * checked machine, where each access of a field is tested against its letter.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { host_sees_threads } from '../machine/host.ts';
import { field_word, guard } from '../machine/struct.ts';
import { sleep, until, within } from '../machine/workers.test.lib.ts';
import { mtx_lock, mtx_unlock } from './kern_mutex.ts';
import { msleep, sleepq_check, wakeup } from './subr_sleepqueue.ts';
import { area, bring_up, leave, reaped, start, stop_jobs, the_area } from './sync.test.lib.ts';

let handle: ReturnType<typeof bring_up>;
beforeEach(() => {
  handle = bring_up({ options: { CHECKED: true } });
});
afterEach(() => {
  leave();
  guard.access = null;
});

test('locks, sleeps and three workers run under guards', async () => {
  const t = the_area();
  const jobs = [
    start(handle, 'mutex', { seed: 1 }),
    start(handle, 'tokens', { seed: 2, put: true }),
    start(handle, 'tokens', { seed: 3, put: false }),
  ];
  await within(Promise.all(jobs.map((j) => j.up)), 'start');
  await sleep(300);
  stop_jobs(t);
  const waker = setInterval(() => wakeup(field_word(area.tokens, t)), 20);
  const counts = await within(Promise.all(jobs.map((j) => j.done)), 'the jobs');
  clearInterval(waker);
  mtx_lock(area.mtx, t);
  msleep(t, area.mtx, t, 'guarded', 1);
  assert.equal(area.a[t], counts[0].n);
  assert.equal(area.b[t], counts[0].n);
  mtx_unlock(area.mtx, t);
  sleepq_check();
});

test('a death and its recovery run under guards', { skip: !host_sees_threads() }, async () => {
  const t = the_area();
  mtx_lock(area.undo, t);
  area.left[t] = 20;
  mtx_unlock(area.undo, t);
  const dead = start(handle, 'hold', { lock: 'undo' });
  await within(dead.up, 'start');
  await until(() => area.gate[t] === 1, 'it holds the lock');
  await dead.worker.terminate();
  await reaped(1);
  assert.equal(area.left[t], 20);
});
