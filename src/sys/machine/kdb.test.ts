/*
 * Shown: CPUs that call the kernel stop where they are asked to, stand still, and go on when
 * they are let go, when the lease is over, or when the holder is dead; one that computes
 * is named; one that waits in its event loop is rung; a panic ends the hold.  The note
 * that a stopped CPU leaves says where it was.
 * By what means: two workers that count what they do in shared words.
 */
import assert from 'node:assert/strict';
import { cpu_stop_text } from './cpu_stop.ts';
import { once } from 'node:events';
import { after, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { boot, type Machine } from '../../lib/index.ts';
import { thr } from './cpu.ts';
import { EBUSY } from './errno.ts';
import { kconsole } from './kconsole.ts';
import {
  kdb_enter_begin,
  kdb_enter_end,
  kdb_active,
  kdb_hold,
  kdb_hold_left,
  kdb_release,
  kdb_running,
} from './kdb.ts';
import { panic } from './panic.ts';
import { sleep, until, within } from './workers.test.lib.ts';

const file = new URL('./kdb.test.worker.ts', import.meta.url);
const LONG = 3_600_000;
const started: Worker[] = [];
after(() => Promise.all(started.map((w) => w.terminate())));

interface Up {
  machine: Machine;
  words: Uint32Array;
  word: number;
  ended: Promise<string>[];
}
async function up(...jobs: string[]): Promise<Up> {
  const machine = boot({ memory: '8M', cpus: 4, fresh: true });
  const word = machine.index(machine.type('words').alloc(16, { zero: true }), 4);
  const ended: Promise<string>[] = [];
  for (const [id, job] of jobs.entries()) {
    const w = machine.worker<Worker>(file, { workerData: { job, word, id } });
    started.push(w);
    await within(once(w, 'message'), 'it is up');
    ended.push(within(once(w, 'message'), 'it ends').then(([text]) => text as string));
  }
  return { machine, words: machine.u32, word, ended };
}
const counts = ({ words, word }: Up): number[] => [0, 1].map((i) => Atomics.load(words, word + i));
/** Both have counted since. */
async function go_on(u: Up, from = counts(u)): Promise<void> {
  await until(() => counts(u).every((n, i) => n > from[i]), 'both go on');
}
async function end(u: Up): Promise<void> {
  Atomics.store(u.words, u.word + 2, 1);
  assert.deepEqual(await Promise.all(u.ended), ['', '']);
  await until(() => u.machine.memory().cpus === 1, 'they leave');
  u.machine.check();
  u.machine.shutdown();
}

test('they stop, stand still, and go on when they are let go', async () => {
  const u = await up('calls', 'calls');
  await go_on(u);
  for (let round = 0; round < 20; round++) {
    assert.equal(kdb_hold(LONG), 0);
    await until(() => kdb_running().length === 0, 'both stop');
    const before = counts(u);
    await sleep(5);
    assert.deepEqual(counts(u), before, 'they stand still');
    kdb_release();
    assert.equal(kdb_hold_left(), 0);
    await go_on(u, before);
  }
  await end(u);
});
test('a lease that is not renewed ends by itself', async () => {
  const u = await up('calls', 'calls');
  assert.equal(kdb_hold(50), 0);
  await until(() => kdb_hold_left() === 0, 'it ends');
  await go_on(u);
  await end(u);
});
test('one that computes is named; one that waits in its event loop is rung', async () => {
  const u = await up('calls', 'computes');
  assert.equal(kdb_hold(LONG), 0);
  await until(() => kdb_running().length === 1, 'the other one stops');
  assert.deepEqual(kdb_running(), [2]);
  kdb_release();
  await end(u);
});
test('another thread is refused meanwhile; the hold of one that dies is over', async () => {
  const u = await up('calls', 'calls');
  const start = (job: string): Worker => {
    const w = u.machine.worker<Worker>(file, { workerData: { job, word: u.word, id: 3 } });
    started.push(w);
    return w;
  };
  assert.equal(kdb_hold(LONG), 0);
  const tries = start('tries');
  const gone = once(tries, 'exit');
  assert.deepEqual(await within(once(tries, 'message'), 'it tries'), [EBUSY]);
  await within(gone, 'it leaves');
  kdb_release();
  await go_on(u);
  await within(once(start('holds'), 'exit'), 'it dies'); // held itself, this thread hears late
  await until(() => kdb_hold_left() === 0, 'its death is seen');
  await go_on(u);
  await end(u);
});
test('a panic ends the hold, and each CPU notes where it stopped', async () => {
  const { print } = kconsole;
  kconsole.print = () => {};
  const u = await up('calls', 'calls');
  assert.equal(kdb_hold(LONG), 0);
  await until(() => kdb_running().length === 0, 'both stop');
  const mine = thr.cpu;
  assert.throws(() => panic('a test believed'), /a test believed/);
  for (const text of await Promise.all(u.ended)) {
    assert.match(text, /^KernelPanic: cpu\d stopped: panic: a test believed$/);
  }
  assert.match(cpu_stop_text(mine), /^\S.* at kdb\.test\.[jt]s:\d+(?:\n|$)/);
  for (const cpu of [1, 2]) assert.match(cpu_stop_text(cpu), /free_small|malloc_small|uma_\S+/);
  kconsole.print = print;
  u.machine.detach();
});
test('one thread at a time is in the debugger', () => {
  const machine = boot({ memory: '2M', fresh: true });
  assert.equal(kdb_active(), false);
  assert.equal(kdb_enter_begin(), true);
  assert.equal(kdb_enter_begin(), false);
  assert.equal(kdb_active(), true);
  assert.equal(machine.sysctl('debug.kdb.stop_cpus'), 1);
  assert.throws(() => machine.sysctl('debug.kdb.enter', 1), { code: 'EBUSY' });
  kdb_enter_end();
  machine.shutdown();
});
