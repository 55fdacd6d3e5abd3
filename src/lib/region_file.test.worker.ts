/* A worker of region_file.test.ts: attaches, maps the file of its path and does its job. */
import { parentPort, workerData } from 'node:worker_threads';
import { attach, type Machine, type Region } from './index.ts';

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
};
const start = workerData as Start;
jobs[start.job](attach(workerData), start);
