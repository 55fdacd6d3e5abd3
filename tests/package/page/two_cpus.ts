/*
 * two_cpus: the page is CPU 0, its worker CPU 1, and both allocate.
 *
 * The page never blocks: it sends and receives in its event loop, while the
 * worker does both with the blocking calls.  At the end the kernel's own counts
 * must be exact, nothing may be left, and the structures are proved.
 */
import { assertNoLeaks, boot, type Machine } from 'kmem';
import { PAGE, pack, parcels, unpack, WORKER } from './parcels.ts';
import { type Answer, ask, startWorker } from './worker_of.ts';

const PARCELS = 20_000;
/** Most CPUs that were seen at work. */
let cpus = 0;

async function send(machine: Machine): Promise<void> {
  const { type, toWorker } = parcels(machine);
  for (let i = 0; i < PARCELS; i++) await toWorker.pushAsync(pack(machine, type, PAGE, i));
  toWorker.close();
}
async function receive(machine: Machine): Promise<Answer> {
  const { type, toPage } = parcels(machine);
  let received = 0;
  let wrong = 0;
  for await (const at of toPage) {
    if (!unpack(machine, type, at, WORKER, received++)) wrong++;
    cpus = Math.max(cpus, Number(machine.sysctl('kern.smp.cpus')));
  }
  return { cpu: machine.cpu, received, wrong };
}

export async function twoCpus() {
  const machine = boot({ memory: '32M', cpus: 4, options: { INVARIANTS: true } });
  const { type } = parcels(machine);
  const worker = startWorker(machine);
  const [here, there] = await Promise.all([
    receive(machine),
    ask<Answer>(worker, machine, 'parcels', PARCELS),
    send(machine),
  ]);
  const { inUse, requests, failed } = type.stats;
  machine.check();
  assertNoLeaks(machine);
  const report = {
    summary: `${requests} parcels allocated by 2 CPUs, ${inUse} still in use`,
    vmstat: `${machine.vmstat('m')}\n${machine.vmstat('z')}`,
    sysctls: machine.sysctls(),
    isolated: crossOriginIsolated,
    shared: machine.shared,
    sent: PARCELS,
    here,
    there,
    types: { inUse, requests, failed },
    cpus,
    prometheus: machine.collect(),
  };
  await machine[Symbol.asyncDispose]();
  return { ...report, up: machine.up };
}
