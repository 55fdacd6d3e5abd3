/*
 * Shows: a region that asks for superpages gets them when it is used, in memory, of a file and in
 * forks; before and after each thing that ends one, two threads read and write the right pages, and
 * just that superpage ends; small regions and small machines have none, and say so; bad input.
 * By what means: a region of two superpages, whose first one something happens to, a second thread
 * that has used both by their one tag; the walkers at the end of each test.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { within } from '../sys/machine/workers.test.lib.ts';
import { MINCORE_SUPER } from '../sys/h/mman.ts';
import type { vm_map_t } from '../sys/h/vm_map.ts';
import { kinfo_vmentries, KVME_FLAG_SUPER } from '../sys/observe/kinfo_vm.ts';
import { vm_resident } from '../sys/map/vm_mincore.ts';
import { sys_mprotect, sys_munmap } from '../sys/map/vm_mmap.ts';
import { type Machine, type Region, type RegionOptions, type Space, testMachine } from './index.ts';
import { fails, vm_checks } from './space.test.lib.ts';

const PAGE = 4096;
const SUPER = 4 * 2 ** 20;
const N = SUPER / PAGE;
const PAGES = 2 * N;
/** Pages of both superpages that the threads look at. */
const LOOKED = [0, 3, 4, N - 1, N, PAGES - 1];
type Counts = Partial<Record<'promotions' | 'demotions', number>>;

/** A region of two superpages, and a second thread in it. */
class Pair {
  readonly machine: Machine;
  readonly space: Space;
  readonly m: Region;
  readonly #worker: Worker;
  /** What each page holds. */
  readonly #holds = new Map<number, number | string>();

  constructor(machine: Machine, options: Partial<RegionOptions> = {}) {
    this.machine = machine;
    this.space = machine.space('s');
    this.m = this.space.mmap({ name: 'm', length: 2 * SUPER, align: 'super', ...options });
    for (let p = 0; p < PAGES; p++) this.store(p, p + 1);
    const file = new URL('./super.test.worker.ts', import.meta.url);
    this.#worker = new Worker(file, { workerData: machine.handle });
  }
  async up(): Promise<void> {
    await within(once(this.#worker, 'message'), 'the second thread');
  }
  async #ask<T>(job: object): Promise<T> {
    const answer = once(this.#worker, 'message');
    this.#worker.postMessage(job);
    return (await within(answer, 'an answer'))[0] as T;
  }
  count(name: string): number {
    return Number(this.machine.sysctl(`vm.pmap.pde.${name}`));
  }
  get supers(): number {
    return (this.space.regions().find((r) => r.name === 'm')?.super ?? 0) / SUPER;
  }
  store(page: number, value: number): void {
    this.m.setU32(page * PAGE, value);
    this.#holds.set(page, value);
  }
  /** The second thread stores, and must be able to, or not, for that reason. */
  async stores(page: number, why = ''): Promise<void> {
    assert.equal(await this.#ask({ store: page, value: page + 7 }), why);
    if (why === '') this.#holds.set(page, page + 7);
  }
  /** A page is not mapped any more. */
  gone(page: number): void {
    this.#holds.set(page, 'unmapped');
  }
  /** Both threads see what each page holds. Twice: by the table, and by tags. */
  async right(): Promise<void> {
    const want = LOOKED.map((p) => this.#holds.get(p));
    for (let n = 0; n < 2; n++) {
      assert.deepEqual(await this.#ask({ look: LOOKED }), want);
      const mine = LOOKED.map((p) => {
        try {
          return this.m.getU32(p * PAGE);
        } catch (e) {
          return (e as { reason: string }).reason;
        }
      });
      assert.deepEqual(mine, want);
    }
  }
  /** Of a test that failed. */
  async kill(): Promise<void> {
    await this.#worker.terminate();
  }
  async end(): Promise<void> {
    const exit = once(this.#worker, 'exit');
    this.#worker.postMessage({});
    await within(exit, 'its end');
    this.space.destroy();
    vm_checks();
  }
}
/** Runs `body` with a region of two superpages that two threads use. */
async function pair(
  t: Parameters<typeof testMachine>[0],
  body: (p: Pair) => Promise<void>,
  memory = '64M',
): Promise<void> {
  let p: Pair | null = null;
  t.after?.(async () => p?.kill()); // before the machine looks for what is left
  p = new Pair(testMachine(t, { memory, cpus: 3 }));
  await p.up();
  assert.equal(p.supers, 2);
  await p.right();
  await p.stores(3);
  await p.stores(N);
  await p.right();
  assert.deepEqual([p.supers, p.count('demotions')], [2, 0], 'use is no change');
  await body(p);
  await p.right();
  await p.end();
}
/** A trigger: the first superpage ends by it, and no other. */
function ends(what: string, trigger: (p: Pair, mp: vm_map_t) => void, counts: Counts = {}): void {
  test(what, async (t) => {
    await pair(t, async (p) => {
      const was = { promotions: p.count('promotions'), demotions: p.count('demotions') };
      trigger(p, p.space.enter('test'));
      assert.equal(p.supers, 1);
      const { promotions = 0, demotions = 1 } = counts;
      assert.equal(p.count('demotions') - was.demotions, demotions);
      assert.equal(p.count('promotions') - was.promotions, promotions);
      await p.right();
    });
  });
}

describe('a superpage ends when', () => {
  ends('a part of it is protected', (p, mp) => {
    assert.equal(sys_mprotect(mp, [p.m.address, 4 * PAGE, 1]).error, 0);
  });
  ends('a part of it is unmapped', (p, mp) => {
    assert.equal(sys_munmap(mp, [p.m.address + 3 * PAGE, PAGE]).error, 0);
    p.gone(3);
  });
  ends('all of it is unmapped, which is no demotion', unmap_all, { demotions: 0 });
  ends('one page is lent', (p) => {
    using loan = p.m.lend(3 * PAGE, PAGE);
    assert.equal(loan.views()[0][0], 3 + 7);
  });
});
function unmap_all(p: Pair, mp: vm_map_t): void {
  assert.equal(sys_munmap(mp, [p.m.address, SUPER]).error, 0);
  for (const page of LOOKED) if (page < N) p.gone(page);
}

test('all is protected: both stay, and nobody may write; a write later on ends one', async (t) => {
  await pair(t, async (p) => {
    p.m.protect('r');
    assert.equal(p.supers, 2);
    await p.stores(3, 'protection');
    await p.right();
    p.m.protect('rw');
    assert.equal(p.supers, 2);
    await p.stores(4);
    assert.equal(p.supers, 1);
    assert.equal(p.count('demotions'), 1);
  });
});
test('locked in part, and all of it: pages stay in memory, and one', async (t) => {
  await pair(t, async (p) => {
    p.m.lock(3 * PAGE, PAGE);
    await p.right();
    p.m.lock();
    assert.equal(p.supers, 2);
    assert.equal(p.space.regions()[0].locked, 2 * SUPER);
    await p.right();
    p.m.unlock();
    await p.right();
    assert.equal(p.supers, 2);
  });
});
test('a copy on write: the fork keeps what was there, the writer gets a page', async (t) => {
  await pair(
    t,
    async (p) => {
      using snap = p.space.fork('snap');
      assert.equal(p.supers, 2, 'nobody may write: they stay');
      const demotions = p.count('demotions');
      await p.stores(4);
      assert.deepEqual([p.supers, p.count('demotions') - demotions], [1, 1]);
      const copy = snap.region('m');
      for (let k = 0; k < PAGES; k++) {
        const stored = k === 3 || k === N;
        assert.equal(copy.getU32(k * PAGE), k + (stored ? 7 : 1));
      }
      assert.equal(snap.regions()[0].super, 2 * SUPER, 'read only, of the same pages');
      await p.right();
      for (let k = 0; k < PAGES; k++) p.store(k, k + 9);
      assert.equal(p.supers, 2, 'copies have runs of their own');
      assert.equal(copy.getU32(3 * PAGE), 3 + 7);
      snap.destroy();
    },
    '96M',
  );
});
test('two threads write while it is copied, lent, sent away and made again', async (t) => {
  const workers: Worker[] = [];
  t.after(async () => void (await Promise.all(workers.map((w) => w.terminate()))));
  const machine = testMachine(t, { memory: '64M', cpus: 4, pagedaemon: false });
  const space = machine.space('s');
  const m = space.mmap({ name: 'm', length: 2 * SUPER, align: 'super' });
  for (let at = 0; at < m.length; at += PAGE) m.setU32(at, 1);
  assert.equal(space.regions()[0].super, m.length);
  const file = new URL('./super.test.worker.ts', import.meta.url);
  for (const _ of [1, 2]) {
    const worker = new Worker(file, { workerData: machine.handle });
    workers.push(worker);
    await within(once(worker, 'message'), 'a thread');
  }
  let running = workers.length;
  const answers = workers.map(async (worker, id) => {
    const answer = once(worker, 'message');
    worker.postMessage({ count: id + 1, rounds: 4000 });
    const [wrong] = await within(answer, 'its count');
    running--;
    return wrong as number;
  });
  for (let round = 0; running > 0; round++) {
    const snap = space.fork('snap', { wait: 20_000 });
    snap.destroy();
    m.lend((round % PAGES) * PAGE, PAGE).dispose();
    if (round % 8 === 0) {
      const other = machine.space('other');
      const big = other.mmap({ length: '52M' });
      for (let at = 0; at < big.length; at += PAGE) big.setU32(at, 1);
      other.destroy();
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assert.deepEqual(await Promise.all(answers), [0, 0]);
  for (const worker of workers) {
    const exit = once(worker, 'exit');
    worker.postMessage({});
    await within(exit, 'its end');
  }
  assert.ok(Number(machine.sysctl('vm.pmap.pde.demotions')) >= 1);
  space.destroy();
  vm_checks();
});
test('pages that leave the memory, and come back', async (t) => {
  await pair(t, async (p) => {
    const other = p.space.mmap({ length: '72M' });
    for (let at = 0; at < other.length; at += PAGE) other.setU32(at, 1);
    assert.ok(p.supers < 2, 'the page daemon has taken pages');
    assert.ok(p.count('demotions') > 0);
    await p.right();
    for (let k = 5; k < N - 1; k += 13) assert.equal(p.m.getU32(k * PAGE), k + 1);
    other.unmap();
    await p.right();
  });
});
test('a page that moves out of the way of a block, or leaves the memory for it', async (t) => {
  await pair(t, async (p) => {
    const all: Disposable[] = [];
    // Where a thread is silent for a moment a place is given up: then once more.
    for (let tries = 0; p.count('demotions') === 0 && tries < 1000; tries++) {
      try {
        all.push(p.machine.contiguous('2M'));
      } catch (e) {
        assert.equal((e as { code: string }).code, 'ENOMEM');
      }
    }
    assert.ok(p.count('demotions') > 0, `${all.length} blocks`);
    await p.right();
    for (const block of all) block[Symbol.dispose]();
  });
});
test('windows and advice go on as before', async (t) => {
  await pair(t, async (p) => {
    const moved = Number(p.machine.sysctl('vm.stats.vm.v_vm_faults'));
    const w = p.m.window(0, SUPER / 4, { write: true });
    assert.equal(p.supers, 2, 'they lie side by side already');
    assert.equal(w.u32[PAGE / 4], 2);
    w.close();
    for (const advice of ['normal', 'random', 'sequential', 'willneed'] as const)
      p.m.advise(advice);
    assert.equal(Number(p.machine.sysctl('vm.stats.vm.v_vm_faults')), moved);
    await p.right();
    p.m.advise('dontneed');
    await p.right();
  });
});
test('of a file, from an offset on', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'kmem-super-'));
  const path = join(folder, 'f');
  writeFileSync(path, Buffer.alloc(2 * SUPER + PAGE));
  let p: Pair | null = null;
  t.after(() => p?.kill());
  const machine = testMachine(t, { memory: '64M', cpus: 3 });
  p = new Pair(machine, { file: path, write: true, offset: PAGE, length: 2 * SUPER });
  await p.up();
  // The part before the first whole superpage of the file, and the one behind, are single pages.
  assert.equal(p.supers, 1);
  assert.equal((p.m.address - PAGE) % SUPER, 0);
  await p.right();
  p.m.sync();
  assert.equal(p.supers, 0, 'what was written is noted anew');
  await p.stores(4);
  await p.right();
  await p.end();
  rmSync(folder, { recursive: true });
});

test('pages of a file that are all there are mapped ahead as one', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'kmem-super-'));
  const path = join(folder, 'f');
  writeFileSync(path, Buffer.alloc(2 * SUPER, 7));
  const machine = testMachine(t, { memory: '64M', cpus: 2 });
  const [one, two] = ['one', 'two'].map((name) => machine.space(name));
  const m = one.mmap({ file: path, align: 'super' });
  for (let at = 0; at < m.length; at += PAGE) assert.equal(m.getU8(at), 7);
  assert.equal(one.regions()[0].super, 2 * SUPER);
  const n = two.mmap({ file: path, align: 'super' });
  const faults = machine.sysctl('vm.stats.vm.v_vm_faults');
  n.advise('willneed');
  assert.equal(two.regions()[0].super, 2 * SUPER);
  assert.equal(machine.sysctl('vm.pmap.pde.mappings'), 2);
  for (let at = 0; at < n.length; at += 5 * PAGE) assert.equal(n.getU8(at), 7);
  assert.equal(machine.sysctl('vm.stats.vm.v_vm_faults'), faults);
  assert.equal(two.resident, 2 * SUPER);
  const seen = vm_resident(two.enter('test'), n.first, PAGES);
  assert.ok(
    seen?.every((bits) => bits & MINCORE_SUPER),
    'mincore says so',
  );
  const entries = kinfo_vmentries(machine.sysctlBytes('kern.proc.vmmap'));
  assert.ok(entries.length === 2 && entries.every((e) => e.flags & KVME_FLAG_SUPER));
  one.destroy();
  n.lock(PAGE, PAGE);
  assert.equal(n.getU8(SUPER), 7);
  two.destroy();
  vm_checks();
  rmSync(folder, { recursive: true });
});
test('in a checked machine every word is touched under its lock', (t) => {
  const machine = testMachine(t, { memory: '64M', cpus: 2, checked: true });
  const space = machine.space('s');
  const m = space.mmap({ length: SUPER, align: 'super' });
  for (let at = 0; at < SUPER; at += PAGE) m.setU32(at, at);
  assert.equal(space.regions()[0].super, SUPER);
  assert.equal(m.getU32(SUPER - PAGE), SUPER - PAGE);
  m.lend(0, PAGE).dispose();
  assert.equal(space.regions()[0].super, 0);
  assert.equal(m.getU32(PAGE), PAGE);
  space.destroy();
  vm_checks();
});
test('vm.reserv.order says how many pages of a file come together', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'kmem-super-'));
  const path = join(folder, 'f');
  writeFileSync(path, Buffer.alloc(2 * SUPER, 7));
  const machine = testMachine(t, { memory: '64M', cpus: 2 });
  const space = machine.space('s');
  for (const order of [0, 3, 4, 7, 10]) {
    machine.sysctl('vm.reserv.order', order);
    const m = space.mmap({ file: path });
    const was = Number(machine.sysctl('vm.stats.vm.v_vnodepgsin'));
    assert.equal(m.getU8((N + 300) * PAGE), 7);
    assert.equal(Number(machine.sysctl('vm.stats.vm.v_vnodepgsin')) - was, 2 ** order);
    const there = m.resident().map((b) => b & 1);
    const first = N + 300 - ((N + 300) % 2 ** order);
    assert.equal(there.indexOf(1), first, 'they begin at a multiple of that');
    using w = m.window(first * PAGE, Math.min(2 ** order, 256) * PAGE);
    assert.equal(w.u8[0], 7);
    w.close();
    m.unmap();
  }
  for (const wrong of [-1, 11]) fails(() => machine.sysctl('vm.reserv.order', wrong), 'EINVAL');
  space.destroy();
  vm_checks();
  rmSync(folder, { recursive: true });
});

describe('none', () => {
  const used = (space: Space, options: RegionOptions): number => {
    const m = space.mmap(options);
    for (let at = 0; at < m.length; at += PAGE) m.setU32(at, 1);
    const found = space.regions().find((r) => r.address === m.address)?.super;
    assert.ok(found !== undefined);
    return found;
  };
  test('in a small machine', (t) => {
    const small = testMachine(t, { memory: '60M', cpus: 2 });
    assert.equal(used(small.space('s'), { length: SUPER, align: 'super' }), 0);
    assert.equal(small.sysctl('vm.reserv.made'), 0);
    small.space('s').destroy();
    vm_checks();
  });
  test('of a region that is less than one', (t) => {
    const machine = testMachine(t, { memory: '64M', cpus: 2 });
    const space = machine.space('s');
    assert.equal(used(space, { length: SUPER - PAGE, align: 'super' }), 0);
    assert.equal(used(space, { length: 2 * SUPER, align: 'super' }), 2 * SUPER);
    space.destroy();
    vm_checks();
    assert.equal(machine.sysctl('vm.reserv.pages'), 0);
  });
  test('what cannot be asked for is refused, and nothing is mapped', (t) => {
    const space = testMachine(t, { memory: '64M', cpus: 2 }).space('s');
    const length = 2 * SUPER;
    for (const align of ['huge', '', 4096, null, true, 'SUPER'] as unknown[]) {
      const wrong = { length, align: align as 'super' };
      fails(() => space.mmap(wrong), 'EINVAL', /align .*: known is 'super'/);
    }
    const inside = { length, align: 'super', address: 4096 } as const;
    const why = /address 4096: align 'super' wants a multiple of 4194304/;
    fails(() => space.mmap(inside), 'EINVAL', why);
    assert.deepEqual(space.regions(), []);
    assert.equal(space.mmap({ length, align: 'super', address: 8 * SUPER }).address, 8 * SUPER);
    space.destroy();
    vm_checks();
  });
});
