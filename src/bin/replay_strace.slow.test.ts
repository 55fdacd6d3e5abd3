/*
 * Shown: `kmem replay` of a recording of system calls as its users meet it: rows and table,
 * one JSON document with every name that truth.json has, options that do not go with it,
 * recordings that are cut, and what is not played, said plainly.
 * Damaged in any way, it ends with rows or with one line.
 * By what means: the command runs as a process of its own, on real files and pipes.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { damaged } from '../replay/read/strace.fuzz.ts';
import { strace_truth } from '../replay/read/strace.test.lib.ts';
import {
  BUNDLED,
  random_from,
  SEED,
  temporary_file,
  WHOLE,
} from '../replay/read/traces.test.common.ts';
import { kmem, kmem_each, MAKE, refused, replay, replay_json } from './replay.test.lib.ts';

const CALLS = join(BUNDLED, 'make.strace.gz');
const truth = strace_truth(BUNDLED)?.['make.strace.gz'] ?? {};

test('rows and table, line by line', async () => {
  const { code, out, err } = await replay('--cpus', '2', CALLS);
  assert.deepEqual([code, err], [0, '']);
  const lines = out.split('\n');
  assert.deepEqual(lines.slice(0, 8), [
    'make.strace.gz: strace, 12,878 lines of 67 processes and threads',
    ' the recording',
    '  processes     66 made, 0 threads; 67 exited, 0 killed; 63 signals',
    '  calls         11,230 of 14 names; failed 168 ENOENT',
    '  mapped        667M by mmap, taken away 5.52M by munmap',
    '  moved         12M by read, 1.62M by write',
    ' the machine, in pages of 4K, played on CPUs 1 and 2',
    '  spaces        68 made, at most 5 at a time',
  ]);
  const machine = [
    /^ {2}memory {8}[\d.]+M of 1024M at the peak; most by ld \(\d+\), \d\.\d\dM$/,
    /^ {2}answers {7}4,076 calls answered as recorded$/,
    /^ {2}faults {8}[\d,]+: [\d,]+ zero fills, [\d,]+ of copy-on-write; \d+ shoot-downs?$/,
    /^ {16}\d+ pages of files read$/,
    /^ {2}contents {6}every page held what its space, or the one it came of, wrote$/,
    /^ {2}pages left {4}none: every page was given back$/,
    /^ {2}not played {4}6,986 calls: 3,278 read, 2,662 close, 866 write, 126 wait4, …$/,
    /^ {2}time {10}\d+\.\d\d s, [\d,]+ lines\/s$/,
  ];
  for (const [i, line] of machine.entries()) assert.match(lines[8 + i], line);
  assert.deepEqual(lines.slice(16, 20), [
    '',
    'CALL                  ENDED  REFUSED  NOT PLAYED',
    'read                   3278        0        3278',
    'close                  2662        0        2662',
  ]);
  assert.ok(lines.includes('execve                  235      168           0'));
  assert.deepEqual(
    lines.filter((line) => line.length > 80),
    [],
    'fits a terminal',
  );
  const sums = lines.indexOf('vmstat -s');
  assert.ok(lines.slice(16, sums).every((line) => !line.startsWith(' ')));
  const [, faults = ''] = /^ {2}faults +([\d,]+): /.exec(lines[10]) ?? [];
  const counted = lines.slice(sums).find((line) => line.endsWith(' total VM faults taken')) ?? '';
  assert.ok(Number.parseInt(counted, 10) >= Number((faults ?? '').replaceAll(',', '')), counted);
});

test('--json: every count of the truth, and what is not played, by name', async () => {
  const both = await replay_json('--cpus', '2', MAKE, CALLS);
  assert.deepEqual(
    both.map((one: object) => ['heap' in one, 'not_played' in one]),
    [
      [true, false],
      [false, true],
    ],
    'beside a heap',
  );
  const d = both[1];
  assert.ok(Object.keys(truth).length > 20);
  for (const [name, value] of Object.entries(truth)) assert.deepEqual(d.trace[name], value, name);
  const { calls, plan } = d.trace;
  for (const name of Object.keys(calls)) {
    const left = (plan.refused[name] ?? 0) + (d.not_played[name] ?? 0);
    assert.equal(left + (d.vm.calls[name] ?? 0), calls[name], name);
  }
  assert.equal(d.operations, plan.operations);
  assert.deepEqual([d.cpus, d.trace.malformed_lines], [2, 0]);
  assert.equal(d.memory.pages_left, 0);
  for (const name of ['faults', 'zero_fills', 'cow', 'shootdowns', 'resident_peak', 'fork_pages']) {
    assert.equal(typeof d.vm[name], 'number', name);
  }
  const sums = d['summary-statistics'];
  assert.ok(sums['total-faults'] >= d.vm.faults && sums['zero-fill-pages'] >= d.vm.zero_fills);
  assert.ok(d.vm.zero_fills > 0 && d.vm.faults >= d.vm.zero_fills);
  const nothing = [d.vm.mismatches, d.vm.no_memory, d.vm.skipped];
  assert.deepEqual(nothing, [{}, {}, {}]);
  assert.deepEqual([d.vm.verify_errors, d.vm.failed_touches, d.vm.spaces_left], [0, 0, 0]);
});

test('from a pipe, and cut', async (t) => {
  const text = gunzipSync(readFileSync(CALLS));
  const piped = await kmem(['replay', '--quiet', '-'], text);
  assert.match(piped.out, /^standard input: strace, 12,878 lines /);
  assert.equal(piped.out.split('\n').length, 17);
  const cut = temporary_file(t, 'cut.strace', text.subarray(0, 500_000));
  const { code, out } = await replay('--quiet', cut);
  assert.equal(code, 0);
  assert.match(
    out,
    /^ {2}recording {5}damaged, played up to byte 500,000: line \d+: the file ends in the middle/m,
  );
  assert.match(out, /^ +never resumed: \d+ /m);
  refused(await replay('--strict', cut), /cut\.strace: line \d+: the file ends in the middle/, 1);
});

test(`damaged in any way: rows, or one line that says where (seed ${SEED})`, async (t) => {
  const random = random_from(SEED);
  const text = gunzipSync(readFileSync(CALLS)).toString('latin1').slice(0, 50_000);
  const argvs = Array.from({ length: WHOLE ? 12 : 4 }, (_, i) => {
    const file = temporary_file(t, 'damaged', Buffer.from(damaged(random, text), 'latin1'));
    return ['replay', '--quiet', ...(i % 3 === 0 ? ['--strict'] : []), file];
  });
  for (const { code, out, err } of await kmem_each(t, argvs)) {
    if (code === 0) assert.match(out, /^damaged: strace, [\d,]+ lines? of [\s\S]*\n {2}time /);
    else assert.match(err, /^kmem replay: \S+: [^\n]+\n$/);
    assert.ok(!/^ +at /m.test(out + err), err);
  }
});

test('what does not go with it, and what its words mean', async (t) => {
  const cases: [RegExp, string[]][] = [
    [/is strace, no recording of a heap; recordings of system calls are/, ['--fit', CALLS]],
    [/is strace; --programs is for recordings of heaps/, ['--programs', '2', CALLS]],
    [/is strace, no capture; /, ['--drop', CALLS]],
    [/is strace, no recording of a heap/, ['--compare', 'verify=yes,no', CALLS]],
  ];
  const argvs = cases.map(([, argv]) => ['replay', ...argv]);
  const runs = await kmem_each(t, [...argvs, ['explain', 'not played'], ['explain', 'mapped']]);
  for (const [i, [line]] of cases.entries()) refused(runs[i], line);
  assert.match(runs[cases.length].out, /Calls that changed nothing/);
  assert.match(runs[cases.length + 1].out, /Bytes that the recorded programs asked/);
});
