/*
 * threads: workers that the library starts, and workers that end without a word.
 */
import { assertNoLeaks, boot, type Machine } from 'kmem';
import { until } from './things.ts';
import { ask, startWorker } from './worker_of.ts';

function cpus(machine: Machine): number {
  return Number(machine.sysctl('kern.smp.cpus'));
}
/** The page daemon is a worker of the library's own: it is woken when pages are few. */
export async function pageDaemon() {
  const machine = boot({ memory: '4M', cpus: 4, pagedaemon: true });
  await until(() => cpus(machine) === 2);
  const type = machine.type('hog');
  const blocks: number[] = [];
  try {
    for (;;) blocks.push(type.alloc(4096));
  } catch {
    // memory is used up: that is what wakes the daemon
  }
  await until(() => Number(machine.sysctl('vm.stats.vm.v_pdwakeups')) > 0);
  const wakeups = machine.sysctl('vm.stats.vm.v_pdwakeups');
  for (const at of blocks.splice(0)) type.free(at as ReturnType<typeof type.alloc>);
  assertNoLeaks(machine);
  await machine[Symbol.asyncDispose]();
  return { summary: `the page daemon was woken ${wakeups} times`, wakeups };
}
/**
 * A worker ends with memory in its caches: terminated by the page, by itself, by
 * the machine's own call.  There is one slot for all three, so each must come back.
 */
export async function workerThatDies() {
  const machine = boot({ memory: '16M', cpus: 2 });
  const ends = {
    terminate: (worker: Worker) => worker.terminate(),
    close: (worker: Worker) => worker.postMessage('close'),
    endWorkers: () => machine.endWorkers(),
  };
  const attached: number[] = [];
  for (const end of Object.values(ends)) {
    const worker = startWorker(machine);
    await ask(worker, machine, 'hoard');
    attached.push(cpus(machine));
    await end(worker);
    await until(() => cpus(machine) === 1);
  }
  const zone = machine.zone('hoard', { size: 512, limit: 64 });
  const { used } = zone;
  const items = Array.from({ length: zone.limit - used }, () => zone.alloc());
  for (const item of items) zone.free(item);
  const settled = machine.sysctl('vm.reap.cpus');
  const lost = machine.sysctl('vm.reap.items_lost');
  machine.check();
  await machine[Symbol.asyncDispose]();
  const report = { attached, settled, lost, used, limit: zone.limit };
  return { summary: `${settled} workers died and were settled`, ...report };
}
