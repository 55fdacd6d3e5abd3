/*
 * Chains in the hands of a program that does everything wrong: garbage for every
 * argument, bytes that vanish, calls in the wrong order, peers and streams that end
 * in the middle.  Whatever happens is refused by a KmemError that says what was wrong,
 * or done; afterwards every count is back at zero (testMachine looks).
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { Duplex, PassThrough, Readable, Transform, Writable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { describe, test, type TestContext } from 'node:test';
import { until } from '../sys/machine/workers.test.lib.ts';
import {
  type Chain,
  KmemError,
  leaks,
  type Machine,
  readableChains,
  testMachine,
  writableChains,
} from './index.ts';
import { type ChainSocket, chainWritable, connectChains, wrapSocket } from './streams.ts';

const bytes = (n: number): Uint8Array => new Uint8Array(n).map((_, i) => (i * 7 + (i >> 8)) & 255);
/** The call is refused, by one line. */
function refused(call: () => unknown, text = /./): void {
  assert.throws(call, (e) => {
    assert.ok(e instanceof KmemError, `${call}: ${e}`);
    assert.equal(e.code, 'EINVAL', `${call}: ${e}`);
    assert.doesNotMatch(e.message, /undefined|object Object|\n/);
    assert.match(e.message, text);
    return true;
  });
}
const none = (machine: Machine): Promise<void> =>
  until(() => leaks(machine).length === 0, JSON.stringify(leaks(machine)));

describe('arguments', () => {
  const GARBAGE = [Number.NaN, -1, 1.5, 2 ** 53, -0.5, Number.POSITIVE_INFINITY];
  const NOT_NUMBERS = ['1', 1n, {}, [], Symbol('x'), Object.create(null), () => 1] as never[];

  test('offsets and lengths', (t) => {
    const machine = testMachine(t);
    const chain = machine.chain(bytes(5000));
    const before = chain.toUint8Array();
    for (const bad of [...GARBAGE, ...NOT_NUMBERS]) {
      for (const call of [
        () => chain.getUint8(bad),
        () => chain.setUint8(bad, 1),
        () => chain.getBigInt64(bad),
        () => chain.setFloat64(bad, 1),
        () => chain.slice(bad),
        () => chain.slice(0, bad),
        () => chain.split(bad),
        () => chain.pullup(bad),
        () => chain.view(bad),
        () => chain.discard(bad),
        () => chain.truncate(bad),
        () => chain.write(bad, 'x'),
        () => chain.text(bad),
        () => chain.toBuffer(bad),
        () => chain.toUint8Array(0, bad),
        () => chain.copyTo(new Uint8Array(4), bad),
        () => chain.indexOf('x', bad),
        () => machine.adoptChain(bad),
      ]) {
        refused(call);
      }
    }
    for (const bad of [...GARBAGE, 256]) refused(() => chain.indexOf(bad));
    refused(() => chain.getUint8(1n as never), /1n is no place in a chain of 5000 bytes/);
    refused(() => chain.indexOf(256), /256 is no byte/);
    assert.deepEqual(chain.toUint8Array(), before);
    chain.free();
  });
  test('bytes that are none, or are gone', async (t) => {
    const machine = testMachine(t);
    const chain = machine.chain('0123456789');
    for (const bad of [null, 7, 7n, {}, [1], true, Symbol('x'), () => 1, new Date(0)] as never[]) {
      for (const call of [
        () => machine.chain(bad),
        () => chain.append(bad),
        () => chain.prepend(bad),
        () => chain.write(0, bad),
        () => chain.compare(bad),
        () => chain.copyTo(bad),
        () => chain.concat(bad),
      ]) {
        refused(call);
      }
      if (typeof bad !== 'number') refused(() => chain.indexOf(bad));
      await assert.rejects(chain.appendAsync(bad), { code: 'EINVAL', op: 'appendAsync' });
    }
    refused(() => chain.copyTo(new Float64Array(4) as never), /Float64Array is no Uint8Array/);
    const buffer = new ArrayBuffer(16);
    const views = [new Uint8Array(buffer), new DataView(buffer), new Float32Array(buffer), buffer];
    structuredClone(buffer, { transfer: [buffer] });
    for (const gone of views) refused(() => chain.append(gone), /transferred/);
    assert.equal(chain.text(), '0123456789');
    const shrinking = new ArrayBuffer(8, { maxByteLength: 16 });
    const tail = new DataView(shrinking, 4);
    const all = new Uint8Array(shrinking).fill(65);
    shrinking.resize(16);
    assert.equal(chain.append(all).length, 26);
    shrinking.resize(2);
    assert.equal(chain.append(all).length, 28);
    refused(() => chain.append(tail), /shrunk/);
    chain.free();
  });
  test('a source that changes its length while it waits', async (t) => {
    const machine = testMachine(t, { set: { 'kern.ipc.nmbclusters': 8 } });
    const hog: Chain[] = [];
    assert.throws(() => {
      for (;;) hog.push(machine.chain(bytes(2048)));
    });
    const buffer = new ArrayBuffer(2048);
    const chain = machine.chain();
    const want = chain.appendAsync(buffer);
    const given = assert.rejects(want, { code: 'EINVAL', message: /had 2048 bytes, and 0/ });
    structuredClone(buffer, { transfer: [buffer] });
    for (const c of hog) c.free();
    await given;
    assert.equal(chain.length, 0);
    chain.free();
  });
  test('all kinds of memory, texts of all kinds, and nothing at all', (t) => {
    const machine = testMachine(t);
    const data = bytes(3000);
    const shared = new Uint8Array(new SharedArrayBuffer(3000));
    shared.set(data);
    const pooled = Buffer.from(data.subarray(0, 100));
    assert.notEqual(pooled.buffer.byteLength, 100, 'from the pool');
    const chain = machine.chain(shared).append(pooled).append(shared.buffer);
    assert.deepEqual(chain.toUint8Array(0, 3100), new Uint8Array([...data, ...pooled]));
    assert.deepEqual(chain.toUint8Array(3100), data);
    chain.free();
    for (const text of ['\ud800', 'a\udc00b', '\ufeffmark', '\0', 'é€😀', '']) {
      const c = machine.chain(text);
      assert.equal(c.text(), Buffer.from(text).toString());
      assert.equal(c.indexOf(text), 0);
      c.free();
    }
    const empty = machine.chain('').append(new Uint8Array(0)).prepend('').concat(machine.chain());
    empty.write(0, '').discard(0).truncate(0).pullup(0).unshare();
    assert.deepEqual([empty.length, empty.pieces, [...empty], empty.text()], [0, 0, [], '']);
    assert.equal(empty.view(0).length + empty.toBuffer().length + empty.copyTo(data), 0);
    const parts = [empty.slice(), empty.clone(), empty.split(0), empty.slice(0, 0)];
    for (const part of parts) assert.equal(empty.concat(part).length, 0);
    const again = machine.adoptChain(empty.release());
    assert.equal(again.append('x').text(), 'x');
    again.free();
  });
  test('a chain written over with a view of itself', (t) => {
    const machine = testMachine(t);
    for (const shift of [1, 10, 100, 2000]) {
      const chain = machine.chain(bytes(2048)).concat(machine.chain(bytes(2048)));
      const model = chain.toUint8Array();
      const view = chain.view();
      model.copyWithin(shift, 0, view.length);
      chain.write(shift, view);
      assert.deepEqual(chain.toUint8Array(), model);
      const twice = new Uint8Array([...model, ...model.subarray(0, chain.view().length)]);
      assert.deepEqual(chain.append(chain.view()).toUint8Array(), twice);
      chain.free();
    }
  });
  test('numbers of every width at every border, as a DataView has them', (t) => {
    const machine = testMachine(t);
    const WIDTHS = { 8: ['Int8', 'Uint8'], 16: ['Int16', 'Uint16'], 32: ['Int32', 'Uint32'] };
    const names = [...Object.values(WIDTHS).flat(), 'Float32', 'Float64', 'BigInt64', 'BigUint64'];
    const model = new DataView(bytes(40).buffer as ArrayBuffer);
    const chain = machine.chain();
    const whole = machine.chain(bytes(2048));
    const sizes = [1, 2, 3, 1, 1, 5, 7, 9, 11];
    for (let at = 0, i = 0; at < 40; at += sizes[i++]) {
      chain.concat(whole.slice(at, at + sizes[i])); // shared, so that they stay apart
    }
    whole.free();
    assert.equal(chain.pieces, sizes.length);
    const plain = chain as never as Record<string, (...args: unknown[]) => unknown>;
    const wanted = model as never as typeof plain;
    for (const name of names) {
      const width = Number(/\d+/.exec(name)?.[0]) / 8;
      for (let at = 0; at + width <= 40; at++) {
        for (const little of [false, true, undefined]) {
          const got = plain[`get${name}`](at, little);
          assert.ok(Object.is(got, wanted[`get${name}`](at, little)), `${name} at ${at}`);
          const value = name.startsWith('Big') ? BigInt(at) * -0x123456789abn : at * -1234.5;
          const other = chain.clone();
          const before = other.toUint8Array();
          plain[`set${name}`](at, value, little);
          wanted[`set${name}`](at, value, little);
          assert.deepEqual(chain.toUint8Array(), new Uint8Array(model.buffer), `${name} at ${at}`);
          assert.deepEqual(other.toUint8Array(), before, 'nobody sees the write');
          other.free();
        }
      }
      refused(() => plain[`get${name}`](41 - width));
    }
    chain.free();
  });
});

describe('the wrong order', () => {
  test('released, adopted twice, given away, freed', (t) => {
    const machine = testMachine(t);
    const chain = machine.chain(bytes(3000));
    const n = chain.release();
    for (const call of [() => chain.length, () => chain.release(), () => chain.append('x')]) {
      refused(call, /was released/);
    }
    chain.free();
    const mine = machine.adoptChain(n);
    refused(() => machine.adoptChain(n), /adopted already/);
    for (const near of [n + 4, n + 256, n - 256, 0, 4]) refused(() => machine.adoptChain(near));
    const other = machine.chain('x').concat(mine);
    refused(() => mine.text(), /given to another chain/);
    refused(() => other.concat(mine));
    mine.free();
    assert.equal(other.length, 3001);
    other.free();
    other.free();
    refused(() => other.view(), /was freed/);
    refused(() => machine.adoptChain(n));
  });
  test('a chain that is written is the stream’s: neither changed nor written again', async (t) => {
    const machine = testMachine(t);
    for (const shared of [false, true]) {
      const sink = new Writable({ write: (_c, _e, done) => void setImmediate(done) });
      const stream = chainWritable(sink, { shared });
      const chain = machine.chain('abc');
      stream.write(chain);
      assert.equal(chain.freed, true);
      refused(() => chain.append('d'), /given to a stream|was freed/);
      chain.free();
      stream.on('error', () => {});
      stream.write(chain);
      await assert.rejects(finished(stream), { code: 'EINVAL', op: 'write' });
    }
    for (const bad of [5, {}, true]) {
      const stream = chainWritable(new PassThrough());
      stream.write(machine.chain('first'));
      stream.write(bad);
      await assert.rejects(finished(stream), { code: 'EINVAL', op: 'write' });
    }
    await none(machine);
  });
});

/** A socket of ours and its peer. */
async function pair(t: TestContext, machine: Machine): Promise<[ChainSocket, Socket]> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const socket = connectChains(machine, { port, host: '127.0.0.1' });
  const [peer] = (await once(server, 'connection')) as [Socket];
  peer.on('error', () => {});
  t.after(() => {
    socket.destroy();
    peer.destroy();
    server.close();
  });
  return [socket, peer];
}

describe('streams', () => {
  test('a reader that breaks off; backpressure that is never released', async (t) => {
    const machine = testMachine(t);
    const [socket, peer] = await pair(t, machine);
    peer.write(bytes(400_000));
    await until(() => socket.readableLength > 2, 'more than one chain');
    for await (const chunk of socket) {
      (chunk as Chain).free();
      break;
    }
    assert.equal(socket.destroyed, true);
    const [other, sender] = await pair(t, machine);
    other.read(0);
    for (let i = 0; i < 20; i++) sender.write(bytes(100_000));
    await until(() => other.readableLength >= 16, 'it is full');
    other.destroy();
    await none(machine);
  });
  test('a pipeline whose middle fails, or is destroyed', async (t) => {
    const machine = testMachine(t);
    for (const how of ['throws', 'fails', 'destroyed']) {
      const [from, peer] = await pair(t, machine);
      const [to] = await pair(t, machine);
      peer.write(bytes(300_000));
      let n = 0;
      const middle: Transform = new Transform({
        objectMode: true,
        highWaterMark: 1,
        transform(chain: Chain, _, done) {
          if (++n < 4) return done(null, chain);
          chain.free();
          if (how === 'throws') throw new RangeError('middle');
          if (how === 'fails') done(new RangeError('middle'));
          else middle.destroy(new RangeError('middle'));
        },
        // What it holds is nobody's then but its own.
        destroy(error, done) {
          for (let c = middle.read() as Chain | null; c !== null; c = middle.read()) c.free();
          done(error);
        },
      });
      const end = pipeline(from, middle, to);
      if (how === 'throws') {
        middle.destroy(new RangeError('middle')); // a throw would end the process: as in Node
      }
      await assert.rejects(end, RangeError);
      await until(() => from.closed && to.closed, 'both are closed');
    }
    await none(machine);
  });
  test('options and sockets that are none', async (t) => {
    const machine = testMachine(t);
    const to = { port: 1, host: '127.0.0.1' };
    refused(() => connectChains(machine, to, { highWaterMark: -1 }), /-1 is no whole number/);
    const far = { port: 1e9, host: '127.0.0.1' };
    refused(() => connectChains(machine, far), /the host refuses it: .*[Pp]ort/);
    refused(() => connectChains(machine, to, { readBytes: 7 }), /readBytes 7 is none of/);
    refused(() => wrapSocket(machine, {} as Socket), /Object is no socket/);
    refused(() => wrapSocket(machine, null as never), /null is no socket/);
    const [ours, peer] = await pair(t, machine);
    refused(() => wrapSocket(machine, peer, { readBytes: 0 }));
    wrapSocket(machine, peer).resume();
    refused(() => wrapSocket(machine, peer), /wrapped before/);
    ours.destroy();
    const [second, texts] = await pair(t, machine);
    texts.setEncoding('utf8');
    refused(() => wrapSocket(machine, texts), /encoding/);
    const client = connect({ port: 1, host: '127.0.0.1' });
    client.on('error', () => {});
    await until(() => client.closed, 'it is closed');
    const late = wrapSocket(machine, client);
    await until(() => late.closed, 'so is the stream');
    second.end();
    const [third, ended] = await pair(t, machine);
    third.end();
    await once(ended.resume(), 'end');
    const wrap = wrapSocket(machine, ended);
    for await (const _ of wrap) assert.fail('nothing comes');
    wrap.destroy();
    third.destroy();
    second.destroy();
    await none(machine);
  });
  test('an encoding that comes later is an error, not garbage', async (t) => {
    const machine = testMachine(t);
    const [ours, peer] = await pair(t, machine);
    const wrap = wrapSocket(machine, peer);
    peer.setEncoding('latin1');
    ours.write('text');
    wrap.resume();
    await assert.rejects(finished(wrap), { code: 'EINVAL', op: 'read' });
    ours.destroy();
    await none(machine);
  });
  test('chains through streams of Node that know nothing of them', async (t) => {
    const machine = testMachine(t);
    const chains = (): Chain[] => [1, 10, 5000].map((n) => machine.chain(bytes(n)));
    const got: Chain[] = [];
    await pipeline(Readable.from(chains()), new PassThrough({ objectMode: true }), async (all) => {
      for await (const chain of all) got.push(chain as Chain);
    });
    const to = chainWritable(new Writable({ write: (_c, _e, done) => done() }));
    await pipeline(Readable.from(got), to);
    const writable = chainWritable(new PassThrough().resume()) as never;
    await pipeline(Readable.from(chains()), Duplex.from({ writable } as never));
    await none(machine);
  });
  test('Web streams: cancel, abort, tee, chunks that are none', async (t) => {
    const machine = testMachine(t);
    const source = (...chunks: unknown[]): ReadableStream<Uint8Array> =>
      ReadableStream.from(chunks) as ReadableStream<Uint8Array>;
    const cancelled = readableChains(machine, source(bytes(10), bytes(20)));
    const reader = cancelled.getReader();
    (await reader.read()).value?.free();
    await reader.cancel('enough');
    for (const bad of [5, null, {}]) {
      const end = readableChains(machine, source(bad)).getReader().read();
      await assert.rejects(end, { code: 'EINVAL', op: 'appendAsync' });
    }
    const [one, two] = readableChains(machine, source(bytes(10))).tee();
    const [a, b] = await Promise.all([one.getReader().read(), two.getReader().read()]);
    assert.equal(a.value, b.value, 'both get the same chain: one of them is to clone it');
    a.value?.free();
    const stuck = new WritableStream<Uint8Array>({ write: () => new Promise(() => {}) });
    const writer = writableChains(machine, stuck).getWriter();
    writer.closed.catch(() => {});
    for (let i = 0; i < 3; i++) writer.write(machine.chain(bytes(5000))).catch(() => {});
    await new Promise((resolve) => setImmediate(resolve));
    writer.abort(new RangeError('stop')).catch(() => {});
    await none(machine); // though its sink never ends
  });
  test('Web streams: a chain that is written twice', async (t) => {
    const machine = testMachine(t);
    const writer = writableChains(machine, new WritableStream()).getWriter();
    const kept = machine.chain('kept');
    await writer.write(kept);
    assert.equal(kept.freed, true);
    await writer.close();
    const other = writableChains(machine, new WritableStream()).getWriter();
    other.closed.catch(() => {});
    kept.free();
    const rest = machine.chain('rest');
    const writes = [other.write(kept), other.write(rest)];
    await assert.rejects(writes[0], { code: 'EINVAL', op: 'writableChains' });
    await assert.rejects(writes[1]);
    await none(machine);
  });
});
