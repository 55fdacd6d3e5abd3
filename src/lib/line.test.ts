/*
 * Tasks of one event loop that wait for one thing: each is served in its turn, the kernel
 * sees one sleeper of the thread however many they are, and what comes free is told to as
 * many as can use it.  Three threads with thousands of tasks; where slices are an hour
 * long, nothing but wake-ups is left, so that one that is lost fails the test.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test, type TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import { sleepq_check, sleepq_list } from '../sys/sync/subr_sleepqueue.ts';
import { until, within } from '../sys/machine/workers.test.lib.ts';
import { failsAsync } from './fails.test.lib.ts';
import { type Machine, testMachine } from './index.ts';
import { slices } from './wait.ts';

/** Tasks in one thread; four times as many for a zone. */
const TASKS = 2500;
const HOUR = 3_600_000;
const pause = (ms: number): Promise<void> => new Promise((go) => setTimeout(go, ms));
const inTurn = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

interface Answer {
  turns: number[];
  got: unknown[];
}
interface Other<A> {
  answer: Promise<A>;
}
async function other<A = Answer>(machine: Machine, job: string, more = {}): Promise<Other<A>> {
  const workerData = { kmem: machine.handle, job, tasks: TASKS, ...more };
  const file = new URL('./line.test.worker.ts', import.meta.url);
  const worker = machine.adopt(new Worker(file, { workerData }));
  await once(worker, 'message');
  const answer = once(worker, 'message').then(([got]) => got as A);
  return { answer: within(answer, `the tasks of the other thread (${job})`) };
}
/** Makes slices an hour long for a test. */
function toldOnly(t: TestContext): void {
  const kept = { ...slices };
  slices.asyncMs = slices.sleepMs = HOUR;
  t.after(() => Object.assign(slices, kept));
}
/** Runs a task for each number; resolves with the numbers as they came to an end. */
async function tasks(n: number, run: (i: number) => Promise<unknown>): Promise<number[]> {
  const turns: number[] = [];
  await Promise.all(Array.from({ length: n }, (_, i) => run(i).then(() => turns.push(i))));
  return turns;
}
function check(machine: Machine): void {
  sleepq_check();
  machine.check();
}
const asleep = (wmesg: string): { tasks: number }[] =>
  sleepq_list().filter((s) => s.wmesg === wmesg);

describe('many tasks wait in one thread', () => {
  test('for eight items: all are served in turn, the kernel sees one sleeper', async (t) => {
    const machine = testMachine(t);
    const z = machine.zone('z', { size: 4096, limit: 8 });
    const held = [];
    for (let i = z.tryAlloc(); i !== undefined; i = z.tryAlloc()) held.push(i);
    const served = tasks(TASKS * 4, async () => {
      const item = await z.allocAsync({ timeout: HOUR });
      setImmediate(() => z.free(item));
    });
    assert.deepEqual(asleep('keglimit'), [{ ...asleep('keglimit')[0], tasks: TASKS * 4 }]);
    for (const item of held) z.free(item);
    assert.deepEqual(await within(served, 'all tasks'), inTurn(TASKS * 4));
    await until(() => z.used === 0, 'all items are free');
    assert.equal(z.stats.sleeps, TASKS * 4);
    assert.deepEqual(sleepq_list(), []);
    check(machine);
  });
  test('for values and for room: one wake-up each', async (t) => {
    toldOnly(t);
    const machine = testMachine(t);
    const q = machine.queue('q', { capacity: 8 });
    const popped = tasks(TASKS, async (i) => assert.equal(await q.popAsync(), i));
    assert.deepEqual(
      asleep('qpop').map((s) => s.tasks),
      [TASKS],
    );
    for (let i = 0; i < TASKS; ) {
      while (i < TASKS && q.tryPush(i)) i++;
      await pause(0);
    }
    assert.deepEqual(await within(popped, 'all pops'), inTurn(TASKS));
    const pushed = tasks(TASKS, (i) => q.pushAsync(i));
    for (let i = 0; i < TASKS; ) {
      for (let v = q.tryPop(); v !== undefined; v = q.tryPop()) assert.equal(v, i++);
      await pause(0);
    }
    assert.deepEqual(await within(pushed, 'all pushes'), inTurn(TASKS));
    assert.deepEqual(sleepq_list(), []);
    check(machine);
  });
  test('for a mutex', async (t) => {
    toldOnly(t);
    const machine = testMachine(t);
    const m = machine.mutex('m');
    m.lock();
    let inside = 0;
    const served = tasks(TASKS, () =>
      m.runAsync(async () => {
        assert.equal(++inside, 1);
        await null;
        inside--;
      }),
    );
    m.unlock();
    assert.deepEqual(await within(served, 'all tasks'), inTurn(TASKS));
    assert.equal(m.tryLock(), true);
    m.unlock();
    check(machine);
  });
  test('for a condition: a signal asks one, a broadcast all', async (t) => {
    toldOnly(t);
    const machine = testMachine(t);
    const m = machine.mutex('m');
    const c = machine.condition('c');
    const N = 1000;
    let asked = 0;
    let tokens = 0;
    const holds = (): boolean => {
      asked++;
      return tokens > 0;
    };
    const served = tasks(N, async () => {
      await m.lockAsync();
      await c.waitAsync(m, holds);
      tokens--;
      m.unlock();
    });
    await until(() => asked === N && m.tryLock(), 'all wait');
    tokens = 100;
    for (let i = 0; i < 100; i++) c.signal();
    m.unlock();
    await until(() => tokens === 0, 'a hundred are served');
    assert.equal(asked, N + 100);
    await until(() => m.tryLock(), 'the mutex is free');
    tokens = N - 100;
    c.broadcast();
    m.unlock();
    await within(served, 'all tasks');
    assert.equal(asked, 2 * N);
    check(machine);
  });
  test('for pages: small requests pass a large one, equal ones are served in turn', async (t) => {
    const machine = testMachine(t, { memory: '4M' });
    const hog = machine.type('hog');
    const all = [];
    for (const size of [65_536, 4096]) {
      for (let p = hog.tryAlloc(size); p !== undefined; p = hog.tryAlloc(size)) all.push(p);
    }
    const type = machine.type('t');
    const stop = new AbortController();
    const large = type.allocAsync(2 ** 20, { signal: stop.signal });
    large.catch(() => {});
    const served = tasks(1000, async () => {
      const at = await type.allocAsync(8192);
      setImmediate(() => type.free(at));
    });
    assert.equal(sleepq_list().length, 1);
    for (const p of all.splice(0, 8)) hog.free(p); // 64 KiB each, if those came first
    assert.deepEqual(await within(served, 'the small ones'), inTurn(1000));
    stop.abort(new RangeError('enough'));
    await assert.rejects(large, RangeError);
    await until(() => type.stats.inUse === 0, 'the small ones are free');
    for (const p of all) hog.free(p);
    check(machine);
  });
});

describe('three threads with many tasks each', () => {
  test('on eight items', async (t) => {
    const machine = testMachine(t, { cpus: 4 });
    const z = machine.zone('z', { size: 4096, limit: 8 });
    const held = [];
    for (let i = z.tryAlloc(); i !== undefined; i = z.tryAlloc()) held.push(i);
    const others = [await other(machine, 'alloc'), await other(machine, 'alloc')];
    const mine = tasks(TASKS, async () => {
      const item = await z.allocAsync();
      setImmediate(() => z.free(item));
    });
    assert.equal(asleep('keglimit').length, 3);
    for (const item of held) z.free(item);
    const order = inTurn(TASKS);
    assert.deepEqual(await within(mine, 'the tasks of this thread'), order);
    for (const { answer } of others) assert.deepEqual((await answer).turns, order);
    await until(() => z.used === 0, 'all items are free');
    check(machine);
  });
  test('on one queue: each value comes once, each thread is served in turn', async (t) => {
    toldOnly(t);
    const machine = testMachine(t, { cpus: 5 });
    const q = machine.queue('q', { capacity: 8 });
    const told = { told: true };
    const pops = [await other(machine, 'pop', told), await other(machine, 'pop', told)];
    const pushes = [await other(machine, 'push', told), await other(machine, 'push', told)];
    const got: unknown[] = [];
    for (const { answer } of pops) {
      const one = await answer;
      assert.deepEqual(one.turns, inTurn(TASKS));
      got.push(...one.got);
    }
    for (const { answer } of pushes) {
      assert.deepEqual((await answer).turns, inTurn(TASKS));
    }
    const twice = inTurn(TASKS).flatMap((i) => [i, i]);
    assert.deepEqual(
      (got as number[]).sort((a, b) => a - b),
      twice,
    );
    assert.equal(q.length, 0);
    assert.deepEqual(sleepq_list(), []);
    check(machine);
  });
  test('on a mutex that another thread hardly leaves', async (t) => {
    toldOnly(t);
    const machine = testMachine(t, { cpus: 4 });
    const m = machine.mutex('m');
    const hammer = await other<number>(machine, 'hammer');
    const locks = await other(machine, 'lock', { told: true, tasks: 100 });
    const mine = tasks(100, async () => {
      await m.lockAsync();
      m.unlock();
    });
    assert.deepEqual(await within(mine, 'the tasks of this thread'), inTurn(100));
    assert.deepEqual((await locks.answer).turns, inTurn(100));
    machine.queue('stop', { capacity: 8 }).push(1);
    assert.ok((await hammer.answer) > 0);
    check(machine);
  });
});

describe('a task that gives up', () => {
  test('its time: never too early, wherever it stands; the others wait on', async (t) => {
    toldOnly(t);
    const machine = testMachine(t);
    const q = machine.queue('q', { capacity: 8 });
    const first = q.popAsync();
    const late = tasks(1000, async (i) => {
      const timeout = 20 + (i % 50);
      const from = performance.now();
      await failsAsync('ETIMEDOUT', q.popAsync({ timeout }));
      assert.ok(performance.now() - from >= timeout);
    });
    const last = q.popAsync({ timeout: 2 ** 40 });
    await within(late, 'their times are over');
    assert.deepEqual(
      asleep('qpop').map((s) => s.tasks),
      [2],
    );
    q.push(1);
    q.push(2);
    assert.deepEqual(await within(Promise.all([first, last]), 'the others'), [1, 2]);
    check(machine);
  });
  test('what it was told goes to the next of the line, and to another thread', async (t) => {
    toldOnly(t);
    const machine = testMachine(t, { cpus: 3 });
    const q = machine.queue('q', { capacity: 8 });
    const stops = [1, 2, 3].map(() => new AbortController());
    const waits = stops.map(({ signal }) => q.popAsync({ signal }));
    for (const wait of waits) wait.catch(() => {});
    const behind = await other(machine, 'pop', { told: true, tasks: 2 });
    for (const value of [5, 6, 7]) q.push(value); // two for us, one for the others, or so
    for (const { signal } of stops.slice(0, 2)) assert.equal(signal.aborted, false);
    for (const stop of stops.slice(0, 2)) stop.abort(new RangeError('no more'));
    await assert.rejects(waits[0], RangeError);
    await assert.rejects(waits[1], RangeError);
    const mine = await within(waits[2], 'the third task');
    const theirs = (await behind.answer).got;
    assert.deepEqual([mine, ...theirs].map(Number).sort(), [5, 6, 7]);
    check(machine);
  });
  test('a signal whose waiter must wait for the mutex is heard when that is free', async (t) => {
    toldOnly(t);
    const machine = testMachine(t, { cpus: 3 });
    const m = machine.mutex('m');
    const c = machine.condition('c');
    let open = false;
    m.lock();
    const wait = c.waitAsync(m, () => open);
    m.lock();
    c.signal();
    await pause(5); // it was told, and the mutex is taken
    open = true;
    m.unlock();
    await within(wait, 'the waiter');
    assert.equal(m.owned, true);
    m.unlock();
    check(machine);
  });
});
