/*
 * checkpoints: a store ten times as large as the machine's memory saves itself to a file again and
 * again, while two threads write to it without a stop; a new machine goes on from the last file.
 *
 * Each account is a page of the store; what has no room in memory lies in a swap file.  A thread
 * takes 1 from an account of its own and gives it to another one, two stores.  A file is of one
 * moment of all threads: in none is more than one transfer of a thread under way.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isMainThread, parentPort, type Worker, workerData } from 'node:worker_threads';
import { attach, boot, type Region } from '../src/lib/index.ts';

const THREADS = 2;
const ACCOUNTS = Number(process.argv[2] ?? workerData?.accounts ?? 2560); // of each thread
const START = 1000;
const FILES = 3;
const PAGE = 4096;
const MEMORY = { memory: '2M', cpus: 6 } as const;
const SHAPE = { name: 'accounts', length: THREADS * ACCOUNTS * PAGE } as const;

/** What all accounts lack. */
function missing(m: Region): number {
  let lack = 0;
  for (let at = 0; at < m.length; at += PAGE) lack += START - m.getI32(at);
  return lack;
}

if (isMainThread) {
  const folder = mkdtempSync(join(tmpdir(), 'checkpoints-'));
  const file = join(folder, 'store.kmem');
  const machine = boot(MEMORY);
  machine.swapon(join(folder, 'swap'), { size: '96M' });
  machine.sysctl('vm.oom_wait', 60_000); // ms; on a busy host pages take their time
  const store = machine.space('store');
  const m = store.mmap(SHAPE);
  for (let at = 0; at < m.length; at += PAGE) m.setI32(at, START);
  for (let id = 0; id < THREADS; id++) {
    const own = { workerData: { id, accounts: ACCOUNTS } };
    const worker = machine.worker<Worker>(import.meta.filename, own);
    await once(worker, 'message');
  }
  let whole = 0;
  for (let n = 0; n < FILES; n++) {
    const saved = await store.saveAsync(file, { wait: 60_000 }); // in place of the one before
    const copy = machine.space('copy');
    copy.load(file);
    const lack = missing(copy.region('accounts'));
    if (saved.contents === SHAPE.length && lack >= 0 && lack <= THREADS) whole++;
    copy.destroy();
  }
  console.log(`${SHAPE.length / 2 ** 20} MB saved ${FILES} times from ${MEMORY.memory} of memory`);
  console.log(`${whole} of ${FILES} files are of one moment`);
  await machine.endWorkers();
  machine.shutdown();

  const next = boot(MEMORY); // as if it were tomorrow
  next.swapon(join(folder, 'swap'));
  const again = next.space('store');
  console.log(`${again.load(file).regions} region; a new machine goes on from it`);
  const lack = missing(again.region('accounts'));
  console.log(`nothing is missing: ${lack >= 0 && lack <= THREADS}`);
  next.shutdown();
  rmSync(folder, { recursive: true });
} else {
  const machine = attach(workerData);
  const m = machine.space('store').mmap(SHAPE);
  const first = workerData.id * ACCOUNTS;
  for (let i = 0; ; i++) {
    const from = first + ((i * 13) % ACCOUNTS);
    const to = first + ((i * 13 + 1) % ACCOUNTS);
    m.setI32(from * PAGE, m.getI32(from * PAGE) - 1);
    m.setI32(to * PAGE, m.getI32(to * PAGE) + 1);
    if (i === 100) parentPort?.postMessage('busy');
  }
}
