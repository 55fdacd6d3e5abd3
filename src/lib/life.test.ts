/*
 * Shows the lines of the life tables that a program feels: subscribers in every thread
 * hear that memory is short, a CPU that goes to sleep zeroes free pages, and a block
 * that was written after its free names the type that had it last.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { counter_get } from '../sys/machine/counter.ts';
import { M, machine } from '../sys/machine/header.ts';
import { life } from '../sys/machine/life.ts';
import { until } from '../sys/machine/workers.test.lib.ts';
import { v_prezero } from '../sys/page/vm_page.ts';
import { lock_order } from '../sys/sync/lock_order.ts';
import { uma_reclaim } from '../sys/uma/uma_drain.ts';
import { boot, current } from './index.ts';

afterEach(() => current()?.shutdown());

test('subscribers of every thread hear that memory is short', async () => {
  const m = boot({ memory: '4M', cpus: 4, pagedaemon: true, set: { 'vm.lowmem_period': 0 } });
  const heard = new Int32Array(new SharedArrayBuffer(8));
  const here = m.onLowMemory(() => {
    Atomics.add(heard, 0, 1);
    for (const p of held.splice(0)) t.free(p);
  });
  const file = new URL('./life.test.worker.ts', import.meta.url);
  const worker = m.adopt(new Worker(file, { workerData: { kmem: m.handle, heard } }));
  await new Promise((resolve) => worker.once('message', resolve));
  const t = m.type('ballast');
  const held: ReturnType<typeof t.alloc>[] = [];
  for (let p = t.tryAlloc(3000); p !== undefined; p = t.tryAlloc(3000)) held.push(p);
  await until(() => heard[0] > 0 && heard[1] > 0, 'both hear it');
  assert.ok(machine.lowmem[M] > 0);
  here[Symbol.dispose]();
  for (const p of held.splice(0)) t.free(p);
  await worker.terminate();
});

test('a CPU that goes to sleep zeroes free pages ahead', () => {
  const m = boot({ memory: '8M', cpus: 2, fresh: true });
  const t = m.type('dirt');
  for (const p of Array.from({ length: 1400 }, () => t.alloc(4096))) {
    m.fill(p, 4096, 1);
    t.free(p);
  }
  uma_reclaim();
  const before = counter_get(v_prezero);
  const lock = m.mutex('bed');
  lock.run(() => m.condition('never').wait(lock, { timeout: 20 }));
  assert.ok(counter_get(v_prezero) > before, `${before} before`);
  m.check();
});

test('memory modified after free names the type that had it last', () => {
  const m = boot({ memory: '4M', options: { INVARIANTS: true } });
  const t = m.type('culprit');
  const p = t.alloc(200);
  t.free(p);
  m.store32(p, 7);
  assert.throws(() => {
    for (;;) t.alloc(200);
  }, /Memory modified after free .* Most recently used by culprit/);
});

test('what a lock class says of its recovery is what the table does', () => {
  boot({ memory: '4M' });
  for (const { name, recovery } of lock_order) {
    if (recovery === 'undo') continue; // with or without: a full log needs a walk
    const wanted = recovery === 'rebuild' || recovery === 'walk';
    assert.equal(life.recover[name] !== undefined, wanted, name);
  }
});
