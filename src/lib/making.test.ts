/*
 * Named objects are made and ended in steps that anybody can finish.
 *
 * Shown on real threads: workers killed while they make and end objects lose
 * nothing; memory of an object that ends while another thread computes comes
 * back, and its name can be had at once; the next owner of a slot has no rights
 * of the one before; a wake-up is not spent on an object that is no more; waits
 * of dead threads give their records back; a number that two threads free at once
 * is freed once under INVARIANTS.  Each test ends with the walkers (testMachine).
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { KmemError, type Machine, testMachine } from './index.ts';
import { FILE, kill_makers, KINDS, lost, make_and_end, zones_now } from './making.test.lib.ts';
import { RACE, RACE_SHAPE, SMALL_QUEUE } from './making.test.worker.ts';
import { slices } from './wait.ts';
import { pcpu, pcpu_of } from '../sys/machine/cpu.ts';
import { ALL_WAYS, ways } from '../sys/machine/seed.test.lib.ts';
import { until } from '../sys/machine/workers.test.lib.ts';
import { sleepq_list } from '../sys/sync/subr_sleepqueue.ts';
import { witness_reports } from '../sys/sync/witness.ts';

function start(machine: Machine, job: string, data: object = {}): Worker {
  return machine.worker<Worker>(FILE, { workerData: { job, ...data } });
}
const shown = (machine: Machine, name: string): boolean =>
  machine
    .vmstat('z')
    .split('\n')
    .some((l) => l.startsWith(`${name}:`));

describe('killed while making and ending', () => {
  for (const INVARIANTS of ways([false, true])) {
    test(`nothing is lost, INVARIANTS ${INVARIANTS ? 'on' : 'off'}`, async (t) => {
      const machine = testMachine(t, { memory: '32M', cpus: 6, options: { INVARIANTS } });
      const zones = zones_now();
      const lanes = INVARIANTS ? (['mixed', 'mixed', 'records'] as const) : KINDS.slice(0, 3);
      const kills = await kill_makers(machine, lanes, (n) => n >= 12);
      assert.ok(kills >= 12);
      assert.deepEqual(lost(machine, zones), { pages: 0, items: '' });
      assert.equal(Number(machine.sysctl('vm.reap.items_lost')), 0);
    });
  }
});

test('in a checked boot, and in the order of the locks', async (t) => {
  const machine = testMachine(t, { cpus: 3, checked: true, options: { WITNESS: true } });
  const zones = zones_now();
  for (const name of ['a', 'b']) make_and_end(machine, 'mixed', name);
  machine.check();
  assert.equal(zones_now(), zones);
  assert.equal(witness_reports(), 0);
});

test('deaths keep the order of the locks', async (t) => {
  const machine = testMachine(t, { memory: '32M', cpus: 6, options: { WITNESS: true } });
  const zones = zones_now();
  await kill_makers(machine, ['mixed', 'mixed'], (n) => n >= 6);
  assert.deepEqual(lost(machine, zones), { pages: 0, items: '' });
  assert.equal(witness_reports(), 0);
});

describe('ended while another thread computes', () => {
  for (const kind of ['zone', 'records'] as const) {
    test(`${kind}: the memory comes back, and the name is free at once`, async (t) => {
      const machine = testMachine(t, { memory: '16M' });
      const worker = start(machine, 'silent');
      await once(worker, 'message');
      const zones = zones_now();
      const make = () =>
        kind === 'zone'
          ? machine.zone('r', { size: 64 })
          : machine.records('r', { a: 'f64' }, { capacity: 100_000 });
      for (let round = 0; round < 3; round++) {
        const go = new Int32Array(new SharedArrayBuffer(4));
        const first = make();
        worker.postMessage({ kind, name: 'r', go });
        await once(worker, 'message'); // used and let go of there; it computes now
        first.dispose();
        assert.ok(!shown(machine, 'r'), 'a zone that is going is not shown');
        const second = make();
        assert.ok(shown(machine, 'r'));
        assert.equal(zones_now(), zones + 2, 'the old one is on the list still');
        machine.check();
        second.dispose();
        const back = once(worker, 'message');
        Atomics.store(go, 0, 1);
        await back;
        await until(() => zones_now() === zones, 'the old zone has ended');
      }
    });
  }
});

describe('rights', () => {
  test('the page daemon has none of the worker that had its slot', async (t) => {
    // The slot of the worker is the one that the daemon takes: it attaches last.
    const machine = testMachine(t, { memory: '16M', cpus: 3, pagedaemon: true });
    const worker = start(machine, 'has');
    const [cpu] = await once(worker, 'message');
    await worker.terminate();
    const other = start(machine, 'has'); // whoever has the slot now
    await once(other, 'message');
    await other.terminate();
    machine.zone('zz', { size: 64 }).dispose();
    assert.ok(!shown(machine, 'zz'), 'no thread that lives has it');
    assert.equal(pcpu.program[pcpu_of(cpu as number)], 0, 'the bit went with the thread');
    const z = machine.zone('lim', { size: 4096, limit: 1 });
    const items = [];
    for (let x = z.tryAlloc(); x !== undefined; x = z.tryAlloc()) items.push(x);
    assert.throws(
      () => z.alloc({ wait: 20_000 }),
      (e) => e instanceof KmemError && e.code === 'EDEADLK',
    );
    for (const x of items) z.free(x);
  });
});

describe('waits', () => {
  test('a wake-up is not spent on an object that was disposed of', async (t) => {
    const machine = testMachine(t);
    const { asyncMs } = slices;
    slices.asyncMs = 60_000; // nothing but wake-ups is left
    t.after(() => {
      slices.asyncMs = asyncMs;
    });
    for (let i = 0; i < 4; i++) {
      const a = machine.queue('x', { capacity: 4 });
      const old = a.popAsync().then(
        () => 'value',
        (e: KmemError) => e.code,
      );
      await until(() => sleepq_list().some((s) => s.wmesg === 'qpop'), 'it waits');
      a.dispose();
      const b = machine.queue('x', { capacity: 4 });
      const next = b.popAsync();
      await until(() => sleepq_list().some((s) => s.wmesg === 'qpop'), 'it waits');
      b.push(7);
      assert.equal(await next, 7);
      assert.equal(await old, 'ESHUTDOWN');
      b.dispose();
    }
  });

  test('waits of dead threads give their records back', async (t) => {
    const machine = testMachine(t);
    for (let i = 0; i < 8; i++) {
      const worker = start(machine, 'waits');
      await once(worker, 'message');
      await worker.terminate();
    }
    await until(() => sleepq_list().length === 0, 'no record of a dead thread is on a chain');
    const queues = Array.from({ length: 200 }, (_, i) => machine.queue(`q${i}`, SMALL_QUEUE));
    const all = queues.map((q) => q.popAsync({ timeout: 240_000 }));
    await until(() => sleepq_list().length === 200, 'each has a record of the table');
    for (const [i, q] of queues.entries()) q.tryPush(i);
    assert.deepEqual(
      await Promise.all(all),
      queues.map((_, i) => i),
    );
  });
});

test('a number that two threads free at once is freed once', async (t) => {
  const machine = testMachine(t);
  const R = machine.records('race', ...RACE_SHAPE);
  const shared = new Int32Array(new SharedArrayBuffer(16));
  const worker = start(machine, 'race', { shared });
  await once(worker, 'message');
  for (let round = 1; round <= (ALL_WAYS ? 3000 : 1000); round++) {
    const item = R.alloc();
    Atomics.store(shared, RACE.answer, 0);
    Atomics.store(shared, RACE.item, item);
    Atomics.store(shared, RACE.round, round);
    while (Atomics.load(shared, RACE.ready) !== round);
    let mine = 2;
    try {
      R.free(item);
      mine = 1;
    } catch (e) {
      if (!(e instanceof KmemError && e.code === 'EINVAL')) throw e;
    }
    while (Atomics.load(shared, RACE.answer) === 0);
    assert.equal(mine + Atomics.load(shared, RACE.answer), 3, `round ${round}: exactly one`);
  }
  const gone = once(worker, 'exit'); // while it lives, numbers may lie in its cache
  Atomics.store(shared, RACE.round, -1);
  await gone;
  const all = new Set(Array.from({ length: R.capacity }, () => R.alloc()));
  assert.equal(all.size, R.capacity, 'no number is given out twice');
  for (const item of all) R.free(item);
});
