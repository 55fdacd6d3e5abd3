/*
 * test: runs the tests, four files at a time, and says little.
 *
 *      ok    src/sys/sync/kern_mutex.test.ts            14 tests   1.2 s
 *      FAIL  src/sys/uma/uma_core.test.ts                3 tests   0.4 s
 *              a freed item is found twice
 *                Expected values to be strictly equal: 1 !== 2
 *
 * Each file runs in a process of its own, because a thread boots one machine
 * at a time and a panic ends the process.  A file that never ends is stopped
 * after MAX_FILE_MS, so that a lost wake-up is a failed test and not a night
 * of waiting; that is ten times what the longest takes, because the host may be
 * slow, or have other work.  The last line is `N passed, N failed`, for people and for CI.
 *
 * Some tests are of the package, or start its command.  It is packed once for all of them,
 * beside the first files (tests/package/pack.ts).
 *
 * Usage: node tools/test.ts [--quick] [--changed] [part of a path ...]
 *   --quick     leave out *.slow.test.ts
 *   --changed   leave out what passed with the same sources (unchanged.ts)
 * `npm run check` does both.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { run } from 'node:test';
import { share_compiled } from './compile_cache.ts';
import { walk } from './source.ts';
import { use_worker_bundles } from './worker_bundles.ts';
import { Closures, note_passed, passed_before } from './unchanged.ts';

/** On two processors: a file waits for timers, threads and processes a third of its time. */
const FILES_AT_ONCE = 4;
const MAX_FILE_MS = 600_000;
const ROOT = join(import.meta.dirname, '..');

type Failure = { name: string; error: unknown };
type FileRun = { passed: number; failures: Failure[]; skipped: string[]; output: string };

/**
 * The files to run: the slow ones first, then the folders whose quick ones take longest,
 * or a long one would run alone at the end.
 */
export function test_files(root: string, quick: boolean, parts: string[]): string[] {
  const slow = (path: string): boolean => path.endsWith('.slow.test.ts');
  return ['sim', 'examples', 'tests', 'src', 'tools', 'bench']
    .flatMap((folder) => walk(root, folder))
    .filter((path) => path.endsWith('.test.ts') && !(quick && slow(path)))
    .filter((path) => parts.length === 0 || parts.some((part) => path.includes(part)))
    .sort((a, b) => Number(slow(b)) - Number(slow(a)));
}

/** The innermost message: node:test wraps what a test threw in an error of its own. */
export function reason(error: unknown): string {
  let inner = error as { cause?: unknown; stack?: string; message?: string } | undefined;
  while (inner?.cause instanceof Error) inner = inner.cause as typeof inner;
  if (typeof inner?.cause === 'string') return inner.cause;
  return inner?.stack ?? inner?.message ?? String(error);
}

function indent(text: string, by: number): string {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => ' '.repeat(by) + line)
    .join('\n');
}

function print_file(path: string, file: FileRun, ms: number): void {
  const count = file.passed + file.failures.length;
  const tests = `${count} ${count === 1 ? 'test ' : 'tests'}`.padStart(10);
  const seconds = `${(ms / 1000).toFixed(1)} s`.padStart(8);
  const failed = file.failures.length > 0;
  console.log(`${failed ? 'FAIL' : 'ok  '}  ${relative(ROOT, path).padEnd(44)}${tests}${seconds}`);
  for (const what of file.skipped) console.log(indent(what, 8));
  if (!failed) return;
  for (const { name, error } of file.failures) {
    console.log(indent(name, 8));
    console.log(indent(reason(error), 10));
  }
  if (file.output.trim() !== '') console.log(indent(`output:\n${file.output}`, 8));
}

/** Runs the files and gives the numbers of tests that passed and failed. */
async function run_tests(
  files: string[],
  execArgv: string[],
): Promise<{ passed: number; failed: number }> {
  const runs = new Map<string, FileRun>();
  const sources = new Closures(ROOT);
  const hashes = new Map(files.map((path) => [join(ROOT, path), sources.hash(path)]));
  const of = (file: string | undefined): FileRun => {
    const found = runs.get(file ?? '') ?? { passed: 0, failures: [], skipped: [], output: '' };
    runs.set(file ?? '', found);
    return found;
  };
  const started = run({
    files: files.map((path) => join(ROOT, path)),
    concurrency: FILES_AT_ONCE,
    timeout: MAX_FILE_MS,
    execArgv,
  });
  started.on('test:pass', ({ name, file, skip, details }) => {
    if (skip !== undefined) of(file).skipped.push(skipped_line(name, skip));
    else if (details.type !== 'suite') of(file).passed++;
  });
  started.on('test:fail', ({ name, file, details }) => {
    const cause = details.error as { failureType?: string; exitCode?: number; signal?: string };
    const of_file = name === file;
    if (cause.failureType !== 'subtestsFailed') {
      const ended = `the file ended early, by ${cause.signal ?? `exit code ${cause.exitCode}`}`;
      of(file).failures.push({ name: of_file ? ended : name, error: cause });
    }
    // A file that crashed sends no summary: this event is the last of it.
    if (of_file) print_file(file, of(file), details.duration_ms);
  });
  started.on('test:stdout', ({ file, message }) => void (of(file).output += message));
  started.on('test:stderr', ({ file, message }) => void (of(file).output += message));
  started.on('test:summary', ({ file, duration_ms }) => {
    if (file !== undefined) print_file(file, of(file), duration_ms);
  });
  started.resume();
  await once(started, 'end');
  const good = [...runs].filter(([, r]) => r.passed > 0 && r.failures.length === 0);
  const whole = good.filter(([, r]) => r.skipped.length === 0).map(([file]) => file);
  note_passed(
    ROOT,
    Object.fromEntries(whole.map((file) => [relative(ROOT, file), hashes.get(file) ?? ''])),
  );
  const all = [...runs.values()];
  return {
    passed: all.reduce((sum, { passed }) => sum + passed, 0),
    failed: all.reduce((sum, { failures }) => sum + failures.length, 0),
  };
}

/** Files that want the package. */
const WANT_PACKAGE = /^(?:tests\/package\/|src\/bin\/(?:replay|compare|packets|live))/;
/** Packs the project for the files that want that; returns what ends and clears it. */
function pack_for(files: string[]): () => Promise<void> {
  if (!files.some((path) => WANT_PACKAGE.test(path))) return async () => {};
  const folder = mkdtempSync(join(tmpdir(), 'kmem-packed-'));
  process.env.KMEM_TEST_PACKED = folder;
  const packing = spawn(process.execPath, [join(ROOT, 'tests/package/pack.ts'), folder]);
  const over = once(packing, 'exit');
  return async () => {
    packing.kill();
    await over;
    rmSync(folder, { recursive: true, force: true });
  };
}

/** Those of the files that have not passed with the sources that they have now. */
function changed(files: string[]): string[] {
  const before = passed_before(ROOT);
  const sources = new Closures(ROOT);
  return files.filter((path) => before[path] !== sources.hash(path));
}

function skipped_line(name: string, skip: string | boolean | undefined): string {
  return typeof skip === 'string' && skip !== ''
    ? `skipped: ${skip} (${name})`
    : `skipped: ${name}`;
}

if (import.meta.main) {
  const args = process.argv.slice(2);
  const parts = args.filter((arg) => !arg.startsWith('--'));
  const wanted = test_files(ROOT, args.includes('--quick'), parts);
  const files = args.includes('--changed') ? changed(wanted) : wanted;
  const same = wanted.length - files.length;
  const kept = same === 0 ? '' : `; ${same} files passed before with the same sources`;
  if (wanted.length > 0 && files.length === 0) console.log(`0 passed, 0 failed${kept}`);
  else if (files.length === 0) {
    console.log(`no test file matches ${parts.join(' ')}`);
    process.exitCode = 2;
  } else {
    share_compiled(ROOT);
    const packed = pack_for(files);
    const { passed, failed } = await run_tests(files, await use_worker_bundles(ROOT));
    await packed();
    console.log(`${passed} passed, ${failed} failed${kept}`);
    if (failed > 0 || passed === 0) process.exitCode = 1;
  }
}
