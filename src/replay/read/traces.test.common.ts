/*
 * traces.test.common: what the readers' tests share: where traces are, temporary files, players.
 */

import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import { gzipSync } from 'node:zlib';
import { open_reader, type Reader, type ReaderOptions, type TraceResult } from './reader.ts';
import type { RingHandle } from '../ring/ring.ts';
import type { SourceError } from './source.ts';
import type { PlayerTask, PlayerTotals } from './player.test.worker.ts';
import type { TraceDocument } from './trace_stats.ts';

// Leads to '../../../traces/' alone.
const ROOT = join(import.meta.dirname, '..', '..', '..');

/** The traces in the repository. */
export const BUNDLED = join(ROOT, 'traces');
/** All traces, where somebody keeps them beside the repository. */
export const SHARED = process.env.KMEM_TRACES ?? join(ROOT, '..', 'shared', 'traces');

export type Truth = Record<string, Partial<TraceDocument>>;

/** The heap traces of a folder and what is true of them; null when the folder is not there. */
export function heap_truth(folder: string): Truth | null {
  const file = join(folder, 'truth.json');
  if (!existsSync(file)) return null;
  const all = Object.entries(JSON.parse(readFileSync(file, 'utf8')) as Truth);
  return Object.fromEntries(all.filter(([name]) => /\.(mtrace|threads)\.gz$/.test(name)));
}

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

export { dice as random_from, SEED } from '../../sys/machine/seed.test.lib.ts';
