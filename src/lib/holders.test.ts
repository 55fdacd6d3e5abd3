/*
 * ENOMEM says who holds the memory: the three types and zones with most of it, over all
 * threads, in the order of what they hold.  Three threads run out of memory; their errors are
 * compared with what was allocated.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { within } from '../sys/machine/workers.test.lib.ts';
import { fails } from './fails.test.lib.ts';
import { type Address, type KmemError, testMachine } from './index.ts';

test('ENOMEM names the three that hold most, types and zones, of all threads', async (t) => {
  const machine = testMachine(t, { memory: '8M', cpus: 3 });
  const sizes: [string, number][] = [
    ['small', 100_000],
    ['most', 3_000_000],
    ['some', 500_000],
  ];
  const blocks = sizes.map(([name, n]): [string, Address] => [name, machine.type(name).alloc(n)]);
  const z = machine.zone('conn', { size: 4096 });
  const items = Array.from({ length: 256 }, () => z.alloc());
  const check = (e: KmemError, free: number): void => {
    const holders = (e.holders ?? []).map(({ kind, name }) => `${kind} ${name}`);
    assert.deepEqual(holders, ['type most', 'zone conn', 'type some']);
    const [most, conn] = e.holders ?? [];
    assert.ok(most.bytes >= 3_000_000 && most.bytes < 3_000_000 + 2 * 4096);
    assert.ok(conn.bytes >= 256 * 4096 && conn.bytes < 300 * 4096);
    const text = `; most is held by type 'most' (${most.bytes} bytes), zone 'conn' (${conn.bytes} `;
    assert.ok(e.message.includes(text), e.message);
    assert.ok((e.freeBytes ?? 0) >= free);
  };
  check(
    fails('ENOMEM', () => machine.type('t').alloc(6_000_000)),
    1,
  );
  // Another thread frees what this one had, and asks.
  const index = new URL(`./index${import.meta.url.slice(-3)}`, import.meta.url).href;
  const code = `
    const { workerData, parentPort } = require('node:worker_threads');
    import(${JSON.stringify(index)}).then(({ attach }) => {
      const machine = attach(workerData.kmem);
      machine.type('small').free(workerData.small);
      try { machine.type('t').alloc(6_000_000); } catch ({ holders }) {
        machine.detach();
        parentPort.postMessage(holders);
      }
    });`;
  const small = blocks.shift()?.[1];
  const workers = [
    { kmem: machine.handle, small },
    { kmem: machine.handle, small: 0 },
  ].map((workerData) => once(new Worker(code, { eval: true, workerData }), 'message'));
  for (const [holders] of await within(Promise.all(workers), 'both threads')) {
    assert.deepEqual(
      holders.map(({ name }: { name: string }) => name),
      ['most', 'conn', 'some'],
    );
  }
  const limited = machine.zone('two', { size: 64, limit: 2 });
  const all = Array.from({ length: limited.limit }, () => limited.alloc());
  assert.equal(fails('ENOMEM', () => limited.alloc()).holders, undefined, 'memory is not short');
  for (const item of all) limited.free(item);
  for (const item of items) z.free(item);
  for (const [name, at] of blocks) machine.type(name).free(at);
  machine.check();
});
