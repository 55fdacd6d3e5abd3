/*
 * Shows: a space that is ten times as large as the memory is saved and loaded like any other, pages
 * in the swap area and in memory alike, while few are in memory; where the swap area cannot be
 * read, saving says so and leaves no file; what a space shows of files is saved as it is.
 * By what means: machines of some hundred pages with a swap area in a file; each word of a page
 * says which it is; each read of the area fails in turn.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, test } from 'node:test';
import { EIO } from '../sys/machine/errno.ts';
import { store_faults } from '../sys/machine/store_fault.ts';
import { boot, type Machine, type Region } from './index.ts';
import { fails, spaces_gone, vm_checks } from './space.test.lib.ts';
import { folderEnd, fresh } from './space_file.test.lib.ts';

after(folderEnd);
afterEach(() => {
  store_faults.next = null;
});
const PAGE = 4096;
function machine_with(memory: string, swap: string): Machine {
  const machine = boot({ memory, cpus: 2, options: { INVARIANTS: true, WITNESS: true } });
  machine.swapon(fresh(), { size: swap });
  return machine;
}
const word = (page: number): number => Math.imul(page + 1, 0x9e3779b1) | 0;
function fill(m: Region, pages: number): void {
  const bytes = new Int32Array(PAGE / 4);
  for (let p = 0; p < pages; p++) m.write(p * PAGE, bytes.fill(word(p)));
}
function check(m: Region, pages: number): void {
  const bytes = new Int32Array(PAGE / 4);
  for (let p = 0; p < pages; p++) {
    m.read(p * PAGE, bytes);
    assert.ok(
      bytes.every((w) => w === word(p)),
      `page ${p}: ${bytes[0]}`,
    );
  }
}
const used = (machine: Machine): number => machine.swaps().reduce((n, { used }) => n + used, 0);

test('ten times the memory: saved, and loaded in another machine', () => {
  const path = fresh();
  const pages = 2560; // 10 MiB
  for (const turn of ['saves', 'loads'] as const) {
    const machine = machine_with('1M', '24M');
    const space = machine.space('s');
    if (turn === 'saves') {
      fill(space.mmap({ name: 'm', length: pages * PAGE }), pages);
      assert.ok(used(machine) > pages * PAGE * 0.8, 'most is in the swap area');
      assert.equal(space.save(path).contents, pages * PAGE);
    } else space.load(path);
    check(space.region('m'), pages);
    vm_checks();
    spaces_gone(machine);
    assert.equal(used(machine), 0);
    machine.shutdown();
  }
});

test('a swap area that cannot be read: no file, and the next time it is saved', () => {
  const folder = fresh();
  mkdirSync(folder);
  const machine = machine_with('2M', '16M');
  const space = machine.space('s');
  const pages = 700;
  fill(space.mmap({ name: 'm', length: pages * PAGE }), pages);
  let refused = 0;
  let there: string[] = [];
  for (let n = 1; ; n *= 2) {
    let reads = 0;
    store_faults.next = (op) => {
      const fails = op === 'read' && ++reads === n;
      return fails ? { what: 'fail', errno: EIO } : null;
    };
    let failed = false;
    try {
      space.save(join(folder, 'file'));
    } catch (e) {
      store_faults.next = null;
      assert.match(String(e), /EIO: save: .*file: .*reading space 's'/);
      failed = true;
    }
    store_faults.next = null;
    if (failed) refused++;
    else there = ['file'];
    assert.deepEqual(readdirSync(folder), there);
    if (reads < n) break;
  }
  assert.ok(refused >= 3, `${refused} refused`);
  const again = machine.space('again');
  again.load(join(folder, 'file'));
  check(again.region('m'), pages);
  check(space.region('m'), pages);
  spaces_gone(machine);
  machine.shutdown();
});

test('what a space shows of files is saved as it is, and is memory when it is loaded', () => {
  const [file, path] = [fresh(), fresh()];
  const bytes = new Uint8Array(10_000).map((_, i) => i * 7);
  writeFileSync(file, bytes);
  const machine = machine_with('8M', '8M');
  const space = machine.space('s');
  const shared = space.mmap({ name: 'shared', file, write: true, shared: true });
  const mine = space.mmap({ name: 'private', file, write: true, shared: false });
  shared.setU8(5, 99);
  mine.setU8(6, 98);
  assert.equal(space.save(path).contents, 6 * PAGE);
  shared.setU8(5, 1);
  const again = machine.space('again');
  again.load(path);
  const want = Uint8Array.from(bytes);
  want[5] = 99;
  assert.deepEqual(again.region('shared').read(0, new Uint8Array(10_000)), want);
  want[6] = 98;
  assert.deepEqual(again.region('private').read(0, new Uint8Array(10_000)), want);
  again.region('shared').setU8(0, 55);
  assert.equal(shared.getU8(0), 0, 'it is no part of the file');
  vm_checks();
  spaces_gone(machine);
  machine.shutdown();
  fails(() => space.save(path), 'ESHUTDOWN');
});
