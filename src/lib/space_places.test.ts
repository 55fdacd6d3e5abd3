/*
 * Shows: a region or a space is never taken for another one that has its place or its name: not
 * by the thread that unmapped it, not by one that was told nothing; and a place that cannot be
 * had is refused for what is so.
 * By what means: one thread, and a worker that ends things behind its back; more spaces than a
 * CPU has tags for, so that what is kept of old tags is seen.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { type Machine, type Region, type Space, withMachine } from './index.ts';
import { fails, spaces_gone } from './space.test.lib.ts';

const FILE = new URL('./space_threads.test.worker.ts', import.meta.url);
const MEMORY = { memory: '16M', cpus: 3, options: { INVARIANTS: true } } as const;
const AT = 0x10000;
const PLACE = { address: AT, length: 8192 } as const;

/** Runs a job of a worker from its beginning to its end. */
async function job(machine: Machine, name: string): Promise<void> {
  const worker = machine.worker<Worker>(FILE, { workerData: { job: name } });
  await once(worker, 'message');
  await worker.terminate();
}
/** Everything that is done with a region. */
const USES: Record<string, (m: Region) => unknown> = {
  getU32: (m) => m.getU32(0),
  setU32: (m) => m.setU32(0, 666),
  read: (m) => m.read(0, new Uint8Array(5000)),
  write: (m) => m.write(4000, new Uint8Array(1000)),
  fill: (m) => m.fill(0, 10),
  indexOf: (m) => m.indexOf('x'),
  array: (m) => m.array('f64').get(0),
  window: (m) => m.window(0, 4096, { write: true }),
  windows: (m) => [...m.windows()],
  protect: (m) => m.protect('none'),
  advise: (m) => m.advise('free'),
  inherit: (m) => m.inherit('none'),
  unmap: (m) => m.unmap(),
};
/** Other spaces of this thread come and take its tags. */
function tagsMove(machine: Machine): void {
  for (let i = 0; i < 6; i++) {
    const m = machine.space(`other ${i}`).mmap({ name: 'm', ...PLACE });
    m.setU32(0, 0xbad);
    m.setU32(4096, 0xbad);
  }
}
/** No use of `old` is one of `now`, which has its place. */
function apart(machine: Machine, old: Region, now: Region): void {
  now.setU32(0, 42);
  now.setU32(4096, 43);
  for (const [name, use] of Object.entries(USES)) {
    const e = fails(() => use(old), 'EFAULT');
    assert.equal(e.reason, 'unmapped', name);
    assert.equal(now.getU32(0), 42, name);
  }
  old[Symbol.dispose]();
  tagsMove(machine);
  assert.equal(now.getU32(0), 42);
  assert.equal(now.getU32(4096), 43);
  fails(() => old.getU32(0), 'EFAULT');
  const [is] = now.space.regions();
  assert.deepEqual([is.name, is.protect, is.inherit], [now.name, 'rw', 'copy']);
}

describe('a region in the place of one that was unmapped', () => {
  test('is not taken for it by the thread that unmapped it', async () => {
    await withMachine(MEMORY, async (machine) => {
      const space = machine.space('s');
      const old = space.mmap({ name: 'old', ...PLACE });
      old.setU32(0, 1);
      old.unmap();
      const now = space.mmap({ name: 'now', ...PLACE });
      apart(machine, old, now);
      spaces_gone(machine);
    });
  });
  for (const first of Object.keys(USES)) {
    test(`is not taken for it by a thread that was told nothing, by ${first} first`, async () => {
      await withMachine(MEMORY, async (machine) => {
        const space = machine.space('s');
        const old = space.mmap({ name: 'old', ...PLACE });
        old.setU32(0, 1);
        await job(machine, 'replaces');
        fails(() => USES[first](old), 'EFAULT', /nothing is mapped/);
        const now = space.region('now');
        assert.notEqual(now, old);
        assert.deepEqual([now.name, now.length, now.getU32(0)], ['now', 12_288, 77]);
        apart(machine, old, now);
        spaces_gone(machine);
      });
    });
  }
  test('is what an address leads to', async () => {
    await withMachine(MEMORY, async (machine) => {
      const space = machine.space('s');
      const old = space.mmap({ name: 'old', ...PLACE });
      space.store32(AT, 1);
      assert.equal(space.load32(AT), 1);
      await job(machine, 'replaces');
      assert.equal(space.load32(AT), 77);
      fails(() => old.getU32(0), 'EFAULT');
      assert.equal(space.region(AT).name, 'now');
      spaces_gone(machine);
    });
  });
  test('others, and their handles, stay what they are', async () => {
    await withMachine(MEMORY, async (machine) => {
      const space = machine.space('s');
      const stays = space.mmap({ name: 'stays', length: 4096 });
      space.mmap({ name: 'old', ...PLACE });
      stays.setU32(0, 5);
      await job(machine, 'replaces');
      assert.equal(stays.getU32(0), 5);
      assert.equal(space.region('stays'), stays);
      tagsMove(machine);
      assert.equal(stays.getU32(0), 5);
      spaces_gone(machine);
    });
  });
});
test('a using that cannot unmap says so', async () => {
  await withMachine(MEMORY, async (machine) => {
    const m = machine.space('s').mmap(PLACE);
    const w = m.window(0, 4096);
    fails(() => m[Symbol.dispose](), 'EBUSY', /has a window/);
    w.close();
    m[Symbol.dispose]();
    m[Symbol.dispose]();
    fails(() => m.getU8(0), 'EFAULT');
    spaces_gone(machine);
  });
});

describe('a space of the name of one that was destroyed', () => {
  test('made by a fork: the old one does not take its name along', async () => {
    await withMachine(MEMORY, async (machine) => {
      const s = machine.space('s');
      s.mmap({ name: 'm', ...PLACE }).setU32(0, 42);
      const old: Space = machine.space('x');
      old.mmap({ name: 'm', ...PLACE });
      await job(machine, 'destroys x');
      const now = s.fork('x');
      assert.throws(() => old.mapped);
      assert.equal(machine.space('x'), now);
      const m = now.region('m');
      assert.equal(m.getU32(0), 42);
      tagsMove(machine);
      assert.equal(m.getU32(0), 42);
      spaces_gone(machine);
    });
  });
  test('a thread that has left reaches nothing by a fork of such a name', async () => {
    await withMachine(MEMORY, async (machine) => {
      const s = machine.space('s');
      s.mmap({ name: 'm', ...PLACE });
      const old = machine.space('x');
      await job(machine, 'destroys x');
      const m = s.fork('x').region('m');
      assert.throws(() => old.mapped);
      m.setU32(0, 42);
      spaces_gone(machine);
      machine.shutdown();
      fails(() => m.getU32(0), 'ESHUTDOWN');
    });
  });
  test('a space is made, found and destroyed by threads that race for its name', async () => {
    await withMachine({ ...MEMORY, memory: '32M' }, async (machine) => {
      const worker = machine.worker<Worker>(FILE, { workerData: { job: 'renews' } });
      await once(worker, 'message');
      for (let i = 0; i < 300; i++) {
        const space = machine.space('s'); // never ENOENT, never EEXIST
        if (i % 3 === 0 && !space.gone) {
          try {
            space.destroy();
          } catch (e) {
            assert.match(String(e), /ESTALE/);
          }
        }
      }
      await worker.terminate();
      machine.space('s'); // the last one may be gone, and this thread keep it still
      spaces_gone(machine);
    });
  });
});

describe('names and places', () => {
  test('a name has one place; none is no name', async () => {
    await withMachine(MEMORY, async (machine) => {
      const space = machine.space('s');
      const a = space.mmap({ name: 'a', length: 4096 });
      assert.equal(space.mmap({ name: 'a', length: 4096, address: a.address }), a);
      const there = new RegExp(`at ${a.address}; asked for 4096 at ${AT}`);
      fails(() => space.mmap({ name: 'a', length: 4096, address: AT }), 'EEXIST', there);
      space.mmap({ length: 4096 });
      fails(() => space.region(''), 'EINVAL', /no name/);
      spaces_gone(machine);
    });
  });
  test('a fork has the limit of its space, and is found by it', async () => {
    await withMachine(MEMORY, async (machine) => {
      const s = machine.space('s', { limit: 5000 });
      assert.equal(machine.space('s', { limit: 4096 }), s, 'whole pages');
      const snap = s.fork('snap');
      fails(() => snap.mmap({ length: 8192 }), 'ENOMEM', /limit of 4096/);
      assert.equal(machine.space('snap', { limit: 4096 }), snap);
      fails(() => machine.space('snap', { limit: 8192 }), 'EEXIST', /limit 4096/);
      spaces_gone(machine);
    });
  });
  test('what cannot be mapped is refused for what is so', async () => {
    await withMachine(MEMORY, async (machine) => {
      const space = machine.space('s');
      for (const address of [0, 8 * 2 ** 40, 2 ** 48 - 4096]) {
        fails(() => space.mmap({ address, length: 4096 }), 'EINVAL', /nobody's/);
      }
      for (let bank = 1; bank <= 8; bank++) {
        space.mmap({ address: bank * 2 ** 40 + AT, length: 4096 });
      }
      const ninth = { address: 9 * 2 ** 40 + AT, length: 4096 };
      fails(() => space.mmap(ninth), 'ENOMEM', /no room .*eight parts/);
      fails(() => space.mmap({ address: 2 ** 40 + AT, length: 1 }), 'EEXIST', /some are mapped/);
      const whole = fails(() => space.mmap({ length: 2 ** 43 }), 'ENOMEM', /no room/);
      assert.equal(whole.reason, 'too large');
      const m = space.region(2 ** 40 + AT);
      fails(() => m.window(4097), 'EFAULT', /beyond its 4096 bytes/);
      spaces_gone(machine);
    });
  });
});
