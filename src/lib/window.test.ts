/*
 * Shows: windows are flat views of a region, held in place: what may be opened, what is refused
 * and by whom, what forks and the end of things make of them.
 * By what means: one thread on a small machine.  Several threads: space_threads.test.ts; deaths:
 * sim window_*.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assertNoLeaks, boot, type KmemError, type Machine, testMachine } from './index.ts';
import { fails, vm_checks } from './space.test.lib.ts';

const PAGE = 4096;

function proved(t: Parameters<typeof testMachine>[0], debug = false): Machine {
  let machine: Machine | null = null;
  t.after?.(async () => {
    if (!machine?.up) return;
    for (const name of ['s', 'snap']) {
      try {
        machine.space(name, { create: false }).destroy();
      } catch (e) {
        if ((e as KmemError).code !== 'ENOENT') throw e;
      }
    }
    vm_checks();
  });
  machine = testMachine(t, { memory: '16M', cpus: 2, debug });
  return machine;
}

describe('windows', () => {
  test('show what is there, and are what is there', (t) => {
    const m = proved(t).space('s').mmap({ length: '64K' });
    m.setU32(5000, 1);
    using w = m.window(4096, 12_288, { write: true });
    assert.equal(w.u32.length, 3072);
    assert.equal(w.u32[226], 1);
    w.u32[226] = 2;
    assert.equal(m.getU32(5000), 2);
    m.setU32(5000, 3);
    assert.equal(w.u32[226], 3);
    w.f64[1535] = 0.25;
    assert.equal(m.getF64(4096 + 12_280), 0.25);
    assert.equal(w.u8, w.u8);
    vm_checks();
  });
  test('pages in any order lie side by side', (t) => {
    const m = proved(t).space('s').mmap({ length: '256K' });
    for (let i = 63; i >= 0; i--) m.setU32(i * 4096 + 8, i);
    using w = m.window();
    for (let i = 0; i < 64; i++) assert.equal(w.u32[i * 1024 + 2], i);
    vm_checks();
  });
  test('begin anywhere; views need their alignment', (t) => {
    const m = proved(t).space('s').mmap({ length: '16K' });
    m.setU16(4094, 0x1234);
    using w = m.window(4094, 7);
    assert.equal(w.u16[0], 0x1234);
    assert.deepEqual([w.u8.length, w.u16.length, w.i16.length], [7, 3, 3]);
    fails(() => w.u32, 'EINVAL', /offset 4094 is no multiple of 4/);
  });
  test('one after another', (t) => {
    const m = proved(t).space('s').mmap({ length: '200K' });
    const a = m.array('f64');
    for (let i = 0; i < a.length; i += 100) a.set(i, i);
    let sum = 0;
    let n = 0;
    for (const w of m.windows({ size: '64K' })) {
      for (const v of w.f64) sum += v;
      n++;
    }
    let right = 0;
    for (let i = 0; i < a.length; i += 100) right += i;
    assert.deepEqual([sum, n], [right, 4]);
    for (const w of m.windows({ size: 100, offset: 50, length: 250, write: true })) {
      w.u8.fill(7);
      if (w.offset === 250) break;
    }
    assert.deepEqual(
      [49, 50, 299, 300].map((at) => m.getU8(at)),
      [0, 7, 7, 0],
    );
  });
  test('what is in the way of a window, and what a window is in the way of', (t) => {
    const space = proved(t).space('s');
    const m = space.mmap({ length: '64K' });
    const w = m.window(8192, 8192);
    fails(() => m.window(4096, 8192), 'EBUSY', /this thread has a window on 8192 bytes at/);
    m.window(12_288, 4096).close(); // inside it
    fails(() => m.unmap(), 'EBUSY', /this thread has a window/);
    fails(() => m.unmap({ wait: 1000 }), 'EBUSY');
    fails(() => m.protect('none'), 'EBUSY');
    fails(() => space.destroy(), 'EBUSY');
    fails(() => space.fork('snap', { windows: 'refuse' }), 'EBUSY');
    m.setU32(8192, 5);
    assert.equal(w.u32[0], 5);
    w.close();
    w.close();
    assert.ok(w.closed);
    fails(() => w.u8, 'ESHUTDOWN', /it is closed/);
    m.protect('none');
    fails(() => m.window(0, 4096), 'EFAULT', /may not be read/);
    m.unmap();
    const e = fails(() => m.window(0, 4096), 'EFAULT', /nothing is mapped/);
    assert.deepEqual([e.reason, e.address], ['unmapped', m.address]);
  });
  test('a window of another space on pages that would have to move', (t) => {
    const machine = testMachine(t, { memory: '16M' });
    const there = machine.space('a').mmap({ name: 'm', length: 64 * PAGE, inherit: 'share' });
    for (let i = 0; i < 64; i++) there.setU32((63 - i) * PAGE, i);
    const here = machine.space('a').fork('b').region('m');
    {
      using _w = there.window(8 * PAGE, 30 * PAGE, { write: true });
      const how = { code: 'EBUSY', op: 'window', message: /another space/ };
      assert.throws(() => here.window(0, 60 * PAGE), how);
      assert.throws(() => here.window(0, 60 * PAGE, { wait: 5 }), how);
      using same = here.window(8 * PAGE, 30 * PAGE);
      assert.equal(same.u32[0], 55);
    }
    const w = here.window(0, 60 * PAGE);
    assert.equal(w.u32[PAGE / 4], 62);
    w.close();
    for (const name of ['a', 'b']) machine.space(name).destroy();
  });
  test('what is wrong with a call', (t) => {
    const m = proved(t).space('s').mmap({ length: '8M', protect: 'r' });
    fails(() => m.window(0, 0), 'EINVAL', /1 byte at least/);
    fails(() => m.window(0, m.length + 1), 'EFAULT', /beyond its/);
    fails(() => m.window(-1, 1), 'EINVAL');
    fails(() => m.window(0, 1, { write: 1 as unknown as boolean }), 'EINVAL');
    fails(() => m.window(0, 1, { wirte: true } as object), 'EINVAL');
    const r = fails(() => m.window(0, 4096, { write: true }), 'EFAULT', /read and written to/);
    assert.equal(r.reason, 'protection');
    const e = fails(() => m.window(), 'ENOMEM', /vm.window_max and vm.max_wired leave \d+/);
    assert.equal(e.reason, 'limit');
    fails(() => [...m.windows({ size: 0 })], 'EINVAL');
    fails(() => [...m.windows({ offset: 9e9 })], 'EINVAL');
  });
  test('a fork under a window is a copy at once', (t) => {
    const space = proved(t).space('s');
    const m = space.mmap({ name: 'm', length: '32K' });
    using w = m.window(0, 16_384, { write: true });
    w.u32[0] = 1;
    m.setU32(20_000, 1);
    const snap = space.fork('snap', { protect: 'r' }).region('m');
    w.u32[0] = 2;
    m.setU32(20_000, 2);
    assert.deepEqual([snap.getU32(0), snap.getU32(20_000)], [1, 1]);
    assert.deepEqual([m.getU32(0), m.getU32(20_000)], [2, 2]);
    vm_checks();
  });
  test('a window for reading on a copy copies nothing', (t) => {
    const space = proved(t).space('s');
    const m = space.mmap({ name: 'm', length: '32K' });
    m.fill(0, m.length, 3);
    const snap = space.fork('snap', { protect: 'r' }).region('m');
    using w = snap.window();
    m.setU8(0, 4);
    assert.deepEqual([w.u8[0], w.u8[32_767], m.getU8(0)], [3, 3, 4]);
    vm_checks();
  });
  test('in a debug machine views of a closed window see no contents', (t) => {
    const m = proved(t, true).space('s').mmap({ length: '16K' });
    m.setU32(0, 77);
    const w = m.window(0, 4096, { write: true });
    const { u32 } = w;
    w.close();
    assert.equal(u32[0], 0xdeadc0de);
    assert.equal(m.getU32(0), 77);
  });
  test('windowAsync gets its pages first', async (t) => {
    const m = proved(t).space('s').mmap({ length: '64K' });
    using w = await m.windowAsync(0, 65_536, { write: true });
    w.u8[65_535] = 1;
    assert.equal(m.getU8(65_535), 1);
    (await m.windowAsync(0, 4096 * 15)).close(); // inside it
    w.close();
    using part = m.window(4096, 8192);
    await assert.rejects(m.windowAsync(0, 8192, { wait: 20 }), { code: 'EBUSY' });
    assert.ok(!part.closed);
  });
  test('open windows are leaks; leaving the machine closes them', () => {
    const machine = boot({ memory: '16M' });
    const space = machine.space('s');
    const w = space.mmap({ length: 8192 }).window();
    const e = fails(() => assertNoLeaks(machine), 'EBUSY', /window 's': 1 open;/);
    assert.equal(e.leaks?.find((l) => l.kind === 'window')?.bytes, 8192);
    space.dispose();
    assert.ok(w.closed);
    const again = machine.space('s');
    const w2 = again.region(again.regions()[0].address).window();
    machine.shutdown();
    fails(() => w2.u8, 'ESHUTDOWN');
    w2.close();
  });
});
