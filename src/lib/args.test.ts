/*
 * What programs pass that is no argument: refused by an error that names it, before
 * anything is changed; never converted, and never a call of the program's code under a
 * lock of the kernel.
 *
 * Each call gets each odd value in turn.  Options are objects whose getters throw, or
 * call the machine; listeners of the diagnostics channels call the machine as well: a
 * lock that were held at that time would panic (recursion) or hang.
 */
import assert from 'node:assert/strict';
import diagnostics from 'node:diagnostics_channel';
import { describe, test } from 'node:test';
import { boot, KmemError, type Machine, testMachine, type Zone } from './index.ts';
import { fails, failsAsync } from './fails.test.lib.ts';
import { writableChains } from './chain_web.ts';
import { chainWritable } from './streams.ts';

/** What is no number from 0 on in any way. */
const ODD: readonly unknown[] = [
  Number.NaN,
  -1,
  0.5,
  2 ** 53,
  Number.POSITIVE_INFINITY,
  '8',
  null,
  true,
  8n,
  Symbol('s'),
  {},
  [8],
  () => 8,
  new Proxy({}, {}),
  {
    valueOf() {
      throw new Error('converted');
    },
    toString() {
      throw new Error('converted');
    },
  },
];
const FUNCTIONS = ODD.filter((odd) => typeof odd === 'function');
/** Runs a call with each odd value that is odd for it: EINVAL or EFAULT, or TypeError for none. */
function refusesOdd(
  name: string,
  call: (odd: never) => unknown,
  but: readonly unknown[] = [],
): void {
  for (const odd of ODD) {
    if (but.includes(odd)) continue;
    const what = `${name}(${typeof odd === 'object' ? 'an object' : String(odd)})`;
    try {
      call(odd as never);
    } catch (e) {
      assert.ok(e instanceof KmemError, `${what}: ${e}`);
      assert.ok(['EINVAL', 'EFAULT'].includes(e.code), `${what}: ${e}`);
      continue;
    }
    assert.fail(`${what} was accepted`);
  }
}

describe('what is to be true or false', () => {
  /** Neither true nor false, whatever a condition makes of it. */
  const NEITHER = ['yes', 'false', '', 1, 0, null, {}, [], () => true, 1n];
  test('at boot: kernel options too; nothing is up afterwards', () => {
    for (const odd of NEITHER as never[]) {
      for (const name of ['debug', 'checked', 'fresh', 'pagedaemon', 'opfs']) {
        const e = fails('EINVAL', () => boot({ memory: '8M', [name]: odd }));
        const no = name === 'debug' && typeof odd === 'string' ? 'level: give off' : 'boolean';
        assert.match(e.message, new RegExp(`boot: ${name}: .* is no ${no}`));
      }
      const e = fails('EINVAL', () => boot({ memory: '8M', options: { INVARIANTS: odd } }));
      assert.match(e.message, /options INVARIANTS: .* is no boolean/);
    }
    const machine = boot({ memory: '8M', debug: false, fresh: undefined, options: {} });
    machine.shutdown();
  });
  test('in every call that has such an option; nothing is taken or changed', async (t) => {
    const machine = testMachine(t);
    const type = machine.type('t');
    const z = machine.zone('z', { size: 64 });
    const R = machine.records('r', { x: 'i32' }, { capacity: 10 });
    const block = type.alloc(64);
    const chain = machine.chain();
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    for (const odd of NEITHER as never[]) {
      const zero = { zero: odd };
      for (const call of [
        () => type.alloc(16, zero),
        () => type.tryAlloc(16, zero),
        () => type.realloc(block, 500, zero),
        () => z.alloc(zero),
        () => z.tryAlloc(zero),
        () => R.alloc(zero),
        () => R.tryAlloc(zero),
        () => machine.records('s', { x: 'i32' }, { capacity: 10, generations: odd }),
        () => chain.adopt(type, block, 64, { front: odd }),
        () => machine.trace(odd),
        () => writableChains(machine, writable, { shared: odd }),
        () => chainWritable(process.stderr, { shared: odd }),
      ]) {
        const e = fails('EINVAL', call);
        assert.match(e.message, /neither true nor false/);
      }
      await failsAsync('EINVAL', type.allocAsync(16, zero));
      await failsAsync('EINVAL', z.allocAsync(zero));
      await failsAsync('EINVAL', R.allocAsync(zero));
      await failsAsync('EINVAL', machine.listen({ signals: odd }));
    }
    assert.equal(readable.locked || writable.locked, false);
    assert.deepEqual([type.stats.inUse, z.used, chain.length], [1, 0, 0]);
    type.free(block);
    z.free(z.alloc({ zero: true }));
  });
});

describe('odd arguments', () => {
  test('are refused by each call, and nothing is changed', (t) => {
    const machine = testMachine(t);
    const type = machine.type('t');
    const zone = machine.zone('z', { size: 32 });
    const R = machine.records('r', { x: 'f64' }, { capacity: 10 });
    const q = machine.queue('q', { capacity: 2 });
    const chain = machine.chain('0123456789');
    const at = type.alloc(64);
    const item = R.alloc();
    const far = Number.POSITIVE_INFINITY;
    refusesOdd('machine.load8', (v) => machine.load8(v));
    refusesOdd('machine.load32', (v) => machine.load32(v));
    refusesOdd('machine.bytes', (v) => machine.bytes(at, v));
    refusesOdd('machine.fill', (v) => machine.fill(at, 4, v));
    refusesOdd('machine.copyIn', (v) => machine.copyIn(at, v));
    refusesOdd('machine.writeText', (v) => machine.writeText(at, v, 10), ['8']);
    refusesOdd('realloc', (v) => type.realloc(at, v));
    refusesOdd('tryAlloc', (v) => type.tryAlloc(v));
    refusesOdd('allocText', (v) => type.allocText(v), ['8']);
    refusesOdd('usableSize', (v) => type.usableSize(v));
    refusesOdd('alloc.wait', (v) => type.alloc(8, { wait: v }), [true, 0.5, 2 ** 53, far]);
    refusesOdd('zone.alloc.wait', (v) => zone.alloc({ wait: v }), [true, 0.5, 2 ** 53, far]);
    refusesOdd('zone.size', (v) => machine.zone('odd', { size: v }));
    refusesOdd('zone.limit', (v) => machine.zone('odd', { size: 8, limit: v }));
    refusesOdd('zone.align', (v) => machine.zone('odd', { size: 8, align: v }));
    refusesOdd('records.capacity', (v) => machine.records('odd', { x: 'f64' }, { capacity: v }));
    refusesOdd('records.kind', (v) => machine.records('odd', { x: v }, { capacity: 5 }));
    refusesOdd('records.set', (v) => R.set(item, { x: v }), [Number.NaN, -1, 0.5, 2 ** 53, far]);
    refusesOdd('queue.capacity', (v) => machine.queue('odd', { capacity: v }));
    refusesOdd('queue.of', (v) => machine.queue('odd', { of: v }));
    refusesOdd('pop.timeout', (v) => q.pop({ timeout: v }), [0.5, 2 ** 53, far]);
    refusesOdd('push', (v) => q.push(v), [Number.NaN, -1, 0.5, 2 ** 53, far]);
    refusesOdd('roots.set', (v) => machine.roots.set('r', v), [-1, 0.5, 2 ** 53, far]);
    refusesOdd('roots.get', (v) => machine.roots.get(v), ['8']);
    refusesOdd('type', (v) => machine.type(v), ['8']);
    refusesOdd('mutex', (v) => machine.mutex(v), ['8']);
    refusesOdd('sysctl', (v) => machine.sysctl(v), ['8']);
    refusesOdd('sysctl value', (v) => machine.sysctl('vm.lowmem_period', v), [8n]);
    refusesOdd('records.forEach', (v) => R.forEach(v), FUNCTIONS);
    refusesOdd('mutex.run', (v) => machine.mutex('m').run(v), FUNCTIONS);
    refusesOdd('recover', (v) => machine.mutex('m').recover(v), FUNCTIONS);
    refusesOdd('rwlock.read', (v) => machine.rwlock('l').read(v), FUNCTIONS);
    refusesOdd('rwlock.write', (v) => machine.rwlock('l').write(v), FUNCTIONS);
    refusesOdd('condition.wait', (v) => machine.condition('c').wait(v));
    refusesOdd('waitUntil', (v) => machine.condition('c').waitUntil(v, () => true));
    refusesOdd('away', (v) => machine.away(v), FUNCTIONS);
    refusesOdd('observe', (v) => machine.observe(v));
    refusesOdd('append', (v) => chain.append(v), ['8']);
    refusesOdd('slice', (v) => chain.slice(v));
    refusesOdd('split', (v) => chain.split(v));
    refusesOdd('discard', (v) => chain.discard(v));
    refusesOdd('getUint8', (v) => chain.getUint8(v));
    refusesOdd('indexOf', (v) => chain.indexOf(v), ['8']);
    refusesOdd('adopt', (v) => chain.adopt(type, at, v));
    refusesOdd('adopt.type', (v) => chain.adopt(v, at, 8));
    refusesOdd('adoptChain', (v) => machine.adoptChain(v));
    assert.equal(chain.text(), '0123456789');
    assert.equal(q.length, 0);
    assert.deepEqual(R.get(item).x, 0);
    chain.free();
    R.free(item);
    type.free(at);
    machine.check();
  });
  test('of calls that look at no type on their fast path', (t) => {
    const machine = testMachine(t);
    const type = machine.type('t');
    const zone = machine.zone('z', { size: 32 });
    const R = machine.records('r', { x: 'f64' }, { capacity: 10 });
    const G = machine.records('g', { x: 'f64' }, { capacity: 10, generations: true });
    const at = type.alloc(64, { zero: true });
    const item = zone.alloc();
    const used = [R.alloc(), G.alloc()];
    const far = Number.POSITIVE_INFINITY;
    const numbers = ODD.filter((odd) => typeof odd === 'number');
    refusesOdd('machine.store8', (v) => machine.store8(at, v), numbers);
    refusesOdd('machine.store16', (v) => machine.store16(at, v), numbers);
    refusesOdd('machine.store32', (v) => machine.store32(at, v), numbers);
    refusesOdd('machine.store64f', (v) => machine.store64f(at, v), numbers);
    refusesOdd('machine.store8 at', (v) => machine.store8(v, 1));
    refusesOdd('machine.index', (v) => machine.index(at, v));
    refusesOdd('machine.index at', (v) => machine.index(v, 4));
    refusesOdd('machine.readText', (v) => machine.readText(at, v));
    refusesOdd('machine.writeText max', (v) => machine.writeText(at, 'x', v), [far, 2 ** 53]);
    refusesOdd('onLowMemory', (v) => machine.onLowMemory(v), FUNCTIONS);
    assert.match(
      fails('EINVAL', () => machine.onLowMemory(5 as never)).message,
      /5 is no function/,
    );
    refusesOdd('free', (v) => type.free(v));
    refusesOdd('zone.free', (v) => zone.free(v));
    refusesOdd('records.free', (v) => R.free(v));
    refusesOdd('records.free of handles', (v) => G.free(v));
    refusesOdd('records.index of handles', (v) => G.index(v));
    for (const odd of ODD) assert.equal(R.has(odd as never) || G.has(odd as never), false);
    refusesOdd('records.get', (v) => R.get(v));
    refusesOdd('records.get of handles', (v) => G.get(v));
    refusesOdd('records.set item', (v) => R.set(v, { x: 1 }));
    refusesOdd('realloc at', (v) => type.realloc(v, 8));
    assert.equal(machine.load64f(at), 0, 'nothing was stored');
    assert.deepEqual([type.stats.inUse, zone.used, R.count, G.count], [1, 1, 1, 1]);
    R.free(used[0] as never);
    G.free(used[1] as never);
    zone.free(item);
    type.free(at);
    machine.check();
  });
  test('options that are no object', (t) => {
    const machine = testMachine(t);
    const q = machine.queue('q', { capacity: 2 });
    for (const odd of [null, 5, 'x', true, Symbol('s'), 8n] as never[]) {
      for (const call of [
        () => machine.type('t').tryAlloc(8, odd),
        () => machine.zone('z', odd),
        () => machine.records('r', { x: 'f64' }, odd),
        () => machine.records('r', odd, { capacity: 5 }),
        () => machine.queue('odd', odd),
        () => q.push(1, odd),
        () => machine.mutex('m').lock(odd),
        () => machine.rwlock('l').lockRead(odd),
        () => machine.rwlock('l').write(() => {}, odd),
        () => machine.records('r', { x: 'f64' }, { capacity: 5 }).set(1 as never, odd),
        () => machine.adopt(odd),
        () => machine.chain('x', odd),
      ]) {
        fails('EINVAL', call);
      }
    }
    machine.check();
  });
  test('of asynchronous calls: the promise rejects, and no lock is held', async (t) => {
    const machine = testMachine(t);
    const m = machine.mutex('m');
    const c = machine.condition('c');
    for (const odd of [null, 5, 'x', true, Symbol('s'), 8n] as never[]) {
      for (const call of [
        () => m.lockAsync(odd),
        () => m.runAsync(odd),
        () => m.runAsync(() => {}, odd),
        () => c.waitAsync(odd, () => true),
        () => m.tryLock() && c.waitAsync(m, odd),
        () => m.tryLock() && c.waitAsync(m, () => true, odd),
        () => machine.listen(odd),
        () => machine.listen({ path: odd === 'x' ? '' : odd }),
        () => machine.listen({ timeout: odd === 5 ? -1 : odd }),
      ]) {
        const what = `${call} ${String(odd)}`;
        await assert.rejects(async () => await call(), { code: 'EINVAL' }, what);
        assert.equal(m.owned, false, what);
      }
    }
    machine.check();
  });
});

describe('an object that was disposed of', () => {
  test('says so, and is made again by its name', (t) => {
    const machine = testMachine(t);
    const m = machine.mutex('m');
    const c = machine.condition('c');
    const q = machine.queue('q');
    const z = machine.zone('z', { size: 16 });
    for (const one of [m, c, q, z]) one.dispose();
    for (const call of [() => m.lock(), () => c.signal(), () => q.push(1), () => z.alloc()]) {
      assert.throws(call, { code: 'ESHUTDOWN', message: /it was disposed of/ });
    }
    machine.mutex('m').run(() => {});
    assert.equal(machine.queue('q').length, 0);
    machine.check();
  });
});

/** Options in which reading a name does `run` first. */
function trapped(names: readonly string[], run: () => unknown): object {
  const options = {};
  for (const name of names) Object.defineProperty(options, name, { get: run, enumerable: true });
  return options;
}
/** Calls that take options, with the names of these. */
function withOptions(machine: Machine): [string, readonly string[], (o: never) => unknown][] {
  const type = machine.type('o');
  const zone = machine.zone('o', { size: 64 });
  const R = machine.records('o', { x: 'f64' }, { capacity: 4 });
  const q = machine.queue('o', { capacity: 1 });
  const chain = machine.chain('0123456789');
  return [
    ['alloc', ['zero', 'wait'], (o) => type.alloc(8, o)],
    ['tryAlloc', ['zero'], (o) => type.tryAlloc(8, o)],
    ['zone.alloc', ['zero', 'wait'], (o) => zone.alloc(o)],
    ['records.alloc', ['zero', 'wait'], (o) => R.alloc(o)],
    ['push', ['timeout'], (o) => q.push(2, o)],
    ['pop', ['timeout'], (o) => q.pop(o)],
    ['machine.zone', ['size', 'limit', 'align', 'ctor'], (o) => machine.zone('new', o)],
    ['machine.records', ['capacity'], (o) => machine.records('new', { x: 'f64' }, o)],
    ['records, fields', ['x'], (o) => machine.records('new', o, { capacity: 4 })],
    ['machine.queue', ['of', 'capacity'], (o) => machine.queue('new', o)],
    ['append', ['wait'], (o) => chain.append('x', o)],
    ['slice', ['wait'], (o) => chain.slice(0, 5, o)],
    ['split', ['wait'], (o) => chain.split(5, o)],
    ['unshare', ['wait'], (o) => chain.unshare(o)],
    ['records.set', ['x'], (o) => R.set(R.alloc(), o)],
  ];
}

describe('options whose getters are code', () => {
  test('that throws: it passes through, and no lock is held', () => {
    const machine = boot({ memory: '16M' });
    const q = machine.queue('o', { capacity: 1 });
    q.push(1);
    for (const [name, names, call] of withOptions(machine)) {
      const boom = new Error(name);
      for (const one of names) {
        const options = trapped([one], () => {
          throw boom;
        });
        // A name that comes later may never be read: an earlier one was refused.
        assert.throws(
          () => call(options as never),
          (e) => e === boom || (e instanceof KmemError && e.code === 'EINVAL'),
          `${name} ${one}`,
        );
      }
      assert.equal(q.length, 1);
      machine.check();
    }
    machine.shutdown();
  });
  test('that calls the machine: both calls are done', () => {
    const machine = boot({ memory: '16M' });
    let calls = 0;
    const again = (): undefined => {
      calls++;
      machine.roots.set('from a getter', calls);
      machine.zone(`inner ${calls}`, { size: 16 }).dispose();
      const inner = machine.queue('o', { capacity: 1 });
      if (inner.length === 0) inner.push(1);
      machine.type('o').free(machine.type('o').alloc(3000));
      return undefined;
    };
    const q = machine.queue('o', { capacity: 1 });
    for (const [name, names, call] of withOptions(machine)) {
      const before = calls;
      try {
        if (name === 'push') q.pop();
        if (name === 'push') fails('ETIMEDOUT', () => q.push(2, { ...Object(null), timeout: 0 }));
        else call(trapped(names, again) as never);
      } catch (e) {
        assert.ok(e instanceof KmemError || name === 'push', `${name}: ${e}`);
      }
      assert.ok(calls > before || name === 'push', name);
      machine.check();
    }
    machine.shutdown();
  });
  test('and a constructor of a zone that throws: the item goes back', () => {
    const machine = boot({ memory: '16M' });
    let fail = false;
    const ctor = (): void => {
      if (fail) throw new Error('ctor');
    };
    const z = machine.zone('c', { size: 40, ctor });
    const first = z.alloc();
    fail = true;
    for (let i = 0; i < 500; i++) assert.throws(() => (i % 2 ? z.alloc() : z.tryAlloc()), /ctor/);
    fail = false;
    assert.equal(z.used, 1);
    z.free(first);
    machine.check();
    machine.shutdown();
  });
  test('that leaves the machine: the call gives nothing of it', async () => {
    for (const end of ['detach', 'shutdown'] as const) {
      const calls = {
        alloc: (z: Zone) => z.alloc(),
        'alloc with options': (z: Zone) => z.alloc({ zero: true }),
        tryAlloc: (z: Zone) => z.tryAlloc(),
      };
      for (const [name, call] of Object.entries(calls)) {
        const machine = boot({ memory: '16M', fresh: true });
        const z = machine.zone('c', { size: 40, ctor: () => machine[end]() });
        const e = fails('ESHUTDOWN', () => call(z));
        assert.match(e.message, /this thread has left/, `${name}, ${end}`);
      }
      const machine = boot({ memory: '16M', fresh: true });
      const z = machine.zone('c', { size: 40, ctor: () => machine[end]() });
      await failsAsync('ESHUTDOWN', z.allocAsync());
      const again = boot({ memory: '16M', fresh: true });
      const R = again.records('r', { x: 'f64' }, { capacity: 10 });
      R.alloc();
      R.alloc();
      let seen = 0;
      const last = (): void => {
        seen++;
        again[end]();
      };
      fails('ESHUTDOWN', () => R.forEach(last));
      assert.equal(seen, 1);
    }
  });
});

describe('what listens', () => {
  test('may call the machine: it hears of everything when no lock is held', () => {
    const machine = boot({ memory: '4M' });
    const heard: string[] = [];
    const hear = (message: unknown, name: string | symbol): void => {
      heard.push(String(name));
      machine.roots.set('heard', heard.length);
      machine.zone('from a listener', { size: 16 }).dispose();
      machine.type('l').tryAlloc(16);
      void message;
    };
    const names = ['kmem:enomem', 'kmem:leak'];
    for (const name of names) diagnostics.subscribe(name, hear);
    const { error } = console;
    console.error = () => machine.roots.set('said', 1);
    // No memory for records: found out in the middle of making them.
    fails('ENOMEM', () => machine.records('too many', { x: 'f64' }, { capacity: 2 ** 20 }));
    const z = machine.zone('kept', { size: 64 });
    z.alloc();
    assert.equal(z.dispose(), 1);
    const q = machine.queue('kept', { capacity: 2 });
    q.push(1);
    assert.equal(q.dispose(), 1);
    console.error = error;
    for (const name of names) diagnostics.unsubscribe(name, hear);
    assert.deepEqual(new Set(heard), new Set(names));
    assert.equal(machine.roots.get('said'), 1);
    machine.check();
    machine.shutdown();
  });
});
