/*
 * main: a page that loads kmem/core, and the rest of the package only when it wants it.
 *
 * It has a worker, which loads the core alone too.  With types, zones, records, locks and
 * queues the two do what they do in other pages; calls that the core leaves out are refused
 * until `kmem` is loaded, in this thread.  Then the machine, which the core booted, has
 * chains too, and the worker, which has not loaded them, takes part all the same.
 */
import { boot, KmemError, type Machine } from 'kmem/core';
import { type Answer, PARCELS, parcels } from './parcels.ts';

/** What a call is refused with. */
function refused(call: () => unknown): string {
  try {
    call();
  } catch (e) {
    if (e instanceof KmemError) return `${e.code} ${e.message}`;
    throw e;
  }
  return 'nothing';
}
function ask(worker: Worker, machine: Machine): Promise<Answer> {
  return new Promise((resolve, reject) => {
    worker.onmessage = (e: MessageEvent<Answer | string>) =>
      typeof e.data === 'string' ? reject(new Error(`worker: ${e.data}`)) : resolve(e.data);
    worker.onerror = (e) => reject(new Error(`worker: ${e.message}`));
    worker.postMessage(machine.handle);
  });
}
/** Sends the worker its parcels, which it checks and frees. */
async function exchange(machine: Machine): Promise<Answer> {
  const made = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
  const worker = machine.adopt(made);
  const { type, queue, zone, numbers } = parcels(machine);
  const send = async (): Promise<void> => {
    for (let i = 0; i < PARCELS; i++) {
      const at = type.alloc(48);
      machine.store32(at, i);
      await queue.pushAsync(at);
    }
  };
  const [{ received, wrong }] = await Promise.all([ask(worker, machine), send()]);
  return { received, wrong: wrong + zone.used + numbers.count };
}
const leftOut: Record<string, (machine: Machine) => unknown> = {
  chain: (machine) => machine.chain('text'),
  vmstat: (machine) => machine.vmstat(),
  stats: (machine) => machine.stats(),
  collect: (machine) => machine.collect(),
  dump: (machine) => machine.dump('file'),
};

async function coreAlone() {
  const early = refused(() => boot({ memory: '8M', checked: true }));
  const machine = boot({ memory: '32M', cpus: 4, debug: true });
  const before = await exchange(machine);
  const calls = Object.entries(leftOut).map(([name, run]) => [name, refused(() => run(machine))]);
  const early_sysctls = machine.sysctls();
  const { assertNoLeaks } = await import('kmem');
  const sysctls = machine.sysctls();
  const chain = machine.chain('all there');
  const text = chain.text();
  chain.free();
  const vmstat = machine.vmstat();
  const after = await exchange(machine);
  machine.check();
  assertNoLeaks(machine);
  await machine[Symbol.asyncDispose]();
  const seen = { early, before, calls: Object.fromEntries(calls), early_sysctls };
  const report = { ...seen, sysctls, text, vmstat, after };
  return { summary: `${before.received + after.received} parcels received`, ...report };
}
function put(state: 'done' | 'failed', summary: string, report: string): void {
  const at = (id: string): HTMLElement => document.getElementById(id) as HTMLElement;
  at('summary').textContent = summary;
  at('report').textContent = report;
  document.body.dataset.state = state;
}
coreAlone().then(
  (report) => put('done', report.summary, JSON.stringify(report)),
  (error) => put('failed', `${error}\n${error?.stack ?? ''}`, ''),
);
