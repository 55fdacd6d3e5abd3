/* super: a second thread in the space of super.slow.test.ts: it does what it is told to. */
import { parentPort, workerData } from 'node:worker_threads';
import { attach } from './index.ts';

const PAGE = 4096;
const machine = attach(workerData);
const m = machine.space('s').region('m');

/** The first word of a page, or why it cannot be read. */
function look(page: number): number | string {
  try {
    return m.getU32(page * PAGE);
  } catch (e) {
    return (e as { reason?: string }).reason ?? String(e);
  }
}
/** Stores it: '' or why it cannot be. */
function store(page: number, value: number): string {
  try {
    m.setU32(page * PAGE, value);
    return '';
  } catch (e) {
    return (e as { reason?: string }).reason ?? String(e);
  }
}
/** Counts words of its own up, a page each, in any order. How many were not as it left them. */
function count(id: number, rounds: number): number {
  const pages = m.length / PAGE;
  const left = new Uint32Array(pages);
  let wrong = 0;
  for (let n = 0, x = id; n < rounds; n++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    // Runs of pages in order, so that superpages fill, and jumps.
    const page = (x >>> 8) % pages;
    for (let p = page; p < pages && p < page + (x & 127); p++) {
      const at = p * PAGE + id * 4;
      if (m.getU32(at) !== left[p]) wrong++;
      m.setU32(at, ++left[p]);
    }
  }
  return wrong;
}
interface Task {
  look?: number[];
  store?: number;
  value?: number;
  count?: number;
  rounds?: number;
}
parentPort?.on('message', (job: Task) => {
  if (job.count !== undefined) parentPort?.postMessage(count(job.count, job.rounds ?? 0));
  else if (job.look) parentPort?.postMessage(job.look.map(look));
  else if (job.store !== undefined) parentPort?.postMessage(store(job.store, job.value ?? 0));
  else {
    machine.detach();
    parentPort?.close();
  }
});
parentPort?.postMessage('up');
