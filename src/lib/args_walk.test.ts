/*
 * Every public call meets every odd value, in every place: it ends in a KmemError, or
 * does what it was asked; it is never a TypeError, and never waits for ever.
 *
 * The table has a line for each call: the arguments that it likes.  One argument at a
 * time, and one option at a time, is replaced by NaN, a symbol, an object whose getters
 * throw, and so on.  The table is complete: what the classes' prototypes have and the
 * table has not fails the test, so that a new call comes with a line.
 */
import assert from 'node:assert/strict';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { Writable } from 'node:stream';
import { after, afterEach, describe, test } from 'node:test';
import * as kmem from './index.ts';
import { type Address, boot, current, KmemError, type Machine } from './index.ts';
import { chainWritable, connectChains, wrapSocket } from './streams.ts';
import { slices } from './wait.ts';

const BOOM = new Error('a getter of the program');
const boom = (): never => {
  throw BOOM;
};
/** Throws whatever is asked of it. */
const trap = new Proxy({}, { get: boom, has: boom, ownKeys: boom, getPrototypeOf: boom });
const ODD: readonly unknown[] = [
  undefined,
  null,
  Number.NaN,
  -1,
  Number.POSITIVE_INFINITY,
  'abc',
  'a\nb',
  1n,
  Symbol('s'),
  {},
  [],
  { valueOf: boom, toString: boom },
  () => 8,
  new Proxy(new Uint8Array(4), {}),
  trap,
];
function name(odd: unknown): string {
  return odd === trap ? 'trap' : typeof odd === 'object' ? 'an object' : String(odd);
}
/** No call may take longer, ms: it waits for ever. */
const FOR_EVER_MS = 120_000;

/** What went wrong: all of it is shown at the end of a test. */
let faults: string[] = [];
afterEach(async () => {
  const machine = current();
  await machine?.endWorkers();
  machine?.shutdown();
  const all = faults;
  faults = [];
  assert.deepEqual(all, []);
});
/** Makes a call; what it throws must be a KmemError, or the program's own. */
async function walk(what: string, call: () => unknown): Promise<'works' | string> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} waits for ever`)), FOR_EVER_MS);
  });
  try {
    await Promise.race([call(), late]);
    return 'works';
  } catch (e) {
    if (e === BOOM) return 'BOOM';
    if (!(e instanceof KmemError)) {
      faults.push(`${what}: ${e instanceof Error ? e.stack : String(e)}`);
      return 'fault';
    }
    if (/[\n\0]/.test(e.message)) faults.push(`${what}: more than a line`);
    return e.code;
  } finally {
    clearTimeout(timer);
  }
}
/** Values that are no time in any call. */
function isNoTime(odd: unknown): boolean {
  return odd !== undefined && odd !== Number.POSITIVE_INFINITY && odd !== trap;
}
/** Makes a call with each odd value in each place. `args` are made anew each time. */
async function walkArgs(
  what: string,
  args: () => unknown[],
  call: (args: unknown[]) => unknown,
): Promise<void> {
  const { length } = args();
  await walk(what, () => call(args()));
  for (let i = 0; i < length; i++) {
    for (const odd of ODD) {
      await walk(`${what}, argument ${i} ${name(odd)}`, () => call(args().with(i, odd)));
    }
    const options = args()[i];
    if (options === null || Object.getPrototypeOf(Object(options)) !== Object.prototype) continue;
    const names = Object.keys(options as object);
    const known = names.length > 0;
    for (const option of names) {
      for (const odd of ODD) {
        const which = `${what}, option ${option} ${name(odd)}`;
        const with_odd = (given: object): object => ({ ...given, [option]: odd });
        const way = await walk(which, () => {
          const all = args();
          return call(all.with(i, with_odd(all[i] as object)));
        });
        const time = option === 'timeout' || option === 'wait';
        if (time && isNoTime(odd) && way !== 'EINVAL') faults.push(`${which}: ${way}`);
      }
      const throws = Object.defineProperty({}, option, { get: boom, enumerable: true });
      await walk(`${what}, getter ${option}`, () => call(args().with(i, throws)));
    }
    if (!known || LOOSE.has(what)) continue;
    const wrong = await walk(`${what}, unknown option`, () => {
      const all = args();
      return call(all.with(i, { ...(all[i] as object), limti: 1 }));
    });
    if (wrong !== 'EINVAL') faults.push(`${what} takes an option that it does not know: ${wrong}`);
  }
}
/** Calls with a plain object that is not theirs alone: a host's options, fields, a handle. */
const LOOSE = new Set(
  ['worker', 'records', 'observe', 'adopt'].map((call) => `Machine.${call}`).concat('attach'),
);

type Args = (w: World) => unknown[];
interface World {
  readonly machine: Machine;
  /** A block of nobody in particular. */
  block(): Address;
  /** A block of the type that is walked. */
  own(): Address;
}
interface Subject {
  /** An object of the class, with something in it. */
  self(w: World): object;
  readonly calls: Readonly<Record<string, Args>>;
}
const none: Args = () => [];
const FIELDS = { x: 'f64', n: 'i32' } as const;
const plain = (w: World) => w.machine.records('plain', FIELDS, { capacity: 5000 });
const bytes = new Uint8Array(8);
const otel = {
  metrics: {
    getMeter: () => ({
      createObservableGauge: () => ({}),
      createObservableCounter: () => ({}),
      addBatchObservableCallback: () => {},
      removeBatchObservableCallback: () => {},
    }),
  },
};
const locked = (w: World) => {
  const m = w.machine.mutex('of the condition');
  if (!m.owned) m.lock();
  return m;
};
const yes = (): boolean => true;
const nothing = (): void => {};

const SUBJECTS: Record<string, Subject> = {
  Machine: {
    self: (w) => w.machine,
    calls: {
      type: () => ['a type'],
      zone: () => ['a zone', { size: 32, limit: 100, align: 8 }],
      records: () => ['records', FIELDS, { capacity: 10, generations: true }],
      mutex: () => ['a mutex'],
      rwlock: () => ['an rwlock'],
      condition: () => ['a condition'],
      queue: (w) => ['a queue', { of: w.machine.type('jobs'), capacity: 4 }],
      chain: () => ['text', { wait: 5 }],
      adoptChain: (w) => [w.machine.chain('x').release()],
      chainSites: none,
      space: () => ['a space', { limit: '1M', create: true }],
      index: (w) => [w.block(), 4],
      bytes: (w) => [w.block(), 10],
      load8: (w) => [w.block()],
      load16: (w) => [w.block()],
      load32: (w) => [w.block()],
      load64f: (w) => [w.block()],
      store8: (w) => [w.block(), 1],
      store16: (w) => [w.block(), 1],
      store32: (w) => [w.block(), 1],
      store64f: (w) => [w.block(), 1],
      fill: (w) => [w.block(), 10, 0],
      copy: (w) => [w.block(), w.block(), 10],
      copyIn: (w) => [w.block(), bytes],
      copyOut: (w) => [w.block(), 10],
      writeText: (w) => [w.block(), 'text', 10],
      readText: (w) => [w.block(), 10],
      stats: none,
      memory: none,
      vmstat: () => ['z'],
      netstat: none,
      procstat: none,
      // No file may come of it: a size of 0 is refused last.
      swapon: () => ['/tmp/kmem-walk.swap', { priority: 0, size: 0 }],
      swapoff: () => ['/tmp/kmem-walk.swap'],
      swaps: none,
      debug: () => ['off'],
      window: (w) => [w.machine.type('walk').alloc(8192), 8192, { write: true }],
      contiguous: () => [8192, { align: 8192, boundary: 0, low: 0, high: '8M', type: 'walk' }],
      sysctl: () => ['vm.lowmem_period', 10],
      sysctlBytes: () => ['kern.ostype'],
      sysctls: none,
      collect: () => [{ sysctls: true }],
      metrics: () => [{ sysctls: true }],
      observe: () => [otel, { sysctls: true }],
      onLowMemory: () => [nothing],
      trace: () => [false],
      listen: () => [{ path: `/tmp/kmem-walk-${process.pid}.sock`, timeout: 1000 }],
      check: none,
      worker: () => [new URL('data:text/javascript,'), { workerData: {} }],
      adopt: () => [{ terminate: nothing, once: nothing }],
      away: () => [nothing],
      park: none,
      detach: none,
      shutdown: none,
      endWorkers: none,
    },
  },
  Roots: {
    self: (w) => w.machine.roots,
    calls: {
      get: () => ['root'],
      set: () => ['root', 1],
      delete: () => ['root'],
      compareAndSwap: () => ['root', 1, 2],
      names: none,
    },
  },
  MallocType: {
    self: (w) => w.machine.type('of the walk'),
    calls: {
      alloc: () => [100, { zero: true, wait: 5 }],
      tryAlloc: () => [100, { zero: true }],
      realloc: (w) => [w.own(), 200, { zero: true }],
      free: (w) => [w.own()],
      usableSize: (w) => [w.block()],
      block: () => [100, { zero: true, wait: 5 }],
      allocAsync: () => [100, { zero: true, timeout: 5, signal: new AbortController().signal }],
      allocText: () => ['text'],
    },
  },
  Block: {
    self: (w) => w.machine.type('of the walk').block(16),
    calls: { free: none },
  },
  Zone: {
    self: (w) => w.machine.zone('of the walk', { size: 64 }),
    calls: {
      alloc: () => [{ zero: true, wait: 5 }],
      tryAlloc: () => [{ zero: true }],
      allocAsync: () => [{ zero: true, timeout: 5, signal: new AbortController().signal }],
      free: (w) => [w.machine.zone('of the walk').alloc()],
      address: (w) => [w.machine.zone('of the walk').alloc()],
      item: (w) => [w.block()],
      bytes: (w) => [w.machine.zone('of the walk').alloc()],
      dispose: none,
    },
  },
  RecordSet: {
    self: plain,
    calls: {
      alloc: () => [{ zero: true, wait: 5 }],
      tryAlloc: () => [{ zero: true }],
      allocAsync: () => [{ zero: true, timeout: 5, signal: new AbortController().signal }],
      free: (w) => [plain(w).alloc()],
      has: (w) => [plain(w).alloc()],
      index: (w) => [plain(w).alloc()],
      forEach: () => [nothing],
      get: (w) => [plain(w).alloc()],
      set: (w) => [plain(w).alloc(), { x: 1, n: 2 }],
      dispose: none,
    },
  },
  Queue: {
    self: (w) => {
      const q = w.machine.queue('of the walk', { capacity: 4 });
      while (q.length > 2) q.pop();
      while (q.length < 2) q.push(1);
      return q;
    },
    calls: {
      push: () => [1, { timeout: 5 }],
      tryPush: () => [1],
      pop: () => [{ timeout: 5 }],
      tryPop: none,
      pushAsync: () => [1, { timeout: 5, signal: new AbortController().signal }],
      popAsync: () => [{ timeout: 5, signal: new AbortController().signal }],
      close: none,
      dispose: none,
    },
  },
  Mutex: {
    self: (w) => {
      const m = w.machine.mutex('of the walk');
      if (m.owned) m.unlock();
      return m;
    },
    calls: {
      lock: () => [{ timeout: 5 }],
      tryLock: none,
      unlock: none,
      run: () => [nothing, { timeout: 5 }],
      lockAsync: () => [{ timeout: 5, signal: new AbortController().signal }],
      runAsync: () => [nothing, { timeout: 5, signal: new AbortController().signal }],
      recover: () => [nothing],
      dispose: none,
    },
  },
  RwLock: {
    self: (w) => {
      const l = w.machine.rwlock('of the walk');
      if (l.tryLockRead()) l.unlockRead();
      else l.unlockWrite();
      return l;
    },
    calls: {
      lockRead: () => [{ timeout: 5 }],
      lockWrite: () => [{ timeout: 5 }],
      tryLockRead: none,
      tryLockWrite: none,
      unlockRead: none,
      unlockWrite: none,
      tryUpgrade: none,
      downgrade: none,
      read: () => [nothing, { timeout: 5 }],
      write: () => [nothing, { timeout: 5 }],
      recover: () => [nothing],
      dispose: none,
    },
  },
  Condition: {
    self: (w) => w.machine.condition('of the walk'),
    calls: {
      wait: (w) => [locked(w), { timeout: 1 }],
      waitUntil: (w) => [locked(w), yes, { timeout: 5 }],
      waitAsync: (w) => [locked(w), yes, { timeout: 5, signal: new AbortController().signal }],
      signal: none,
      broadcast: none,
      dispose: none,
    },
  },
  Chain: {
    self: (w) => w.machine.chain('0123456789'),
    calls: {
      append: () => ['x', { wait: 5 }],
      appendAsync: () => ['x', { timeout: 5, signal: new AbortController().signal }],
      prepend: () => ['x', { wait: 5 }],
      adopt: (w) => [w.machine.type('of the walk'), w.own(), 8, { offset: 0, front: true }],
      concat: (w) => [w.machine.chain('x'), w.machine.chain('y')],
      write: () => [0, 'x', { wait: 5 }],
      unshare: () => [{ wait: 5 }],
      slice: () => [0, 5, { wait: 5 }],
      clone: () => [{ wait: 5 }],
      split: () => [5, { wait: 5 }],
      pullup: () => [5, { wait: 5 }],
      discard: () => [5],
      truncate: () => [5],
      views: none,
      view: () => [5],
      toUint8Array: () => [0, 5],
      toBuffer: () => [0, 5],
      text: () => [0, 5],
      copyTo: () => [new Uint8Array(4), 0],
      compare: () => ['x'],
      equals: () => ['x'],
      indexOf: () => ['x', 0],
      free: none,
      release: none,
      check: none,
      ...Object.fromEntries(
        ['Uint8', 'Int8', 'Uint16', 'Int16', 'Uint32', 'Int32', 'Float32', 'Float64'].flatMap(
          (kind): [string, Args][] => [
            [`get${kind}`, () => [0, true]],
            [`set${kind}`, () => [0, 1, true]],
          ],
        ),
      ),
      getBigInt64: () => [0, true],
      getBigUint64: () => [0, true],
      setBigInt64: () => [0, 1n, true],
      setBigUint64: () => [0, 1n, true],
    },
  },
};
/** The same calls for each width. */
const widths = (kinds: string, call: string, args: Args): Record<string, Args> =>
  Object.fromEntries(kinds.split(' ').map((kind) => [`${call}${kind}`, args]));
const KINDS = 'U8 I8 U16 I16 U32 I32 F32 F64';
const region = (w: World) => w.machine.space('walked').mmap({ name: 'm', length: 8192 });
Object.assign(SUBJECTS, {
  Space: {
    self: (w) => {
      region(w);
      return w.machine.space('walked');
    },
    calls: {
      mmap: () => [{ length: 10, name: 'n', protect: 'r', inherit: 'zero' }],
      region: () => ['m'],
      regions: none,
      limits: () => [{ resident: '64K', memlock: '64K', size: '4M' }],
      lockAll: () => [{ current: false, future: false }],
      unlockAll: none,
      ...widths('8 16 32 64f', 'load', (w) => [region(w).address]),
      ...widths('8 16 32 64f', 'store', (w) => [region(w).address, 1]),
      fork: () => [`fork ${Math.random()}`, { protect: 'r', wait: 5, windows: 'copy' }],
      forkAsync: () => [`fork ${Math.random()}`, { protect: 'r', wait: 5, windows: 'copy' }],
      load: () => ['no such file'],
      loadAsync: () => ['no such file', { signal: new AbortController().signal }],
      destroy: () => [{ wait: 5 }],
      dispose: none,
    },
  },
  Region: {
    self: region,
    calls: {
      ...widths(KINDS, 'get', () => [0]),
      ...widths(KINDS, 'set', () => [0, 1]),
      read: () => [0, new Uint8Array(4)],
      write: () => [0, bytes],
      fill: () => [0, 4, 1],
      indexOf: () => ['x', 0],
      array: () => ['f64', 0, 10],
      lend: () => [0, 4096],
      lock: () => [0, 4096],
      unlock: () => [0, 4096],
      ready: () => [0, 8192, true],
      window: () => [0, 4096, { write: true, wait: 5 }],
      windowAsync: () => [0, 4096, { write: true, wait: 5 }],
      windows: () => [{ size: 4096, offset: 0, length: 8192, write: true, wait: 5 }],
      protect: () => ['rw', { wait: 5 }],
      advise: () => ['normal'],
      inherit: () => ['copy'],
      resident: none,
      sync: () => [{ wait: true, invalidate: true }],
      revalidate: none,
      truncate: () => [0],
      unmap: () => [{ wait: 5 }],
    },
  },
  PagedArray: {
    self: (w) => region(w).array('i16', 0, 100),
    calls: { get: () => [0], set: () => [0, 1] },
  },
  Loan: {
    self: (w) => region(w).lend(0, 4096),
    calls: { views: none, dispose: none },
  },
  Window: {
    self: (w) => region(w).window(0, 4096),
    calls: { close: none },
  },
  BlockWindow: {
    self: (w) => w.machine.window(w.machine.type('walk').alloc(8192), 8192),
    calls: { close: none },
  },
} satisfies Record<string, Subject>);
/** Not walked: what is internal, and what leaves something behind. */
const ELSEWHERE = new Set([
  'constructor',
  'bury',
  'toJSON', // inspect.test.ts
  'Space.save', // writes a file: space_file.test.ts
  'Space.saveAsync',
  'Machine.dump', // writes a file: dump.test.ts
  'MallocType.freeWith',
  'MallocType.allocWith',
  'MallocType.trace',
  'Space.enter',
  'Space.notLocked',
  'Space.blocked',
  'Space.tagsAre',
  'Space.forgetRegion',
  'Region.tagsAre',
  'Region.outside',
  'Region.lose',
  'Mutex.entryFor',
  'Mutex.letGo',
  'Mutex.deadFor',
  'Mutex.taskFor',
]);
/** Methods of TypeScript's `protected` kind. */
const PROTECTED = new Set([
  ...'live end mine take give spoil settle during ownerDead refuse passOn piece gather'.split(' '),
  ...'scatter frame noNumber'.split(' '),
]);
/** The public methods of an object, those of its parents too. */
function methods(self: object): string[] {
  const all = new Set<string>();
  for (let p = self; p !== Object.prototype; p = Object.getPrototypeOf(p)) {
    for (const [key, d] of Object.entries(Object.getOwnPropertyDescriptors(p))) {
      if (typeof d.value === 'function') all.add(key);
    }
  }
  return [...all].filter((key) => !PROTECTED.has(key));
}
function world(): World {
  const machine = boot({ memory: '32M', options: { INVARIANTS: true } });
  return {
    machine,
    block: () => machine.type('blocks of the walk').alloc(64),
    own: () => machine.type('of the walk').alloc(64),
  };
}

describe('odd values in every place of every call', () => {
  const shout = console.error;
  const { sleepMs } = slices;
  console.error = () => {}; // what is lost or left is reported there
  slices.sleepMs = 2; // a wait without a signal ends soon
  after(() => {
    console.error = shout;
    slices.sleepMs = sleepMs;
  });
  for (const [cls, { self, calls }] of Object.entries(SUBJECTS)) {
    test(cls, async () => {
      let w = world();
      const missing = methods(self(w)).filter(
        (key) => !(key in calls) && !ELSEWHERE.has(key) && !ELSEWHERE.has(`${cls}.${key}`),
      );
      assert.deepEqual(missing, [], 'calls without a line in the table');
      for (const [call, args] of Object.entries(calls)) {
        const run = (given: unknown[]): unknown => {
          const one = self(w) as Record<string, (...given: unknown[]) => unknown>;
          return ended(one[call](...given));
        };
        await walkArgs(`${cls}.${call}`, () => args(w), run);
        if (!w.machine.up) w = world();
      }
      await w.machine.endWorkers();
      w.machine.check();
      w.machine.shutdown();
    });
  }
});
/** Ends what a call gave: a lock held, a socket, a parked thread. */
function ended(result: unknown): unknown {
  if (result instanceof Promise) return result.then(ended);
  const { close } = Object(result) as { close?: () => unknown };
  if (typeof close === 'function') return close.call(result);
  const dispose = (Object(result) as Partial<Disposable>)[Symbol.dispose];
  if (typeof dispose === 'function') dispose.call(result);
  return undefined;
}

describe('odd values for the functions of the package', () => {
  test('boot and attach', async () => {
    // A machine that this thread has left, and that is up.
    const machine = boot({ memory: '4M' });
    const { handle } = machine;
    machine.detach();
    await walkArgs(
      'attach',
      () => [{ ...handle }],
      (args) => kmem.attach(...(args as [never])).detach(),
    );
    const options = { memory: '4M', cpus: 2, options: {}, checked: false, set: {}, fresh: false };
    await walkArgs(
      'boot',
      () => [{ ...options, atomics: 'auto', domains: 1, seed: 1 }],
      (args) => boot(...(args as [])).shutdown(),
    );
    for (const set of [{ 'vm.kmem_size': null }, { 'a\nb': 1 }, { 'vm.kmem_size': Symbol('s') }]) {
      assert.equal(await walk('boot set', () => boot({ set: set as never })), 'EINVAL');
    }
  });
  test('those of tests and Web streams', async () => {
    const { machine } = world();
    const t = Object.create({ after: nothing });
    await walkArgs(
      'leaks',
      () => [machine],
      (args) => kmem.leaks(...(args as [never])),
    );
    await walkArgs(
      'assertNoLeaks',
      () => [machine, { ignore: ['x'] }],
      (args) => kmem.assertNoLeaks(...(args as [never])),
    );
    await walkArgs(
      'readableChains',
      () => [machine, new Blob(['x']).stream(), { timeout: 5 }],
      (args) => kmem.readableChains(...(args as [never, never])).cancel(),
    );
    await walkArgs(
      'writableChains',
      () => [machine, new WritableStream(), { shared: false }],
      (args) => kmem.writableChains(...(args as [never, never])).close(),
    );
    const locked = new Blob(['x']).stream();
    locked.getReader();
    assert.equal(await walk('locked', () => kmem.readableChains(machine, locked)), 'EINVAL');
    machine.check();
    machine.shutdown();
    await walkArgs(
      'withMachine',
      () => [{ memory: '4M', cpus: 2 }, nothing],
      (args) => kmem.withMachine(...(args as [never, never])),
    );
    await walkArgs(
      'testMachine',
      () => [t, { memory: '4M', cpus: 2 }],
      (args) => kmem.testMachine(...(args as [never])).shutdown(),
    );
  });
  test('those of Node streams', async () => {
    const { machine } = world();
    const server: Server = createServer((socket) => socket.on('error', nothing));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const to = { host: '127.0.0.1', port };
    const sockets: Socket[] = [];
    const socket = (): Socket => {
      const made = connect(to).on('error', nothing);
      sockets.push(made);
      return made;
    };
    const options = { highWaterMark: 4, allowHalfOpen: false, readBytes: 4096 };
    const end = (stream: { on(event: 'error', fn: () => void): { destroy(): void } }): void => {
      stream.on('error', nothing).destroy();
    };
    LOOSE.add('connectChains'); // what it connects to is for the host to judge
    await walkArgs(
      'connectChains',
      () => [machine, to, options],
      (args) => end(connectChains(...(args as [never, never]))),
    );
    await walkArgs(
      'wrapSocket',
      () => [machine, socket(), options],
      (args) => end(wrapSocket(...(args as [never, never]))),
    );
    for (const call of [
      () => connectChains(machine, to, { ...options, limti: 1 } as never),
      () => wrapSocket(machine, socket(), { ...options, limti: 1 } as never),
    ]) {
      assert.equal(await walk('unknown option of a socket', call), 'EINVAL');
    }
    await walkArgs(
      'chainWritable',
      () => [new Writable(), { shared: false }],
      (args) => end(chainWritable(...(args as [never]))),
    );
    for (const one of sockets) one.destroy();
    server.close();
    machine.shutdown();
  });
});

describe('names', () => {
  test('that would forge a row are refused', () => {
    const { machine } = world();
    for (const bad of ['a\nb', 'a\rb', 'a\0', '\x1b[2J', '\x9b2J', 'a\u2028b', '\x7f', '\t']) {
      for (const call of [
        () => machine.type(bad),
        () => machine.zone(bad, { size: 8 }),
        () => machine.records(bad, { x: 'f64' }, { capacity: 1 }),
        () => machine.mutex(bad),
        () => machine.queue(bad),
        () => machine.roots.set(bad, 1),
      ]) {
        assert.throws(call, { code: 'EINVAL', message: /without control characters/ });
      }
    }
    machine.type('größe · 面 👍');
    machine.shutdown();
  });
  test('of fields that are taken fail in TypeScript, and at run time', () => {
    const then = 'then';
    const { machine } = world();
    for (const call of [
      // @ts-expect-error: it is the name of a call
      () => machine.records('r', { alloc: 'f64' }, { capacity: 1 }),
      // @ts-expect-error: it is the name of a property
      () => machine.records('r', { x: 'f64', name: 'i32' }, { capacity: 1 }),
      // @ts-expect-error: every object has it
      () => machine.records('r', { toString: 'u8' }, { capacity: 1 }),
      // @ts-expect-error: an object with it is taken for a promise
      () => machine.records('r', { [then]: 'u8' }, { capacity: 1 }),
      // @ts-expect-error: no kind of field
      () => machine.records('r', { x: 'f65' }, { capacity: 1 }),
    ]) {
      assert.throws(call, { code: 'EINVAL' });
    }
    const says = (call: () => unknown, message: RegExp): void => assert.throws(call, { message });
    says(
      () => machine.records('r', { count: 'u8' } as never, { capacity: 1 }),
      /count: records have/,
    );
    says(() => machine.records('r', { 'a-b': 'u8' }, { capacity: 1 }), /field 'a-b': a name is/);
    const r = machine.records('r', { x: 'f64' }, { capacity: 1 });
    says(() => r.set(r.alloc(), { y: 1 } as never), /set: field 'y': there is no such field/);
    machine.shutdown();
  });
});
