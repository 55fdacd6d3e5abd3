/*
 * tty.test.lib: a program on a terminal, for tests: python3 makes a pseudo-terminal, reads what the
 * program prints, and types a line at each prompt `db> `, or a key at each `--More--`.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import type { TestContext } from 'node:test';

const MAX_MS = 100_000;
const no_python = spawnSync('python3', ['-c', 'import pty']).status !== 0;
/** Why such tests are skipped; false: they are not. */
export const no_terminal = no_python ? 'skipped: needs python3' : false;

/** Runs its arguments on a terminal, and types a line of standard input at each prompt. */
const DRIVER = `
import fcntl, os, pty, struct, sys, termios
prompt = sys.argv[1].encode()
lines = sys.stdin.read().split('\\n')
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
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
    while said.find(prompt, seen) >= 0 or said.find(b'--More--', seen) >= 0:
        a, b = said.find(prompt, seen), said.find(b'--More--', seen)
        more_first = b >= 0 and (a < 0 or b < a)
        seen = b + 8 if more_first else a + len(prompt)
        if not lines:  # it asks for more than the test has: the terminal is gone
            os.write(fd, b'q' if more_first else b'\\x04')
            continue
        os.write(fd, lines.pop(0).encode() + (b'' if more_first else b'\\n'))
_, status = os.waitpid(pid, 0)
sys.stdout.buffer.write(said)
sys.exit(os.waitstatus_to_exitcode(status))
`;
/** Runs a command; what it printed, with plain line ends. `prompt`: what a line is typed at. */
export function terminal_run(
  t: TestContext,
  argv: string[],
  lines: readonly string[],
  prompt = 'db> ',
): string {
  const ran = spawnSync('python3', ['-c', DRIVER, prompt, ...argv], {
    input: lines.join('\n'),
    encoding: 'utf8',
    timeout: MAX_MS,
  });
  t.diagnostic(`exit ${ran.status}`);
  assert.equal(ran.status, 0, ran.stdout + ran.stderr);
  return ran.stdout.replaceAll('\r\n', '\n');
}
