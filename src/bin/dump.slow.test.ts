/*
 * Shows that a program is dumped from outside, whatever it does: one that listens writes its dump
 * itself; one whose event loop is stuck, or that never listened, is read from /proc.  In each case
 * vmstat -m and -z of the file print what they printed in the program.  The file is its owner's
 * alone and overwrites nothing; what cannot be done is one line.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { within } from '../sys/machine/workers.test.lib.ts';

const folder = mkdtempSync(join(tmpdir(), 'kmem-dumped-'));
const KMEM = join(import.meta.dirname, '../../bin/kmem.js');
const linux = process.platform === 'linux';
const children = new Set<ChildProcess>();
after(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}
function kmem(...args: string[]): Ran {
  const env = { ...process.env, XDG_RUNTIME_DIR: folder };
  const ran = spawnSync(process.execPath, [KMEM, ...args], { encoding: 'utf8', cwd: folder, env });
  return { code: ran.status, out: ran.stdout, err: ran.stderr };
}
interface Program {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly machines: { id: string; m: string; z: string }[];
}
/** Starts a program: its machines, and what it does then. */
async function program(does: 'listen' | 'listen-stuck' | 'stuck', machines = 1): Promise<Program> {
  const file = fileURLToPath(new URL('./dump.test.program.ts', import.meta.url));
  const child = spawn(process.execPath, [file, does, String(machines)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, XDG_RUNTIME_DIR: folder },
  });
  children.add(child);
  const [line] = await within(once(createInterface(child.stdout), 'line'), 'it begins');
  return { child, pid: child.pid ?? 0, machines: JSON.parse(line) };
}
async function kill({ child }: Program): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'exit');
  children.delete(child);
}
/** The file is a dump of that machine, whole. */
function shows(path: string, { m, z }: { m: string; z: string }): void {
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const read = kmem('vmstat', '-mz', '-M', path);
  assert.deepEqual(read, { code: 0, out: m + z, err: '' });
}

test('a program that listens writes it; nothing is overwritten, no link followed', async () => {
  const p = await program('listen');
  const [machine] = p.machines;
  const done = kmem('dump', String(p.pid), '-o', 'app.core');
  const path = join(folder, 'app.core');
  const said = new RegExp(`^${path}: \\d+ bytes of machine ${machine.id}, by program\\n$`);
  assert.deepEqual([done.code, done.err], [0, '']);
  assert.match(done.out, said);
  shows(path, machine);
  const before = readFileSync(path);
  const again = kmem('dump', '-o', 'app.core');
  assert.equal(again.code, 1);
  assert.match(again.err, /^kmem dump: EEXIST: dump: \S+: something of that name is there: .*\n$/);
  symlinkSync(join(folder, 'nowhere'), join(folder, 'link'));
  assert.match(kmem('dump', '-o', 'link').err, /^kmem dump: EEXIST: .*no link followed\n$/);
  assert.match(kmem('dump', '-o', 'no/x').err, /^kmem dump: ENOENT: .*no such folder\n$/);
  assert.ok(before.equals(readFileSync(path)) && !existsSync(join(folder, 'nowhere')));
  const packed = kmem('dump', '-z', '--json');
  const { path: zst, by, quiet } = JSON.parse(packed.out);
  assert.deepEqual([by, quiet], ['program', true]);
  assert.match(zst, new RegExp(`/kmem-${machine.id}-${p.pid}-\\d+\\.core\\.zst$`));
  shows(zst, machine);
  await kill(p);
});

test('one whose event loop is stuck, and one that never listened', { skip: !linux }, async () => {
  for (const does of ['listen-stuck', 'stuck'] as const) {
    const p = await program(does);
    const path = join(folder, `${does}.core`);
    const done = kmem('dump', String(p.pid), '-o', path, '--timeout', '1');
    assert.deepEqual([done.code, done.err], [0, '']);
    assert.ok(done.out.endsWith(` bytes of machine ${p.machines[0].id}, by /proc\n`), done.out);
    shows(path, p.machines[0]);
    assert.match(kmem('dump', String(p.pid), '-o', path, '--timeout', '1').err, /: EEXIST: /);
    await kill(p);
    const gone = kmem('dump', String(p.pid), '--timeout', '1');
    const why = `it has no control socket; its memory: there is no such process`;
    assert.deepEqual([gone.code, gone.err], [1, `kmem dump: pid ${p.pid}: ${why}\n`]);
  }
});

test('two machines of a process: the one that is chosen', { skip: !linux }, async () => {
  for (const does of ['listen', 'stuck'] as const) {
    const p = await program(does, 2);
    const none = kmem('dump', String(p.pid), '--timeout', '1');
    assert.equal(none.code, 1);
    assert.match(none.err, /^kmem dump: .*2 machines are [^\n]*\n$/);
    for (const machine of p.machines) {
      assert.ok(none.err.includes(machine.id), none.err);
      const path = join(folder, `${does}-${machine.id}.core.gz`);
      const args = ['--machine', machine.id, '-o', path, '--timeout', '1'];
      const done = kmem('dump', String(p.pid), ...args);
      assert.deepEqual([done.code, done.err], [0, '']);
      shows(path, machine);
    }
    await kill(p);
  }
});

test('no room for it: no file is left, and a line says so', { skip: !linux }, async () => {
  const p = await program('stuck');
  // As a full disk does it, the system refuses to write beyond a size.
  const limit = 'trap "" XFSZ; ulimit -f 100; exec "$0" "$@"';
  const args = [KMEM, 'dump', String(p.pid), '--timeout', '1', '-o', 'large.core'];
  const ran = spawnSync('/bin/sh', ['-c', limit, process.execPath, ...args], {
    encoding: 'utf8',
    cwd: folder,
    env: { ...process.env, XDG_RUNTIME_DIR: folder },
  });
  await kill(p);
  assert.deepEqual([ran.status, ran.stdout], [1, '']);
  assert.match(ran.stderr, /^kmem dump: EFBIG: dump: [^\n]+: a file may not be so long [^\n]+\n$/);
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('large')),
    [],
  );
});
test('one program listens and is stuck, then another: which one is meant', async (t) => {
  if (!linux) return t.skip('skipped: needs /proc');
  const stuck = await program('listen-stuck');
  const path = join(folder, 'only.core');
  const only = kmem('dump', '-o', path, '--timeout', '1');
  assert.deepEqual([only.code, only.err], [0, '']);
  assert.match(only.out, new RegExp(`machine ${stuck.machines[0].id}, by /proc(;.*)?\\n$`));
  shows(path, stuck.machines[0]);
  const other = await program('listen');
  const several = kmem('dump', '-o', join(folder, 'which.core'), '--timeout', '1');
  const pids = [stuck.pid, other.pid].sort((a, b) => a - b).join(', ');
  const why = `2 programs listen: give the process: ${pids}`;
  assert.deepEqual(several, { code: 1, out: '', err: `kmem dump: ${why}\n` });
  await kill(other);
  await kill(stuck);
});

test("another user's program is not read, and a line says why", async (t) => {
  if (!linux || process.geteuid?.() !== 0) return t.skip('skipped: needs root');
  const p = await program('stuck');
  const args = [KMEM, 'dump', String(p.pid), '--timeout', '1', '-o', join(folder, 'x.core')];
  const nobody = { uid: 65_534, gid: 65_534, encoding: 'utf8' } as const;
  const { status, stdout, stderr } = spawnSync(process.execPath, args, nobody);
  await kill(p);
  if (/^kmem dump:/.test(stderr) === false) return t.skip(`skipped: nobody may not run ${KMEM}`);
  assert.deepEqual([status, stdout], [1, '']);
  const why =
    /; its memory: EACCES: the system does not let its memory be read: it belongs to user 0/;
  assert.match(stderr, why);
  assert.ok(!existsSync(join(folder, 'x.core')));
});

test('what cannot be dumped is one line, and leaves no file', () => {
  const before = readdirSync(folder);
  writeFileSync(join(folder, 'there'), '');
  for (const [code, why, ...args] of [
    [2, /x12: give the number of a process; usage: dump/, 'x12'],
    [2, /0: give the number/, '0'],
    [2, /5: one process at a time/, '4', '5'],
    [2, /--timeout 0: give seconds/, '4', '--timeout', '0'],
    [2, /--machine zz: give its id/, '4', '--machine', 'zz'],
    [2, /-q: no such option/, '-q'],
    [2, /-o: give a value/, '4', '-o'],
    [1, /no running machine is found: give its process: it has no control socket/],
    [1, /pid \d+: it has no control socket; its memory: /, String(process.pid)],
    [1, /there is no such process/, '4194303'],
  ] as [number, RegExp, ...string[]][]) {
    const said = kmem('dump', ...args);
    assert.deepEqual([said.code, said.out], [code, ''], said.err);
    assert.match(said.err, why);
    assert.match(said.err, /^kmem dump: [^\n]+\n$/);
  }
  assert.deepEqual(readdirSync(folder), [...before, 'there'].sort());
  assert.match(kmem('dump', '--help').out, /^usage: kmem dump/);
});
