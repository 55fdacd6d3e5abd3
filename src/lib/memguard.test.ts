/*
 * Shows: a program names a type or a zone, and from then on each call that takes an address sees
 * whether what it touches is one block in use; what is not stops the machine, or fails and is told
 * once for each place, with the lines where the block was allocated and freed; views of a guarded
 * block are made as of any other; what is set wrongly is refused in words.
 * By what means: the calls of the façade, one after the other; a worker; what is printed.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test, type TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import { within } from '../sys/machine/workers.test.lib.ts';
import { kconsole } from '../sys/machine/kconsole.ts';
import { field_word } from '../sys/machine/struct.ts';
import { vm_page } from '../sys/h/vm_page.ts';
import { samples_check, samples_list } from '../sys/kmem/kern_stack_sample.ts';
import {
  type Address,
  type BootOptions,
  boot,
  KernelPanic,
  type KmemError,
  type Machine,
} from './index.ts';
import { fails } from './fails.test.lib.ts';
import { assertNoLeaks } from './testing.ts';

const BEYOND = 2 ** 33;
const said: string[] = [];

function start(t: TestContext, set: BootOptions['set'] = {}, how: BootOptions = {}): Machine {
  const { print } = kconsole;
  said.length = 0;
  kconsole.print = (text) => void said.push(text);
  const options = { INVARIANTS: true };
  const machine = boot({ memory: '16M', cpus: 3, options, set, ...how });
  t.after(() => {
    try {
      if (machine.up) machine.check();
      machine.shutdown();
    } finally {
      kconsole.print = print;
    }
  });
  return machine;
}
const report = { 'vm.memguard.trap': 'report', 'vm.memguard.desc': 'sessions' };
const stray = (fn: () => unknown): KmemError => {
  const e = fails('EFAULT', fn);
  assert.match(e.message, /memguard: |MemGuard detected/);
  return e;
};
/** The number of this line's caller, as stacks show it. */
const line_of = (e: Error): string => /memguard\.test\.[jt]s:\d+/.exec(e.stack ?? '')?.[0] ?? '?';

describe('a block of a type', () => {
  test('is used as any other, by addresses and by views', (t) => {
    const machine = start(t, report);
    const type = machine.type('sessions');
    const at = type.alloc(100);
    assert.ok(at >= BEYOND);
    assert.equal(at % 16, 0);
    machine.store8(at, 1);
    machine.store16(at + 2, 2);
    machine.store32(at + 4, 3);
    machine.store64f(at + 8, Math.PI);
    assert.deepEqual([...machine.copyOut(at, 8)], [1, 0, 2, 0, 3, 0, 0, 0]);
    assert.equal(machine.load64f(at + 8), Math.PI);
    machine.fill(at + 16, 84, 7);
    machine.copyIn(at + 90, Uint8Array.of(1, 2, 3));
    machine.copy(at + 20, at + 88, 10);
    assert.equal(machine.load8(at + 22), 1);
    assert.equal(machine.writeText(at + 40, 'a text', 10), 6);
    assert.equal(machine.readText(at + 40, 6), 'a text');
    const view = machine.bytes(at, 100);
    assert.equal(view.length, 100);
    view[50] = 99;
    assert.equal(machine.load8(at + 50), 99);
    machine.u32[machine.index(at + 60, 4)] = 77;
    assert.equal(machine.load32(at + 60), 77);
    const w = machine.window(at, 100, { write: true });
    w.u8[51] = 98;
    assert.deepEqual([machine.load8(at + 51), w.address, w.length], [98, at, 100]);
    w.close();
    assert.equal(type.usableSize(at), 100);
    machine.check();
    type.free(at);
  });
  test('of any size, zeroed or not, and by each call that makes one', async (t) => {
    const machine = start(t, report);
    const type = machine.type('sessions');
    for (const size of [1, 16, 4095, 4096, 4097, 100_000]) {
      const at = type.alloc(size, { zero: true });
      assert.ok(at >= BEYOND, `${size}`);
      assert.ok(size < 4096 || at % 4096 === 0);
      assert.ok(machine.bytes(at, size).every((b) => b === 0));
      stray(() => machine.load8(at + size));
      stray(() => machine.store8(at - 1, 1));
      type.free(at);
    }
    const small = type.alloc(0);
    assert.ok(small < BEYOND, 'size 0 is as ever');
    type.free(small);
    const tried = type.tryAlloc(50) as Address;
    const waited = await type.allocAsync(50);
    const text = type.allocText('in a block');
    const block = type.block(64);
    assert.ok([tried, waited, text.address, block.address].every((at) => at >= BEYOND));
    assert.equal(machine.readText(text.address, text.byteLength), 'in a block');
    block.bytes.fill(3);
    assert.equal(machine.load8(block.address + 63), 3);
    const gone = block.address;
    block.free();
    stray(() => machine.load8(gone));
    for (const at of [tried, waited, text.address]) type.free(at);
    assert.equal(type.stats.requests, 1, 'the one of size 0');
  });
  test('each call sees what runs off it, and changes nothing', (t) => {
    const machine = start(t, report);
    const type = machine.type('sessions');
    const at = type.alloc(100);
    const near = machine.type('others').alloc(200);
    machine.fill(at, 100, 5);
    const calls: Record<string, () => unknown> = {
      load8: () => machine.load8(at + 100),
      load16: () => machine.load16(at + 100),
      load32: () => machine.load32(at + 100),
      load64f: () => machine.load64f(at + 96),
      store8: () => machine.store8(at - 1, 1),
      store16: () => machine.store16(at - 2, 1),
      store32: () => machine.store32(at + 4096, 1),
      store64f: () => machine.store64f(at + 96, 1),
      copyIn: () => machine.copyIn(at + 99, Uint8Array.of(1, 2)),
      copyOut: () => machine.copyOut(at - 4, 8),
      fill: () => machine.fill(at + 50, 51, 1),
      'copy to it': () => machine.copy(at + 1, near, 100),
      'copy from it': () => machine.copy(near, at + 1, 100),
      bytes: () => machine.bytes(at, 101),
      index: () => machine.index(at + 100, 4),
      window: () => machine.window(at, 101),
      writeText: () => machine.writeText(at + 98, 'abc', 10),
      readText: () => machine.readText(at + 98, 3),
    };
    for (const [name, call] of Object.entries(calls)) {
      const e = stray(call);
      assert.match(e.message, /a block of 100 bytes of type 'sessions' at 0x/, name);
      assert.ok(e.message.includes(`memguard: ${name.split(' ')[0]} of `), e.message);
    }
    assert.equal(machine.sysctl('vm.memguard.traps'), Object.keys(calls).length);
    assert.ok(machine.copyOut(at, 100).every((b) => b === 5));
    type.free(at);
    for (const [name, call] of Object.entries(calls)) {
      assert.match(stray(call).message, /that was freed \d/, name);
    }
    machine.type('others').free(near);
  });
  test('realloc: a new place with the old contents; the old one is gone', (t) => {
    const machine = start(t, report);
    const type = machine.type('sessions');
    const at = type.alloc(10);
    machine.fill(at, 10, 8);
    const more = type.realloc(at, 9000);
    assert.ok(more >= BEYOND && more !== at);
    assert.equal(machine.load8(more + 9), 8);
    stray(() => machine.load8(at));
    stray(() => type.realloc(at, 20));
    const none = type.realloc(more, 0);
    assert.ok(none > 0 && none < BEYOND);
    type.free(none);
    machine.sysctl('vm.memguard.desc', '');
    const plain = type.alloc(10);
    machine.fill(plain, 10, 4);
    machine.sysctl('vm.memguard.desc', 'sessions');
    const moved = type.realloc(plain, 500);
    assert.ok(plain < BEYOND && moved >= BEYOND);
    assert.equal(machine.load8(moved + 9), 4);
    type.free(moved);
  });
  test('free: twice, of its middle, of another type, of nothing', (t) => {
    const machine = start(t, report);
    const type = machine.type('sessions');
    const at = type.alloc(100);
    const inside = fails('EFAULT', () => type.free((at + 16) as Address));
    assert.match(
      inside.message,
      /is no address of a block of type 'sessions': it is 16 bytes into/,
    );
    type.free(at);
    const twice = stray(() => type.free(at));
    assert.match(twice.message, /MemGuard detected double-free of 0x/);
    assert.ok(twice.freedAt?.[0].includes('memguard.test'), `${twice.freedAt}`);
    const other = type.alloc(16);
    const wild = stray(() => type.free((other + 16) as Address)); // on its guard page
    assert.match(
      wild.message,
      /detected free of 0x\w+, where no block begins: it is 0 bytes behind/,
    );
    type.free(other);
    stray(() => type.free((BEYOND + 4096) as Address));
    fails('EFAULT', () => type.free((BEYOND * 2) as Address));
    fails('EFAULT', () => type.usableSize(at));
  });
  test('with INVARIANTS a free by another type is the panic that it always is', (t) => {
    const machine = start(t, report);
    const at = machine.type('sessions').alloc(100);
    assert.throws(
      () => machine.type('others').free(at),
      (e) => e instanceof KernelPanic && /type sessions is freed as others/.test(e.message),
    );
  });
  test('its request is noted with its stack, until it is freed', (t) => {
    const machine = start(t, { ...report, 'vm.stack.interval': 1, 'vm.stack.enable': 1 });
    const type = machine.type('sessions');
    const all = Array.from({ length: 50 }, () => type.alloc(100));
    assert.ok(all.every((at) => at >= BEYOND));
    assert.equal(machine.sysctl('vm.stack.samples'), 50);
    machine.check();
    for (const at of all) type.free(at);
    assert.equal(machine.sysctl('vm.stack.samples'), 0);
    machine.sysctl('vm.stack.enable', 0);
  });
  test('it counts as a leak', (t) => {
    const machine = start(t, report);
    const type = machine.type('sessions');
    assertNoLeaks(machine);
    const at = type.alloc(100);
    const e = fails('EBUSY', () => assertNoLeaks(machine));
    assert.deepEqual(e.leaks, [{ kind: 'type', name: 'sessions', count: 1, bytes: 100 }]);
    type.free(at);
    assertNoLeaks(machine);
  });
  test('noted with its stack, it is until it is freed, and no memory of others changes', (t) => {
    const machine = start(t, report);
    machine.sysctl('vm.stack.interval', 1);
    machine.sysctl('vm.stack.enable', 1);
    const type = machine.type('sessions');
    // Where the marks of such pages would be, if those of the memory had no end.
    const marks = (): string[] => {
      const at = field_word(vm_page.info, 0) + BEYOND / 4096;
      return [...machine.u32.subarray(at, at + 64)].map((word) => word.toString(16));
    };
    const before = marks();
    const [first, at] = [type.alloc(100), type.alloc(5000)];
    samples_check();
    const noted = (): number[] => samples_list().map((s) => s.item * 4);
    assert.deepEqual(noted().sort(), [first, at].sort());
    assert.deepEqual(marks(), before);
    type.free(first);
    assert.deepEqual(noted(), [at]);
    const moved = type.realloc(at, 6000);
    assert.ok(!noted().includes(at));
    type.free(moved);
    assert.deepEqual(noted(), []);
    const last = type.alloc(100);
    machine.sysctl('vm.stack.enable', 0);
    assert.deepEqual(noted(), []);
    type.free(last);
    assert.deepEqual(marks(), before);
  });
  test('who finds no memory is told that guarded blocks hold it', (t) => {
    const machine = start(t, { ...report, 'vm.memguard.options': 3 }, { memory: '8M' });
    const type = machine.type('large');
    const all: Address[] = [];
    const e = fails('ENOMEM', () => {
      for (;;) all.push(type.alloc(2 ** 18));
    });
    assert.equal(e.holders?.[0].kind, 'memguard');
    assert.match(e.message, /most is held by memguard 'guarded blocks' \(\d{7} bytes\)/);
    for (const at of all) type.free(at);
  });
  test('each thread has the same addresses', async (t) => {
    const machine = start(t, report);
    const type = machine.type('sessions');
    const at = type.alloc(64);
    machine.writeText(at, 'handed', 10);
    const workerData = { kmem: machine.handle, at };
    const file = new URL('./memguard.test.worker.ts', import.meta.url);
    const worker = machine.adopt(new Worker(file, { workerData }));
    const end = once(worker, 'exit'); // it comes with the answer
    const [answer] = await within(once(worker, 'message'), 'the answer');
    assert.deepEqual(answer, { text: 'handed', stray: 'EFAULT', own: true });
    await within(end, 'the end of the worker');
    const late = stray(() => machine.load8(at));
    assert.match(`${late.freedAt}`, /memguard\.test\.worker/);
  });
});

describe('what is told', () => {
  test('the lines of allocation, free and access; each place once', (t) => {
    const machine = start(t, report);
    const type = machine.type('sessions');
    const made = line_of(new Error());
    const at = type.alloc(100); // the next line
    const freed = line_of(new Error());
    type.free(at);
    said.length = 0;
    let last: KmemError | undefined;
    for (let i = 0; i < 3; i++) last = stray(() => machine.load32(at + 8));
    assert.equal(said.length, 1, 'once');
    const next = (line: string): string => line.replace(/\d+$/, (n) => `${Number(n) + 1}`);
    assert.ok(last?.allocatedAt?.[0].includes(next(made)), `${last?.allocatedAt} ${made}`);
    assert.ok(last?.freedAt?.[0].includes(next(freed)), `${last?.freedAt} ${freed}`);
    assert.equal(last?.address, at + 8);
    const lines = said[0].split('\n');
    assert.match(lines[0], /^memguard: load32 of 4 bytes at 0x\w+ is 8 bytes into a block of 100/);
    for (const head of ['Allocation backtrace:', 'Free backtrace:', 'Access backtrace:']) {
      const i = lines.indexOf(head);
      assert.ok(i > 0 && lines[i + 1].startsWith('#0 ') && lines[i + 1].includes('memguard.test'));
    }
    stray(() => machine.load32(at + 8)); // another place
    assert.equal(said.length, 2);
  });
  test('unless it is said otherwise, the machine stops', (t) => {
    const machine = start(t, { 'vm.memguard.desc': 'sessions' });
    const at = machine.type('sessions').alloc(100);
    assert.throws(
      () => machine.store8(at + 100, 1),
      (e) =>
        e instanceof KernelPanic && /store8 of 1 byte at 0x.* is 0 bytes behind/.test(e.message),
    );
    assert.ok(said.some((text) => /Allocation backtrace:\n#0 .*memguard\.test/.test(text)));
  });
  test('a double free is a panic, too', (t) => {
    const machine = start(t, { 'vm.memguard.desc': 'sessions' });
    const type = machine.type('sessions');
    const at = type.alloc(100);
    type.free(at);
    assert.throws(
      () => type.free(at),
      (e) => e instanceof KernelPanic && /MemGuard detected double-free of 0x/.test(e.message),
    );
  });
  test('what a view stores late, and how long after the free', (t) => {
    const machine = start(t, { ...report, 'vm.memguard.quarantine': 8192 });
    const type = machine.type('sessions');
    const at = type.alloc(100);
    const view = machine.bytes(at, 100);
    type.free(at);
    view[10] = 1;
    machine.sysctl('vm.memguard.quarantine', 0);
    assert.equal(machine.sysctl('vm.memguard.late'), 1);
    const text = said.find((one) => one.startsWith('memguard: modified after free')) ?? '';
    assert.match(text, /10 bytes into|8 bytes into/); // the word that it is in
    assert.match(text, /of type 'sessions' .* that was freed \d+\.\d+ ms before\n/);
    assert.match(
      text,
      /Allocation backtrace:\n#0 .*\n(#.*\n)*Free backtrace:\n#0 .*memguard\.test/,
    );
  });
});

describe('items of a zone', () => {
  test('by its name, before there is one', (t) => {
    const machine = start(t, { ...report, 'vm.memguard.desc': 'conn' });
    const made: number[] = [];
    const ctor = (at: Address, size: number): void => {
      made.push(at);
      machine.fill(at, size, 1);
    };
    const zone = machine.zone('conn', { size: 40, ctor });
    const item = zone.alloc();
    assert.ok(item >= BEYOND);
    assert.deepEqual(made, [item]);
    assert.deepEqual([...zone.bytes(item)], new Array(40).fill(1));
    machine.store32(zone.address(item), 5);
    assert.equal(machine.load32(item as number), 5);
    stray(() => machine.load32((item as number) + 40));
    assert.equal(zone.used, 0, 'it counts nowhere');
    const e = fails('EFAULT', () => machine.type('t').free(item as number as Address));
    assert.match(e.message, /it is 0 bytes into an item of 40 bytes of zone 'conn'/);
    const other = machine.zone('other', { size: 40 });
    assert.ok(other.alloc() < BEYOND);
    fails('EFAULT', () => other.free(item as never));
    zone.free(item);
    assert.match(stray(() => zone.free(item)).message, /double-free.*an item of 40 bytes of zone/);
    stray(() => zone.bytes(item));
  });
  test('a zone whose guarded items are in use stays', (t) => {
    const machine = start(t, { ...report, 'vm.memguard.desc': 'conn' });
    const zone = machine.zone('conn', { size: 40 });
    const { error } = console;
    const item = zone.alloc();
    try {
      console.error = () => {};
      assert.equal(zone.dispose(), 1);
    } finally {
      console.error = error;
    }
    const again = machine.zone('conn', { size: 40 });
    again.free(item);
    assert.equal(again.dispose(), 0);
  });
  test('zeroed, tried, waited for; switched off and on', async (t) => {
    const machine = start(t, report);
    const zone = machine.zone('conn', { size: 100, align: 64 });
    const plain = zone.alloc();
    assert.ok(plain < BEYOND);
    machine.sysctl('vm.memguard.desc', 'conn');
    const all = [zone.alloc({ zero: true }), zone.tryAlloc(), await zone.allocAsync()];
    assert.ok(all.every((item) => item !== undefined && item >= BEYOND && item % 64 === 0));
    machine.sysctl('vm.memguard.desc', '');
    machine.sysctl('vm.memguard.frequency', 100_000);
    const chance = zone.alloc();
    assert.ok(chance >= BEYOND);
    machine.sysctl('vm.memguard.frequency', 0);
    assert.ok(zone.alloc() < BEYOND);
    for (const item of [...all, plain, chance]) if (item !== undefined) zone.free(item);
  });
});

describe('what is set', () => {
  const refused = (machine: Machine, name: string, value: number | string, text: RegExp): void => {
    const e = fails('EINVAL', () => machine.sysctl(`vm.memguard.${name}`, value));
    assert.match(e.message, text);
  };
  test('a type that there is not, a name with %, divisor 0: taken', (t) => {
    const set = { 'vm.memguard.divisor': 0, 'vm.memguard.desc': 'no such type' };
    const machine = start(t, { ...set, 'vm.memguard.trap': 'report' });
    assert.ok(Number(machine.sysctl('vm.memguard.mapsize')) > 0);
    for (const name of ['never made', '100%', '%s%n']) {
      machine.sysctl('vm.memguard.desc', name);
      assert.equal(machine.sysctl('vm.memguard.desc'), name);
    }
    const at = machine.type('%s%n').alloc(10);
    assert.match(stray(() => machine.load8(at + 10)).message, /of type '%s%n' at/);
    machine.type('%s%n').free(at);
  });
  test('negative sizes, and all else that is none', (t) => {
    const machine = start(t);
    refused(machine, 'minsize', -1, /-1 does not fit its type uint/);
    refused(machine, 'quarantine', -1, /-1 does not fit its type ulong/);
    refused(machine, 'frequency', 100_001, /the value is not accepted \(0 to 100000\)/);
    refused(machine, 'options', 8, /the value is not accepted \(0 to 7\)/);
    refused(machine, 'options', -1, /the value is not accepted \(0 to 7\)/);
    refused(machine, 'minsize', 1.5, /1\.5 is not a whole number/);
    refused(machine, 'trap', 'core', /give 'panic' or 'report'/);
    refused(machine, 'desc', 'a\u0007', /a name has no control characters/);
    refused(machine, 'desc', 'x'.repeat(200), /200 bytes, more than 127/);
    refused(machine, 'desc', 5, /a text is wanted/);
    for (const name of ['divisor', 'mapsize', 'cursor', 'numalloc']) {
      fails('EPERM', () => machine.sysctl(`vm.memguard.${name}`, 1));
    }
  });
  test('at boot', () => {
    const wrong: [string, number | string, RegExp][] = [
      ['divisor', -1, /set vm\.memguard\.divisor=-1: outside 0 to/],
      ['frequency', 100_001, /outside 0 to 100000/],
      ['trap', 'core', /give 'panic' or 'report'/],
      ['desc', 'a\nb', /a name has no control characters/],
      ['minsize', 5, /not a tunable/],
    ];
    for (const [name, value, text] of wrong) {
      const e = fails('EINVAL', () => boot({ set: { [`vm.memguard.${name}`]: value } }));
      assert.match(e.message, text);
    }
  });
});
