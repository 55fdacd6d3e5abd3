/*
 * read_trace: one trace from its files to events in a ring, in the calling thread.
 *
 *   files ─► source ─► lines ─► mtrace or threads ─► heap_stream ─► ring
 *                                                        └─► trace_stats
 *
 * Several files are parts of one trace (a log that was rotated): the live blocks
 * of one are those the next begins with, so they must be of one format.  Files
 * that are traces of their own get a reader each.
 *
 * The ring's state tells players how it went: ended, or failed after the last
 * good event.  The caller gets the document or the error.
 */

import type { Hash } from 'node:crypto';
import { HeapStream } from './heap_stream.ts';
import { LineCutter, type LineParser } from './lines.ts';
import { MtraceParser } from './mtrace.ts';
import { FAULT_INPUT, type RingHandle, RingWriter } from './ring.ts';
import type { TypeBy } from './sites.ts';
import { REPLAYED, refusal, sniff, sniff_decided, type TraceFormat } from './sniff.ts';
import { type ByteSource, open_source, SourceError, source_hash } from './source.ts';
import { ThreadsParser } from './threads.ts';
import { MalformedLine, type TraceDocument, TraceStats } from './trace_stats.ts';

export interface ReadOptions {
  files: string[];
  type_by: TypeBy;
  strict: boolean;
}

/** Everything that is known once a trace was read. */
export interface TraceResult {
  trace: TraceDocument;
  /** Seconds from the first byte to the last event, and those of them spent waiting for players. */
  read_seconds: number;
  waited_seconds: number;
  /** True when all players went away before the end; the document covers what was read. */
  aborted: boolean;
}

interface TraceParser extends LineParser {
  finish(): void;
  document(): Omit<TraceDocument, 'uncompressed_bytes' | 'compressed_bytes' | 'sha256'>;
}

/** Reads the trace into the ring.  Throws a SourceError; the ring has failed by then. */
export async function read_trace(options: ReadOptions, ring: RingHandle): Promise<TraceResult> {
  const writer = new RingWriter(ring);
  try {
    return await new TraceReading(options, writer).run();
  } catch (error) {
    writer.fail(FAULT_INPUT);
    throw error;
  }
}

class TraceReading {
  readonly #options: ReadOptions;
  readonly #writer: RingWriter;
  readonly #stats: TraceStats;
  readonly #heap: HeapStream;
  readonly #cutter = new LineCutter();
  readonly #hash: Hash = source_hash();
  #parser: TraceParser | null = null;
  #format: TraceFormat = 'unknown';
  #raw_bytes = 0;
  #plain_bytes = 0;
  #total_bytes = 0;
  #aborted = false;

  constructor(options: ReadOptions, writer: RingWriter) {
    this.#options = options;
    this.#writer = writer;
    this.#stats = new TraceStats(options.strict);
    this.#heap = new HeapStream(writer, this.#stats, options.type_by);
  }

  async run(): Promise<TraceResult> {
    const began = performance.now();
    /* All are opened first, so that a misspelt second name is told before the first is read. */
    const sources = this.#options.files.map((file) => open_source(file, this.#hash));
    for (const source of sources) this.#total_bytes += source.size;
    this.#writer.progress(0, this.#total_bytes, 0, 0);
    try {
      for (const source of sources) {
        if (!this.#aborted) await this.#file(source);
      }
      if (!this.#aborted) {
        this.#parser?.finish();
        this.#heap.end();
      }
    } catch (error) {
      if (!(error instanceof MalformedLine)) throw error;
      throw strict_error(this.#stats);
    }
    return {
      trace: this.#document(),
      read_seconds: (performance.now() - began) / 1000,
      waited_seconds: this.#writer.waited_ms / 1000,
      aborted: this.#aborted,
    };
  }

  async #file(source: ByteSource): Promise<void> {
    this.#stats.file = source.file;
    this.#stats.line = 0;
    let head: Uint8Array | null = new Uint8Array(0);
    for await (const chunk of source.chunks()) {
      if (head !== null) {
        head = head.length === 0 ? chunk : Buffer.concat([head, chunk]);
        if (!sniff_decided(head)) continue;
        this.#begin(source, head);
        head = null;
      } else {
        this.#feed(source, chunk);
      }
      if (this.#aborted) return;
    }
    if (head !== null) this.#begin(source, head);
    this.#cutter.finish(this.#parser as TraceParser);
    this.#note_progress(source);
    this.#raw_bytes += source.raw_bytes;
    this.#plain_bytes += source.plain_bytes;
  }

  /* The first bytes of a file are there: find or confirm the format. */
  #begin(source: ByteSource, head: Uint8Array): void {
    const format = sniff(head);
    if (!REPLAYED.includes(format)) {
      const { reason, advice } = refusal(format);
      throw new SourceError(source.file, 0, reason, advice);
    }
    if (this.#parser === null) {
      this.#format = format;
      const Parser = format === 'mtrace' ? MtraceParser : ThreadsParser;
      this.#parser = new Parser(this.#cutter, this.#heap);
    } else if (format !== this.#format) {
      const reason = `is ${format}, the file before it ${this.#format}`;
      throw new SourceError(source.file, 0, reason, 'replay traces of different formats apart');
    }
    this.#feed(source, head);
  }

  #feed(source: ByteSource, chunk: Uint8Array): void {
    this.#cutter.feed(chunk, this.#parser as TraceParser);
    this.#note_progress(source);
    this.#aborted = this.#writer.check_closed();
  }

  #note_progress(source: ByteSource): void {
    const { event_lines, malformed_lines } = this.#stats;
    const read = this.#raw_bytes + source.raw_bytes;
    this.#writer.progress(read, this.#total_bytes, event_lines, malformed_lines);
    this.#writer.publish();
  }

  #document(): TraceDocument {
    if (this.#parser === null) throw new Error('read_trace: no file was begun');
    return {
      ...this.#parser.document(),
      uncompressed_bytes: this.#plain_bytes,
      compressed_bytes: this.#raw_bytes,
      sha256: this.#hash.digest('hex'),
    };
  }
}

function strict_error(stats: TraceStats): SourceError {
  const place = `${stats.file}:${stats.line}: `;
  const reason = `line ${stats.line}: ${stats.malformed[0].slice(place.length)}`;
  return new SourceError(stats.file, null, reason, 'mend the line, or replay without --strict');
}
