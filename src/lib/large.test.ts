/*
 * Addresses above 2 and 4 GiB through the façade, on two threads: there a byte
 * address is no 32-bit integer any more.  Runs lie at the top of memory by
 * themselves; for small blocks, items and records everything below is taken first.
 * Nothing but what the test touches becomes real memory.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { freemem } from 'node:os';
import { test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { type Address, boot, type Item, KmemError, type Machine, withMachine } from './index.ts';
import { LARGE, mark, SMALL, TEXT, unmarked } from './large.test.worker.ts';

const GIB = 2 ** 30;
const FILE = new URL('./large.test.worker.ts', import.meta.url);
/** Stays free at the top, for what the test allocates. */
const TOP = 64 * 2 ** 20;
/** malloc gives no more in one block. */
const BLOCK_MAX = 2 ** 31;

/** Takes all memory below the top, so that pages are to be had at the top alone. */
function take_the_rest(machine: Machine): () => void {
  const type = machine.type('the rest');
  const top = type.alloc(TOP);
  const rest: Address[] = [];
  for (;;) {
    const { longestRun } = machine.memory();
    if (longestRun < 2 * 4096) break;
    rest.push(type.alloc(Math.min(longestRun, BLOCK_MAX)));
  }
  type.free(top);
  return () => {
    for (const at of rest) type.free(at);
  };
}
/** Allocates until something lies at `floor` or above: the last page below is used up then. */
function* up_to<T>(floor: number, alloc: () => T, address: (made: T) => number): Generator<T> {
  for (let n = 0; n < MANY; n++) {
    const made = alloc();
    yield made;
    if (address(made) >= floor) return;
  }
  assert.fail(`${MANY} of them, and none at ${floor} or above`);
}
const MANY = 5000;
/** Small things at the top: their addresses, and the words there. */
function small_things(machine: Machine, floor: number): void {
  const type = machine.type('small');
  const blocks = [...up_to(floor, () => type.alloc(SMALL, { zero: true }), Number)];
  for (const at of blocks) mark(machine, at, SMALL);
  for (const at of blocks) assert.deepEqual(unmarked(machine, at, SMALL), []);
  const moved = blocks.map((at) => type.realloc(at, 2 * SMALL));
  for (const at of moved) assert.equal(machine.load32(at + 4), 0xdeadbeef);
  for (const at of moved) type.free(at);
  const zone = machine.zone('items', { size: 200 });
  const at = (item: Item<'items'>): number => zone.address(item);
  const items = [...up_to(floor, () => zone.alloc(), at)];
  for (const item of items) machine.store64f(at(item), at(item));
  for (const item of items) assert.equal(machine.load64f(at(item)), at(item));
  for (const item of items) zone.free(item);
  const records = machine.records('rows', { x: 'f64', y: 'i32', z: 'u8' }, { capacity: 5000 });
  assert.ok(records.x.byteOffset >= floor, `a column at ${records.x.byteOffset}`);
  const row = records.alloc();
  records.x[row] = 0.25;
  records.z[row] = 255;
  assert.deepEqual([records.x[row], records.y[row], records.z[row]], [0.25, 0, 255]);
  records.free(row);
}

for (const gib of [2, 3, 4, 8]) {
  const size = gib * GIB;
  const skip = freemem() < size / 2 ? `needs ${gib} GiB of address space and memory` : false;
  test(`a machine of ${gib} GiB: its upper end is used from two threads`, { skip }, async (t) => {
    const use = withMachine({ memory: size, cpus: 2, fresh: true }, async (machine) => {
      assert.equal(machine.memory().size, size);
      assert.equal(machine.sysctl('hw.physmem'), size);
      const type = machine.type('large');
      const at = type.alloc(LARGE);
      const floor = size - TOP - GIB / 4;
      assert.ok(at >= floor, `a block at ${at}`);
      mark(machine, at, LARGE);
      machine.writeText(at + 16, TEXT, 64);
      machine.roots.set('there', at);
      const give_back = take_the_rest(machine);
      const worker = machine.worker<Worker>(FILE);
      const [answer] = await once(worker, 'message');
      assert.deepEqual(answer, { wrong: [], text: TEXT });
      const queue = machine.queue('back', { of: type, capacity: 2 });
      for (const bytes of [LARGE, SMALL]) {
        const sent = queue.pop() as Address;
        assert.ok(bytes === SMALL || sent >= floor, `a block at ${sent}`);
        assert.deepEqual(unmarked(machine, sent, bytes), []);
        type.free(sent);
      }
      small_things(machine, floor);
      assert.throws(
        () => machine.bytes(size - 4, 8),
        (e) => e instanceof KmemError && e.code === 'EFAULT' && e.address === size - 4,
      );
      give_back();
      machine.check();
    });
    await use.catch((e) => {
      if (!/this host refuses/.test(e.message)) throw e;
      t.skip(e.message);
    });
  });
}
test('after a large machine, a small one: memory of its own, not all pages of the other', () => {
  const large = boot({ memory: '3G', fresh: true });
  const { memory } = large.handle;
  large.shutdown();
  const small = boot({ memory: '16M' });
  assert.notEqual(small.handle.memory, memory);
  assert.ok(small.memory().managed > 15 * 2 ** 20);
  small.shutdown();
  const again = boot({ memory: '8M' });
  assert.equal(again.handle.memory, small.handle.memory, 'that of the like size is taken over');
  again.shutdown();
});
