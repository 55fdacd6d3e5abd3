/*
 * Shown: a recording that can be read once is played as often as it is asked for,
 * nothing is left of the copy, devices are refused, --write has every pass, and a
 * name that is not there ends the command before anything is read.
 * By what means: the command as a process of its own, on pipes with and without a
 * name, on a file as standard input, and with a folder of its own for copies.  Which option is
 * tried on which of these is drawn; recordings.stress.ts tries all.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { gunzipSync } from 'node:zlib';
import {
  BUNDLED,
  drawn,
  temporary_file,
  temporary_folder,
  WHOLE,
} from '../replay/read/traces.test.common.ts';
import { COMMAND, ended, GM, kmem, MAKE, type Run, refused, replay } from './replay.test.lib.ts';

const HTTP2 = join(BUNDLED, 'http2.pcap.gz');

/** Runs the command with this file for standard input and a folder for copies. */
async function run(folder: string, argv: readonly string[], stdin = '/dev/null'): Promise<Run> {
  const fd = openSync(stdin, 'r');
  const env = { ...process.env, TMPDIR: folder };
  const child = spawn(process.execPath, [COMMAND, 'replay', ...argv], {
    stdio: [fd, 'pipe', 'pipe'],
    env,
  });
  closeSync(fd);
  return ended(child);
}
function fifo(t: TestContext, name: string): string {
  const pipe = join(temporary_folder(t), name);
  execFileSync('mkfifo', [pipe]);
  return pipe;
}
/** Writes into a pipe as soon as somebody reads it. */
async function write_into(pipe: string, bytes: Uint8Array): Promise<void> {
  const file = await open(pipe, 'w');
  await file.writeFile(bytes);
  await file.close();
}

test('--fit, --compare and --loop play what comes out of a pipe', async (t) => {
  const copies = temporary_folder(t);
  const cases: [string, string[]][] = [
    [GM, ['--fit', '--cpus', '1', '--memory', '8M']],
    [GM, ['--compare', 'verify=yes,no', '--cpus', '1']],
    [HTTP2, ['--loop', '3', '--cpus', '2']],
  ];
  /** Plays a file that comes through a pipe, and says by which name. */
  type Way = (file: string, argv: readonly string[]) => Promise<readonly [string, Run]>;
  const ways: Way[] = [
    async (file, argv) => {
      const pipe = fifo(t, 'named');
      const named = run(copies, ['--json', ...argv, pipe]);
      const [of] = await Promise.all([named, write_into(pipe, readFileSync(file))]);
      return [pipe, of];
    },
    async (file, argv) => ['-', await run(copies, ['--json', ...argv, '-'], file)],
    async (file, argv) => ['-', await kmem(['replay', '--json', ...argv, '-'], readFileSync(file))],
  ];
  // Each case and each way once; all of them with all, where nothing is drawn.
  const [turn] = drawn([0, 1, 2]);
  for (const [n, [file, argv]] of cases.entries()) {
    const bytes = readFileSync(file);
    for (const way of WHOLE ? ways : [ways[(n + turn) % ways.length]]) {
      const [name, { code, out, err }] = await way(file, argv);
      assert.deepEqual([code, err], [0, ''], `${argv}, ${name}`);
      const d = JSON.parse(out);
      assert.equal(d.file, name);
      assert.equal(d.trace.compressed_bytes, bytes.length);
      if (argv[0] === '--fit') assert.ok(d.memory.fit_bytes > 0);
      if (argv[0] === '--compare') assert.equal(d.compare.runs.length, 2);
      if (argv[0] === '--loop') assert.deepEqual([d.packets.passes, d.verdict.good], [3, true]);
    }
    assert.deepEqual(readdirSync(copies), [], 'the copies are gone');
  }
});

test('messages call a copy by the name that was given; a failing replay removes it', async (t) => {
  const copies = temporary_folder(t);
  const odd = temporary_file(t, 'odd', '= Start\nwhat?\n@ a:[0x1] + 0x10 0x20\n');
  const strict = await run(copies, ['--fit', '--strict', '-'], odd);
  refused(strict, /^kmem replay: standard input: line 2: /, 1);
  refused(await run(copies, ['--fit', '-'], HTTP2), /^kmem replay: standard input: is pcap, no /);
  const pipe = fifo(t, 'hollow');
  const hollow = run(copies, ['--loop', '2', pipe]);
  await write_into(pipe, new Uint8Array(0));
  refused(await hollow, /hollow: byte 0: the trace is empty; /);
  assert.deepEqual(readdirSync(copies), []);
});

test('a signal in the middle ends the command and takes the copy along', async (t) => {
  const copies = temporary_folder(t);
  const env = { ...process.env, TMPDIR: copies };
  const argv = [COMMAND, 'replay', '--loop', '1000000', '--cpus', '2', '-'];
  const child = spawn(process.execPath, argv, { env });
  const exit = new Promise((resolve) => child.once('exit', (_code, by) => resolve(by)));
  child.stdin.on('error', () => {}); // it may be killed before it has read all
  child.stdin.end(readFileSync(HTTP2));
  while (readdirSync(copies).length === 0) await new Promise((go) => setTimeout(go, 10));
  child.kill('SIGTERM');
  assert.equal(await exit, 'SIGTERM');
  assert.deepEqual(readdirSync(copies), []);
});

test('devices are refused', async (t) => {
  const copies = temporary_folder(t);
  const line = /: is a character device; give a file or a pipe$/m;
  for (const argv of [[], ['--fit'], ['--loop', '2']]) {
    refused(await run(copies, [...argv, '/dev/zero']), line);
    refused(await run(copies, [...argv, '-'], '/dev/zero'), line);
  }
});

test('--loop 3 --write writes all that was sent', async (t) => {
  const plain = gunzipSync(readFileSync(HTTP2));
  const records = plain.subarray(24);
  for (const cpus of ['1', '3']) {
    const to = join(temporary_folder(t), 'out.pcap');
    const { code, err } = await replay('--loop', '3', '--write', to, '--cpus', cpus, HTTP2);
    assert.deepEqual([code, err], [0, '']);
    assert.ok(readFileSync(to).equals(Buffer.concat([plain, records, records])), `${cpus} CPUs`);
  }
});

test('a wrong name is told before anything is read', async (t) => {
  const folder = temporary_folder(t);
  const [to, absent] = [join(folder, 'x'), join(folder, 'absent')];
  refused(await replay('--sysctl-dump', `no.such=${to}`, absent), /no\.such: no such node/);
  refused(await replay('--sysctl', 'no.such', absent), /--sysctl 'no\.such': .*unknown oid/);
  refused(await replay('--sysctl-dump', `kern.malloc_stats=${to}`, absent), /no such file/);
  const { code } = await replay('--quiet', '--sysctl-dump', `kern.malloc_stats=${to}`, MAKE);
  assert.equal(code, 0);
  assert.ok(readFileSync(to).length > 1000);
});
