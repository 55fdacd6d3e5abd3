/*
 * Shown: `kmem replay` as its users meet it: layouts of the verdict and the tables,
 * one JSON document with every promised name, one line and the right exit code for
 * whatever cannot be played, progress on a terminal and nowhere else, the raw
 * streams as an independent reader sees them, and closed pipes.
 * By what means: the command runs as a process of its own, on real files, pipes
 * and a pseudo-terminal (made by `script` where it is installed).
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import {
  BUNDLED,
  heap_truth,
  temporary_file,
  temporary_folder,
} from '../replay/traces.test.common.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const KMEM = join(ROOT, 'bin', 'kmem.js');
const STREAMS = join(ROOT, 'tests', 'readers', 'streams.py');
const MAKE = join(BUNDLED, 'make.mtrace.gz');
const GM = join(BUNDLED, 'gm.mtrace.gz');
const truth = heap_truth(BUNDLED) ?? {};

interface Run {
  code: number | null;
  out: string;
  err: string;
}
function start(argv: readonly string[]): ChildProcess {
  return spawn(process.execPath, [KMEM, ...argv]);
}
function ended(child: ChildProcess): Promise<Run> {
  const text = { out: '', err: '' };
  child.stdout?.on('data', (b) => void (text.out += b));
  child.stderr?.on('data', (b) => void (text.err += b));
  child.stdin?.on('error', () => {}); // it may end before it has read all
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, ...text })));
}
function kmem(argv: readonly string[], input: string | Uint8Array = ''): Promise<Run> {
  const child = start(argv);
  const run = ended(child);
  child.stdin?.end(input);
  return run;
}
function replay(...argv: string[]): Promise<Run> {
  return kmem(['replay', ...argv]);
}
async function replay_json(...argv: string[]) {
  const run = await replay('--json', ...argv);
  assert.deepEqual([run.code, run.err], [0, '']);
  return JSON.parse(run.out);
}
/** One line on stderr that matches, nothing on stdout. */
function refused({ code, out, err }: Run, line: RegExp, wanted = 2): void {
  assert.match(err, /^kmem[^\n]*\n$/, 'one line');
  assert.match(err, line);
  assert.deepEqual([code, out], [wanted, ''], err);
}

/* Calls the command many times in one process, which saves starting it as often. */
const DRIVER = `
  import { readFileSync } from 'node:fs';
  const { main } = await import('${new URL('./main.ts', import.meta.url).href}');
  const show = process.stdout.write.bind(process.stdout);
  process.stdout.setMaxListeners(0);
  const runs = [];
  for (const argv of JSON.parse(readFileSync(process.argv[2], 'utf8'))) {
    const run = { code: null, out: '', err: '' };
    process.stdout.write = (text) => ((run.out += text), true);
    process.stderr.write = (text) => ((run.err += text), true);
    run.code = await main(argv);
    runs.push(run);
  }
  show(JSON.stringify(runs));`;

async function kmem_each(t: TestContext, argvs: string[][]): Promise<Run[]> {
  const driver = temporary_file(t, 'driver.mjs', DRIVER);
  const list = temporary_file(t, 'list.json', JSON.stringify(argvs));
  const { code, out, err } = await ended(spawn(process.execPath, [driver, list]));
  assert.deepEqual([code, err], [0, '']);
  return JSON.parse(out);
}

test('the verdict and both tables, line by line', async () => {
  const { code, out, err } = await replay('--cpus', '1', GM);
  assert.deepEqual([code, err], [0, '']);
  const lines = out.split('\n');
  const timeless = lines.filter((l) => !/^ {2}(time|memory) /.test(l));
  assert.deepEqual(timeless.slice(0, 11), [
    'gm.mtrace.gz: mtrace, 960 events, played as 1 program on 1 CPU',
    '  requests      449 served, 0 failed; 5 blocks (3.0K) never freed',
    '  contents      every block held what was written into it',
    '  recording     67 frees of unknown blocks',
    '  never freed   2,048 bytes in 1 block by libgomp.so.1:0xd139',
    '                512 bytes in 2 blocks by libgomp.so.1:0xd09d',
    '                512 bytes in 1 block by ld-linux-x86-64.so.2:0x10cb3',
    '                32 bytes in 1 block by libgomp.so.1:0xd0fd',
    '',
    'vmstat -m',
    '         Type InUse MemUse HighUse Requests  Size(s)',
  ]);
  assert.match(out, /^ {2}time {10}\d+\.\d\d s, too short to speak of speed$/m);
  assert.match(
    out,
    /^ {2}memory {8}5\.\d\dM of 1024M taken at the peak, \d+\.\d % of it not asked/m,
  );
  assert.match(out, /^libgomp\.so\.1:0xd09d {5}2 {5}1K {7}- {8}2 {2}256$/m);
  const zones = lines.indexOf('vmstat -z');
  assert.equal(lines[zones + 1].slice(0, 49), 'ITEM                   SIZE  LIMIT     USED     F');
  assert.equal(lines[zones + 2], '');
  assert.match(out, /^UMA Kegs: +\d+, {6}0, +\d+, +\d+, +\d+, {3}0, {3}0$/m);
  assert.match(out, /^256: {20}256, {6}0, {7}2, +\d+, +\d+, {3}0, {3}0$/m);
  const wide = lines.slice(0, zones).filter((l) => l.length > 80 && !/Size|,\d+,/.test(l));
  assert.deepEqual(wide, [], 'fits a terminal');
});

test('--quiet: the verdict alone; without verification nothing is claimed', async () => {
  const { out } = await replay('--quiet', '--no-verify', '--type-by', 'none', GM);
  assert.match(out, /^ {2}contents {6}not looked at \(--no-verify\)$/m);
  assert.match(out, /^ {2}never freed {3}[\d,]+ bytes in 10 blocks by all$/m);
  assert.ok(!out.includes('vmstat'));
});

test('--json: one document, every promised name, nothing else', async () => {
  const d = await replay_json('--cpus', '2', MAKE);
  for (const [name, value] of Object.entries(truth['make.mtrace.gz'])) {
    assert.deepEqual(d.trace[name], value, name);
  }
  const names: Record<string, string[]> = {
    trace: ['format', 'event_lines', 'lines_by_op', 'acquisitions', 'malformed_lines'],
    heap: ['requests', 'inuse', 'memuse', 'failed', 'verify_errors', 'types', 'zones', 'kernel'],
    memory: ['size_bytes', 'kernel_peak_bytes', 'fragmentation'],
    time: ['seconds', 'ns_per_event', 'events_per_second', 'reading_seconds', 'playing_seconds'],
  };
  for (const [part, keys] of Object.entries(names)) {
    for (const key of keys) assert.ok(d[part][key] !== undefined, `${part}.${key}`);
  }
  assert.equal(d.cpus, 2);
  assert.deepEqual(Object.keys(d.heap.types[0]), ['name', 'inuse', 'memuse', 'requests', 'sizes']);
  assert.equal(d.heap.inuse, 2 * d.trace.never_freed_blocks);
  assert.equal(d.memory.size_bytes, 2 ** 30);
  const data = new Set(['lines_by_op', 'size_histogram', 'threads_with_1000_events_or_more']);
  const snake = (value: unknown, at: string): void => {
    if (typeof value !== 'object' || value === null) return;
    for (const [key, inner] of Object.entries(value)) {
      if (!Array.isArray(value)) assert.match(key, /^[a-z][a-z0-9_]*$/, `${at}.${key}`);
      if (!data.has(key)) snake(inner, `${at}.${key}`);
    }
  };
  snake(d, '');
});

test('several files make one document, a list; standard input is a file like others', async () => {
  const both = await replay_json(MAKE, GM);
  assert.deepEqual(
    both.map((d: { trace: { event_lines: number } }) => d.trace.event_lines),
    [5365, 960],
  );
  for (const input of [readFileSync(MAKE), gunzipSync(readFileSync(MAKE))]) {
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
  for (const [file, cpus] of [
    [GM, 2],
    [join(BUNDLED, 'redis.threads.gz'), 2],
  ] as const) {
    const malloc = join(folder, 'malloc');
    const zones = join(folder, 'zones');
    const dumps = ['--sysctl-dump', `kern.malloc_stats=${malloc}`];
    dumps.push('--sysctl-dump', `vm.zone_stats=${zones}`);
    const d = await replay_json('--cpus', String(cpus), ...dumps, file);
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

test('a command line that cannot be carried out', async (t) => {
  const folder = temporary_folder(t);
  const cases: [RegExp, string[]][] = [
    [/^kmem: no command is given/, []],
    [/^kmem: nonsense: no such command/, ['nonsense']],
    [/^kmem: nonsense: no such command/, ['help', 'nonsense']],
    [/Unknown option '--foo.bar'/, ['replay', '--foo.bar']],
    [/--cpus <value>' argument missing/, ['replay', '--cpus']],
    [/--cpus 0: a whole number/, ['replay', '--cpus', '0', MAKE]],
    [/--cpus 1\.5: a whole number/, ['replay', '--cpus', '1.5', MAKE]],
    [/--cpus 64: a whole number/, ['replay', '--cpus', '64', MAKE]],
    [/--memory: 1K is below 1M/, ['replay', '--memory', '1K', MAKE]],
    [/--memory: 9G is above 8G/, ['replay', '--memory', '9G', MAKE]],
    [/--memory: 'much' is not a size/, ['replay', '--memory', 'much', MAKE]],
    [/--type-by file: one of caller, module, none/, ['replay', '--type-by', 'file', MAKE]],
    [/--set a: NAME=VALUE/, ['replay', '--set', 'a', MAKE]],
    [/set no\.such=1: no such tunable/, ['replay', '--set', 'no.such=1', MAKE]],
    [/--fit plays a trace several times/, ['replay', '--fit', '-']],
    [/the name of a file is empty/, ['replay', '']],
    [/--sysctl-dump x: NAME=FILE/, ['replay', '--sysctl-dump', 'x', MAKE]],
    [/goes with one file/, ['replay', '--sysctl-dump', `a=${folder}/x`, MAKE, GM]],
    [/cannot be written \(ENOENT\)/, ['replay', '--sysctl-dump', `a=${folder}/no/x`, MAKE]],
    [/no\.such: no such node/, ['replay', '--sysctl-dump', `no.such=${folder}/x`, MAKE]],
  ];
  const runs = await kmem_each(
    t,
    cases.map(([, argv]) => argv),
  );
  for (const [i, [line]] of cases.entries()) refused(runs[i], line);
  refused(await kmem(cases[3][1]), cases[3][0]);
  const helps = [['--help'], ['help'], ['replay', '--help'], ['help', 'replay'], ['--version']];
  const answers = await kmem_each(t, helps);
  assert.match(answers.pop()?.out ?? '', /^kmem \d+\.\d+/);
  for (const { code, out, err } of answers) {
    assert.deepEqual([code, err], [0, '']);
    assert.match(out, /usage: kmem[\s\S]*examples:/);
    for (const line of out.split('\n')) assert.ok(line.length <= 80, line);
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
    [/: byte \d+: the gzip data ends too early/, file(whole.subarray(0, 9000))],
    [/not a trace format kmem knows/, file(noise)],
    [/not a trace format kmem knows/, file(gzipSync(noise))],
    [/the trace is empty/, file('')],
    [/strace/, file('1234  1700000000.123456 mmap(NULL, 4096, PROT_READ) = 0x7f\n')],
  ];
  if (process.getuid?.() !== 0) cases.push([/not allowed to read it/, closed]);
  const argvs = cases.map(([, name], i) => ['replay', ...(i % 2 ? ['--json'] : []), name]);
  const runs = await kmem_each(t, argvs);
  for (const [i, run] of runs.entries()) refused(run, cases[i][0]);
  refused(await replay('--json', MAKE, join(folder, 'absent')), /absent: no such file/);
});

test('odd sizes and a long line are played around; --strict stops at them', async (t) => {
  const lines = ['= Start', '@ a:[0x1] + 0x10 0x20', '@ a:[0x1] + 0x20 -0x5', '@ a:[0x1] + 0x30 0'];
  lines.push(
    `@ ${'x'.repeat(20e6)}`,
    '@ a:[0x1] + 0x40 0xfffffffffffffff0',
    '@ a:[0x1] - 0x10',
    '',
  );
  const file = temporary_file(t, 'odd.mtrace', lines.join('\n'));
  const d = await replay_json('--cpus', '1', file);
  assert.deepEqual([d.trace.malformed_lines, d.heap.failed, d.heap.inuse], [2, 1, 1]);
  const { code, out } = await replay('--quiet', '--cpus', '1', file);
  assert.equal(code, 0);
  assert.match(out, /^ {2}recording {5}2 malformed lines\n {16}first: .*odd\.mtrace:3: /m);
  refused(await replay('--strict', file), /odd\.mtrace: line 3: .*; mend the line/, 1);
  assert.equal((await replay('--strict', '--quiet', GM)).code, 0);
});

test('too small a machine is told, and exits as played', async () => {
  const { code, out } = await replay('--quiet', '--cpus', '1', '--memory', '2M', GM);
  assert.equal(code, 0);
  assert.match(
    out,
    /^ {2}too small {5}about \d.*M would be enough \(estimated; --fit finds out\)$/m,
  );
  const fits = await replay('--quiet', '--fit', '--cpus', '1', '--memory', '8M', MAKE);
  assert.match(fits.out, /^ {2}fit {11}1\.00M is the least that plays without a failure$/m);
});

test('a reader of our output that leaves is no error, and ends us', async () => {
  const child = start(['replay', MAKE, GM, MAKE]);
  child.stdout?.once('data', () => child.stdout?.destroy());
  let err = '';
  child.stderr?.on('data', (b) => void (err += b));
  const code = await new Promise((resolve) => child.once('exit', resolve));
  assert.deepEqual([code, err], [0, '']);
});

test('a broken-off pipe ends a plain trace, and is an error in a packed one', async () => {
  const bytes = readFileSync(MAKE);
  const packed = await kmem(['replay', '--quiet', '-'], bytes.subarray(0, 5000));
  assert.equal(packed.code, 2);
  assert.match(packed.err, /^kmem replay: standard input: byte 5000: the gzip data ends too early/);
  const plain = await kmem(
    ['replay', '--json', '--cpus', '1', '-'],
    gunzipSync(bytes).subarray(0, 9000),
  );
  assert.equal(plain.code, 0);
  const { heap, trace } = JSON.parse(plain.out);
  assert.equal(heap.inuse, trace.never_freed_blocks);
  assert.ok(trace.event_lines > 50 && trace.event_lines < 5365);
});

test('progress: on a terminal, and nowhere else', async (t) => {
  if (!existsSync('/usr/bin/script')) return t.skip('needs script (util-linux)');
  const trace = join(BUNDLED, 'redis.threads.gz');
  const command = `stty cols 60; exec '${process.execPath}' '${KMEM}' replay '${trace}'`;
  const child = spawn('/usr/bin/script', ['-qefc', command, '/dev/null'], { env: process.env });
  const { code, out } = await ended(child);
  assert.equal(code, 0, out);
  const drawn = out.split('\r').filter((l) => /^redis\.threads\.gz: \d+ %, [\d,]+ events/.test(l));
  assert.ok(drawn.length > 0, JSON.stringify(out.slice(0, 400)));
  for (const line of drawn) assert.ok(line.replace('\x1b[K', '').length < 60, line);
  assert.match(out, /\r\x1b\[Kredis\.threads\.gz: kmem-threads v1/, 'wiped before the verdict');
  assert.ok(!(await replay(MAKE)).out.includes('\x1b'));
});
