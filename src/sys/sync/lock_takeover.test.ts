/*
 * Shows that a thread that vanishes wedges nobody: workers are terminated at
 * random moments while they move items between two sides under a lock with an
 * undo log.  After each death the sum of the items must be whole and the
 * others must go on; read holds come back, a dead sleeper leaves its chain, a
 * program's lock is abandoned and can be recovered.  The numbers are printed.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { atomic_cas, atomic_load, atomic_store } from '../machine/atomic.ts';
import { counter_get } from '../machine/counter.ts';
import { pcpu, thr, thr_set } from '../machine/cpu.ts';
import { slot_joined, slot_start, slot_take, thr_forget } from '../machine/cpu_slots.ts';
import { death_oracle, reap_all, v_reap_locks } from '../machine/death.ts';
import { EOWNERDEAD } from '../machine/errno.ts';
import { host_sees_threads } from '../machine/host.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { field_word } from '../machine/struct.ts';
import { until, within } from '../machine/workers.test.lib.ts';
import { mtx_lock, mtx_recover, mtx_timedlock, mtx_unlock, mtx_unrecover } from './kern_mutex.ts';
import { rw_rlock, rw_runlock, rw_timedwlock, rw_wlock, rw_wunlock } from './kern_rwlock.ts';
import { abandoned, lock_owner_tid, RW_FLAGS, RW_WRITE } from './lock_word.ts';
import { rw_recover, rw_unrecover } from './rw_death.ts';
import { sleepq_check, sleepq_list, wakeup_one } from './subr_sleepqueue.ts';
import { save, undo_begin } from './undo.ts';
import { ITEMS, kill_movers } from './lock_takeover.test.lib.ts';
import { area, bring_up, leave, reaped, start, the_area } from './sync.test.lib.ts';

const skip = host_sees_threads() ? false : 'needs /proc to see that a thread is gone';
afterEach(leave);

describe('killed while moving items', { skip }, () => {
  test('under a mutex: whole sum, the others go on', async (c) => {
    c.diagnostic(await kill_movers(12, false, SEED));
  });
  test('under an sx lock: whole sum, the others go on', async (c) => {
    c.diagnostic(await kill_movers(12, true, SEED));
  });
});

describe('killed at a chosen point', { skip }, () => {
  test('half a move under a mutex is undone by the waiter that takes it over', async () => {
    const handle = bring_up();
    const t = the_area();
    atomic_store(field_word(area.left, t), ITEMS);
    const dead = start(handle, 'hold', { lock: 'undo' });
    await until(() => area.gate[t] === 1, 'it holds the lock');
    assert.equal(area.left[t], ITEMS - 7);
    const next = start(handle, 'take', { lock: 'undo' });
    await within(next.up, 'the waiter');
    await dead.worker.terminate();
    const r = await within(next.done, 'the take-over');
    assert.deepEqual(r.seen, { left: ITEMS, right: 0, sx_left: 0 });
    assert.equal(counter_get(v_reap_locks), 1);
  });

  test('half a move under a mutex is undone by the reaper, when nobody waits', async () => {
    const handle = bring_up();
    const t = the_area();
    atomic_store(field_word(area.left, t), ITEMS);
    const dead = start(handle, 'hold', { lock: 'undo' });
    await until(() => area.gate[t] === 1, 'it holds the lock');
    await dead.worker.terminate();
    await reaped(1);
    assert.equal(area.left[t], ITEMS);
    assert.equal(atomic_load(t + area.undo), 0);
  });

  test('the reaper gives an exclusive lock back too, and a reader finds it whole', async () => {
    const handle = bring_up();
    const t = the_area();
    atomic_store(field_word(area.sx_left, t), ITEMS);
    const dead = start(handle, 'hold', { lock: 'undo_sx' });
    await until(() => area.gate[t] === 1, 'it holds the lock');
    await dead.worker.terminate();
    await reaped(1);
    assert.equal(area.sx_left[t], ITEMS);
    assert.equal(atomic_load(t + area.undo_sx), 0);
    assert.equal(rw_timedwlock(area.undo_sx, t, 0), true);
    rw_wunlock(area.undo_sx, t);
  });

  test('a read hold of a dead thread comes back: a waiting writer gets in', async () => {
    const handle = bring_up();
    const t = the_area();
    const dead = start(handle, 'hold', { lock: 'rw_read' });
    await within(dead.up, 'the reader');
    await until(() => area.gate[t] === 1, 'it holds the lock');
    const writer = start(handle, 'take', { lock: 'rw_write' });
    await within(writer.up, 'the writer');
    await until(() => (atomic_load(t + area.rw) & 2) !== 0, 'the writer waits');
    await dead.worker.terminate();
    await reaped(1);
    assert.equal((await within(writer.done, 'the writer')).got, true);
  });

  test('a writer behind a dead reader gets in by itself, when nobody else reaps', async () => {
    const handle = bring_up();
    const t = the_area();
    const dead = start(handle, 'hold', { lock: 'rw_read' });
    await until(() => area.gate[t] === 1, 'it holds the lock');
    const writer = start(handle, 'take', { lock: 'rw_write' });
    await within(writer.up, 'the writer');
    await until(() => (atomic_load(t + area.rw) & 2) !== 0, 'the writer waits');
    await dead.worker.terminate();
    assert.equal((await within(writer.done, 'the writer')).got, true);
    await reaped(1);
  });

  test('a dead sleeper leaves its chain, and a wake-up it was sent goes to the next', async () => {
    const handle = bring_up();
    const t = the_area();
    const dead = start(handle, 'sleep');
    await until(() => sleepq_list().length === 1, 'it sleeps');
    const next = start(handle, 'sleep');
    await until(() => sleepq_list().length === 2, 'both sleep');
    await dead.worker.terminate();
    await reaped(1);
    assert.equal(sleepq_list().length, 1);
    sleepq_check();
    wakeup_one(field_word(area.tokens, t));
    assert.equal((await within(next.done, 'the next')).error, 0);
  });

  test('a wake-up spent on a sleeper that dies before it is back goes to the next', async () => {
    const handle = bring_up();
    const t = the_area();
    const dead = start(handle, 'sleep');
    await until(() => sleepq_list().length === 1, 'it sleeps');
    const next = start(handle, 'sleep');
    await until(() => sleepq_list().length === 2, 'both sleep');
    mtx_lock(area.mtx, t);
    wakeup_one(field_word(area.tokens, t));
    await until(() => (atomic_load(t + area.mtx) & 1) !== 0, 'the first waits for its mutex');
    await dead.worker.terminate();
    await reaped(1);
    mtx_unlock(area.mtx, t);
    assert.equal((await within(next.done, 'the next')).error, 0);
    sleepq_check();
  });

  test('a sleeper whose mutex was abandoned is told, and passes its wake-up on', async () => {
    const handle = bring_up();
    const t = the_area();
    const sleepers = [start(handle, 'sleep'), start(handle, 'sleep')];
    await until(() => sleepq_list().length === 2, 'both sleep');
    const dead = start(handle, 'hold', { lock: 'mtx' });
    await within(dead.up, 'the holder');
    await until(() => lock_owner_tid(t + area.mtx) !== 0, 'it holds the mutex');
    wakeup_one(field_word(area.tokens, t));
    await dead.worker.terminate();
    for (const j of sleepers) {
      assert.equal((await within(j.done, 'a sleeper')).error, EOWNERDEAD);
    }
    assert.equal(sleepq_list().length, 0);
  });

  for (const lock of ['undo', 'undo_sx'] as const) {
    test(`taken over by two who died of it, the first of them settled first: ${lock}`, () => {
      const { generation } = bring_up({ cpus: 4 });
      const t = the_area();
      const sx = lock === 'undo_sx';
      const [l, left] = [t + area[lock], sx ? area.sx_left : area.left];
      atomic_store(field_word(left, t), ITEMS);
      const cpus = [{ cpu: thr.cpu, pc: thr.pc, tid: thr.tid }];
      while (cpus.length < 4) {
        thr_forget();
        const taken = slot_take(generation);
        assert.ok(taken);
        slot_start(taken);
        slot_joined();
        cpus.push({ cpu: thr.cpu, pc: thr.pc, tid: thr.tid });
      }
      const become = (i: number): void => thr_set(cpus[i].cpu, cpus[i].pc, cpus[i].tid);
      /** What a taker has done when it has got the lock, and no more. */
      const takes = (from: number): void => {
        pcpu.recover_from[thr.pc] = cpus[from].tid;
        pcpu.recover_lock[thr.pc] = l;
        const v = atomic_load(l);
        assert.equal(atomic_cas(l, v, thr.tid | (v & (sx ? RW_FLAGS | RW_WRITE : 1))), v);
      };
      become(2);
      if (sx) rw_wlock(area.undo_sx, t);
      else mtx_lock(area.undo, t);
      if (sx) undo_begin(area.undo_sx, t);
      else undo_begin(area.undo, t);
      save(left, t);
      left[t] -= 7;
      become(1);
      takes(2);
      become(3);
      takes(1);
      become(0);
      death_oracle.dead = (cpu) => cpu !== 0;
      assert.equal(reap_all(), 3);
      death_oracle.dead = null;
      assert.equal(left[t], ITEMS);
      assert.equal(atomic_load(l) & ~RW_FLAGS, 0);
    });
  }

  for (const lock of ['mtx', 'rw_write'] as const) {
    test(`a program's lock whose owner is dead is abandoned: ${lock}`, async () => {
      const handle = bring_up();
      const t = the_area();
      const l = t + (lock === 'mtx' ? area.mtx : area.rw);
      const take = lock === 'mtx' ? () => mtx_lock(area.mtx, t) : () => rw_wlock(area.rw, t);
      const dead = start(handle, 'hold', { lock });
      const cpu = await within(dead.up, 'the holder');
      await until(() => area.gate[t] === 1, 'it holds the lock');
      const sleepers = [lock, lock === 'mtx' ? 'mtx' : 'rw_read'].map((name) =>
        start(handle, 'take', { lock: name }),
      );
      await within(Promise.all(sleepers.map((j) => j.up)), 'the sleepers');
      await dead.worker.terminate();
      for (const j of sleepers) {
        await assert.rejects(within(j.done, 'a sleeper'), /EOWNERDEAD/);
      }
      assert.throws(take, new RegExp(`EOWNERDEAD: .*'user .* at ${l * 4}: .*CPU ${cpu}`));
      assert.equal(abandoned(atomic_load(l)), true);
      await reaped(3); // the sleepers threw what they were told
      assert.throws(take, /EOWNERDEAD/, 'also once the thread is settled');
      assert.equal(lock === 'mtx' ? mtx_recover(l) : rw_recover(l), true);
      assert.equal(lock_owner_tid(l), thr.tid);
      if (lock === 'mtx') mtx_unrecover(l);
      else rw_unrecover(l);
      assert.throws(take, /EOWNERDEAD/, 'a recovery that fails leaves it abandoned');
      assert.equal(lock === 'mtx' ? mtx_recover(l) : rw_recover(l), true);
      if (lock === 'mtx') mtx_unlock(area.mtx, t);
      else rw_wunlock(area.rw, t);
      assert.equal(atomic_load(l), 0);
      assert.equal(lock === 'mtx' ? mtx_recover(l) : rw_recover(l), false, 'good already');
      const next = start(handle, 'take', { lock });
      assert.equal((await within(next.done, 'the next')).got, true);
    });
  }

  test('the new owner of a slot is not mistaken for the dead one', async () => {
    const handle = bring_up({ cpus: 2 });
    const t = the_area();
    atomic_store(field_word(area.left, t), ITEMS);
    const dead = start(handle, 'hold', { lock: 'undo' });
    const cpu = await within(dead.up, 'start');
    await until(() => area.gate[t] === 1, 'it holds the lock');
    await dead.worker.terminate();
    await reaped(1);
    atomic_store(field_word(area.gate, t), 0);
    const heir = start(handle, 'hold', { lock: 'rw_read' });
    assert.equal(await within(heir.up, 'the heir'), cpu);
    await until(() => area.gate[t] === 1, 'the heir reads');
    assert.equal(mtx_timedlock(area.undo, t, 0), true);
    mtx_unlock(area.undo, t);
    rw_rlock(area.rw, t);
    rw_runlock(area.rw, t);
    await heir.worker.terminate();
    await reaped(2);
    rw_wlock(area.rw, t);
    rw_wunlock(area.rw, t);
  });
});
