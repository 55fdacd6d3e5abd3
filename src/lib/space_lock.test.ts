/*
 * Shows: regions and spaces are locked and unlocked, within their limits; locked pages stay in
 * memory while everything else goes; who may not lock is told why, and nothing has changed; locks
 * are every thread's, outlive the thread that made them, and go with what they are on.
 * By what means: one thread on a machine whose memory is full of others' pages; a worker that locks
 * and dies; the walkers at the end of each test.
 */
import assert from 'node:assert/strict';
import { rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { within } from '../sys/machine/workers.test.lib.ts';
import { type Machine, type Region, testMachine } from './index.ts';
import { fails, vm_checks } from './space.test.lib.ts';

const PAGE = 4096;
const MIB = 2 ** 20;
/** Pages of a region that are in memory. */
function here(m: Region): number {
  return m.resident().filter((b) => (b & 1) !== 0).length;
}
/** Other pages are written to, more than there is room for. */
function press(machine: Machine): void {
  const other = machine.space('other');
  const big = other.mmap({ length: 10 * MIB });
  for (let at = 0; at < big.length; at += PAGE) big.setU32(at, 1);
  other.destroy();
}

describe('a region that is locked', () => {
  test('is in memory, and stays there while others go', (t) => {
    const machine = testMachine(t, { memory: '8M' });
    const space = machine.space('s');
    const [kept, free] = ['kept', 'free'].map((name) => space.mmap({ name, length: 64 * PAGE }));
    for (let at = 0; at < kept.length; at += PAGE) free.setU32(at, at);
    kept.lock();
    assert.equal(here(kept), 64, 'pages that nobody has used yet, too');
    assert.equal(space.locked, kept.length);
    for (let at = 0; at < kept.length; at += PAGE) kept.setU32(at, at + 1);
    press(machine);
    assert.equal(here(kept), 64);
    assert.ok(here(free) < 64, 'that was enough to send others away');
    for (let at = 0; at < kept.length; at += PAGE) {
      assert.deepEqual([kept.getU32(at), free.getU32(at)], [at + 1, at]);
    }
    kept.unlock(0, 32 * PAGE);
    assert.equal(space.regions().find((r) => r.name === 'kept')?.locked, 32 * PAGE);
    kept.unlock();
    kept.unlock();
    assert.equal(space.locked, 0);
    space.destroy();
    vm_checks();
  });
  test('takes whole pages, and says what it cannot have', (t) => {
    const machine = testMachine(t, { memory: '8M' });
    const space = machine.space('s');
    const m = space.mmap({ length: 8 * PAGE });
    m.lock(PAGE + 100, PAGE);
    assert.equal(space.locked, 2 * PAGE);
    m.lock(0, 0);
    fails(() => m.lock(-1), 'EINVAL');
    fails(() => m.lock(0, 8 * PAGE + 1), 'EFAULT', /beyond/);
    fails(() => m.unlock(9 * PAGE), 'EFAULT');
    space.limits({ memlock: 4 * PAGE });
    assert.equal(space.limits().memlock, 4 * PAGE);
    const over = fails(() => m.lock(), 'ENOMEM', /leaves 8192 bytes/);
    assert.equal(over.reason, 'limit');
    space.limits({ memlock: Number.POSITIVE_INFINITY });
    machine.sysctl('vm.max_wired', 6);
    fails(() => m.lock(0, 7 * PAGE), 'ENOMEM');
    fails(() => m.lock(0, 5 * PAGE), 'EAGAIN', /vm\.max_wired leaves 16384/);
    machine.sysctl('security.bsd.unprivileged_mlock', 0);
    fails(() => m.lock(), 'EPERM', /unprivileged_mlock/);
    fails(() => space.unlockAll(), 'EPERM');
    machine.sysctl('security.bsd.unprivileged_mlock', 1);
    assert.equal(space.locked, 2 * PAGE, 'nothing has changed');
    machine.sysctl('vm.max_wired', 600);
    const none = space.mmap({ length: PAGE, protect: 'none' });
    fails(() => none.lock(), 'EFAULT', /may not be/);
    m.unmap();
    assert.equal(space.locked, 0);
    fails(() => m.lock(), 'EFAULT');
    space.destroy();
    fails(() => space.lockAll(), 'ESTALE');
    vm_checks();
  });
  test('windows, protection and forks go on; a file is locked, too', (t) => {
    const machine = testMachine(t, { memory: '8M' });
    const space = machine.space('s');
    const path = join(tmpdir(), `kmem-lock-${process.pid}`);
    writeFileSync(path, new Uint8Array(4 * PAGE).fill(7));
    t.after(() => writeFileSync(path, ''));
    const m = space.mmap({ file: path, write: true });
    m.lock();
    assert.equal(here(m), 4);
    const copy = space.mmap({ file: path, shared: false });
    copy.lock();
    m.setU8(0, 8);
    assert.equal(copy.getU8(0), 7, 'a copy that is locked is its own');
    const a = space.mmap({ length: 4 * PAGE });
    a.lock();
    a.protect('r');
    a.protect('rw');
    const w = a.window(0, PAGE, { write: true });
    w.u8[0] = 5;
    w.close();
    const scattered = space.mmap({ length: 8 * PAGE });
    for (const page of [5, 1, 7, 3, 0, 6, 2, 4]) scattered.setU32(page * PAGE, page);
    scattered.lock();
    const flat = scattered.window(PAGE, 6 * PAGE);
    for (let page = 1; page < 7; page++) assert.equal(flat.u32[(page - 1) * (PAGE / 4)], page);
    flat.close();
    assert.equal(here(scattered), 8);
    scattered.unmap();
    const fork = space.fork('f');
    assert.equal(fork.locked, 0);
    a.setU8(0, 6);
    assert.equal(fork.region(a.address).getU8(0), 5);
    fork.destroy();
    assert.equal(space.locked, 12 * PAGE);
    space.destroy();
    vm_checks();
  });
});

describe('a file that is locked', () => {
  const up = (t: TestContext, pages: number): { machine: Machine; path: string } => {
    const machine = testMachine(t, { memory: '8M' });
    const path = join(tmpdir(), `kmem-lock-${process.pid}`);
    writeFileSync(path, new Uint8Array(pages * PAGE).fill(7));
    t.after(() => rmSync(path, { force: true }));
    return { machine, path };
  };
  test('becomes shorter: what is behind its end is unlocked, in all spaces, and gone', (t) => {
    const { machine, path } = up(t, 8);
    const spaces = ['a', 'b'].map((name) => machine.space(name));
    const [a, b] = spaces.map((space) => space.mmap({ file: path, write: true }));
    const own = spaces[0].mmap({ file: path, shared: false });
    for (const m of [a, b, own]) m.lock();
    b.unlock(4 * PAGE, PAGE);
    a.truncate(2 * PAGE + 100);
    assert.equal(statSync(path).size, 2 * PAGE + 100);
    assert.deepEqual(
      spaces.map((space) => space.locked / PAGE),
      [3 + 8, 3],
      'the page in which it ends is locked, and what is no file',
    );
    assert.deepEqual([here(a), here(b), here(own)], [3, 3, 8]);
    assert.deepEqual([a.getU8(2 * PAGE + 99), b.getU8(2 * PAGE + 100)], [7, 0]);
    for (const m of [a, b]) fails(() => m.getU8(3 * PAGE), 'EFAULT', /behind the end/);
    assert.equal(own.getU8(7 * PAGE), 7);
    vm_checks();
    a.truncate(8 * PAGE);
    a.setU8(5 * PAGE, 9);
    assert.equal(b.getU8(5 * PAGE), 9);
    assert.equal(spaces[1].locked, 3 * PAGE, 'what it gets later is not locked');
    press(machine);
    assert.ok(here(b) >= 3);
    assert.equal(b.getU8(5 * PAGE), 9);
    for (const m of [a, b]) m.lock();
    fails(() => b.truncate(9 * PAGE - 1) ?? b.lock(8 * PAGE, 1), 'EFAULT');
    for (const m of [a, b, own]) m.unlock();
    for (const space of spaces) assert.equal(space.locked, 0);
    for (const space of spaces) space.destroy();
    vm_checks();
  });
  test('with a window behind its new end: EBUSY, and everything is as it was', (t) => {
    const { machine, path } = up(t, 6);
    const space = machine.space('s');
    const m = space.mmap({ file: path, write: true });
    m.lock();
    const w = m.window(4 * PAGE, PAGE, { write: true });
    w.u8[0] = 8;
    fails(() => m.truncate(PAGE), 'EBUSY', /window/);
    assert.deepEqual([statSync(path).size, space.locked, here(m)], [6 * PAGE, 6 * PAGE, 6]);
    m.truncate(5 * PAGE);
    assert.equal(space.locked, 5 * PAGE);
    w.close();
    m.truncate(PAGE);
    assert.equal(space.locked, PAGE);
    space.destroy();
    vm_checks();
  });
  test('cut by others: what is locked stays until a sync sees it', (t) => {
    const { machine, path } = up(t, 6);
    const space = machine.space('s');
    const m = space.mmap({ file: path, write: true });
    m.lock();
    truncateSync(path, 2 * PAGE);
    m.sync();
    assert.equal(space.locked, 2 * PAGE);
    fails(() => m.getU8(2 * PAGE), 'EFAULT', /behind the end/);
    assert.equal(statSync(path).size, 2 * PAGE);
    space.destroy();
    vm_checks();
  });
});

describe('a space that is locked', () => {
  test('as it is now, and as it will be', (t) => {
    const machine = testMachine(t, { memory: '8M' });
    const space = machine.space('s');
    const m = space.mmap({ length: 4 * PAGE });
    space.mmap({ length: 2 * PAGE, protect: 'none' });
    space.lockAll();
    assert.equal(space.locked, m.length);
    space.mmap({ length: PAGE });
    assert.equal(space.locked, m.length);
    space.lockAll({ current: false, future: true });
    const later = space.mmap({ name: 'later', length: 3 * PAGE });
    assert.equal(here(later), 3);
    assert.equal(space.locked, 7 * PAGE);
    space.limits({ memlock: 8 * PAGE });
    fails(() => space.mmap({ name: 'more', length: 2 * PAGE }), 'ENOMEM');
    fails(() => space.region('more'), 'ENOENT');
    space.unlockAll();
    assert.equal(space.locked, 0);
    space.mmap({ name: 'more', length: 2 * PAGE });
    assert.equal(space.locked, 0);
    for (const how of [{}, { current: 1 }, { current: false }, { always: true }]) {
      if (Object.keys(how).length > 0) fails(() => space.lockAll(how as object), 'EINVAL');
    }
    space.limits({ memlock: PAGE });
    fails(() => space.lockAll(), 'ENOMEM');
    space.limits({ size: 20 * PAGE });
    assert.equal(space.limits().mapped, 20 * PAGE);
    fails(() => space.mmap({ length: 20 * PAGE }), 'ENOMEM');
    space.destroy();
    vm_checks();
  });
  test('maps no file, and no place, for which its limit has no room', (t) => {
    const machine = testMachine(t, { memory: '8M' });
    const space = machine.space('s');
    const path = join(tmpdir(), `kmem-lock-${process.pid}`);
    t.after(() => rmSync(path, { force: true }));
    writeFileSync(path, Buffer.alloc(3 * PAGE, 5));
    space.lockAll({ current: false, future: true });
    space.limits({ memlock: 2 * PAGE });
    const file = { file: path, write: true, length: 3 * PAGE };
    for (const more of [{}, { name: 'm' }, { address: 64 * PAGE }, { shared: false }]) {
      const e = fails(() => space.mmap({ ...file, ...more }), 'ENOMEM');
      assert.equal(e.reason, 'limit');
    }
    fails(() => space.mmap({ length: 3 * PAGE, address: 64 * PAGE }), 'ENOMEM');
    assert.deepEqual(space.regions(), []);
    space.limits({ memlock: 3 * PAGE });
    const m = space.mmap({ ...file, name: 'm' });
    assert.equal(space.mmap({ ...file, name: 'm' }), m);
    assert.equal(m.getU8(2 * PAGE), 5);
    space.destroy();
    vm_checks();
  });
  test('stays so when the thread that locked it dies', async (t) => {
    const machine = testMachine(t, { memory: '8M' });
    const space = machine.space('s');
    const m = space.mmap({ name: 'm', length: 16 * PAGE });
    const worker = new Worker(new URL('./space_lock.test.worker.ts', import.meta.url), {
      workerData: machine.handle,
    });
    await within(new Promise((resolve) => worker.once('message', resolve)), 'the worker locks');
    await worker.terminate();
    assert.equal(space.locked, 16 * PAGE);
    m.setU32(0, 1);
    m.unlock();
    assert.equal(space.locked, 0);
    space.destroy();
    vm_checks();
  });
});
