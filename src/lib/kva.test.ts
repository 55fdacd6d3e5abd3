/*
 * Shows: where memory is full of small things a block is had beyond it, read, written, copied and
 * filled by its addresses, by any thread, counted under its type and limit; there is no view of it,
 * and what is no such block is refused as any other address.
 * By what means: a machine of which every second page is free, the calls of the façade, a worker.
 */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { within } from '../sys/machine/workers.test.lib.ts';
import { type Address, type BootOptions, boot, type Machine } from './index.ts';
import { fails } from './fails.test.lib.ts';

const PAGE = 4096;
const BEYOND = 2 ** 33;
const far = { contiguous: false };

function start(t: TestContext, options: BootOptions = {}): Machine {
  const machine = boot({ memory: '8M', cpus: 2, options: { INVARIANTS: true }, ...options });
  t.after(() => {
    machine.check();
    machine.shutdown();
  });
  return machine;
}
/** Every second page of the memory is in use; returns what gives them back. */
function scatter(machine: Machine): () => void {
  const type = machine.type('scattered');
  const all: Address[] = [];
  for (let at = type.tryAlloc(PAGE); at !== undefined; at = type.tryAlloc(PAGE)) all.push(at);
  all.sort((a, b) => a - b);
  for (let i = 0; i < all.length; i += 2) type.free(all[i]);
  return () => {
    for (let i = 1; i < all.length; i += 2) type.free(all[i]);
  };
}
/** A machine in which only a block beyond the memory can be had. */
function block(t: TestContext, n = 10 * PAGE): { machine: Machine; at: Address; end: () => void } {
  const machine = start(t);
  const gather = scatter(machine);
  const type = machine.type('far');
  fails('ENOMEM', () => type.alloc(n));
  const at = type.alloc(n, far);
  assert.ok(at >= BEYOND);
  const end = (): void => {
    type.free(at);
    gather();
  };
  return { machine, at, end };
}

describe('a block beyond the memory', () => {
  test('zeros, then what was stored, of each width, across its pages', (t) => {
    const { machine, at, end } = block(t);
    assert.deepEqual(machine.copyOut(at, 10 * PAGE), new Uint8Array(10 * PAGE));
    machine.store8(at + PAGE - 1, 0x1ff);
    machine.store16(at + PAGE, 65_537);
    machine.store32(at + 2 * PAGE, -1);
    machine.store64f(at + 3 * PAGE, Math.PI);
    assert.equal(machine.load8(at + PAGE - 1), 255);
    assert.equal(machine.load16(at + PAGE), 1);
    assert.equal(machine.load32(at + 2 * PAGE), 2 ** 32 - 1);
    assert.equal(machine.load64f(at + 3 * PAGE), Math.PI);
    const data = Uint8Array.from({ length: 9000 }, (_, i) => i * 7);
    assert.equal(machine.copyIn(at + 3000, data), 9000);
    assert.deepEqual(machine.copyOut(at + 3000, 9000), Uint8Array.from(data));
    machine.copy(at + 4000, at + 3000, 9000);
    assert.deepEqual(machine.copyOut(at + 4000, 9000), Uint8Array.from(data), 'they overlap');
    machine.fill(at, PAGE + 10, 3);
    assert.equal(machine.load8(at + PAGE + 9), 3);
    assert.equal(machine.load8(at + PAGE + 10), data[PAGE + 10 - 4000]);
    assert.equal(machine.writeText(at + PAGE - 3, 'a text', 10), 6);
    assert.equal(machine.readText(at + PAGE - 3, 6), 'a text');
    machine.check();
    end();
  });
  test('from and to blocks of the memory', (t) => {
    const machine = start(t);
    const near = machine.type('near').alloc(PAGE);
    const gather = scatter(machine);
    const at = machine.type('far').alloc(3 * PAGE, far);
    machine.fill(near, PAGE, 9);
    machine.copy(at + 100, near, PAGE);
    assert.equal(machine.load8(at + 100 + PAGE - 1), 9);
    assert.equal(machine.load8(at + 100 + PAGE), 0);
    machine.store32(at, 77);
    machine.copy(near, at, 8);
    assert.equal(machine.load32(near), 77);
    machine.type('far').free(at);
    machine.type('near').free(near);
    gather();
  });
  test('it counts under its type, and towards the limit of malloc', (t) => {
    const { machine, at, end } = block(t);
    const { inUse, bytes } = machine.type('far').stats;
    assert.deepEqual([inUse, bytes], [1, 10 * PAGE]);
    assert.equal(machine.type('far').usableSize(at), 10 * PAGE);
    const held = Number(machine.sysctl('vm.kmem_map_size'));
    assert.ok(held > 10 * PAGE);
    assert.match(machine.vmstat('m'), /far +1 +40K/);
    assert.doesNotMatch(machine.procstat(), /0x2\d{8}/, 'no address space of a program');
    const free = Number(machine.sysctl('vm.kvm_free'));
    end();
    assert.equal(Number(machine.sysctl('vm.kvm_free')), free + 10 * PAGE);
    assert.ok(Number(machine.sysctl('vm.kvm_size')) > 2 ** 32);
    assert.equal(machine.type('far').stats.inUse, 0);
    assert.ok(Number(machine.sysctl('vm.kmem_map_size')) < held);
  });
  test('no more than vm.kmem_size', (t) => {
    const limit = 300 * PAGE;
    const machine = start(t, { set: { 'vm.kmem_size': limit } });
    const type = machine.type('far');
    const all: Address[] = [];
    fails('ENOMEM', () => {
      for (;;) all.push(type.alloc(20 * PAGE, far));
    });
    assert.ok(Number(machine.sysctl('vm.kmem_map_size')) <= limit);
    for (const at of all) type.free(at);
  });
  test('none below vm.kmem_virtual_min', (t) => {
    const machine = start(t);
    const type = machine.type('far');
    machine.sysctl('vm.kmem_virtual_min', 5 * PAGE);
    const gather = scatter(machine);
    fails('ENOMEM', () => type.alloc(4 * PAGE, far));
    type.free(type.alloc(5 * PAGE, far));
    gather();
  });
  test('where a run is free, the block is in the memory and has a view', (t) => {
    const machine = start(t);
    const at = machine.type('far').alloc(10 * PAGE, far);
    assert.ok(at < BEYOND);
    assert.equal(machine.bytes(at, 10 * PAGE).length, 10 * PAGE);
    machine.type('far').free(at);
  });
  test('another thread reads it, and frees it', async (t) => {
    const machine = start(t);
    const gather = scatter(machine);
    const at = machine.type('far').alloc(4 * PAGE, far);
    machine.writeText(at + 2 * PAGE - 2, 'handed', 10);
    const workerData = { kmem: machine.handle, at };
    const file = new URL('./kva.test.worker.ts', import.meta.url);
    const worker = machine.adopt(new Worker(file, { workerData }));
    const end = once(worker, 'exit'); // it comes with the answer
    const [said] = await within(once(worker, 'message'), 'the answer');
    assert.equal(said, 'handed');
    await within(end, 'the end of the worker');
    assert.equal(machine.type('far').stats.inUse, 0);
    fails('EFAULT', () => machine.load8(at));
    gather();
  });
});

describe('refused', () => {
  test('views of it, which would be of something else', (t) => {
    const { machine, at, end } = block(t);
    assert.match(fails('EFAULT', () => machine.bytes(at, 4)).message, /no views/);
    fails('EFAULT', () => machine.index(at, 4));
    fails('EFAULT', () => machine.load32(at + 2));
    end();
  });
  test('addresses beyond its end, and of nothing', (t) => {
    const { machine, at, end } = block(t);
    fails('EFAULT', () => machine.load32(at + 10 * PAGE));
    fails('EFAULT', () => machine.copyIn(at + 9 * PAGE, new Uint8Array(2 * PAGE)));
    fails('EFAULT', () => machine.fill(at - PAGE, 4));
    for (const bad of [2 ** 43, 2 ** 52, Number.MAX_SAFE_INTEGER, 2 ** 33 + 0.5]) {
      fails('EFAULT', () => machine.load8(bad));
      fails('EFAULT', () => machine.fill(bad, 1));
      fails('EFAULT', () => machine.type('far').free(bad as Address));
    }
    end();
    fails('EFAULT', () => machine.load32(at));
    fails('EFAULT', () => machine.type('far').free(at));
  });
  test('an option that is no boolean; in another call', (t) => {
    const machine = start(t);
    const type = machine.type('far');
    fails('EINVAL', () => type.alloc(PAGE, { contiguous: 1 as never }));
    fails('EINVAL', () => type.tryAlloc(PAGE, far as never));
    fails('EINVAL', () => type.block(PAGE, far as never));
  });
});
