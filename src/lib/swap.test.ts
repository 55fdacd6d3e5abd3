/*
 * Shows: machine.swapon, swapoff, swaps as programs use them: what is wrong with a call is one
 * clear error and changes nothing.
 * By what means: files in a folder of the test.  Under load: swap_load.slow.test.ts.
 */
import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { EIO } from '../sys/machine/errno.ts';
import { store_fault_at, store_faults } from '../sys/machine/store_fault.ts';
import { boot, current, type Machine } from './index.ts';
import { fails } from './fails.test.lib.ts';

const MEG = 2 ** 20;
const PAGE = 4096;
/** More than the machine has. */
const PAGES = 1500;
let folder = '';
const at = (name: string): string => join(folder, name);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kmem-swap-test-'));
});
afterEach(() => {
  store_faults.next = null;
  current()?.shutdown();
  rmSync(folder, { recursive: true, force: true });
});
const begin = (set = {}): Machine => boot({ memory: '4M', cpus: 2, fresh: true, debug: true, set });

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
  test('an area is known by its file, also by a link, and where it was renamed to', () => {
    const machine = begin();
    for (const name of ['a', 'b', 'c']) machine.swapon(at(name), { size: '1M' });
    symlinkSync(at('a'), at('link'));
    machine.swapoff(at('link'));
    renameSync(at('b'), at('d'));
    writeFileSync(at('b'), 'another one');
    machine.swapoff(at('d'));
    renameSync(at('c'), at('b'));
    writeFileSync(at('c'), 'another one');
    assert.equal(machine.swaps().length, 1);
    machine.swapoff(at('c')); // the file there is none: by the path that it was opened by
    assert.deepEqual(machine.swaps(), []);
    refused('EINVAL', 'swapoff', /c: it is no swap area/, () => machine.swapoff(at('c')));
    machine.check();
  });
  test('a space says how it can be larger than the memory, or why not', () => {
    const machine = begin({ 'vm.swap_default': 0 });
    const space = machine.space('s');
    assert.deepEqual(space.swap, {
      kind: 'none',
      reason: 'vm.swap_default is 0: machine.swapon(path, { size })',
    });
    machine.sysctl('vm.swap_default', -1);
    assert.equal(space.swap.kind, 'file');
    assert.match(space.swap.reason, /made at first need/);
    machine.swapon(at('a'), { size: '1M' });
    assert.deepEqual(space.swap, {
      kind: 'file',
      reason: `1 swap areas of ${MEG - 2 * PAGE} bytes, ${MEG - 2 * PAGE} of them free`,
    });
    space.destroy();
    fails('ESTALE', () => space.swap);
  });
  test('metrics have the sums of all areas, and what moved', () => {
    const machine = begin();
    const figure = (name: string): number =>
      machine.metrics().find((m) => m.name === `kmem_${name}`)?.values[0].value ?? -1;
    assert.deepEqual(
      ['size', 'used', 'bad'].map((of) => figure(`swap_${of}_bytes`)),
      [0, 0, 0],
    );
    for (const name of ['a', 'b']) machine.swapon(at(name), { size: '8M' });
    const space = machine.space('s');
    const m = space.mmap({ length: PAGES * PAGE });
    for (let i = 0; i < PAGES; i++) m.setU32(i * PAGE, i + 1);
    for (let i = 0; i < PAGES; i++) assert.equal(m.getU32(i * PAGE), i + 1);
    assert.equal(figure('swap_size_bytes'), 16 * MEG - 4 * PAGE);
    assert.equal(figure('swap_used_bytes'), Number(machine.sysctl('vm.swap_used')));
    assert.ok(figure('swap_used_bytes') > 0);
    assert.equal(figure('swap_bad_bytes'), 0);
    const moved = (of: string): number => Number(machine.sysctl(`vm.stats.vm.${of}`));
    assert.equal(figure('swap_written_bytes_total'), moved('v_swappgsout') * PAGE);
    assert.equal(figure('swap_read_bytes_total'), moved('v_swappgsin') * PAGE);
    assert.ok(figure('swap_read_bytes_total') > 0);
    assert.equal(figure('page_faults_total'), moved('v_vm_faults'));
    space.destroy();
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
test('swapoff: a page cannot be read, or not be written elsewhere: nothing is lost', () => {
  const machine = begin();
  machine.swapon(at('a'), { size: '8M' });
  const space = machine.space('s');
  const m = space.mmap({ length: PAGES * PAGE });
  for (let i = 0; i < PAGES; i++) m.setU32(i * PAGE + 4, i + 1);
  machine.swapon(at('b'), { size: '8M', priority: 9 });
  const used = (): number => machine.swaps()[0].used;
  assert.ok(used() > MEG);
  for (const n of [1, 2, 7, 30]) {
    store_fault_at('read', n, { what: 'fail', errno: EIO });
    refused('EIO', 'swapoff', /a: a page of it cannot be read: it stays/, () => {
      machine.swapoff(at('a'));
    });
    store_faults.next = null;
    assert.equal(machine.swaps()[0].closing, false);
    machine.check();
  }
  let failed = 0;
  store_faults.next = (op) => {
    return op === 'write' && failed++ < 3 ? { what: 'fail', errno: EIO } : null;
  };
  machine.swapoff(at('a'));
  store_faults.next = null;
  const [{ path, bad }, ...others] = machine.swaps();
  assert.deepEqual([path, others], [at('b'), []]);
  assert.ok(bad > 0);
  for (let i = 0; i < PAGES; i++) assert.equal(m.getU32(i * PAGE + 4), i + 1);
  machine.check();
  space.destroy();
  assert.equal(used(), 0);
  machine.check();
});
test('pages that have no place to go to do not keep those of files in memory', () => {
  const machine = begin({ 'vm.swap_default': 0 });
  const space = machine.space('s');
  const memory = space.mmap({ length: '1600K' });
  const own = memory.length / PAGE;
  for (let i = 0; i < own; i++) memory.setU32(i * PAGE, i + 1);
  writeFileSync(at('file'), Buffer.alloc(2 * 4 * MEG, 7)); // twice the memory
  const file = space.mmap({ file: at('file') });
  for (let i = 0; i < file.length / PAGE; i++) assert.equal(file.getU8(i * PAGE), 7);
  for (let i = 0; i < own; i++) assert.equal(memory.getU32(i * PAGE), i + 1);
  machine.swapon(at('a'), { size: '1M' });
  machine.swapoff(at('a')); // memory is full; but nothing is to come from there
  machine.check();
});
test('what others cut off a swap file is an error where it is used, and never zeros', () => {
  const machine = begin();
  machine.swapon(at('a'), { size: '16M' });
  const space = machine.space('s');
  const m = space.mmap({ length: '8M' });
  const pages = m.length / PAGE;
  for (let i = 0; i < pages; i++) m.setU32(i * PAGE, i + 1);
  truncateSync(at('a'), 16 * PAGE);
  let errors = 0;
  for (let i = 0; i < pages; i++) {
    try {
      assert.equal(m.getU32(i * PAGE), i + 1); // it makes others go out, which have no place now
    } catch (e) {
      assert.equal((e as { code?: string }).code, 'EIO');
      errors++;
    }
  }
  assert.ok(errors > 0);
  fails('EIO', () => space.save(at('saved')));
  assert.ok(!existsSync(at('saved')));
  space.destroy();
  machine.swapoff(at('a'));
  machine.check();
});
