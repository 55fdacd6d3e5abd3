/*
 * pagedaemon_worker: the page daemon's thread.
 *
 * It ends quietly when the machine is shut down, also if that was before it had joined.
 */
import { KmemError } from '../machine/errno.ts';
import { host_end, host_started } from '../machine/host.ts';
import type { Handle } from '../machine/machdep.ts';
import { vm_pageout } from '../map/vm_pageout.ts';
import { abandon, attach } from './whole.ts';

host_started((handle) => {
  try {
    attach(handle as Handle);
    vm_pageout();
  } catch (e) {
    if (!(e instanceof KmemError && e.code === 'ESHUTDOWN')) throw e;
    abandon();
    host_end();
  }
});
