/*
 * build: makes dist, the JavaScript that is published.
 *
 * The compiler strips the types and turns `./x.ts` into `./x.js` in imports,
 * one file for each module: a bundler would turn `const` into `var` and lose
 * the speed of constant views.  Two things it leaves to us: a worker's file is
 * named by `new URL('./x.ts', import.meta.url)`, which is no import, and files
 * that are no source (pages, pictures) have to be copied.
 *
 * Usage: node tools/build.ts
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { walk } from './source.ts';

const ROOT = join(import.meta.dirname, '..');
const WORKER_URL =
  /(\bnew URL\(\s*(?:\/\*[^*]*\*\/\s*)?(['"])\.\.?\/[^'"]*)\.ts\2(?=\s*,\s*import\.meta\.url)/g;
/** An import in a declaration file: the compiler leaves it naming the source. */
const TYPES_FROM = /((?:\bfrom|\bimport\()\s*(['"])\.\.?\/[^'"]*)\.ts\2/g;

/** Names workers by their compiled files. */
export function rewrite_workers(code: string): string {
  return code.replace(WORKER_URL, '$1.js$2');
}
/** Lets declarations import one another by the names that programs import. */
export function rewrite_types(code: string): string {
  return code.replace(TYPES_FROM, '$1.js$2');
}

function build(): number {
  rmSync(join(ROOT, 'dist'), { recursive: true, force: true });
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  const compiled = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], {
    cwd: ROOT,
    stdio: 'inherit',
  });
  if (compiled.status !== 0) return 1;
  const made = walk(join(ROOT, 'dist'), '').map((path) => join(ROOT, 'dist', path));
  for (const path of made) {
    const code = readFileSync(path, 'utf8');
    const fixed = path.endsWith('.d.ts') ? rewrite_types(code) : rewrite_workers(code);
    if (fixed !== code) writeFileSync(path, fixed);
  }
  const others = walk(ROOT, 'src').filter((path) => !path.endsWith('.ts'));
  for (const path of others) {
    const to = join(ROOT, path.replace(/^src\//, 'dist/'));
    mkdirSync(dirname(to), { recursive: true });
    cpSync(join(ROOT, path), to);
  }
  console.log(`dist: ${made.length + others.length} files`);
  return 0;
}

if (import.meta.main) process.exitCode = build();
