/*
 * Shown: a machine too small for a recording ends the run normally and counts what
 * failed; the estimate it gives is enough and not far off; --fit finds a size that
 * plays while one unit less does not, within a tenth of the peak; the largest and
 * smallest machines play; a player or a machine that dies ends the run with one
 * line and no hang, even while the reader waits for a silent pipe.
 * By what means: real machines from 1 MiB to 8 GiB; threads that are really ended.  Which
 * recordings and machines is drawn; recordings.stress.ts plays all.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fit } from './fit.ts';
import { type ReplayOutcome, replay } from './replay.ts';
import { PLAIN, plays_as_recorded } from './replay.test.lib.ts';
import { BUNDLED, drawn, heap_truth, temporary_file } from '../read/traces.test.common.ts';

const UNIT = 65536;
const truth = heap_truth(BUNDLED) ?? {};
const trace = (name: string): string => join(BUNDLED, name);

/** Every request was served or failed, and nothing that failed was freed. */
function ended_normally(out: ReplayOutcome, programs: number): void {
  const { heap } = out;
  assert.ok(heap.failed > 0);
  assert.equal(heap.verify_errors, 0);
  assert.deepEqual(out.complaints, []);
  assert.ok(heap.inuse <= programs * out.trace.never_freed_blocks);
  assert.equal(out.memory.estimated, true);
  assert.ok((out.memory.estimated_enough_bytes ?? 0) > out.memory.size_bytes);
  assert.ok(out.memory.fragmentation >= 0 && out.memory.fragmentation <= 1);
}

test('too small: failures are counted, later frees skipped, the estimate is enough', async (t) => {
  for (const [name, cpus, memory] of drawn([
    ['gitlog.mtrace.gz', 2, '1.5M'],
    ['gm.mtrace.gz', 1, '2M'],
    ['redis.threads.gz', 2, '5M'],
  ] as const)) {
    const several = cpus > 1 && !name.includes('threads') ? { programs: cpus } : {};
    const o = { ...PLAIN, ...several, files: [trace(name)], cpus };
    const out = await replay({ ...o, memory });
    ended_normally(out, name.includes('threads') ? 1 : cpus);
    for (const [key, value] of Object.entries(truth[name])) {
      assert.deepEqual(out.trace[key as keyof typeof out.trace], value, key);
    }
    const enough = out.memory.estimated_enough_bytes ?? 0;
    const again = await replay({ ...o, memory: enough });
    // Several CPUs keep spare blocks from one another, differently in each run.
    const may_fail = cpus === 1 ? 0 : out.heap.failed / 1000;
    const text = `${again.heap.failed} failed in the ${enough} bytes estimated`;
    assert.ok(again.heap.failed <= may_fail, `${name}: ${text}`);
    const peak = again.memory.kernel_peak_bytes;
    t.diagnostic(`${name} ${cpus} CPUs: estimated ${(enough / peak).toFixed(2)} x the peak`);
    assert.ok(enough < 2 * peak + 2 ** 20, `${enough} bytes estimated, ${peak} taken`);
  }
});

test('a failed realloc keeps the old block; one without memory may be born later', async (t) => {
  const lines = ['@ a:[0x1] + 0x10 0x64', '@ a:[0x1] < 0x10', '@ a:[0x1] > 0x20 0x900000'];
  lines.push('@ a:[0x1] < 0x20', '@ a:[0x1] > 0x30 0x40', '@ a:[0x1] + 0x40 0xffffffffffff');
  lines.push('@ a:[0x1] < 0x40', '@ a:[0x1] > 0x50 0x200', '@ a:[0x1] + 0x60 0xffffffff');
  lines.push('@ a:[0x1] - 0x60', '@ a:[0x1] - 0x30', '');
  const file = temporary_file(t, 'small.mtrace', `= Start\n${lines.join('\n')}`);
  const { heap } = await replay({ ...PLAIN, files: [file], cpus: 1, memory: '2M' });
  assert.deepEqual([heap.failed, heap.skipped_events, heap.inuse], [3, 1, 1]);
  assert.equal(heap.memuse, 512);
  assert.equal(heap.verify_errors, 0);
});

test('--fit: that size plays, one unit less does not, and it is close to the peak', async (t) => {
  for (const [name, least] of drawn([
    ['gm.mtrace.gz', 5_506_312],
    ['make.mtrace.gz', 0],
  ] as const)) {
    const notes: string[] = [];
    const o = { ...PLAIN, files: [trace(name)], cpus: 1 };
    const out = await fit(o, (text) => notes.push(text));
    const size = out.memory.fit_bytes ?? 0;
    assert.equal(out.heap.failed, 0);
    assert.equal(out.memory.size_bytes, size);
    assert.ok(size >= least && notes.length > 2, notes.join(', '));
    t.diagnostic(`${name}: fits in ${(size / 2 ** 20).toFixed(2)} MiB, ${notes.length} runs`);
    if (size === 2 ** 20) continue; // nothing is smaller
    assert.ok(size <= 1.1 * out.memory.kernel_peak_bytes, `${size} bytes`);
    const less = await replay({ ...o, memory: size - UNIT });
    assert.ok(less.heap.failed > 0, 'one unit less is too small');
  }
  const none = await fit(
    { ...PLAIN, files: [trace('xz.mtrace.gz')], cpus: 1, memory: '2M' },
    () => {},
  );
  assert.equal(none.memory.fit_bytes, null);
  assert.ok(none.heap.failed > 0 && (none.memory.estimated_enough_bytes ?? 0) > 90e6);
});

test('the smallest and the largest machines play', async () => {
  const small = [
    ['1M', 1],
    ['1M', 8],
  ] as const;
  const large = [
    ['4G', 1],
    ['8G', 2],
  ] as const;
  for (const [memory, cpus] of [...drawn(small), ...drawn(large)]) {
    const file = trace('make.mtrace.gz');
    const out = await replay({ ...PLAIN, files: [file], cpus, programs: cpus, memory });
    assert.equal(out.heap.verify_errors, 0);
    if (cpus < 8) assert.equal(out.heap.inuse, cpus * out.trace.never_freed_blocks);
    else ended_normally(out, cpus);
  }
});

test('tunables are set at boot; bad ones are refused with their name', async () => {
  const one = (set: Record<string, string>): Promise<unknown> =>
    plays_as_recorded(trace('gm.mtrace.gz'), 1, truth['gm.mtrace.gz'], { set });
  await one({ 'vm.lowmem_period': '5' });
  await assert.rejects(one({ 'no.such': '1' }), /set no\.such=1: no such tunable/);
  await assert.rejects(one({ 'vm.lowmem_period': 'abc' }), /vm\.lowmem_period=abc: not a number/);
  await assert.rejects(one({ 'vm.lowmem_period': '-1' }), /vm\.lowmem_period=-1: /);
});

/* Replays in a process of its own; its third thread, the second player, is ended early. */
const DYING = `
  import { createRequire, syncBuiltinESMExports } from 'node:module';
  const threads = createRequire(import.meta.url)('node:worker_threads');
  const started = [];
  threads.Worker = class extends threads.Worker {
    constructor(...a) { super(...a); if (String(a[0]).includes('player')) started.push(this); }
  };
  syncBuiltinESMExports();
  const { main } = await import('${new URL('../../bin/main.ts', import.meta.url).href}');
  const run = main(['replay', '--json', '--programs', '2', process.argv[2]]);
  const wait = setInterval(() => {
    if (started.length < 2) return;
    clearInterval(wait);
    setTimeout(() => started[1].terminate(), Number(process.argv[3]));
  }, 5);
  process.exitCode = await run;`;

function dying(t: TestContext, file: string, ms: number): ChildProcess {
  const program = temporary_file(t, 'dying.mjs', DYING);
  return spawn(process.execPath, [program, file, String(ms)]);
}
async function said(t: TestContext, child: ChildProcess): Promise<[number, string, string]> {
  t.after(() => child.kill('SIGKILL'));
  const text = ['', ''];
  child.stdout?.on('data', (b) => void (text[0] += b));
  child.stderr?.on('data', (b) => void (text[1] += b));
  const code = await new Promise<number>((resolve) => child.once('close', resolve));
  return [code, text[0], text[1]];
}

test('a player that dies ends the run with one line, also behind a silent pipe', async (t) => {
  const child = dying(t, '-', 700);
  child.stdin?.write('= Start\n@ a:[0x1] + 0x10 0x20\n');
  const [code, out, err] = await said(t, child);
  assert.match(err, /^kmem replay: the player on CPU 2 died: it ended early, with exit code 1\n$/);
  assert.equal(out, '');
  assert.equal(code, 1);
});
