/*
 * snapshots: four threads write into one store without a stop, and the main thread reads
 * copies of it, each of one moment.
 *
 * Each account is a page of the store.  A thread moves money between two of its accounts: it takes
 * it from the one and gives it to the other, two stores.  A fork is one cut through all threads: in no
 * copy is more than one transfer of a thread under way.
 */
import { once } from 'node:events';
import { isMainThread, parentPort, type Worker, workerData } from 'node:worker_threads';
import { attach, boot } from '../src/lib/index.ts';

const THREADS = 4;
const ACCOUNTS = 25; // of each thread
const START = 1000;
const COPIES = 8;
const PAGE = 4096;
const machine = isMainThread ? boot({ memory: '32M', cpus: 8 }) : attach(workerData);
const store = machine.space('store', { limit: '64M' });
const m = store.mmap({ name: 'accounts', length: THREADS * ACCOUNTS * PAGE });

if (isMainThread) {
  for (let i = 0; i < THREADS * ACCOUNTS; i++) m.setI32(i * PAGE, START);
  const workers = [];
  for (let id = 0; id < THREADS; id++) {
    const worker = machine.worker<Worker>(import.meta.filename, { workerData: { id } });
    await once(worker, 'message');
    workers.push(worker);
  }
  let whole = 0;
  for (let n = 0; n < COPIES; n++) {
    const snap = await store.forkAsync(`copy ${n}`, { protect: 'r', wait: 60_000 });
    const copy = snap.region('accounts').array('i32');
    const seen: number[] = [];
    for (let i = 0; i < THREADS * ACCOUNTS; i++) seen.push(copy.get((i * PAGE) / 4));
    // What a thread has taken and not yet given is 1; nothing else may be missing.
    const missing = THREADS * ACCOUNTS * START - seen.reduce((a, b) => a + b);
    if (missing >= 0 && missing <= THREADS) whole++;
    snap.destroy(); // only the pages that changed since had been copied
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  console.log(`${whole} of ${COPIES} copies are of one moment`);
  await machine.endWorkers();
  store.destroy();
  console.log(`spaces left: ${machine.sysctl('vm.maps')}`);
  machine.shutdown();
} else {
  const first = workerData.id * ACCOUNTS;
  for (let i = 0; ; i++) {
    const from = first + (i % ACCOUNTS);
    const to = first + ((i * 7 + 3) % ACCOUNTS);
    m.setI32(from * PAGE, m.getI32(from * PAGE) - 1);
    m.setI32(to * PAGE, m.getI32(to * PAGE) + 1);
    if (i === 1000) parentPort?.postMessage('busy');
  }
}
