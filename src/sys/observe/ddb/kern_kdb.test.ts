/*
 * Shown: a program on a terminal whose machine panics offers `db>` there, in the thread that
 * panicked; commands run, what is wrong with one does not leave it, `continue` writes the
 * dump and the program gets its KernelPanic.  A thread that is told to enters it, the
 * others stand still meanwhile, and go on afterwards.  Without a terminal nothing is entered.
 * By what means: a pseudo-terminal, made by python3, that types when it is asked.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { no_terminal as skip, terminal_run } from './tty.test.lib.ts';

const program = fileURLToPath(new URL('./kern_kdb.test.program.ts', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'kmem-kdb-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const MAX_MS = 100_000;

const preloads = process.execArgv.flatMap((arg, i, all) =>
  arg === '--import' ? [arg, all[i + 1]] : [],
);
function on_terminal(t: TestContext, argv: string[], ...lines: string[]): string {
  return terminal_run(t, [process.execPath, ...preloads, program, ...argv], lines);
}

test('a panic enters it, and continue dumps and dies', { skip }, (t) => {
  const said = on_terminal(
    t,
    ['panic', folder],
    'set $lines = 0',
    'show malloc',
    'nobody',
    'x 0xffffffff',
    'bt',
    'show pageq',
    'continue',
  );
  assert.match(
    said,
    /^panic: a test believed: 7\ncpuid = 0\nKDB: stack backtrace:\n#0 the_culprit/,
  );
  const enter = /KDB: enter: panic\ndb> set \$lines = 0\ndb> show malloc\n {14}Type .*\n/;
  assert.match(said, enter);
  assert.match(said, /^ +sessions +1 /m);
  assert.match(said, /\ndb> nobody\nNo such command: nobody; .*\ndb> /);
  assert.match(said, /\nNo memory at 0xffffffff: /);
  assert.match(said, /Tracing CPU 0 .*\n#0 the_culprit at kern_kdb\.test\.program\.[jt]s:\d+\n/);
  assert.match(
    said,
    /Tracing CPU [12] .*: has (stopped|no thread)\n#0 /,
    'and where the others stopped',
  );
  assert.match(said, /\nPQ_ACTIVE: /);
  assert.match(said, /kmem: panic: the memory, secrets and all, is in .*\.core/);
  assert.match(said, /KernelPanic: panic: a test believed: 7\nthe end\n$/);
  assert.equal(readdirSync(folder).length, 1);
});
test('a thread that is told to enters it, and goes on', { skip }, (t) => {
  const said = on_terminal(
    t,
    ['enter'],
    'show allpcpu',
    ' ', // the pager, once
    'q',
    'script kdb.enter.sysctl=show pageq',
    'continue',
  );
  assert.match(said, /^KDB: enter: sysctl debug\.kdb\.enter\n\[ CPU 0 \]\ndb> show allpcpu\n/);
  assert.match(said, /--More--/);
  assert.match(said, /went on\nthe end\n$/);
});
test('debug.witness.kdb: a lock order reversal enters it', { skip }, (t) => {
  const said = on_terminal(t, ['witness'], 'show alllocks', 'continue');
  assert.match(said, /KDB: enter: lock order reversal:\n\[ CPU 0 \]\ndb> show alllocks\nCPU 0 /);
  assert.match(said, /^exclusive mtx mutex 'b' r = 0 /m);
  assert.match(said, /\nthe end\n$/);
});
test('a worker that is told to: all others are held, its own thread is not', { skip }, (t) => {
  const said = on_terminal(t, ['worker'], 'trace', 'trace', 'continue');
  assert.match(said, /^KDB: enter: /);
  const last = said.slice(said.lastIndexOf('db> trace'));
  assert.equal(last.match(/^Tracing CPU \d .*: is held by the debugger$/gm)?.length, 2);
  assert.equal(last.match(/^Tracing CPU \d .*: runs$/gm)?.length, 1);
  assert.match(said, /went on\nwent on\nthe end\n$/, 'and all go on');
});
test('debug.trace_on_panic says where it was; without a terminal nothing is entered', () => {
  const run = (mode: string) => {
    // A session of its own has no terminal.
    const argv = [process.execPath, ...preloads, program, mode];
    return spawnSync('setsid', ['-w', ...argv], { encoding: 'utf8', timeout: MAX_MS });
  };
  const traced = run('trace');
  assert.match(
    traced.stderr,
    /^panic: a test believed: 7\ncpuid = 0\nKDB: stack backtrace:\n#0 the_culprit at /,
  );
  assert.equal(traced.stdout, 'KernelPanic: panic: a test believed: 7\nthe end\n');
  const none = run('none');
  assert.match(
    none.stdout,
    /^KmemError: .*ENXIO.*\nKernelPanic: panic: a test believed: 7\nthe end\n$/,
  );
  assert.equal(none.stderr, '');
});
