/*
 * stress: runs the long programs one after another.
 *
 * A stress program is a file `*.stress.ts` in src, tests or sim: it hammers one
 * part of the machine on real threads for KMEM_STRESS_SECONDS (its own default
 * if unset), runs the checkers at the end, prints what it did, and exits with
 * 0 if all held.  They run alone, because each wants every processor.
 *
 *      ok    src/sys/uma/uma_core.stress.ts      60.2 s  81 M items, 2 CPUs
 *      FAIL  src/sys/sync/kern_rwlock.stress.ts  12.9 s  exit code 1
 *
 * Usage: node tools/stress.ts [part of a path ...]
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { share_compiled } from './compile_cache.ts';
import { walk } from './source.ts';

const ROOT = process.env.KMEM_STRESS_ROOT ?? join(import.meta.dirname, '..');
/** How much of what a failed program said is shown, characters. */
const TAIL = 8000;

function stress_files(parts: string[]): string[] {
  return ['src', 'tests', 'sim']
    .flatMap((folder) => walk(ROOT, folder))
    .filter((path) => path.endsWith('.stress.ts'))
    .filter((path) => parts.length === 0 || parts.some((part) => path.includes(part)));
}

function run_stress(path: string): Promise<boolean> {
  const start = performance.now();
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [path], { cwd: ROOT });
    let output = '';
    const take = (chunk: Buffer): void => {
      output = (output + chunk).slice(-TAIL);
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.on('close', (code, signal) => {
      const seconds = ((performance.now() - start) / 1000).toFixed(1).padStart(6);
      const said = output.trimEnd().split('\n').at(-1) ?? '';
      const ended = signal === null ? `exit code ${code}` : `ended by ${signal}`;
      const verdict = code === 0 ? 'ok  ' : 'FAIL';
      console.log(`${verdict}  ${path.padEnd(44)}${seconds} s  ${code === 0 ? said : ended}`);
      if (code !== 0) console.log(output.trimEnd());
      resolve(code === 0);
    });
  });
}

const parts = process.argv.slice(2);
const files = stress_files(parts);
if (files.length === 0) {
  console.log(`no stress program${parts.length > 0 ? ` matches ${parts.join(' ')}` : ''}`);
  process.exitCode = parts.length > 0 ? 2 : 0;
}
share_compiled(ROOT);
let failed = 0;
for (const file of files) if (!(await run_stress(file))) failed++;
if (files.length > 0) console.log(`${files.length - failed} held, ${failed} failed`);
if (failed > 0) process.exitCode = 1;
