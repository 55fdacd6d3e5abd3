/*
 * Shows: machine.contiguous as programs use it: where the block lies, what it holds, how it counts
 * and is freed, in a memory that is full of pages of a space, which keep what they hold; and what
 * is wrong with a call is said in one line.
 * By what means: a space whose pages fill the memory, and counts of what was done with them.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { boot, KmemError, type Machine } from './index.ts';

/** Of the memory there is. */
const PAGES = 1700;
let machine: Machine;
beforeEach(() => {
  machine = boot({ memory: '8M', cpus: 2, options: { INVARIANTS: true } });
});
afterEach(() => {
  machine.check();
  machine.shutdown();
});
const refused = (code: string, text: RegExp, call: () => unknown): void => {
  assert.throws(call, (e) => e instanceof KmemError && e.code === code && text.test(e.message));
};

test('a block of zeros where the options say, under its type, until it is freed', () => {
  const b = machine.contiguous(70_000, { type: 'frames', align: '64K', low: '1M', high: '6M' });
  assert.equal(b.address % 65_536, 0);
  assert.ok(b.address >= 2 ** 20 && b.address + 70_000 <= 6 * 2 ** 20);
  assert.equal(b.bytes.length, 70_000);
  assert.ok(b.bytes.every((v) => v === 0));
  b.bytes.fill(7);
  assert.equal(machine.load8(b.address + 69_999), 7);
  assert.equal(machine.type('frames').stats.bytes, 73_728);
  b.free();
  assert.deepEqual([b.address, b.bytes.length], [0, 0]);
  assert.equal(machine.type('frames').stats.bytes, 0);
  {
    using other = machine.contiguous('8K', { boundary: '8K' });
    assert.equal(other.address % 8192, 0);
    machine.type('contiguous').free(machine.contiguous(1).address); // as any block of the type
  }
  assert.equal(machine.type('contiguous').stats.inUse, 0);
});

test('it comes out of a memory that is full of pages of a space', () => {
  const space = machine.space('full');
  const m = space.mmap({ length: PAGES * 4096, name: 'pages' });
  for (let i = 0; i < PAGES; i++) m.setU32(i * 4096, i + 1);
  using b = machine.contiguous('2M');
  b.bytes.fill(0xff);
  assert.ok(Number(machine.sysctl('vm.contig.moved')) > 0);
  assert.ok(Number(machine.sysctl('vm.contig.freed')) > 0, 'there was no room for all of them');
  for (let i = 0; i < PAGES; i++) assert.equal(m.getU32(i * 4096), i + 1, `page ${i}`);
  space.destroy();
});

test('a large block of any type makes its run, too, where free pages lie apart', () => {
  const [a, b] = ['a', 'b'].map((name) => machine.space(name));
  const [of_a, of_b] = [a, b].map((space) => space.mmap({ length: 800 * 4096 }));
  for (let i = 0; i < 800; i++) {
    of_a.setU32(i * 4096, i + 1);
    of_b.setU32(i * 4096, 1);
  }
  const rest = machine.type('rest');
  for (let n = 256; n > 0; ) if (rest.tryAlloc(n * 4096) === undefined) n >>= 1;
  b.destroy();
  const large = machine.type('large');
  const run = Number(machine.sysctl('vm.longest_run'));
  assert.ok(run < 400, `${run} pages side by side`);
  assert.equal(large.tryAlloc(400 * 4096), undefined, 'it does not move anything');
  const at = large.alloc(400 * 4096);
  machine.fill(at, 400 * 4096, 0xff);
  for (let i = 0; i < 800; i++) assert.equal(of_a.getU32(i * 4096), i + 1, `page ${i}`);
  large.free(at);
  a.destroy();
});

test('guards: every call that runs off the block is refused, and has touched nothing', () => {
  const b = machine.contiguous(8192, { guard: true });
  const end = b.address + 8192;
  machine.store32(end - 4, 5);
  const text = /behind a block of 8192 bytes of type 'contiguous' at \d+, which is a guard/;
  refused('EFAULT', text, () => machine.load32(end));
  refused('EFAULT', text, () => machine.store8(end + 4095, 1));
  refused('EFAULT', text, () => machine.load64f(end + 8));
  refused('EFAULT', text, () => machine.copyIn(end - 2, new Uint8Array(4)));
  refused('EFAULT', text, () => machine.copyOut(b.address, 8193));
  refused('EFAULT', text, () => machine.bytes(b.address, 8193));
  refused('EFAULT', text, () => machine.fill(b.address, 10_000));
  refused('EFAULT', text, () => machine.copy(b.address, end - 8, 16));
  refused('EFAULT', text, () => machine.readText(end - 4, 8));
  refused('EFAULT', /the page before a block/, () => machine.load32(b.address - 4));
  assert.equal(machine.load32(end - 4), 5);
  assert.equal(machine.sysctl('debug.guard.pages'), 3);
  machine.u8[machine.index(end, 1)] = 9; // checked by nobody
  machine.check();
  assert.equal(Number(machine.sysctl('debug.guard.found')), 1);
  b.free();
  assert.equal(machine.sysctl('debug.guard.pages'), 1);
});

test('what is wrong with a call, in one line', () => {
  const { contiguous } = machine;
  const call =
    (...args: unknown[]) =>
    () =>
      Reflect.apply(contiguous, machine, args);
  refused('EINVAL', /bytes 0 is no size/, call(0));
  refused('EINVAL', /bytes 'x' is no size/, call('x'));
  refused('EINVAL', /align 3 is no power of two/, call(4096, { align: 3 }));
  refused('EINVAL', /align 0 is no power of two/, call(4096, { align: 0 }));
  refused('EINVAL', /boundary 5000 is no power of two/, call(4096, { boundary: 5000 }));
  refused('EINVAL', /lies across one wherever/, call(8192, { boundary: 4096 }));
  refused('EINVAL', /no 8192 bytes lie between/, call(8192, { low: '1M', high: 2 ** 20 + 4096 }));
  refused('EINVAL', /low -1 is no size/, call(8192, { low: -1 }));
  refused('EINVAL', /guard: a block with guards/, call(8192, { guard: true, align: '64K' }));
  refused('EINVAL', /guard 1 is neither/, call(8192, { guard: 1 }));
  refused('EINVAL', /no such option/, call(8192, { alin: 4096 }));
  refused('EINVAL', /name/, call(8192, { type: '' }));
  refused('ENOMEM', /too large: no 1073741824 bytes/, call('1G'));
  refused('ENOMEM', /fragmented/, call(8192, { high: 8192 }));
  assert.equal(machine.type('contiguous').stats.inUse, 0);
});
