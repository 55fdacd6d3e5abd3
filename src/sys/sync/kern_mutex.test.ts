/*
 * Shows that the mutex excludes, wakes, times out, hands over and recurses as
 * it says: real workers raise two words under it and compare them inside; at
 * the end both equal the sum of what the workers counted.  Run with the
 * WebAssembly helper and with its stand-in by Atomics.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { atomic_load } from '../machine/atomic.ts';
import { KernelPanic } from '../machine/panic.ts';
import { mem, memory_state } from '../machine/memory.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { field_word } from '../machine/struct.ts';
import { sleep, within } from '../machine/workers.test.lib.ts';
import {
  mtx_assert,
  mtx_init,
  mtx_lock,
  mtx_owned,
  mtx_timedlock,
  mtx_trylock,
  mtx_unlock,
} from './kern_mutex.ts';
import { LC_USER_MTX, type LockClass, lock_order } from './lock_order.ts';
import { sleepq_check } from './subr_sleepqueue.ts';
import { area, bring_up, leave, all_move, start, stop_jobs, the_area } from './sync.test.lib.ts';

/** How long the workers run at least, ms, and how much each gets done. */
const RUN_MS = 300;
const ROUNDS = 1000;
afterEach(leave);

for (const atomics of ['wasm', 'atomics'] as const) {
  describe(`mutex by ${atomics}`, () => {
    test('three workers raise two words under it: no update is lost, everybody moves', async () => {
      const handle = bring_up({ atomics });
      assert.equal(memory_state.wasm, atomics === 'wasm');
      const t = the_area();
      const jobs = [1, 2, 3].map((i) => start(handle, 'mutex', { seed: SEED + i }));
      const cpus = await within(Promise.all(jobs.map((j) => j.up)), 'start');
      await sleep(RUN_MS);
      await all_move(t, cpus, ROUNDS);
      stop_jobs(t);
      const counts = await within(Promise.all(jobs.map((j) => j.done)), `the jobs, seed ${SEED}`);
      const n = counts.reduce((sum, c) => sum + (c.n as number), 0);
      assert.ok(n > 100, `work was done: ${n}`);
      assert.equal(area.a[t], n, `seed ${SEED}`);
      assert.equal(area.b[t], n, `seed ${SEED}`);
      assert.equal(mem.I32[t + area.mtx], 0, 'the mutex is free and no flag is left');
      sleepq_check();
    });
  });
}

test('a taker with a deadline gives up in time and leaves the lock usable', async () => {
  const handle = bring_up();
  const t = the_area();
  mtx_lock(area.mtx, t);
  const impatient = start(handle, 'take', { ms: 15 });
  const result = await within(impatient.done, 'the deadline');
  assert.equal(result.got, false);
  assert.ok((result.waited as number) >= 14, `waited ${result.waited}`);
  mtx_unlock(area.mtx, t);
  assert.ok(mtx_timedlock(area.mtx, t, 0), 'a free lock is taken at once even with no time');
  mtx_unlock(area.mtx, t);
});

test('a waiter gets the lock by hand-over from an owner that takes it again at once', async () => {
  const handle = bring_up();
  // The owner never leaves it free for longer than an instant; without a
  // hand-over the sleeping waiter would lose every race.
  const hog = start(handle, 'spin');
  await within(hog.up, 'the owner');
  const waiters = [1, 2].map(() => start(handle, 'take'));
  for (const w of waiters) {
    const r = await within(w.done, 'the hand-over');
    assert.equal(r.got, true);
  }
  await hog.worker.terminate();
});

test('try, owned and assert say who holds it', () => {
  bring_up();
  const t = the_area();
  assert.equal(mtx_trylock(area.mtx, t), true);
  assert.equal(mtx_owned(area.mtx, t), true);
  mtx_assert(area.mtx, t);
  mtx_unlock(area.mtx, t);
  assert.equal(mtx_owned(area.mtx, t), false);
  assert.throws(
    () => mtx_assert(area.mtx, t),
    (e) => e instanceof KernelPanic && /mtx_assert: not owned.*'user mtx'/.test(e.message),
  );
});

test('an unlock by one who does not hold it is a panic that names the lock', () => {
  bring_up();
  const t = the_area();
  assert.throws(
    () => mtx_unlock(area.mtx, t),
    (e) => e instanceof KernelPanic && e.message.includes(`'user mtx' at ${(t + area.mtx) * 4}`),
  );
});

test('recursion: a panic, unless the class allows it; then as many unlocks as locks', () => {
  bring_up();
  const t = the_area();
  const cls = lock_order[LC_USER_MTX] as { -readonly [K in keyof LockClass]: LockClass[K] };
  cls.recurse = true;
  try {
    mtx_lock(area.mtx, t);
    mtx_lock(area.mtx, t);
    assert.equal(mtx_trylock(area.mtx, t), true);
    mtx_unlock(area.mtx, t);
    mtx_unlock(area.mtx, t);
    assert.equal(mtx_owned(area.mtx, t), true);
    mtx_unlock(area.mtx, t);
    assert.equal(atomic_load(t + area.mtx), 0);
  } finally {
    cls.recurse = false;
  }
  mtx_lock(area.mtx, t);
  assert.throws(() => mtx_lock(area.mtx, t), /recursion on a lock that forbids it/);
});

test('a mutex made over junk is free', () => {
  bring_up();
  const t = the_area();
  mem.I32.fill(-559038737, t + area.mtx2, t + area.mtx2 + 4);
  mtx_init(area.mtx2, t, LC_USER_MTX);
  assert.equal(mtx_trylock(area.mtx2, t), true);
  mtx_unlock(area.mtx2, t);
  assert.equal(mem.I32[field_word(area.a, t)], 0);
});
