/*
 * Shows that an error that nobody catches, in whichever thread, leaves one dump in the folder that
 * boot was given, in which the error is found with the program's own lines; and that the program
 * ends as it would have.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('./uncaught.test.program.ts', import.meta.url));
const KMEM = join(import.meta.dirname, '../../bin/kmem.js');
const MAX_MS = 120_000;
function run(...args: string[]): { code: number | null; out: string; err: string } {
  const ran = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: MAX_MS });
  return { code: ran.status, out: ran.stdout, err: ran.stderr };
}

for (const what of ['main', 'worker', 'promise']) {
  test(`it is found in the dump: ${what}`, (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'kmem-uncaught-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const { code, err } = run(PROGRAM, what, folder);
    assert.equal(code, 1);
    assert.match(err, /kmem: uncaught error: the memory, secrets and all, is in /);
    assert.match(err, /EFAULT: free: .* 16 bytes into a block/);
    const dumps = readdirSync(folder);
    assert.equal(dumps.length, 1, `${dumps}`);
    const dump = join(folder, dumps[0]);
    const said = run(KMEM, 'ddb', '-M', dump, '-e', 'show msgbuf', '-e', 'show malloc');
    assert.equal(said.code, 0, said.err);
    assert.match(said.out, /^Uncaught KmemError: EFAULT: free: /m);
    assert.match(said.out, /at wrong \(.*uncaught\.test\.program\.[jt]s:\d+:\d+\)/);
    assert.match(said.out, /^ +sessions +1 /m);
  });
}
test('a thread that has left its machine writes none', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'kmem-uncaught-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const { code, err } = run(PROGRAM, 'left', folder);
  assert.equal(code, 1);
  assert.match(err, /without a machine/);
  assert.deepEqual(readdirSync(folder), []);
});
