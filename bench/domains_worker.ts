/*
 * domains_worker: a thread that is a CPU of a memory domain (domains.ts).  It takes
 * items and gives them back, each step when it is told.
 */
import { once } from 'node:events';
import { parentPort, workerData } from 'node:worker_threads';
import { attach, detach } from '../src/sys/boot/whole.ts';
import { M_NOWAIT } from '../src/sys/h/malloc_flags.ts';
import type { zone_t } from '../src/sys/h/uma.ts';
import type { Handle } from '../src/sys/machine/machdep.ts';
import { uma_zalloc, uma_zfree } from '../src/sys/uma/uma_core.ts';

export interface DomainTask {
  readonly machine: Handle;
  readonly z: zone_t;
  /** Items to take; fewer if memory ends. */
  readonly items: number;
}

const { machine, z, items } = workerData as DomainTask;
if (!parentPort) throw new Error('domains_worker runs as a worker');
const port = parentPort;
const held: number[] = [];

attach(machine);
const ask = async (): Promise<void> => {
  const told = once(port, 'message');
  port.postMessage('ready');
  await told;
};
await ask();
for (let i = 0; i < items; i++) {
  const item = uma_zalloc(z, M_NOWAIT);
  if (item === 0) break;
  held.push(item);
}
await ask();
for (const item of held) uma_zfree(z, item);
detach();
port.close();
