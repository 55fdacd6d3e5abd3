/*
 * check: the one command before a commit.
 *
 * Types, lint and format, tidy, floors, then the quick tests whose sources are not what
 * they were when they last passed (unchanged.ts); `npm test` runs them all.  The first
 * four only read, so they run side by side; the tests need both processors and run last.
 * Each prints one line; what a failed one said follows its line.
 *
 * Usage: node tools/check.ts
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..');

/** `program`: what runs the command; Node where it is absent. */
type Step = { name: string; program?: string; command: string[] };

const READERS: Step[] = [
  { name: 'types', command: ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json'] },
  { name: 'lint', program: 'node_modules/@biomejs/cli-linux-x64/biome', command: ['check', '.'] },
  { name: 'tidy', command: ['tools/tidy.ts', '.'] },
  { name: 'floors', command: ['tools/floors.ts', '.'] },
];
const TESTS: Step = { name: 'tests', command: ['tools/test.ts', '--quick', '--changed'] };

/** Runs a step; true if it passed.  Its last line serves as the summary of a step that did. */
function run_step({ name, program, command }: Step): Promise<boolean> {
  const start = performance.now();
  return new Promise((resolve) => {
    const child = spawn(program ?? process.execPath, command, { cwd: ROOT });
    let output = '';
    const take = (chunk: Buffer): void => {
      output += chunk;
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.on('close', (code) => {
      const seconds = ((performance.now() - start) / 1000).toFixed(1);
      const last = code === 0 ? (output.trimEnd().split('\n').at(-1) ?? '') : '';
      const verdict = code === 0 ? 'ok  ' : 'FAIL';
      console.log(`${verdict}  ${name.padEnd(8)}${seconds.padStart(6)} s  ${last}`.trimEnd());
      if (code !== 0) console.log(output.trimEnd());
      resolve(code === 0);
    });
  });
}

const results = await Promise.all(READERS.map(run_step));
results.push(await run_step(TESTS));
if (results.includes(false)) process.exitCode = 1;
