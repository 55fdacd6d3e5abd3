/*
 * Shows that a machine is found and read wherever it lies, with the same figures: in a program
 * that computes and answers nobody (/proc/PID/mem), in the core file that Linux writes of it when a
 * signal ends it, in this thread.  Two machines in one process are told apart by their ids, made
 * by WebAssembly and by the C library.  What cannot be read is one line that says why, and what to
 * set.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, afterEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { boot } from '../../lib/index.ts';
import { EACCES } from '../machine/errno.ts';
import { store_faults } from '../machine/store_fault.ts';
import { within } from '../machine/workers.test.lib.ts';
import { own_source } from './memory_source.ts';
import { kvm_open_source } from './kvm.ts';
import { process_source } from './source_proc.ts';

const folder = mkdtempSync(join(tmpdir(), 'kmem-source-'));
const children = new Set<ChildProcess>();
after(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});
afterEach(() => {
  store_faults.next = null;
});
const linux = process.platform === 'linux';

/** What a program that was started says first: it computes from then on, and hears nothing. */
interface Stuck {
  readonly child: ChildProcess;
  readonly pid: number;
  /** Of each of its machines: its id, and what vmstat -m and -z say of it in the program. */
  readonly machines: { id: string; m: string; z: string }[];
}
async function stuck(...atomics: string[]): Promise<Stuck> {
  const file = fileURLToPath(new URL('./memory_source.test.program.ts', import.meta.url));
  // Started by a shell, which lets the system write a core file of it, in the folder of the test.
  const run = 'ulimit -c 8388608; exec "$0" "$@"';
  const child = spawn('/bin/sh', ['-c', run, process.execPath, file, ...atomics], {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: folder,
  });
  children.add(child);
  const [line] = await within(once(createInterface(child.stdout), 'line'), 'it begins');
  return { child, pid: child.pid ?? 0, machines: JSON.parse(line) };
}
async function kill({ child }: Stuck, by: NodeJS.Signals = 'SIGKILL'): Promise<void> {
  child.kill(by);
  await once(child, 'exit');
  children.delete(child);
}
interface Seen {
  readonly m: string;
  readonly z: string;
  readonly quiet: boolean;
  readonly fault: string;
}
/** Reads a source in a thread of its own: this one may have a machine. */
async function seen(from: { path?: string; pid?: number; id?: string }): Promise<Seen> {
  const file = new URL('./memory_source.test.worker.ts', import.meta.url);
  const worker = new Worker(file, { workerData: from });
  const exit = once(worker, 'exit');
  const [said] = await within(once(worker, 'message'), 'it was read');
  await exit;
  return said as Seen;
}

test('of a process that computes: what it would say itself', { skip: !linux }, async () => {
  const program = await stuck('auto');
  const [{ m, z, id }] = program.machines;
  for (const from of [{ pid: program.pid }, { pid: program.pid, id }]) {
    assert.deepEqual(await seen(from), { m, z, quiet: true, fault: '' });
  }
  assert.match(m, /work 0[\s\S]*work 1|work 1[\s\S]*work 0/);
  const none = await seen({ pid: program.pid, id: 'fade' });
  assert.equal(none.fault, `it has no machine fade: ${id} (8M)`);
  await kill(program);
  assert.equal((await seen({ pid: program.pid })).fault, 'there is no such process');
});

test('two machines of a process: by their ids', { skip: !linux }, async () => {
  const program = await stuck('atomics', 'atomics');
  const { fault } = await seen({ pid: program.pid });
  assert.match(fault, /^2 machines are in it: choose one by --machine ID: /);
  for (const { id, m, z } of program.machines) {
    assert.ok(fault.includes(`${id} (8M)`), fault);
    assert.deepEqual(await seen({ pid: program.pid, id }), { m, z, quiet: true, fault: '' });
  }
  await kill(program);
});

/** Where Linux would write a core file of a program in the test's folder; '' if elsewhere. */
function core_path(): string {
  const pattern = linux ? readFileSync('/proc/sys/kernel/core_pattern', 'utf8').trim() : '';
  return /^[\w.-]+$/.test(pattern) ? join(folder, pattern) : '';
}
test('of a core file that the system wrote', async (t) => {
  const core = core_path();
  if (core === '') return t.skip('skipped: needs kernel.core_pattern=core');
  const program = await stuck('auto', 'auto');
  await kill(program, 'SIGABRT');
  const [path] = [core, `${core}.${program.pid}`].filter((one) => existsSync(one));
  if (path === undefined) return t.skip('skipped: needs the right to have core files written');
  const { fault } = await seen({ path });
  assert.match(fault, /^2 machines are in it: choose one by --machine ID: /);
  for (const { id, m, z } of program.machines) {
    assert.deepEqual(await seen({ path, id }), { m, z, quiet: true, fault: '' });
  }
  // More mappings than the ELF header has bits for: then the first section header has the number.
  const fd = openSync(path, 'r+');
  const head = Buffer.alloc(64);
  readSync(fd, head, 0, 64, 0);
  const section = Buffer.alloc(64);
  section.writeUInt32LE(head.readUInt16LE(56), 44);
  const end = statSync(path).size;
  writeSync(fd, section, 0, 64, end);
  head.writeUInt16LE(0xffff, 56);
  head.writeBigUInt64LE(BigInt(end), 40);
  writeSync(fd, head, 0, 64, 0);
  closeSync(fd);
  const [{ id, m, z }] = program.machines;
  assert.deepEqual(await seen({ path, id }), { m, z, quiet: true, fault: '' });
  truncateSync(path, 100_000);
  assert.match((await seen({ path })).fault, /; byte 100000: it ends here: it was cut$/);
  truncateSync(path, 60);
  assert.equal((await seen({ path })).fault, 'byte 60: it ends here: too short for a dump');
  rmSync(path);
});

test('own memory is read where it is, by a CPU of its machine', () => {
  const none = own_source();
  assert.equal(none, 'this thread has no machine');
  const machine = boot({ memory: '2M', cpus: 2 });
  machine.type('mine').alloc(100);
  const source = own_source();
  assert.ok(typeof source !== 'string');
  const k = kvm_open_source(source);
  assert.ok(typeof k !== 'string', String(k));
  const count = k.fetch('kern.malloc_count', 4);
  assert.deepEqual(count, machine.sysctlBytes('kern.malloc_count'));
  assert.equal(k.quiet, false, 'it runs');
  machine.check();
  machine.shutdown();
});

test('a process that may not be read: why, and what to set', { skip: !linux }, async () => {
  assert.equal(process_source(2 ** 22 - 1), 'there is no such process');
  const proc = join(folder, 'proc');
  const put = (path: string, text: string): void => {
    mkdirSync(join(proc, path, '..'), { recursive: true });
    writeFileSync(join(proc, path), text);
  };
  put('self/status', 'Uid:\t0\t0\t0\t0\n');
  put('7/maps', '7f0000000000-7f0000800000 rw-p 00000000 00:00 0\n');
  put('7/mem', '');
  const own = process.geteuid?.() ?? 0;
  const cases: [RegExp, uid: number, scope: string][] = [
    [/run this as root; a container needs --cap-add=SYS_PTRACE$/, own, '0\n'],
    [/kernel\.yama\.ptrace_scope is 3, until the next boot$/, own, '3\n'],
    [/or set kernel\.yama\.ptrace_scope=0 \(it is 2\)|is 3/, own, own === 0 ? '3\n' : '2\n'],
  ];
  if (own !== 0) cases.push([/it belongs to user 12345: run this as that user$/, 12345, '0\n']);
  for (const [why, uid, scope] of cases) {
    put('7/status', `Name:\tx\nUid:\t${uid}\t${uid}\t${uid}\t${uid}\n`);
    put('sys/kernel/yama/ptrace_scope', scope);
    let opens = 0;
    // The first is of its own status, the second of the maps, the third of the memory.
    store_faults.next = (op) =>
      op === 'open' && ++opens === 3 ? { what: 'fail', errno: EACCES } : null;
    const said = process_source(7, undefined, proc);
    assert.ok(typeof said === 'string' && !said.includes('\n'), String(said));
    assert.match(said, /^EACCES: the system does not let its memory be read: /);
    assert.match(said, why);
  }
  store_faults.next = null;
  assert.equal(process_source(7, undefined, proc), 'no machine of kmem is in it');
  const nowhere = process_source(7, undefined, join(folder, 'none'));
  assert.equal(nowhere, 'EOPNOTSUPP: this system shows no processes under /proc');
});
