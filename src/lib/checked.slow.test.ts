/*
 * Shows that `checked: true` breaks no ordinary call: everything the façade
 * offers is used on a checked machine, plain and with every kernel option, with a
 * page daemon, a worker that comes and goes, and workers that are killed at work
 * and settled.  Each access of the kernel is tested against its lock letter.  Plain or with
 * options is drawn; smp.stress.ts does both.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { finished } from 'node:stream/promises';
import { test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { ways } from '../sys/machine/seed.test.lib.ts';
import { guard } from '../sys/machine/struct.ts';
import { boot, KmemError, type Machine } from './index.ts';
import { chainWritable } from './streams.ts';

const FILE = new URL('./checked.test.worker.ts', import.meta.url);

function reports(machine: Machine): void {
  for (const what of ['m', 'z'] as const) assert.ok(machine.vmstat(what).length > 40, what);
  assert.match(machine.netstat(), /mbufs/);
  machine.stats();
  machine.memory();
  machine.collect({ sysctls: true });
  assert.ok(machine.metrics().length > 30);
  const names = machine.sysctls().map((s) => s.name);
  for (const name of names) machine.sysctlBytes(name);
  for (const name of ['vm.idlezero_maxrun', 'vm.drain_deadline', 'debug.lock.spin_rounds']) {
    machine.sysctl(name, Number(machine.sysctl(name)));
  }
  machine.check();
}

async function memory(machine: Machine): Promise<void> {
  const zone = machine.zone('items', { size: 96 });
  const items = Array.from({ length: 300 }, () => zone.alloc());
  items.push(zone.alloc({ zero: true }), await zone.allocAsync());
  assert.equal(zone.used, items.length);
  assert.ok(zone.stats);
  for (const item of items) zone.free(item);
  const small = machine.zone('limited', { size: 2000, limit: 10 });
  const few = [];
  for (let item = small.tryAlloc(); item !== undefined; item = small.tryAlloc()) few.push(item);
  assert.throws(
    () => small.alloc(),
    (e) => e instanceof KmemError && e.code === 'ENOMEM',
  );
  const later = small.allocAsync();
  small.free(few[0]);
  few[0] = await later;
  for (const item of few) small.free(item);
  assert.equal(small.dispose(), 0);
  const type = machine.type('blocks');
  let p = type.alloc(10);
  for (const size of [100, 5000, 200_000, 30]) p = type.realloc(p, size);
  type.free(p);
  type.free(await type.allocAsync(70_000));
  type.block(50).free();
  assert.equal(type.stats.inUse, 0);
  type.trace(true);
  type.free(type.alloc(1));
  type.trace(false);
}
async function records(machine: Machine): Promise<void> {
  const set = machine.records('monsters', { x: 'f64', hp: 'i32' }, { capacity: 300 });
  const all = Array.from({ length: 300 }, () => set.alloc());
  assert.equal(set.tryAlloc(), undefined);
  set.set(all[3], { x: 1, hp: 2 });
  assert.equal(set.count, 300);
  for (const item of all) set.free(item);
  set.free(await set.allocAsync());
  assert.equal(set.dispose(), 0);
}
async function waits(machine: Machine): Promise<void> {
  const mutex = machine.mutex('mine');
  const rw = machine.rwlock('mine');
  const cv = machine.condition('mine');
  mutex.lock();
  assert.equal(cv.wait(mutex, { timeout: 2 }), false);
  cv.signal();
  mutex.unlock();
  (await mutex.lockAsync())[Symbol.dispose]();
  await mutex.lockAsync();
  await cv.waitAsync(mutex, () => true);
  if (mutex.owned) mutex.unlock();
  rw.lockRead();
  assert.ok(rw.tryUpgrade());
  rw.downgrade();
  rw.unlockRead();
  rw.dispose(); // looks at the rows of the page daemon's CPU, too
  const queue = machine.queue('mine', { capacity: 4 });
  queue.push(7);
  await queue.pushAsync(8);
  assert.equal(queue.pop(), 7);
  assert.equal(await queue.popAsync(), 8);
  assert.equal(queue.dispose(), 0);
  for (const lock of [cv, rw, mutex]) lock.dispose();
  machine.roots.set('root', 3);
  machine.roots.delete('root');
}
async function chains(machine: Machine): Promise<void> {
  const chain = machine.chain(new Uint8Array(9000).fill(1));
  const number = chain.release();
  const again = machine.adoptChain(number);
  assert.throws(() => machine.adoptChain(number), KmemError);
  again.append(new Uint8Array(300));
  again.discard(100);
  const half = again.split(3000);
  half.prepend(new Uint8Array(50)).pullup(100);
  const copy = half.clone().unshare();
  assert.ok(copy.equals(half));
  for (const c of [half, copy]) c.free();
  again.check();
  again.free();
  assert.throws(() => machine.adoptChain(number), KmemError);
  const target = new PassThrough();
  let bytes = 0;
  target.on('data', (piece: Uint8Array) => {
    bytes += piece.byteLength;
  });
  const writable = chainWritable(target);
  writable.end(machine.chain(new Uint8Array(40_000).fill(5)));
  await finished(writable);
  assert.equal(bytes, 40_000);
}

async function killed(machine: Machine, after: number): Promise<void> {
  const worker = machine.worker<Worker>(FILE, { workerData: { rounds: Number.MAX_VALUE } });
  await once(worker, 'message');
  await new Promise((done) => setTimeout(done, after));
  await worker.terminate();
  machine.check();
}

for (const options of ways([
  {},
  {
    INVARIANTS: true,
    WITNESS: true,
    DIAGNOSTIC: true,
    MUTEX_PROFILING: true,
    MALLOC_PROFILE: true,
  },
])) {
  test(`every call, options ${Object.keys(options).join(' ') || 'none'}`, async () => {
    const domains = Object.keys(options).length === 0 ? 1 : 2;
    const machine = boot({
      memory: '32M',
      cpus: 6,
      checked: true,
      pagedaemon: true,
      options,
      domains,
    });
    try {
      if (options.MUTEX_PROFILING) machine.sysctl('debug.mutex.prof.enable', 1);
      assert.notEqual(guard.access, null);
      reports(machine);
      // From here on a living thread has caches and rows that calls may only look at.
      const other = machine.worker<Worker>(FILE, { workerData: { rounds: 3, stay: true } });
      while ((await once(other, 'message'))[0] !== 'stays');
      reports(machine);
      await memory(machine);
      await records(machine);
      await waits(machine);
      await chains(machine);
      reports(machine);
      other.postMessage('leave');
      while ((await once(other, 'message'))[0] !== 'left');
      machine.away(() => 1);
      machine.park()[Symbol.dispose]();
      machine.trace(true);
      machine.trace(false);
      const worker = machine.worker<Worker>(FILE, { workerData: { rounds: 40 } });
      while ((await once(worker, 'message'))[0] !== 'left');
      for (const after of [20, 90, 200]) await killed(machine, after);
      reports(machine);
    } finally {
      await machine.endWorkers();
      if (machine.up) machine.shutdown();
    }
  });
}
