/*
 * Waiting for chains: each free wakes who waits for it, in the same thread and in
 * others, blocking and in the event loop, whatever was freed.  The slices that end a
 * wait whose wake-up was lost are so long here that such a wait would never end.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test, type TestContext } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { sleep, until, within } from '../sys/machine/workers.test.lib.ts';
import { sleepq_list } from '../sys/sync/subr_sleepqueue.ts';
import { uma_reclaim } from '../sys/uma/uma_drain.ts';
import { type Chain, type Machine, testMachine } from './index.ts';
import { slices } from './wait.ts';

const FILE = new URL('./chain_wait.test.worker.ts', import.meta.url);
const TIGHT = {
  'kern.ipc.nmbclusters': 32,
  'kern.ipc.nmbjumbop': 8,
  'kern.ipc.nmbjumbo9': 4,
  'kern.ipc.nmbjumbo16': 4,
  'kern.ipc.nmbufs': 64,
};
const bytes = (n: number): Uint8Array => new Uint8Array(n).fill(n);

function tight(t: TestContext, set: Record<string, number> = {}): Machine {
  return testMachine(t, { memory: '32M', set: { ...TIGHT, ...set } });
}
/** Chains of n bytes until there are no more. */
function take(machine: Machine, n: number): Chain[] {
  const chains: Chain[] = [];
  try {
    for (;;) chains.push(machine.chain(bytes(n)));
  } catch (e) {
    assert.equal((e as { code: string }).code, 'ENOMEM');
  }
  return chains;
}
const clusters = (machine: Machine): Chain[] => take(machine, 2048);
/** All there is, in chains of a cluster, of a jumbo cluster, of an mbuf. */
class Everything {
  readonly #machine: Machine;
  readonly held: Record<'small' | 'large' | 'tiny', Chain[]> = { small: [], large: [], tiny: [] };
  constructor(machine: Machine) {
    this.#machine = machine;
    this.take();
  }
  take(): void {
    uma_reclaim(); // what lies in the caches of the others
    this.held.small.push(...clusters(this.#machine));
    this.held.large.push(...take(this.#machine, 4096));
    this.held.tiny.push(...take(this.#machine, 1));
  }
  /** Frees one chain after the other, each in a turn of its own. */
  async free(kind: 'small' | 'large' | 'tiny', n: number): Promise<void> {
    for (const chain of this.held[kind].splice(0, n)) {
      chain.free();
      await sleep(1);
    }
  }
  freeAll(): void {
    for (const chains of Object.values(this.held)) free(chains);
  }
}
/** Requests, and what is to be freed for them. */
const NEEDS = [
  [16_000, 'small', 10],
  [10_500, 'large', 3],
  [3000, 'large', 1],
  [60, 'tiny', 1],
  [2048, 'small', 1],
] as const;
function free(chains: Chain[]): void {
  for (const chain of chains.splice(0)) chain.free();
}
function worker(machine: Machine): (job: string, n?: number) => Promise<number> {
  const w = machine.worker<Worker>(FILE);
  return async (job, n = 0) => {
    w.postMessage({ job, n });
    const [result] = await within(once(w, 'message'), job);
    return result as number;
  };
}
const asleep = (n: number): Promise<void> =>
  until(() => sleepq_list().filter((s) => s.wmesg === 'keglimit').length >= n, 'it sleeps');

describe('a free wakes', () => {
  const { firstMs, mostMs, asyncMs } = slices;
  before(() => Object.assign(slices, { firstMs: 2 ** 30, mostMs: 2 ** 30, asyncMs: 2 ** 30 }));
  after(() => Object.assign(slices, { firstMs, mostMs, asyncMs }));

  test('the event loop of the same thread: clusters, jumbo clusters, mbufs, a limit', async (t) => {
    const machine = tight(t);
    const all = new Everything(machine);
    for (const [n, kind, count] of NEEDS) {
      all.take();
      const want = machine.chain().appendAsync(bytes(n));
      await asleep(1);
      await all.free(kind, count);
      const got = await within(want, `${n} bytes`);
      assert.ok(got.equals(bytes(n)));
      got.free();
    }
    all.take();
    const want = machine.chain().appendAsync(bytes(2048));
    await asleep(1);
    machine.sysctl('kern.ipc.nmbufs', 128);
    machine.sysctl('kern.ipc.nmbclusters', 64);
    (await within(want, 'a raised limit')).free();
    all.freeAll();
  });
  test('a request that gives back what it had got leaves the event loop alone', async (t) => {
    const machine = tight(t);
    const tiny = take(machine, 1);
    free(tiny.splice(0, 4)); // enough for a beginning
    const want = machine.chain().appendAsync(bytes(20_000));
    await sleep(5);
    free(tiny);
    (await within(want, 'all mbufs')).free();
  });
  for (const how of ['wait', 'block']) {
    test(`another thread: ${how}`, async (t) => {
      const machine = tight(t);
      const other = worker(machine);
      const all = new Everything(machine);
      for (const [n, kind, count] of NEEDS) {
        all.take();
        const done = other(how, n);
        await asleep(1);
        await all.free(kind, count);
        assert.equal(await done, n);
      }
      all.take();
      const done = other(how, 2048);
      await asleep(1);
      machine.sysctl('kern.ipc.nmbufs', 128);
      machine.sysctl('kern.ipc.nmbclusters', 64);
      assert.equal(await done, 2048);
      all.freeAll();
      await other('end');
    });
  }
  for (const how of ['wait', 'block']) {
    test(`memory is full, without limits: ${how}`, async (t) => {
      const unlimited = Object.fromEntries(Object.keys(TIGHT).map((name) => [name, 0]));
      const machine = testMachine(t, { memory: '8M', set: unlimited });
      const other = worker(machine);
      await other('take', 1); // it is up, and has what it needs
      await other('give', 2 ** 30);
      const type = machine.type('hog');
      for (const kind of ['chains', 'blocks']) {
        const large = kind === 'chains' ? take(machine, 8192) : [];
        const blocks: ReturnType<typeof type.alloc>[] = [];
        assert.throws(() => {
          for (;;) blocks.push(type.alloc(65_536));
        });
        const all = new Everything(machine);
        const done = other(how, 30_000);
        await asleep(1);
        free(large.splice(0, large.length / 2));
        for (const block of blocks.splice(0)) type.free(block);
        assert.equal(await done, 30_000, kind);
        free(large);
        all.freeAll();
      }
      await other('end');
    });
  }
  test('whoever waits for what a thread freed that then computes', async (t) => {
    const machine = tight(t);
    const other = worker(machine);
    for (let i = 0; i < 3; i++) {
      const n = await other('take', 2048);
      const large = take(machine, 4096);
      const want = machine.chain().appendAsync(bytes(2049 * 5 + i));
      const given = other('give', n);
      (await within(want, 'what lies in the cache of another')).free();
      await given;
      const small = clusters(machine);
      const blocked = other('block', 12_000 + i);
      await asleep(1);
      free(small);
      const end = performance.now() + 150; // longer than a drain waits for an answer
      while (performance.now() < end);
      assert.equal(await blocked, 12_000 + i);
      free(large);
    }
    await other('end');
  });
  test('two that want more than there is do not wake each other for ever', async (t) => {
    const machine = tight(t);
    const other = worker(machine);
    const small = clusters(machine);
    const large = take(machine, 4096);
    free(small.splice(0, 4));
    const theirs = other('wait', 16_000);
    const ours = [1, 2, 3].map((n) => machine.chain().appendAsync(bytes(16_000 + n)));
    await asleep(2);
    const reclaims = (): number => Number(machine.sysctl('vm.reclaims'));
    let before = reclaims();
    await until(() => before === (before = reclaims()), 'they rest');
    free(small);
    free(large);
    assert.equal(await theirs, 16_000);
    for (const want of ours) (await within(want, 'ours')).free();
    await other('end');
  });
});

test('a wait ends by its signal, its time, the end of the chain; nothing stays', async (t) => {
  const machine = tight(t);
  const small = clusters(machine);
  const stop = new AbortController();
  const chains = [1, 2, 3, 4].map(() => machine.chain());
  const signalled = chains[0].appendAsync(bytes(2048), { signal: stop.signal });
  const late = chains[1].appendAsync(bytes(2048), { timeout: 5 });
  const ended = chains[2].appendAsync(bytes(2048));
  const never = machine.chain().appendAsync(bytes(2048), { timeout: Number.NaN });
  await assert.rejects(never, { code: 'EINVAL' });
  await assert.rejects(late, { code: 'ETIMEDOUT' });
  chains[2].free();
  stop.abort(new RangeError('enough'));
  await assert.rejects(signalled, RangeError);
  free(small);
  await assert.rejects(within(ended, 'freed'), { code: 'EINVAL' });
  free(chains);
  assert.deepEqual(sleepq_list(), []);
});
test('a thread that leaves with waits: they are refused, others go on', async (t) => {
  const machine = tight(t);
  const small = clusters(machine);
  const want = machine.chain().appendAsync(bytes(2048));
  const refused = assert.rejects(want, { code: 'ESHUTDOWN', op: 'appendAsync' });
  free(small.splice(0, 2));
  small.push(...clusters(machine));
  free(small);
  machine.shutdown();
  await refused;
});
