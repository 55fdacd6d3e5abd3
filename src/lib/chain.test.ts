/*
 * Chains in one thread: random operations on several chains against plain byte
 * arrays, with the chains' own proof after every step; each call's edges; every
 * failure for want of memory, with the chain as it was.  Each test ends with the
 * kernel's walkers and the leak check (testMachine), which counts buffers.
 */
import assert from 'node:assert/strict';
import { channel } from 'node:diagnostics_channel';
import { describe, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { dice, SEED } from '../sys/machine/seed.test.lib.ts';
import { until } from '../sys/machine/workers.test.lib.ts';
import {
  assertNoLeaks,
  type Chain,
  KmemError,
  leaks,
  type Machine,
  readableChains,
  testMachine,
  withMachine,
  writableChains,
} from './index.ts';
import { fails } from './fails.test.lib.ts';

function pattern(n: number, from = 0): Uint8Array {
  return new Uint8Array(n).map((_, i) => (from + i) * 31 + (i >> 8));
}
function join(...parts: ArrayLike<number>[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((p) => Array.from(p)));
}
/** Takes all clusters and mbufs that are left; returns what gives them back. */
function takeAll(machine: Machine): () => void {
  const hog = machine.chain();
  for (let n = 65536; n >= 1; n = Math.floor(n / 2)) {
    for (;;) {
      try {
        // One piece at a time: a chain of its own does not use the room of the last one.
        hog.concat(machine.chain(new Uint8Array(n)));
      } catch (e) {
        if (e instanceof KmemError && e.code === 'ENOMEM') break;
        throw e;
      }
    }
  }
  return () => hog.free();
}
/** Small limits, so that they are reached soon. */
const TIGHT = {
  'kern.ipc.nmbclusters': 16,
  'kern.ipc.nmbjumbop': 8,
  'kern.ipc.nmbjumbo9': 4,
  'kern.ipc.nmbjumbo16': 4,
  'kern.ipc.nmbufs': 48,
};

type Model = { chain: Chain; bytes: Uint8Array };
/** Drops the oldest chain; there is always one. */
function dropOldest(machine: Machine, all: Model[]): void {
  all.shift()?.chain.free();
  if (all.length === 0) all.push({ chain: machine.chain(), bytes: new Uint8Array(0) });
}
/** One random operation on a random chain, on both. */
function step(machine: Machine, all: Model[], next: (n: number) => number): void {
  const i = next(all.length);
  const m = all[i];
  const { chain, bytes } = m;
  const at = next(bytes.length + 1);
  const to = at + next(bytes.length - at + 1);
  const data = pattern(next(next(4) === 0 ? 9000 : 300), next(256));
  switch (next(14)) {
    case 0:
    case 1:
      chain.append(data);
      m.bytes = join(bytes, data);
      break;
    case 2:
      chain.prepend(data);
      m.bytes = join(data, bytes);
      break;
    case 3:
      all.push({ chain: chain.slice(at, to), bytes: bytes.slice(at, to) });
      break;
    case 4:
      all.push({ chain: chain.clone(), bytes: bytes.slice() });
      break;
    case 5:
      all.push({ chain: chain.split(at), bytes: bytes.slice(at) });
      m.bytes = bytes.slice(0, at);
      break;
    case 6: {
      if (all.length < 2) break;
      const other = all.splice((i + 1) % all.length, 1)[0];
      chain.concat(other.chain);
      m.bytes = join(bytes, other.bytes);
      break;
    }
    case 7: {
      const part = data.subarray(0, to - at);
      chain.write(at, part);
      m.bytes = bytes.slice();
      m.bytes.set(part, at);
      break;
    }
    case 8:
      chain.pullup(Math.min(at, 16384));
      break;
    case 9:
      chain.discard(at);
      m.bytes = bytes.slice(at);
      break;
    case 10:
      chain.truncate(at);
      m.bytes = bytes.slice(0, at);
      break;
    case 11:
      adopt(machine, m, data, next(2) === 0);
      break;
    case 12:
      m.chain = machine.adoptChain(chain.release());
      break;
    default:
      if (bytes.length < 8) break;
      numbers(m, next(bytes.length - 7), next);
  }
}
/** A block is made part of the chain. */
function adopt(machine: Machine, m: Model, data: Uint8Array, front: boolean): void {
  const type = machine.type('adopted');
  const block = type.alloc(data.length);
  machine.copyIn(block, data);
  try {
    m.chain.adopt(type, block, data.length, { front });
  } catch (e) {
    type.free(block); // still ours
    throw e;
  }
  m.bytes = front ? join(data, m.bytes) : join(m.bytes, data);
}
/** A number is written and read, on both. */
function numbers(m: Model, at: number, next: (n: number) => number): void {
  m.bytes = m.bytes.slice();
  const view = new DataView(m.bytes.buffer);
  const little = next(2) === 0;
  const n = next(2 ** 31) * (next(2) === 0 ? 1 : -1);
  const big = BigInt(n) * 4294967291n;
  const { chain } = m;
  assert.equal(chain.getBigUint64(at, little), view.getBigUint64(at, little));
  assert.equal(chain.getUint32(at, little), view.getUint32(at, little));
  const set = [
    () => [chain.setUint8(at, n), view.setUint8(at, n)],
    () => [chain.setInt8(at, n), view.setInt8(at, n)],
    () => [chain.setUint16(at, n, little), view.setUint16(at, n, little)],
    () => [chain.setInt16(at, n, little), view.setInt16(at, n, little)],
    () => [chain.setUint32(at, n, little), view.setUint32(at, n, little)],
    () => [chain.setInt32(at, n, little), view.setInt32(at, n, little)],
    () => [chain.setBigUint64(at, big, little), view.setBigUint64(at, big, little)],
    () => [chain.setBigInt64(at, big, little), view.setBigInt64(at, big, little)],
    () => [chain.setFloat32(at, n / 7, little), view.setFloat32(at, n / 7, little)],
    () => [chain.setFloat64(at, n / 7, little), view.setFloat64(at, n / 7, little)],
  ];
  set[next(set.length)]();
  assert.equal(chain.getUint8(at), view.getUint8(at));
  assert.equal(chain.getInt8(at), view.getInt8(at));
  assert.equal(chain.getUint16(at, little), view.getUint16(at, little));
  assert.equal(chain.getInt16(at, little), view.getInt16(at, little));
  assert.equal(chain.getInt32(at, little), view.getInt32(at, little));
  assert.equal(chain.getBigInt64(at, little), view.getBigInt64(at, little));
  assert.ok(Object.is(chain.getFloat32(at, little), view.getFloat32(at, little)));
  assert.ok(Object.is(chain.getFloat64(at, little), view.getFloat64(at, little)));
}
function same(m: Model, what: string): void {
  m.chain.check();
  assert.equal(m.chain.length, m.bytes.length, what);
  assert.ok(Buffer.from(m.bytes).equals(m.chain.toBuffer()), what);
}

describe('chains', () => {
  test('random operations against byte arrays', (t) => {
    const next = dice(SEED);
    const machine = testMachine(t, { memory: '32M' });
    const all: Model[] = [{ chain: machine.chain(), bytes: new Uint8Array(0) }];
    for (let i = 0; i < 3000; i++) {
      step(machine, all, next);
      while (all.length > 6 || all[0].bytes.length > 60_000) dropOldest(machine, all);
      for (const m of all) same(m, `KMEM_SEED=${SEED}, step ${i}`);
    }
    for (const m of all) m.chain.free();
  });
  test('random operations under tight limits: refused, or done; never half', (t) => {
    const next = dice(SEED + 1);
    const machine = testMachine(t, { memory: '32M', set: TIGHT });
    const all: Model[] = [{ chain: machine.chain(), bytes: new Uint8Array(0) }];
    let refused = 0;
    for (let i = 0; i < 3000; i++) {
      try {
        step(machine, all, next);
      } catch (e) {
        if (!(e instanceof KmemError && e.code === 'ENOMEM')) throw e;
        refused++;
        // Until then all are kept, and become more.
        if (refused % 3 === 0) dropOldest(machine, all);
      }
      for (const m of all) same(m, `KMEM_SEED=${SEED}, step ${i}`);
    }
    assert.ok(refused > 0, 'the limits were never reached');
    for (const m of all) m.chain.free();
  });
  test('clones share clusters; who writes copies first', (t) => {
    const machine = testMachine(t);
    const data = pattern(6000);
    const a = machine.chain(data);
    assert.equal(a.writable, true);
    const b = a.clone();
    assert.deepEqual([a.writable, b.writable], [false, false]);
    assert.deepEqual(
      a.views().map((v) => v.byteOffset),
      b.views().map((v) => v.byteOffset),
      'the same memory',
    );
    b.setUint32(1000, 0xdeadbeef);
    a.write(5000, 'written');
    assert.equal(b.getUint32(1000), 0xdeadbeef);
    assert.ok(a.toBuffer(0, 5000).equals(data.subarray(0, 5000)));
    assert.equal(a.text(5000, 5007), 'written');
    assert.ok(b.toBuffer(4000).equals(data.subarray(4000)));
    assert.equal(a.unshare().writable, true);
    a.free();
    b.free();
  });
  test('adopted blocks are freed with the last chain that refers to them', (t) => {
    const machine = testMachine(t);
    const type = machine.type('blocks');
    const at = type.alloc(10_000);
    machine.copyIn(at, pattern(10_000));
    const a = machine.chain('<').adopt(type, at, 5000, { offset: 100 });
    assert.equal(a.views()[1].byteOffset, at + 100, 'no copy');
    const b = a.clone();
    a.free();
    assert.equal(type.stats.inUse, 1);
    const c = b.slice(1);
    assert.ok(c.equals(pattern(10_000).subarray(100, 5100)));
    b.discard(4000).free();
    assert.equal(type.stats.inUse, 1, 'the slice has it');
    c.free();
    assert.equal(type.stats.inUse, 0);
    const block = type.alloc(64);
    fails('EINVAL', () => machine.chain().adopt(type, block, 65));
    fails('EINVAL', () => machine.chain().adopt(type, block, 1, { offset: 64 }));
    fails('EINVAL', () => machine.chain().adopt(type, block, -1));
    type.free(block);
  });
  test('numbers, text and bytes across borders', (t) => {
    const machine = testMachine(t);
    const c = machine.chain();
    for (const byte of pattern(64)) c.concat(machine.chain(Uint8Array.of(byte)).prepend(''));
    const d = machine.chain('needle');
    // Pieces of three bytes each, so that every number crosses a border.
    const parts = machine.chain();
    for (let i = 0; i < 30; i += 3) {
      const type = machine.type('three');
      const block = type.alloc(16);
      machine.copyIn(block, pattern(3, i));
      parts.adopt(type, block, 3);
    }
    assert.equal(parts.pieces, 10);
    const flat = join(...Array.from({ length: 10 }, (_, i) => pattern(3, 3 * i)));
    const view = new DataView(flat.buffer);
    for (let at = 0; at + 8 <= 30; at++) {
      assert.equal(parts.getBigInt64(at, true), view.getBigInt64(at, true));
      assert.equal(parts.getFloat64(at), view.getFloat64(at));
      assert.equal(parts.getUint16(at), view.getUint16(at));
    }
    parts.setBigUint64(5, 0x0102030405060708n);
    assert.deepEqual([...parts.toUint8Array(5, 13)], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert.equal(parts.indexOf(Uint8Array.of(4, 5, 6)), 8);
    assert.equal(parts.indexOf(4, 9), -1);
    assert.equal(d.indexOf('need'), 0);
    assert.equal(d.indexOf('e', 3), 5);
    assert.equal(d.indexOf('x'), -1);
    assert.equal(d.indexOf(''), 0);
    assert.deepEqual([d.compare('needle'), d.compare('needles'), d.compare('a')], [0, -1, 1]);
    assert.equal(d.compare(c), d.toBuffer().compare(c.toBuffer()));
    const target = new Uint8Array(4);
    assert.equal(d.copyTo(target, 2), 4);
    assert.equal(new TextDecoder().decode(target), 'edle');
    const e = machine
      .chain(new Uint16Array([0x4141]))
      .append('é')
      .append(new ArrayBuffer(2));
    assert.deepEqual([...e.toUint8Array()], [0x41, 0x41, 0xc3, 0xa9, 0, 0]);
    e.truncate(0);
    assert.ok(e.equals('') && e.equals(machine.chain()));
    for (const chain of [c, d, e, parts]) chain.free();
  });
  test('views, iteration, pullup', async (t) => {
    const machine = testMachine(t);
    const data = pattern(20_000);
    const c = machine.chain(data);
    assert.ok(c.pieces > 1);
    assert.deepEqual(join(...c), data);
    const seen: Uint8Array[] = [];
    for await (const view of c) seen.push(view);
    assert.deepEqual(join(...seen), data);
    assert.equal(seen[0].buffer, machine.u8.buffer, 'shared memory, no copy');
    const have = c.view().length;
    fails('EINVAL', () => c.view(have + 1));
    for (const n of [have + 1, 9000, 16384]) {
      assert.deepEqual(c.pullup(n).view(n), data.subarray(0, n));
      c.check();
    }
    fails('EINVAL', () => c.pullup(16385));
    const ending = (async () => {
      for await (const _ of c) c.free();
    })();
    await assert.rejects(ending, (e) => e instanceof KmemError && e.code === 'EINVAL');
    assert.equal(machine.chain().view().length, 0);
  });
  test('bad arguments, and use after the end', (t) => {
    const machine = testMachine(t);
    const c = machine.chain('0123456789');
    for (const bad of [-1, 1.5, Number.NaN, 11, '3' as never]) {
      for (const call of [
        () => c.slice(bad),
        () => c.split(bad),
        () => c.pullup(bad),
        () => c.discard(bad),
        () => c.truncate(bad),
        () => c.write(bad, 'x'),
        () => c.getUint8(bad),
        () => c.setUint8(bad, 1),
        () => c.toUint8Array(0, bad),
        () => c.indexOf('1', bad),
      ]) {
        fails('EINVAL', call);
      }
    }
    fails('EINVAL', () => c.getUint32(7));
    fails('EINVAL', () => c.slice(5, 4));
    fails('EINVAL', () => c.append(7 as never));
    fails('EINVAL', () => c.append(null as never));
    fails('EINVAL', () => machine.chain({} as never));
    fails('EINVAL', () => c.concat(c));
    const d = machine.chain('d');
    fails('EINVAL', () => c.concat(d, d));
    assert.equal(c.concat(d).text(), '0123456789d');
    fails('EINVAL', () => d.length);
    d.free();
    d[Symbol.dispose]();
    const zone = machine.zone('other', { size: 256, align: 256 });
    const item = zone.alloc();
    for (const bad of [0, -256, 3, 256, 1.5, Number.NaN, 2 ** 40, zone.address(item) as number]) {
      assert.match(fails('EINVAL', () => machine.adoptChain(bad)).message, /release/);
    }
    zone.free(item);
    const number = c.release();
    for (const call of [() => c.length, () => c.append('x'), () => c.release(), () => c.views()]) {
      assert.match(fails('EINVAL', call).message, /the chain was released/);
    }
    assert.equal(c.freed, true);
    const again = machine.adoptChain(number);
    fails('EINVAL', () => machine.adoptChain(number));
    again.free();
    fails('EINVAL', () => machine.adoptChain(number));
    const empty = machine.adoptChain(machine.chain().release());
    assert.equal(empty.length, 0);
    assert.equal(empty.append('x').prepend('y').text(), 'yx');
    empty.free();
    const kept = machine.chain('gone with the machine');
    machine.shutdown();
    assert.equal(kept.freed, true);
    fails('ESHUTDOWN', () => kept.length);
    fails('ESHUTDOWN', () => machine.chain());
    kept.free();
  });
  test('at the limit: ENOMEM in every call, the chain as it was; waiting', async (t) => {
    const machine = testMachine(t, { memory: '32M', set: TIGHT });
    const bytes = pattern(5000);
    const a = machine.chain(bytes);
    const b = a.clone();
    const type = machine.type('blocks');
    const block = type.alloc(100);
    const give = takeAll(machine);
    const calls = [
      () => a.append(bytes),
      () => a.prepend(bytes),
      () => a.write(0, 'x'),
      () => a.setUint8(4097, 1),
      () => a.unshare(),
      () => a.slice(1),
      () => a.clone(),
      () => a.split(100),
      () => a.pullup(5000),
      () => a.adopt(type, block, 100),
      () => machine.chain('x'),
      () => machine.chain().release(),
    ];
    for (const call of calls) {
      assert.equal(fails('ENOMEM', call).reason, 'limit');
      for (const c of [a, b]) {
        c.check();
        assert.ok(c.equals(bytes));
      }
    }
    fails('EDEADLK', () => a.append(bytes, { wait: true }));
    fails('ENOMEM', () => a.append(new Uint8Array(2 ** 20), { wait: true }));
    await assert.rejects(a.appendAsync(bytes, { timeout: 20 }), { code: 'ETIMEDOUT' });
    await assert.rejects(a.appendAsync(new Uint8Array(2 ** 20)), { code: 'ENOMEM' });
    const abort = new AbortController();
    const aborted = a.appendAsync(bytes, { signal: abort.signal });
    const freed = b.appendAsync(bytes);
    const waiting = a.appendAsync(bytes);
    setTimeout(() => {
      abort.abort(new RangeError('enough'));
      b.free();
      give();
    }, 20);
    await assert.rejects(aborted, RangeError);
    await assert.rejects(freed, { code: 'EINVAL' });
    assert.ok((await waiting).equals(join(bytes, bytes)));
    type.free(block);
    a.free();
  });
});

/** Collects garbage. */
function gc(): void {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
}
describe('leaks', () => {
  test('levels, places, and what is lost', async (t) => {
    const machine = testMachine(t, { set: { 'kern.ipc.mbuf_leak': 2 } });
    const a = machine.chain('a');
    const b = a.clone();
    const at = (): { live: number; made: number } => {
      const mine = machine.chainSites().filter(({ site }) => /^chain\.test\.[jt]s:\d+$/.test(site));
      assert.equal(mine.length, machine.chainSites().length, JSON.stringify(machine.chainSites()));
      return {
        live: mine.reduce((sum, s) => sum + s.live, 0),
        made: mine.reduce((sum, s) => sum + s.made, 0),
      };
    };
    assert.deepEqual(at(), { live: 2, made: 2 });
    assert.match(String(machine.sysctl('kern.ipc.mbuf_leak_sites')), /1 live of 1 made at chain/);
    const e = fails('EBUSY', () => assertNoLeaks(machine));
    assert.match(e.message, /chain 'chain\.test\.[jt]s:\d+': 1 chains/);
    const c = machine.adoptChain(b.release());
    assert.deepEqual(at(), { live: 2, made: 2 }, 'the place goes with the chain');
    c.free();
    a.free();
    assert.deepEqual(at(), { live: 0, made: 2 });
    machine.sysctl('kern.ipc.mbuf_leak', 0);
    machine.chain('off').free();
    assert.equal(at().made, 2);
    machine.sysctl('kern.ipc.mbuf_leak', 1);
    machine.sysctl('kern.ipc.mbuf_leak_sample', 10);
    for (let i = 0; i < 100; i++) machine.chain().free();
    assert.equal(at().made, 12);
    fails('EINVAL', () => machine.sysctl('kern.ipc.mbuf_leak', 4));
  });
  test('a chain that is lost is reported, with its place and its last touch', async () => {
    const machine = testMachine({}, { set: { 'kern.ipc.mbuf_leak': 3 } });
    const heard: { kind: string; name: string; touched: string }[] = [];
    const hear = (m: unknown): void => void heard.push(m as (typeof heard)[0]);
    const printed: string[] = [];
    const { error } = console;
    channel('kmem:leak').subscribe(hear);
    console.error = (text: string) => void printed.push(text);
    try {
      (() => machine.chain('lost').append('touched'))();
      machine.chain('freed').free();
      await until(() => {
        gc();
        return heard.length > 0;
      }, 'the garbage collector');
    } finally {
      console.error = error;
      channel('kmem:leak').unsubscribe(hear);
    }
    assert.equal(heard.length, 1);
    assert.match(heard[0].name, /^chain\.test\.[jt]s:\d+$/);
    assert.match(heard[0].touched, /^chain\.test\.[jt]s:\d+$/);
    assert.match(printed[0], /made at chain\.test.* was lost without free\(\), last touched/);
    assert.equal(machine.chainSites()[0].live, 1, 'only reported');
    machine.shutdown();
  });
  test('withMachine fails on a chain, by its place', async () => {
    const options = { memory: '16M', set: { 'kern.ipc.mbuf_leak': 2 } };
    const end = withMachine(options, (machine) => machine.chain('left').length);
    await assert.rejects(end, /mbuf 'mbuf': 1 buffers.*chain 'chain\.test\.[jt]s:\d+': 1 chains/);
  });
});

describe('Web streams', () => {
  const chunks = [pattern(10), pattern(5000), pattern(1), pattern(70_000)];
  const source = (): ReadableStream<Uint8Array> => ReadableStream.from(chunks);
  test('bytes in, chains through, bytes out', async (t) => {
    const machine = testMachine(t);
    for (const shared of [false, true]) {
      const got: Uint8Array[] = [];
      const sink = new WritableStream<Uint8Array>({
        write: (bytes) => {
          assert.equal(bytes.buffer === machine.u8.buffer, shared);
          got.push(bytes.slice());
        },
      });
      await readableChains(machine, source()).pipeTo(writableChains(machine, sink, { shared }));
      assert.deepEqual(join(...got), join(...chunks));
    }
    const text = new Response(
      readableChains(machine, source()).pipeThrough(
        new TransformStream<Chain, Uint8Array>({
          transform(chain, controller) {
            controller.enqueue(chain.toUint8Array());
            chain.free();
          },
        }),
      ),
    );
    assert.deepEqual(new Uint8Array(await text.arrayBuffer()), join(...chunks));
  });
  test('a sink that fails, and aborts, free everything', async (t) => {
    const machine = testMachine(t);
    const failing = new WritableStream<Uint8Array>({
      write: () => Promise.reject(new RangeError('full')),
    });
    const to = writableChains(machine, failing);
    const writer = to.getWriter();
    const writes = [1, 2, 3].map((n) => writer.write(machine.chain(pattern(n * 1000))));
    for (const r of await Promise.allSettled(writes)) assert.equal(r.status, 'rejected');
    await assert.rejects(writer.closed, RangeError);

    // A sink that stalls until it is told to stop.
    const begun = Promise.withResolvers<void>();
    const stalling = new WritableStream({
      write: (_, { signal }) => {
        begun.resolve();
        return new Promise((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason));
        });
      },
    });
    const other = writableChains(machine, stalling).getWriter();
    const pending = [1, 2, 3].map((n) => other.write(machine.chain(pattern(n * 1000))));
    const settled = Promise.allSettled(pending);
    await begun.promise;
    await other.abort(new RangeError('stop'));
    for (const r of await settled) assert.equal(r.status, 'rejected');
    assert.deepEqual(leaks(machine), []);

    const broken = readableChains(
      machine,
      new ReadableStream({
        pull: (c) => {
          c.enqueue(pattern(100));
          c.error(new RangeError('cut'));
        },
      }),
    );
    await assert.rejects(broken.getReader().read(), RangeError);
  });
  test('the limit is the back-pressure', async (t) => {
    const machine = testMachine(t, { memory: '32M', set: TIGHT });
    const give = takeAll(machine);
    const reader = readableChains(machine, source()).getReader();
    const first = reader.read();
    setTimeout(give, 20);
    const { value } = await first;
    assert.ok(value?.equals(chunks[0]));
    value?.free();
    const second = await reader.read();
    const hog = takeAll(machine);
    const third = reader.read();
    await new Promise((resolve) => setTimeout(resolve, 10));
    await reader.cancel('enough');
    assert.equal((await third).done, true);
    hog();
    second.value?.free();
    const late = readableChains(machine, source(), { timeout: 10 });
    const again = takeAll(machine);
    await assert.rejects(late.getReader().read(), { code: 'ETIMEDOUT' });
    again();
  });
});
