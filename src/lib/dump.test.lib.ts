/*
 * What the tests of dumps share: files of their own, two workers that have allocated, and
 * vmstat over a dump, in a thread of its own or as a command.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { SEED } from '../sys/machine/seed.test.lib.ts';
import { until, within } from '../sys/machine/workers.test.lib.ts';
import { DUMP_LOAD, type DumpHead, dump_parse } from '../sys/observe/dump_elf.ts';
import type { Machine } from './index.ts';

/** A folder for the dumps of one test file. */
export const folder = mkdtempSync(join(tmpdir(), 'kmem-dump-'));
export function folderEnd(): void {
  rmSync(folder, { recursive: true, force: true });
}
let files = 0;
/** The path of a file that is not there. */
export const fresh = (): string => join(folder, `dump${++files}`);
/** The worker of these tests. */
export const file = new URL('./dump.test.worker.ts', import.meta.url);
const KMEM = join(import.meta.dirname, '../../bin/kmem.js');

export interface Read {
  path: string;
  code: number;
  out: string;
  err: string;
}
/** What vmstat says of dumps: read by a thread of its own, because this one has a machine. */
export async function vmstat(...asked: [path: string, ...argv: string[]][]): Promise<Read[]> {
  const said: Read[] = [];
  const all = asked.map(([path, ...argv]) => ({ path, argv }));
  const worker = new Worker(file, { workerData: { job: 'read', files: all } });
  worker.on('message', (read: Read) => said.push(read));
  await within(
    new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject)),
    'reading ends',
  );
  assert.equal(said.length, asked.length);
  return said;
}
/** What a command says. */
export function command(...args: string[]): Read {
  const ran = spawnSync(process.execPath, [KMEM, ...args], { encoding: 'utf8' });
  return { path: '', code: ran.status ?? -1, out: ran.stdout, err: ran.stderr };
}
/** The same as vmstat, by the command itself. */
export const kmem = (...args: string[]): Read => command('vmstat', ...args);
export const head_of = (path: string): DumpHead => {
  const parsed = dump_parse(readFileSync(path).subarray(0, DUMP_LOAD), statSync(path).size);
  assert.ok('head' in parsed, JSON.stringify(parsed));
  return parsed.head;
};
/** The next thing that each says. */
export function heard(workers: Worker[]): Promise<unknown> {
  return Promise.all(workers.map((w) => new Promise((resolve) => w.once('message', resolve))));
}
/** Two workers that have allocated, and stand still; and the turns that they have made. */
export async function two(machine: Machine): Promise<{ workers: Worker[]; word: number }> {
  const words = machine.type('turns').alloc(16, { zero: true });
  const word = machine.index(words, 4);
  const workers = [0, 1].map((id) =>
    machine.worker<Worker>(file, { workerData: { job: 'work', id, seed: SEED, word } }),
  );
  await within(heard(workers), 'both are up');
  return { workers, word };
}
export async function ended(machine: Machine, workers: Worker[]): Promise<void> {
  for (const w of workers) w.postMessage('end');
  await until(() => machine.memory().cpus === 1, 'the workers leave');
  machine.check();
  machine.shutdown();
}
