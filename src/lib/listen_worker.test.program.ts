/*
 * A program for listen_worker.test.ts: its control socket is served by a thread of its own.
 *
 *      stuck     allocates, and never comes back to its event loop
 *      two       the same, and a worker with a machine of its own does, too
 *      down      a worker ends the machine, while this thread is stuck
 *      ends      has nothing more to do
 *      exits     calls process.exit()
 */
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { attach, boot, type Handle } from './index.ts';

const [, , does] = process.argv;
const here = fileURLToPath(import.meta.url);
function forever(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}
async function start(n: number): Promise<{ path: string; m: string; handle: Handle }> {
  const machine = boot({ memory: '8M', cpus: 4 });
  const type = machine.type(`of thread ${n}`);
  for (let i = 1; i < 50; i++) type.alloc(i * 40);
  const { path } = await machine.listen({ worker: true });
  return { path, m: machine.vmstat('m'), handle: machine.handle };
}

if (isMainThread) {
  const { path, m, handle } = await start(0);
  if (does === 'two') await once(new Worker(here, { workerData: 1, argv: [does] }), 'message');
  if (does === 'down') new Worker(here, { workerData: handle, argv: [does] });
  process.stdout.write(`${JSON.stringify({ path, m })}\n`, () => {
    if (does === 'exits') process.exit();
    while (does !== 'ends');
  });
} else if (does === 'down') {
  // The socket is there until the thread that serves it has seen the end.
  const machine = attach(workerData as Handle);
  setTimeout(() => machine.shutdown(), 500);
} else {
  await start(workerData as number);
  parentPort?.postMessage('up');
  setTimeout(forever, 10); // once it is posted
}
