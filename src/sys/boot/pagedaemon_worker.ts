/*
 * pagedaemon_worker: the page daemon's thread.
 */
import { workerData } from 'node:worker_threads';
import type { Handle } from '../machine/machdep.ts';
import { KmemError } from '../machine/errno.ts';
import { vm_pageout } from '../uma/vm_pageout.ts';
import { abandon, attach, detach } from './main.ts';

attach(workerData as Handle);
try {
  vm_pageout();
} catch (e) {
  if (!(e instanceof KmemError && e.code === 'ESHUTDOWN')) throw e;
  abandon();
  detach();
}
