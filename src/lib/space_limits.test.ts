/*
 * Shows: a space has no more pages in use than its resident limit says, whichever threads use it
 * and whatever is mapped there; nothing is lost by it; what is used again and again stays in use;
 * what windows hold counts, and is in nobody's way; a fork has the limit, too.
 * By what means: one thread on a machine with room for all of it; two workers that check every page
 * which they wrote; the walkers at the end.
 */
import assert from 'node:assert/strict';
import type { Worker } from 'node:worker_threads';
import { describe, test } from 'node:test';
import { SEED } from '../sys/machine/seed.test.lib.ts';
import { until, within } from '../sys/machine/workers.test.lib.ts';
import { type Region, testMachine, withMachine } from './index.ts';
import { fails, spaces_gone, vm_checks } from './space.test.lib.ts';

const PAGE = 4096;
/** Writes to every page, in order; what page i has is i + `plus`. */
function fill(m: Region, plus = 0): void {
  for (let at = 0; at < m.length; at += PAGE) m.setU32(at, at / PAGE + plus);
}
function proved(m: Region, plus = 0): void {
  for (let at = 0; at < m.length; at += PAGE) assert.equal(m.getU32(at), at / PAGE + plus);
}
describe('the resident limit of a space', () => {
  test('is told, set, and lifted', (t) => {
    const machine = testMachine(t, { memory: '8M' });
    const space = machine.space('s', { limit: '1M' });
    assert.deepEqual(space.limits(), {
      mapped: 2 ** 20,
      resident: Number.POSITIVE_INFINITY,
      memlock: Number.POSITIVE_INFINITY,
    });
    assert.deepEqual(space.limits({ resident: '64K' }).resident, 65_536);
    assert.deepEqual(space.limits({}).resident, 65_536);
    assert.deepEqual(space.limits({ resident: 5000 }).resident, PAGE);
    const fork = space.fork('f');
    assert.deepEqual(fork.limits(), {
      mapped: 2 ** 20,
      resident: PAGE,
      memlock: Number.POSITIVE_INFINITY,
    });
    const lifted = space.limits({ resident: Number.POSITIVE_INFINITY });
    assert.equal(lifted.resident, Number.POSITIVE_INFINITY);
    assert.equal(fork.limits().resident, PAGE);
    const open = machine.space('open').limits();
    assert.equal(open.mapped, Number.POSITIVE_INFINITY);
    for (const resident of [0, -1, 1.5, Number.NaN, '', 'many', null, {}]) {
      fails(() => space.limits({ resident } as object), 'EINVAL');
    }
    fails(() => space.limits({ mapped: 1 } as object), 'EINVAL', /mapped/);
    for (const each of [fork, space]) each.destroy();
    fails(() => space.limits(), 'ESTALE');
    machine.space('open').destroy();
  });
  test('is kept at every page, and costs no contents', (t) => {
    const machine = testMachine(t, { memory: '8M', set: { 'vm.swap_default': 0 } });
    const space = machine.space('s');
    const m = space.mmap({ length: 300 * PAGE });
    fill(m);
    assert.equal(space.resident, m.length);
    space.limits({ resident: 40 * PAGE });
    assert.equal(space.resident, 40 * PAGE, 'at once');
    const read = Number(machine.sysctl('vm.stats.vm.v_zfod'));
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 300; i += 1 + round) {
        assert.equal(m.getU32(i * PAGE), i);
        assert.ok(space.resident <= 40 * PAGE, `page ${i}: ${space.resident}`);
      }
    }
    assert.equal(Number(machine.sysctl('vm.stats.vm.v_zfod')), read, 'no page left the memory');
    assert.ok(Number(machine.sysctl('vm.stats.vm.v_rss_removed')) >= 500);
    assert.ok(Number(machine.sysctl('vm.stats.vm.v_inactive_count')) >= 200, 'the first to go');
    m.advise('willneed');
    assert.ok(space.resident <= 40 * PAGE, 'advice does not exceed it');
    vm_checks();
    space.destroy();
  });
  test('spares what is used again and again', (t) => {
    const machine = testMachine(t, { memory: '8M' });
    const space = machine.space('s');
    const m = space.mmap({ length: 300 * PAGE });
    fill(m);
    space.limits({ resident: 64 * PAGE });
    const faults = (): number => Number(machine.sysctl('vm.stats.vm.v_vm_faults'));
    const before = faults();
    for (let i = 20; i < 300; i++) {
      m.getU32(i * PAGE);
      for (let hot = 0; hot < 20; hot++) m.getU32(hot * PAGE);
    }
    // Without being spared each of the 20 would be faulted in again every 44 pages or so.
    assert.ok(faults() - before < 280 + 100, `${faults() - before} faults`);
    space.destroy();
  });
  test('may be a single page, also for many bytes, copies and windows', (t) => {
    const machine = testMachine(t, { memory: '8M' });
    const space = machine.space('s');
    space.limits({ resident: 1 });
    const m = space.mmap({ name: 'm', length: 64 * PAGE });
    const bytes = Uint8Array.from({ length: m.length }, (_, i) => (i * 7) % 251);
    m.write(0, bytes);
    assert.equal(space.resident, PAGE);
    assert.deepEqual(m.read(0, new Uint8Array(m.length)), bytes);
    const fork = space.fork('f');
    fill(m, 5);
    assert.deepEqual(fork.region('m').read(0, new Uint8Array(m.length)), bytes);
    const w = m.window(3 * PAGE, 8 * PAGE, { write: true });
    w.u32[0] = 77;
    for (let i = 3; i < 11; i++) m.getU32(i * PAGE);
    assert.equal(m.getU32(3 * PAGE), 77);
    assert.ok(space.resident <= 9 * PAGE);
    w.close();
    m.setU32(3 * PAGE, 8);
    proved(m, 5);
    assert.equal(space.resident, PAGE);
    vm_checks();
    fork.destroy();
    space.destroy();
  });
  test('is each one of two spaces, and of a space that two threads use', async () => {
    await withMachine({ memory: '4M', cpus: 5, options: { INVARIANTS: true } }, async (machine) => {
      const file = new URL('./swap_load.test.worker.ts', import.meta.url);
      const spaces = ['one', 'two'].map((name) => machine.space(name));
      for (const space of spaces) space.limits({ resident: 60 * PAGE });
      const words = new Int32Array(new SharedArrayBuffer(8));
      const said = ['one a', 'one b', 'two a'].map((of, i) => {
        const [name, region] = of.split(' ');
        const task = { name, region, pages: 400, seed: SEED + i, words, handle: machine.handle };
        const worker = machine.worker<Worker>(file, { workerData: task });
        return new Promise<{ fault: string; n: number }>((resolve, reject) => {
          worker.on('message', resolve);
          worker.on('error', reject);
        });
      });
      let most = 0;
      await until(() => {
        most = Math.max(most, ...spaces.map((space) => space.resident));
        return Atomics.load(words, 1) > 3000;
      }, 'they work');
      Atomics.store(words, 0, 1);
      for (const { fault } of await within(Promise.all(said), 'they end')) assert.equal(fault, '');
      assert.ok(most <= 62 * PAGE, `${most / PAGE} pages`);
      spaces_gone(machine);
    });
  });
});
