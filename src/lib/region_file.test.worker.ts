/* A worker of region_file.test.ts: attaches, maps the file of its path and does its job. */
import { parentPort, workerData } from 'node:worker_threads';
import { attach, KmemError, type Machine, type Region } from './index.ts';
import { store_faults } from '../sys/machine/store_fault.ts';
import { DONE, PAGES, SLOW_MS } from './region_file.test.lib.ts';

interface Start {
  readonly job: keyof typeof jobs;
  readonly path: string;
  readonly id: number;
}
const PAGE = 4096;
const pages = (m: Region): number => m.length / PAGE;

const jobs = {
  /** Writes its word of each page, and waits for that of the other thread. */
  words(machine: Machine, { path, id }: Start): void {
    const m = machine.space(`own ${id}`).mmap({ file: path, write: true });
    for (let p = 0; p < pages(m); p++) {
      m.setU32(p * PAGE + id * 4, p + 1);
      while (m.getU32(p * PAGE + (1 - id) * 4) !== p + 1);
    }
    m.sync();
    parentPort?.postMessage('done');
    machine.detach();
  },
  /** Writes a word of each page and goes on for ever. */
  store(machine: Machine, { path }: Start): void {
    const m = machine.space('w').mmap({ file: path, write: true });
    for (let p = 0; p < pages(m); p++) m.setU32(p * PAGE, p + 7);
    parentPort?.postMessage('stored');
    for (;;) m.setU32(4, m.getU32(4) + 1);
  },
  /** Reads a page by way of a store that takes its time, and says when it is about to, and did. */
  slow(machine: Machine, { path, id }: Start): void {
    const m = machine.space(`own ${id}`).mmap({ file: path });
    const flags = machine.space('flags').mmap(DONE);
    if (id === 0)
      store_faults.next = (op) => (op === 'read' ? { what: 'slow', ms: SLOW_MS } : null);
    parentPort?.postMessage('up');
    flags.setU32(id * 4, 1);
    flags.setU32(64 + id * 4, m.getU8(9));
    flags.setU32(id * 4, 2);
    parentPort?.postMessage('read');
    machine.detach();
  },
  /**
   * Counts its word of each page up, in a file, and notes in memory how far it came; syncs, opens
   * windows, maps the file anew; cuts another file and makes it longer: for ever.
   */
  mixed(machine: Machine, { path, id }: Start): void {
    const done = machine.space('done').mmap(DONE);
    const space = machine.space(`own ${id}`);
    parentPort?.postMessage('up');
    for (let round = 0; ; round++) {
      const m = space.mmap({ file: path, write: true });
      for (let k = 0; k < 4; k++) {
        const p = (round * 7 + k * 5) % PAGES;
        const at = p * PAGE + id * 4;
        const next = done.getU32(at) + 1;
        if (round % 4 === 3) {
          using w = m.window(p * PAGE, PAGE, { write: true, wait: true });
          w.u32[id] = next;
        } else m.setU32(at, next);
        done.setU32(at, next);
      }
      if (round % 3 === 0) m.sync({ wait: false, invalidate: round % 6 === 0 });
      const other = space.mmap({ file: `${path}.cut`, write: true, length: PAGES * PAGE });
      tried(() => other.setU32(((round * 3) % PAGES) * PAGE, round));
      if (round % 4 === 1) tried(() => other.lock(0, (1 + (round % 9)) * PAGE));
      tried(() => other.truncate((1 + (round % PAGES)) * PAGE - 100));
      if (round % 5 === 0) tried(() => other.sync({ wait: false }));
      tried(() => void other.getU8((round % PAGES) * PAGE));
      other.unmap();
      m.unmap();
    }
  },
};
/** Errors that a thread may see whose file others cut. */
function tried(run: () => void): void {
  try {
    run();
  } catch (e) {
    if (!(e instanceof KmemError) || !['EFAULT', 'EBUSY', 'ENOMEM', 'EAGAIN'].includes(e.code))
      throw e;
  }
}
const start = workerData as Start;
jobs[start.job](attach(workerData), start);
