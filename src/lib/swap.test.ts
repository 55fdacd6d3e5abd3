/*
 * Shows: machine.swapon, swapoff, swaps as programs use them: what is wrong with a call is one
 * clear error and changes nothing; spaces larger than the memory keep what threads write to
 * them while areas come and go; a thread that is killed in swapoff leaves an area that goes with
 * the next call.
 * By what means: files in a folder of the test; two workers on spaces that have more pages than
 * the machine; the walkers at the end.
 */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, test } from 'node:test';
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
const begin = (memory = '4M', set: Record<string, number> = {}): Machine =>
  boot({ memory, cpus: 5, fresh: true, debug: true, set });

/** The call throws a KmemError of that code and call, whose text says so. */
function refused(code: string, op: string, text: RegExp, call: () => unknown): void {
  const e = fails(code, call);
  assert.equal(e.op, op);
  assert.match(e.message, text);
}
describe('calls', () => {
  test('on, seen, off', () => {
    const machine = begin();
    assert.deepEqual(machine.swaps(), []);
    const info = machine.swapon(at('a'), { size: '1M', priority: 3 });
    const expected = {
      path: at('a'),
      size: MEG - 8192,
      used: 0,
      free: MEG - 8192,
      bad: 0,
      priority: 3,
      closing: false,
      made: false,
    };
    assert.deepEqual(info, expected);
    machine.swapon(at('b'), { size: 2 * MEG });
    assert.deepEqual(
      machine.swaps().map((a) => [a.path, a.priority]),
      [
        [at('a'), 3],
        [at('b'), 0],
      ],
    );
    assert.equal(machine.sysctl('vm.nswapdev'), 2);
    assert.equal(machine.sysctl('vm.swap_total'), 3 * MEG - 16_384);
    assert.equal(machine.sysctl('vm.swap_used'), 0);
    assert.equal(machine.sysctl('vm.swap_full'), 0);
    machine.swapoff(at('a'));
    assert.deepEqual(
      machine.swaps().map((a) => a.path),
      [at('b')],
    );
    machine.swapon(at('a'));
    machine.check();
  });
  test('what is wrong is one clear error, and changes nothing', () => {
    const machine = begin();
    mkdirSync(at('folder'));
    writeFileSync(at('text'), 'words');
    writeFileSync(at('empty'), '');
    machine.swapon(at('a'), { size: '1M' });
    const before = readdirSync(folder);
    const on = (name: string, options?: object) => () => machine.swapon(at(name), options);
    refused('EISDIR', 'swapon', /folder: it is a folder/, on('folder'));
    refused('ENOENT', 'swapon', /none: there is no such file.*give \{ size \}/, on('none'));
    refused('ENOENT', 'swapon', /no such file, or folder/, on('none/x', { size: '1M' }));
    refused('EINVAL', 'swapon', /text: it is there, and no swap file/, on('text'));
    refused('ENXIO', 'swapon', /too small/, on('empty'));
    refused('ENXIO', 'swapon', /too small/, on('new', { size: 8192 }));
    refused('ENXIO', 'swapon', /too small/, on('new', { size: 0 }));
    refused('EFBIG', 'swapon', /too large/, on('new', { size: 2 ** 40 }));
    refused('EINVAL', 'swapon', /size -1 is no size/, on('new', { size: -1 }));
    refused('EINVAL', 'swapon', /priority -1/, on('new', { size: '1M', priority: -1 }));
    refused('EINVAL', 'swapon', /no such option/, on('new', { sise: '1M' }));
    refused('EBUSY', 'swapon', /a: it is a swap area already/, on('a'));
    refused('EBUSY', 'swapon', /a swap area already/, on('a', { size: '2M' }));
    refused('EINVAL', 'swapon', /path: ''/, () => machine.swapon(''));
    refused('EINVAL', 'swapoff', /text: it is no swap area/, () => machine.swapoff(at('text')));
    refused('EINVAL', 'swapoff', /path: 3/, () => machine.swapoff(3 as never));
    assert.deepEqual(readdirSync(folder), before);
    assert.equal(statSync(at('a')).size, MEG);
    assert.equal(machine.swaps().length, 1);
    machine.check();
  });
  test('without permission', { skip: process.getuid?.() === 0 }, () => {
    const machine = begin();
    chmodSync(folder, 0o500);
    refused('EACCES', 'swapon', /no permission/, () => machine.swapon(at('a'), { size: '1M' }));
    chmodSync(folder, 0o700);
  });
});

// --- under load ---------------------------------------------------------------------------

const PAGE = 4096;
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
    const worker = new Worker(new URL('./swap.test.worker.ts', import.meta.url), { workerData });
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
test('pages that have no place to go to do not keep those of files in memory', () => {
  const machine = begin('4M', { 'vm.swap_default': 0 });
  const space = machine.space('s');
  const memory = space.mmap({ length: '1600K' });
  const own = memory.length / PAGE;
  for (let i = 0; i < own; i++) memory.setU32(i * PAGE, i + 1);
  writeFileSync(at('file'), Buffer.alloc(2 * 4 * MEG, 7)); // twice the memory
  const file = space.mmap({ file: at('file') });
  for (let i = 0; i < file.length / PAGE; i++) assert.equal(file.getU8(i * PAGE), 7);
  for (let i = 0; i < own; i++) assert.equal(memory.getU32(i * PAGE), i + 1);
  proved(machine);
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
