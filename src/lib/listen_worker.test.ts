/*
 * Shows that tools have their answers from a program whose event loop is stuck, if its socket is
 * served by a thread of its own; that the thread ends with the listener, with the machine and
 * with the program, however that ends; and that what cannot be is refused as ever.  The programs
 * are processes, asked by the commands.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { until, within } from '../sys/machine/workers.test.lib.ts';
import { boot, KmemError } from './index.ts';
import { runtimeFolder, TestClient } from './listen.test.lib.ts';

const folder = runtimeFolder();
const skip = process.platform === 'win32';
const KMEM = join(import.meta.dirname, '../../bin/kmem.js');
const children = new Set<ChildProcess>();
after(() => {
  for (const child of children) child.kill('SIGKILL');
});

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}
async function kmem(...args: string[]): Promise<Ran> {
  const child = spawn(process.execPath, [KMEM, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const said = ['', ''];
  for (const [i, from] of [child.stdout, child.stderr].entries()) {
    from.setEncoding('utf8').on('data', (text: string) => {
      said[i] += text;
    });
  }
  const [code] = await within(once(child, 'close'), 'the command ends');
  return { code, out: said[0], err: said[1] };
}
interface Program {
  readonly child: ChildProcess;
  readonly pid: string;
  readonly path: string;
  /** What vmstat -m says in the program. */
  readonly m: string;
}
async function program(does: 'stuck' | 'two' | 'down' | 'ends' | 'exits'): Promise<Program> {
  const file = fileURLToPath(new URL('./listen_worker.test.program.ts', import.meta.url));
  const child = spawn(process.execPath, [file, does], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.add(child);
  const [line] = await within(once(createInterface(child.stdout), 'line'), 'it begins');
  return { child, pid: String(child.pid), ...JSON.parse(line) };
}

test('a program that is stuck: the tools read, set and dump it', { skip }, async () => {
  const p = await program('stuck');
  assert.equal(statSync(p.path).mode & 0o777, 0o600);
  const table = await kmem('vmstat', '-m', '-p', p.pid);
  assert.deepEqual(table, { code: 0, out: p.m, err: '' });
  const set = await kmem('sysctl', '-p', p.pid, 'vm.lowmem_period=7');
  assert.deepEqual([set.code, set.out], [0, 'vm.lowmem_period: 10 -> 7\n'], set.err);
  const core = join(folder, 'stuck.core');
  const done = await kmem('dump', p.pid, '-o', core);
  assert.match(done.out, /, by program\n$/, done.err);
  assert.deepEqual(await kmem('vmstat', '-m', '-M', core), { code: 0, out: p.m, err: '' });
  p.child.kill('SIGTERM'); // no handler waits for an event loop that does not come round
  const [, signal] = await within(once(p.child, 'exit'), 'it ends');
  assert.equal(signal, 'SIGTERM');
  assert.ok(existsSync(p.path), 'nobody was there to remove it');
  const gone = await kmem('vmstat', '-m', '-p', p.pid);
  assert.match(gone.err, /no running machine of pid/);
  assert.ok(!existsSync(p.path), 'the next tool does');
});

test('two machines of a process, one stuck: each answers for itself', { skip }, async () => {
  const p = await program('two');
  const several = await kmem('vmstat', '-m', '-p', p.pid);
  assert.equal(several.code, 2);
  const sockets = [...several.err.matchAll(/\/\S+\.sock/g)].map(([path]) => path);
  assert.equal(sockets.length, 2, several.err);
  const said = await Promise.all(sockets.map((path) => kmem('vmstat', '-m', '--socket', path)));
  const names = said.map(({ out }) => /of thread \d/.exec(out)?.[0]);
  assert.deepEqual(names.sort(), ['of thread 0', 'of thread 1']);
  p.child.kill('SIGKILL');
  await once(p.child, 'exit');
});

test('it keeps no process alive, and its file goes when one ends', { skip }, async () => {
  for (const does of ['ends', 'exits'] as const) {
    const p = await program(does);
    const [code] = await within(once(p.child, 'exit'), 'it ends');
    assert.equal(code, 0, does);
    assert.ok(!existsSync(p.path), does);
  }
});

test('it ends with its listener, and with the machine', { skip }, async () => {
  const machine = boot({ memory: '8M', cpus: 3 });
  const listener = await machine.listen({ worker: true });
  assert.equal(machine.memory().cpus, 2);
  const client = new TestClient(listener.path);
  assert.equal((await client.hello())?.machine, machine.handle.id);
  assert.equal((await client.request(await client.mib('kern.smp.maxcpus'), 4))?.error, 0);
  machine.check();
  await listener.close();
  await listener.close();
  await client.end();
  assert.equal(machine.memory().cpus, 1);
  assert.ok(!existsSync(listener.path));
  // Again, a path of ours; this time the machine ends.
  const path = join(folder, 'own.sock');
  const again = await machine.listen({ worker: true, path });
  assert.equal(again.path, path);
  await assert.rejects(machine.listen({ worker: true, path }), { code: 'EADDRINUSE' });
  assert.equal(machine.memory().cpus, 2, 'the thread that found it taken has left');
  const other = new TestClient(path);
  await other.hello();
  machine.shutdown();
  assert.ok(!existsSync(path), 'at once');
  await other.end();
  await within(again.close(), 'its thread ends');
});

test('another thread ends the machine while this one is stuck', { skip }, async () => {
  const p = await program('down');
  const client = new TestClient(p.path);
  await within(client.end(), 'the socket is closed');
  await until(() => !existsSync(p.path), 'its file goes');
  p.child.kill('SIGKILL');
  await once(p.child, 'exit');
});

test('what cannot be is refused', { skip }, async () => {
  const machine = boot({ memory: '8M', cpus: 1 });
  const before = readdirSync(folder);
  const refused = async (options: object): Promise<string> => {
    const e = await machine.listen(options).catch((e: unknown) => e);
    assert.ok(e instanceof KmemError && !e.message.includes('\n'), String(e));
    return e.message;
  };
  assert.match(await refused({ worker: 1 }), /^EINVAL: listen: worker/);
  assert.match(await refused({ worker: true, path: '' }), /^EINVAL: listen: path/);
  assert.match(await refused({ worker: true }), /^EAGAIN: attach: .*slot/);
  assert.equal(machine.memory().cpus, 1);
  machine.check();
  machine.shutdown();
  assert.deepEqual(readdirSync(folder), before);
  const other = boot({ memory: '8M', cpus: 3 });
  const nowhere = join(folder, 'none', 'x.sock');
  assert.match(await refusedBy(other, nowhere), /^ENOENT: listen: .*its folder is not there/);
  await until(() => other.memory().cpus === 1, 'the thread has left');
  other.check();
  other.shutdown();
});
async function refusedBy(machine: ReturnType<typeof boot>, path: string): Promise<string> {
  const e = await machine.listen({ worker: true, path }).catch((e: unknown) => e);
  return (e as Error).message;
}
