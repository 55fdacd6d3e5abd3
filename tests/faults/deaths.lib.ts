/*
 * Threads killed over all calls of the façade, and what is left of the machine.
 *
 * Two lanes start a worker, let it work for a moment and terminate it, over and over;
 * a third worker must see all of it through.  At the end the program's objects are
 * disposed of, and the walkers prove the machine: no page and no item may be missing
 * but what a dead thread had in its hand, and that is counted.
 */
import { Worker } from 'node:worker_threads';
import { boot, type BootOptions, type Machine } from '../../src/lib/index.ts';
import { counter_get } from '../../src/sys/machine/counter.ts';
import {
  cpus_attached,
  reap_all,
  v_reap_items,
  v_reap_pages,
} from '../../src/sys/machine/death.ts';
import { dice } from '../../src/sys/machine/seed.test.lib.ts';
import { sleep, until } from '../../src/sys/machine/workers.test.lib.ts';
import { vm_page_check } from '../../src/sys/page/vm_page.ts';

const FILE = new URL('./deaths.worker.ts', import.meta.url);

export interface Deaths {
  kills: number;
  /** Items lost between a cache and its caller. */
  lost: number;
  /** Pages recovered from the hands of the dead. */
  pages: number;
  /** Calls of all threads. */
  calls: number;
}

/** Kills `kills` workers on a machine of its own. Throws what any thread or walker found. */
export async function deaths(kills: number, seed: number, options: BootOptions): Promise<Deaths> {
  const draw = dice(seed);
  const m = boot({ memory: '32M', cpus: 6, ...options, fresh: true });
  const book = new Int32Array(new SharedArrayBuffer(8));
  let failed: Error | null = null;
  const start = (rejoins: boolean): { worker: Worker; up: boolean } => {
    const workerData = { kmem: m.handle, seed: draw(1e9), book, rejoins };
    const worker = m.adopt(new Worker(FILE, { workerData }));
    worker.on('error', (e: Error) => {
      failed ??= e;
    });
    const started = { worker, up: false };
    worker.once('message', () => {
      started.up = true;
    });
    return started;
  };
  const survivor = start(false);
  await until(() => survivor.up || failed !== null, 'the survivor is up');
  let done = 0;
  const lane = async (): Promise<void> => {
    while (done < kills && failed === null) {
      done++;
      const victim = start(draw(2) === 0);
      if (draw(4) > 0) await until(() => victim.up || failed !== null, 'it is up');
      else await new Promise((resolve) => victim.worker.once('online', resolve));
      await sleep(draw(30));
      const calls = book[1];
      await victim.worker.terminate();
      await until(() => failed !== null || book[1] !== calls, `the others go on, seed ${seed}`);
    }
  };
  await Promise.all([lane(), lane()]);
  Atomics.store(book, 0, 1);
  const over = new Promise<void>((resolve) => void survivor.worker.once('exit', () => resolve()));
  await over;
  if (failed !== null) throw failed;
  return settle(m, kills, book[1], options.pagedaemon === true ? 2 : 1);
}
async function settle(m: Machine, kills: number, calls: number, cpus: number): Promise<Deaths> {
  await until(() => {
    reap_all();
    return cpus_attached() === cpus;
  }, 'every slot comes free');
  for (const name of ['short0', 'short1', 'short2']) m.zone(name, { size: 96 }).dispose();
  for (const name of ['made0', 'made1']) {
    m.records(name, { a: 'u8' }, { capacity: 5000 }).dispose();
  }
  for (const lock of [m.mutex('m0'), m.mutex('m1'), m.mutex('bed')]) lock.recover(() => {});
  for (const lock of [m.rwlock('l0'), m.rwlock('l1')]) lock.recover(() => {});
  m.check();
  vm_page_check();
  const said = {
    kills,
    lost: counter_get(v_reap_items),
    pages: counter_get(v_reap_pages),
    calls,
  };
  m.shutdown();
  return said;
}
