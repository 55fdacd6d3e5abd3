/*
 * Shows: a window makes flat memory of a block beyond the memory, whose pages lie anywhere; what is
 * stored through it and by addresses is the same; a block under a window is not freed, that of a
 * dead thread's window is; late uses show on a debug machine; what cannot be is one clear error.
 * By what means: blocks whose pages were given out when no two free ones lay side by side; a second
 * thread, and one that is killed; the walkers at the end of each test.
 */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import { within } from '../sys/machine/workers.test.lib.ts';
import { fails } from './fails.test.lib.ts';
import { type Address, type BootOptions, boot, type Machine } from './index.ts';

const PAGE = 4096;
const PAGES = 12;
const BEYOND = 2 ** 33;

function start(t: TestContext, options: BootOptions = {}): Machine {
  const machine = boot({ memory: '8M', cpus: 3, options: { INVARIANTS: true }, ...options });
  t.after(() => {
    machine.check();
    machine.shutdown();
  });
  return machine;
}
/** A block of scattered pages, each of which begins with its number. */
function block(machine: Machine): Address {
  const type = machine.type('scattered');
  const all: Address[] = [];
  for (let at = type.tryAlloc(PAGE); at !== undefined; at = type.tryAlloc(PAGE)) all.push(at);
  all.sort((a, b) => a - b);
  for (let i = 0; i < all.length; i += 2) type.free(all[i]);
  const at = machine.type('far').alloc(PAGES * PAGE, { contiguous: false });
  assert.ok(at >= BEYOND);
  for (let p = 0; p < PAGES; p++) machine.store32(at + p * PAGE, 100 + p);
  const short = fails('ENOMEM', () => machine.window(at, PAGES * PAGE));
  assert.equal((short as { reason?: string }).reason, 'fragmented');
  for (let i = 1; i < all.length; i += 2) type.free(all[i]);
  return at;
}
function first_words(machine: Machine, at: number): number[] {
  return Array.from({ length: PAGES }, (_, p) => machine.load32(at + p * PAGE));
}
const WAS = Array.from({ length: PAGES }, (_, p) => 100 + p);
function gone(machine: Machine, at: Address): void {
  machine.type('far').free(at);
  for (const name of ['vm.windows', 'vm.window_pages']) assert.equal(machine.sysctl(name), 0);
  assert.equal(machine.type('far').stats.inUse, 0);
}

describe('a window onto a block', () => {
  test('is flat, and the same memory', (t) => {
    const machine = start(t);
    const at = block(machine);
    const w = machine.window(at + PAGE + 8, 5 * PAGE, { write: true });
    assert.deepEqual(
      [w.address, w.length, w.write, w.closed],
      [at + PAGE + 8, 5 * PAGE, true, false],
    );
    assert.equal(w.u32.length, (5 * PAGE) / 4);
    assert.deepEqual(first_words(machine, at), WAS, 'pages have moved, and what they hold');
    const page = PAGE / 4;
    assert.deepEqual([w.u32[page - 2], w.u32[2 * page - 2]], [102, 103]);
    w.u32[page - 2] = 7;
    assert.equal(machine.load32(at + 2 * PAGE), 7);
    machine.store32(at + 3 * PAGE, 8);
    assert.equal(w.u32[2 * page - 2], 8);
    machine.fill(at + PAGE + 8, 16, 3);
    assert.equal(w.u8[15], 3);
    machine.check();
    const whole = machine.window(at + 2 * PAGE, PAGE);
    assert.equal(whole.u32[0], 7, 'a part shares its pages');
    w.close();
    machine.store32(at + 2 * PAGE + 4, 5);
    assert.equal(whole.u32[1], 5);
    whole.close();
    fails('ESHUTDOWN', () => whole.u8);
    gone(machine, at);
  });
  test('of all of it, when it lies side by side already; and of a block of the memory', (t) => {
    const machine = start(t);
    const at = block(machine);
    machine.window(at, PAGES * PAGE).close();
    const moved = machine.window(at, PAGES * PAGE);
    assert.equal(moved.u32[PAGE / 4], 101);
    moved.close();
    const near = machine.type('near').alloc(2 * PAGE);
    const w = machine.window(near, 2 * PAGE, { write: true });
    w.f64[1] = Math.E;
    assert.equal(machine.load64f(near + 8), Math.E);
    w.close();
    assert.ok(w.closed);
    machine.type('near').free(near);
    gone(machine, at);
  });
  test('keeps the block from being freed', (t) => {
    const machine = start(t);
    const at = block(machine);
    const w = machine.window(at + 3 * PAGE, PAGE);
    assert.match(fails('EBUSY', () => machine.type('far').free(at)).message, /window/);
    assert.equal(machine.type('far').stats.inUse, 1);
    assert.equal(machine.load32(at + 3 * PAGE), 103);
    w.close();
    gone(machine, at);
    fails('EFAULT', () => machine.window(at, PAGE));
  });
  test('late uses of it show on a debug machine, and the block goes on', (t) => {
    const machine = start(t, { debug: true });
    const at = block(machine);
    const w = machine.window(at, 4 * PAGE, { write: true });
    const { u32 } = w;
    w.close();
    assert.equal(u32[0], 0xdeadc0de);
    u32[0] = 1;
    assert.deepEqual(first_words(machine, at), WAS);
    machine.check();
    gone(machine, at);
  });
  test('of another thread, which dies with it', async (t) => {
    const machine = start(t);
    const at = block(machine);
    const file = new URL('./kva_window.test.worker.ts', import.meta.url);
    const workerData = { kmem: machine.handle, at, n: 4 * PAGE };
    const worker = new Worker(file, { workerData });
    await within(new Promise((resolve) => worker.once('message', resolve)), 'the window');
    assert.equal(machine.load32(at + 4 * PAGE - 4), 42);
    const mine = machine.window(at, 4 * PAGE);
    assert.equal(mine.u32[0], 41);
    fails('EBUSY', () => machine.window(at + 3 * PAGE, 2 * PAGE));
    mine.close();
    fails('EBUSY', () => machine.type('far').free(at));
    await worker.terminate();
    gone(machine, at);
  });
});

describe('refused', () => {
  test('what is not of one block, no length, no address, over a limit', (t) => {
    const machine = start(t);
    const at = block(machine);
    fails('EFAULT', () => machine.window(at, PAGES * PAGE + 1));
    fails('EFAULT', () => machine.window(at - 1, 2));
    fails('EFAULT', () => machine.window(2 ** 43, 1));
    for (const bad of [Number.NaN, -1, '5', 2 ** 53]) {
      fails('EFAULT', () => machine.window(bad as number, 1));
      fails('EINVAL', () => machine.window(at, bad as number));
    }
    fails('EINVAL', () => machine.window(at, 0));
    fails('EINVAL', () => machine.window(at, PAGE, { write: 1 as never }));
    fails('EINVAL', () => machine.window(at, PAGE, { wait: 5 } as never));
    const odd = machine.window(at + 1, 8);
    fails('EINVAL', () => odd.u32);
    fails('EBUSY', () => machine.window(at, 2 * PAGE));
    odd.close();
    machine.sysctl('vm.max_wired', 3);
    const over = fails('ENOMEM', () => machine.window(at, 4 * PAGE));
    assert.equal((over as { reason?: string }).reason, 'limit');
    gone(machine, at);
  });
});
