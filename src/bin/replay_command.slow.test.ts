/*
 * Shown: `kmem replay` as its users meet it: layouts of the verdict and the tables,
 * one JSON document with every promised name, one line and the right exit code for
 * a command line or a trace that cannot be played.  More of its ways in and out are
 * in replay.slow.test.ts.
 * By what means: the command runs as a process of its own, on real files and pipes.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { temporary_file, temporary_folder } from '../replay/read/traces.test.common.ts';
import {
  GM,
  MAKE,
  kmem,
  kmem_each,
  refused,
  replay,
  replay_json,
  truth,
} from './replay.test.lib.ts';

/** The verdict of gm, without time and memory. */
const LINES = [
  'gm.mtrace.gz: mtrace, 960 events, played once on CPU 1',
  ' the recording, in bytes asked for',
  '  requests      449 for 16,259,372 bytes, of 51 call sites',
  '  peak          5,506,312 bytes in 233 blocks, at event 449 (47 %)',
  '  temporary     55 blocks (12 %), freed by the next event',
  '  never freed   2,592 bytes in 5 blocks',
  '  most of it by 1,792 bytes in 1 block  libgomp.so.1:0xd139',
  '                408 bytes in 2 blocks   libgomp.so.1:0xd09d',
  '                368 bytes in 1 block    ld-linux-x86-64.so.2:0x10cb3',
  '                24 bytes in 1 block     libgomp.so.1:0xd0fd',
  '  peak held by  5,376,168 bytes in 3 blocks  locateResourceLimitedMemory+258',
  '                65,728 bytes in 47 blocks    MagickMallocAligned+46',
  '                22,576 bytes in 15 blocks    MagickMallocCleared+e',
  '  most calls by 97 requests for 640,960 bytes  MagickMallocAligned+46',
  '                84 requests for 2,867 bytes    libc.so.6:0x38d8d',
  '                48 requests for 2,784 bytes    libc.so.6:0x38f23',
  '  recording     67 frees of unknown blocks',
  ' the machine, in size classes',
  '  requests      449 served, 0 failed',
  '  in use        3,104 bytes in 5 blocks at the end',
  '  contents      every block held what was written into it',
  '',
];

test('the verdict and both tables, line by line', async () => {
  const { code, out, err } = await replay('--cpus', '1', GM);
  assert.deepEqual([code, err], [0, '']);
  const lines = out.split('\n');
  const timeless = lines.filter((l) => !/^ {2}(time|memory) /.test(l));
  assert.deepEqual(timeless.slice(0, LINES.length + 2), [
    ...LINES,
    'vmstat -m',
    `${' '.repeat(27)}Type InUse MemUse HighUse Requests  Size(s)`,
  ]);
  assert.match(out, /^ {2}time {10}\d+\.\d\d s, too short to speak of speed$/m);
  assert.match(
    out,
    /^ {2}memory {8}5\.\d\dM of 1024M taken at the peak, \d+\.\d % of it not asked/m,
  );
  assert.match(out, /^ +libgomp\.so\.1:0xd09d {5}2 {5}1K {6}1K {8}2 {2}256$/m);
  const zones = lines.indexOf('vmstat -z');
  assert.equal(lines[zones + 1].slice(0, 49), 'ITEM                   SIZE  LIMIT     USED     F');
  assert.equal(lines[zones + 2], '');
  assert.match(out, /^UMA Kegs: +\d+, {6}0, +\d+, +\d+, +\d+, {3}0, {3}0$/m);
  assert.match(out, /^256: {20}256, {6}0, {7}2, +\d+, +\d+, {3}0, {3}0$/m);
  const wide = lines.slice(0, zones).filter((l) => l.length > 80 && !/Size|,\d+,/.test(l));
  assert.deepEqual(wide, [], 'fits a terminal');
});

test('--quiet: the verdict alone; without verification nothing is claimed', async () => {
  const argv = ['--no-verify', '--type-by', 'none', '--programs', '2', GM];
  const { out } = await replay(...argv);
  assert.match(out, /^ {2}contents {6}not looked at \(--no-verify\)$/m);
  assert.match(out, /^ +all +10 +\d+K /m);
  assert.ok(!(await replay('--quiet', ...argv)).out.includes('vmstat'));
});

test('the trace is told once and exactly; N programs are N times the machine only', async () => {
  const { out } = await replay('--quiet', MAKE);
  assert.match(out, /^make\.mtrace\.gz: .* played once on CPU 1$/m);
  assert.match(out, /^ {2}never freed {3}172,865 bytes in 1,889 blocks$/m);
  assert.match(out, /^ {2}most of it by 131,136 bytes in 597 blocks +make:xcalloc\+1a$/m);
  const [one, two] = [await replay_json(MAKE), await replay_json('--programs', '2', MAKE)];
  assert.deepEqual(one.trace, two.trace);
  assert.deepEqual([one.cpus, one.programs, two.cpus, two.programs], [1, 1, 2, 2]);
  assert.equal(one.heap.inuse, one.trace.never_freed_blocks);
  for (const key of ['inuse', 'memuse', 'requests']) {
    assert.equal(two.heap[key], 2 * one.heap[key], key);
  }
  const several = (await replay('--quiet', '--programs', '2', MAKE)).out;
  assert.match(several, /^make.* played by 2 programs at once on CPUs 1 and 2$/m);
  assert.match(several, /^ the machine, in size classes, of the 2 programs together$/m);
  assert.match(several, /^ {2}most of it by 131,136 bytes in 597 blocks/m);
});

test('--json: one document, every promised name, nothing else', async () => {
  const d = await replay_json('--programs', '2', MAKE);
  for (const [name, value] of Object.entries(truth['make.mtrace.gz'])) {
    assert.deepEqual(d.trace[name], value, name);
  }
  const names: Record<string, string[]> = {
    trace: [
      ...['format', 'event_lines', 'lines_by_op', 'acquisitions', 'malformed_lines'],
      ...['peak_live_bytes', 'peak_live_bytes_at_event', 'temporary', 'never_freed_bytes', 'sites'],
      ...['top_never_freed_sites', 'top_call_sites_at_peak', 'top_call_sites_by_requests'],
    ],
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

test('a command line that cannot be carried out', async (t) => {
  const folder = temporary_folder(t);
  const cases: [RegExp, string[]][] = [
    [/^kmem: nonsense: no such command/, ['nonsense']],
    [/^kmem: nonsense: no such command/, ['help', 'nonsense']],
    [/Unknown option '--foo.bar'/, ['replay', '--foo.bar']],
    [/--cpus <value>' argument missing/, ['replay', '--cpus']],
    [/--cpus 0: a whole number/, ['replay', '--cpus', '0', MAKE]],
    [/--cpus 1\.5: a whole number/, ['replay', '--cpus', '1.5', MAKE]],
    [/--cpus 64: a whole number/, ['replay', '--cpus', '64', MAKE]],
    [/--programs 0: a whole number/, ['replay', '--programs', '0', MAKE]],
    [/--programs N has N CPUs/, ['replay', '--programs', '2', '--cpus', '2', MAKE]],
    [
      /are for captures; .*--programs for heaps/,
      ['replay', '--programs', '2', '--loop', '2', MAKE],
    ],
    [/--memory: 1K is below 1M/, ['replay', '--memory', '1K', MAKE]],
    [/--memory: 9G is above 8G/, ['replay', '--memory', '9G', MAKE]],
    [/--memory: 'much' is not a size/, ['replay', '--memory', 'much', MAKE]],
    [/--type-by file: one of caller, module, none/, ['replay', '--type-by', 'file', MAKE]],
    [/--set a: NAME=VALUE/, ['replay', '--set', 'a', MAKE]],
    [/set no\.such=1: no such tunable/, ['replay', '--set', 'no.such=1', MAKE]],
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
  const helps = [
    [],
    ['--help'],
    ['start', '--help'],
    ['help', 'start'],
    ['explain', '--help'],
    ['help', 'explain'],
    ['help'],
    ['replay', '--help'],
    ['help', 'replay'],
    ['--version'],
  ];
  const answers = await kmem_each(t, helps);
  assert.match(answers.pop()?.out ?? '', /^kmem \d+\.\d+/);
  for (const { code, out, err } of answers) {
    assert.deepEqual([code, err], [0, '']);
    assert.match(out, /usage: kmem[\s\S]*examples:/);
    for (const line of out.split('\n')) assert.ok(line.length <= 80, line);
  }
});

test('odd sizes and a long line are played around; --strict stops at them', async (t) => {
  const lines = ['= Start', '@ a:[0x1] + 0x10 0x20', '@ a:[0x1] + 0x20 -0x5', '@ a:[0x1] + 0x30 0'];
  lines.push(`@ ${'x'.repeat(2e6)}`, '@ a:[0x1] + 0x40 0xfffffffffffffff0', '@ a:[0x1] - 0x10', '');
  const file = temporary_file(t, 'odd.mtrace', lines.join('\n'));
  const run = await replay('--json', '--cpus', '1', file);
  assert.deepEqual([run.code, run.err], [1, ''], 'no memory has room for the largest');
  const d = JSON.parse(run.out);
  assert.deepEqual([d.trace.malformed_lines, d.heap.failed, d.heap.inuse], [2, 1, 1]);
  const { code, out } = await replay('--quiet', '--cpus', '1', file);
  assert.equal(code, 1);
  assert.match(out, /^ {2}recording {5}2 malformed lines\n {16}first: .*odd\.mtrace:3: /m);
  refused(await replay('--strict', file), /odd\.mtrace: line 3: .*; mend the line/, 1);
  assert.equal((await replay('--strict', '--quiet', GM)).code, 0);
});

test('a broken-off pipe is played as far as it goes, packed or plain', async () => {
  const bytes = readFileSync(MAKE);
  const argv = ['replay', '--json', '--cpus', '1', '-'];
  const packed = bytes.subarray(0, 9000);
  for (const input of [packed, gunzipSync(bytes).subarray(0, 9000)]) {
    const run = await kmem(argv, input);
    assert.deepEqual([run.code, run.err], [0, '']);
    const { heap, trace } = JSON.parse(run.out);
    assert.equal(heap.inuse, trace.never_freed_blocks);
    assert.ok(trace.event_lines > 50 && trace.event_lines < 5365);
    assert.equal(trace.damaged_at, trace.uncompressed_bytes);
  }
  const plain = await kmem(['replay', '--quiet', '-'], gunzipSync(bytes).subarray(0, 9000));
  assert.match(plain.out, /^ {2}recording {5}damaged, .*: line \d+: the file ends in the middle/m);
  const { out } = await kmem(['replay', '--quiet', '-'], packed);
  assert.match(out, /^ {2}recording {5}damaged, played up to byte [\d,]+: the gzip data ends/m);
  refused(await kmem(['replay', '--strict', '-'], packed), /byte 9000: the gzip data ends/, 1);
});

/** The pieces of a screen between its `…` lines; of time and memory the words count. */
function pieces(screen: string): string[] {
  const timeless = screen.replace(/^ {2}(time|memory) .*$/gm, (row) =>
    row.replace(/[\d.,]+/g, '0'),
  );
  return timeless.split(/^…\n/m);
}
test("the README's screen is what the command prints", async () => {
  const readme = readFileSync(join(import.meta.dirname, '..', '..', 'README.md'), 'utf8');
  const [, screen] =
    /^\$ npx kmem replay traces\/make\.mtrace\.gz\n([^`]*)```$/m.exec(readme) ?? [];
  assert.ok(screen?.includes('…\n'));
  const [out] = pieces((await replay(MAKE)).out);
  let at = 0;
  for (const piece of pieces(screen)) {
    const found = out.indexOf(piece, at);
    assert.ok(found >= 0, `not printed, or not in this order:\n${piece}\nof\n${out}`);
    at = found + piece.length;
  }
});
