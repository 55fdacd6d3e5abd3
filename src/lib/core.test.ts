/*
 * What is shown: a thread that has loaded kmem/core alone and threads that have loaded all of
 * kmem share one machine, and what the core leaves out is refused, never half done.  By what
 * means: this file loads core.ts, and index.ts only where a test says so; its workers load the
 * one or the other.  The core settles a thread that dies with the caches of its chains, and
 * the walkers prove what it made of them.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test, type TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import { until, within } from '../sys/machine/workers.test.lib.ts';
import { type BootOptions, boot, KmemError, type Machine } from './core.ts';

function start(t: TestContext, options: BootOptions = {}): Machine {
  const machine = boot({ memory: '16M', cpus: 2, options: { INVARIANTS: true }, ...options });
  t.after(() => machine.shutdown());
  return machine;
}
/** What a worker answers; then it ends, by itself or by force. */
async function answer(machine: Machine, job: string, whole: boolean): Promise<unknown> {
  const workerData = { kmem: machine.handle, job, whole };
  const file = new URL('./core.test.worker.ts', import.meta.url);
  const worker = machine.adopt(new Worker(file, { workerData }));
  const ended = once(worker, 'exit');
  const [said] = await within(once(worker, 'message'), `the answer to ${job}`);
  if (job === 'chains') await worker.terminate();
  await within(ended, 'the end of the worker');
  return said;
}
function refused(call: () => unknown): KmemError {
  try {
    call();
  } catch (e) {
    assert.ok(e instanceof KmemError, `${e}`);
    assert.equal(e.code, 'EOPNOTSUPP', e.message);
    return e;
  }
  return assert.fail('it was not refused');
}
const LEFT_OUT: Record<string, (machine: Machine) => unknown> = {
  chain: (machine) => machine.chain('text'),
  adoptChain: (machine) => machine.adoptChain(4096),
  chainSites: (machine) => machine.chainSites(),
  stats: (machine) => machine.stats(),
  vmstat: (machine) => machine.vmstat(),
  netstat: (machine) => machine.netstat(),
  procstat: (machine) => machine.procstat(),
  collect: (machine) => machine.collect(),
  metrics: (machine) => machine.metrics(),
  observe: (machine) => machine.observe({ metrics: { getMeter: () => ({}) } } as never),
  dump: (machine) => machine.dump('/nonexistent/file'),
};
const OPTIONS = ['WITNESS', 'MUTEX_PROFILING', 'CHECKED'] as const;

describe('the core alone', () => {
  test('each call that it leaves out says how to have it', async (t) => {
    const machine = start(t);
    for (const [name, call] of Object.entries(LEFT_OUT)) {
      const e = refused(() => call(machine));
      assert.equal(e.op, name);
      assert.match(e.message, /await import\('kmem'\)/);
    }
    await assert.rejects(machine.listen(), (e: KmemError) => e.code === 'EOPNOTSUPP');
    machine.check();
  });
  test('options and dumps that need the rest are refused before anything is made', (t) => {
    for (const name of OPTIONS) {
      assert.match(refused(() => boot({ options: { [name]: true } })).message, RegExp(name));
    }
    refused(() => boot({ checked: true }));
    refused(() => boot({ dump: '/tmp' }));
    start(t).check(); // the thread is free to boot
  });
  test('it guards no blocks: variables that ask for it are refused', (t) => {
    const machine = start(t);
    for (const [name, value] of Object.entries({ desc: 'x', frequency: 1, options: 2 })) {
      const e = refused(() => machine.sysctl(`vm.memguard.${name}`, value));
      assert.match(e.message, /has loaded kmem\/core alone: load 'kmem' first/);
    }
    machine.shutdown();
    const e = refused(() => boot({ set: { 'vm.memguard.frequency': 5 } }));
    assert.match(e.message, /vm\.memguard: kmem\/core leaves it out/);
    assert.throws(
      () => boot({ set: { 'vm.memguard.desc': 'x' } }),
      /EOPNOTSUPP|core leaves it out/,
    );
    start(t).check(); // the thread is free to boot
  });
  test('it answers for the variables of what it leaves out: they do not run', (t) => {
    const machine = start(t);
    assert.equal(machine.sysctl('debug.witness.badstacks'), 'Witness not running');
    assert.equal(machine.sysctl('debug.witness.fullgraph'), 'Witness not running');
    assert.equal(machine.sysctl('debug.mutex.prof.stats'), 'No locking recorded');
    assert.equal(machine.sysctl('debug.mutex.prof.acquisitions'), 0);
    assert.equal(machine.sysctl('debug.mutex.prof.reset', 1), 0);
  });
  test('a thread with everything comes and goes, and dies; the core settles it', async (t) => {
    const machine = start(t);
    for (let i = 0; i < 2; i++) {
      assert.equal(await answer(machine, 'chains', true), 'made chains');
      await until(() => machine.sysctl('kern.smp.cpus') === 1, 'its slot is free');
      machine.check();
    }
    assert.equal(machine.sysctl('vm.reap.cpus'), 2);
    assert.equal(machine.sysctl('vm.reap.items_lost'), 0);
  });
  test('blocks go to another thread with the core alone, which frees them', async (t) => {
    const machine = start(t);
    const type = machine.type('block');
    const queue = machine.queue('blocks', { of: type, capacity: 16 });
    const counted = answer(machine, 'blocks', false);
    for (let i = 0; i < 1000; i++) {
      const at = type.alloc(16 + (i % 300));
      machine.store32(at, i);
      await queue.pushAsync(at);
    }
    queue.close();
    assert.equal(await counted, 1000);
    assert.equal(type.stats.inUse, 0);
    machine.check();
  });
});

// From here on this thread has everything: these come last.
describe('the rest, loaded later', () => {
  test('the machine that the core booted has all calls', async (t) => {
    const machine = start(t);
    const whole = await import('./index.ts');
    assert.equal(whole.current(), machine);
    const chain = machine.chain('text');
    assert.equal(chain.text(), 'text');
    chain.free();
    assert.match(machine.vmstat('z'), /mbuf/);
    assert.ok(machine.collect().includes('kmem_memory_size_bytes'));
    whole.assertNoLeaks(machine);
  });
  for (const name of OPTIONS) {
    test(`${name}: a thread with the core alone cannot attach, and takes no slot`, async (t) => {
      await import('./index.ts');
      const machine = start(t, { options: { [name]: true } });
      for (let i = 0; i < 3; i++) {
        const said = String(await answer(machine, 'cpu', false));
        assert.match(said, RegExp(`EOPNOTSUPP.*attach: the option .*${name}.* kmem/core`));
      }
      assert.equal(await answer(machine, 'cpu', true), 1);
      machine.check();
    });
  }
});
