/*
 * worker: the page's worker.  Each message names a job; the answer is what the
 * job returns, or the text of what it throws.
 */
import { type Address, attach, boot, KmemError, type Machine } from 'kmem';
import { PAGE, pack, parcels, unpack, WORKER } from './parcels.ts';
import { things } from './things.ts';
import type { Answer, Job } from './worker_of.ts';

/** The worker's half of two_cpus.ts: it may block, and does. */
function exchange(machine: Machine, n: number): Answer {
  const { type, toWorker, toPage } = parcels(machine);
  let received = 0;
  let wrong = 0;
  const open = (at: Address): void => {
    if (!unpack(machine, type, at, PAGE, received++)) wrong++;
  };
  for (let i = 0; i < n; i++) {
    toPage.push(pack(machine, type, WORKER, i));
    const at = toWorker.tryPop();
    if (at !== undefined) open(at);
  }
  toPage.close();
  for (let at = toWorker.pop(); at !== undefined; at = toWorker.pop()) open(at);
  return { cpu: machine.cpu, received, wrong };
}
/** Takes one of each thing that can be waited for; gives all back when the page says go. */
async function takeAll(machine: Machine): Promise<string> {
  const t = things(machine);
  t.rwlock.lockWrite();
  t.mutex.lock();
  t.full.push(1);
  const items = Array.from({ length: t.zone.limit }, () => t.zone.alloc());
  const records = Array.from({ length: t.records.capacity }, () => t.records.alloc());
  const blocks: Address[] = [];
  try {
    for (;;) blocks.push(t.type.alloc(65536));
  } catch (e) {
    if (!(e instanceof KmemError && e.code === 'ENOMEM')) throw e;
  }
  machine.roots.set('taken', 1);
  while (machine.roots.get('go') !== 1) await new Promise((resolve) => setTimeout(resolve, 5));
  for (const at of blocks) t.type.free(at);
  for (const item of records) t.records.free(item);
  for (const item of items) t.zone.free(item);
  t.mutex.unlock();
  t.rwlock.unlockWrite();
  t.empty.push(1);
  const popped = [t.full.pop(), t.full.pop()];
  t.mine.run(() => {
    machine.roots.set('given', 1);
    t.condition.broadcast();
  });
  return `${blocks.length > 0 && 'all'} given back, ${popped} received`;
}
/** Fills its caches, keeps an item, and stays. */
async function hoard(machine: Machine): Promise<number> {
  // Requests are served in turn: after this one the machine's own lock is held.
  await navigator.locks.request('turn', () => {});
  const zone = machine.zone('hoard', { size: 512, limit: 64 });
  const items = Array.from({ length: 8 }, () => zone.alloc());
  for (const item of items.slice(1)) zone.free(item);
  return machine.cpu;
}
/** A machine of this thread's own, on memory that nobody shares: it may block, but not for ever. */
function bootAlone(): { shared: boolean; code: string } {
  const machine = boot({ memory: '4M' });
  const mutex = machine.mutex('m');
  let code = 'no error';
  try {
    mutex.run(() => machine.condition('never').wait(mutex));
  } catch (e) {
    code = e instanceof KmemError ? e.code : `${e}`;
  }
  machine.check();
  machine.shutdown();
  return { shared: machine.shared, code };
}

const jobs: Record<string, (machine: Machine, n: number) => unknown> = {
  parcels: exchange,
  takeAll,
  hoard,
};
async function run({ kmem, job, n }: Job): Promise<unknown> {
  if (job === 'bootAlone') return bootAlone();
  let machine: Machine;
  try {
    machine = attach(kmem);
  } catch (e) {
    if (job === 'attach' && e instanceof KmemError) return `${e.code} ${e.message}`;
    throw e;
  }
  const result = await jobs[job](machine, n);
  if (job !== 'hoard') machine.detach(); // a hoarder stays until it is ended
  return result;
}
self.onmessage = (e: MessageEvent<Job | 'close'>) => {
  if (e.data === 'close') return self.close();
  run(e.data).then(
    (result) => self.postMessage({ result }),
    (error) => self.postMessage({ error: `${error}\n${error?.stack ?? ''}` }),
  );
};
