/*
 * The threads of slots.slow.test.ts.
 */
import fs, { closeSync, openSync } from 'node:fs';
import { parentPort, threadId, workerData } from 'node:worker_threads';
import { attach, boot, type Machine } from '../../src/lib/index.ts';
import type { Handle } from '../../src/sys/machine/machdep.ts';
import { machine_find, machine_freeze } from '../../src/sys/machine/machdep.ts';
import { thr } from '../../src/sys/machine/cpu.ts';
import { slot_take, slot_take_spare } from '../../src/sys/machine/cpu_slots.ts';
import { type Line, life } from '../../src/sys/machine/life.ts';
import { vm_page_get } from '../../src/sys/page/vm_page_cache.ts';

interface Data {
  readonly job: string;
  readonly handle: Handle;
  /** owner[cpu]: the thread that is that CPU, 0: none; the tests' own book. */
  readonly owner: Int32Array;
  readonly rounds: number;
}
const { job, handle, owner, rounds } = workerData as Data;
const say = (what: unknown): void => parentPort?.postMessage(what);
const wait = (ms: number): void =>
  void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);

/** Joins and leaves; no slot may be another thread's meanwhile. */
function churn(): void {
  let twice = 0;
  let full = 0;
  for (let i = 0; i < rounds; i++) {
    let m: Machine;
    try {
      m = attach(handle);
    } catch (e) {
      if ((e as { code?: string }).code !== 'EAGAIN') throw e;
      full++;
      continue;
    }
    if (Atomics.compareExchange(owner, m.cpu, 0, threadId) !== 0) twice++;
    if (i % 4 === 0) {
      const t = m.type('churn');
      t.free(t.alloc(40));
    }
    if (Atomics.compareExchange(owner, m.cpu, threadId, 0) !== threadId) twice++;
    m.detach();
  }
  say({ twice, full });
}
/** Attaches to whatever machine lies in the memory now, over and over. */
function chase(): void {
  const now = owner; // [0] id, [1] generation, [2] stop, [3] attached, [4] to another generation
  while (Atomics.load(now, 2) === 0) {
    const h = { ...handle, id: Atomics.load(now, 0), generation: Atomics.load(now, 1) };
    try {
      const m = attach(h);
      now[3]++;
      if (m.handle.generation !== h.generation || m.handle.id !== h.id) now[4]++;
      m.detach();
    } catch (e) {
      if (!/EINVAL|ESHUTDOWN|EAGAIN/.test(String((e as { code?: string }).code))) throw e;
    }
  }
  say('over');
}
const jobs: Record<string, () => void> = {
  churn,
  chase,
  /** Becomes a CPU and stays one. */
  stay() {
    const m = attach(handle);
    say(m.cpu);
    parentPort?.on('message', () => {});
  },
  /** Takes a slot, and is stopped before it has written anything of itself. */
  take() {
    machine_freeze();
    machine_find(handle);
    const taken = slot_take(handle.generation);
    say(taken?.cpu);
    wait(rounds);
    say('still');
    parentPort?.on('message', () => {}); // until it is killed
  },
  /** Takes a spare slot, and is stopped there. */
  'take spare'() {
    machine_freeze();
    machine_find(handle);
    say(slot_take_spare(handle.generation)?.cpu);
    parentPort?.on('message', () => {}); // until it is killed
  },
  /** Attaches, and is stopped in a line of the death tables, on a spare slot. */
  'die settling'() {
    const lockless = rounds < life.death_lockless.length;
    const table = (lockless ? life.death_lockless : life.death) as Line<[number]>[];
    const dies = (): void => {
      if (!lockless) vm_page_get(0);
      say(thr.cpu);
      wait(60_000);
      throw new Error('it should be dead');
    };
    table[lockless ? rounds : rounds - life.death_lockless.length] = [dies, 'it dies here'];
    attach(handle);
  },
  /** Attaches, and is stopped in the middle of looking who is gone. */
  'die looking'() {
    fs.statSync = ((): never => {
      say('looking');
      wait(60_000);
      throw new Error('it should be dead');
    }) as unknown as typeof fs.statSync;
    attach(handle);
  },
  /** Takes the lock and keeps it for a while, computing. */
  hold() {
    const m = attach(handle);
    const lock = m.mutex('held').lock();
    say('held');
    const end = Date.now() + rounds;
    while (Date.now() < end);
    lock[Symbol.dispose]();
    m.type('x').free(m.type('x').alloc(10));
    say('released');
    parentPort?.on('message', () => {});
  },
  /** Boots the memory it was in before, at the same time as another thread. */
  reboot() {
    const m = attach(handle);
    say(m.cpu);
    Atomics.wait(owner, 0, 0);
    m.detach();
    const mine = boot({ memory: '4M', cpus: 3 });
    const t = mine.type('mine');
    for (let i = 0; i < rounds; i++) t.free(t.alloc(100 + (i % 5000)));
    mine.check();
    say({ shared: mine.handle.memory, inUse: t.stats.inUse });
    mine.shutdown();
  },
  /** Joins where no descriptor is left. */
  poor() {
    const fds: number[] = [];
    try {
      for (;;) fds.push(openSync('/dev/null', 'r'));
    } catch {
      // none is left
    }
    let got: string;
    try {
      const m = attach(handle);
      m.type('poor').free(m.type('poor').alloc(100));
      got = `cpu ${m.cpu}`;
    } catch (e) {
      got = (e as Error).message;
    }
    for (const fd of fds) closeSync(fd);
    say(got);
    parentPort?.on('message', () => {});
  },
};
jobs[job]();
