/*
 * pcap_reading: a capture from its bytes to packets in the ring.
 *
 *      chunks ─► RecordCutter ─► PcapParser, PcapngParser ─┬─► CaptureStats
 *                                                          └─► ring: OP_PACKET
 *
 * Several files are parts of one capture; each has a header of its own.  Played
 * again (--loop), a capture is parsed again, but counted once.
 *
 * A capture that ends inside a record is what a stopped recorder leaves: its
 * whole packets count, the rest is told as trailing bytes.  So does one with
 * damage in it (read_trace.ts).  A strict reading stops there, with an error.
 */
import {
  INTERFACE_SHIFT,
  OP_INTERFACE,
  OP_PACKET,
  OP_PAD,
  OP_PASS,
  OP_PIECE,
  PIECE_BYTES,
} from '../ring/packet_events.ts';
import { PcapParser } from './pcap.ts';
import { CaptureStats } from './pcap_stats.ts';
import {
  type CaptureFormat,
  type CaptureSink,
  capture_error,
  RecordCutter,
  type RecordParser,
} from './pcap_stream.ts';
import { PcapngParser } from './pcapng.ts';
import type { RingWriter } from '../ring/ring.ts';
import { SourceError } from './source.ts';

const PARSERS = { pcap: PcapParser, pcapng: PcapngParser };
const NO_BYTES = new Uint8Array(0);
export type CaptureKind = keyof typeof PARSERS;

export function is_capture(format: string): format is CaptureKind {
  return Object.hasOwn(PARSERS, format);
}

/** The packets of one capture on their way into the ring. */
export class CaptureReading implements CaptureSink {
  readonly stats = new CaptureStats();
  /** Packets read, those of repeated passes included. */
  packets = 0;
  readonly #writer: RingWriter;
  readonly #strict: boolean;
  #file = '';
  #cutter = new RecordCutter();
  #parser: RecordParser | null = null;
  #format: CaptureFormat | null = null;
  /** The first pass: packets count. */
  #counts = true;
  #interfaces = 0;
  readonly #head = [0, 0, 0, 0, 0, 0, 0, 0];

  constructor(writer: RingWriter, strict: boolean) {
    this.#writer = writer;
    this.#strict = strict;
  }

  /** The next file begins. */
  begin(file: string, kind: CaptureKind): void {
    this.#file = file;
    const cutter = new RecordCutter();
    this.#cutter = cutter;
    this.#parser = new PARSERS[kind](file, this, () => cutter.offset);
  }
  /** Byte of the file at which the record that is being read begins. */
  get offset(): number {
    return this.#cutter.offset;
  }
  feed(chunk: Uint8Array): void {
    this.#cutter.feed(chunk, this.#parser as RecordParser);
  }
  /** The file is over. */
  finish(): void {
    const parser = this.#parser as RecordParser;
    const { offset } = this.#cutter;
    const trailing = this.#cutter.trailing();
    const missing = parser.unfinished();
    if (missing !== null) {
      throw capture_error(this.#file, offset + trailing, `the capture ends inside ${missing}`);
    }
    this.finish_damaged(offset + trailing);
    if (trailing === 0 || !this.#counts || !this.#strict) return;
    const reason = `record ${parser.records + 1}: cut after ${trailing} bytes`;
    const advice = 'record it again, or replay without --strict';
    throw new SourceError(this.#file, offset, reason, advice, 'strict');
  }
  /** The file is over, and so many bytes long; behind the last whole record nothing is readable. */
  finish_damaged(file_bytes: number): void {
    this.#format ??= (this.#parser as RecordParser).document();
    if (this.#counts) this.stats.trailing_bytes += file_bytes - this.#cutter.offset;
  }
  /** All files were read once. */
  pass(): void {
    this.#writer.put(OP_PASS, 0, 0, 0);
    this.#counts = false;
    this.#interfaces = 0;
  }

  interface(link: number, snaplen: number, unit: string, digits: number): number {
    if (this.#counts) this.stats.interface(link, snaplen, unit, digits);
    const number = this.#interfaces++;
    this.#writer.put(OP_INTERFACE | (number << INTERFACE_SHIFT), link, snaplen, digits);
    return number;
  }
  packet(iface: number, sec: number, nsec: number, bytes: Uint8Array, wire: number): void {
    this.packets++;
    if (this.#counts) this.stats.packet(iface, sec, nsec, bytes, wire);
    const head = this.#head;
    head[0] = OP_PACKET | (iface << INTERFACE_SHIFT);
    head[1] = bytes.length;
    head[2] = wire;
    head[3] = bytes.length > PIECE_BYTES ? 1 : 0;
    head[4] = sec;
    head[5] = nsec;
    if (head[3] === 0) this.#writer.put_bytes(head, bytes, OP_PAD);
    else this.#large_packet(bytes);
  }
  #large_packet(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      const piece = bytes.subarray(at, at + PIECE_BYTES);
      this.#writer.put_bytes([OP_PIECE, piece.length, 0, 0], piece, OP_PAD);
    }
    this.#writer.put_bytes(this.#head, NO_BYTES, OP_PAD);
  }

  /** Of a reading that nobody wanted to the end, what was read. */
  document() {
    return this.stats.document(this.#format ?? (this.#parser as RecordParser).document());
  }
}
