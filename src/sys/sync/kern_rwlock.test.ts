/*
 * Shows that rw and sx locks let readers in together and writers alone, on
 * real workers: readers look for half a write while writers raise two words,
 * give up, upgrade and downgrade; the sums must be exact.  With the helper and
 * with its stand-in.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { atomic_load } from '../machine/atomic.ts';
import { thr } from '../machine/cpu.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { sleep, until, within } from '../machine/workers.test.lib.ts';
import {
  rw_assert,
  rw_downgrade,
  rw_rlock,
  rw_runlock,
  rw_timedrlock,
  rw_timedwlock,
  rw_try_upgrade,
  rw_wlock,
  rw_wowned,
  rw_wunlock,
} from './kern_rwlock.ts';
import { rw_read_holds } from './rw_row.ts';
import {
  all_move,
  area,
  bring_up,
  go,
  leave,
  start,
  stop_jobs,
  the_area,
} from './sync.test.lib.ts';

/** How long the workers run at least, ms, and how much each gets done. */
const RUN_MS = 500;
const ROUNDS = 1000;
afterEach(leave);

for (const atomics of ['wasm', 'atomics'] as const) {
  for (const sx of [false, true]) {
    describe(`${sx ? 'sx' : 'rw'} by ${atomics}`, () => {
      test('readers never see half a write, writers never lose one', async () => {
        const handle = bring_up({ atomics });
        const t = the_area();
        const jobs = [1, 2, 3].map((i) => start(handle, 'rw', { seed: SEED + i, sx }));
        const cpus = await within(Promise.all(jobs.map((j) => j.up)), 'start');
        await sleep(RUN_MS);
        await all_move(t, cpus, ROUNDS);
        stop_jobs(t);
        const counts = await within(Promise.all(jobs.map((j) => j.done)), `the jobs, seed ${SEED}`);
        const sum = (name: string): number => counts.reduce((n, c) => n + (c[name] as number), 0);
        assert.ok(sum('reads') > 50 && sum('upgrades') > 0 && sum('downgrades') > 0);
        assert.equal(area.x[t], sum('writes') + sum('upgrades'), `seed ${SEED}`);
        assert.equal(area.y[t], area.x[t], `seed ${SEED}`);
        // Waiting flags may stay behind a reader that gave up; no holder does.
        assert.equal(atomic_load(t + (sx ? area.sx : area.rw)) & ~3, 0);
      });
    });
  }
}

test('a waiting writer keeps new readers out, but not one who reads already', async () => {
  const handle = bring_up();
  const t = the_area();
  rw_rlock(area.rw, t);
  const writer = start(handle, 'take', { lock: 'rw_write' });
  await within(writer.up, 'the writer');
  await until(() => (atomic_load(t + area.rw) & 2) !== 0, 'the writer announces itself');
  const newcomer = start(handle, 'take', { lock: 'rw_read', ms: 30 });
  assert.equal((await within(newcomer.done, 'the newcomer')).got, false);
  rw_rlock(area.rw, t); // would wait for itself if the writer barred it
  rw_runlock(area.rw, t);
  rw_runlock(area.rw, t);
  assert.equal((await within(writer.done, 'the writer')).got, true);
});

test('a writer that gives up lets the readers it kept out go on', async () => {
  const handle = bring_up();
  const t = the_area();
  rw_rlock(area.rw, t);
  const announced = (): boolean => (atomic_load(t + area.rw) & 2) !== 0;
  // On a busy machine it may have given up before this thread looks: once more, with more time.
  let kept_out = false;
  for (let ms = 60; !kept_out; ms *= 4) {
    go(t, 0);
    // Both are up before the first tries, so that the second comes while it waits.
    const writer = start(handle, 'take', { lock: 'rw_write', ms, after: 1 });
    const reader = start(handle, 'take', { lock: 'rw_read', after: 2 });
    await within(Promise.all([writer.up, reader.up]), 'start');
    let over = false;
    const ended = (): void => {
      over = true;
    };
    void writer.done.then(ended, ended);
    go(t, 1);
    await until(() => over || announced(), 'the writer announces itself');
    kept_out = announced();
    go(t, 2);
    assert.equal((await within(writer.done, 'the writer gives up')).got, false);
    assert.equal((await within(reader.done, 'the reader goes on')).got, true);
  }
  rw_runlock(area.rw, t);
});

test('upgrade needs to be the only reader; downgrade lets others in', async () => {
  const handle = bring_up();
  const t = the_area();
  rw_rlock(area.rw, t);
  rw_rlock(area.rw, t);
  assert.equal(rw_try_upgrade(area.rw, t), false, 'two holds');
  rw_runlock(area.rw, t);
  assert.equal(rw_try_upgrade(area.rw, t), true);
  assert.equal(rw_wowned(area.rw, t), true);
  assert.deepEqual(rw_read_holds(thr.cpu), [], 'the read hold is gone from the row');
  const reader = start(handle, 'take', { lock: 'rw_read' });
  await within(reader.up, 'the reader');
  rw_downgrade(area.rw, t);
  assert.equal((await within(reader.done, 'the reader enters')).got, true);
  rw_assert(area.rw, t, false);
  assert.equal(rw_timedwlock(area.sx, t, 0), true);
  rw_wunlock(area.sx, t);
  rw_runlock(area.rw, t);
});

test('a lock that is not held cannot be given back, and deadlines hold', async () => {
  const handle = bring_up();
  const t = the_area();
  rw_wlock(area.rw, t);
  const late = start(handle, 'take', { lock: 'rw_read', ms: 20 });
  const r = await within(late.done, 'the deadline');
  assert.equal(r.got, false);
  assert.ok((r.waited as number) >= 19);
  rw_wunlock(area.rw, t);
  assert.equal(rw_timedrlock(area.rw, t, 0), true);
  rw_runlock(area.rw, t);
  assert.throws(() => rw_runlock(area.rw, t), /not held shared.*'user rw'/);
});

test('the exclusive hold of another is not mine to give back', () => {
  bring_up();
  assert.throws(() => rw_wunlock(area.rw, the_area()), /rw_wunlock: not owned.*'user rw'/);
});
