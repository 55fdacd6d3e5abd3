/*
 * A worker of the façade's tests: attaches, runs the job that workerData names,
 * and posts what it returns.  Jobs that never return are ended by the test.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { type Address, attach, type Item, KmemError, type Machine } from './index.ts';

interface Start {
  readonly job: keyof typeof jobs;
  readonly n: number;
}
/** Shapes that the test and its workers agree on. */
export const GRID = { x: 'f64', owner: 'i32', check: 'i32' } as const;
export const CAPACITY = 2000;

/** Waits until all threads of the test have come to gate `name`. */
export function gate(machine: Machine, name: string, threads: number): void {
  const m = machine.mutex('gate');
  const cv = machine.condition('gate');
  m.run(() => {
    machine.roots.set(name, (machine.roots.get(name) ?? 0) + 1);
    cv.broadcast();
    cv.waitUntil(m, () => (machine.roots.get(name) ?? 0) >= threads);
  });
}
function code(fn: () => unknown): string {
  try {
    fn();
    return 'ok';
  } catch (e) {
    return e instanceof KmemError ? e.code : `${e}`;
  }
}

const jobs = {
  /** Makes everything at once with another thread; one of two shapes. */
  race(machine: Machine, n: number): unknown {
    const got: string[] = [];
    for (let i = 0; i < 20; i++) {
      gate(machine, `race ${i}`, 2);
      const zone = machine.zone(`z${i}`, { size: 64, limit: 100 });
      const item = zone.alloc({ zero: true });
      machine.store32(zone.address(item), 1);
      zone.free(item);
      machine.records(`r${i}`, { x: 'f64' }, { capacity: 50 });
      machine.queue(`q${i}`, { capacity: 4 });
      got.push(code(() => machine.zone(`w${i}`, { size: 16 * n })));
    }
    return got;
  },
  /** Random alloc and free of records; each item carries its owner's mark. */
  records(machine: Machine, n: number): unknown {
    const R = machine.records('grid', GRID, { capacity: CAPACITY });
    const mine: Item<'grid'>[] = [];
    let x = n * 7919 + 1;
    let full = 0;
    for (let step = 0; step < 60_000; step++) {
      x = (Math.imul(x, 1103515245) + 12345) >>> 0;
      if ((x >>> 16) % 2 === 0 || mine.length === 0) {
        const item = R.tryAlloc();
        if (item === undefined) {
          full++;
          continue;
        }
        R.owner[item] = n;
        R.check[item] = Math.imul(item, n);
        mine.push(item);
      } else {
        const at = (x >>> 17) % mine.length;
        const item = mine[at];
        if (R.owner[item] !== n || R.check[item] !== Math.imul(item, n)) {
          return `item ${item} of thread ${n} belongs to ${R.owner[item]}`;
        }
        R.free(item);
        mine[at] = mine[mine.length - 1];
        mine.pop();
      }
    }
    for (const item of mine) if (R.owner[item] !== n) return `item ${item} was taken`;
    for (const item of mine.splice(0, mine.length >> 1)) R.free(item);
    return { kept: mine, full };
  },
  /** Frees the blocks that come through a queue, adding up what is in them. */
  consume(machine: Machine): unknown {
    const type = machine.type('job');
    const queue = machine.queue('jobs', { of: type, capacity: 16 });
    let sum = 0;
    for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
      sum += machine.load32(at + 60);
      type.free(at);
    }
    return sum;
  },
  async consumeAsync(machine: Machine): Promise<unknown> {
    const type = machine.type('job');
    let sum = 0;
    for await (const at of machine.queue('jobs', { of: type, capacity: 16 })) {
      sum += machine.load32(at + 60);
      type.free(at);
    }
    return sum;
  },
  /** Holds all items of a zone and gives one back every few milliseconds. */
  async hog(machine: Machine, n: number): Promise<unknown> {
    const zone = machine.zone('small', { size: 256, limit: n });
    const items = Array.from({ length: zone.limit }, () => zone.alloc());
    gate(machine, 'hog', 2);
    const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1));
    while (zone.stats.sleeps === 0) await pause(); // until somebody sleeps for the limit
    for (const item of items) {
      await pause();
      zone.free(item);
    }
    return items.length;
  },
  /** Takes memory until there is none, then gives it back block by block. */
  fill(machine: Machine): unknown {
    const type = machine.type('fill');
    const blocks: Address[] = [];
    try {
      for (;;) blocks.push(type.alloc(65536));
    } catch (e) {
      if (!(e instanceof KmemError && e.code === 'ENOMEM')) throw e;
    }
    gate(machine, 'fill', 2);
    gate(machine, 'go', 2);
    for (const at of blocks) {
      machine.away(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1));
      type.free(at);
    }
    return blocks.length;
  },
  /** Adds to a number under a mutex, yielding in the middle. */
  count(machine: Machine, n: number): unknown {
    const m = machine.mutex('count');
    for (let i = 0; i < n; i++) {
      m.run(() => {
        const was = machine.roots.get('count') ?? 0;
        machine.roots.set('count', was + 1);
      });
    }
    return n;
  },
  async countAsync(machine: Machine, n: number): Promise<unknown> {
    const m = machine.mutex('count');
    for (let i = 0; i < n; i++) {
      await m.runAsync(async () => {
        const was = machine.roots.get('count') ?? 0;
        if (i % 64 === 0) await new Promise((resolve) => setImmediate(resolve));
        machine.roots.set('count', was + 1);
      });
    }
    return n;
  },
  /** Holds memory in its caches, and a sleeper, until it is ended. */
  victim(machine: Machine): unknown {
    const zone = machine.zone('victim', { size: 128 });
    for (let i = 0; i < 500; i++) zone.free(zone.alloc());
    machine.roots.set('item', zone.alloc());
    gate(machine, 'victim', 2);
    return machine.queue('never').pop();
  },
  /** Waits in its event loop for what never comes, until it is ended. */
  async asyncVictim(machine: Machine, n: number): Promise<unknown> {
    const q = machine.queue('never');
    const waits = Array.from({ length: 5 }, () => q.popAsync());
    gate(machine, `async ${n}`, 2);
    return Promise.all(waits);
  },
  /** Ends the machine that another thread booted. */
  shutdown(machine: Machine): unknown {
    machine.shutdown();
    return 'down';
  },
};

if (parentPort) {
  const machine = attach(workerData as Parameters<typeof attach>[0]);
  const { job, n } = workerData as Start;
  const result = await jobs[job](machine, n);
  machine.detach();
  parentPort.postMessage(result);
}
