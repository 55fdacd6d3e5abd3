/*
 * A wake-up is never spent on somebody who cannot use it.
 *
 * This thread waits first, in its event loop, for a queue, a condition, a mutex; another
 * thread waits behind it.  Then this one gives up in some way: it disposes of the object,
 * its predicate throws, its time is over, its signal is aborted; before it is told, or
 * after.  What it was told must reach the other thread.  All slices are an hour long, so
 * nothing but a wake-up ends a sleep: one that is lost fails the test.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test, type TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import { atomic_load } from '../sys/machine/atomic.ts';
import { CPU_PARKED, cpu_state_word } from '../sys/machine/cpu.ts';
import { sleepq_list } from '../sys/sync/subr_sleepqueue.ts';
import { sleep, until, within } from '../sys/machine/workers.test.lib.ts';
import { failsAsync } from './fails.test.lib.ts';
import { type Machine, testMachine } from './index.ts';
import { slices } from './wait.ts';

const kept = { ...slices };
before(() => {
  slices.sleepMs = slices.asyncMs = 3_600_000;
});
after(() => Object.assign(slices, kept));

/** Starts the other thread; resolves when it sleeps, with what it will answer. */
async function behind(machine: Machine, job: string): Promise<{ answer: Promise<unknown> }> {
  const workerData = { kmem: machine.handle, job };
  const file = new URL('./told.test.worker.ts', import.meta.url);
  const worker = machine.adopt(new Worker(file, { workerData }));
  const [cpu] = await once(worker, 'message');
  const waits = (): boolean =>
    job === 'lock'
      ? (atomic_load(cpu_state_word(cpu)) & CPU_PARKED) !== 0
      : sleepq_list().some((one) => one.cpu === cpu);
  await until(waits, 'the other thread waits');
  const answer = once(worker, 'message').then(([got]) => got);
  return { answer: within(answer, `the other thread (${job}) hears of it`) };
}
function start(t: TestContext): Machine {
  const machine = testMachine(t, { cpus: 4 });
  // More than this thread uses them, so that they stay when it lets go.
  machine.queue('q', { capacity: 2 });
  machine.mutex('m');
  machine.condition('c');
  return machine;
}
const disposed = async (wait: Promise<unknown>): Promise<void> => {
  const e = await failsAsync('ESHUTDOWN', within(wait, 'the wait ends with its object'));
  assert.match(e.message, /it was disposed of: ask for it by name again/);
  assert.doesNotMatch(e.message, /left the machine/);
};

describe('a queue', () => {
  for (const job of ['pop', 'popAsync']) {
    test(`disposed of while it is waited for; the other: ${job}`, async (t) => {
      const machine = start(t);
      const q = machine.queue('q', { capacity: 2 });
      const waits = [q.popAsync(), q.popAsync()];
      const { answer } = await behind(machine, job);
      q.dispose();
      for (const wait of waits) await disposed(wait);
      machine.queue('q', { capacity: 2 }).push(7);
      assert.equal(await answer, 7);
    });
    test(`disposed of between the wake-up and its use; the other: ${job}`, async (t) => {
      const machine = start(t);
      const q = machine.queue('q', { capacity: 2 });
      const wait = q.popAsync();
      const { answer } = await behind(machine, job);
      q.push(7); // for us …
      q.dispose(); // … who let go
      await disposed(wait);
      assert.equal(await answer, 7);
    });
  }
  test('its space is told to another pusher', async (t) => {
    const machine = start(t);
    const q = machine.queue('q', { capacity: 2 });
    q.push(1);
    q.push(2);
    const wait = q.pushAsync(3);
    const { answer } = await behind(machine, 'push');
    assert.equal(q.pop(), 1);
    q.dispose();
    await disposed(wait);
    assert.equal(await answer, 'pushed');
    const again = machine.queue('q', { capacity: 2 });
    assert.deepEqual([again.pop(), again.pop()], [2, 9]);
  });
  test('a wait whose signal is aborted after it was told', async (t) => {
    const machine = start(t);
    const q = machine.queue('q', { capacity: 2 });
    const stop = new AbortController();
    const wait = q.popAsync({ signal: stop.signal });
    const { answer } = await behind(machine, 'pop');
    q.push(7);
    stop.abort(new Error('no more'));
    await assert.rejects(wait, /no more/);
    assert.equal(await answer, 7);
  });
});

describe('a condition', () => {
  for (const job of ['wait', 'waitAsync']) {
    const waits = async (machine: Machine, holds: () => boolean, timeout?: number) => {
      const m = machine.mutex('m');
      m.lock();
      const wait = machine.condition('c').waitAsync(m, holds, { timeout });
      wait.catch(() => {});
      return { wait, ...(await behind(machine, job)) };
    };
    test(`disposed of after the signal; the other: ${job}`, async (t) => {
      const machine = start(t);
      const c = machine.condition('c');
      const { wait, answer } = await waits(machine, () => false);
      c.signal();
      c.dispose();
      await disposed(wait);
      assert.equal(await answer, true);
    });
    test(`the mutex is disposed of; the other: ${job}`, async (t) => {
      const machine = start(t);
      const { wait, answer } = await waits(machine, () => false);
      machine.mutex('m').dispose();
      machine.condition('c').signal();
      await disposed(wait);
      assert.equal(await answer, true);
    });
    test(`the predicate throws; the other: ${job}`, async (t) => {
      const machine = start(t);
      let fail = false;
      const { wait, answer } = await waits(machine, () => {
        if (fail) throw new Error('predicate');
        return false;
      });
      fail = true;
      machine.condition('c').signal();
      await assert.rejects(wait, /predicate/);
      assert.equal(await answer, true);
    });
    test(`its time is over before the mutex is free; the other: ${job}`, async (t) => {
      const machine = start(t);
      const { wait, answer } = await waits(machine, () => false, 400);
      const m = machine.mutex('m');
      m.lock();
      machine.condition('c').signal();
      await failsAsync('ETIMEDOUT', wait);
      m.unlock();
      assert.equal(await answer, true);
    });
    test(`disposed of while it wants the mutex; the other: ${job}`, async (t) => {
      const machine = start(t);
      const { wait, answer } = await waits(machine, () => false);
      const m = machine.mutex('m');
      m.lock();
      machine.condition('c').signal();
      await sleep(50);
      machine.condition('c').dispose();
      await disposed(wait);
      assert.equal(m.owned, true);
      m.unlock();
      assert.equal(await answer, true);
    });
    test(`told while the mutex is held, and for long after; the other: ${job}`, async (t) => {
      const machine = start(t);
      let open = false;
      const { wait, answer } = await waits(machine, () => open);
      const m = machine.mutex('m');
      open = true;
      machine.condition('c').signal();
      await wait;
      machine.condition('c').signal();
      await sleep(100);
      assert.equal(m.owned, true);
      m.unlock();
      assert.equal(await answer, true);
    });
  }
  test('a blocking wait: the predicate throws once it was woken', async (t) => {
    const machine = start(t);
    const m = machine.mutex('m');
    const c = machine.condition('c');
    // The other thread waits first and wakes us; what it is told comes from our exception.
    const { answer } = await behind(machine, 'wait');
    m.lock();
    let asked = 0;
    const holds = (): boolean => {
      if (asked++ > 0) throw new Error('predicate');
      return false;
    };
    slices.sleepMs = 20; // the end of a slice is like a signal to us
    assert.throws(() => c.waitUntil(m, holds), /predicate/);
    slices.sleepMs = 3_600_000;
    assert.equal(m.owned, true);
    m.unlock();
    assert.equal(await answer, true);
  });
});

describe('a mutex', () => {
  test('disposed of while it is waited for: who waits behind gets it', async (t) => {
    const machine = start(t);
    const holder = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads');
       import(workerData.index).then(({ attach }) => {
         const m = attach(workerData.kmem).mutex('m');
         m.lock();
         parentPort.once('message', () => { m.unlock(); parentPort.postMessage('given back'); });
         parentPort.postMessage('held');
       });`,
      {
        eval: true,
        workerData: {
          kmem: machine.handle,
          index: new URL(`./index${import.meta.url.slice(-3)}`, import.meta.url).href,
        },
      },
    );
    machine.adopt(holder);
    await once(holder, 'message');
    const m = machine.mutex('m');
    const waits = [m.lockAsync(), m.lockAsync()];
    const { answer } = await behind(machine, 'lock');
    m.dispose();
    for (const wait of waits) await disposed(wait);
    holder.postMessage('give back');
    assert.equal(await answer, 'locked');
    await holder.terminate();
  });
  test('that this thread holds is EBUSY, and its waits go on', async (t) => {
    const machine = start(t);
    const m = machine.mutex('m');
    m.lock();
    const wait = m.lockAsync();
    await failsAsync(
      'EBUSY',
      Promise.resolve().then(() => m.dispose()),
    );
    m.unlock();
    await wait;
    m.unlock();
    m.dispose();
  });
});

describe('a zone and a type', () => {
  test('disposed of while they are waited for', async (t) => {
    const machine = testMachine(t, { cpus: 2, memory: '4M' });
    const z = machine.zone('z', { size: 2000, limit: 2 });
    const items = [];
    for (let i = z.tryAlloc(); i !== undefined; i = z.tryAlloc()) items.push(i);
    const wait = z.allocAsync();
    wait.catch(() => {});
    await until(() => sleepq_list().length > 0, 'it waits');
    const other = machine.type('other');
    const all = [];
    for (let p = other.tryAlloc(4096); p !== undefined; p = other.tryAlloc(4096)) all.push(p);
    const waiting = machine.type('t').allocAsync(4096);
    waiting.catch(() => {});
    await until(() => sleepq_list().length > 1, 'it waits');
    machine.type('t')[Symbol.dispose]();
    await disposed(waiting);
    for (const p of all) other.free(p);
    for (const i of items.splice(1)) z.free(i);
    await wait.then((i) => z.free(i));
    z.free(items[0]);
    const again = machine.zone('y', { size: 2000, limit: 1 });
    const kept_items = [];
    for (let i = again.tryAlloc(); i !== undefined; i = again.tryAlloc()) kept_items.push(i);
    const third = again.allocAsync();
    third.catch(() => {});
    for (const i of kept_items) again.free(i);
    again.dispose();
    await third.catch((e) => assert.equal(e.code, 'ESHUTDOWN'));
  });
});
