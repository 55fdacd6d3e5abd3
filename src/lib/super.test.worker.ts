/* super: a second thread in the space of super.test.ts: it reads and writes what it is told to. */
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
parentPort?.on('message', (job: { look?: number[]; store?: number; value?: number }) => {
  if (job.look) parentPort?.postMessage(job.look.map(look));
  else if (job.store !== undefined) parentPort?.postMessage(store(job.store, job.value ?? 0));
  else {
    machine.detach();
    parentPort?.close();
  }
});
parentPort?.postMessage('up');
