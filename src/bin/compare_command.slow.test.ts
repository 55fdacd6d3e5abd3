/*
 * Shown: `kmem replay --compare` prints one table a trace and one JSON document, for options and
 * tunables alike; whatever cannot be compared is one line and exit code 2.  Longer runs are in
 * compare.slow.test.ts.
 * By what means: the command as a process of its own on bundled traces and a heaptrack recording.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { BUNDLED } from '../replay/read/traces.test.common.ts';
import { kmem_each, MAKE, refused, replay, replay_json, truth } from './replay.test.lib.ts';

const EDGES = join(BUNDLED, 'edges.mtrace.gz');
const READERS = join(import.meta.dirname, '..', '..', 'tests', 'readers');
const HEAPTRACK = join(READERS, 'known.heaptrack.zst');

test('one table, a column for each value', async () => {
  const { code, out, err } = await replay('--cpus', '1', '--compare', 'type-by=caller,none', MAKE);
  assert.deepEqual([code, err], [0, '']);
  const lines = out.trimEnd().split('\n');
  assert.equal(lines[0], 'make.mtrace.gz: mtrace, 5,365 events, played once on CPU 1');
  const cells = new Map(lines.map((l) => l.trim().split(/ {2,}/)).map((c) => [c[0], c.slice(1)]));
  assert.deepEqual(cells.get('type-by'), ['caller', 'none']);
  assert.deepEqual(cells.get('requests served'), ['3,623', '3,623']);
  assert.deepEqual(cells.get('in use at the end'), ['1,889', '1,889']);
  assert.deepEqual(cells.get('failed'), ['0', '0']);
  assert.deepEqual(cells.get('damaged blocks'), ['0', '0']);
  assert.deepEqual(cells.get('malloc types'), ['20', '1']);
  assert.match(out, /^ {2}ns an event +[\d,]+ +[\d,]+$/m, 'too short to mark a speed');
  assert.match(out, /^ {2}too short to speak of speed$/m);
  for (const line of lines) assert.ok(line.length <= 80, line);
});

test('--json: one document a trace, each run as a replay of its own tells', async () => {
  const d = await replay_json('--compare', 'vm.idlezero_enable=1,0', '--cpus', '1', MAKE);
  assert.deepEqual(Object.keys(d), ['file', 'trace', 'compare']);
  for (const [name, value] of Object.entries(truth['make.mtrace.gz'])) {
    assert.deepEqual(d.trace[name], value, name);
  }
  assert.deepEqual([d.compare.name, d.compare.rounds], ['vm.idlezero_enable', 2]);
  const values = d.compare.runs.map((r: { value: string }) => r.value);
  assert.deepEqual(values, ['1', '0']);
  for (const run of d.compare.runs) {
    assert.equal(run.heap.inuse, d.trace.never_freed_blocks);
    assert.equal(run.verdict.never_freed_blocks, run.heap.inuse);
    assert.equal(run.verdict.seconds, run.time.seconds);
    assert.equal(run.verdict.fragmentation, run.memory.fragmentation);
    assert.equal(run.rounds.length, 2);
    for (const key of Object.keys(run.verdict)) assert.match(key, /^[a-z][a-z0-9_]*$/);
  }
  const both = await replay_json('--compare', 'verify=yes,no', '--cpus', '1', HEAPTRACK, EDGES);
  assert.deepEqual(
    both.map((one: { trace: { format: string } }) => one.trace.format),
    ['heaptrack', 'mtrace'],
  );
  for (const one of both) {
    const [yes, no] = one.compare.runs;
    assert.deepEqual([yes.verified, no.verified], [true, false]);
    assert.deepEqual([yes.verdict.verify_errors, no.verdict.verify_errors], [0, null]);
  }
});

test('what cannot be compared', async (t) => {
  const cases: [RegExp, string[]][] = [
    [/--compare type-by: NAME=A,B is wanted/, ['type-by', MAKE]],
    [/--compare =1,2: NAME=A,B/, ['=1,2', MAKE]],
    [/--compare cpus=1: NAME=A,B is wanted, with two values or more/, ['cpus=1', MAKE]],
    [/--compare cpus=1,: NAME=A,B/, ['cpus=1,', MAKE]],
    [/--compare cpus: 1 is given twice/, ['cpus=1,2,1', MAKE]],
    [/--compare memory: 65536K is the same as 64M/, ['memory=64M,65536K', MAKE]],
    [/--compare vm\.lowmem_period: 0x10 is the same as 16/, ['vm.lowmem_period=16,0x10', MAKE]],
    [/--compare memory=much: 'much' is not a size/, ['memory=64M,much', MAKE]],
    [/--compare memory=1K: 1K is below 1M/, ['memory=64M,1K', MAKE]],
    [/--compare cpus=64: a whole number from 1 to 63/, ['cpus=1,64', MAKE]],
    [/--compare type-by=file: one of caller, module, none/, ['type-by=caller,file', MAKE]],
    [/--compare verify=maybe: yes or no/, ['verify=yes,maybe', MAKE]],
    [/--compare no\.such=1: no such tunable \(nor memory, cpus/, ['no.such=1,2', MAKE]],
    [/--compare toString=1: no such tunable/, ['toString=1,2', MAKE]],
    [/--compare hw\.physmem=1: no such tunable/, ['hw.physmem=1,2', MAKE]],
    [
      /--compare vm\.stats\.vm\.v_page_count=1: not a tunable/,
      ['vm.stats.vm.v_page_count=1,2', MAKE],
    ],
    [/--compare vm\.lowmem_period=often: not a number/, ['vm.lowmem_period=1,often', MAKE]],
    [/--compare vm\.lowmem_period=9999: outside 0 to 3600/, ['vm.lowmem_period=1,9999', MAKE]],
    [/--compare cpus=1,2: one setting at a time/, ['verify=yes,no', '--compare', 'cpus=1,2', MAKE]],
    [/--compare cpus: it is also set/, ['cpus=1,2', '--cpus', '1', MAKE]],
    [/--compare cpus: --programs says how many/, ['cpus=1,2', '--programs', '2', MAKE]],
    [/--compare programs: --cpus says how many/, ['programs=1,2', '--cpus', '2', MAKE]],
    [/one thread, which plays on one CPU; compare programs=1,2/, ['cpus=1,2', MAKE]],
    [/--compare verify: it is also set/, ['verify=yes,no', '--no-verify', MAKE]],
    [
      /--compare vm\.lowmem_period: it is/,
      ['vm.lowmem_period=1,2', '--set', 'vm.lowmem_period=3', MAKE],
    ],
    [/--compare memory: --fit finds/, ['memory=1M,2M', '--fit', MAKE]],
    [/several machines: --sysctl looks at one/, ['verify=yes,no', '--sysctl=-a', MAKE]],
    [/several machines: --sysctl-dump/, ['verify=yes,no', '--sysctl-dump', 'a=/dev/null', MAKE]],
    [/absent: no such file/, ['verify=yes,no', join(READERS, 'absent')]],
  ];
  const argvs = cases.map(([, argv]) => ['replay', '--compare', ...argv]);
  const runs = await kmem_each(t, argvs);
  for (const [i, [line]] of cases.entries()) refused(runs[i], line);
});

test('a setting with which the kernel does not come up is told with its value', async () => {
  const setting = 'vm.kmem_size_max=1,64m';
  const { code, out, err } = await replay('--compare', setting, '--cpus', '1', EDGES);
  assert.deepEqual([code, err], [0, '']);
  assert.match(out, /^ {2}1: ENOMEM: boot: vm\.kmem_size of 1 bytes is too small .*: give more$/m);
  assert.match(out, /^ {2}requests served +- +18$/m);
});
