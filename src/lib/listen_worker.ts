/*
 * listen_worker: the thread that serves a control socket beside the program (listen_thread.ts).
 *
 * It becomes a CPU of the machine, opens the socket as any thread of the program does it, says
 * where, and parks.  The listener takes it out of that for each request.  A timer looks whether the
 * machine is still there: nobody may be able to tell, if the program's threads are stuck.
 */
import './index.ts';
import { abandon, attach, detach } from '../sys/boot/main.ts';
import { park, thr, unpark_quiet } from '../sys/machine/cpu.ts';
import { EIO, KmemError } from '../sys/machine/errno.ts';
import { bracket, Context, contextIs, letGo, machineStopped } from './context.ts';
import { hostBuiltin } from './host.ts';
import { listen } from './listen.ts';
import type { ListenSaid, ListenStart } from './listen_thread.ts';

interface Port {
  postMessage(said: ListenSaid): void;
  on(event: 'message', hear: () => void): void;
  close(): void;
}
interface Threads {
  readonly parentPort: Port;
  readonly workerData: ListenStart;
}
/** How often it looks whether the machine is up, ms. */
const LOOK_MS = 200;

/** Leaves the machine. */
function leave(ctx: Context): void {
  const { cpu } = thr;
  contextIs(null);
  bracket(
    () => ctx.bury(),
    () => {
      if (!machineStopped()) letGo(detach, cpu);
      abandon(); // does nothing unless leaving was cut short
    },
  );
}
async function serve({ parentPort, workerData }: Threads): Promise<void> {
  const ctx = new Context();
  const up = (): boolean => ctx.up && !machineStopped();
  attach(workerData.kmem);
  contextIs(ctx);
  let path: string;
  try {
    ({ path } = await listen(ctx, up, { ...workerData.options, worker: false, signals: false }));
  } catch (e) {
    leave(ctx);
    throw e;
  }
  park();
  const end = (): void => {
    clearInterval(look);
    parentPort.close();
    if (!machineStopped()) unpark_quiet();
    leave(ctx);
  };
  const look = setInterval(() => {
    if (!up()) end();
  }, LOOK_MS);
  parentPort.on('message', end);
  parentPort.postMessage({ path });
}
const threads = hostBuiltin<Threads>('node:worker_threads') as Threads;
serve(threads).catch((e) => {
  const { parentPort } = threads;
  if (!(e instanceof KmemError)) throw e;
  const [, text = e.message] = /^\w+: [^:]*: (.*)$/s.exec(e.message) ?? [];
  parentPort.postMessage({ errno: e.errno || EIO, op: e.op, text });
  parentPort.close();
});
