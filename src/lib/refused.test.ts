/*
 * A thread that may not call the machine is told so by every call, at once, and
 * nothing is changed: while it is parked (EBUSY), when it has left, though it is in
 * another machine by now (ESHUTDOWN), and after a panic, its own or another thread's
 * (KernelPanic).  All calls of the façade take their turn (calls.test.lib.ts).
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { panic } from '../sys/machine/panic.ts';
import { boot, KernelPanic, KmemError, type Machine, testMachine } from './index.ts';
import { allCalls, type Call, thrown, touchingCalls } from './calls.test.lib.ts';
import { fails } from './fails.test.lib.ts';

/** Every call must be refused with an error of that kind. */
async function allRefused(calls: readonly Call[], right: (e: unknown) => boolean): Promise<void> {
  for (const call of calls) {
    const e = await thrown(call);
    assert.ok(e !== null, `${call.name} was not refused`);
    assert.ok(right(e), `${call.name}: ${e}`);
  }
}
const busy = (e: unknown): boolean => e instanceof KmemError && e.code === 'EBUSY';
const panicked = (e: unknown): boolean =>
  e instanceof KernelPanic && /stopped: panic: a test/.test(e.message);

describe('a parked thread', () => {
  test('every call is EBUSY, and changes nothing', async (t) => {
    const machine = testMachine(t);
    const { calls, end } = allCalls(machine);
    const at = machine.type('calls').alloc(100);
    const touching = touchingCalls(machine, at);
    const before = machine.vmstat('z');
    const parked = machine.park();
    await allRefused(calls, busy);
    fails('EBUSY', () => machine.detach());
    fails('EBUSY', () => machine.shutdown());
    for (const call of touching) assert.equal(await thrown(call), null, call.name);
    assert.equal(machine.up, true);
    parked[Symbol.dispose]();
    assert.equal(machine.vmstat('z'), before);
    machine.check();
    // Whatever was refused is done now.
    assert.equal(machine.roots.get('calls'), 1);
    assert.equal(machine.queue('calls', { capacity: 4 }).length, 1);
    machine.away(() => fails('EBUSY', () => machine.type('calls').alloc(8)));
    machine.type('calls').free(at);
    end();
  });
  test('waits in the event loop go on when it is back', async (t) => {
    const machine = testMachine(t);
    const q = machine.queue('q', { capacity: 2 });
    const got = q.popAsync({ timeout: 240_000 });
    const none = q.popAsync({ timeout: 20 });
    const parked = machine.park();
    await new Promise((resolve) => setTimeout(resolve, 60)); // the second one's time is over
    parked[Symbol.dispose]();
    await assert.rejects(none, (e) => e instanceof KmemError && e.code === 'ETIMEDOUT');
    q.push(7);
    assert.equal(await got, 7);
    machine.check();
  });
});
/** All calls, save dispose(), which does nothing once there is nothing to let go of. */
function refusable(machine: Machine): Call[] {
  const at = machine.type('calls').alloc(100);
  const all = [...allCalls(machine).calls, ...touchingCalls(machine, at)];
  return all.filter(({ name }) => !name.endsWith('dispose'));
}

const down = (e: unknown): boolean => e instanceof KmemError && e.code === 'ESHUTDOWN';
describe('a machine that this thread has left', () => {
  for (const leave of ['shutdown', 'detach'] as const) {
    test(`by ${leave}: no call of it reaches the next one, in the same memory`, async () => {
      const old = boot({ memory: '16M' });
      const block = old.type('calls').block(100);
      const items = old.zone('items', { size: 64 });
      const item = items.alloc();
      const calls = refusable(old);
      old[leave]();
      const next = boot({ memory: '16M' });
      assert.equal(next.u8.buffer === old.u8.buffer, leave === 'shutdown');
      const { address } = block;
      const before = next.copyOut(address, 100);
      for (const call of [
        ...calls,
        { name: 'load8', run: () => old.load8(address) },
        { name: 'load16', run: () => old.load16(address) },
        { name: 'store8', run: () => old.store8(address, 1) },
        { name: 'store16', run: () => old.store16(address, 1) },
        { name: 'store64f', run: () => old.store64f(address, 1) },
        { name: 'block.bytes', run: () => block.bytes },
        { name: 'block.free', run: () => block.free() },
        { name: 'zone.bytes', run: () => items.bytes(item) },
      ]) {
        const e = await thrown(call);
        assert.ok(down(e), `${call.name}: ${e}`);
      }
      assert.deepEqual(next.copyOut(address, 100), before);
      next.check();
      next.shutdown();
    });
  }
});

describe('after a panic', () => {
  test('of its own every call throws KernelPanic; it can leave, and boot again', async () => {
    const machine = boot({ memory: '16M' });
    const calls = refusable(machine);
    const late = machine
      .queue('late')
      .popAsync()
      .catch((e: unknown) => e);
    assert.throws(() => panic('a test'), KernelPanic);
    assert.equal(machine.up, false);
    await allRefused(calls, panicked);
    assert.equal(machine.up, false);
    assert.ok(panicked(await late), String(await late));
    machine.shutdown();
    machine.shutdown();
    machine.detach();
    fails('ESHUTDOWN', () => machine.stats());
    const next = boot({ memory: '16M' });
    next.type('t').free(next.type('t').alloc(100));
    next.check();
    next.shutdown();
  });
  test('of another thread, the same', async () => {
    const machine = boot({ memory: '16M' });
    const calls = refusable(machine);
    const end = import.meta.url.slice(-3); // .ts, or .js where it is compiled
    const url = (path: string): string => JSON.stringify(new URL(path + end, import.meta.url).href);
    const program = `
      const { parentPort, workerData } = require('node:worker_threads');
      (async () => {
        const { attach } = await import(${url('./index')});
        const { panic } = await import(${url('../sys/machine/panic')});
        attach(workerData);
        try { panic('a test'); } catch (e) { parentPort.postMessage(e.name); }
      })();`;
    const worker = new Worker(program, { eval: true, workerData: machine.handle });
    assert.deepEqual(await once(worker, 'message'), ['KernelPanic']);
    assert.equal(machine.up, false);
    await allRefused(calls, panicked);
    machine.detach();
    await worker.terminate();
  });
  test('that a call met: its own objects refuse at once', () => {
    const machine = boot({ memory: '16M', options: { INVARIANTS: true } });
    const t = machine.type('t');
    const [at, last] = [t.alloc(64), t.alloc(64)];
    t.free(at);
    t.free(last);
    assert.throws(() => t.free(at), KernelPanic); // freed twice
    assert.equal(machine.up, false);
    for (const call of [() => t.alloc(64), () => t.free(at), () => machine.type('t')]) {
      assert.throws(call, KernelPanic);
    }
    machine.shutdown();
  });
});
