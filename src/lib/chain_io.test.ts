/*
 * Chains between threads, and on sockets.  Workers are real
 * (chain_io.test.worker.ts); sockets are real, on this host: peers that stall, end
 * one side, reset, send a byte at a time; much data, compared by SHA-256.  After
 * each test nothing is left (testMachine counts buffers), and the kernel's walkers
 * prove the structures.
 */
import assert from 'node:assert/strict';
import { createHash, type Hash } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { PassThrough, Writable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { describe, test, type TestContext } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { createGunzip, createGzip } from 'node:zlib';
import { dice, SEED, ways } from '../sys/machine/seed.test.lib.ts';
import { until } from '../sys/machine/workers.test.lib.ts';
import { boot, type Chain, leaks, type Machine, testMachine } from './index.ts';
import { type ChainSocket, chainWritable, connectChains, wrapSocket } from './streams.ts';

const FILE = new URL('./chain_io.test.worker.ts', import.meta.url);
function start(machine: Machine, job: string, n = 0): Worker {
  return machine.worker<Worker>(FILE, { workerData: { job, n } });
}
async function result<T>(worker: Worker): Promise<T> {
  const [message] = await once(worker, 'message');
  return message as T;
}
const TIGHT = {
  'kern.ipc.nmbclusters': 32,
  'kern.ipc.nmbjumbop': 8,
  'kern.ipc.nmbjumbo9': 4,
  'kern.ipc.nmbjumbo16': 4,
  'kern.ipc.nmbufs': 64,
};
function random(n: number, next: (n: number) => number): Uint8Array {
  return new Uint8Array(n).map(() => next(256));
}

describe('threads', () => {
  test('chains go through a queue, and come as they were', async (t) => {
    const next = dice(SEED);
    const machine = testMachine(t, { memory: '32M' });
    const worker = start(machine, 'hash');
    const queue = machine.queue('chains', { capacity: 64 });
    const hash = createHash('sha256');
    const block = random(20_000, next);
    for (let i = 0; i < 2000; i++) {
      const bytes = block.subarray(next(10_000), 10_000 + next(10_000));
      hash.update(bytes);
      queue.push(machine.chain(bytes, { wait: true }).release());
    }
    queue.close();
    assert.equal(await result(worker), hash.digest('hex'), `KMEM_SEED=${SEED}`);
  });
  for (const INVARIANTS of ways([true, false])) {
    test(`two threads share clusters, not writes; INVARIANTS ${INVARIANTS}`, async (t) => {
      const machine = testMachine(t, { memory: '64M', options: { INVARIANTS } });
      const queues = [0, 1].map((n) => machine.queue(`to ${n}`, { capacity: 64 }));
      const two = [2 * SEED, 2 * SEED + 1].map((n) => start(machine, 'exchange', n));
      for (const passed of await Promise.all(two.map((w) => result<number>(w)))) {
        assert.ok(passed > 0, `KMEM_SEED=${SEED}`);
      }
      for (const q of queues) {
        for (let n = q.tryPop(); n !== undefined; n = q.tryPop()) machine.adoptChain(n).free();
      }
    });
  }
  test('who waits for a limit gets what another thread frees', async (t) => {
    const machine = testMachine(t, { memory: '32M', set: TIGHT });
    const queue = machine.queue('chains');
    const worker = start(machine, 'hog');
    const done = result<number>(worker);
    assert.ok((queue.pop() ?? 0) > 8);
    const chain = machine.chain(new Uint8Array(10_000), { wait: true });
    chain.free();
    assert.ok((await done) > 8);
  });
  test('a thread that dies loses what it held, by name', async () => {
    const set = { 'kern.ipc.mbuf_leak': 2 };
    const machine = boot({ memory: '16M', options: { INVARIANTS: true }, set });
    const worker = start(machine, 'victim');
    const number = machine.queue('chains').pop() ?? 0;
    if (worker.threadId >= 0) await once(worker, 'exit');
    const chain = machine.adoptChain(number);
    assert.ok(chain.equals(new Uint8Array(4900)));
    chain.free();
    const lost = leaks(machine).filter(({ kind }) => kind === 'chain');
    assert.deepEqual(
      lost.map(({ count }) => count),
      [50],
    );
    assert.match(lost[0].name, /^chain_io\.test\.worker\.[jt]s:\d+$/);
    machine.check();
    machine.chain(new Uint8Array(100_000)).free();
    machine.shutdown();
  });
});

/** A server on this host, closed at the end of the test. */
async function listen(t: TestContext, serve: (socket: Socket) => void): Promise<number> {
  const server: Server = createServer({ allowHalfOpen: true }, serve);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}
/** Hashes and frees the chains that come, as slowly as told. */
async function drain(stream: AsyncIterable<unknown>, hash: Hash, pause = 0): Promise<number> {
  let n = 0;
  for await (const chunk of stream) {
    const chain = chunk as Chain;
    for (const view of chain) hash.update(view);
    n += chain.length;
    chain.free();
    if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
  }
  return n;
}
/** Nothing is in use but what the test says. */
async function empty(machine: Machine): Promise<void> {
  await until(() => leaks(machine).length === 0, JSON.stringify(leaks(machine)));
}

describe('sockets', () => {
  for (const readBytes of [2048, 4096, 16384]) {
    test(`much data there and back, read into clusters of ${readBytes}`, async (t) => {
      const machine = testMachine(t, { memory: '32M' });
      const next = dice(SEED);
      const port = await listen(t, (socket) => {
        const peer = wrapSocket(machine, socket, { allowHalfOpen: true });
        pipeline(peer, peer).catch(() => {}); // an echo: chains in, the same chains out
      });
      const socket = connectChains(machine, { port, host: '127.0.0.1' }, { readBytes });
      const sent = createHash('sha256');
      const came = createHash('sha256');
      const back = drain(socket, came);
      const block = random(100_000, next);
      let total = 0;
      for (let i = 0; i < 400; i++) {
        const bytes = block.subarray(next(50_000), 50_000 + next(50_000));
        sent.update(bytes);
        total += bytes.length;
        if (!socket.write(machine.chain(bytes))) await once(socket, 'drain');
      }
      socket.end();
      assert.equal(await back, total);
      assert.equal(came.digest('hex'), sent.digest('hex'), `KMEM_SEED=${SEED}`);
      await empty(machine);
    });
  }
  test('more data than the limits hold, and a slow reader: the limits hold', async (t) => {
    const machine = testMachine(t, { memory: '32M', set: TIGHT });
    const bytes = random(2_000_000, dice(SEED));
    const port = await listen(t, (socket) => socket.end(bytes));
    for (const make of [
      () => connectChains(machine, { port, host: '127.0.0.1' }, { highWaterMark: 1000 }),
      () => wrapSocket(machine, connect(port, '127.0.0.1'), { highWaterMark: 1000 }),
    ]) {
      // More may wait than there are clusters, so that it is the limit that stops the socket.
      const socket = make();
      const hog: Chain[] = [];
      socket.read(0); // it begins to read, and nobody takes what comes
      await until(() => socket.readableLength > 0, 'data');
      const stalled = (): boolean => {
        try {
          hog.push(machine.chain(new Uint8Array(2048)));
          return false;
        } catch {
          return true;
        }
      };
      await until(stalled, 'the limit is reached');
      const hash = createHash('sha256');
      const n = drain(socket, hash);
      await new Promise((resolve) => setTimeout(resolve, 5));
      for (const chain of hog) chain.free();
      assert.equal(await n, bytes.length);
      assert.equal(hash.digest('hex'), createHash('sha256').update(bytes).digest('hex'));
      socket.destroy();
      await empty(machine);
    }
  });
  test('a peer that sends one byte at a time costs no cluster for each', async (t) => {
    const machine = testMachine(t, { memory: '32M', set: TIGHT });
    const text = 'one byte at a time, as slowly as can be';
    const port = await listen(t, (socket) => {
      socket.setNoDelay(true);
      let i = 0;
      const one = (): void => {
        if (i === text.length) socket.end();
        else socket.write(text[i++], () => setImmediate(one));
      };
      one();
    });
    const socket = connectChains(machine, { port, host: '127.0.0.1' });
    const whole = machine.chain();
    for await (const chunk of socket) whole.concat(chunk as Chain);
    assert.equal(whole.text(), text);
    assert.ok(whole.pieces <= 2, 'small ones go into the room of those before');
    whole.free();
    await empty(machine);
  });
  test('a peer that ends its side is answered; ours ends by itself', async (t) => {
    const machine = testMachine(t);
    const port = await listen(t, (socket) => {
      const peer = wrapSocket(machine, socket, { allowHalfOpen: true });
      let n = 0;
      peer.on('data', (chain: Chain) => {
        n += chain.length;
        chain.free();
      });
      peer.on('end', () => peer.end(machine.chain(`${n} bytes came`)));
    });
    const socket = connectChains(machine, { port, host: '127.0.0.1' }, { allowHalfOpen: true });
    socket.end(machine.chain(new Uint8Array(12_345)));
    const parts = machine.chain();
    for await (const chunk of socket) parts.concat(chunk as Chain);
    assert.equal(parts.text(), '12345 bytes came');
    parts.free();
    const plain = connect(port, '127.0.0.1');
    plain.end('abc');
    plain.resume();
    await once(plain, 'close');
    await empty(machine);
  });
  test('a peer that resets: an error, and nothing is left', async (t) => {
    const machine = testMachine(t);
    const port = await listen(t, (socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.resetAndDestroy());
    });
    const socket = connectChains(machine, { port, host: '127.0.0.1' });
    const error = once(socket, 'error').then(([e]) => e as NodeJS.ErrnoException);
    // More than the peer's and our buffers hold: some of it is still ours when it resets.
    for (let i = 0; i < 100; i++) socket.write(machine.chain(new Uint8Array(50_000)));
    const { code } = await error.catch((e: NodeJS.ErrnoException) => e);
    assert.match(code ?? '', /ECONNRESET|EPIPE/);
    await until(() => socket.closed, 'close');
    const late = machine.chain('late');
    socket.write(late);
    assert.equal(late.freed, true);
    await empty(machine);
  });
  test('a peer that stalls: writing waits, destroy frees what had not left', async (t) => {
    const machine = testMachine(t, { memory: '32M' });
    const port = await listen(t, (socket) => {
      socket.pause();
      socket.on('error', () => {});
    });
    const socket = connectChains(machine, { port, host: '127.0.0.1' });
    socket.on('error', () => {});
    await once(socket, 'connect');
    let full = 0;
    for (let i = 0; i < 100; i++) {
      if (!socket.write(machine.chain(new Uint8Array(100_000)))) full++;
    }
    assert.ok(full > 0, 'it never asked to wait');
    assert.ok(leaks(machine).some(({ kind }) => kind === 'mbuf'));
    socket.destroy();
    await once(socket, 'close');
    assert.deepEqual(leaks(machine), []);
  });
  test('chains that nobody read are freed with the socket; so is a refused one', async (t) => {
    const machine = testMachine(t);
    const port = await listen(t, (socket) => {
      socket.on('error', () => {});
      socket.write(new Uint8Array(500_000));
    });
    const socket = connectChains(machine, { port, host: '127.0.0.1' });
    await until(() => socket.readableLength > 3, 'data');
    socket.destroy(new RangeError('enough'));
    await assert.rejects(finished(socket), RangeError);
    assert.deepEqual(leaks(machine), []);
    const ended = connectChains(machine, { port, host: '127.0.0.1' });
    ended.on('error', () => {});
    ended.end();
    const late = machine.chain('late');
    ended.write(late);
    assert.equal(late.freed, true);
    ended.destroy();
    const nobody = connectChains(machine, { port: 1, host: '127.0.0.1' });
    nobody.write(machine.chain('to nobody'));
    const [error] = (await once(nobody, 'error')) as [NodeJS.ErrnoException];
    assert.equal(error.code, 'ECONNREFUSED');
    await empty(machine);
  });
  test('a thread that leaves with open streams gives back what they hold', async (t) => {
    const machine = boot({ memory: '64M', options: { INVARIANTS: true } });
    const port = await listen(t, (socket) => {
      t.after(() => socket.destroy());
      socket.on('error', () => {});
      socket.write(new Uint8Array(200_000));
    });
    const worker = start(machine, 'leave', port);
    const destroyed = await result(worker);
    const left = leaks(machine);
    machine.check();
    await machine[Symbol.asyncDispose]();
    assert.deepEqual(destroyed, [true, true, true, true]);
    // But for the one chain whose target may be reading it where it lies.
    assert.equal(left.length, 1, JSON.stringify(left));
    assert.ok(left[0].bytes > 10_000 && left[0].bytes < 20_000, JSON.stringify(left));
  });
  test('a machine that another thread ends: streams fail by an error', async (t) => {
    const machine = boot({ memory: '32M', options: { INVARIANTS: true } });
    let sockets = 0;
    const port = await listen(t, (socket) => {
      t.after(() => socket.destroy());
      socket.on('error', () => {});
      const more = (): void => {
        if (!socket.destroyed) socket.write(new Uint8Array(10_000), () => setImmediate(more));
      };
      more();
      sockets++;
    });
    const worker = start(machine, 'ended', port);
    const heard = result(worker);
    await until(() => sockets === 2 && leaks(machine).length > 0, 'both read');
    machine.shutdown();
    assert.deepEqual(await heard, ['ESHUTDOWN', 'ESHUTDOWN']);
  });
  test('no cluster to begin with, a bad option, a machine that ends', async (t) => {
    const machine = testMachine(t, { memory: '32M', set: TIGHT });
    const port = await listen(t, (socket) => void socket.on('error', () => {}).write('hello'));
    const to = { port, host: '127.0.0.1' };
    assert.throws(() => connectChains(machine, to, { readBytes: 1 }), { code: 'EINVAL' });
    const hog: Chain[] = [];
    assert.throws(() => {
      for (;;) hog.push(machine.chain(new Uint8Array(2048)));
    });
    assert.throws(() => connectChains(machine, to, { readBytes: 2048 }), { code: 'ENOMEM' });
    for (const chain of hog) chain.free();
    const socket: ChainSocket = connectChains(machine, to);
    const [chain] = (await once(socket, 'data')) as [Chain];
    assert.equal(chain.text(), 'hello');
    chain.free();
    machine.shutdown();
    assert.equal(socket.destroyed, true);
    assert.equal(socket.socket.destroyed, true);
    await once(socket, 'close');
  });
});

describe('other streams', () => {
  test('through gzip and back; copies or views', async (t) => {
    const machine = testMachine(t, { memory: '32M' });
    const bytes = random(300_000, dice(SEED));
    for (const shared of [true, false]) {
      const gzip = createGzip();
      const to = chainWritable(gzip, { shared });
      const hash = createHash('sha256');
      const out = pipeline(gzip, createGunzip(), async (source: AsyncIterable<Buffer>) => {
        for await (const part of source) hash.update(part);
      });
      for (let i = 0; i < bytes.length; i += 30_000) {
        if (!to.write(machine.chain(bytes.subarray(i, i + 30_000)))) await once(to, 'drain');
      }
      to.end();
      await out;
      assert.equal(hash.digest('hex'), createHash('sha256').update(bytes).digest('hex'));
      await empty(machine);
    }
    const pass = new PassThrough();
    const copies = chainWritable(pass);
    copies.end(machine.chain('kept by the stream'));
    await finished(copies);
    machine.chain('XXXXXXXXXXXXXXXXXXXXXXXXX').free();
    assert.equal(String(pass.read()), 'kept by the stream');
  });
  test('a target that fails, or is destroyed', async (t) => {
    const machine = testMachine(t);
    const failing = chainWritable(
      new Writable({ write: (_c, _e, done) => void setImmediate(done, new RangeError('full')) }),
    );
    for (let i = 0; i < 5; i++) failing.write(machine.chain(new Uint8Array(5000)));
    await assert.rejects(finished(failing), RangeError);
    const target = new Writable({ write: () => {} });
    const stuck = chainWritable(target);
    for (let i = 0; i < 5; i++) stuck.write(machine.chain(new Uint8Array(5000)));
    target.destroy();
    await assert.rejects(finished(stuck), { code: 'ERR_STREAM_PREMATURE_CLOSE' });
    await empty(machine);
  });
});
