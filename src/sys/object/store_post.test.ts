/*
 * Shows that files which one thread has open for all are read and written by others, into pages
 * of the memory and into bytes elsewhere; that what it cannot do is an errno; that each operation
 * may fail at each of its occurrences; and that deaths lose nothing: a thread that dies while its
 * post is done leaves its pages alone until it is done, the thread that has the files is followed
 * by another, and who waits for it meanwhile is told.  An end of the machine ends it, too.
 * By what means: a worker that shows a folder of the host's as a browser shows its files
 * (store_post.test.worker.ts), and workers that do what they are asked.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { abandon, boot, type Booted, shutdown } from '../boot/whole.ts';
import { atomic_load } from '../machine/atomic.ts';
import {
  EACCES,
  EBUSY,
  EEXIST,
  EINVAL,
  EIO,
  ENOENT,
  ENOSPC,
  ENXIO,
  EROFS,
} from '../machine/errno.ts';
import { cpu_alive, reap_all } from '../machine/death.ts';
import { mem, PAGE_WORDS } from '../machine/memory.ts';
import { STORE_CREATE, STORE_NEW, STORE_READ, STORE_WRITE } from '../machine/store.ts';
import { type StoreOp, store_fault_at, store_faults } from '../machine/store_fault.ts';
import { elem, field_word } from '../machine/struct.ts';
import { until, within } from '../machine/workers.test.lib.ts';
import { POST_TAKEN, store_post } from '../h/store_post.ts';
import { store_root, vm_store_root, type vm_store_t } from '../h/vm_store.ts';
import { vm_page_alloc_run, vm_page_free_run } from '../page/vm_page.ts';
import {
  vm_store_drop,
  vm_store_make,
  vm_store_open,
  vm_store_readv,
  vm_store_remove,
  vm_store_size,
  vm_store_sync,
  vm_store_truncate,
  vm_store_writev,
} from './vm_store.ts';
import { stores_all, vm_store_check } from './vm_store_check.ts';

const PAGE = PAGE_WORDS * 4;
const folder = mkdtempSync(join(tmpdir(), 'kmem-opfs-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const OWNER = new URL('./store_post.test.worker.ts', import.meta.url);
const SERVER = new URL('./vm_store.test.worker.ts', import.meta.url);
let machine: Booted;
let workers: Worker[] = [];
let files = 0;
const fresh = (kind = 'f'): string => `${kind}${++files}`;
beforeEach(() => {
  machine = boot({
    memory: '4M',
    cpus: 5,
    options: { INVARIANTS: true, WITNESS: true },
    fresh: true,
  });
});
afterEach(async () => {
  store_faults.next = null;
  await Promise.all(workers.map((w) => w.terminate()));
  workers = [];
  try {
    shutdown();
  } catch {
    abandon();
  }
});
async function start(file: URL, data: object): Promise<{ worker: Worker; cpu: number }> {
  const worker = new Worker(file, { workerData: data });
  workers.push(worker);
  const [cpu] = await within(once(worker, 'message'), 'a worker');
  return { worker, cpu };
}
const owner = (): ReturnType<typeof start> => start(OWNER, { handle: machine.handle, folder });
const server = (): ReturnType<typeof start> => start(SERVER, { serve: machine.handle });
async function ask(worker: Worker, call: string, ...args: unknown[]): Promise<number> {
  const answer = once(worker, 'message');
  worker.postMessage({ call, args });
  const [said] = await within(answer, call);
  if (typeof said === 'string') throw new Error(said);
  return said;
}
function made(name: string, how = STORE_NEW): vm_store_t {
  const s = vm_store_make(`opfs:${name}`, how);
  assert.ok(s > 0, `errno ${-s}`);
  return s as vm_store_t;
}
const bytes = (n: number, first = 1): Uint8Array =>
  Uint8Array.from({ length: n }, (_, i) => (first + i * 7) & 255);

test('pages, and bytes elsewhere', async () => {
  assert.equal(vm_store_make('opfs:early', STORE_NEW), -ENXIO, 'nobody has the files');
  await owner();
  const name = fresh();
  const s = made(name);
  const first = vm_page_alloc_run(40, 0);
  const page = (i: number): Uint8Array =>
    mem.U8.subarray((first + i) * PAGE, (first + i + 1) * PAGE);
  for (let i = 0; i < 40; i++) page(i).set(bytes(PAGE, i));
  const order = Array.from({ length: 40 }, (_, i) => (i * 7) % 40);
  const far = bytes(3 * PAGE + 11, 99);
  const views = [...order.map(page), far, page(3).subarray(5, 50), new Uint8Array(0)];
  assert.equal(vm_store_writev(s, 100, views), 0);
  const all = Buffer.concat(views);
  assert.ok(readFileSync(join(folder, name)).subarray(100).equals(all));
  assert.equal(vm_store_size(s), 100 + all.length);
  for (let i = 0; i < 40; i++) page(i).fill(0);
  const into = [
    ...Array.from({ length: 39 }, (_, i) => page(i)),
    new Uint8Array(2 * PAGE),
    page(39),
    new Uint8Array(9000),
  ];
  const got = vm_store_readv(s, 100, into);
  assert.equal(got, all.length, 'no more than there is');
  assert.ok(Buffer.concat(into).subarray(0, got).equals(all));
  assert.equal(vm_store_sync(s), 0);
  assert.equal(vm_store_open(s), 0);
  assert.equal(vm_store_truncate(s, 777), 0);
  assert.equal(vm_store_size(s), 777);
  assert.equal(vm_store_readv(s, 700, [page(0), page(1)]), 77);
  assert.equal(vm_store_readv(s, 0.5, into), -EINVAL);
  assert.equal(vm_store_truncate(s, -1), EINVAL);
  vm_store_check([]);
  assert.equal(vm_store_remove(s), 0);
  assert.equal(existsSync(join(folder, name)), false);
  vm_store_drop(s);
  vm_page_free_run(first, 40);
});
test('what cannot be done', async () => {
  await owner();
  const name = fresh();
  assert.equal(vm_store_make(`opfs:${name}`, STORE_WRITE), -ENOENT);
  assert.equal(vm_store_make('opfs:a/b', STORE_NEW), -EINVAL);
  assert.equal(vm_store_make('opfs:', STORE_NEW), -EINVAL);
  assert.equal(vm_store_make('opfs:denied', STORE_NEW), -EACCES);
  const s = made(name);
  assert.equal(vm_store_writev(s, 0, [bytes(100)]), 0);
  assert.equal(vm_store_make(`opfs:${name}`, STORE_WRITE), -EBUSY, 'it is open once');
  vm_store_drop(s);
  // It is closed when the thread that has it hears of the end.
  let again = 0;
  await until(() => {
    again = vm_store_make(`opfs:${name}`, STORE_READ);
    return again !== -EBUSY;
  }, 'it is closed');
  assert.equal(vm_store_make(`opfs:${name}`, STORE_NEW) < 0, true);
  const r = again as vm_store_t;
  assert.equal(vm_store_size(r), 100);
  assert.equal(vm_store_writev(r, 0, [bytes(3)]), EROFS);
  assert.equal(vm_store_truncate(r, 3), EROFS);
  vm_store_drop(r);
  writeFileSync(join(folder, 'there'), 'x');
  assert.equal(vm_store_make('opfs:there', STORE_NEW), -EEXIST);
  const emptied = made('there', STORE_CREATE);
  assert.equal(vm_store_size(emptied), 0);
  vm_store_drop(emptied);
  const full = made(fresh('full'));
  assert.equal(vm_store_writev(full, 0, [bytes(PAGE), bytes(PAGE), bytes(PAGE)]), ENOSPC);
  assert.equal(vm_store_size(full), 2 * PAGE);
  vm_store_drop(full);
  assert.deepEqual(stores_all(), []);
});
test('each operation fails at each of its occurrences', async () => {
  await owner();
  const ops: StoreOp[] = ['open', 'size', 'read', 'write', 'truncate', 'sync', 'discard'];
  for (const op of ops) {
    for (let n = 1; n < 3; n++) {
      const name = fresh();
      store_fault_at(op, n, { what: 'fail', errno: EIO });
      const s = vm_store_make(`opfs:${name}`, STORE_NEW) as vm_store_t;
      const seen = s < 0 ? [-s] : [];
      for (let round = 0; s > 0 && round < 2; round++) {
        seen.push(vm_store_truncate(s, PAGE), vm_store_writev(s, 0, [bytes(PAGE)]));
        const read = [vm_store_readv(s, 0, [new Uint8Array(PAGE)]), vm_store_size(s)];
        for (const got of read) seen.push(got === PAGE ? 0 : -got);
        seen.push(vm_store_sync(s));
      }
      if (s > 0) {
        seen.push(vm_store_remove(s));
        vm_store_drop(s);
      }
      const met = n === 1 || !['open', 'discard'].includes(op);
      assert.deepEqual(
        seen.filter((e) => e !== 0),
        met ? [EIO] : [],
        `${op} ${n}`,
      );
      store_faults.next = null;
      vm_store_check([]);
    }
  }
});
test('two threads at once', async () => {
  await owner();
  const [a, b] = [await server(), await server()];
  const s = (await ask(a.worker, 'make', `opfs:${fresh()}`, STORE_NEW)) as vm_store_t;
  for (let round = 1; round < 30; round++) {
    const writes = [a, b].map(({ worker }, i) =>
      ask(worker, 'write', s, i * 9000, 9000, round * 2 + i),
    );
    assert.deepEqual(await Promise.all(writes), [0, 0]);
    const reads = [b, a].map(({ worker }, i) => ask(worker, 'read', s, i * 9000, 9000));
    assert.deepEqual(await Promise.all(reads), [round * 2, round * 2 + 1]);
  }
  vm_store_check([s]);
  assert.equal(await ask(b.worker, 'end', s), 0);
  vm_store_check([]);
});
test('a thread dies while its post is done: what it gave is nobody else’s until then', async () => {
  await owner();
  const a = await server();
  const name = fresh('slow');
  const s = (await ask(a.worker, 'make', `opfs:${name}`, STORE_NEW)) as vm_store_t;
  assert.equal(await ask(a.worker, 'write', s, 0, PAGE, 7), 0);
  a.worker.postMessage({ call: 'read', args: [s, 0, PAGE] }); // nobody hears the answer
  const state = (): number =>
    atomic_load(
      field_word(
        store_post.state,
        elem(vm_store_root.opfs_posts[store_root()] as never, a.cpu * store_post.sizeof),
      ),
    );
  await until(() => state() === POST_TAKEN, 'it is being done');
  const ended = a.worker.terminate();
  await until(() => !cpu_alive(a.cpu), 'it is gone');
  reap_all();
  assert.notEqual(state(), POST_TAKEN, 'settled only when it was done');
  await ended;
  const b = await server();
  assert.equal(await ask(b.worker, 'read', s, 0, PAGE), 7);
  assert.equal(await ask(b.worker, 'end', s), 0);
});
test('the thread that has the files dies, and another follows', async () => {
  const first = await owner();
  const second = await owner();
  const [busy] = await within(once(second.worker, 'message'), 'it is refused');
  assert.equal(busy, EBUSY);
  await second.worker.terminate();
  const a = await server();
  const name = fresh('slow');
  const s = (await ask(a.worker, 'make', `opfs:${name}`, STORE_NEW)) as vm_store_t;
  assert.equal(await ask(a.worker, 'write', s, 0, PAGE, 9), 0);
  const waits = ask(a.worker, 'read', s, 0, PAGE);
  await first.worker.terminate();
  const got = await waits;
  assert.ok(got === -ENXIO || got === 9, `${got}`);
  assert.equal(await ask(a.worker, 'read', s, 0, PAGE), -ENXIO);
  reap_all();
  await owner();
  assert.equal(await ask(a.worker, 'read', s, 0, PAGE), 9, 'it opens it anew');
  assert.equal(await ask(a.worker, 'end', s), 0);
  vm_store_check([]);
  assert.equal(statSync(join(folder, name)).size, PAGE);
});
test('the machine ends, and it with it', async () => {
  const { worker } = await owner();
  const said = once(worker, 'message');
  machine.shutdown();
  const [how] = await within(said, 'its end');
  assert.equal(how, 'ESHUTDOWN');
});
