/*
 * A worker of chain_io.test: attaches, runs the job that workerData names, and
 * posts what it returns.
 */
import { createHash } from 'node:crypto';
import { connect } from 'node:net';
import { Writable } from 'node:stream';
import { parentPort, workerData } from 'node:worker_threads';
import { dice } from '../sys/machine/seed.test.lib.ts';
import { until } from '../sys/machine/workers.test.lib.ts';
import { attach, type Chain, type Machine, writableChains } from './index.ts';
import { type ChainSocket, chainWritable, connectChains, wrapSocket } from './streams.ts';

interface Start {
  readonly job: keyof typeof jobs;
  readonly n: number;
}

const jobs = {
  /** Hashes the chains that come through a queue, and frees them. */
  hash(machine: Machine): unknown {
    const queue = machine.queue('chains', { capacity: 64 });
    const hash = createHash('sha256');
    for (let n = queue.pop(); n !== undefined; n = queue.pop()) {
      const chain = machine.adoptChain(n);
      for (const view of chain) hash.update(view);
      chain.free();
    }
    return hash.digest('hex');
  },
  /**
   * Random work on chains that two threads pass to and fro: each chain holds a
   * number in all its words, which no writer may see changed by another.
   */
  exchange(machine: Machine, n: number): unknown {
    const next = dice(n);
    const mine = machine.queue(`to ${n % 2}`, { capacity: 64 });
    const theirs = machine.queue(`to ${(n + 1) % 2}`, { capacity: 64 });
    const kept: { chain: Chain; mark: number }[] = [];
    let passed = 0;
    for (let step = 0; step < 4000; step++) {
      const got = mine.tryPop();
      if (got !== undefined) {
        const chain = machine.adoptChain(got);
        kept.push({ chain, mark: chain.getUint32(0) });
      }
      const at = next(kept.length + 1);
      if (at === kept.length) {
        const mark = next(2 ** 31);
        const words = new DataView(new ArrayBuffer(4 * (1 + next(1500))));
        for (let i = 0; i < words.byteLength; i += 4) words.setUint32(i, mark);
        kept.push({ chain: machine.chain(words), mark });
      } else work(kept, at, next);
      const last = kept.at(-1);
      if (last === undefined) continue;
      const number = last.chain.clone().release();
      if (theirs.tryPush(number)) passed++;
      else machine.adoptChain(number).free();
      while (kept.length > 20) kept.shift()?.chain.free();
    }
    for (const { chain } of kept) chain.free();
    return passed;
  },
  /** Leaves with streams that hold chains: unread, on their way, queued, waiting for memory. */
  async leave(machine: Machine, port: number): Promise<unknown> {
    const to = { port, host: '127.0.0.1' };
    const streams = [
      connectChains(machine, to),
      wrapSocket(machine, connect(to)),
      chainWritable(new Writable({ write: () => {} }), { shared: true }),
      chainWritable(new Writable({ write: () => {} })),
    ];
    for (const stream of streams) {
      stream.on('error', () => {});
      for (let i = 0; i < 200; i++) stream.write(machine.chain(new Uint8Array(10_000)));
    }
    const web = writableChains(machine, new WritableStream({ write: () => new Promise(() => {}) }));
    const writer = web.getWriter();
    writer.closed.catch(() => {});
    for (let i = 0; i < 3; i++) writer.write(machine.chain('stuck')).catch(() => {});
    for (const stream of streams.slice(0, 2) as ChainSocket[]) {
      stream.read(0);
      await until(() => stream.readableLength > 2, 'data');
    }
    return streams;
  },
  /** Reads from two sockets until the machine is ended by another thread; says what it heard. */
  async ended(machine: Machine, port: number): Promise<unknown> {
    const to = { port, host: '127.0.0.1' };
    const streams = [connectChains(machine, to), wrapSocket(machine, connect(to))];
    const heard = streams.map(async (stream) => {
      try {
        for await (const chunk of stream) (chunk as Chain).free();
        return 'end';
      } catch (e) {
        return (e as { code: string }).code;
      }
    });
    return Promise.all(heard);
  },
  /** Dies with chains in its hands. */
  victim(machine: Machine): unknown {
    const chains = Array.from({ length: 50 }, (_, i) => machine.chain(new Uint8Array(i * 100)));
    machine.queue('chains').push(chains[49].clone().release());
    process.exit(chains.length);
  },
  /** Holds all clusters, and gives them back when somebody waits for them. */
  async hog(machine: Machine): Promise<unknown> {
    const chains: Chain[] = [];
    try {
      for (;;) chains.push(machine.chain(new Uint8Array(2048)));
    } catch {
      machine.queue('chains').push(chains.length);
    }
    const sleeps = (): number => machine.stats().zones.reduce((sum, zone) => sum + zone.sleeps, 0);
    const before = sleeps();
    while (sleeps() === before) await new Promise((resolve) => setTimeout(resolve, 1));
    for (const chain of chains) chain.free();
    return chains.length;
  },
};
/** Looks at a chain, and writes another number into all of it, or frees it. */
function work(kept: { chain: Chain; mark: number }[], at: number, next: (n: number) => number) {
  const k = kept[at];
  const { chain } = k;
  for (let i = 0; i < chain.length; i += 4) {
    if (chain.getUint32(i) !== k.mark) {
      throw new Error(`word ${i} of ${chain.length} is ${chain.getUint32(i)}, not ${k.mark}`);
    }
  }
  if (next(3) === 0) {
    chain.free();
    kept.splice(at, 1);
  } else {
    k.mark = next(2 ** 31);
    for (let i = 0; i < chain.length; i += 4) chain.setUint32(i, k.mark);
  }
}

if (parentPort) {
  const machine = attach(workerData as Parameters<typeof attach>[0]);
  const { job, n } = workerData as Start;
  const result = await jobs[job](machine, n);
  machine.detach();
  parentPort.postMessage(job === 'leave' ? (result as Writable[]).map((s) => s.destroyed) : result);
}
