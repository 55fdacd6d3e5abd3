/*
 * Shows: threads that page out are started when boot says so, or when a space is used by a machine
 * with several threads and slots to spare; never when boot forbids it; one takes the place of a
 * page daemon that died, and others are started where the thread ended that had started them; they
 * hold still while the structures are proved.
 * By what means: machines with another thread attached; a page daemon that is terminated, as far as
 * the machine can tell.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { atomic_load } from '../sys/machine/atomic.ts';
import { tid_cpu } from '../sys/machine/cpu.ts';
import { cpus_attached, tid_alive } from '../sys/machine/death.ts';
import { until, WAIT_MS } from '../sys/machine/workers.test.lib.ts';
import {
  pageout_daemon,
  pageout_missing,
  pageout_pager,
  pageout_start,
  vm_pageout_reap,
} from '../sys/map/vm_pageout_vars.ts';
import { fails } from './fails.test.lib.ts';
import { type BootOptions, boot, current, type Machine } from './index.ts';

const PAGE = 4096;
const workers: Worker[] = [];
afterEach(async () => {
  current()?.shutdown();
  await Promise.all(workers.splice(0).map((w) => w.terminate()));
});
/* Written out, so that what is compiled finds them. */
const FILES: Record<string, URL> = {
  life: new URL('./life.test.worker.ts', import.meta.url),
  pagedaemon: new URL('./pagedaemon.test.worker.ts', import.meta.url),
};
/** A machine with one more thread attached. */
async function two(options: BootOptions, name = 'life'): Promise<Machine> {
  const m = boot({ memory: '8M', fresh: true, ...options });
  const file = FILES[name];
  const heard = new Int32Array(new SharedArrayBuffer(8));
  const worker = m.adopt(new Worker(file, { workerData: { kmem: m.handle, heard } }));
  workers.push(worker);
  await new Promise((resolve) => worker.once('message', resolve));
  return m;
}
const daemon = (): number => atomic_load(pageout_daemon());

describe('threads that page out', () => {
  test('boot starts as many as it is told', async () => {
    boot({ memory: '8M', cpus: 6, pagedaemon: true, pagers: 2, fresh: true });
    await until(() => cpus_attached() === 4 && daemon() !== 0, 'all are there');
    assert.equal(pageout_start(), false, 'none is started beside them');
  });
  test('another one takes the place of a page daemon that died', async () => {
    boot({ memory: '8M', cpus: 6, pagers: 1, fresh: true });
    await until(() => cpus_attached() === 3 && daemon() !== 0, 'both are there');
    const first = daemon();
    vm_pageout_reap(tid_cpu(first)); // as when it is found dead
    await until(() => daemon() !== 0 && daemon() !== first, 'the other one is the page daemon');
  });
  test('a space that several threads may use starts one', async () => {
    const m = await two({ cpus: 5 });
    assert.equal(cpus_attached(), 2);
    m.space('a');
    await until(() => cpus_attached() === 3 && daemon() !== 0, 'it is there');
    m.space('b');
    assert.equal(pageout_start(), false, 'one is enough');
  });
  test('but not for one thread, without slots to spare, or if boot forbids it', async () => {
    boot({ memory: '8M', cpus: 5, fresh: true }).space('a');
    assert.equal(pageout_start(), true, 'none was started');
    current()?.shutdown();
    (await two({ cpus: 3 })).space('a');
    assert.equal(pageout_start(), true, 'none was started');
    current()?.shutdown();
    (await two({ cpus: 6, pagedaemon: false })).space('a');
    assert.equal(pageout_start(), false, 'none is wanted');
    assert.equal(daemon(), 0);
    assert.equal(cpus_attached(), 2);
  });
  test('when the thread ends that started them, another one starts others', async () => {
    const m = await two({ cpus: 6 }, 'pagedaemon');
    await until(() => daemon() !== 0, 'the worker has started one');
    const first = daemon();
    await workers[0].terminate();
    await until(() => daemon() !== 0 && daemon() !== first, 'there is one again');
    assert.ok(tid_alive(daemon()));
    assert.equal(pageout_missing(), 0);
    m.check();
  });
  test('so does a thread that never comes to its event loop, when it finds no page', async () => {
    const m = await two({ memory: '4M', cpus: 6 }, 'pagedaemon');
    await until(() => daemon() !== 0, 'the worker has started one');
    const first = daemon();
    const over = workers[0].terminate();
    const memory = m.space('mine').mmap({ length: '16M' });
    const late = performance.now() + WAIT_MS;
    for (let i = 0; daemon() === first && performance.now() < late; i++) {
      memory.setU32((i * PAGE) % memory.length, i);
    }
    assert.notEqual(daemon(), first);
    await over;
    await until(() => daemon() !== 0 && tid_alive(daemon()), 'there is one again');
    m.space('mine').destroy();
  });
  test('all that are missing are started, by one of several threads that see it', async () => {
    const m = await two({ cpus: 8, pagers: 2 });
    await until(() => pageout_missing() === 0 && daemon() !== 0, 'all are there');
    const others = Array.from({ length: 8 }, (_, cpu) => cpu).filter(
      (cpu) => atomic_load(pageout_pager(cpu)) !== 0 && cpu !== tid_cpu(daemon()),
    );
    assert.equal(others.length, 2);
    vm_pageout_reap(others[0]); // as when it is found dead: it lives, so there is one too many
    assert.equal(pageout_missing(), 1);
    await until(() => pageout_missing() === 0, 'another one has come');
    assert.equal(cpus_attached(), 6);
    m.check();
  });
  test('they hold still while the structures are proved', async () => {
    const m = boot({ memory: '4M', cpus: 6, pagers: 2, fresh: true });
    await until(() => cpus_attached() === 4 && daemon() !== 0, 'all are there');
    const memory = m.space('a').mmap({ length: '8M' });
    m.sysctl('vm.v_free_target', 400);
    m.sysctl('vm.v_free_min', 300); // so that they have work for as long as a check takes
    for (let round = 0; round < 20; round++) {
      for (let i = round % 7; i < memory.length / PAGE; i += 7) memory.setU32(i * PAGE, round + 1);
      m.check();
    }
    assert.ok(m.swaps()[0].used > 0, 'pages went out');
    const turns = (): number => Number(m.sysctl('vm.stats.vm.v_pdwakeups'));
    const before = turns();
    for (let i = 0; i < memory.length / PAGE; i++) memory.setU32(i * PAGE, 1);
    await until(() => turns() > before, 'afterwards they go on');
    m.space('a').destroy();
  });
  test('numbers that make no sense are refused', () => {
    for (const pagers of [-1, 1.5, 17, Number.NaN]) {
      fails('EINVAL', () => boot({ memory: '8M', pagers }));
    }
    fails('EINVAL', () => boot({ memory: '8M', pagers: 1, pagedaemon: false }));
    assert.equal(current(), null);
  });
});
