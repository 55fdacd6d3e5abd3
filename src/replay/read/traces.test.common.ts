/*
 * traces.test.common: what the readers' tests share: where traces are, temporary files, players.
 */

import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import { gzipSync } from 'node:zlib';
import { open_reader, type Reader, type ReaderOptions, type TraceResult } from './reader.ts';
import type { RingHandle } from '../ring/ring.ts';
import type { SourceError } from './source.ts';
import { dice as random_from, SEED, some_of } from '../../sys/machine/seed.test.lib.ts';
import type { PlayerTask, PlayerTotals } from './player.test.worker.ts';
import type { TraceDocument } from './trace_stats.ts';

// Leads to '../../../traces/' alone.
const ROOT = join(import.meta.dirname, '..', '..', '..');

/** The traces in the repository. */
export const BUNDLED = join(ROOT, 'traces');
/** All traces, where somebody keeps them beside the repository. */
export const SHARED = process.env.KMEM_TRACES ?? join(ROOT, '..', 'shared', 'traces');

/** Nothing is drawn: recordings.stress.ts plays every recording in every way. */
export const WHOLE = process.env.KMEM_RECORDINGS === 'all';
const draw = random_from(SEED);
/** So many of these, recordings or ways to play one: other ones each time (KMEM_SEED). */
export function drawn<T>(all: readonly T[], most = 1): T[] {
  return WHOLE ? [...all] : some_of(all, most, draw);
}
/**
 * The recordings of the full set that are not in the repository, and what is true of them; where
 * there is no full set, a test that is skipped says so.
 */
export function beside<T>(
  truth_of: (folder: string) => Readonly<Record<string, T>> | null,
): [name: string, truth: T][] {
  const shared = truth_of(SHARED);
  if (shared === null) {
    const skip = 'it is not beside the repository; set KMEM_TRACES to its folder';
    test('the full set of traces', { skip });
  }
  const bundled = truth_of(BUNDLED) ?? {};
  return Object.entries(shared ?? {}).filter(([name]) => !(name in bundled));
}

export type Truth = Record<string, Partial<TraceDocument>>;

/** What is true of the recordings of a folder whose names match; null: nothing is there. */
export function truth_in<T>(folder: string, names: RegExp): Record<string, T> | null {
  const file = join(folder, 'truth.json');
  if (!existsSync(file)) return null;
  const all = Object.entries(JSON.parse(readFileSync(file, 'utf8')) as Record<string, T>);
  return Object.fromEntries(all.filter(([name]) => names.test(name)));
}
/** The same of recorded heaps. */
export const heap_truth = (folder: string): Truth | null =>
  truth_in(folder, /\.(mtrace|threads)\.gz$/);

/** Starts a player's thread; resolves with its totals. */
export function start_player(task: PlayerTask): Promise<PlayerTotals> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./player.test.worker.ts', import.meta.url), {
      workerData: task,
    });
    worker.once('message', resolve).once('error', reject);
  });
}

export interface Playing {
  reader: Reader;
  outcome: { result?: TraceResult; error?: SourceError };
  players: PlayerTotals[];
}

/** Reads a trace with real players at its ring and waits for all of them. */
export async function play(
  options: ReaderOptions,
  task: (ring: RingHandle, index: number) => PlayerTask = (ring, index) => ({ ring, index }),
): Promise<Playing> {
  const reader = open_reader(options);
  const indexes = Array.from({ length: options.cpus }, (_, index) => index);
  const players = indexes.map((index) => start_player(task(reader.ring_handle, index)));
  const outcome = await reader.done.then(
    (result) => ({ result }),
    (error: SourceError) => ({ error }),
  );
  return { reader, outcome, players: await Promise.all(players) };
}

/** Reads a trace for two players; what the reader says and what the players saw is the truth. */
export async function equal_to_truth(file: string, truth: Partial<TraceDocument>): Promise<void> {
  const { outcome, players } = await play({ files: [file], cpus: 2 });
  assert.ok(outcome.result, outcome.error?.message ?? 'no result');
  const { trace } = outcome.result;
  for (const [name, value] of Object.entries(truth)) {
    assert.deepEqual(trace[name as keyof TraceDocument], value, name);
  }
  assert.equal(trace.malformed_lines, 0);
  for (const player of players) {
    assert.deepEqual(player.complaints, []);
    assert.equal(player.ended, true);
    assert.equal(player.live, trace.never_freed_blocks);
    assert.equal(player.bytes, trace.requested_bytes_total);
    assert.equal(player.allocs - player.frees, trace.never_freed_blocks);
    assert.equal(player.threads, trace.threads ?? 0);
    const sized = Object.values(trace.size_histogram).reduce((sum, n) => sum + n, 0);
    assert.equal(player.allocs + player.reallocs, sized);
  }
}

/** A folder that lives as long as the test. */
export function temporary_folder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'kmem-replay-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A file with these bytes that lives as long as the test. */
export function temporary_file(t: TestContext, name: string, content: string | Uint8Array): string {
  const file = join(temporary_folder(t), name);
  writeFileSync(file, content);
  return file;
}

/** A packed mtrace of two good lines around one line of so many bytes; cheap at any length. */
export function long_line_gzip(line_bytes: number): Uint8Array {
  /* Packed pieces may stand one after another, so one piece is packed and repeated. */
  const piece_bytes = 2 ** 22;
  const piece = gzipSync(Buffer.alloc(piece_bytes, 'x'));
  const pieces = Array.from({ length: Math.ceil(line_bytes / piece_bytes) }, () => piece);
  const before = gzipSync('@ a:[0x1] + 0x10 0x20\n');
  return Buffer.concat([before, ...pieces, gzipSync('\n@ a:[0x1] - 0x10\n')]);
}

/** Reads such a file and answers by how many bytes this process grew meanwhile. */
export async function long_line_growth(file: string): Promise<number> {
  const before = process.memoryUsage().rss;
  let most = before;
  const watch = setInterval(() => {
    most = Math.max(most, process.memoryUsage().rss);
  }, 5);
  const { trace } = await open_reader({ files: [file], cpus: 1 }).done;
  clearInterval(watch);
  assert.equal(trace.malformed_lines, 1);
  assert.ok(trace.malformed[0].includes(':2: longer than 65536 bytes'), trace.malformed[0]);
  assert.equal(trace.event_lines, 2);
  assert.equal(trace.never_freed_blocks, 0);
  return most - before;
}

export { random_from, SEED };
