/*
 * Shows: with several threads in a machine that is full, and no swap area, the space that has most
 * pages pays: its access fails at once, with what holds the memory; accesses in other spaces wait,
 * go on when some is let go of, and fail after vm.oom_wait.  Nobody is killed, and nobody waits for
 * ever.
 * By what means: this thread, with most of the memory, and two workers that fill spaces of their
 * own; the walkers at the end.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Worker } from 'node:worker_threads';
import { test } from 'node:test';
import { until } from '../sys/machine/workers.test.lib.ts';
import { type Machine, type Region, withMachine } from './index.ts';
import { fails, spaces_gone } from './space.test.lib.ts';

const PAGE = 4096;
const FILE = new URL('./oom.test.worker.ts', import.meta.url);
const MEMORY = {
  memory: '2M',
  cpus: 4,
  pagedaemon: false,
  options: { INVARIANTS: true },
  set: { 'vm.swap_default': 0, 'vm.oom_wait': 60_000 },
} as const;
interface Filler {
  /** Pages written; refusals; tries that are allowed; 1: begin. */
  readonly words: Int32Array;
  readonly end: Promise<unknown>;
}
/** Two workers that have a page each, and wait until they are to begin. */
async function fillers(machine: Machine): Promise<Filler[]> {
  const all = ['a', 'b'].map((name) => {
    const words = new Int32Array(new SharedArrayBuffer(16));
    const workerData = { handle: machine.handle, name, pages: 100, words };
    const worker = machine.worker<Worker>(FILE, { workerData });
    return { words, end: once(worker, 'exit') };
  });
  await until(() => all.every(({ words }) => Atomics.load(words, 0) === 1), 'they are there');
  return all;
}
function tell(all: readonly Filler[], word: number): void {
  for (const { words } of all) {
    Atomics.store(words, word, 1);
    Atomics.notify(words, word);
  }
}
const stat = (machine: Machine, name: string): number =>
  Number(machine.sysctl(`vm.stats.vm.${name}`));
/** Writes to pages from `i` on until one is refused; how many were written. */
function fill(m: Region, i = 0): number {
  for (; ; i++) {
    try {
      m.setU32(i * PAGE, i + 1);
    } catch {
      return i;
    }
  }
}

test('the largest space fails at once, others wait until it lets go of some', async () => {
  await withMachine(MEMORY, async (machine) => {
    const all = await fillers(machine);
    const large = machine.space('large');
    const m = large.mmap({ length: '64M' });
    const got = fill(m);
    const waits = stat(machine, 'v_oom_waits');
    tell(all, 3);
    await until(() => stat(machine, 'v_oom_waits') > waits + 4, 'both wait, or one of them');
    const e = fails(() => m.setU32(got * PAGE, 1), 'ENOMEM', /pages in spaces: 0 wired/);
    assert.ok(e.holders?.some(({ name }) => name === 'large'));
    assert.deepEqual(
      all.map(({ words }) => words[1]),
      [0, 0],
      'no other one was refused',
    );
    large.destroy();
    await Promise.all(all.map(({ end }) => end));
    assert.deepEqual(
      all.map(({ words }) => [...words.subarray(0, 2)]),
      [
        [100, 0],
        [100, 0],
      ],
    );
    spaces_gone(machine);
  });
});
test('nobody waits longer than vm.oom_wait; afterwards all is as it was', async () => {
  await withMachine(MEMORY, async (machine) => {
    machine.sysctl('vm.oom_wait', 100);
    const all = await fillers(machine);
    const m = machine.space('large').mmap({ length: '64M' });
    const got = fill(m);
    tell(all, 3);
    await until(() => all.every(({ words }) => Atomics.load(words, 1) > 0), 'both fail');
    for (let i = 0; i < got; i++) assert.equal(m.getU32(i * PAGE), i + 1);
    // What is known of a full machine is no more true when a page can be had.
    m.advise('free');
    machine.sysctl('vm.oom_wait', 60_000); // a loaded host takes its time
    tell(all, 2);
    await Promise.all(all.map(({ end }) => end));
    for (const { words } of all) assert.deepEqual([words[0], words[1]], [100, 1]);
    assert.ok(fill(m) > 0);
    spaces_gone(machine);
  });
});
test('a look that found nothing is not made again, and is forgotten with a change', async () => {
  await withMachine(MEMORY, async (machine) => {
    const type = machine.type('held');
    const held = Array.from({ length: 200 }, () => type.alloc(2048));
    const space = machine.space('s');
    const m = space.mmap({ length: '64M' });
    const one = space.mmap({ length: PAGE });
    one.setU32(0, 1);
    let at = fill(m);
    const refused = (): unknown => fails(() => m.setU32(at * PAGE, 1), 'ENOMEM');
    refused();
    const looks = stat(machine, 'v_pdpages');
    for (let n = 0; n < 50; n++) refused();
    assert.equal(stat(machine, 'v_pdpages'), looks, 'no page was looked at');
    const changes: Record<string, () => void> = {
      'a page is free': () => one.unmap(),
      'what caches have can be had': () => {
        for (const block of held) type.free(block);
      },
      'contents may go': () => m.advise('free'),
    };
    for (const [what, change] of Object.entries(changes)) {
      change();
      const was = at;
      at = fill(m, at);
      assert.ok(at > was, what);
      refused();
    }
    m.advise('free');
    assert.equal(m.getU32(0), 0, 'what was given up and taken is zero');
    space.destroy();
    spaces_gone(machine);
  });
});
