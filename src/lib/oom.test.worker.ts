/*
 * A thread of oom.test.ts: it writes to the pages of a region of its own, one after another, and
 * says how many it has written; where one is refused it waits until it is told to try again.
 */
import { workerData } from 'node:worker_threads';
import { attach, type Handle, KmemError } from './index.ts';

interface Task {
  readonly handle: Handle;
  readonly name: string;
  readonly pages: number;
  /** Pages written; refusals; tries that are allowed beside the first; 1: begin. */
  readonly words: Int32Array;
}
const { handle, name, pages, words } = workerData as Task;
const machine = attach(handle);
const m = machine.space(name).mmap({ length: pages * 4096 });
m.setU32(0, 1);
Atomics.store(words, 0, 1);
machine.away(() => Atomics.wait(words, 3, 0));
for (let i = 1; i < pages; ) {
  try {
    m.setU32(i * 4096, i + 1);
    Atomics.store(words, 0, ++i);
  } catch (e) {
    if (!(e instanceof KmemError) || e.code !== 'ENOMEM') throw e;
    const refused = Atomics.add(words, 1, 1) + 1;
    machine.away(() => {
      while (Atomics.load(words, 2) < refused) Atomics.wait(words, 2, refused - 1);
    });
  }
}
for (let i = 0; i < pages; i++) if (m.getU32(i * 4096) !== i + 1) throw new Error(`page ${i}`);
machine.space(name).destroy();
machine.detach();
