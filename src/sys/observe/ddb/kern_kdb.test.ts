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

const program = fileURLToPath(new URL('./kern_kdb.test.program.ts', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'kmem-kdb-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const MAX_MS = 100_000;
const no_python = spawnSync('python3', ['-c', 'import pty']).status !== 0;
const skip = no_python ? 'skipped: needs python3' : false;

/** Runs its arguments on a terminal, and types a line of standard input at each prompt. */
const DRIVER = `
import os, pty, sys, select
lines = sys.stdin.read().split('\\n')
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
said = b''
seen = 0
while True:
    try:
        more = os.read(fd, 65536)
    except OSError:
        break
    if not more:
        break
    said += more
    while said.find(b'db> ', seen) >= 0 or said.find(b'--More--', seen) >= 0:
        a, b = said.find(b'db> ', seen), said.find(b'--More--', seen)
        more_first = b >= 0 and (a < 0 or b < a)
        seen = b + 8 if more_first else a + 4
        if not lines:  # it asks for more than the test has: the terminal is gone
            os.write(fd, b'q' if more_first else b'\\x04')
            continue
        os.write(fd, lines.pop(0).encode() + (b'' if more_first else b'\\n'))
_, status = os.waitpid(pid, 0)
sys.stdout.buffer.write(said)
sys.exit(os.waitstatus_to_exitcode(status))
`;
const preloads = process.execArgv.flatMap((arg, i, all) =>
  arg === '--import' ? [arg, all[i + 1]] : [],
);
function on_terminal(t: TestContext, argv: string[], ...lines: string[]): string {
  const args = ['-c', DRIVER, process.execPath, ...preloads, program, ...argv];
  const ran = spawnSync('python3', args, {
    input: lines.join('\n'),
    encoding: 'utf8',
    timeout: MAX_MS,
  });
  t.diagnostic(`${argv.join(' ')}: exit ${ran.status}`);
  assert.equal(ran.status, 0, ran.stdout + ran.stderr);
  return ran.stdout.replaceAll('\r\n', '\n');
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
  assert.match(said, /\ndb> nobody\nNo such command\ndb> /);
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
