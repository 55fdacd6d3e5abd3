/*
 * Shows: spaces larger than the memory keep what threads write to them while swap areas come and
 * go; a thread that is killed in swapoff leaves an area that goes with the next call.
 * By what means: files in a folder of the test; two workers on spaces that have more pages than
 * the machine; the walkers at the end.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, test } from 'node:test';
import { SEED } from '../sys/machine/seed.test.lib.ts';
import { until, within } from '../sys/machine/workers.test.lib.ts';
import { boot, current, type Machine } from './index.ts';
import { fails } from './fails.test.lib.ts';
import { vm_checks } from './space.test.lib.ts';

const MEG = 2 ** 20;
let folder = '';
const at = (name: string): string => join(folder, name);
const workers: Worker[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kmem-swap-test-'));
});
afterEach(async () => {
  await Promise.all(workers.splice(0).map((w) => w.terminate()));
  current()?.shutdown();
  rmSync(folder, { recursive: true, force: true });
});
/** Without a page daemon: the walkers at the end want a quiet machine. */
const begin = (pagedaemon = false): Machine =>
  boot({ memory: '4M', cpus: 5, fresh: true, debug: true, pagedaemon });

/** The call throws a KmemError of that code and call, whose text says so. */
function refused(code: string, op: string, text: RegExp, call: () => unknown): void {
  const e = fails(code, call);
  assert.equal(e.op, op);
  assert.match(e.message, text);
}

const PAGES = 900;
interface Said {
  readonly fault: string;
  readonly n: number;
}
interface Load {
  readonly words: Int32Array;
  /** What both say at the end. */
  end(): Promise<void>;
}
/** Two workers on spaces that together have some times the pages of the machine. */
function load(machine: Machine, seed: number): Load {
  const words = new Int32Array(new SharedArrayBuffer(8));
  const said = [0, 1].map((i) => {
    const workerData = {
      handle: machine.handle,
      name: `s${i}`,
      pages: PAGES,
      seed: seed + i,
      words,
    };
    const worker = new Worker(new URL('./swap_load.test.worker.ts', import.meta.url), {
      workerData,
    });
    workers.push(worker);
    return new Promise<Said>((resolve, reject) => {
      worker.on('message', resolve);
      worker.on('error', reject);
    });
  });
  return {
    words,
    end: async () => {
      Atomics.store(words, 0, 1);
      const all = await within(Promise.all(said), 'the workers');
      assert.deepEqual(
        all.map(({ fault }) => fault),
        ['', ''],
      );
      assert.ok(all.every(({ n }) => n > 0));
    },
  };
}
async function work(words: Int32Array, steps: number): Promise<void> {
  const before = Atomics.load(words, 1);
  await until(
    () => Atomics.load(words, 1) - before >= steps || Atomics.load(words, 0) !== 0,
    'work',
  );
}
function proved(machine: Machine): void {
  machine.check();
  vm_checks();
}
test('two threads write more than there is memory, areas come and go', async () => {
  const machine = begin();
  machine.swapon(at('a'), { size: '16M' });
  const { words, end } = load(machine, SEED);
  await work(words, 1500);
  await until(() => machine.swaps()[0].used > 0, 'pages go out');
  for (let round = 0; round < 3; round++) {
    machine.swapon(at(`b${round}`), { size: '16M', priority: round });
    await work(words, 500);
    machine.swapoff(machine.swaps()[0].path);
    await work(words, 500);
  }
  await end();
  proved(machine);
  assert.equal(machine.swaps().length, 1);
  for (const name of ['s0', 's1']) machine.space(name).destroy();
  assert.equal(machine.swaps()[0].used, 0);
  proved(machine);
});
test('the same beside the page daemon', async () => {
  const machine = begin(true);
  machine.swapon(at('a'), { size: '16M' });
  const { words, end } = load(machine, SEED + 5);
  await work(words, 1500);
  await until(() => machine.swaps()[0].used > 0, 'pages go out');
  machine.swapon(at('b'), { size: '16M' });
  machine.swapoff(at('a'));
  await work(words, 500);
  await end();
});
test('swapoff is refused where the pages find no room, and nothing is lost', async () => {
  const machine = begin();
  machine.swapon(at('a'), { size: '16M' });
  const { words, end } = load(machine, SEED + 10);
  await work(words, 1500);
  await until(() => machine.swaps()[0].used > 3 * MEG, 'pages go out');
  refused('ENOMEM', 'swapoff', /find no room/, () => machine.swapoff(at('a')));
  const [{ closing }] = machine.swaps();
  assert.equal(closing, false);
  await work(words, 500);
  await end();
  proved(machine);
});
test('a thread that is killed in swapoff leaves it to the next call', async () => {
  const machine = begin();
  machine.swapon(at('a'), { size: '16M' });
  machine.swapon(at('b'), { size: '16M', priority: 9 });
  const { words, end } = load(machine, SEED + 20);
  await work(words, 1500);
  await until(() => machine.swaps()[0].used > MEG, 'pages go out');
  const source = `
    const { parentPort, workerData } = require('node:worker_threads');
    import(workerData.kmem).then(({ attach }) => {
      const machine = attach(workerData.handle);
      parentPort.postMessage('up');
      machine.swapoff(workerData.path);
    });
  `;
  const kmem = new URL('./index.ts', import.meta.url).href;
  const workerData = { kmem, handle: machine.handle, path: at('a') };
  const victim = new Worker(source, { eval: true, workerData });
  workers.push(victim);
  await within(new Promise((resolve) => victim.once('message', resolve)), 'the victim');
  await until(() => machine.swaps()[0].closing || machine.swaps()[0].path !== at('a'), 'swapoff');
  await victim.terminate();
  await until(() => {
    try {
      machine.swapoff(at('a'));
      return true;
    } catch (e) {
      const { code } = e as { code?: string };
      if (code === 'EINVAL') return true; // it had come to its end
      assert.equal(code, 'EBUSY'); // its death is not seen yet
      return false;
    }
  }, 'swapoff after its death');
  assert.deepEqual(
    machine.swaps().map((a) => a.path),
    [at('b')],
  );
  await work(words, 500);
  await end();
  proved(machine);
  assert.ok(existsSync(at('a')));
});
