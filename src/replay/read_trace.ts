/*
 * read_trace: one trace from its files to events in a ring, in the calling thread.
 *
 *   files ─► source ─► lines ─► mtrace, heaptrack, threads ─► heap_stream ─► ring
 *                  │                                              └─► trace_stats
 *                  └─► pcap_reading (captures of packets) ─► ring
 *
 * Several files are parts of one trace (a log that was rotated): the live blocks
 * of one are those the next begins with, so they must be of one format.  Files
 * that are traces of their own get a reader each.
 *
 * The ring's state tells players how it went: ended, or failed after the last
 * good event.  The caller gets the document or the error.
 */

import type { Hash } from 'node:crypto';
import { HeaptrackParser } from './heaptrack.ts';
import { HeapStream } from './heap_stream.ts';
import { LineCutter, type LineParser } from './lines.ts';
import { MtraceParser } from './mtrace.ts';
import { CaptureReading, is_capture } from './pcap_reading.ts';
import type { CaptureDocument } from './pcap_stats.ts';
import { FAULT_INPUT, type RingHandle, RingWriter } from './ring.ts';
import type { TypeBy } from './sites.ts';
import { refusal, sniff, sniff_decided, type TraceFormat } from './sniff.ts';
import { type ByteSource, open_source, SourceError, source_hash } from './source.ts';
import { ThreadsParser } from './threads.ts';
import { MalformedLine, type TraceDocument, TraceStats } from './trace_stats.ts';

export interface ReadOptions {
  files: string[];
  type_by: TypeBy;
  strict: boolean;
  /** Times a capture is read. */
  loop: number;
}

/** Everything that is known once a trace was read. */
export interface TraceResult<Document = TraceDocument> {
  trace: Document;
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

const PARSERS: Partial<
  Record<TraceFormat, new (cutter: LineCutter, heap: HeapStream) => TraceParser>
> = {
  mtrace: MtraceParser,
  heaptrack: HeaptrackParser,
  'kmem-threads v1': ThreadsParser,
};

/**
 * Reads the trace into the ring; `begun` hears of its format.  Throws a SourceError; the ring has
 * failed by then.
 */
export async function read_trace(
  options: ReadOptions,
  ring: RingHandle,
  begun: (format: TraceFormat) => void = () => {},
): Promise<TraceResult | TraceResult<CaptureDocument>> {
  const writer = new RingWriter(ring);
  try {
    return await new TraceReading(options, writer, begun).run();
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
  readonly #begun: (format: TraceFormat) => void;
  #parser: TraceParser | null = null;
  #capture: CaptureReading | null = null;
  #format: TraceFormat = 'unknown';
  #raw_bytes = 0;
  #plain_bytes = 0;
  #total_bytes = 0;
  #aborted = false;

  constructor(options: ReadOptions, writer: RingWriter, begun: (format: TraceFormat) => void) {
    this.#options = options;
    this.#begun = begun;
    this.#writer = writer;
    this.#stats = new TraceStats(options.strict);
    this.#heap = new HeapStream(writer, this.#stats, options.type_by);
  }

  async run(): Promise<TraceResult | TraceResult<CaptureDocument>> {
    const began = performance.now();
    /* All are opened first, so that a misspelt second name is told before the first is read. */
    const sources = this.#options.files.map((file) => open_source(file, this.#hash));
    for (const source of sources) this.#total_bytes += source.size;
    this.#writer.progress(0, this.#total_bytes, 0, 0);
    try {
      for (const source of sources) {
        if (!this.#aborted) await this.#file(source);
      }
      if (this.#capture) await this.#capture_passes(this.#capture);
      if (!this.#aborted) {
        this.#parser?.finish();
        this.#heap.end();
      }
    } catch (error) {
      if (!(error instanceof MalformedLine)) throw error;
      throw strict_error(this.#stats);
    }
    const trace = this.#document();
    return {
      trace: trace as TraceDocument,
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
    if (this.#capture) this.#capture.finish();
    else this.#cutter.finish(this.#parser as TraceParser);
    this.#note_progress(source);
    this.#raw_bytes += source.raw_bytes;
    this.#plain_bytes += source.plain_bytes;
  }

  /* A capture was read once; --loop reads it again and again. */
  async #capture_passes(capture: CaptureReading): Promise<void> {
    if (!this.#aborted) capture.pass();
    for (let pass = 1; pass < this.#options.loop && !this.#aborted; pass++) {
      for (const file of this.#options.files) {
        await this.#again(open_source(file), capture);
        if (this.#aborted) return;
      }
      capture.pass();
    }
  }
  async #again(source: ByteSource, capture: CaptureReading): Promise<void> {
    capture.begin(source.file, this.#format as 'pcap' | 'pcapng');
    for await (const chunk of source.chunks()) {
      capture.feed(chunk);
      this.#note_progress(null);
      this.#aborted = this.#writer.check_closed();
      if (this.#aborted) return;
    }
    capture.finish();
  }

  /* The first bytes of a file are there: find or confirm the format. */
  #begin(source: ByteSource, head: Uint8Array): void {
    const format = sniff(head);
    if (is_capture(format)) {
      this.#same_format(source, format);
      this.#capture ??= new CaptureReading(this.#writer, this.#options.strict);
      this.#capture.begin(source.file, format);
      this.#feed(source, head);
      return;
    }
    const Parser = PARSERS[format];
    if (Parser === undefined) {
      const { reason, advice } = refusal(format);
      throw new SourceError(source.file, 0, reason, advice);
    }
    this.#same_format(source, format);
    this.#parser ??= new Parser(this.#cutter, this.#heap);
    this.#feed(source, head);
  }

  /* Parts of one trace are of one format. */
  #same_format(source: ByteSource, format: TraceFormat): void {
    if (this.#format === 'unknown') {
      this.#format = format;
      this.#begun(format);
    }
    if (format === this.#format) return;
    const reason = `is ${format}, the file before it ${this.#format}`;
    throw new SourceError(source.file, 0, reason, 'replay traces of different formats apart');
  }

  #feed(source: ByteSource, chunk: Uint8Array): void {
    if (this.#capture) this.#capture.feed(chunk);
    else this.#cutter.feed(chunk, this.#parser as TraceParser);
    this.#note_progress(source);
    this.#aborted = this.#writer.check_closed();
  }

  /* null: a file that was read before. */
  #note_progress(source: ByteSource | null): void {
    const { event_lines, malformed_lines } = this.#stats;
    const read = this.#raw_bytes + (source?.raw_bytes ?? 0);
    const events = this.#capture?.packets ?? event_lines;
    this.#writer.progress(read, this.#total_bytes, events, malformed_lines);
    this.#writer.publish();
  }

  #document(): TraceDocument | CaptureDocument {
    const document = this.#capture?.document() ?? this.#parser?.document();
    if (document === undefined) throw new Error('read_trace: no file was begun');
    return {
      ...document,
      uncompressed_bytes: this.#plain_bytes,
      compressed_bytes: this.#raw_bytes,
      sha256: this.#hash.digest('hex'),
    } as TraceDocument | CaptureDocument;
  }
}

function strict_error(stats: TraceStats): SourceError {
  const place = `${stats.file}:${stats.line}: `;
  const reason = `line ${stats.line}: ${stats.malformed[0].slice(place.length)}`;
  return new SourceError(stats.file, null, reason, 'mend the line, or replay without --strict');
}
