/*
 * Shows: two threads use one store, each by a descriptor of its own.  The file may be renamed and
 * removed while one of them has it open.  When the thread that opened it is gone, the host has
 * closed its descriptor and given the number to another file, and the others go on: by their own,
 * by that of another thread, by the path.  Another file in its place is ESTALE, never read nor
 * written, even one that got the same number on the disk.  A thread that leaves, and one in whose
 * absence a store ended, keep nothing open.  Descriptors that run out lose nothing.
 * By what means: workers that do what they are asked (vm_store.test.worker.ts); a program with few
 * descriptors; the walker afterwards.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach, test } from 'node:test';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { abandon, boot, type Booted, shutdown } from '../boot/whole.ts';
import { EIO, ESTALE } from '../machine/errno.ts';
import { reap_all } from '../machine/death.ts';
import { mem } from '../machine/memory.ts';
import { STORE_NEW } from '../machine/store.ts';
import { until, within } from '../machine/workers.test.lib.ts';
import type { vm_store_t } from '../h/vm_store.ts';
import type { Asked, SERVES } from './vm_store.test.worker.ts';
import { store_fd_word, vm_store_readv, vm_store_writev } from './vm_store.ts';
import { vm_store_check } from './vm_store_check.ts';

const FILE = new URL('./vm_store.test.worker.ts', import.meta.url);
const folder = realpathSync(mkdtempSync(join(tmpdir(), 'kmem-vmstore-')));
after(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;
const fresh = (): string => join(folder, `s${++files}`);
const linux = process.platform === 'linux';
/** What this process has open in the folder. */
function open_there(): string[] {
  const into = (fd: string): string => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ''; // the listing's own
    }
  };
  const all = readdirSync('/proc/self/fd').map(into);
  return all.filter((path) => path.startsWith(folder));
}

let machine: Booted;
const workers: Server[] = [];
beforeEach(() => {
  const options = { INVARIANTS: true, WITNESS: true };
  machine = boot({ memory: '4M', cpus: 5, options, fresh: true });
});
afterEach(async () => {
  await Promise.all(workers.splice(0).map((w) => w.kill()));
  try {
    shutdown();
  } catch {
    abandon();
  }
  if (linux) assert.deepEqual(open_there(), []);
});
/** A worker that does what it is asked. */
class Server {
  readonly #worker: Worker;
  cpu = -1;
  constructor() {
    this.#worker = new Worker(FILE, { workerData: { serve: machine.handle } });
    workers.push(this);
  }
  async up(): Promise<this> {
    [this.cpu] = await within(once(this.#worker, 'message'), 'a worker');
    return this;
  }
  async ask<C extends keyof typeof SERVES>(
    call: C,
    ...args: Parameters<(typeof SERVES)[C]>
  ): Promise<number> {
    const answer = once(this.#worker, 'message');
    this.#worker.postMessage({ call, args } satisfies Asked);
    const [said] = await within(answer, call);
    if (typeof said === 'string') throw new Error(said);
    return said;
  }
  async kill(): Promise<void> {
    await this.#worker.terminate();
  }
}
const server = (): Promise<Server> => new Server().up();

const N = 10_000;
function read_here(s: vm_store_t): number {
  const into = new Uint8Array(N);
  const got = vm_store_readv(s, 0, [into]);
  if (got < 0) return got;
  return got === N && into.every((v) => v === into[0]) ? into[0] : -1000;
}
const write_here = (s: vm_store_t, value: number): number =>
  vm_store_writev(s, 0, [new Uint8Array(N).fill(value)]);
const fd_of = (s: vm_store_t, cpu: number): number => mem.I32[store_fd_word(s, cpu)] - 1;
/** Opens other files until descriptor `fd` is one of theirs. */
function take_number(fd: number): number[] {
  const taken: number[] = [];
  for (let i = 0; i < 200 && !taken.includes(fd); i++) {
    const path = fresh();
    writeFileSync(path, new Uint8Array(N).fill(99));
    taken.push(openSync(path, 'r+'));
  }
  assert.ok(taken.includes(fd), 'the host gives its number again');
  return taken;
}
async function anchored(by: Server, path = fresh()): Promise<vm_store_t> {
  const s = (await by.ask('make', path, STORE_NEW)) as vm_store_t;
  assert.ok(s > 0, `errno ${-s}`);
  assert.equal(await by.ask('write', s, 0, N, 7), 0);
  return s;
}

test('two threads and this one, renamed and removed', { skip: !linux }, async () => {
  const [a, b] = [await server(), await server()];
  const path = fresh();
  const s = await anchored(a, path);
  assert.equal(await b.ask('read', s, 0, N), 7);
  renameSync(path, `${path}.new`);
  assert.equal(read_here(s), 7, 'by the descriptor of another thread');
  unlinkSync(`${path}.new`);
  const c = await server();
  assert.equal(await c.ask('write', s, 0, N, 8), 0);
  for (const w of [a, b, c]) assert.equal(await w.ask('read', s, 0, N), 8);
  assert.equal(read_here(s), 8);
  const fds = [0, a.cpu, b.cpu, c.cpu].map((cpu) => fd_of(s, cpu));
  assert.equal(new Set(fds).size, 4, 'each has its own');
  vm_store_check([s]);
  assert.equal(await b.ask('end', s), 0);
  await until(() => open_there().length === 0, 'idle threads close what they had open of it');
  assert.equal(await b.ask('own'), 0);
  vm_store_check([]);
});
test('its opener dies, and another file gets the descriptor', { skip: !linux }, async () => {
  const [a, b] = [await server(), await server()];
  const [kept, lost] = [await anchored(a), await anchored(a)];
  const path = join(folder, `s${files}`);
  assert.equal(await b.ask('open', kept), 0);
  unlinkSync(join(folder, `s${files - 1}`));
  const fds = [fd_of(kept, a.cpu), fd_of(lost, a.cpu)];
  await a.kill();
  // Nobody has settled it: the words name its descriptors still.
  assert.deepEqual([fd_of(kept, a.cpu), fd_of(lost, a.cpu)], fds);
  const taken = fds.flatMap(take_number);
  assert.equal(await b.ask('write', kept, 0, N, 9), 0, 'by its own');
  assert.equal(read_here(kept), 9, "by the other thread's");
  assert.equal(await b.ask('write', lost, 0, N, 11), 0, 'by the path');
  assert.equal(read_here(lost), 11);
  reap_all();
  assert.equal(fd_of(lost, a.cpu), -1);
  for (const fd of taken) closeSync(fd);
  for (let i = files; i > files - taken.length; i--) {
    const all = readFileSync(join(folder, `s${i}`));
    assert.ok(
      all.every((v) => v === 99),
      'nobody wrote into another file',
    );
  }
  assert.equal(readFileSync(path)[0], 11);
  vm_store_check([kept, lost]);
  for (const s of [kept, lost]) assert.equal(await b.ask('end', s), 0);
});
for (const how of ['renamed over', 'removed and made anew', 'gone'] as const) {
  test(`nobody has it open, and the file is ${how}`, { skip: !linux }, async () => {
    const a = await server();
    const path = fresh();
    const s = await anchored(a, path);
    const other = new Uint8Array(N).fill(99);
    const ino = statSync(path).ino;
    await a.kill();
    reap_all();
    if (how === 'renamed over') {
      writeFileSync(`${path}.other`, other);
      renameSync(`${path}.other`, path);
    } else {
      unlinkSync(path);
      // A new file may get the number of the old one: as long as none does, another is made.
      for (let i = 0; how !== 'gone' && i < 100; i++) {
        writeFileSync(path, other);
        if (statSync(path).ino === ino) break;
        renameSync(path, `${path}.${i}`);
        writeFileSync(path, other);
      }
    }
    assert.equal(read_here(s), -ESTALE);
    assert.equal(write_here(s, 1), ESTALE);
    const b = await server();
    assert.equal(await b.ask('read', s, 0, N), -ESTALE);
    if (how !== 'gone') assert.deepEqual(Uint8Array.from(readFileSync(path)), other);
    assert.equal(await b.ask('end', s), 0);
  });
}
test('a thread that leaves keeps nothing open', async () => {
  const [a, b] = [await server(), await server()];
  const s = await anchored(a);
  assert.equal(await b.ask('write', s, 0, N, 5), 0);
  assert.equal(await a.ask('leave'), 0);
  assert.equal(fd_of(s, a.cpu), -1);
  if (linux) assert.equal(open_there().length, 1);
  assert.equal(read_here(s), 5);
  assert.equal(await b.ask('end', s), 0);
});
test('each way to the file fails at each of its occurrences', { skip: !linux }, async () => {
  const a = await server();
  const s = await anchored(a);
  for (const op of ['open', 'identity'] as const) {
    for (let n = 1; n < 4; n++) {
      const b = await server();
      await b.ask('fault', op, n, { what: 'fail', errno: EIO });
      // The first way fails, the second leads there.
      const got = await b.ask('read', s, 0, N);
      assert.equal(got, 7, `${op} ${n}`);
      await b.kill();
      reap_all();
    }
  }
  vm_store_check([s]);
  assert.equal(await a.ask('end', s), 0);
});
test('a thread that waits for a slow disk holds nobody up', async () => {
  const [a, b] = [await server(), await server()];
  const s = await anchored(a);
  await b.ask('open', s);
  await b.ask('fault', 'read', 1, { what: 'slow', ms: 300 });
  const slow = b.ask('read', s, 0, N);
  for (let i = 0; i < 20; i++) assert.equal(write_here(s, 7), 0);
  assert.equal(await slow, 7);
  assert.equal(await a.ask('end', s), 0);
});

test('descriptors run out', { skip: !linux }, async () => {
  const program = new URL('./vm_store_emfile.test.lib.ts', import.meta.url).pathname;
  const run = promisify(execFile);
  const args = ['-c', `ulimit -n 64; exec "$0" "$1" "$2"`, process.execPath, program, folder];
  const { stdout } = await run('sh', args, { timeout: 120_000 });
  assert.match(
    stdout,
    /^made [1-9]\d*, EMFILE; read and written by both; closed [1-9]\d*; all right\n$/,
  );
});
