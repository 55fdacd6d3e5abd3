/*
 * pages.test.lib: reading recordings of references to pages, for the tests of their readers.
 */
import assert from 'node:assert/strict';
import { hear_pages, type PageSink } from '../ring/page_events.ts';
import { RingReader } from '../ring/ring.ts';
import { PagesParser } from './kmem_pages.ts';
import { LackeyParser } from './lackey.ts';
import { LineStats } from './line_stats.ts';
import { LineCutter } from './lines.ts';
import type { PagesReading } from './page_lines.ts';
import { PageRefs } from './page_refs.ts';
import type { PagesDocument } from './read_trace.ts';
import { open_reader, type ReaderOptions } from './reader.ts';
import { truth_in } from './traces.test.common.ts';

/** What a player is told: the pages by index, and references as index and whether it writes. */
export class Heard implements PageSink {
  readonly recorded: number[] = [];
  readonly places: number[] = [];
  references = 0;
  writes = 0;
  /** The first of them. */
  readonly first: [page: number, write: boolean][] = [];
  /** References by index. */
  readonly by_page: number[] = [];

  page(recorded: number, place: number): void {
    this.recorded.push(recorded);
    this.places.push(place);
    this.by_page.push(0);
  }
  reference(index: number, write: boolean): void {
    this.references++;
    if (write) this.writes++;
    if (this.first.length < 100) this.first.push([this.recorded[index], write]);
    this.by_page[index]++;
  }
  flush(): void {}
}
/** Reads a text of a format in this thread, in pieces of any size. */
export function read_text(
  format: 'lackey' | 'pages',
  text: Uint8Array,
  piece: () => number,
): { trace: PagesReading; heard: Heard; whole: boolean } {
  const lines = new LineStats(false);
  const cutter = new LineCutter();
  const heard = new Heard();
  const refs = new PageRefs(heard, 0);
  const Parser = format === 'lackey' ? LackeyParser : PagesParser;
  const parser = new Parser(cutter, lines, refs);
  lines.begin('trace');
  for (let at = 0; at < text.length; ) {
    const n = Math.max(1, piece());
    cutter.feed(text.subarray(at, at + n), parser);
    at += n;
  }
  const whole = cutter.finish(parser);
  parser.finish();
  return { trace: parser.document(), heard, whole };
}
/** Reads files with the reader's thread; this thread hears what comes out of the ring. */
export async function read_pages(
  files: string[],
  more: Partial<ReaderOptions> = {},
): Promise<{ trace: PagesDocument; heard: Heard }> {
  const reader = open_reader({ files, cpus: 1, ...more });
  const heard = new Heard();
  hear_pages(new RingReader(reader.ring_handle, 0), heard);
  const { trace } = await reader.done;
  return { trace: trace as unknown as PagesDocument, heard };
}

export type PagesTruth = Record<string, Partial<PagesDocument>>;
/** What is true of the pages of a folder's recordings, by name; null: there is none. */
export const pages_truth = (folder: string): PagesTruth | null =>
  truth_in(folder, /\.(pages|lackey)\.gz$/);

/** What the reader says of a recording is the truth, and so is what a player is told. */
export async function equal_to_pages_truth(
  file: string,
  truth: Partial<PagesDocument> & Stacks,
): Promise<void> {
  const { trace, heard } = await read_pages([file], { lru_pages: 100 });
  for (const [name, value] of Object.entries(truth)) {
    if (WORDS.has(name)) continue;
    assert.deepEqual(trace[name as keyof PagesDocument], value, name);
  }
  const { lru_curve, pages, references, written_pages } = trace;
  for (const [size, misses] of Object.entries(truth.stack_distance_program?.lru_misses ?? {})) {
    if (size in lru_curve) assert.equal(lru_curve[size], misses, `LRU of ${size}`);
    else assert.equal(misses, pages, `LRU of ${size}`);
  }
  const asked = trace.asked_misses ?? 0;
  assert.ok(asked <= lru_curve['64'] && asked >= (lru_curve['128'] ?? pages));
  assert.deepEqual([heard.recorded.length, heard.references], [pages, references]);
  assert.equal(trace.malformed_lines, 0);
  assert.ok(heard.writes >= written_pages);
  assert.ok(heard.by_page.every((n) => n > 0));
}
/** What another program found out by other means, and what was left out of the recording. */
interface Stacks {
  stack_distance_program?: { lru_misses: Record<string, number> };
}
const WORDS = new Set([
  ...['stack_distance_program', 'whole_run_before_reduction', 'window_of_run'],
  ...['run_lines_by_op'],
]);
