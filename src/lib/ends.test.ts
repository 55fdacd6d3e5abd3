/*
 * What says nothing when another thread has ended the machine: leaving, letting go of what this
 * thread has, the end of a park, what the event loop runs for the library.  Calls say
 * ESHUTDOWN.  ends.slow.test.ts does the same at random moments; here each has its line, with the
 * machine down for sure.  And a thread that ends while it is parked has left.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { until, within } from '../sys/machine/workers.test.lib.ts';
import { fails } from './fails.test.lib.ts';
import { boot, type Machine, type OtelApi, testMachine } from './index.ts';

const end = import.meta.url.slice(-3); // .ts, or .js where it is compiled
const index = JSON.stringify(new URL(`./index${end}`, import.meta.url).href);
/** A thread that attaches and does something. */
function other(machine: Machine, does: string): Worker {
  const program = `
    const { parentPort, workerData } = require('node:worker_threads');
    import(${index}).then(({ attach }) => {
      const machine = attach(workerData);
      ${does}
    });`;
  return new Worker(program, { eval: true, workerData: machine.handle });
}
async function endedByOther(machine: Machine): Promise<void> {
  const worker = other(machine, 'machine.shutdown();');
  const [code] = await within(once(worker, 'exit'), 'the thread that ends the machine');
  assert.equal(code, 0);
  assert.equal(machine.up, false);
}
/** Everything that a program lets go of, by name. */
function held(machine: Machine): Record<string, Disposable> {
  const type = machine.type('t');
  const space = machine.space('s');
  const region = space.mmap({ length: 8192 });
  return {
    'a mutex that is held': machine.mutex('m').lock(),
    'a shared hold': machine.rwlock('r').lockRead(),
    'an exclusive hold': machine.rwlock('w').lockWrite(),
    'a block': type.block(100),
    'a chain': machine.chain('text'),
    'a zone': machine.zone('z', { size: 64 }),
    records: machine.records('r', { x: 'f64' }, { capacity: 10 }),
    'a queue': machine.queue('q'),
    'a mutex': machine.mutex('other'),
    'an rwlock': machine.rwlock('other'),
    'a condition': machine.condition('c'),
    'a type': type,
    'a window': region.window(0, 4096),
    'a region': region,
    'a space': space,
    'a subscription': machine.onLowMemory(() => {}),
    'a machine': machine,
  };
}

describe('a machine that another thread has ended', () => {
  for (const left of [false, true]) {
    const when = left ? ', when this one has left' : '';
    test(`to let go of anything says nothing${when}`, async () => {
      const machine = boot({ memory: '8M' });
      const all = held(machine);
      await endedByOther(machine);
      if (left) machine.shutdown();
      for (const [name, one] of Object.entries(all)) {
        assert.doesNotThrow(() => one[Symbol.dispose](), name);
      }
      fails('ESHUTDOWN', () => machine.stats());
    });
  }
  test('the end of a park says nothing, the next call does', async () => {
    const machine = boot({ memory: '8M' });
    const parked = machine.park();
    await endedByOther(machine);
    parked[Symbol.dispose]();
    fails('ESHUTDOWN', () => machine.stats());
    machine.detach();
  });
  test('a reader of OpenTelemetry gets nothing', async () => {
    const readers = new Set<(r: { observe(): void }) => void>();
    const meter = {
      createObservableGauge: () => ({}),
      createObservableCounter: () => ({}),
      addBatchObservableCallback: (read: never) => readers.add(read),
      removeBatchObservableCallback: (read: never) => readers.delete(read),
    };
    const api = { metrics: { getMeter: () => meter } } as unknown as OtelApi;
    const machine = boot({ memory: '8M' });
    const observed = machine.observe(api);
    let figures = 0;
    const read = (): void => {
      for (const one of readers) one({ observe: () => void figures++ });
    };
    read();
    const before = figures;
    assert.ok(before > 0);
    await endedByOther(machine);
    read();
    machine.shutdown();
    read();
    assert.equal(figures, before);
    observed[Symbol.dispose]();
    assert.equal(readers.size, 0);
  });
});

test('a thread that ends while it is parked has left', async (t) => {
  const machine = testMachine(t, { cpus: 2 });
  const caches = "const t = machine.type('t'); t.free(t.alloc(10));";
  for (const ends of [
    'machine.park();',
    'machine.park(); process.exit();',
    'machine.away(() => process.exit());',
  ]) {
    const worker = other(machine, `${caches} ${ends}`);
    const [code] = await within(once(worker, 'exit'), 'the thread');
    assert.equal(code, 0, ends);
    await until(() => machine.memory().cpus === 1, `its slot is free: ${ends}`);
  }
});
