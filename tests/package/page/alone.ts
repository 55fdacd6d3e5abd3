/*
 * alone: a page that is not cross-origin isolated.
 *
 * No memory can be shared there.  The machine boots all the same, on plain memory
 * with this thread as its only CPU, and says so; all that one thread can do works,
 * waiting for another fails at once, and a worker that tries to attach learns why
 * it cannot.
 */
import { assertNoLeaks, attach, boot, KmemError, type Machine } from 'kmem';
import { PAGE, pack, unpack } from './parcels.ts';
import { ask, startWorker } from './worker_of.ts';

const PARCELS = 5000;

/** Allocates, hands itself everything through a queue, frees. */
function work(machine: Machine): number {
  const type = machine.type('parcel');
  const queue = machine.queue('parcels', { of: type, capacity: 64 });
  let wrong = 0;
  for (let i = 0; i < PARCELS; i++) {
    queue.push(pack(machine, type, PAGE, i));
    const at = queue.pop();
    if (at === undefined || !unpack(machine, type, at, PAGE, i)) wrong++;
  }
  return wrong;
}
async function code(wait: () => unknown): Promise<string> {
  try {
    await wait();
    return 'no error';
  } catch (e) {
    return e instanceof KmemError ? e.code : `${e}`;
  }
}

export async function aloneInThePage() {
  const machine = boot({ memory: '16M', pagedaemon: true });
  const wrong = work(machine);
  const { inUse, requests } = machine.type('parcel').stats;
  const zone = machine.zone('one', { size: 64, limit: 1 });
  const items = Array.from({ length: zone.limit }, () => zone.alloc());
  const codes = {
    blocking: await code(() => zone.alloc({ wait: true })),
    async: await code(() => zone.allocAsync({ timeout: 20 })),
    attach: await code(() => attach(machine.handle)),
    listen: await code(() => machine.listen()),
  };
  for (const item of items) zone.free(item);
  const worker = startWorker(machine);
  const attached = await ask<string>(worker, machine, 'attach');
  const ownMachine = await ask<unknown>(worker, machine, 'bootAlone');
  machine.check();
  assertNoLeaks(machine);
  const report = {
    summary: `not isolated: one CPU, ${requests} parcels, ${inUse} still in use`,
    vmstat: machine.vmstat('m'),
    sysctls: machine.sysctls(),
    isolated: crossOriginIsolated,
    shared: machine.shared,
    handleMemory: machine.handle.memory,
    cpus: machine.sysctl('kern.smp.cpus'),
    wrong,
    requests,
    inUse,
    codes,
    attached,
    ownMachine,
  };
  await machine[Symbol.asyncDispose]();
  return report;
}
