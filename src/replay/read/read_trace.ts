/*
 * read_trace: one trace from its files to events in a ring, in the calling thread.
 *
 *   files ─► source ─► lines ─┬─► mtrace, heaptrack, threads ─► heap_stream ─► ring
 *                  │          │                                     └─► trace_stats
 *                  │          ├─► strace ─► ring
 *                  │          └─► lackey, kmem_pages ─► page_refs ─► ring
 *                  └─► pcap_reading (captures of packets) ─► ring
 *
 * Several files are parts of one trace (a log that was rotated): the live blocks
 * of one are those the next begins with, so they must be of one format.  Files
 * that are traces of their own get a reader each.
 *
 * Damage behind something good is taken as the end of its file: what is before it
 * is played, the document says where it was, and a strict reading fails there.
 * Where nothing good is, the file is refused.  A last line without its newline is
 * such damage, packed or plain: a crash cut the recording there.
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
import { FAULT_INPUT, type RingHandle, RingWriter } from '../ring/ring.ts';
import { PageRingWriter } from '../ring/page_events.ts';
import { VmRingSink } from '../ring/vm_events.ts';
import type { TypeBy } from './sites.ts';
import {
  bom_bytes,
  refusal,
  detect_format,
  sniff_begin,
  sniff_decided,
  type TraceFormat,
} from './detect_format.ts';
import { type ByteSource, foreign_error, open_source, SourceError, source_hash } from './source.ts';
import { PagesParser } from './kmem_pages.ts';
import { ThreadsParser } from './kmem_threads.ts';
import { LackeyParser } from './lackey.ts';
import { MalformedLine } from './line_stats.ts';
import type { PagesReading } from './page_lines.ts';
import { PageRefs } from './page_refs.ts';
import { StraceParser, type StraceReading } from './strace.ts';
import { type TraceDocument, TraceStats } from './trace_stats.ts';

export interface ReadOptions {
  files: string[];
  /** What messages call them, when not so. */
  names?: string[];
  type_by: TypeBy;
  strict: boolean;
  /** Times a capture is read. */
  loop: number;
  /** References to pages: a size of memory for which exact LRU is told; 0: none. */
  lru_pages: number;
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

const NEWLINE = 10;
const CUT_ADVICE = 'fetch or record it again, or replay without --strict';

interface TraceParser extends LineParser {
  /** A file is read; of lines that wait for others, none will come. */
  file_over?(): void;
  /** All files are read. What is missing at the end of the last; '': nothing. */
  finish(): string;
  document(): Omit<TraceDocument, keyof FileFigures> | StraceReading | PagesReading;
}

/** What is known of the files. */
export interface FileFigures {
  uncompressed_bytes: number;
  compressed_bytes: number;
  sha256: string | null;
  /** Byte of the unpacked trace behind which nothing could be read, and why; absent: none. */
  damaged_at?: number;
  damage?: string;
}
/** What a recording of system calls says. */
export type StraceDocument = StraceReading & FileFigures;
/** What a recording of references to pages says. */
export type PagesDocument = PagesReading & FileFigures;
export type AnyDocument = TraceDocument | CaptureDocument | StraceDocument | PagesDocument;

type MakeParser = (
  cutter: LineCutter,
  heap: HeapStream,
  ring: RingWriter,
  options: ReadOptions,
) => TraceParser;
const PARSERS: Partial<Record<TraceFormat, MakeParser>> = {
  mtrace: (cutter, heap) => new MtraceParser(cutter, heap),
  heaptrack: (cutter, heap) => new HeaptrackParser(cutter, heap),
  'kmem-threads v1': (cutter, heap) => new ThreadsParser(cutter, heap),
  strace: (cutter, heap, ring) => new StraceParser(cutter, heap.stats, new VmRingSink(ring)),
  'kmem-pages v1': (cutter, heap, ring, o) =>
    new PagesParser(cutter, heap.stats, page_refs(ring, o)),
  lackey: (cutter, heap, ring, o) => new LackeyParser(cutter, heap.stats, page_refs(ring, o)),
};
function page_refs(ring: RingWriter, { lru_pages }: ReadOptions): PageRefs {
  return new PageRefs(new PageRingWriter(ring), lru_pages);
}

/**
 * Reads the trace into the ring; `begun` hears of its format.  Throws a SourceError; the ring has
 * failed by then.
 */
export async function read_trace(
  options: ReadOptions,
  ring: RingHandle,
  begun: (format: TraceFormat) => void = () => {},
): Promise<TraceResult<AnyDocument>> {
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
  /** The first damage behind something good, and its byte in the unpacked file. */
  #damage: SourceError | null = null;
  #damaged_at = 0;

  constructor(options: ReadOptions, writer: RingWriter, begun: (format: TraceFormat) => void) {
    this.#options = options;
    this.#begun = begun;
    this.#writer = writer;
    this.#stats = new TraceStats(options.strict);
    this.#heap = new HeapStream(writer, this.#stats, options.type_by);
  }

  async run(): Promise<TraceResult<AnyDocument>> {
    const began = performance.now();
    /* All are opened first, so that a misspelt second name is told before the first is read. */
    const { files, names } = this.#options;
    const sources = files.map((file, i) => open_source(file, this.#hash, names?.[i]));
    for (const source of sources) this.#total_bytes += source.size;
    this.#writer.progress(0, this.#total_bytes, 0, 0);
    try {
      for (const source of sources) {
        if (!this.#aborted) await this.#file(source);
      }
      if (this.#capture) await this.#capture_passes(this.#capture);
      if (!this.#aborted) {
        const missing = this.#parser?.finish() ?? '';
        if (missing !== '') this.#cut(missing, this.#plain_bytes);
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
    const { malformed_lines, notes } = this.#stats;
    this.#stats.begin(source.file);
    let head: Uint8Array | null = new Uint8Array(0);
    let good = true;
    for await (const chunk of source.chunks()) {
      if (head !== null) {
        head = head.length === 0 ? chunk : Buffer.concat([head, chunk]);
        if (!sniff_decided(head)) continue;
        good = this.#begin(source, head);
        head = null;
      } else if (good) {
        good = this.#feed(source, chunk);
      } else {
        this.#go_on(source); // to the end, so that size and digest are those of the file
      }
      if (this.#aborted) return;
    }
    if (head !== null) good = this.#begin(source, head);
    if (source.damage !== null && good) {
      good = false;
      this.#give_up(source.damage, source.plain_bytes);
    }
    if (!good) this.#finish_damaged(source);
    else if (this.#capture) this.#capture.finish();
    else this.#finish_lines(source, malformed_lines, notes);
    this.#note_progress(source);
    this.#raw_bytes += source.raw_bytes;
    this.#plain_bytes += source.plain_bytes;
  }
  /* The last line may be cut; a file of which no other line made sense is no recording. */
  #finish_lines(source: ByteSource, malformed_before: number, notes_before: number): void {
    const stats = this.#stats;
    const parser = this.#parser as TraceParser;
    const cut = this.#cutter.finish(parser) ? 0 : 1;
    parser.file_over?.();
    const malformed = stats.malformed_lines - malformed_before;
    const notes = stats.notes - notes_before;
    const ends = 'the file ends in the middle of this line';
    const understood = stats.line - malformed - notes - cut > 0;
    if (!understood && (malformed > 0 || (cut > 0 && notes === 0))) {
      const reason = `no line of this file was understood as ${this.#format}`;
      const place = `${stats.file}:`;
      const first = stats.malformed.find((what) => what.startsWith(place));
      const advice = `the first: ${first?.slice(place.length) ?? `${stats.line}: ${ends}`}`;
      throw new SourceError(stats.file, null, reason, advice);
    }
    if (cut > 0) this.#cut(`line ${stats.line}: ${ends}`, source.plain_bytes);
  }
  /* The recorder was stopped before it wrote the rest. */
  #cut(reason: string, at: number): void {
    const error = new SourceError(this.#stats.file, null, reason, CUT_ADVICE, 'damaged');
    if (this.#options.strict) throw made_strict(error);
    this.#note_damage(error, at);
  }
  #finish_damaged(source: ByteSource): void {
    if (this.#parser) this.#cutter.finish(this.#parser);
    this.#parser?.file_over?.();
    this.#capture?.finish_damaged(source.plain_bytes);
  }

  /* Nothing behind this byte can be read. Throws when nothing before it could be, either. */
  #give_up(error: unknown, at: number): void {
    if (!(error instanceof SourceError) || error.fault !== 'damaged') throw error;
    if ((this.#capture?.packets ?? this.#stats.event_lines) === 0) throw error;
    if (this.#options.strict) throw made_strict(error);
    this.#note_damage(error, at);
  }
  #note_damage(error: SourceError, at: number): void {
    if (this.#damage !== null) return;
    this.#damage = error;
    this.#damaged_at = at;
  }

  /* A capture was read once; --loop reads it again and again. */
  async #capture_passes(capture: CaptureReading): Promise<void> {
    const { files, names } = this.#options;
    if (!this.#aborted) capture.pass();
    for (let pass = 1; pass < this.#options.loop && !this.#aborted; pass++) {
      for (const [i, file] of files.entries()) {
        await this.#again(open_source(file, null, names?.[i]), capture);
        if (this.#aborted) return;
      }
      capture.pass();
    }
  }
  async #again(source: ByteSource, capture: CaptureReading): Promise<void> {
    capture.begin(source.file, this.#format as 'pcap' | 'pcapng');
    for await (const chunk of source.chunks()) {
      if (!this.#capture_feed(capture, chunk)) break;
      this.#note_progress(null);
      this.#aborted = this.#writer.check_closed();
      if (this.#aborted) return;
    }
    capture.finish();
  }

  /* The first bytes of a file are there: find or confirm the format. False: it is damaged. */
  #begin(source: ByteSource, head: Uint8Array): boolean {
    const format = detect_format(head);
    const make_parser = PARSERS[format];
    if (is_capture(format)) {
      this.#same_format(source, format);
      this.#capture ??= new CaptureReading(this.#writer, this.#options.strict);
      this.#capture.begin(source.file, format);
      return this.#feed(source, head);
    }
    if (make_parser === undefined) {
      throw source.damage ?? foreign_error(source.file, refusal(format, head));
    }
    this.#same_format(source, format);
    this.#parser ??= make_parser(this.#cutter, this.#heap, this.#writer, this.#options);
    const begin = sniff_begin(head);
    this.#skip_lines(head.subarray(bom_bytes(head), begin));
    return this.#feed(source, head.subarray(begin));
  }
  /* Lines of something else, in front of the recording. */
  #skip_lines(before: Uint8Array): void {
    for (let at = before.indexOf(NEWLINE); at >= 0; at = before.indexOf(NEWLINE, at + 1)) {
      this.#stats.line++;
      this.#stats.malformed_line('stands before the beginning of the recording');
    }
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

  /* False: nothing from some byte of the chunk on can be read. */
  #feed(source: ByteSource, chunk: Uint8Array): boolean {
    let good = true;
    if (this.#capture) good = this.#capture_feed(this.#capture, chunk);
    else this.#cutter.feed(chunk, this.#parser as TraceParser);
    this.#go_on(source);
    return good;
  }
  #capture_feed(capture: CaptureReading, chunk: Uint8Array): boolean {
    try {
      capture.feed(chunk);
      return true;
    } catch (error) {
      this.#give_up(error, capture.offset);
      return false;
    }
  }
  #go_on(source: ByteSource): void {
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

  #document(): AnyDocument {
    const document = this.#capture?.document() ?? this.#parser?.document();
    if (document === undefined) throw new Error('read_trace: no file was begun');
    return {
      ...document,
      uncompressed_bytes: this.#plain_bytes,
      compressed_bytes: this.#raw_bytes,
      sha256: this.#hash.digest('hex'),
      ...(this.#damage ? { damaged_at: this.#damaged_at, damage: this.#damage.found } : {}),
    } as AnyDocument;
  }
}

function made_strict({ file, offset, reason }: SourceError): SourceError {
  return new SourceError(file, offset, reason, CUT_ADVICE, 'strict');
}
function strict_error(stats: TraceStats): SourceError {
  const reason = `line ${stats.malformed[0].slice(stats.file.length + 1)}`;
  const advice = 'mend the line, or replay without --strict';
  return new SourceError(stats.file, null, reason, advice, 'strict');
}
