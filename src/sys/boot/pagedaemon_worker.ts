/*
 * pagedaemon_worker: the page daemon's thread.
 */
import { KmemError } from '../machine/errno.ts';
import { host_end, host_started } from '../machine/host.ts';
import type { Handle } from '../machine/machdep.ts';
import { vm_pageout } from '../uma/vm_pageout.ts';
import { abandon, attach, detach } from './main.ts';

host_started((handle) => {
  attach(handle as Handle);
  try {
    vm_pageout();
  } catch (e) {
    if (!(e instanceof KmemError && e.code === 'ESHUTDOWN')) throw e;
    abandon();
    detach();
    host_end();
  }
});
