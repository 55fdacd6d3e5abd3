/*
 * pagedaemon: starts the page daemon's thread.
 *
 * It takes a CPU slot like any other thread, does not keep the process alive,
 * and ends when the machine is shut down.
 */
import { builtin_worker } from '../machine/host.ts';
import type { Handle } from '../machine/machdep.ts';

/** Starts the thread; false where the host has no worker threads. */
export function pagedaemon_start(handle: Handle): boolean {
  const Worker = builtin_worker();
  if (!Worker) return false;
  const file = import.meta.url.endsWith('.ts')
    ? new URL('./pagedaemon_worker.ts', import.meta.url)
    : new URL('./pagedaemon_worker.js', import.meta.url);
  const worker = new Worker(file, { workerData: handle });
  worker.unref();
  worker.on('error', (e) => {
    // A stopped machine is the ordinary end; anything else the other CPUs hear of as well.
    if (!/ESHUTDOWN|stopped|generation/.test(e.message)) console.error(`page daemon: ${e.message}`);
  });
  return true;
}
