/*
 * pagedaemon_worker: a thread that pages out: the page daemon, or one that writes beside it.
 *
 * It ends quietly when the machine is shut down, or panics in another thread; also if that was
 * before it had joined, and the memory has become another machine's meanwhile.
 */
import { thr } from '../machine/cpu.ts';
import { EINVAL, ESHUTDOWN, KmemError } from '../machine/errno.ts';
import { host_end, host_started } from '../machine/host.ts';
import type { Handle } from '../machine/machdep.ts';
import { stopped_elsewhere } from '../machine/panic.ts';
import { vm_pageout_thread } from '../map/vm_pageout.ts';
import { abandon, attach } from './whole.ts';

host_started((handle) => {
  try {
    attach(handle as Handle);
    vm_pageout_thread();
  } catch (e) {
    if (!came_late(e) && !stopped_elsewhere(e)) throw e;
    abandon();
    host_end();
  }
});

/** Whether there was no such machine any more when this thread wanted to join it. */
function came_late(e: unknown): boolean {
  return thr.cpu < 0 && e instanceof KmemError && (e.errno === ESHUTDOWN || e.errno === EINVAL);
}
