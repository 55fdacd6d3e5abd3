/*
 * The façade in one thread: each public call does what its comment says, and
 * fails as it says, on a real machine with the kernel's checks on.  Random
 * tests play against a naive model and print their seed; every test ends with
 * the kernel's own walkers (testMachine).
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { channel } from 'node:diagnostics_channel';
import { describe, test } from 'node:test';
import {
  type Address,
  assertNoLeaks,
  boot,
  CHANNEL_NAMES,
  current,
  ERRORS,
  type Item,
  type OtelApi,
  testMachine,
  withMachine,
} from './index.ts';
import { fails, failsAsync } from './fails.test.lib.ts';
import * as errno from '../sys/machine/errno.ts';
import { dice, SEED } from '../sys/machine/seed.test.lib.ts';

describe('machine', () => {
  test('boots once in a thread, and says where', () => {
    const machine = boot({ memory: '8M' });
    assert.equal(current(), machine);
    const e = fails('EBUSY', () => boot());
    assert.match(e.message, /lib\.test\.[jt]s:\d+/);
    machine.shutdown();
    machine.shutdown();
    machine[Symbol.dispose]();
    assert.equal(current(), null);
    assert.equal(machine.up, false);
  });
  test('objects of a machine that was left throw ESHUTDOWN, also under its successor', () => {
    const first = boot({ memory: '8M' });
    const type = first.type('t');
    const zone = first.zone('z', { size: 32 });
    const records = first.records('r', { x: 'i32' }, { capacity: 10 });
    const calls = [
      () => type.alloc(16),
      () => type.free(4096 as Address),
      () => type.stats,
      () => zone.alloc(),
      () => zone.free(4096 as Item<'z'>),
      () => records.alloc(),
      () => records.free(1 as Item<'r'>),
      () => first.mutex('m'),
      () => first.roots.get('x'),
      () => first.stats(),
      () => first.sysctl('kern.ostype'),
    ];
    first.shutdown();
    for (const call of calls) fails('ESHUTDOWN', call);
    const second = boot({ memory: '8M' });
    for (const call of calls) fails('ESHUTDOWN', call);
    assert.equal(second.u8, first.u8, 'the next machine keeps the views');
    second.shutdown();
  });
  test('a bad handle is refused with the reason', async () => {
    const { attach } = await import('./index.ts');
    fails('EINVAL', () => attach(undefined as never));
    fails('EINVAL', () => attach({} as never));
  });
  test('names are checked', (t) => {
    const machine = testMachine(t);
    fails('EINVAL', () => machine.type(''));
    fails('EINVAL', () => machine.type('a\0b'));
    fails('EINVAL', () => machine.mutex(7 as never));
    fails('ENAMETOOLONG', () => machine.zone('x'.repeat(32), { size: 8 }));
    fails('ENAMETOOLONG', () => machine.type('ä'.repeat(16)));
    machine.type('ä'.repeat(15));
  });
  test('away and park', (t) => {
    const machine = testMachine(t);
    const type = machine.type('t');
    assert.equal(
      machine.away(() => 7),
      7,
    );
    assert.throws(
      () =>
        machine.away(() => {
          throw new RangeError('mine');
        }),
      RangeError,
    );
    type.free(type.alloc(16));
  });
});

describe('types and memory', () => {
  test('alloc, free, realloc, blocks, text', (t) => {
    const machine = testMachine(t);
    const type = machine.type('t');
    assert.equal(machine.type('t'), type);
    const at = type.alloc(200, { zero: true });
    assert.equal(at % 16, 0);
    assert.deepEqual([...machine.bytes(at, 200)], new Array(200).fill(0));
    machine.store32(at + 4, 0xfffffffe);
    machine.store64f(at + 8, Math.PI);
    machine.store16(at, 0xbeef);
    machine.store8(at + 3, 255);
    const got = [machine.load32(at + 4), machine.load64f(at + 8), machine.load16(at)];
    assert.deepEqual(got, [0xfffffffe, Math.PI, 0xbeef]);
    assert.equal(machine.u32[machine.index(at + 4, 4)], 0xfffffffe);
    const moved = type.realloc(at, 5000);
    assert.equal(machine.load64f(moved + 8), Math.PI);
    assert.equal(type.usableSize(moved), 8192);
    type.free(moved);
    const { address, byteLength } = type.allocText('grüß');
    assert.equal(machine.readText(address, byteLength), 'grüß');
    fails('EINVAL', () => machine.writeText(address, 'too long', 3));
    type.free(address);
    for (const text of ['\ufeffmark', `\ufeff${'long '.repeat(20)}`]) {
      const marked = type.allocText(text);
      assert.equal(machine.readText(marked.address, marked.byteLength), text);
      type.free(marked.address);
      machine.mutex(text.slice(0, 5));
      machine.type(text.slice(0, 5));
    }
    machine.check(); // names are found by what they are read as
    const block = type.block(100);
    assert.equal(block.bytes.length, 100);
    block.free();
    block[Symbol.dispose]();
    assert.equal(block.bytes.length, 0);
    const last = type.alloc(16);
    assert.equal(machine.copyIn(last, new Float64Array([1, 2])), 16);
    assert.deepEqual([...new Float64Array(machine.copyOut(last, 16).buffer)], [1, 2]);
    const e = fails('EBUSY', () => assertNoLeaks(machine));
    assert.deepEqual(e.leaks, [{ kind: 'type', name: 't', count: 1, bytes: 16 }]);
    assertNoLeaks(machine, { ignore: ['t'] });
    type.free(last);
    type.free(0 as Address); // no block: ignored
    assert.equal(type.stats.inUse, 0);
  });
  test('fill and copy do what an array does, at every border', (t) => {
    const machine = testMachine(t);
    const type = machine.type('t');
    const SIZE = 96;
    const at = type.alloc(SIZE, { zero: true });
    const plain = new Uint8Array(SIZE);
    for (let from = 0; from < 9; from++) {
      for (const n of [0, 1, 3, 4, 15, 16, 17, 20, 31, 40]) {
        machine.fill(at + from, n, from * 16 + n);
        plain.fill(from * 16 + n, from, from + n);
        for (const to of [0, 1, 4, 7, 8, 30, 48]) {
          machine.copy(at + to, at + from, n);
          plain.copyWithin(to, from, from + n);
          assert.deepEqual([...machine.bytes(at, SIZE)], [...plain], `${from} ${to} ${n}`);
        }
      }
    }
    machine.fill(at, SIZE);
    assert.ok(machine.bytes(at, SIZE).every((byte) => byte === 0));
    fails('EFAULT', () => machine.fill(16 * 2 ** 20 - 8, 9));
    fails('EFAULT', () => machine.copy(at, 16 * 2 ** 20 - 8, 9));
    fails('EFAULT', () => machine.copy(16 * 2 ** 20 - 8, at, 9));
    fails('EINVAL', () => machine.fill(at, -1));
    for (const byte of [256, -1, 1.5, Number.NaN]) fails('EINVAL', () => machine.fill(at, 4, byte));
    type.free(at);
  });
  test('texts short and long, with and without bytes beyond ASCII', (t) => {
    const machine = testMachine(t);
    const type = machine.type('t');
    for (const text of [
      '',
      'a',
      'x'.repeat(32),
      'x'.repeat(33),
      'ü',
      'a\u0000b',
      '\u{1f980}',
      'é'.repeat(40),
    ]) {
      const { address, byteLength } = type.allocText(text);
      assert.equal(machine.readText(address, byteLength), text);
      type.free(address);
    }
    fails('EFAULT', () => machine.readText(16 * 2 ** 20 - 8, 9));
    fails('EINVAL', () => machine.readText(64, -1));
  });
  test('bad arguments', (t) => {
    const machine = testMachine(t);
    const type = machine.type('t');
    for (const size of [-1, 1.5, Number.NaN, '16', null, 2 ** 32]) {
      fails('EINVAL', () => type.alloc(size as number));
    }
    for (const at of [-16, 3, 1.5, Number.NaN, 2 ** 40, 16 * 2 ** 20]) {
      fails('EFAULT', () => type.free(at as Address));
    }
    // A place where no block can be: a query says so, and the machine goes on.
    const gone = type.alloc(100_000);
    type.free(gone);
    for (const at of [8, gone, gone + 4096] as Address[]) {
      for (const op of ['usableSize', 'realloc'] as const) {
        const e = fails('EFAULT', () => type[op](at, 100));
        assert.ok(e.op === op && e.address === at, e.message);
      }
    }
    machine.check();
    fails('EFAULT', () => machine.load32(6));
    fails('EFAULT', () => machine.load32(0));
    fails('EFAULT', () => machine.load64f(16 * 2 ** 20));
    fails('EFAULT', () => machine.bytes(16 * 2 ** 20 - 8, 9));
    fails('EINVAL', () => machine.bytes(4096, -1));
    fails('EFAULT', () => machine.copyOut(-4, 4));
  });
  test('ENOMEM says why, and what is free', (t) => {
    const machine = testMachine(t, { memory: '4M' });
    const type = machine.type('t');
    const e = fails('ENOMEM', () => type.alloc(100 * 2 ** 20));
    assert.equal(e.reason, 'too large');
    const all: Address[] = [];
    const full = fails('ENOMEM', () => {
      for (;;) all.push(type.alloc(4096));
    });
    assert.equal(full.reason, 'full');
    assert.equal(full.type, 't');
    assert.equal(type.tryAlloc(4096), undefined, 'without an error');
    fails('EINVAL', () => type.tryAlloc(-1));
    all.sort((a, b) => a - b);
    for (let i = 0; i < all.length; i += 2) type.free(all[i]);
    const torn = fails('ENOMEM', () => type.alloc(3 * 4096));
    assert.equal(torn.reason, 'fragmented');
    assert.ok((torn.freeBytes ?? 0) > 3 * 4096 && (torn.longestRun ?? 0) < 3 * 4096);
    fails('EDEADLK', () => type.alloc(3 * 4096, { wait: true }));
    fails('ENOMEM', () => type.alloc(100 * 2 ** 20, { wait: true }));
    const at = type.tryAlloc(4096, { zero: true });
    assert.ok(at !== undefined && machine.bytes(at, 4096).every((byte) => byte === 0));
    type.free(at);
    for (let i = 1; i < all.length; i += 2) type.free(all[i]);
  });
  test('a tunable brings the kernel option that it needs', (t) => {
    const machine = testMachine(t, { set: { 'debug.malloc.failure_rate': 2 } });
    const type = machine.type('t');
    const got = Array.from({ length: 10 }, () => type.tryAlloc(64));
    assert.equal(got.filter((at) => at === undefined).length, 5);
    for (const at of got) if (at !== undefined) type.free(at);
  });
  test('ENOMEM at vm.kmem_size says that it is this limit', (t) => {
    const limit = 4 * 2 ** 20;
    const machine = testMachine(t, { memory: '16M', set: { 'vm.kmem_size': limit } });
    const type = machine.type('t');
    assert.equal(fails('ENOMEM', () => type.alloc(5 * 2 ** 20)).reason, 'too large');
    const all: Address[] = [];
    const full = fails('ENOMEM', () => {
      for (;;) all.push(type.alloc(4096));
    });
    assert.equal(full.reason, 'limit');
    assert.match(full.message, /limit: no 4096 bytes for type 't' \(vm.kmem_size is 4194304, /);
    assert.ok((full.freeBytes ?? 0) < 4096);
    for (const at of all) type.free(at);
  });
  test('allocAsync: memory that comes later, abort, timeout', async (t) => {
    const machine = testMachine(t, { memory: '4M' });
    const type = machine.type('t');
    const size = Math.floor(machine.memory().longestRun / 4096 - 8) * 4096;
    const big = type.alloc(size);
    const waiting = type.allocAsync(size, { zero: true });
    await failsAsync('ETIMEDOUT', type.allocAsync(size, { timeout: 20 }));
    const abort = new AbortController();
    const aborted = type.allocAsync(size, { signal: abort.signal });
    setTimeout(() => abort.abort(new RangeError('enough')), 10);
    await assert.rejects(aborted, RangeError);
    await assert.rejects(type.allocAsync(16, { signal: AbortSignal.abort() }), /abort/i);
    await failsAsync('ENOMEM', type.allocAsync(2 ** 30));
    type.free(big);
    const at = await waiting;
    assert.equal(machine.load32(at), 0);
    type.free(at);
  });
  test('an async wait ends with the machine', async () => {
    const machine = boot({ memory: '4M' });
    const q = machine.queue('q');
    const waiting = q.popAsync();
    await new Promise((resolve) => setTimeout(resolve, 5));
    machine.shutdown();
    await failsAsync('ESHUTDOWN', waiting);
  });
});
describe('zones', () => {
  test('get or create; another shape is EEXIST with both', (t) => {
    const machine = testMachine(t);
    const zone = machine.zone('conn', { size: 96, limit: 40 });
    assert.equal(machine.zone('conn', { size: 96, limit: 40 }), zone);
    assert.equal(machine.zone('conn'), zone);
    assert.ok(zone.limit >= 40);
    const e = fails('EEXIST', () => machine.zone('conn', { size: 128 }));
    assert.match(e.message, /96 bytes.*limit 40.*asked for 128 bytes/);
    fails('ENOENT', () => machine.zone('none'));
    for (const bad of [{ size: 0 }, { size: 8, limit: 0 }, { size: 8, align: 3 }, { size: 1.5 }]) {
      fails('EINVAL', () => machine.zone('bad', bad));
    }
    assert.equal(zone.dispose(), 0);
    assert.equal(zone.dispose(), 0);
    const again = machine.zone('conn', { size: 128 });
    assert.equal(again.size, 128);
  });
  test('the limit holds; freed items come again; ctor runs on each', (t) => {
    const machine = testMachine(t);
    let made = 0;
    const zone = machine.zone('z', { size: 64, limit: 10, align: 64, ctor: () => made++ });
    const items = Array.from({ length: zone.limit }, () => zone.alloc());
    assert.equal(made, zone.limit);
    assert.equal(new Set(items).size, zone.limit);
    for (const i of items) assert.equal(zone.address(i) % 64, 0);
    const e = fails('ENOMEM', () => zone.alloc());
    assert.deepEqual([e.reason, e.zone], ['limit', 'z']);
    assert.equal(zone.tryAlloc(), undefined);
    fails('EDEADLK', () => zone.alloc({ wait: 10 }));
    assert.equal(zone.used, zone.limit);
    zone.free(items.pop() as Item<'z'>);
    const back = zone.alloc({ zero: true });
    assert.deepEqual([...zone.bytes(back)], new Array(64).fill(0));
    items.push(back);
    fails('EFAULT', () => zone.free(1 as Item<'z'>));
    const error = console.error;
    console.error = () => {};
    assert.equal(zone.dispose(), zone.limit, 'it stays while items are in use');
    console.error = error;
    const same = machine.zone('z');
    for (const i of items) same.free(i as Item<'z'>);
    assert.equal(same.stats.used, 0);
  });
  test('allocAsync waits for the limit', async (t) => {
    const machine = testMachine(t);
    const zone = machine.zone('z', { size: 2000, limit: 2 });
    const items = Array.from({ length: zone.limit }, () => zone.alloc());
    const later = zone.allocAsync();
    await failsAsync('ETIMEDOUT', zone.allocAsync({ timeout: 15 }));
    zone.free(items.pop() as Item<'z'>);
    items.push(await later);
    for (const i of items) zone.free(i);
  });
});

describe('records', () => {
  test('random use against a model', (t) => {
    const next = dice(SEED);
    const machine = testMachine(t);
    const R = machine.records('r', { x: 'f64', n: 'i32', b: 'u8' }, { capacity: 777 });
    const model = new Map<Item<'r'>, number>();
    try {
      for (let step = 1; step <= 20_000; step++) {
        if (next(5) < 3 && model.size < 777) {
          const item = R.alloc();
          assert.ok(!model.has(item) && item >= 1 && item <= 777);
          model.set(item, step);
          R.x[item] = step / 3;
          R.n[item] = -step;
          R.b[item] = step;
        } else if (model.size > 0) {
          const item = [...model.keys()][next(model.size)];
          const at = model.get(item) as number;
          assert.deepEqual(R.get(item), { x: at / 3, n: -at, b: at & 255 });
          R.free(item);
          model.delete(item);
          fails('EINVAL', () => R.free(item));
        }
        if (step % 5000 === 0) {
          assert.equal(R.count, model.size);
          assert.deepEqual(
            [...R],
            [...model.keys()].sort((a, b) => a - b),
          );
        }
      }
      while (model.size < 777) model.set(R.alloc({ zero: true }), 0);
      assert.equal(fails('ENOMEM', () => R.alloc()).reason, 'limit');
      for (const item of model.keys()) R.free(item);
      assert.equal(R.count, 0);
      assert.equal(R.dispose(), 0);
    } catch (e) {
      console.error(`seed ${SEED}`);
      throw e;
    }
  });
  test('handles go stale', (t) => {
    const machine = testMachine(t);
    const R = machine.records('r', { x: 'f32' }, { capacity: 3, generations: true });
    const first = R.alloc();
    R.x[R.index(first)] = 1;
    // @ts-expect-error: a handle is no index
    assert.throws(() => R.x[first].toFixed(), TypeError); // undefined: nothing of another item
    // @ts-expect-error: nor an address, nor a length
    fails('EFAULT', () => machine.load32(first));
    fails('EINVAL', () => machine.bytes(64, first as never));
    assert.ok(R.has(first));
    R.free(first);
    assert.ok(!R.has(first));
    for (const call of [() => R.index(first), () => R.free(first), () => R.get(first)]) {
      assert.match(fails('ESTALE', call).message, /is the handle of an item that was freed/);
    }
    fails('ESTALE', () => R.set(first, { x: 1 }));
    const more = [R.alloc(), R.alloc(), R.alloc()];
    assert.deepEqual(new Set([...R]), new Set(more));
    assert.ok(!R.has(first) && !more.includes(first));
    let n = 0;
    R.forEach((i) => {
      n += i;
    });
    assert.equal(n, 6);
    for (const h of more) R.free(h);
  });
  test('shapes', (t) => {
    const machine = testMachine(t);
    const R = machine.records('r', { x: 'f64' }, { capacity: 5 });
    assert.equal(machine.records('r', { x: 'f64' }, { capacity: 5 }), R);
    const e = fails('EEXIST', () => machine.records('r', { x: 'f32' }, { capacity: 5 }));
    assert.match(e.message, /x:f64, capacity 5; asked for x:f32/);
    fails('EINVAL', () => machine.records('a', {}, { capacity: 5 }));
    fails('EINVAL', () => machine.records('a', { alloc: 'f64' } as never, { capacity: 5 }));
    fails('EINVAL', () => machine.records('a', { x: 'f65' as 'f64' }, { capacity: 5 }));
    fails('EINVAL', () => machine.records('a', { x: 'f64' }, { capacity: 0 }));
    const fail = (): void => {
      fails('ENOMEM', () =>
        machine.records('a', { x: 'f64', y: 'f64', z: 'f64' }, { capacity: 5e5 }),
      );
      fails('ENOMEM', () => machine.records('a', { x: 'f64' }, { capacity: 1e7 })); // reclaims
    };
    fail();
    const free = machine.memory().free;
    for (let i = 0; i < 5; i++) fail();
    machine.check();
    assert.equal(machine.memory().free, free, 'a failure keeps nothing');
  });
});

describe('roots, locks, queues', () => {
  test('roots against a model', (t) => {
    const next = dice(SEED);
    const { roots } = testMachine(t);
    const model = new Map<string, number>();
    for (let step = 0; step < 5000; step++) {
      const name = `root ${next(100)}`;
      const had = model.get(name);
      const op = next(4);
      assert.equal(roots.get(name), had, `seed ${SEED}`);
      if (op === 0) {
        roots.set(name, step + 0.5);
        model.set(name, step + 0.5);
      } else if (op === 1) {
        assert.equal(roots.delete(name), model.delete(name), `seed ${SEED}`);
      } else if (op === 2) {
        assert.equal(roots.compareAndSwap(name, had, step), had, `seed ${SEED}`);
        model.set(name, step);
      } else assert.equal(roots.compareAndSwap(name, -1, step), had, `seed ${SEED}`);
    }
    assert.deepEqual(roots.names(), [...model.keys()].sort());
    fails('EINVAL', () => roots.set('x', Number.NaN));
  });
  test('a mutex belongs to its thread', async (t) => {
    const machine = testMachine(t);
    const m = machine.mutex('m');
    const held = m.lock();
    assert.ok(m.owned && !m.tryLock());
    fails('EDEADLK', () => m.lock());
    const order: number[] = [];
    const tasks = [1, 2, 3].map((n) =>
      m.runAsync(async () => {
        order.push(n);
        await new Promise((resolve) => setTimeout(resolve, 2));
        order.push(-n);
      }),
    );
    await failsAsync('ETIMEDOUT', m.lockAsync({ timeout: 10 }));
    const abort = new AbortController();
    const aborted = m.lockAsync({ signal: abort.signal });
    setTimeout(() => abort.abort(new RangeError('enough')), 5);
    await assert.rejects(aborted, RangeError);
    held[Symbol.dispose]();
    held[Symbol.dispose]();
    await Promise.all(tasks);
    assert.equal(order.length, 6);
    for (let i = 0; i < 6; i += 2) assert.equal(order[i], -order[i + 1], 'one task at a time');
    fails('EPERM', () => m.unlock());
    assert.equal(
      m.run(() => 5),
      5,
    );
    m.dispose();
    m.dispose();
    fails('ESHUTDOWN', () => m.lock());
  });
  test('rwlock and condition', async (t) => {
    const machine = testMachine(t);
    const rw = machine.rwlock('rw');
    rw.read(() => {
      assert.ok(rw.tryLockRead());
      rw.unlockRead();
      fails('EDEADLK', () => rw.lockWrite());
      assert.ok(rw.tryUpgrade());
      fails('EDEADLK', () => rw.lockRead());
      rw.downgrade();
    });
    fails('EPERM', () => rw.unlockRead());
    fails('EPERM', () => rw.unlockWrite());
    fails('EPERM', () => rw.downgrade());
    assert.equal(
      rw.write(() => 3),
      3,
    );
    const m = machine.mutex('m');
    const cv = machine.condition('cv');
    fails('EPERM', () => cv.wait(m));
    m.run(() => {
      assert.equal(cv.wait(m, { timeout: 5 }), false);
      assert.equal(
        cv.waitUntil(m, () => false, { timeout: 5 }),
        false,
      );
    });
    let ready = false;
    m.lock();
    const waiting = cv.waitAsync(m, () => ready);
    ready = true;
    cv.signal();
    await waiting;
    assert.ok(m.owned);
    m.unlock();
  });
  test('a queue keeps order, and ends', async (t) => {
    const machine = testMachine(t);
    const q = machine.queue('q', { capacity: 3 });
    assert.equal(machine.queue('q', { capacity: 3 }), q);
    fails('EEXIST', () => machine.queue('q', { capacity: 4 }));
    fails('EINVAL', () => machine.queue('r', { capacity: 0 }));
    for (let i = 0; i < 10; i++) {
      q.push(i + 0.25);
      q.push(i + 0.5);
      assert.deepEqual([q.pop(), q.pop()], [i + 0.25, i + 0.5]);
    }
    for (const v of [1, 2, 3]) q.push(v);
    assert.equal(q.tryPush(4), false);
    fails('ETIMEDOUT', () => q.push(4, { timeout: 5 }));
    fails('EINVAL', () => q.push('x' as never));
    const later = q.pushAsync(4);
    assert.equal(q.tryPop(), 1);
    await later;
    q.close();
    fails('ESHUTDOWN', () => q.push(5));
    fails('ESHUTDOWN', () => q.tryPush(5));
    const rest: number[] = [];
    for await (const v of q) rest.push(v);
    assert.deepEqual(rest, [2, 3, 4]);
    assert.deepEqual([q.pop(), q.tryPop(), await q.popAsync()], [undefined, undefined, undefined]);
    assert.equal(q.dispose(), 0);
    const blocks = machine.queue('blocks', { of: machine.type('b'), capacity: 2 });
    blocks.push(machine.type('b').alloc(40));
    const e = fails('EBUSY', () => assertNoLeaks(machine));
    assert.deepEqual(e.leaks?.map((l) => l.kind).sort(), ['queue', 'type']);
    machine.type('b').free(blocks.pop() as Address);
    fails('ETIMEDOUT', () => blocks.pop({ timeout: 5 }));
  });
});

describe('figures', () => {
  test('stats, vmstat, sysctl', (t) => {
    const machine = testMachine(t);
    const type = machine.type('mine');
    const at = type.alloc(100);
    const row = machine.stats().types.find((r) => r.name === 'mine');
    assert.deepEqual(row, { name: 'mine', inUse: 1, bytes: 128, requests: 1, sizes: [128] });
    assert.match(machine.vmstat('m'), /mine +1 +1K +1K +1 {2}128/);
    assert.match(machine.vmstat('z'), /UMA Kegs:/);
    type.free(at);
    const chain = machine.chain(new Uint8Array(2000));
    assert.match(machine.netstat(), /^\d+\/\d+\/\d+ mbufs in use [\s\S]*\n1\/\d+ mbuf\+clusters/);
    chain.free();
    assert.equal(machine.sysctl('kern.ostype'), 'kmem');
    const old = machine.sysctl('vm.lowmem_period', 3);
    assert.deepEqual([old, machine.sysctl('vm.lowmem_period')], [10, 3]);
    assert.equal(machine.sysctlBytes('hw.pagesize').length, 4);
    assert.deepEqual(Object.keys(machine.sysctl('kern.boottime')), ['sec', 'usec']);
    fails('ENOENT', () => machine.sysctl('no.such'));
    fails('EISDIR', () => machine.sysctl('vm'));
    fails('EPERM', () => machine.sysctl('hw.pagesize', 1));
    assert.match(
      fails('EINVAL', () => machine.sysctl('vm.lowmem_period', -1)).message,
      /\(0 to \d+\)/,
    );
    const idle = fails('EOPNOTSUPP', () => machine.sysctl('debug.malloc.failure_rate', 2)).message;
    assert.match(idle, /does nothing without boot\(\{ options: \{ FAILPOINTS: true \} \}\)/);
    const shrunk = fails('EINVAL', () => machine.sysctl('kern.ipc.nmbclusters', 1)).message;
    assert.match(shrunk, /kern\.ipc\.nmbclusters: it is 3072 and may only grow/);
    fails('EINVAL', () => machine.sysctl('vm.lowmem_period', 'x'));
    fails('EINVAL', () => machine.sysctl('vm.lowmem_period', 1e9));
    const all = machine.sysctls();
    const period = all.find((s) => s.name === 'vm.lowmem_period');
    assert.deepEqual([period?.type, period?.writable, period?.tunable], ['int', true, true]);
    assert.ok(all.every((s) => s.description !== '' && s.name !== ''));
  });
  test("a zone named as one of the kernel's is a row of its own, everywhere", (t) => {
    const machine = testMachine(t);
    const zone = machine.zone('mbuf', { size: 48 });
    const items = [zone.alloc(), zone.alloc()];
    const rows = machine.stats().zones.filter((z) => z.name === 'mbuf');
    assert.deepEqual(
      rows.map((z) => [z.size, z.used]),
      [
        [256, 0],
        [48, 2],
      ],
    );
    const text = machine.collect();
    assert.match(text, /^kmem_zone_used_items\{zone="mbuf"\} 0$/m);
    assert.match(text, /^kmem_zone_used_items\{zone="mbuf",nth="2"\} 2$/m);
    assert.match(text, /^kmem_zone_used_bytes\{zone="mbuf",nth="2"\} 96$/m);
    assert.match(text, /^kmem_zone_approximate\{zone="mbuf"\} 0$/m);
    assert.equal(machine.vmstat('z').match(/^mbuf: /gm)?.length, 2);
    for (const item of items) zone.free(item);
  });
  test('prometheus text and an OpenTelemetry meter show the same', (t) => {
    const machine = testMachine(t);
    const zone = machine.zone('a "b"\\', { size: 16 });
    const item = zone.alloc();
    const text = machine.collect();
    assert.match(text, /^kmem_zone_used_items\{zone="a \\"b\\"\\\\"\} 1$/m);
    assert.match(text, /^# TYPE kmem_memory_taken_bytes_total counter$/m);
    const names = [...text.matchAll(/^# TYPE (\S+)/gm)].map((m) => m[1]);
    assert.equal(new Set(names).size, names.length, 'no name twice');
    for (const line of text.trimEnd().split('\n')) {
      assert.match(
        line,
        /^(# (HELP|TYPE) \S+ .+|[a-zA-Z_]\w*(\{\w+="(\\.|[^"\\])*"\})? -?[\d.e+-]+)$/,
      );
    }
    const made: string[] = [];
    const seen = new Map<object, number>();
    let read: ((r: { observe(o: object, v: number): void }) => void) | null = null;
    const make = (name: string): object => {
      made.push(name);
      return { name };
    };
    const meter = {
      createObservableGauge: make,
      createObservableCounter: make,
      addBatchObservableCallback: (fn: typeof read) => void (read = fn),
      removeBatchObservableCallback: () => void (read = null),
    };
    const api = { metrics: { getMeter: () => meter } } as unknown as OtelApi;
    const watching = machine.observe(api);
    assert.deepEqual(made.sort(), names.sort());
    const run = read as unknown as (r: { observe(o: object, v: number): void }) => void;
    run({ observe: (o, v) => void seen.set(o, v) });
    assert.equal(seen.size, names.length);
    watching[Symbol.dispose]();
    assert.equal(read, null);
    zone.free(item);
  });
  test('metrics follow the conventions of Prometheus, and agree with the statistics', (t) => {
    const machine = testMachine(t);
    const type = machine.type('of the metrics');
    const blocks = [10, 100, 1000, 100_000].map((n) => type.alloc(n));
    const all = machine.metrics();
    assert.ok(all.length <= 60, `${all.length} families`);
    for (const m of all) {
      assert.match(m.name, /^kmem_[a-z][a-z0-9_]*$/);
      assert.equal(m.name.endsWith('_total'), m.kind === 'counter', m.name);
      assert.doesNotMatch(m.name, /pages|_ms\b|_kb\b/, 'base units');
      for (const { labels, value } of m.values) {
        assert.ok(Number.isFinite(value) && value >= 0, m.name);
        for (const label of Object.keys(labels))
          assert.ok(['type', 'zone', 'nth', 'version'].includes(label));
      }
    }
    const one = (name: string, label: string): number | undefined =>
      all
        .find((m) => m.name === name)
        ?.values.find(({ labels }) => label === '' || Object.values(labels).includes(label))?.value;
    const stats = machine.stats();
    for (const row of stats.types) {
      assert.equal(one('kmem_malloc_blocks', row.name), row.inUse, row.name);
      assert.equal(one('kmem_malloc_bytes', row.name), row.bytes, row.name);
      assert.equal(one('kmem_malloc_requests_total', row.name), row.requests, row.name);
    }
    for (const row of stats.zones) {
      assert.equal(one('kmem_zone_used_items', row.name), row.used, row.name);
      assert.equal(one('kmem_zone_limit_items', row.name), row.limit, row.name);
      assert.equal(one('kmem_zone_item_bytes', row.name), row.size, row.name);
    }
    assert.equal(one('kmem_memory_size_bytes', ''), stats.memory.size);
    assert.equal(one('kmem_memory_free_bytes', ''), stats.memory.free);
    assert.equal(one('kmem_threads', ''), 1);
    for (const p of blocks) type.free(p);
  });
  test('every numeric variable is among the metrics on request', (t) => {
    const machine = testMachine(t);
    const few = machine.metrics();
    const all = machine.metrics({ sysctls: true });
    assert.deepEqual(
      all.slice(0, few.length).map((m) => m.name),
      few.map((m) => m.name),
    );
    const names = new Set(all.map((m) => m.name));
    assert.equal(names.size, all.length, 'no name twice');
    for (const { name, type } of machine.sysctls()) {
      if (!['int', 'uint', 'long', 'ulong', 's64', 'u64'].includes(type)) continue;
      const metric = `kmem_sysctl_${name.replaceAll(/\W/g, '_')}`;
      assert.ok(names.has(metric) || names.has(`${metric}_total`), name);
    }
    assert.match(machine.collect({ sysctls: true }), /^kmem_sysctl_vm_lowmem_period 10$/m);
    assert.doesNotMatch(machine.collect(), /^kmem_sysctl/m);
    fails('EINVAL', () => machine.collect({ sysctls: 1 } as never));
    fails('EINVAL', () => machine.metrics({ sysctl: true } as never));
  });
  test('diagnostics channels speak to who listens', (t) => {
    const machine = testMachine(t);
    const heard: [string, Record<string, unknown>][] = [];
    const hear = (message: unknown, name: string | symbol): void =>
      void heard.push([String(name), message as Record<string, unknown>]);
    for (const name of CHANNEL_NAMES) channel(name).subscribe(hear);
    const type = machine.type('t');
    type.free(type.alloc(16));
    assert.equal(heard.length, 0, 'allocations are published only when traced');
    machine.trace(true);
    const at = type.alloc(16);
    type.free(at);
    machine.trace(false);
    type.free(type.alloc(16));
    fails('ENOMEM', () => type.alloc(2 ** 30));
    for (const name of CHANNEL_NAMES) channel(name).unsubscribe(hear);
    assert.deepEqual(
      heard.map(([name]) => name),
      ['kmem:malloc', 'kmem:free', 'kmem:enomem'],
    );
    assert.deepEqual(heard[0][1], { type: 't', size: 16, address: at });
  });
});

describe('errors and tests', () => {
  test('every code that the façade throws is in the table, once', () => {
    const table = ERRORS.map((e) => e.code);
    assert.equal(new Set(table).size, table.length);
    for (const e of ERRORS)
      assert.equal((errno as unknown as Record<string, number>)[e.code], e.errno);
    const thrown = new Set<string>();
    // Leads to './' alone.
    for (const file of readdirSync(import.meta.dirname)) {
      if (file.includes('.test.') || file === 'errors.ts') continue;
      const text = readFileSync(`${import.meta.dirname}/${file}`, 'utf8');
      for (const m of text.matchAll(/(?:kmemError|refuse)\((?:'\w+', )?(E[A-Z]+)/g))
        thrown.add(m[1]);
      for (const m of text.matchAll(/this\.refuse\('\w+', (E[A-Z]+)/g)) thrown.add(m[1]);
    }
    assert.ok(thrown.size >= 9, [...thrown].join());
    for (const code of thrown) assert.ok(table.includes(code), `${code} is not in the table`);
  });
  test('testMachine and withMachine fail on what is left', async () => {
    const ends: (() => Promise<void>)[] = [];
    const machine = testMachine({ after: (fn) => void ends.push(fn) });
    machine.type('left').alloc(100);
    await failsAsync('EBUSY', ends[0]());
    assert.equal(current(), null, 'the machine is down all the same');
    const options = { memory: '8M' };
    const e = await failsAsync(
      'EBUSY',
      withMachine(options, (m) => m.zone('left', { size: 8 }).alloc()),
    );
    assert.match(e.message, /zone 'left': 1 items/);
    assert.equal(await withMachine(options, () => 5), 5);
    await assert.rejects(
      withMachine(options, () => {
        throw new RangeError('mine');
      }),
      RangeError,
    );
    assert.equal(current(), null);
  });
});
