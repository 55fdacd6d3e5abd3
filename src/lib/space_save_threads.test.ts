/*
 * Shows: while threads write to a space, each file that it is saved to, by itself or as a fork, by
 * one thread or several, is of one moment; a process that comes later reads it; a thread that is
 * killed while it saves or loads leaves nothing in the machine, no space half loaded, and no
 * file that is taken for one.
 * By what means: workers that write to one page after another without a stop, and are seen
 * between two of their stores; a process of its own that loads the files; workers that are
 * killed at any moment; the walkers, and an account of all pages and items, afterwards.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { ALL_WAYS, SEED } from '../sys/machine/seed.test.lib.ts';
import { type Machine, withMachine } from './index.ts';
import { between_stores, PAGES, REGION, spaces_gone, vm_checks } from './space.test.lib.ts';
import { folderEnd, fresh } from './space_file.test.lib.ts';

after(folderEnd);
const FILE = new URL('./space_threads.test.worker.ts', import.meta.url);
const SAVER = new URL('./space_save_threads.test.worker.ts', import.meta.url);
const PROGRAM = fileURLToPath(new URL('./space_save_threads.test.program.ts', import.meta.url));
const MEMORY = { memory: '32M', cpus: 8, options: { INVARIANTS: true } } as const;
const IDS = [0, 1, 2];

async function writers(machine: Machine): Promise<Worker[]> {
  const all: Worker[] = [];
  for (const id of IDS) {
    const worker = machine.worker<Worker>(FILE, { workerData: { job: 'rounds', id } });
    await once(worker, 'message');
    all.push(worker);
  }
  const m = machine.space('s').region('m');
  while (!IDS.every((id) => m.getU32((PAGES - 1) * 4096 + id * 4) > 0)) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return all;
}
/** Throws unless each thread is seen between two stores, and is never behind `before`. */
function of_one_moment(words: readonly (readonly number[])[], before: number[]): void {
  for (const [id, seen] of words.entries()) {
    const from = seen.findIndex((v) => v !== seen[0]);
    const rest = from < 0 ? [] : seen.slice(from);
    assert.ok(
      rest.every((v) => v === seen[0] - 1),
      `thread ${id}: ${seen.join(' ')}`,
    );
    assert.ok(seen[0] >= before[id], `thread ${id}: ${seen[0]} after ${before[id]}`);
    before[id] = seen[0];
  }
}

test('each file is of one moment, and a fresh process reads it', async () => {
  const folder = fresh();
  mkdirSync(folder);
  const files: string[] = [];
  await withMachine(MEMORY, async (machine) => {
    const space = machine.space('s');
    space.mmap(REGION);
    const workers = await writers(machine);
    const how = { wait: 60_000 };
    for (let i = 0; i < (ALL_WAYS ? 12 : 6); i++) {
      const path = join(folder, `file ${i}`);
      if (i % 3 === 0) await space.saveAsync(path, how);
      else if (i % 3 === 1) space.save(path, how);
      else {
        const snap = await space.forkAsync('snap', how);
        const m = snap.region('m');
        const seen = IDS.map((id) => m.getU32(id * 4));
        await snap.saveAsync(path, how);
        const again = machine.space('again');
        again.load(path);
        const copy = again.region('m');
        for (const id of IDS) between_stores(copy, id);
        assert.deepEqual(
          IDS.map((id) => copy.getU32(id * 4)),
          seen,
          'of the moment of the fork',
        );
        again.destroy();
        snap.destroy();
      }
      files.push(path);
    }
    await Promise.all(workers.map((w) => w.terminate()));
    spaces_gone(machine);
  });
  assert.deepEqual(readdirSync(folder).sort(), files.map((f) => f.slice(folder.length + 1)).sort());
  const said = execFileSync(process.execPath, [PROGRAM, `${IDS.length}`, ...files], {
    encoding: 'utf8',
  });
  const lines = said.trim().split('\n');
  assert.equal(lines.length, files.length);
  const before = IDS.map(() => 0);
  for (const line of lines) of_one_moment(JSON.parse(line).words, before);
});

test('several threads save at once, and load into one space: one of them does', async () => {
  await withMachine(MEMORY, async (machine) => {
    const space = machine.space('s');
    space.mmap(REGION);
    const workers = await writers(machine);
    const folder = fresh();
    mkdirSync(folder);
    const savers = [0, 1].map((id) => {
      const workerData = { job: 'saves', id, folder, rounds: 6 };
      return machine.worker<Worker>(SAVER, { workerData });
    });
    const said = await Promise.all(savers.map(async (w) => (await once(w, 'message'))[0]));
    const [a, b] = said as { loaded: number; occupied: number }[];
    assert.equal(a.loaded + b.loaded + a.occupied + b.occupied, 12);
    assert.ok(a.loaded + b.loaded >= 1);
    assert.deepEqual(readdirSync(folder).sort(), ['common', 'own 0', 'own 1']);
    await Promise.all([...workers, ...savers].map((w) => w.terminate()));
    const last = machine.space('last');
    last.load(join(folder, 'common'));
    for (const id of IDS) between_stores(last.region('m'), id);
    spaces_gone(machine);
  });
});

test('threads that are killed while they save and load leave nothing, and no half', async () => {
  await withMachine(MEMORY, async (machine) => {
    machine.space('s').mmap(REGION);
    const workers = await writers(machine);
    const folder = fresh();
    mkdirSync(folder);
    for (let n = 0; n < (ALL_WAYS ? 12 : 6); n++) {
      const workerData = { job: 'for ever', id: 0, folder, rounds: 0 };
      const worker = machine.worker<Worker>(SAVER, { workerData });
      await once(worker, 'message');
      await new Promise((resolve) => setTimeout(resolve, 1 + ((SEED + n * 7) % 23)));
      await worker.terminate();
      const target = machine.space('target');
      const regions = target.regions();
      assert.ok(regions.length === 0 || regions.length === 1, `${regions.length}`);
      if (regions.length === 1) for (const id of IDS) between_stores(target.region('m'), id);
      target.destroy({ wait: 60_000 });
    }
    await Promise.all(workers.map((w) => w.terminate()));
    machine.space('s').save(join(folder, 'last'));
    for (const name of readdirSync(folder)) {
      const space = machine.space('file');
      assert.ok(
        !name.endsWith('.part'),
        `${name}: its thread is gone, and the next to save saw it`,
      );
      space.load(join(folder, name));
      space.destroy();
    }
    spaces_gone(machine);
    vm_checks();
  });
});
