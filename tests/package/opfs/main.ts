/*
 * A page with a machine whose swap area is a file of the browser.  Two workers use it; the page's
 * own thread, which may not wait, asks too, and has pages brought in for it.
 */
import { boot, type Machine } from '../../../src/lib/index.ts';
import type { vm_store_t } from '../../../src/sys/h/vm_store.ts';
import { vm_store_size } from '../../../src/sys/object/vm_store.ts';
import { opfs_there } from '../../../src/sys/object/store_post.ts';
import { spaces_check } from '../../../src/sys/client/kern_space_check.ts';

const PAGE = 4096;
interface PageThread {
  onmessage: ((e: { data: unknown }) => void) | null;
  onerror: ((e: { message: string }) => void) | null;
  postMessage(job: object): void;
}
declare const Worker: new (file: URL, options: { type: 'module' }) => PageThread;
interface PageElement {
  textContent: string;
}
declare const document: {
  body: { dataset: Record<string, string> };
  getElementById(id: string): PageElement;
};

function finish(state: string, summary: string, report: object): void {
  document.getElementById('summary').textContent = summary;
  document.getElementById('report').textContent = JSON.stringify(report);
  document.body.dataset.state = state;
}
/** Two workers: each joins the machine for a job, and leaves it again. */
const workers = [0, 1].map(
  () => new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' }),
);
/** A worker does a job. */
function run(worker: PageThread, job: object): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data as Record<string, unknown>);
    worker.onerror = (e) => reject(new Error(e.message));
    worker.postMessage(job);
  });
}
/** This thread reads pages here and there that lie in the swap area; each says which it is. */
async function look(machine: Machine): Promise<{ told: number; wrong: number; kind: string }> {
  const m = machine.space('large').region('all');
  let [told, wrong] = [0, 0];
  for (let i = 5; i < m.length / PAGE; i += 151) {
    for (;;) {
      try {
        if (m.getU32(i * PAGE + 16) !== i * 3 + 1) wrong++;
        break;
      } catch (e) {
        if ((e as { code?: string }).code !== 'EAGAIN') throw e;
        told++;
        await m.ready(i * PAGE, PAGE);
      }
    }
  }
  const w = await m.windowAsync(77 * PAGE, 4 * PAGE);
  for (let k = 0; k < 4; k++) if (w.u32[k * 1024 + 4] !== (77 + k) * 3 + 1) wrong++;
  w.close();
  return { told, wrong, kind: machine.space('large').swap.kind };
}
try {
  const machine = boot({ memory: '8M', cpus: 6, opfs: true, debug: true });
  while (!opfs_there()) await new Promise((resolve) => setTimeout(resolve, 5));
  const { handle } = machine;
  const [one, other] = workers;
  const made = await run(one, { handle, job: 'make' });
  const s = made.store as vm_store_t;
  const used = workers.map((worker, me) => run(worker, { handle, job: 'use', me, s }));
  const [a, b] = await Promise.all(used);
  const here = vm_store_size(s);
  const ended = await run(other, { handle, job: 'end', s });
  const large = await run(one, { handle, job: 'large' });
  const page = await look(machine);
  const again = await run(other, { handle, job: 'look' });
  spaces_check();
  machine.shutdown();
  finish('done', '', { made, a, b, here, ended, large, page, again });
} catch (e) {
  finish('failed', String((e as Error).stack ?? e), {});
}
