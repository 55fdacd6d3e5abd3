/*
 * Shown: `kmem replay` of references to pages as its users meet it: rows, one JSON document with
 * every count that truth.json has, the same figures again, one table of several sizes of
 * memory; options that do not go with it, recordings that are cut or of another kind, said in
 * one line.
 * By what means: the command runs as a process of its own, on real files and pipes.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { pages_truth } from '../replay/read/pages.test.lib.ts';
import { BUNDLED, temporary_file, WHOLE } from '../replay/read/traces.test.common.ts';
import { kmem, kmem_each, MAKE, refused, replay, replay_json } from './replay.test.lib.ts';

const MATMUL = join(BUNDLED, 'matmul.pages.gz');
const truth = pages_truth(BUNDLED)?.['matmul.pages.gz'] ?? {};
const text = gunzipSync(readFileSync(MATMUL));
/** Its beginning, of whole lines. */
const short = text.subarray(0, text.lastIndexOf(10, 500_000) + 1);

test('rows, line by line', async () => {
  const { code, out, err } = await replay('--resident', '64', MATMUL);
  assert.deepEqual([code, err], [0, '']);
  const lines = out.split('\n');
  assert.deepEqual(lines.slice(0, 7), [
    'matmul.pages.gz: kmem-pages v1, 725,481 references to 247 pages',
    ' the recording, in pages of 4K',
    '  references    711,549 reads, 13,932 writes',
    '  written       99 of 247 pages',
    '  LRU           of 16, 64, 256 pages would miss 318,077, 394, 247',
    '  enough        32 (128K) miss less than 1 %; 256 (1.00M) nothing but first uses',
    ' the machine, in pages of 4K, played on CPU 1',
  ]);
  const machine = [
    /^ {2}memory {8}[\d.]+[KM] of 1024M at the peak, the kernel's own included$/,
    /^ {2}resident {6}at most 64 pages \(256K\)$/,
    /^ {2}misses {8}\d{3}, 0\.\d\d % of references: 1\.\d\d times exact LRU's 394$/,
    /^ {2}faults {8}\d{3}: 247 zero fills, \d{3} page-ins, \d+ soft$/,
    /^ {2}paged {9}\d{3} pages in, \d{3} out$/,
    /^ {2}contents {6}every page held what was last written to it$/,
    /^ {2}pages left {4}none: every page was given back$/,
    /^ {2}time {10}\d+\.\d\d s, [\d,]+ references\/s$/,
  ];
  for (const [i, line] of machine.entries()) assert.match(lines[7 + i], line);
  assert.deepEqual(lines.slice(15, 17), ['', 'vmstat -s']);
  assert.deepEqual(
    lines.filter((line) => line.length > 80),
    [],
    'fits a terminal',
  );
  const all = (await replay('--quiet', MATMUL)).out;
  assert.equal(all.split('\n').length, 16);
  assert.match(all, /^ {2}resident {6}as many as there is room for \(--resident N\)$/m);
  assert.match(all, /^ {2}misses {8}247, 0\.03 % of references$/m);
});

test('--json: every count of the truth, and the same again', async () => {
  const d = await replay_json('--resident', '64', MATMUL);
  assert.ok(Object.keys(truth).length > 10);
  for (const [name, value] of Object.entries(truth)) assert.deepEqual(d.trace[name], value, name);
  const { vm } = d;
  const names = ['misses', 'references', 'faults_soft', 'faults_hard', 'zero_fills', 'pageins'];
  for (const name of [...names, 'pageouts', 'cow', 'shootdowns', 'lru_misses', 'lru_ratio']) {
    assert.equal(typeof vm[name], 'number', name);
  }
  assert.deepEqual([d.resident, d.readahead, d.cpus, d.verified], [64, false, 1, true]);
  assert.deepEqual([vm.lru_misses, vm.references], [394, 725_481]);
  assert.equal(vm.misses, vm.zero_fills + vm.faults_hard);
  assert.equal(vm.lru_ratio, vm.misses / 394);
  assert.ok(vm.lru_ratio < 1.15);
  assert.deepEqual([vm.verify_errors, vm.no_memory, vm.failed, d.memory.pages_left], [0, 0, 0, 0]);
  const again = await replay_json('--resident', '64', '--cpus', '1', MATMUL);
  assert.deepEqual(again.vm, vm);
  const sums = d['summary-statistics'];
  assert.ok(sums['total-faults'] >= vm.faults && sums['zero-fill-pages'] >= vm.zero_fills);
});

test('--compare: a column for each size of memory', async (t) => {
  const sizes = WHOLE ? ['32', '64', '256'] : ['32', '256'];
  const { code, out, err } = await replay('--compare', `resident=${sizes}`, MATMUL);
  assert.deepEqual([code, err], [0, '']);
  const lines = out.trimEnd().split('\n');
  assert.match(lines[0], /^matmul\.pages\.gz: kmem-pages v1, 725,481 references to 247 pages, on /);
  const cells = new Map(lines.map((l) => l.trim().split(/ {2,}/)).map((c) => [c[0], c.slice(1)]));
  assert.deepEqual(cells.get('resident'), sizes);
  const lru = new Map([
    ['32', '733'],
    ['64', '394'],
    ['256', '247'],
  ]);
  assert.deepEqual(
    cells.get('exact LRU'),
    sizes.map((n) => lru.get(n)),
  );
  const none = sizes.map(() => '0');
  assert.deepEqual([cells.get('wrong contents'), cells.get('pages left')], [none, none]);
  const misses = (cells.get('misses') ?? []).map((n) => Number(n.replaceAll(',', '')));
  assert.ok(
    misses.every((n, i) => i === 0 || n < misses[i - 1]) && misses.at(-1) === 247,
    `${misses}`,
  );
  for (const line of lines) assert.ok(line.length <= 80, line);
  const more = ['--compare', 'vm.inactive_percent=33,50', '--resident', '64'];
  const d = await replay_json(...more, temporary_file(t, 'short.pages', short));
  assert.deepEqual([d.compare.name, d.compare.runs.length], ['vm.inactive_percent', 2]);
  for (const run of d.compare.runs) {
    assert.equal(run.resident, 64);
    const [one, other] = run.rounds;
    assert.deepEqual([one.misses, one.pageouts], [other.misses, other.pageouts]);
    assert.equal(run.verdict.misses, run.vm.misses);
  }
});

test('from a pipe, cut, and of Valgrind', async (t) => {
  const piped = await kmem(['replay', '--quiet', '--compare', 'resident=64,128', '-'], short);
  const [, references = ''] = /^standard input: kmem-pages v1, ([\d,]+) ref/.exec(piped.out) ?? [];
  const lines = short.toString('latin1').match(/^[rw] /gm) ?? [];
  assert.equal(references, lines.length.toLocaleString('en-US'));
  const cut = temporary_file(t, 'cut.pages', text.subarray(0, 500_003));
  const { code, out } = await replay('--quiet', '--resident', '64', cut);
  assert.equal(code, 0);
  assert.match(
    out,
    /^ {2}recording {5}damaged, played up to byte 500,003: line \d+: the file ends in the middle/m,
  );
  refused(await replay('--strict', cut), /cut\.pages: line \d+: the file ends in the middle/, 1);
  const lackey = '==1== Lackey, an example Valgrind tool\nI  04001000,3\n S 04001ffe,8\nwhat\n';
  const odd = await replay('--quiet', temporary_file(t, 'odd.lackey', lackey));
  assert.match(odd.out, /^odd\.lackey: lackey, 3 references to 2 pages\n/);
  assert.match(odd.out, /^ {2}references {4}1 fetches, 0 loads, 1 stores, 0 both$/m);
  assert.match(odd.out, /^ {2}recording {5}1 malformed line$/m);
  assert.match(odd.out, /:4: not `I {2}ADDRESS,SIZE`/);
});

test('what does not go with it, and what its words mean', async (t) => {
  const cases: [RegExp, string[]][] = [
    [/--resident 0: a whole number of pages from 1 to /, ['--resident', '0', MATMUL]],
    [/--resident 1\.5: a whole number/, ['--resident', '1.5', MATMUL]],
    [/--resident many: a whole number/, ['--resident', 'many', MATMUL]],
    [/--resident 8: 2 players want 16 pages/, ['--resident', '8', '--cpus', '2', MATMUL]],
    [
      /--resident 5000: the machine has fewer than 4096 pages; give more --memory/,
      ['--resident', '5000', '--memory', '16M', MATMUL],
    ],
    [/--resident and --readahead are for references/, ['--resident', '64', '--fit', MATMUL]],
    [/--resident and --readahead are for references/, ['--readahead', '--drop', MATMUL]],
    [/is mtrace; --resident and --readahead are for recordings/, ['--resident', '64', MAKE]],
    [/is kmem-pages v1, no recording of a heap; .* without --fit/, ['--fit', MATMUL]],
    [/is kmem-pages v1; --programs is for/, ['--programs', '2', MATMUL]],
    [/is kmem-pages v1, no capture; /, ['--drop', MATMUL]],
    [/--compare resident=0: a whole number/, ['--compare', 'resident=16,0', MATMUL]],
    [/--compare resident: 16 is given twice/, ['--compare', 'resident=16,16', MATMUL]],
    [/--compare readahead=1: yes or no/, ['--compare', 'readahead=yes,1', MATMUL]],
    [
      /--compare resident: it is also set/,
      ['--compare', 'resident=16,32', '--resident', '9', MATMUL],
    ],
  ];
  const argvs = cases.map(([, argv]) => ['replay', ...argv]);
  const runs = await kmem_each(t, [...argvs, ['explain', 'misses'], ['explain', 'paged']]);
  for (const [i, [line]] of cases.entries()) refused(runs[i], line);
  assert.match(runs[cases.length].out, /their page not in\s+memory/);
  assert.match(runs[cases.length + 1].out, /brought in from where they had\s+been put/);
});
test('nowhere to put pages: told, and soon over', async () => {
  const none = ['--resident', '64', '--set', 'vm.swap_default=0', '--set', 'vm.oom_wait=0'];
  const { code, out } = await replay('--quiet', ...none, MATMUL);
  assert.equal(code, 1);
  assert.match(out, /^ {2}too small {5}[\d,]+ references found no memory, [\d,]+ were left out/m);
  assert.match(out, /^ {2}pages left {4}none/m);
});
