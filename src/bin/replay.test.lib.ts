/*
 * replay.test.lib: starting `kmem` as its users do, for the tests of `kmem replay`.
 *
 * Each call is a process of its own, on real files and pipes; where only the
 * answers matter, many calls share one process (kmem_each), because starting
 * it takes longer than most of them.  A run of all tests starts the command of the
 * package that it has packed, which takes a third of the time that the sources take.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { BUNDLED, heap_truth, temporary_file } from '../replay/read/traces.test.common.ts';

const ROOT = join(import.meta.dirname, '..', '..');
export const KMEM = join(ROOT, 'bin', 'kmem.js');
/** The command of the package, if this run of the tests has one. */
export const COMMAND = installed() ?? KMEM;
export const HTTP2 = join(BUNDLED, 'http2.pcap.gz');
export const MAKE = join(BUNDLED, 'make.mtrace.gz');
export const GM = join(BUNDLED, 'gm.mtrace.gz');
export const truth = heap_truth(BUNDLED) ?? {};

/** What the command is made of: the function that it calls. */
const MAIN =
  COMMAND === KMEM
    ? join(import.meta.dirname, 'main.ts')
    : join(COMMAND, '..', '..', 'dist', 'node', 'main.js');

/** Waits until the package is there. */
function installed(): string | undefined {
  const folder = process.env.KMEM_TEST_PACKED;
  if (folder === undefined) return undefined;
  while (!existsSync(join(folder, 'packed.json'))) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
  }
  const command = join(folder, 'user/node_modules/kmem/bin/kmem.js');
  assert.ok(existsSync(command), readFileSync(join(folder, 'packed.json'), 'utf8').slice(0, 2000));
  return command;
}
/** What a run of the command said. */
export interface Run {
  code: number | null;
  out: string;
  err: string;
}
export function start(argv: readonly string[]): ChildProcess {
  const own = argv.length === 1 || argv[0] === 'start'; // plays recordings that no package has
  return spawn(process.execPath, [own ? KMEM : COMMAND, ...argv]);
}
export function ended(child: ChildProcess): Promise<Run> {
  const text = { out: '', err: '' };
  child.stdout?.on('data', (b) => void (text.out += b));
  child.stderr?.on('data', (b) => void (text.err += b));
  child.stdin?.on('error', () => {}); // it may end before it has read all
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, ...text })));
}
export function kmem(argv: readonly string[], input: string | Uint8Array = ''): Promise<Run> {
  const child = start(argv);
  const run = ended(child);
  child.stdin?.end(input);
  return run;
}
export function replay(...argv: string[]): Promise<Run> {
  return kmem(['replay', ...argv]);
}
export async function replay_json(...argv: string[]) {
  const run = await replay('--json', ...argv);
  assert.deepEqual([run.code, run.err], [0, '']);
  return JSON.parse(run.out);
}
/** One line on stderr that matches, nothing on stdout. */
export function refused({ code, out, err }: Run, line: RegExp, wanted = 2): void {
  assert.match(err, /^kmem[^\n]*\n$/, 'one line');
  assert.match(err, line);
  assert.deepEqual([code, out], [wanted, ''], err);
}

/* Calls the command many times in one process, which saves starting it as often. */
const DRIVER = `
  import { readFileSync } from 'node:fs';
  const { main } = await import('${pathToFileURL(MAIN).href}');
  const show = process.stdout.write.bind(process.stdout);
  process.stdout.setMaxListeners(0);
  const runs = [];
  for (const argv of JSON.parse(readFileSync(process.argv[2], 'utf8'))) {
    const run = { code: null, out: '', err: '' };
    process.stdout.write = (text) => ((run.out += text), true);
    process.stderr.write = (text) => ((run.err += text), true);
    run.code = await main(argv);
    runs.push(run);
  }
  show(JSON.stringify(runs));`;

export async function kmem_each(t: TestContext, argvs: string[][]): Promise<Run[]> {
  const driver = temporary_file(t, 'driver.mjs', DRIVER);
  const list = temporary_file(t, 'list.json', JSON.stringify(argvs));
  const { code, out, err } = await ended(spawn(process.execPath, [driver, list]));
  assert.deepEqual([code, err], [0, '']);
  return JSON.parse(out);
}
