/*
 * Shows that no wake-up is lost, that a sleep ends with the right errno, and
 * that sleepers are woken oldest first: real workers pass tokens through
 * msleep and through a condition variable, time out, are aborted, and wait in
 * an event loop, or die on the way there.  The walker over the chains runs at the end of
 * each test.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { pcpu, pcpu_of, thr } from '../machine/cpu.ts';
import { EINTR, EWOULDBLOCK } from '../machine/errno.ts';
import type { Handle } from '../machine/machdep.ts';
import { mem } from '../machine/memory.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { field_word } from '../machine/struct.ts';
import { sleep, until, within } from '../machine/workers.test.lib.ts';
import { cv_broadcast, cv_timedwait, cv_wait_until } from './kern_condvar.ts';
import { mtx_lock, mtx_lock_word, mtx_owned, mtx_unlock, mtx_unlock_word } from './kern_mutex.ts';
import {
  msleep,
  sleepq_abort,
  sleepq_async_add,
  sleepq_async_end,
  sleepq_async_less,
  sleepq_async_more,
  sleepq_async_take,
  sleepq_chain_lock,
  sleepq_check,
  sleepq_list,
  tsleep,
  wakeup,
  wakeup_n,
  wakeup_one,
} from './subr_sleepqueue.ts';
import {
  all_move,
  area,
  type area_t,
  bring_up,
  leave,
  reaped,
  start,
  stop_jobs,
  the_area,
} from './sync.test.lib.ts';

/** How long the workers run at least, ms; how much each does, how much is handed over. */
const RUN_MS = 400;
const ROUNDS = 200;
const TOKENS = 200;
const CHECKS = 2000;
const ABORTS = 1000;
let handle: Handle;
let t: area_t;
let wchan = 0;
beforeEach(() => {
  handle = bring_up();
  t = the_area();
  wchan = field_word(area.tokens, t);
});
afterEach(() => {
  sleepq_check();
  leave();
});
const gate = (): number => atomic_load(field_word(area.gate, t));
const asleep = (n: number): Promise<void> =>
  until(() => sleepq_list().length === n, `${n} sleepers`);

for (const cv of [false, true]) {
  const means = cv ? 'a condition variable' : 'msleep and wakeup_one';
  test(`tokens through ${means}: none is lost`, async () => {
    const jobs = [
      start(handle, 'tokens', { seed: SEED, put: true, cv }),
      start(handle, 'tokens', { seed: SEED + 1, put: false, cv }),
      start(handle, 'tokens', { seed: SEED + 2, put: false, cv }),
    ];
    const cpus = await within(Promise.all(jobs.map((j) => j.up)), 'start');
    await sleep(RUN_MS);
    await all_move(t, cpus, ROUNDS);
    for (let i = 0; i < CHECKS; i++) sleepq_check(); // the walker may look while others sleep
    await until(() => atomic_load(field_word(area.got, t)) > TOKENS, 'tokens are handed over');
    stop_jobs(t);
    const waker = setInterval(() => wakeup(wchan), 20); // who slept when the putter stopped
    const counts = await within(Promise.all(jobs.map((j) => j.done)), `the jobs, seed ${SEED}`);
    clearInterval(waker);
    const sum = (name: string): number => counts.reduce((n, c) => n + (c[name] as number), 0);
    assert.ok(sum('got') > TOKENS, `work was done: ${JSON.stringify(counts)}`);
    assert.equal(area.tokens[t], sum('put') - sum('got'), `seed ${SEED}`);
    assert.equal(sleepq_list().length, 0);
  });
}

test('a sleep that nobody ends is over at its deadline, with the mutex held again', () => {
  mtx_lock(area.mtx, t);
  const before = performance.now();
  assert.equal(msleep(wchan, area.mtx, t, 'nobody', 30), EWOULDBLOCK);
  assert.ok(performance.now() - before >= 29);
  assert.ok(mtx_owned(area.mtx, t));
  assert.equal(cv_timedwait(wchan, area.mtx, t, 'nobody', 5), EWOULDBLOCK);
  assert.equal(
    cv_wait_until(wchan, area.mtx, t, 'nobody', 5, () => false),
    false,
  );
  assert.equal(
    cv_wait_until(wchan, area.mtx, t, 'done', 5, () => true),
    true,
  );
  mtx_unlock(area.mtx, t);
});

test('sleepers are woken oldest first, one or several at a time', async () => {
  const jobs = [];
  const cpus: unknown[] = [];
  for (let i = 0; i < 3; i++) {
    const j = start(handle, 'sleep');
    jobs.push(j);
    cpus.push(await within(j.up, 'start'));
    await asleep(i + 1);
  }
  assert.equal(wakeup_one(wchan), 1);
  const first = await within(jobs[0].done, 'the oldest');
  assert.deepEqual([first.error, first.order, first.cpu], [0, 1, cpus[0]]);
  assert.equal(wakeup_n(wchan, 5), 2);
  await within(Promise.all(jobs.map((j) => j.done)), 'the others');
  assert.equal(wakeup(wchan), 0, 'nobody is left');
});

test('a wakeup on another channel of the same chain wakes nobody', async () => {
  const j = start(handle, 'sleep');
  await asleep(1);
  for (let w = wchan + 1; w < wchan + 2000; w++) assert.equal(wakeup(w), 0);
  assert.equal(sleepq_list().length, 1, 'it sleeps on');
  assert.equal(wakeup(wchan), 1);
  assert.equal((await within(j.done, 'the sleeper')).error, 0);
});

test('an abort ends the sleep with its errno; before the sleep, it ends the next one', async () => {
  const j = start(handle, 'sleep');
  const cpu = await within(j.up, 'start');
  await asleep(1);
  sleepq_abort(cpu, EINTR);
  assert.equal((await within(j.done, 'the abort')).error, EINTR);
  sleepq_abort(thr.cpu, 60);
  mtx_lock(area.mtx, t);
  assert.equal(msleep(wchan, area.mtx, t, 'signalled', 1000), 60);
  assert.equal(msleep(wchan, area.mtx, t, 'only once', 2), EWOULDBLOCK);
  mtx_unlock(area.mtx, t);
  assert.equal(pcpu.signal[thr.pc], 0);
});

test('aborts and sleeps that cross: none is lost', async () => {
  const sleeper = start(handle, 'abortable');
  const victim = await within(sleeper.up, 'start');
  const aborter = start(handle, 'aborter', { victim });
  await within(aborter.up, 'start');
  await all_move(t, [victim], ABORTS);
  stop_jobs(t);
  const [a, s] = await within(Promise.all([aborter.done, sleeper.done]), 'an abort was lost');
  assert.ok(
    (a.n as number) >= ABORTS && (s.aborted as number) >= (a.n as number),
    JSON.stringify([a, s]),
  );
});

test('tsleep looks at its condition once it is queued', () => {
  assert.equal(
    tsleep(wchan, 'no need', 1000, () => false),
    0,
  );
  assert.equal(
    tsleep(wchan, 'need', 5, () => true),
    EWOULDBLOCK,
  );
});

test('many sleepers of one event loop: woken in order, until the table is full', async () => {
  const words: number[] = [];
  for (;;) {
    const w = sleepq_async_add(wchan, 'async');
    if (w === 0) break;
    words.push(w);
  }
  assert.ok(words.length >= 64, `${words.length} at once`);
  const waiting = words.map((w) => Atomics.waitAsync(mem.I32, w, 1));
  assert.equal(sleepq_async_end(words[1]), 0, 'the second gives up');
  assert.equal(wakeup_n(wchan, 2), 2);
  assert.equal(await waiting[0].value, 'ok');
  assert.equal(await waiting[2].value, 'ok');
  assert.equal(sleepq_async_end(words[0]), 1);
  assert.equal(sleepq_async_end(words[2]), 1);
  sleepq_check();
  const other = start(handle, 'sleep', { ms: 1 }); // a worker of its own on the same channel
  await within(other.done, 'the worker');
  assert.equal(wakeup(wchan), words.length - 3);
  for (const w of words.slice(3)) assert.equal(sleepq_async_end(w), 1);
  assert.notEqual(sleepq_async_add(wchan, 'again'), 0);
  cv_broadcast(wchan);
  assert.equal(gate(), 1);
});

test('a thread that dies on the way to its sleeper leaves the table as it was', async () => {
  const room = (): number => {
    const words: number[] = [];
    for (;;) {
      const w = sleepq_async_add(wchan, 'async');
      if (w === 0) break;
      words.push(w);
    }
    for (const w of words) sleepq_async_end(w);
    return words.length;
  };
  const before = room();
  const l = sleepq_chain_lock(wchan);
  assert.equal(mtx_lock_word(l, 0), 0);
  const dying = [start(handle, 'async'), start(handle, 'async')];
  for (const job of dying) {
    const cpu = await within(job.up, 'start');
    const waits = (): boolean => atomic_load(field_word(pcpu.waiting, pcpu_of(cpu))) === l;
    await until(waits, 'it has taken a record and waits for its chain');
    await job.worker.terminate();
  }
  mtx_unlock_word(l);
  await reaped(dying.length);
  assert.equal(room(), before);
});

test('a sleeper that stands for tasks is told once for each, and others in between', async () => {
  const [a, b] = [sleepq_async_add(wchan, 'three', 3), sleepq_async_add(wchan, 'one')];
  assert.deepEqual(
    sleepq_list().map(({ wmesg, tasks }) => [wmesg, tasks]),
    [
      ['three', 3],
      ['one', 1],
    ],
  );
  const other = start(handle, 'sleep', { ms: 60_000 }); // a worker sleeps behind them
  await until(() => sleepq_list().length === 3, 'it sleeps');
  assert.equal(wakeup_n(wchan, 1), 1);
  assert.equal(Atomics.load(mem.I32, a), 0, 'the oldest is told');
  assert.equal(wakeup_n(wchan, 2), 2);
  await within(other.done, 'it comes after the one, before the next of the three');
  assert.equal(Atomics.load(mem.I32, b), 0);
  sleepq_check();
  assert.equal(sleepq_async_end(b), 1);
  assert.equal(sleepq_async_take(a, 3), 1);
  assert.equal(Atomics.load(mem.I32, a), 1, 'it waits for more');
  assert.equal(wakeup(wchan), 3, 'all its tasks');
  assert.equal(wakeup(wchan), 0, 'it is off the chain');
  assert.equal(sleepq_async_more(a), true, 'wake-ups may have found nobody');
  assert.equal(wakeup_n(wchan, 1), 1);
  assert.equal(sleepq_async_less(a, 3), 3, 'one task is left, and one wake-up for it');
  assert.equal(sleepq_async_take(a, 1), 1);
  assert.equal(sleepq_async_more(a), false);
  sleepq_check();
  assert.equal(sleepq_async_end(a), 0);
  assert.deepEqual(sleepq_list(), []);
});

test('references of three workers: exactly one sees the last go', async () => {
  atomic_store(field_word(area.refs, t), 4); // one for each worker, one for this thread
  const jobs = [1, 2, 3].map((i) => start(handle, 'refs', { rounds: 20_000, seed: i }));
  const counts = await within(Promise.all(jobs.map((j) => j.done)), 'the jobs');
  assert.equal(
    counts.reduce((n, c) => n + (c.last as number), 0),
    0,
    'this thread still holds one',
  );
  assert.equal(atomic_load(field_word(area.refs, t)), 1);
});
