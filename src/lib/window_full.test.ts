/*
 * Shows: where the memory is full of pages that may go, a window gets its run of pages all the
 * same: of a file, and of memory that lies in the swap area; what is stored through windows, by
 * two threads at a time, is there afterwards.
 * By what means: a machine of 2 MiB, and twice as much mapped; all of it is used page by page
 * before, so that free pages are few and lie apart; the walkers afterwards.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { type Machine, type Region, withMachine } from './index.ts';
import { spaces_gone } from './space.test.lib.ts';

const WORKER = new URL('./window_full.test.worker.ts', import.meta.url);
const FOLDER = mkdtempSync(join(tmpdir(), 'kmem-windows-'));
after(() => rmSync(FOLDER, { recursive: true, force: true }));
const PAGE = 4096;
const PAGES = 1024;
const OPTIONS = { INVARIANTS: true, WITNESS: true } as const;
const MEMORY = { memory: '2M', cpus: 4, options: OPTIONS } as const;

/** Uses each page once, in an order in which neighbours are far apart. */
function used(m: Region, store: boolean): void {
  for (let k = 0; k < PAGES; k++) {
    const p = (k * 421) % PAGES;
    if (store) m.setU32(p * PAGE, p);
    else assert.equal(m.getU32(p * PAGE), p);
  }
}
/** Counts a word of each page up, through windows. */
function up_by_one(m: Region, pages: number): void {
  let p = 0;
  for (const w of m.windows({ size: pages * PAGE, write: true })) {
    for (let at = 0; at < w.u32.length; at += PAGE / 4) w.u32[at + 1]++;
    p += w.u32.length / (PAGE / 4);
  }
  assert.equal(p, PAGES);
}
function numbered(): string {
  const path = join(FOLDER, 'numbered');
  const words = new Uint32Array((PAGES * PAGE) / 4);
  for (let p = 0; p < PAGES; p++) words[(p * PAGE) / 4] = p;
  writeFileSync(path, words);
  return path;
}
function counted(word: (i: number) => number, times: number): void {
  for (let p = 0; p < PAGES; p++) {
    const i = (p * PAGE) / 4;
    if (word(i) !== p || word(i + 1) !== times) {
      assert.deepEqual([word(i), word(i + 1)], [p, times], `page ${p}`);
    }
  }
}
const SIZES = [1, 16, 28]; // vm.window_max is 29 here
test('of a file', () =>
  withMachine(MEMORY, (machine) => {
    const path = numbered();
    const m = machine.space('s').mmap({ file: path, write: true });
    for (const pages of SIZES) {
      used(m, false);
      up_by_one(m, pages);
    }
    m.sync();
    const words = new Uint32Array(Uint8Array.from(readFileSync(path)).buffer);
    counted((i) => words[i], SIZES.length);
    m.unmap();
    spaces_gone(machine);
  }));
test('of memory that lies in the swap area', () =>
  withMachine(MEMORY, (machine) => {
    machine.swapon(join(FOLDER, 'swap'), { size: '12M' });
    const m = machine.space('s').mmap({ length: PAGES * PAGE });
    used(m, true);
    for (const pages of SIZES) {
      used(m, false);
      up_by_one(m, pages);
    }
    counted((i) => m.getU32(i * 4), SIZES.length);
    m.unmap();
    spaces_gone(machine);
  }));
test('of two threads at a time', () =>
  withMachine(MEMORY, async (machine: Machine) => {
    machine.swapon(join(FOLDER, 'swap 2'), { size: '12M' });
    const m = machine.space('s').mmap({ name: 'm', length: PAGES * PAGE });
    used(m, true);
    const workers = [0, 1].map((id) =>
      machine.worker<Worker>(WORKER, { workerData: { id, rounds: SIZES.length } }),
    );
    const ends = await Promise.all(workers.map((w) => once(w, 'exit')));
    assert.deepEqual(ends, [[0], [0]]);
    counted((i) => m.getU32(i * 4), SIZES.length);
    m.unmap();
    spaces_gone(machine);
  }));
test('of a checked machine, in which each field is read with its lock', () =>
  withMachine({ memory: '2M', cpus: 4, checked: true }, (machine) => {
    machine.swapon(join(FOLDER, 'swap 3'), { size: '12M' });
    const m = machine.space('s').mmap({ length: PAGES * PAGE });
    used(m, true);
    let n = 0;
    for (const w of m.windows({ size: 16 * PAGE, length: 64 * PAGE }))
      n += w.u32[0] === n * 16 ? 1 : 0;
    assert.equal(n, 4);
    m.unmap();
    spaces_gone(machine);
  }));
