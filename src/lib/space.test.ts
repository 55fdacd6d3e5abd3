/*
 * Shows: what a program does with an address space by the façade: regions by name and address,
 * typed loads and stores, many bytes, arrays, rights, forks, limits, and its end.
 * By what means: one thread on a small machine; what is wrong with each call is a row of a table.
 * Several threads at once: space_threads.test.ts.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assertNoLeaks, boot, type Region, type Space, testMachine } from './index.ts';
import { fails, vm_checks } from './space.test.lib.ts';

/** A space in a machine of its own, which is proved and given back at the end. */
function spaced(t: Parameters<typeof testMachine>[0]): Space {
  let space: Space | null = null;
  // What runs at the end runs in this order: before the machine looks for what is left.
  t.after?.(async () => {
    if (space !== null && !space.gone) space.destroy();
    vm_checks();
  });
  space = testMachine(t, { memory: '16M', cpus: 2, set: { 'vm.swap_default': 0 } }).space('s');
  return space;
}
const KINDS = [
  ['U8', 1, 200],
  ['I8', 1, -100],
  ['U16', 2, 60_000],
  ['I16', 2, -30_000],
  ['U32', 4, 4_000_000_000],
  ['I32', 4, -2_000_000_000],
  ['F32', 4, 0.5],
  ['F64', 8, Math.PI],
] as const;

describe('regions', () => {
  test('all kinds of values keep what was stored, on every page, beside each other', (t) => {
    const m = spaced(t).mmap({ length: '40K' });
    for (let round = 0; round < 2; round++) {
      for (const [kind, width, value] of KINDS) {
        for (const at of [0, 4096 - width, 4096, m.length - width]) {
          if (round === 0) assert.equal(m[`get${kind}`](at), 0);
          m[`set${kind}`](at, value);
          assert.equal(m[`get${kind}`](at), value, `${kind} at ${at}`);
          m[`set${kind}`](at, 0);
        }
      }
    }
  });
  test('are found by name, and by an address in them', (t) => {
    const space = spaced(t);
    const a = space.mmap({ name: 'a', length: 8192 });
    const b = space.mmap({ name: 'ä', length: '1M', protect: 'r', inherit: 'none' });
    assert.equal(space.mmap({ name: 'a', length: 5000 }), a);
    assert.equal(space.region('ä'), b);
    assert.equal(space.region(b.address + 70_000), b);
    const held = { locked: 0, lent: 0, super: 0 };
    assert.deepEqual(space.regions(), [
      {
        ...{ name: 'a', address: a.address, length: 8192 },
        protect: 'rw',
        inherit: 'copy',
        ...held,
      },
      {
        ...{ name: 'ä', address: b.address, length: 2 ** 20 },
        protect: 'r',
        inherit: 'none',
        ...held,
      },
    ]);
    assert.equal(space.mapped, 8192 + 2 ** 20);
    assert.equal(space.resident, 0);
    a.setU8(0, 1);
    assert.equal(space.resident, 4096);
    fails(() => space.mmap({ name: 'a', length: 9000 }), 'EEXIST', /8192 bytes; asked for 9000/);
    fails(() => space.region('b'), 'ENOENT', /no region 'b'/);
    fails(() => space.region(1), 'ENOENT');
  });
  test('at an address that is named, of 48 bits, and not over others', (t) => {
    const space = spaced(t);
    const at = 0x7f00_1234_5000;
    const m = space.mmap({ address: at, length: 8192, name: 'high' });
    assert.equal(m.address, at);
    space.store32(at + 4096, 77);
    assert.equal(m.getU32(4096), 77);
    assert.equal(space.load32(at + 4096), 77);
    assert.equal(space.load8(at + 4096), 77);
    assert.equal(space.load16(at + 4096), 77);
    space.store64f(at, 1.5);
    assert.equal(space.load64f(at), 1.5);
    fails(() => space.mmap({ address: at + 4096, length: 1 }), 'EEXIST', /some are mapped/);
    fails(() => space.load32(at + 8192), 'EFAULT', /nothing is mapped at 139638282153984/);
  });
  test('many bytes go over pages, and say how far they came', (t) => {
    const space = spaced(t);
    const m = space.mmap({ length: '32K' });
    const bytes = Uint8Array.from({ length: 20_000 }, (_, i) => i * 7);
    assert.equal(m.write(3, bytes), 20_000);
    assert.deepEqual(m.read(3, new Uint8Array(20_000)), bytes);
    assert.equal(m.getU8(3 + 19_999), bytes[19_999]);
    m.fill(4000, 200, 9);
    assert.equal(m.getU8(3999), (3996 * 7) & 255);
    assert.equal(m.getU8(4000), 9);
    assert.equal(m.getU8(4199), 9);
    assert.equal(m.getU8(4200), (4197 * 7) & 255);
    m.fill(0, m.length);
    assert.equal(m.indexOf(Uint8Array.of(1)), -1);
    m.write(4093, new TextEncoder().encode('needle'));
    assert.equal(m.indexOf('needle'), 4093);
    assert.equal(m.indexOf('needle', 4093), 4093);
    assert.equal(m.indexOf('needle', 4094), -1);
    assert.equal(m.indexOf('edle'), 4095);
    assert.equal(m.indexOf(110), 4093);
    assert.equal(m.indexOf(''), 0);
    const floats = new Float64Array(4);
    m.write(4088, Float64Array.of(1, 2, 3, 4));
    assert.deepEqual(m.read(4088, floats), Float64Array.of(1, 2, 3, 4));
    assert.equal(m.getF64(4096), 2);
    m.protect('r');
    const e = fails(() => m.write(0, bytes), 'EFAULT', /may not be written to/);
    assert.deepEqual([e.done, e.reason, e.address], [0, 'protection', m.address]);
  });
  test('out of memory: as much as there was is done', (t) => {
    const m = spaced(t).mmap({ length: '64M' });
    const chunk = new Uint8Array(2 ** 26).fill(5);
    const e = fails(() => m.write(0, chunk), 'ENOMEM', /space 's'/);
    assert.ok(e.done !== undefined && e.done > 2 ** 22 && e.done % 4096 === 0);
    assert.equal(m.getU8(e.done - 1), 5);
    assert.equal(m.getU8(e.done - 4096), 5);
    // What is left is the kernel's; it is the space that has the rest.
    assert.deepEqual([e.reason, e.space, e.zone], ['full', 's', undefined]);
    const [{ kind, name, bytes }] = e.holders ?? [];
    assert.deepEqual([kind, name], ['space', 's']);
    assert.ok(bytes >= e.done && bytes < 2 ** 24);
  });
  test('arrays are numbered values', (t) => {
    const m = spaced(t).mmap({ length: '64K' });
    for (const [kind, width, value] of KINDS) {
      const a = m.array(kind.toLowerCase() as 'u8', 4096, 1000);
      assert.deepEqual([a.length, a.width], [1000, width]);
      a.set(999, value);
      assert.equal(a.get(999), value);
      assert.equal(m[`get${kind}`](4096 + 999 * width), value);
      const e = fails(() => a.get(1000), 'EFAULT', /there are 1000/);
      assert.deepEqual([e.reason, e.address], ['outside', m.address + 4096 + 1000 * width]);
      fails(() => a.set(0.5, 1), 'EINVAL');
      fails(() => a.get(Number.NaN), 'EINVAL');
    }
    assert.equal(m.array('f64').length, 8192);
    fails(() => m.array('f64', 4), 'EINVAL', /multiple of 8/);
    const e = fails(() => m.array('f64', 0, 8193), 'EFAULT');
    assert.deepEqual([e.reason, e.space], ['outside', 's']);
    fails(() => m.array('u64' as 'u8'), 'EINVAL', /'u64' is no kind/);
  });
  test('a region beyond 2 GiB is reached to its end', (t) => {
    const m = spaced(t).mmap({ length: '1000G' });
    for (const at of [0, 2 ** 31 - 8, 2 ** 31, 2 ** 33 + 8, m.length - 8]) {
      m.setF64(at, at);
      assert.equal(m.getF64(at), at);
      assert.equal(m.getF64(at), at);
    }
    fails(() => m.getF64(m.length), 'EFAULT', /beyond its/);
  });
  test('ready() has pages there before they are used', async (t) => {
    const space = spaced(t);
    const m = space.mmap({ length: '1M' });
    await m.ready(0, m.length, true);
    assert.equal(space.resident, 2 ** 20);
  });
});

describe('wrong calls change nothing', () => {
  type Row = [call: (m: Region, space: Space) => unknown, code: string];
  const rows: Record<string, Row> = {
    'beyond the end': [(m) => m.getU8(8192), 'EFAULT'],
    'half beyond': [(m) => m.setF64(8188, 1), 'EINVAL'],
    'half beyond, aligned': [(m) => m.read(8190, new Uint8Array(4)), 'EFAULT'],
    negative: [(m) => m.getU32(-4), 'EINVAL'],
    'not aligned': [(m) => m.getU32(2), 'EINVAL'],
    fractional: [(m) => m.getU8(0.5), 'EINVAL'],
    NaN: [(m) => m.setU32(Number.NaN, 1), 'EINVAL'],
    'a text for an offset': [(m) => m.getU32('4' as unknown as number), 'EINVAL'],
    'a bigint for a value': [(m) => m.setU32(0, 4n as unknown as number), 'EINVAL'],
    'undefined for a value': [(m) => m.setF64(0, undefined as unknown as number), 'EINVAL'],
    'no bytes': [(m) => m.write(0, 7 as unknown as Uint8Array), 'EINVAL'],
    'no byte': [(m) => m.fill(0, 4, 256), 'EINVAL'],
    'a length that is none': [(m) => m.fill(0, -1), 'EINVAL'],
    'a protection that is none': [(m) => m.protect('x' as 'r'), 'EINVAL'],
    'an advice that is none': [(m) => m.advise('fast' as 'normal'), 'EINVAL'],
    'no length': [(_, s) => s.mmap({} as { length: number }), 'EINVAL'],
    'length 0': [(_, s) => s.mmap({ length: 0 }), 'EINVAL'],
    'length NaN': [(_, s) => s.mmap({ length: Number.NaN }), 'EINVAL'],
    'a size that is none': [(_, s) => s.mmap({ length: '12X' }), 'EINVAL'],
    'an unknown option': [
      (_, s) => s.mmap({ length: 1, nmae: 'x' } as { length: number }),
      'EINVAL',
    ],
    'an address inside a page': [(_, s) => s.mmap({ length: 1, address: 5000 }), 'EINVAL'],
    'an address beyond 2^48': [(_, s) => s.mmap({ length: 1, address: 2 ** 48 }), 'EINVAL'],
    'a name that is too long': [
      (_, s) => s.mmap({ length: 1, name: 'x'.repeat(32) }),
      'ENAMETOOLONG',
    ],
    'a name with control characters': [(_, s) => s.mmap({ length: 1, name: 'a\nb' }), 'EINVAL'],
    'no name and no address': [(_, s) => s.region(Number.NaN), 'EINVAL'],
    'a fork with its own name': [(_, s) => s.fork('s'), 'EEXIST'],
    'a fork with no name': [(_, s) => s.fork(''), 'EINVAL'],
    'a wait that is none': [(_, s) => s.fork('x', { wait: Number.NaN }), 'EINVAL'],
    'more than an address space': [(_, s) => s.mmap({ length: '9000G' }), 'EINVAL'],
  };
  for (const [what, [call, code]] of Object.entries(rows)) {
    test(what, (t) => {
      const space = spaced(t);
      const m = space.mmap({ name: 'm', length: 8192 });
      m.setU32(0, 7);
      fails(() => call(m, space), code);
      assert.equal(m.getU32(0), 7);
      assert.equal(space.mapped, 8192);
    });
  }
});

describe('spaces', () => {
  test('by name: the same, made, or refused', (t) => {
    const machine = testMachine(t);
    const space = machine.space('one', { limit: '1M' });
    assert.equal(machine.space('one'), space);
    assert.equal(machine.space('one', { limit: 2 ** 20 }).name, 'one');
    fails(() => machine.space('one', { limit: '2M' }), 'EEXIST', /limit 1048576.*limit 2097152/);
    fails(() => machine.space('two', { create: false }), 'ENOENT');
    fails(() => machine.space(''), 'EINVAL');
    fails(() => machine.space('x', { limti: 1 } as object), 'EINVAL');
    const e = fails(() => space.mmap({ length: '1028K' }), 'ENOMEM', /beyond its limit of 1048576/);
    assert.equal(e.reason, 'limit');
    space.mmap({ length: '1M' }).unmap();
    space.destroy();
    vm_checks();
  });
  test('a fork is a copy: neither sees what the other writes', (t) => {
    const space = spaced(t);
    const m = space.mmap({ name: 'm', length: '64K' });
    const shared = space.mmap({ name: 'shared', length: 4096, inherit: 'share' });
    const none = space.mmap({ name: 'none', length: 4096, inherit: 'none' });
    const zero = space.mmap({ name: 'zero', length: 4096, inherit: 'zero' });
    for (const r of [m, shared, none, zero]) r.setU32(0, 1);
    const snap = space.fork('snap', { protect: 'r' });
    m.setU32(0, 2);
    shared.setU32(0, 2);
    const s = snap.region('m');
    assert.equal(s.getU32(0), 1);
    assert.equal(snap.region('shared').getU32(0), 2);
    assert.equal(snap.region('zero').getU32(0), 0);
    fails(() => snap.region('none'), 'ENOENT');
    fails(() => snap.load32(none.address), 'EFAULT', /nothing is mapped/);
    fails(() => s.setU32(0, 5), 'EFAULT', /may not be written to/);
    fails(() => s.protect('rw'), 'EFAULT');
    const child = space.fork('child');
    child.region('m').setU32(0, 3);
    const own = child.mmap({ name: 'none', length: 8192 });
    own.setU32(4096, 4);
    assert.deepEqual([own.getU32(4096), none.getU32(0)], [4, 1]);
    assert.deepEqual([m.getU32(0), s.getU32(0)], [2, 1]);
    vm_checks();
    child.destroy();
    snap.destroy();
    assert.equal(m.getU32(0), 2);
  });
  test('destroyed: gone for all, and the name is free', (t) => {
    const machine = testMachine(t);
    const space = machine.space('s');
    const m = space.mmap({ length: '1M' });
    m.setU32(0, 1);
    space.destroy();
    assert.ok(space.gone);
    for (let again = 0; again < 2; again++) {
      fails(() => m.getU32(0), 'ESTALE', /space 's' was destroyed/);
      fails(() => space.mmap({ length: 1 }), 'ESTALE');
    }
    const again = machine.space('s');
    assert.notEqual(again, space);
    assert.equal(again.mapped, 0);
    again.destroy();
    vm_checks();
  });
  test('disposing lets go in this thread alone', (t) => {
    const machine = testMachine(t);
    {
      using space = machine.space('s');
      space.mmap({ name: 'm', length: 4096 }).setU32(0, 9);
    }
    let left: Space;
    {
      using space = machine.space('s');
      left = space;
    }
    fails(() => left.resident, 'ESHUTDOWN', /by name again/);
    assert.equal(machine.space('s').region('m').getU32(0), 9);
    machine.space('s').destroy();
  });
  test('more than a CPU translates at a time: each keeps its own', (t) => {
    const machine = testMachine(t);
    const spaces = Array.from({ length: 12 }, (_, i) => machine.space(`s${i}`));
    const all = spaces.map((s) => s.mmap({ name: 'm', length: 8192 }));
    for (let round = 0; round < 3; round++) {
      for (const [i, m] of all.entries()) {
        if (round > 0) assert.equal(m.getU32(4), i + round - 1);
        m.setU32(4, i + round);
      }
    }
    vm_checks();
    for (const s of spaces) s.destroy();
  });
  test('what is left of memory is a leak that names the space', () => {
    using machine = boot({ memory: '16M' });
    machine.space('left').mmap({ length: 8192 });
    fails(() => assertNoLeaks(machine), 'EBUSY', /space 'left': 1 not destroyed/);
  });
  test('after the machine every call says so', () => {
    const machine = boot({ memory: '16M' });
    const space = machine.space('s');
    const m = space.mmap({ length: 8192 });
    const a = m.array('u8');
    m.setU32(0, 1);
    machine.shutdown();
    for (const call of [
      () => m.getU32(0),
      () => m.setF64(0, 1),
      () => a.get(0),
      () => space.resident,
    ]) {
      fails(call, 'ESHUTDOWN');
    }
    space.dispose();
    m[Symbol.dispose]();
  });
});
