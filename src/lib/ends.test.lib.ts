/*
 * A thread that does all that the façade offers, at random, until its machine ends or it
 * has had enough, and then leaves in one of the ways there are.
 *
 *      acts: sync calls, waits in the event loop, streams, sockets, dumps
 *        |        another thread shuts down, panics, boots anew
 *        v
 *      leave: detach, dispose, asyncDispose, shutdown; then what it still has in
 *             its hand (holds, parks, listeners) is let go of
 *
 * What may reach the program is judged here.  A call in progress may say ESHUTDOWN, or
 * KernelPanic, but only if the machine has indeed ended so; memory that is short, time
 * that is over and an owner that died are ordinary.  Leaving and letting go say nothing.
 * Every wait comes to its end.  What is found wrong is a line of text each.
 */
import { createServer, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { join } from 'node:path';
import { dice } from '../sys/machine/seed.test.lib.ts';
import {
  type Chain,
  KernelPanic,
  KmemError,
  type Machine,
  type OtelApi,
  readableChains,
  writableChains,
} from './index.ts';
import { TestClient } from './listen.test.lib.ts';
import { chainWritable, connectChains } from './streams.ts';

/** How a thread leaves. `exit`: its thread ends while it is in the machine. */
export type Way = 'detach' | 'dispose' | 'asyncDispose' | 'shutdown' | 'exit';

/** Longest that a wait may take to end once its machine has, ms: the host may be slow. */
const ENDS_MS = 240_000;
/** What may fail though the machine is well. */
const ORDINARY = new Set(['ENOMEM', 'ETIMEDOUT', 'EDEADLK', 'EOWNERDEAD', 'EAGAIN', 'EADDRINUSE']);

export interface Place {
  /** A folder for sockets and dumps. */
  readonly folder: string;
  /** Port of a server that sends back what it gets. */
  readonly port: number;
}
type Dice = (n: number) => number;
type Act = (a: Actor) => void;

export class Actor {
  readonly machine: Machine;
  readonly roll: Dice;
  readonly place: Place;
  /** What was found wrong. */
  readonly faults: string[] = [];
  /** How many acts met the end of the machine. */
  ended = 0;
  acts = 0;
  /** What is to be let go of when the thread has left. */
  readonly #hand: { name: string; letGo: () => unknown }[] = [];
  readonly #waits: { name: string; over: Promise<void> }[] = [];
  parked: Disposable | null = null;

  constructor(machine: Machine, seed: number, place: Place) {
    this.machine = machine;
    this.roll = dice(seed);
    this.place = place;
  }
  /** An error met by `name`: ordinary, or that of a machine that has ended. */
  met(name: string, e: unknown): void {
    const { machine } = this;
    if (e instanceof KmemError && (ORDINARY.has(e.code) || isParked(e))) return;
    const down = e instanceof KmemError && e.code === 'ESHUTDOWN';
    if ((down || e instanceof KernelPanic) && !machine.up) {
      this.ended++;
      return;
    }
    this.wrong(name, e);
  }
  wrong(name: string, e: unknown): void {
    const text = e instanceof Error ? `${e.stack}` : String(e);
    this.faults.push(`${name}: ${text}`);
  }
  /** Does one act at random. */
  act(): void {
    const names = Object.keys(ACTS);
    const name = names[this.roll(names.length)];
    this.acts++;
    try {
      ACTS[name](this);
    } catch (e) {
      this.met(name, e);
    }
  }
  /** A wait in the event loop: it ends some time. */
  wait(name: string, run: () => Promise<unknown>): void {
    const over = run().then(
      () => {},
      (e: unknown) => {
        if (e !== ENOUGH) this.met(name, e);
      },
    );
    this.#waits.push({ name, over });
  }
  /** Keeps something that the program lets go of at the very end. */
  keep(name: string, letGo: () => unknown): void {
    this.#hand.push({ name, letGo });
  }
  /** Lets go of what it keeps, of some things while the machine runs. Nothing may be thrown. */
  async letGo(most: number): Promise<void> {
    for (let n = 0; n < most && this.#hand.length > 0; n++) {
      const at = this.roll(this.#hand.length);
      const [{ name, letGo }] = this.#hand.splice(at, 1);
      try {
        await letGo();
      } catch (e) {
        if (isParked(e)) this.#hand.push({ name, letGo });
        else this.wrong(`letting go of ${name}`, e);
      }
    }
  }
  /** Leaves the machine. */
  async leave(way: Way): Promise<void> {
    if (this.parked !== null) this.#unpark();
    try {
      await this.#leave(way);
    } catch (e) {
      this.wrong(`leaving by ${way}`, e);
    }
    await this.letGo(Number.POSITIVE_INFINITY);
    const late = setTimeout(() => {
      const names = this.#waits.filter(({ name }) => name !== '').map(({ name }) => name);
      this.wrong('waits', `no end of ${names.join(', ')}`);
      stop.resolve();
    }, ENDS_MS);
    const stop = Promise.withResolvers<void>();
    const all = this.#waits.map(async (w) => {
      await w.over;
      w.name = '';
    });
    await Promise.race([Promise.all(all), stop.promise]);
    clearTimeout(late);
  }
  async #leave(way: Way): Promise<void> {
    const { machine } = this;
    if (way === 'shutdown') return machine.shutdown();
    if (way === 'asyncDispose') return await machine[Symbol.asyncDispose]();
    if (way === 'dispose') return machine[Symbol.dispose]();
    try {
      machine.detach();
    } catch (e) {
      if ((e as KmemError).code !== 'EBUSY') throw e;
      machine[Symbol.dispose](); // it holds locks: they are abandoned
    }
  }
  unpark(): void {
    if (this.parked !== null) this.#unpark();
  }
  #unpark(): void {
    try {
      this.parked?.[Symbol.dispose]();
    } catch (e) {
      this.wrong('the end of park()', e);
    }
    this.parked = null;
  }
}

/** A call that a thread made while it was parked. */
function isParked(e: unknown): boolean {
  return e instanceof KmemError && e.code === 'EBUSY' && /parked/.test(e.message);
}
/** Says that the program itself has ended a wait. */
const ENOUGH = new Error('enough');

const shape = { x: 'f64', y: 'i32' } as const;
const zoneOf = ({ machine }: Actor) => machine.zone('z', { size: 256, limit: 40 });
const recordsOf = ({ machine }: Actor) => machine.records('r', shape, { capacity: 50 });
const queueOf = ({ machine }: Actor) => machine.queue('q', { capacity: 6 });
const soon = (): Promise<void> => new Promise((go) => setImmediate(go));

function options(a: Actor): { timeout?: number; signal?: AbortSignal } {
  switch (a.roll(4)) {
    case 0:
      return { timeout: a.roll(20) };
    case 1: {
      const stop = new AbortController();
      setTimeout(() => stop.abort(ENOUGH), a.roll(10));
      return { signal: stop.signal };
    }
    case 2:
      return { timeout: 600_000 };
    default:
      return {};
  }
}

const ACTS: Record<string, Act> = {
  // --- calls -------------------------------------------------------------------------------
  blocks({ machine, roll }) {
    const type = machine.type('t');
    const all = Array.from({ length: 1 + roll(30) }, () => type.tryAlloc(1 + roll(3000)));
    const large = type.tryAlloc(5000 + roll(60_000), { zero: true });
    for (const at of [...all, large]) if (at !== undefined) type.free(at);
  },
  items(a) {
    const z = zoneOf(a);
    const all = Array.from({ length: a.roll(15) }, () => z.tryAlloc());
    for (const item of all) if (item !== undefined) z.free(item);
  },
  records(a) {
    const r = recordsOf(a);
    const all = Array.from({ length: a.roll(15) }, () => r.tryAlloc());
    for (const item of all) if (item !== undefined) r.free(item);
  },
  blocked(a) {
    const wait = a.roll(8);
    if (a.roll(2) === 0) {
      const z = zoneOf(a);
      z.free(z.alloc({ wait }));
    } else {
      const t = a.machine.type('t');
      t.free(t.alloc(100_000, { wait }));
    }
  },
  queue(a) {
    const q = queueOf(a);
    const timeout = a.roll(6);
    if (a.roll(2) === 0) q.push(a.roll(100), { timeout });
    else q.pop({ timeout });
  },
  mutex(a) {
    const m = a.machine.mutex('m');
    if (m.owned) return;
    recovering(() => m.run(() => spin(a.roll(300)), { timeout: 20 + a.roll(2000) }), m);
  },
  holds(a) {
    const m = a.machine.mutex('m');
    if (m.owned) return;
    recovering(() => {
      const hold = m.lock({ timeout: 20 + a.roll(200) });
      a.keep('a mutex', () => hold[Symbol.dispose]());
    }, m);
  },
  rwlock(a) {
    const l = a.machine.rwlock('l');
    const timeout = 20 + a.roll(200);
    recovering(() => {
      if (a.roll(2) === 0) l.read(() => spin(a.roll(300)), { timeout });
      else l.write(() => spin(a.roll(300)), { timeout });
    }, l);
  },
  condition(a) {
    const m = a.machine.mutex('cm');
    const c = a.machine.condition('c');
    recovering(() => {
      if (a.roll(3) === 0) c.broadcast();
      else m.run(() => c.waitUntil(m, () => a.roll(3) === 0, { timeout: a.roll(6) }));
    }, m);
  },
  chains(a) {
    const chain = a.machine.chain(new Uint8Array(a.roll(6000)));
    const other = chain.clone().append('text');
    other.concat(chain);
    other.free();
    chain.free();
  },
  block(a) {
    const block = a.machine.type('t').block(100);
    a.keep('a block', () => block[Symbol.dispose]());
  },
  chain(a) {
    const chain = a.machine.chain('kept');
    a.keep('a chain', () => chain[Symbol.dispose]());
  },
  space(a) {
    const { machine, roll } = a;
    sharing(() => {
      const space = machine.space(`s${roll(2)}`);
      const m = space.mmap({ name: `m${roll(3)}`, length: 16_384 });
      m.write(roll(8000), new Uint8Array(roll(8000)).fill(roll(256)));
      m.setF64(8 * roll(1000), m.getU32(4 * roll(1000)));
      m.read(0, new Uint8Array(roll(16_384)));
      space.load32(m.address);
      m.indexOf('nowhere');
      space.regions();
      if (roll(4) === 0) m.protect(roll(2) === 0 ? 'rw' : 'rwx');
      if (roll(4) === 0) m.advise(roll(2) === 0 ? 'free' : 'willneed');
      if (roll(6) === 0) m.unmap({ wait: roll(6) });
      if (roll(6) === 0) space.destroy({ wait: roll(6) });
      if (roll(6) === 0) space.dispose();
    });
  },
  window(a) {
    const { machine, roll } = a;
    sharing(() => {
      const m = machine.space(`s${roll(2)}`).mmap({ name: `m${roll(3)}`, length: 16_384 });
      const w = m.window(roll(8000), 1 + roll(8000), { write: roll(2) === 0, wait: roll(6) });
      w.u8.indexOf(3);
      if (roll(2) === 0) a.keep('a window', () => w.close());
      else w.close();
      for (const one of m.windows({ size: 5000, wait: roll(4) })) one.u8.indexOf(3);
    });
  },
  fork(a) {
    const { machine, roll } = a;
    sharing(() => {
      const name = `fork ${roll(3)}`;
      const snap = machine.space(`s${roll(2)}`).fork(name, { wait: roll(20) });
      for (const { address } of snap.regions()) snap.load32(address);
      if (roll(2) === 0) a.keep('a space', () => snap.dispose());
      else snap.destroy({ wait: roll(6) });
    });
  },
  region(a) {
    const { machine, roll } = a;
    sharing(() => {
      const m = machine.space(`s${roll(2)}`).mmap({ length: 4096 });
      m.setU8(0, 1);
      a.keep('a region', () => m[Symbol.dispose]());
    });
  },
  names(a) {
    const { machine, roll } = a;
    const name = `n${roll(3)}`;
    const made = [
      () => machine.zone(name, { size: 64 }),
      () => machine.records(name, { x: 'u8' }, { capacity: 9 }),
      () => machine.queue(name, { capacity: 3 }),
      () => machine.mutex(name),
      () => machine.rwlock(name),
      () => machine.condition(name),
      () => machine.type(name),
    ][roll(7)]();
    if (roll(2) === 0) a.keep(`'${name}'`, () => made[Symbol.dispose]());
    else made[Symbol.dispose]();
  },
  roots({ machine, roll }) {
    machine.roots.set('root', roll(1000));
    machine.roots.delete('root');
  },
  looks({ machine, roll }) {
    const looks = [
      () => machine.stats(),
      () => machine.memory(),
      () => machine.vmstat('z'),
      () => machine.vmstat('m'),
      () => machine.netstat(),
      () => machine.sysctl('vm.stats.vm.v_free_count'),
      () => machine.collect(),
      () => machine.chainSites(),
    ];
    looks[roll(looks.length)]();
  },
  away({ machine, roll }) {
    machine.away(() => spin(roll(2000)));
  },
  park(a) {
    if (a.parked === null) a.parked = a.machine.park();
    else a.unpark();
  },
  // --- waits in the event loop ---------------------------------------------------------------
  allocAsync(a) {
    const z = zoneOf(a);
    a.wait('zone.allocAsync', async () => {
      const item = await z.allocAsync(options(a));
      await soon();
      if (a.machine.up) z.free(item);
    });
  },
  recordAsync(a) {
    const r = recordsOf(a);
    a.wait('records.allocAsync', async () => {
      const item = await r.allocAsync(options(a));
      await soon();
      if (a.machine.up) r.free(item);
    });
  },
  blockAsync(a) {
    const t = a.machine.type('t');
    a.wait('type.allocAsync', async () => {
      const at = await t.allocAsync(1_000_000, options(a));
      await soon();
      if (a.machine.up) t.free(at);
    });
  },
  popAsync(a) {
    a.wait('popAsync', () => queueOf(a).popAsync(options(a)));
  },
  pushAsync(a) {
    a.wait('pushAsync', () => queueOf(a).pushAsync(a.roll(100), options(a)));
  },
  iterates(a) {
    const q = a.machine.queue('iterated', { capacity: 4 });
    q.tryPush(1);
    a.wait('for await of a queue', async () => {
      for await (const value of q) if (value === 1) break;
    });
  },
  lockAsync(a) {
    const m = a.machine.mutex('am');
    a.wait('runAsync', () => m.runAsync(soon, options(a)).catch((e) => recovered(e, m)));
  },
  waitAsync(a) {
    const m = a.machine.mutex('am');
    const c = a.machine.condition('ac');
    a.wait('waitAsync', async () => {
      try {
        await m.lockAsync(options(a));
        await c.waitAsync(m, () => a.roll(2) === 0, options(a));
        m.unlock();
      } catch (e) {
        recovered(e, m);
      }
    });
    if (!a.machine.mutex('am').owned) c.signal();
  },
  windowAsync(a) {
    const { machine, roll } = a;
    sharing(() => {
      const m = machine.space(`s${roll(2)}`).mmap({ name: `m${roll(3)}`, length: 16_384 });
      a.wait('windowAsync', async () => {
        try {
          const w = await m.windowAsync(0, 9000, { wait: roll(20), write: true });
          await soon();
          w.close();
        } catch (e) {
          meanwhile(e);
        }
      });
    });
  },
  forkAsync(a) {
    const { machine, roll } = a;
    sharing(() => {
      const space = machine.space(`s${roll(2)}`);
      a.wait('forkAsync', async () => {
        try {
          const snap = await space.forkAsync(`fork ${roll(3)}`, { wait: roll(40) });
          await soon();
          snap.destroy();
        } catch (e) {
          meanwhile(e);
        }
      });
    });
  },
  appendAsync(a) {
    const { machine } = a;
    a.wait('appendAsync', async () => {
      const chain = machine.chain();
      a.keep('a chain', () => chain[Symbol.dispose]());
      await chain.appendAsync(new Uint8Array(200_000), options(a));
      if (machine.up && a.parked === null) chain.truncate(0);
    });
  },
  // --- what goes on beside -------------------------------------------------------------------
  lowMemory(a) {
    const heard = a.machine.onLowMemory(() => {});
    a.keep('onLowMemory', () => heard[Symbol.dispose]());
  },
  observe(a) {
    const { api, read } = otel();
    const observed = a.machine.observe(api, {});
    a.keep('observe', () => observed[Symbol.dispose]());
    setTimeout(() => {
      try {
        read(); // what a reader does some time
      } catch (e) {
        a.wrong('a reader of OpenTelemetry', e);
      }
    }, a.roll(10));
  },
  trace(a) {
    a.machine.trace(a.roll(2) === 0);
  },
  dump(a) {
    if (a.roll(6) > 0) return;
    a.machine.dump(join(a.place.folder, `${process.pid}.${Math.random()}.core`));
  },
  listen(a) {
    if (a.roll(3) > 0) return;
    const path = join(a.place.folder, `${a.roll(1_000_000_000)}`);
    a.wait('listen', async () => {
      const listener = await a.machine.listen({ path });
      a.keep('a listener', () => listener.close());
      const client = new TestClient(path);
      for (let n = a.roll(20); n > 0 && !client.closed; n--) {
        client.send([0, 0], 4096);
        await client.frame();
      }
      client.socket.destroy();
    });
  },
  webStreams(a) {
    const { machine, roll } = a;
    a.wait('web streams', async () => {
      const bytes = new Blob([new Uint8Array(roll(50_000))]).stream();
      const sink = new WritableStream<Uint8Array>({ write: soon });
      await readableChains(machine, bytes).pipeTo(writableChains(machine, sink));
    });
  },
  writable(a) {
    const target = new PassThrough();
    target.resume();
    streaming(a, 'chainWritable', chainWritable(target));
  },
  socket(a) {
    if (a.roll(2) > 0) return;
    streaming(a, 'connectChains', connectChains(a.machine, { port: a.place.port }));
  },
};

/** Writes chains to a stream for a while; what it brings is freed. */
function streaming(
  a: Actor,
  name: string,
  stream: NodeJS.WritableStream & { destroy(): void },
): void {
  const { machine, roll } = a;
  stream.on('error', (e: unknown) => {
    if (isParked(e))
      a.wrong(name, e); // nobody called: it should have waited
    else a.met(name, e);
  });
  stream.on('data', (chain: Chain) => {
    try {
      chain.free();
    } catch (e) {
      a.met(name, e);
    }
  });
  a.keep(name, () => stream.destroy());
  a.wait(name, async () => {
    for (let n = roll(20); n > 0; n--) {
      await soon();
      if (a.parked !== null) continue;
      stream.write(machine.chain(new Uint8Array(roll(9000))) as unknown as string);
    }
    if (roll(2) === 0) stream.end();
  });
}
/** What a thread may meet whose spaces others fork, unmap and destroy, or have windows on. */
const MEANWHILE = new Set(['ESTALE', 'EBUSY', 'EEXIST', 'EFAULT']);
function sharing(run: () => void): void {
  try {
    run();
  } catch (e) {
    meanwhile(e);
  }
}
function meanwhile(e: unknown): void {
  if (!(e instanceof KmemError) || isParked(e)) throw e;
  const disposed = e.code === 'ESHUTDOWN' && /disposed of/.test(e.message);
  if (!disposed && !MEANWHILE.has(e.code)) throw e;
}
function spin(rounds: number): void {
  for (let i = 0; i < rounds * 10; i++);
}
/** A lock whose owner died, or left with it, is made good again. */
function recovering(run: () => void, lock: { recover(fn: () => void): boolean }): void {
  try {
    run();
  } catch (e) {
    recovered(e, lock);
  }
}
function recovered(e: unknown, lock: { recover(fn: () => void): boolean }): void {
  if (!(e instanceof KmemError && e.code === 'EOWNERDEAD')) throw e;
  lock.recover(() => {});
}
/** As much of OpenTelemetry as observe() asks for. */
function otel(): { api: OtelApi; read: () => void } {
  const all = new Set<(r: { observe(): void }) => void>();
  const meter = {
    createObservableGauge: () => ({}),
    createObservableCounter: () => ({}),
    addBatchObservableCallback: (read: never) => all.add(read),
    removeBatchObservableCallback: (read: never) => all.delete(read),
  };
  const api = { metrics: { getMeter: () => meter } } as unknown as OtelApi;
  const read = (): void => {
    for (const one of all) one({ observe: () => {} });
  };
  return { api, read };
}
/** A server that sends everything back. */
export async function echoServer(): Promise<{ port: number; close: () => void }> {
  const server = createServer((socket: Socket) => {
    socket.on('error', () => {});
    socket.pipe(socket);
  });
  await new Promise<void>((go) => server.listen(0, '127.0.0.1', go));
  server.unref();
  const { port } = server.address() as { port: number };
  return { port, close: () => server.close() };
}
