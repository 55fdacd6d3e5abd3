/*
 * A program for memory_source.slow.test.ts: a machine for each argument (how its atomic operations
 * are done), the first in the main thread, the others in workers, each with two threads that have
 * allocated and stand still.  It says what vmstat says of each, and then the main thread computes.
 * The others wait, because all that compute would keep the test's own processor from it.
 */
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { attach, boot, type BootOptions, type Handle } from '../../lib/index.ts';

type Atomics_ = NonNullable<BootOptions['atomics']>;
const here = fileURLToPath(import.meta.url);
interface Start {
  readonly atomics?: Atomics_;
  readonly kmem?: Handle;
  readonly n?: number;
}
/** Allocates, and says so by a root. */
function work({ kmem, n = 0 }: Start): void {
  const machine = attach({ kmem: kmem as Handle });
  const type = machine.type(`work ${n}`);
  for (let i = 1; i < 200; i++) type.alloc(i * 17);
  machine.zone('conn', { size: 96 }).alloc();
  machine.roots.set(`done ${n}`, 1);
  forever();
}
/** This thread's event loop runs no more. */
function forever(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}
async function machine_of(atomics: Atomics_): Promise<{ id: string; m: string; z: string }> {
  const machine = boot({ memory: '8M', cpus: 4, atomics });
  machine.type('main').alloc(5000);
  const workers = [0, 1].map((n) => {
    const worker = new Worker(here, { workerData: { kmem: machine.handle, n } });
    worker.on('error', (e) => console.error(e));
    return worker;
  });
  for (const n of workers.keys()) {
    while (machine.roots.get(`done ${n}`) !== 1) await new Promise((r) => setTimeout(r, 2));
  }
  const id = (machine.handle.id >>> 0).toString(16);
  return { id, m: machine.vmstat('m'), z: machine.vmstat('z') };
}

if (isMainThread) {
  const [first, ...more] = process.argv.slice(2) as Atomics_[];
  const all = [await machine_of(first)];
  for (const atomics of more) {
    const worker = new Worker(here, { workerData: { atomics } });
    all.push((await once(worker, 'message'))[0]);
  }
  process.stdout.write(`${JSON.stringify(all)}\n`, () => {
    for (;;);
  });
} else {
  const start = workerData as Start;
  if (start.kmem) work(start);
  parentPort?.postMessage(await machine_of(start.atomics ?? 'auto'));
  setTimeout(forever, 10); // once it is posted
}
