/*
 * Shown: the other ways into and out of `kmem replay`: several files and standard
 * input, the bundled recordings, the raw streams as an independent reader sees them,
 * input that cannot be read, too small a machine, progress on a terminal and nowhere
 * else, a reader of our output that leaves.
 * By what means: the command runs as a process of its own, on real files, pipes
 * and a pseudo-terminal (made by `script` where it is installed).
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import {
  BUNDLED,
  drawn,
  temporary_file,
  temporary_folder,
} from '../replay/read/traces.test.common.ts';
import {
  COMMAND,
  GM,
  MAKE,
  ended,
  kmem,
  kmem_each,
  refused,
  replay,
  replay_json,
  start,
  truth,
} from './replay.test.lib.ts';

const STREAMS = join(import.meta.dirname, '..', '..', 'tests', 'readers', 'streams.py');

test('several files make one document, a list; standard input is a file like others', async () => {
  const both = await replay_json(MAKE, GM);
  assert.deepEqual(
    both.map((d: { trace: { event_lines: number } }) => d.trace.event_lines),
    [5365, 960],
  );
  for (const input of drawn([readFileSync(MAKE), gunzipSync(readFileSync(MAKE))])) {
    const run = await kmem(['replay', '--json', '--cpus', '1', '-'], input);
    assert.deepEqual([run.code, run.err], [0, '']);
    assert.equal(JSON.parse(run.out).heap.inuse, truth['make.mtrace.gz'].never_freed_blocks);
  }
  const { out } = await kmem(['replay', '--quiet', '-'], readFileSync(GM));
  assert.match(out, /^standard input: mtrace, 960 events/);
});

test('the bundled recordings, when no file is named', async () => {
  const { code, out, err } = await replay();
  assert.deepEqual([code, err], [0, '']);
  const verdicts = [...out.matchAll(/^(\S+): (mtrace|kmem-threads v1), /gm)].map((m) => m[1]);
  assert.deepEqual(verdicts.sort(), Object.keys(truth).sort());
  assert.equal(out.match(/every block held/g)?.length, verdicts.length);
  assert.equal(out.match(/^vmstat -[mz]/gm)?.length, 2);
});

test('a raw stream, read by another program, says the same as document and truth', async (t) => {
  try {
    execFileSync('python3', ['--version']);
  } catch {
    return t.skip('needs python3');
  }
  const folder = temporary_folder(t);
  for (const [file, cpus] of drawn([
    [GM, 2],
    [join(BUNDLED, 'redis.threads.gz'), 2],
  ] as const)) {
    const malloc = join(folder, 'malloc');
    const zones = join(folder, 'zones');
    const dumps = ['--sysctl-dump', `kern.malloc_stats=${malloc}`];
    dumps.push('--sysctl-dump', `vm.zone_stats=${zones}`);
    const many = file === GM ? '--programs' : '--cpus';
    const d = await replay_json(many, String(cpus), ...dumps, file);
    const read = (...argv: string[]) =>
      JSON.parse(execFileSync('python3', [STREAMS, ...argv], { encoding: 'utf8' }));
    const m = read('malloc', malloc);
    const of = (rows: { name: string }[]) => new Map(rows.map((r) => [r.name, r]));
    const all = of(m.types);
    for (const row of [...d.heap.types, ...d.heap.kernel.types]) {
      const { requests, inuse, memuse, sizes } = all.get(row.name) as unknown as typeof row;
      assert.deepEqual({ name: row.name, inuse, memuse, requests, sizes }, row);
    }
    assert.equal(m.count, d.heap.types.length + d.heap.kernel.types.length);
    assert.equal(m.total.inuse, d.heap.inuse + d.heap.kernel.inuse);
    assert.equal(m.total.requests, d.heap.requests + d.heap.kernel.requests);
    const programs = d.trace.format === 'mtrace' ? cpus : 1;
    assert.equal(m.total.inuse - d.heap.kernel.inuse, programs * d.trace.never_freed_blocks);
    const z = read('zones', zones);
    assert.equal(z.count, d.heap.zones.length);
    const rows = of(z.zones);
    for (const row of d.heap.zones) {
      const { size, used, free, requests, fail, sleep, limit } = rows.get(
        row.name,
      ) as unknown as typeof row;
      assert.deepEqual({ name: row.name, size, limit, used, free, requests, fail, sleep }, row);
    }
  }
});

test('input that cannot be read', async (t) => {
  const folder = temporary_folder(t);
  mkdirSync(join(folder, 'two\nlines'));
  const whole = readFileSync(MAKE);
  const file = (content: string | Uint8Array): string => temporary_file(t, 'trace', content);
  const noise = Uint8Array.from({ length: 5000 }, (_, i) => (i * 7919 + (i >> 3) * 31) | 0x80);
  const closed = file('= Start\n');
  chmodSync(closed, 0);
  const cases: [RegExp, string][] = [
    [/absent: no such file; check/, join(folder, 'absent')],
    [/: is a directory; name/, folder],
    [/two lines: is a directory/, join(folder, 'two\nlines')],
    [/: byte \d+: the gzip data ends too early/, file(whole.subarray(0, 90))],
    [/not a trace format kmem knows/, file(noise)],
    [/not a trace format kmem knows/, file(gzipSync(noise))],
    [/the trace is empty/, file('')],
    [
      /strace; the first: 1: mmap: its flags, argument 4, is miss/,
      file('1 mmap(0, 1, 2) = 0x7f\n'),
    ],
    [/recognised as kmem-pages, but not/, file('# kmem-pages v7 page_bytes=4096\nr 1\n')],
  ];
  if (process.getuid?.() !== 0) cases.push([/not allowed to read it/, closed]);
  const argvs = cases.map(([, name], i) => ['replay', ...(i % 2 ? ['--json'] : []), name]);
  const runs = await kmem_each(t, argvs);
  for (const [i, run] of runs.entries()) refused(run, cases[i][0]);
  refused(await replay('--json', MAKE, join(folder, 'absent')), /absent: no such file/);
});

test('too small a machine is told, by the exit code too', async () => {
  const { code, out } = await replay('--quiet', '--cpus', '1', '--memory', '2M', GM);
  assert.equal(code, 1);
  assert.match(
    out,
    /^ {2}too small {5}about \d.*M would be enough \(estimated; --fit finds out\)$/m,
  );
  const fits = await replay('--quiet', '--fit', '--cpus', '1', '--memory', '3M', MAKE);
  assert.equal(fits.code, 0);
  const never = await replay('--quiet', '--fit', '--cpus', '1', '--memory', '2M', GM);
  assert.equal(never.code, 1);
  assert.match(never.out, /^ {2}fit {11}none: this memory is too small$/m);
  assert.match(fits.out, /^ {2}fit {11}1\.00M is the least that plays without a failure$/m);
});

test('a reader of our output that leaves is no error, and ends us', async () => {
  const child = start(['replay', MAKE, GM, MAKE]);
  child.stdout?.once('data', () => child.stdout?.destroy());
  let err = '';
  child.stderr?.on('data', (b) => void (err += b));
  const code = await new Promise((resolve) => child.once('close', resolve));
  assert.deepEqual([code, err], [0, '']);
});

test('progress: on a terminal, and nowhere else', async (t) => {
  if (!existsSync('/usr/bin/script')) return t.skip('needs script (util-linux)');
  const trace = join(BUNDLED, 'redis.threads.gz');
  const replays = `'${process.execPath}' '${COMMAND}' replay --cpus 2 '${trace}'`;
  const command = `stty cols 60; exec ${replays}`;
  const env = { ...process.env, SHELL: '/bin/sh' }; // what `script` runs the command with
  const child = spawn('/usr/bin/script', ['-qefc', command, '/dev/null'], { env });
  const { code, out } = await ended(child);
  assert.equal(code, 0, out);
  const drawn = out.split('\r').filter((l) => /^redis\.threads\.gz: \d+ %, [\d,]+ events/.test(l));
  assert.ok(drawn.length > 0, JSON.stringify(out.slice(0, 400)));
  for (const line of drawn) assert.ok(line.replace('\x1b[K', '').length < 60, line);
  assert.match(out, /\r\x1b\[Kredis\.threads\.gz: kmem-threads v1/, 'wiped before the verdict');
  assert.match(out, /484,777 events of 5 threads, played once on CPUs 1 and 2\r?$/m);
  assert.ok(!(await replay(MAKE)).out.includes('\x1b'));
});
