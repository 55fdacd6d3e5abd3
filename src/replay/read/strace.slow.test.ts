/*
 * Shown: what the reader says of a recording of the full set equals the truth, and its
 * operations can be played: what munmap, mprotect and the like of the recording hit is
 * mapped.  The operations are those of the recorded kernel, whatever strace wrote between
 * whose lines; damage breaks nothing.  What the strace of this machine writes, in every
 * style it has, is read without a line of no sense.
 * By what means: truth.json, of one that is drawn (of all by recordings.stress.ts); a naive
 * model of address spaces (vm_events.model.ts); a small kernel with threads whose recordings are
 * made up and damaged (strace.fuzz.ts); strace, where it is installed and may trace.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { run } from './strace.fuzz.ts';
import { modelled, read_strace, read_text, strace_truth } from './strace.test.lib.ts';
import { beside, drawn, SEED, SHARED, temporary_folder, WHOLE } from './traces.test.common.ts';

/** What the reader says in its own words. */
const WORDS = new Set(['rule']);
for (const [name, wanted] of drawn(beside(strace_truth))) {
  test(`${name} equals the truth, and its operations can be played`, async (t) => {
    const { trace, error, model } = await read_strace([join(SHARED, name)]);
    assert.ok(trace, error?.message ?? 'no result');
    for (const [key, value] of Object.entries(wanted)) {
      if (!WORDS.has(key)) assert.deepEqual(trace[key as keyof typeof trace], value, key);
    }
    assert.deepEqual([trace.malformed_lines, trace.damage, trace.plan.guessed], [0, undefined, 0]);
    assert.deepEqual(model.wrong, []);
    // An image has few pages that are protected once it is loaded, and these at its start.
    const images = (trace.plan.planned.execve ?? 0) + 1;
    assert.ok(model.image_hits <= 16 * images, `${model.image_hits} hits of pages from nowhere`);
    const left = [model.processes.size, model.spaces.size, model.mapped];
    assert.deepEqual(left, [0, 0, 0], 'all processes ended, and nothing is left');
    t.diagnostic(`most pages mapped at once: ${model.most_mapped}`);
  });
}

test(`made-up recordings, whole and damaged (seed ${SEED})`, () =>
  run(SEED, WHOLE ? 40_000 : 15_000));

/** Runs a shell's script under strace; '': it cannot be done here. */
function record(t: TestContext, options: string[], into_file: boolean): string {
  const file = join(temporary_folder(t), 'out');
  const script =
    'for i in 1 2 3; do (echo $i; cat </dev/null) | cat & done; wait; true & exec ls /';
  const argv = [...options, ...(into_file ? ['-o', file] : []), 'sh', '-c', script];
  const { error, stderr, status } = spawnSync('strace', argv, { encoding: 'latin1' });
  if (error !== undefined || status !== 0) return '';
  return into_file ? readFileSync(file, 'latin1') : stderr;
}
const STYLES = [
  '-f',
  '-f -t',
  '-f -tt -T',
  '-f -ttt -y -s 0',
  '-f -r -yy -i',
  '-f -r -t -n',
  '-f -Y -X raw',
  '-f -X verbose -v',
  '-f -qqq',
  '-f -C',
  '-f -e trace=memory,process,read,write',
];
test('what the strace of this machine writes', (t) => {
  if (record(t, ['-f'], true) === '') return t.skip('needs strace, and to be allowed to trace');
  let recordings = 0;
  for (const style of STYLES) {
    for (const into_file of [true, false]) {
      const text = record(t, style.split(' '), into_file);
      if (text === '') continue; // an older strace has not all of these options
      recordings++;
      const read = read_text(text);
      const what = `${style}, ${into_file ? 'file' : 'terminal'}`;
      const { document } = read;
      assert.deepEqual(document.malformed, [], what);
      assert.ok(document.processes_created >= 7, what);
      const model = modelled(read);
      // On a terminal, who writes a line without a number is not always certain.
      if (!into_file) continue;
      assert.equal(document.thread_ids_seen, document.processes_created + 1, what);
      assert.equal(document.never_resumed + document.resumed, document.unfinished, what);
      assert.equal(document.plan.guessed, 0, what);
      assert.deepEqual(model.wrong, [], what);
      assert.deepEqual([model.processes.size, model.spaces.size], [0, 0], what);
    }
  }
  assert.ok(recordings >= STYLES.length, `${recordings} recordings`);
});
