/*
 * Shows: threads use one space at once: a fork is of one moment while they write; windows of
 * one are in the way of another, and waited for; a space that one destroyed is gone for all; a
 * thread that is killed in the middle of anything costs nothing but itself.
 * By what means: workers that never stop by themselves; the walkers, and an account of all pages
 * and items, afterwards.  Longer: space.stress.ts.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { ALL_WAYS } from '../sys/machine/seed.test.lib.ts';
import { type Machine, type Space, withMachine } from './index.ts';
import {
  between_stores,
  fails,
  kill_users,
  LARGE,
  LITMUS,
  PAGES,
  REGION,
  spaces_gone,
  vm_checks,
} from './space.test.lib.ts';

const FILE = new URL('./space_threads.test.worker.ts', import.meta.url);
const MEMORY = { memory: '32M', cpus: 6, options: { INVARIANTS: true } } as const;

async function started(machine: Machine, job: string, more: object = {}): Promise<Worker> {
  const worker = machine.worker<Worker>(FILE, { workerData: { job, ...more } });
  await once(worker, 'message');
  return worker;
}
/** Waits for a sight of `seen`: the workers run beside this thread. */
async function until(seen: () => boolean): Promise<void> {
  while (!seen()) await new Promise((r) => setTimeout(r, 1));
}

test('a fork is of one moment: what follows is never ahead of what it follows', async () => {
  await withMachine(MEMORY, async (machine) => {
    const space = machine.space('s');
    const m = space.mmap(REGION);
    const workers = [await started(machine, 'count'), await started(machine, 'follow')];
    await until(() => m.getI32(LITMUS.y) > 0);
    let last = 0;
    for (let i = 0; i < 40; i++) {
      const snap = space.fork(`snap ${i}`, { protect: 'r', wait: 20_000 });
      const r = snap.region('m');
      const [x, y] = [r.getI32(LITMUS.x), r.getI32(LITMUS.y)];
      assert.ok(y <= x, `snapshot ${i}: x ${x}, y ${y}`);
      assert.ok(x >= last, `snapshot ${i}: ${x} after ${last}`);
      last = x;
      await until(() => m.getI32(LITMUS.x) > x);
      assert.deepEqual([r.getI32(LITMUS.x), r.getI32(LITMUS.y)], [x, y], 'it does not change');
      if (i % 2 === 0) snap.destroy();
    }
    await Promise.all(workers.map((w) => w.terminate()));
    spaces_gone(machine);
  });
});

test('each thread is seen between two of its stores', async () => {
  await withMachine(MEMORY, async (machine) => {
    const space = machine.space('s');
    const m = space.mmap(REGION);
    const ids = [0, 1, 2];
    const workers: Worker[] = [];
    for (const id of ids) workers.push(await started(machine, 'rounds', { id }));
    await until(() => ids.every((id) => m.getU32((PAGES - 1) * 4096 + id * 4) > 0));
    for (let i = 0; i < 20; i++) {
      const snap = await space.forkAsync('snap', { wait: 20_000 });
      const r = snap.region('m');
      for (const id of ids) {
        between_stores(r, id);
        r.setU32(id * 4, 0);
      }
      snap.destroy();
    }
    await Promise.all(workers.map((w) => w.terminate()));
    spaces_gone(machine);
  });
});

test("another thread's window is in the way, and is waited for", async () => {
  await withMachine(MEMORY, async (machine) => {
    const m = machine.space('s').mmap(REGION);
    const go = new Int32Array(new SharedArrayBuffer(4));
    const worker = machine.worker<Worker>(FILE, { workerData: { job: 'holds', go } });
    const [cpu] = await once(worker, 'message');
    assert.equal(m.getU32(4096), 77);
    fails(() => m.unmap(), 'EBUSY', new RegExp(`thread of CPU ${cpu} has a window on 8192 bytes`));
    fails(() => m.unmap({ wait: 5 }), 'EBUSY');
    fails(() => m.window(0, 8192, { wait: 5 }), 'EBUSY');
    m.window(8192, 4096).close(); // inside
    Atomics.store(go, 0, 1);
    setTimeout(() => Atomics.notify(go, 0), 5);
    const w = await m.windowAsync(0, 8192, { wait: 60_000 });
    assert.equal(w.u32[1024], 77);
    w.close();
    Atomics.notify(go, 0);
    await worker.terminate();
    spaces_gone(machine);
  });
});

test('threads that come when all memory is in use get what they need', async () => {
  await withMachine({ ...MEMORY, memory: '3M' }, async (machine) => {
    machine.sysctl('vm.oom_wait', 60_000); // a loaded host takes its time
    const m = machine.space('s').mmap(LARGE);
    for (let at = 0; at < m.length; at += 4096) m.setU32(at + 4092, at);
    const workers = [0, 1].map((id) => {
      return machine.worker<Worker>(FILE, { workerData: { job: 'sweeps', id } });
    });
    // Neither of them has used the space before: that takes memory for each.
    const said = await Promise.all(workers.map(async (w) => (await once(w, 'message'))[0]));
    assert.deepEqual(said, ['done', 'done']);
    for (let at = 0; at < m.length; at += 4096) {
      assert.deepEqual([m.getU32(at), m.getU32(at + 4), m.getU32(at + 4092)], [1, 1, at]);
    }
    await Promise.all(workers.map((w) => w.terminate()));
    spaces_gone(machine);
  });
});

test('a window goes with its thread', async () => {
  await withMachine(MEMORY, async (machine) => {
    const m = machine.space('s').mmap(REGION);
    const go = new Int32Array(new SharedArrayBuffer(4));
    const worker = await started(machine, 'holds', { go });
    fails(() => m.unmap(), 'EBUSY');
    await worker.terminate();
    m.unmap({ wait: 60_000 });
    spaces_gone(machine);
  });
});

test('destroyed by another thread: gone at the next call', async () => {
  await withMachine(MEMORY, async (machine) => {
    const space: Space = machine.space('s');
    const m = space.mmap(REGION);
    m.setU32(0, 1);
    const worker = await started(machine, 'destroys');
    fails(() => m.getU32(0), 'ESTALE', /space 's' was destroyed/);
    fails(() => space.resident, 'ESTALE');
    assert.equal(machine.space('s').mapped, 0);
    await worker.terminate();
    spaces_gone(machine);
  });
});

test('a thread that computes without a call is named as silent; away, it is none', async () => {
  await withMachine(MEMORY, async (machine) => {
    const space = machine.space('s');
    const m = space.mmap(REGION);
    const go = new Int32Array(new SharedArrayBuffer(4));
    const worker = machine.worker<Worker>(FILE, { workerData: { job: 'silent', go } });
    await once(worker, 'message');
    m.setU32(4096, 5);
    fails(() => space.fork('snap', { wait: 1 }), 'ETIMEDOUT', /CPU [1-9]\d* did not answer/);
    assert.equal(m.getU32(4096), 5);
    Atomics.store(go, 0, 1);
    const [said] = await once(worker, 'message');
    assert.equal(said, 'away');
    space.fork('snap', { wait: 60_000 }).destroy();
    Atomics.store(go, 0, 2);
    Atomics.notify(go, 0);
    await once(worker, 'message');
    await worker.terminate();
    spaces_gone(machine);
  });
});

test('in a machine that checks the rules of locks, threads come, are killed, and go', async () => {
  await withMachine({ memory: '16M', cpus: 4, checked: true }, async (machine) => {
    const m = machine.space('s').mmap(REGION);
    const leaver = await started(machine, 'leaves');
    if (leaver.threadId >= 0) await once(leaver, 'exit');
    assert.equal(m.getU32(4096), 78);
    await kill_users(machine, FILE, 2, (kills) => kills >= (ALL_WAYS ? 6 : 3));
    machine.space('s').dispose(); // its tags go with it
    const last = await started(machine, 'destroys');
    await last.terminate();
    spaces_gone(machine);
  });
});

test('threads killed at anything lose nothing but themselves', async () => {
  await withMachine(MEMORY, async (machine) => {
    await kill_users(machine, FILE, 2, (kills) => kills >= 12);
    spaces_gone(machine);
    vm_checks();
  });
});
