/*
 * pagedaemon: starts the page daemon's thread.
 *
 * It takes a CPU slot like any other thread, does not keep the process alive,
 * and ends when the machine is shut down.
 *
 * The worker is written out in the form that bundlers know, once for browsers:
 * they make a file of it and put its name here.  In Node nothing is bundled,
 * and the comment tells them to leave that one alone.
 */
import { kconsole } from '../machine/kconsole.ts';
import { builtin_worker } from '../machine/host.ts';
import type { Handle } from '../machine/machdep.ts';

interface PageWorker {
  onerror: ((e: { message: string }) => void) | null;
  postMessage(handle: Handle): void;
}
/** A browser's class; not there in Node. */
declare const Worker: undefined | (new (file: URL, options: { type: 'module' }) => PageWorker);

/** Starts the thread; false where there are no worker threads, or no memory to share. */
export function pagedaemon_start(handle: Handle): boolean {
  if (handle.memory === null) return false;
  const Thread = builtin_worker();
  if (Thread) {
    const file = new URL(/* @vite-ignore */ './pagedaemon_worker.ts', import.meta.url);
    const thread = new Thread(file, { workerData: handle });
    thread.unref();
    thread.on('error', report);
    return true;
  }
  if (typeof Worker === 'undefined') return false;
  const worker = new Worker(new URL('./pagedaemon_worker.ts', import.meta.url), {
    type: 'module',
  });
  worker.onerror = report;
  worker.postMessage(handle);
  return true;
}
/** A stopped machine is the ordinary end; anything else the other CPUs hear of as well. */
function report(e: { message: string }): void {
  if (!/ESHUTDOWN|stopped|generation/.test(e.message)) kconsole.print(`page daemon: ${e.message}`);
}
