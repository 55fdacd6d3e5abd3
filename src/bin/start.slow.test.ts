/*
 * Shown: `kmem start` fits a screen, names each recording before it plays it and where it plays,
 * tells figures that the truth of the traces has, shows progress on a terminal and nowhere else,
 * and refuses what it has no use for in one line.
 * By what means: the command as a process of its own, behind a pipe and on a pseudo-terminal (made
 * by `script` where it is installed); its lines beside traces/truth.json.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { strace_truth } from '../replay/read/strace.test.lib.ts';
import { BUNDLED, WHOLE } from '../replay/read/traces.test.common.ts';
import { ended, KMEM, kmem, refused, truth } from './replay.test.lib.ts';

const LINES_MOST = 40;
const SCRIPTS = JSON.parse(
  readFileSync(join(import.meta.dirname, '..', '..', 'package.json'), 'utf8'),
).scripts;
const figure = (n: number | undefined): string => (n ?? 0).toLocaleString('en-US');

test('a screen: what it is, recordings with their figures, what you saw, what to try', async () => {
  assert.equal(SCRIPTS.start, 'node bin/kmem.js start');
  const { code, out, err } = await kmem(['start']);
  assert.deepEqual([code, err], [0, '']);
  const lines = out.trimEnd().split('\n');
  assert.ok(lines.length <= LINES_MOST, `${lines.length} lines`);
  for (const line of lines) assert.ok(line.length <= 80, line);
  assert.match(lines[0], /^kmem is /);
  for (const name of ['make.mtrace.gz', 'gm.mtrace.gz', 'gitlog.mtrace.gz']) {
    const of = truth[name];
    const peak = figure(of.peak_live_bytes);
    const [, lost, bytes] = [0, of.never_freed_bytes, of.top_never_freed_sites?.[0][2]];
    const told = [
      ': one thread, CPU 1',
      `  ${figure(of.event_lines)} events; at most ${peak} bytes in use at once`,
      `  never freed ${figure(lost)} bytes; ${figure(bytes)} of them by `,
    ];
    const at = lines.indexOf(told[1]);
    assert.ok(lines[at - 1]?.endsWith(told[0]), out);
    assert.ok(lines[at + 1]?.startsWith(told[2]), out);
  }
  const redis = truth['redis.threads.gz'];
  assert.match(out, /^[^\n]*on one heap: CPUs? 1/m);
  const events = `${figure(redis.event_lines)} events of 5 threads`;
  assert.ok(out.includes(`\n  ${events}; at most ${figure(redis.peak_live_bytes)} bytes`), out);
  assert.ok(
    out.includes(`\n  ${figure(redis.released_by_other_thread)} blocks were freed by another`),
  );
  assert.match(
    out,
    /^ +Type InUse MemUse HighUse Requests {2}Size\(s\)\n( +\w+ +\d+ +\d+K .*\n)+/m,
  );
  assert.match(out, /^ {2}1,339 packets, [\d.]+MB: each byte as it came; all buffers given back$/m);
  const calls = strace_truth(BUNDLED)?.['make.strace.gz'] ?? {};
  const all = Object.values(calls.calls ?? {}).reduce((a, b) => a + b, 0);
  const of = `${figure(all)} system calls of ${figure(calls.thread_ids_seen)} processes, `;
  assert.ok(out.includes(`\n  ${of}`), out);
  assert.match(out, /^ {2}725,481 references to 247 pages; 4\d\d missed, 1\.0\d times /m);
  assert.match(out, /^ {2}68 spaces, at most \d+ at a time; [\d,]+ page faults; all given back$/m);
  const three =
    /^What you saw\n( {2}.*\n){2,4}\nTry next\n {2}npx kmem replay \S+make\.mtrace\.gz {2}/m;
  assert.match(out, three);
  assert.equal(out.split('Try next\n')[1].trimEnd().split('\n').length, 3);
  assert.match(out, /each block, packet and page came out whole/);
});

test('on a terminal a line of progress: percent, events and what is left', async (t) => {
  if (!existsSync('/usr/bin/script')) return t.skip('needs script (util-linux)');
  const command = `stty cols 90; exec '${process.execPath}' '${KMEM}' start`;
  const env = { ...process.env, SHELL: '/bin/sh' }; // what `script` runs the command with
  const child = spawn('/usr/bin/script', ['-qefc', command, '/dev/null'], { env });
  // The longest is over then; the other test plays what follows.
  const over = /484,777 events of/;
  child.stdout.on('data', (text) => void (!WHOLE && over.test(String(text)) && child.kill()));
  const { code, out } = await ended(child);
  if (WHOLE) assert.equal(code, 0, out);
  const drawn = out.split('\r').filter((l) => /^[\w.]+gz: \d+ %, [\d,]+ events/.test(l));
  assert.ok(drawn.length > 0, JSON.stringify(out.slice(0, 600)));
  assert.match(out, /\r\x1b\[K {2}484,777 events of 5 threads/, 'wiped before the figures');
});

test('what it has no use for', async () => {
  refused(await kmem(['start', 'x.gz']), /^kmem start: x\.gz: kmem replay FILE plays a recording/);
  refused(await kmem(['start', '--cpus', '2']), /^kmem start: Unknown option '--cpus'/);
});
