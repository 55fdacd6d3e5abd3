/*
 * pagedaemon: starts the kernel's own threads: the page daemon's, those that write pages beside
 * it, and in a browser the one that has the files of the origin open (object/store_post.ts).
 *
 * Each takes a CPU slot like any other thread, does not keep the process alive, and ends when the
 * machine is shut down, or with the thread that started it: of those that page out others are
 * started then, by the first thread that finds them missing (map/vm_pageout_vars.ts).
 *
 * Without being asked for, a daemon is started when a space is used in a machine with several
 * threads, unless that would leave fewer than one slot for a further thread: one thread alone
 * reclaims as well by itself.
 *
 * The worker is written out in the form that bundlers know, once for browsers:
 * they make a file of it and put its name here.  In Node nothing is bundled,
 * and the comment tells them to leave that one alone.
 */
import { kconsole } from '../machine/kconsole.ts';
import { builtin_worker } from '../machine/host.ts';
import { cpus_attached } from '../machine/death.ts';
import { M, machine } from '../machine/header.ts';
import { type Handle, machine_handle } from '../machine/machdep.ts';
import {
  pageout_missing,
  pageout_start,
  pageout_starter,
  pageout_want,
} from '../map/vm_pageout_vars.ts';
import { opfs_folder } from '../machine/store_opfs.ts';

interface PageWorker {
  onerror: ((e: { message: string }) => void) | null;
  postMessage(job: Job): void;
}
/** A browser's class; not there in Node. */
declare const Worker: undefined | (new (file: URL, options: { type: 'module' }) => PageWorker);

/** What such a thread is for: to page out, or to have a browser's files open. */
type Job = Handle | { readonly opfs: Handle };

/**
 * Starts the threads that page out, as far as some are missing and nobody else does.  Nothing
 * happens where there are no worker threads, or no memory to share.
 */
export function pagedaemon_again(): void {
  const handle = machine_handle();
  pageout_starter.start = pagedaemon_again;
  if (handle.memory === null || !pageout_start()) return;
  for (let n = pageout_missing(); n > 0; n--) if (!start(handle)) return;
}
/** Sees to it that there is a thread that pages out, also where one thread alone needs none. */
export function pagedaemon_wanted(): void {
  pageout_want(1);
  pagedaemon_again();
}
/** Starts the daemon if the machine has none, and is one in which it is of use. */
export function pagedaemon_default(): void {
  pageout_starter.start = pagedaemon_again; // should those of another thread end
  const attached = cpus_attached();
  if (attached < THREADS_LEAST || machine.maxcpus[M] - attached < SLOTS_LEAST) return;
  pagedaemon_wanted();
}
const THREADS_LEAST = 2;
const SLOTS_LEAST = 2;
/** Starts the thread that has a browser's files open; false where there is no such, as in Node. */
export function opfs_start(handle: Handle): boolean {
  return handle.memory !== null && opfs_folder() !== null && start({ opfs: handle });
}
function start(job: Job): boolean {
  const Thread = builtin_worker();
  if (Thread) {
    const file = new URL(/* @vite-ignore */ './pagedaemon_worker.ts', import.meta.url);
    const thread = new Thread(file, { workerData: job });
    thread.unref();
    thread.on('error', report);
    return true;
  }
  if (typeof Worker === 'undefined') return false;
  const worker = new Worker(new URL('./pagedaemon_worker.ts', import.meta.url), {
    type: 'module',
  });
  worker.onerror = report;
  worker.postMessage(job);
  return true;
}
/** A stopped machine is the ordinary end; anything else the other CPUs hear of as well. */
function report(e: { message: string }): void {
  if (!/ESHUTDOWN|stopped|generation/.test(e.message))
    kconsole.print(`a thread of the kernel: ${e.message}`);
}
