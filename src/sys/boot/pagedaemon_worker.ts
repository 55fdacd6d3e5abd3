/*
 * pagedaemon_worker: a thread that pages out: the page daemon, or one that writes beside it; or in
 * a browser the one that has the files of the origin open.  A program that starts it by itself
 * (kmem/worker) gives it the handle of its machine.
 *
 * It ends quietly when the machine is shut down, or panics in another thread; also if that was
 * before it had joined, and the memory has become another machine's meanwhile.
 */
import { thr } from '../machine/cpu.ts';
import { EINVAL, ESHUTDOWN, KmemError } from '../machine/errno.ts';
import { host_end, host_started } from '../machine/host.ts';
import type { Handle } from '../machine/machdep.ts';
import { stopped_elsewhere } from '../machine/panic.ts';
import { opfs_folder } from '../machine/store_opfs.ts';
import { opfs_serve } from '../object/store_post.ts';
import { vm_pageout_thread } from '../map/vm_pageout.ts';
import { abandon, attach, detach } from './whole.ts';

host_started((data) => {
  const { opfs } = data as { opfs?: Handle };
  try {
    attach(opfs ?? (data as Handle));
    if (opfs) serve();
    else vm_pageout_thread();
  } catch (e) {
    ended(e);
  }
});
/** Does what others ask of the origin's files. */
function serve(): void {
  const folder = opfs_folder();
  if (folder === null) return detach();
  opfs_serve(folder).then(detach, (e) => {
    try {
      ended(e);
    } catch {
      queueMicrotask(() => {
        throw e;
      }); // so that it is heard where this thread was started
    }
  });
}
function ended(e: unknown): void {
  if (!came_late(e) && !stopped_elsewhere(e)) throw e;
  abandon();
  host_end();
}

/** Whether there was no such machine any more when this thread wanted to join it. */
function came_late(e: unknown): boolean {
  return thr.cpu < 0 && e instanceof KmemError && (e.errno === ESHUTDOWN || e.errno === EINVAL);
}
