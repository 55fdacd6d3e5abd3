/*
 * Shows what a wrong free comes to: what is no block of malloc, no item of the zone, or
 * lies inside one is refused and named, and so is what this thread freed just before;
 * nothing is damaged by the attempt.  With checks on, every double free is found, of
 * other threads too; a debug machine also finds writes into large blocks that were freed.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import {
  type Address,
  boot,
  type Item,
  KernelPanic,
  type Machine,
  testMachine,
  type Zone,
} from './index.ts';
import { fails } from './fails.test.lib.ts';

const SIZES = [1, 16, 17, 64, 100, 256, 1000, 1024, 2048, 4096];
const ITEMS = [4, 8, 24, 96, 100, 512, 700, 2048, 4096, 5000, 20_000];

/** Both kinds of machine: as programs run, and with the kernel's checks. */
function machines(run: (machine: Machine, checks: boolean) => void): void {
  for (const INVARIANTS of [false, true]) {
    const machine = boot({ memory: '32M', cpus: 2, options: { INVARIANTS } });
    run(machine, INVARIANTS);
    machine.check();
    machine.shutdown();
  }
}
/** The library, for a worker that is made of text: compiled or not. */
function libraryUrl(): string {
  return new URL(`./index${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url).href;
}
/** Every place in n bytes at `at` but the first is refused by `free`. */
function inside(free: (at: number) => void, at: number, n: number, text: RegExp): void {
  for (let off = 1; off < n; off += off < 64 ? 1 : 52) {
    const e = fails('EFAULT', () => free(at + off));
    if (off % 4 === 0) assert.match(e.message, text);
    assert.equal(e.address, at + off);
  }
}

describe('what is no block', () => {
  test('inside of blocks, small and large', () => {
    machines((machine) => {
      const type = machine.type('node');
      for (const size of SIZES) {
        const at = type.alloc(size);
        const n = type.usableSize(at);
        inside((p) => type.free(p as Address), at, n, /bytes into a block of \d+ bytes/);
        type.free(at);
      }
      const big = type.alloc(100_000);
      inside(
        (p) => type.free(p as Address),
        big,
        9000,
        /into a block of 102400 bytes of type 'node'/,
      );
      type.free(big);
      const e = fails('EFAULT', () => type.free(big));
      assert.match(e.message, /it is free memory/);
    });
  });
  test("the kernel's memory, free pages, items, beyond the memory", () => {
    machines((machine) => {
      const type = machine.type('node');
      const zone = machine.zone('conn', { size: 96 });
      const item = zone.alloc();
      const free = (at: number) => fails('EFAULT', () => type.free(at as Address)).message;
      assert.match(free(64), /the kernel's own memory/);
      assert.match(free(item), /an item of zone 'conn'/);
      assert.match(free(zone.address(item) + 4), /4 bytes into an item of zone 'conn'/);
      assert.match(free(32 * 2 ** 20), /no address of a block/);
      assert.match(free(20 * 2 ** 20), /free memory/);
      for (let at = 4; at < 300_000; at += 4 * 257) {
        if (at !== item) fails('EFAULT', () => type.free(at as Address));
      }
      zone.free(item);
    });
  });
});

describe('what is no item', () => {
  test('inside of items of any size, and of other zones', () => {
    machines((machine) => {
      const other = machine.zone('other', { size: 40 });
      const foreign = other.alloc();
      for (const size of ITEMS) {
        const zone: Zone = machine.zone(`z${size}`, { size });
        const free = (at: number): void => zone.free(at as Item);
        const held = [zone.alloc(), zone.alloc()];
        for (const item of held) inside(free, item, size, /into an item of zone 'z\d+'/);
        const e = fails('EFAULT', () => free(foreign));
        assert.match(e.message, /no item of zone 'z\d+': it is an item of zone 'other'/);
        assert.equal(e.zone, `z${size}`);
        for (const item of held) zone.free(item);
        assert.equal(zone.used, 0);
      }
      other.free(foreign);
    });
  });
  test('blocks, the kernel, zones of one shape', () => {
    machines((machine) => {
      const [a, b] = ['a', 'b'].map((name) => machine.zone(name, { size: 64 }));
      const block = machine.type('t').alloc(64);
      const item = a.alloc();
      assert.match(
        fails('EFAULT', () => b.free(item as never)).message,
        /no item of zone 'b': it is an item of zone 'a'/,
      );
      fails('EFAULT', () => a.free(block as never));
      for (let at = 4; at < 400_000; at += 4 * 263) {
        if (at !== item) fails('EFAULT', () => a.free(at as never));
      }
      a.free(item);
      machine.type('t').free(block);
    });
  });
  test('0 is nothing, and what is no number is refused', () => {
    machines((machine) => {
      const zone = machine.zone('z', { size: 64 });
      const type = machine.type('t');
      zone.free(0 as never);
      type.free(0 as never);
      for (const odd of [undefined, null, Number.NaN, -4, 1.5, '4096', {}, 4096n, Symbol('s')]) {
        fails('EFAULT', () => zone.free(odd as never));
        fails('EFAULT', () => type.free(odd as never));
      }
    });
  });
});

describe('freed twice', () => {
  test('at once: refused, and the next two blocks are two', () => {
    machines((machine) => {
      const type = machine.type('t');
      const zone = machine.zone('z', { size: 64 });
      for (let n = 0; n < 300; n++) {
        const [at, item] = [type.alloc(48), zone.alloc()];
        type.free(at);
        zone.free(item);
        assert.match(fails('EFAULT', () => type.free(at)).message, /freed twice/);
        assert.match(fails('EFAULT', () => zone.free(item)).message, /freed twice/);
        const [x, y] = [type.alloc(48), type.alloc(48)];
        assert.notEqual(x, y);
        type.free(x);
        type.free(y);
      }
    });
  });
  test('by realloc: refused as free refuses it', () => {
    machines((machine) => {
      const type = machine.type('t');
      for (const size of [16, 100, 4096]) {
        const at = type.alloc(size);
        type.free(at);
        for (const n of [0, 1, size, 3 * size]) {
          assert.match(fails('EFAULT', () => type.realloc(at, n)).message, /is free already/);
        }
        assert.match(fails('EFAULT', () => type.usableSize(at)).message, /is free already/);
        const [x, y] = [type.alloc(size), type.alloc(size)];
        assert.notEqual(x, y);
        type.free(x);
        type.free(y);
      }
      assert.equal(type.stats.inUse, 0);
    });
  });
  test('later: with checks on the machine stops and says what', () => {
    for (const what of ['block', 'item'] as const) {
      const machine = boot({ memory: '8M', cpus: 2, options: { INVARIANTS: true } });
      const type = machine.type('t');
      const zone = machine.zone('z', { size: 64 });
      const blocks = [type.alloc(64), type.alloc(64)];
      const items = [zone.alloc(), zone.alloc()];
      for (const at of blocks) type.free(at);
      for (const item of items) zone.free(item);
      assert.throws(
        () => (what === 'block' ? type.free(blocks[0]) : zone.free(items[0])),
        (e) => e instanceof KernelPanic && /[Dd]uplicate|twice|free/.test(e.message),
      );
      machine.shutdown();
    }
  });
  test('by two threads: with checks on the machine stops', async () => {
    const machine = boot({ memory: '8M', cpus: 3, options: { INVARIANTS: true } });
    const at = machine.type('t').alloc(64);
    const program = `
      const { workerData, parentPort } = require('node:worker_threads');
      import(workerData.library).then(({ attach }) => {
        const machine = attach(workerData.handle);
        machine.type('t').free(workerData.at);
        parentPort.postMessage('freed');
        setInterval(() => {}, 1000);
      });`;
    const workerData = { library: libraryUrl(), handle: machine.handle, at };
    const worker = new Worker(program, { eval: true, workerData });
    assert.deepEqual(await once(worker, 'message'), ['freed']);
    assert.throws(() => machine.type('t').free(at), KernelPanic);
    machine.shutdown();
    await worker.terminate();
  });
  test('a large block: its pages are free', (t) => {
    const machine = testMachine(t);
    const type = machine.type('t');
    const big = type.alloc(50_000);
    type.free(big);
    assert.match(fails('EFAULT', () => type.free(big)).message, /free memory/);
    assert.equal(type.stats.inUse, 0);
  });
});

describe('a debug machine', () => {
  /** Of what it has, what only a boot can set: without patterns around blocks. */
  const debug = (memory = '16M'): Machine => {
    const machine = boot({ memory, cpus: 3, debug: true });
    machine.debug('off');
    return machine;
  };
  test('finds a write into a large block that was freed, with type and place', () => {
    const machine = debug();
    const at = machine.type('cache').alloc(20_000);
    machine.check();
    machine.type('cache').free(at);
    machine.check();
    machine.i32[machine.index(at, 4) + 25] = 7;
    assert.throws(
      () => machine.check(),
      (e) =>
        e instanceof KernelPanic &&
        /modified after free: 100 bytes into the block of 20480 bytes at \d+ of type 'cache'/.test(
          e.message,
        ),
    );
    machine.shutdown();
  });
  test('finds it when the block leaves the quarantine, too', () => {
    const machine = debug();
    const type = machine.type('cache');
    const at = type.alloc(20_000);
    type.free(at);
    machine.u8[at + 19_999] = 1;
    assert.throws(() => {
      for (let n = 0; n < 200; n++) type.free(type.alloc(9000));
    }, /modified after free: \d+ bytes into the block of 20480 bytes/);
    machine.shutdown();
  });
  test('refuses a second free of a block that waits', () => {
    const machine = debug();
    const at = machine.type('t').alloc(9000);
    machine.type('t').free(at);
    assert.match(fails('EFAULT', () => machine.type('t').free(at)).message, /that was freed/);
    machine.check();
    machine.shutdown();
  });
  test('has all its memory when it needs it', () => {
    const machine = debug('8M');
    const type = machine.type('t');
    const free = machine.stats().memory.free;
    for (let n = 0; n < 300; n++) type.free(type.alloc(4096 * (2 + (n % 30))));
    const waiting = Number(machine.sysctl('debug.quarantine.pages'));
    assert.ok(waiting > 0 && waiting <= 2048 / 16, `${waiting} pages wait`);
    const most = Math.floor((free * 0.9) / 4096) * 4096;
    const held: Address[] = [];
    for (let n = most; n >= 9000; ) {
      const at = type.tryAlloc(n);
      if (at === undefined) n = Math.floor(n / 2);
      else held.push(at);
    }
    assert.equal(Number(machine.sysctl('debug.quarantine.pages')), 0);
    for (const at of held) type.free(at);
    machine.check();
    machine.shutdown();
  });
  test('serves the request for which the waiting blocks are let go', () => {
    const machine = debug('8M');
    const type = machine.type('t');
    const fill = (n: number): Address[] => {
      const held: Address[] = [];
      assert.throws(
        () => {
          for (;;) held.push(type.alloc(n));
        },
        (e: { code: string; longestRun: number }) => e.code === 'ENOMEM' && e.longestRun < n,
      );
      return held;
    };
    for (const n of [12_288, 8192, 40_960]) {
      for (const at of fill(n)) type.free(at);
      assert.ok(Number(machine.sysctl('debug.quarantine.pages')) > 20, 'blocks wait');
    }
    machine.check();
    machine.shutdown();
  });
  test('loses nothing when a thread is killed among its freed blocks', async () => {
    const machine = debug('32M');
    const program = `
      const { workerData, parentPort } = require('node:worker_threads');
      import(workerData.library).then(({ attach }) => {
        const type = attach(workerData.handle).type('churn');
        parentPort.postMessage('up');
        for (;;) type.free(type.alloc(8192 + Math.floor(Math.random() * 60000)));
      });`;
    const library = libraryUrl();
    const type = machine.type('churn');
    for (let n = 0; n < 6; n++) {
      const worker = new Worker(program, {
        eval: true,
        workerData: { library, handle: machine.handle },
      });
      await once(worker, 'message');
      for (let i = 0; i < 400; i++) type.free(type.alloc(8192 + (i % 9) * 5000));
      await worker.terminate();
      machine.check();
    }
    assert.ok(type.stats.inUse <= 6, 'a thread dies with one block at most');
    machine.check();
    machine.shutdown();
  });
});
