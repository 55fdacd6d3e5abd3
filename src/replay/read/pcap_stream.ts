/*
 * pcap_stream: a capture as a stream of records, in bounded memory.
 *
 *      chunks ─► RecordCutter ─► step(bytes, at) of pcap.ts or pcapng.ts ─► CaptureSink
 *
 * A format's parser looks at the bytes from `at` on and answers how many it used;
 * or, negative, how many it needs there before it can say anything; or more than
 * there are, to have them skipped.  What is left of a chunk is kept until enough
 * has come, so that a record is always seen whole, wherever chunks are cut.
 *
 * Always true: no more is kept than the largest record, which the parsers limit.
 */
import { SourceError } from './source.ts';

/** In place of the nanoseconds of a packet whose time was not recorded. */
export const NO_TIME = -1;

/** Where parsers put what they find. */
export interface CaptureSink {
  /** Another interface; answers its number. `unit`: of its time stamps, in words. */
  interface(link_type: number, snaplen: number, unit: string, digits: number): number;
  /** A packet. `bytes` is only valid during the call. */
  packet(iface: number, sec: number, nsec: number, bytes: Uint8Array, wire_bytes: number): void;
}

/** What a format's parser offers to the cutter. */
export interface RecordParser {
  /** Name of the format's variant, of its byte order, and what else the document says. */
  document(): CaptureFormat;
  /** Bytes used from `at` on; -n: needs n bytes; more than there are: skip. */
  step(bytes: Uint8Array, at: number): number;
  /** What the file ended in the middle of, for a message; null: it may end here. */
  unfinished(): string | null;
  /** Records so far: packets or blocks. */
  readonly records: number;
}
export interface CaptureFormat {
  format: 'pcap' | 'pcapng';
  byte_order: 'little' | 'big';
  /** pcap with a longer record header, as some kernels' patched tools wrote it. */
  variant?: 'modified';
  sections?: number;
  blocks_skipped?: number;
}

/** The place of something wrong in a capture, and what to do; what is before it is good. */
export function capture_error(file: string, offset: number, reason: string): SourceError {
  return new SourceError(file, offset, reason, 'fetch or record the capture again', 'damaged');
}

export class RecordCutter {
  /** Byte of the capture, unpacked, at which the current record begins. */
  offset = 0;
  /** Bytes of it that are there, and how many were skipped for it. */
  #pieces: Uint8Array[] = [];
  #have = 0;
  #need = 1;
  #skip = 0;
  #skipped = 0;

  feed(chunk: Uint8Array, parser: RecordParser): void {
    let bytes = chunk;
    if (this.#skip > 0) {
      const n = Math.min(this.#skip, bytes.length);
      this.#skip -= n;
      this.#skipped += n;
      if (this.#skip > 0) return;
      this.offset += this.#skipped;
      this.#skipped = 0;
      bytes = bytes.subarray(n);
    }
    if (this.#have + bytes.length < this.#need) {
      if (bytes.length > 0) this.#pieces.push(bytes.slice());
      this.#have += bytes.length;
      return;
    }
    this.#cut(this.#have === 0 ? bytes : Buffer.concat([...this.#pieces, bytes]), parser);
  }

  #cut(bytes: Uint8Array, parser: RecordParser): void {
    this.#pieces = [];
    this.#have = 0;
    this.#need = 1;
    let at = 0;
    while (at < bytes.length) {
      const used = parser.step(bytes, at);
      if (used < 0) {
        this.#need = -used;
        break;
      }
      if (at + used > bytes.length) {
        this.#skip = at + used - bytes.length;
        this.#skipped = bytes.length - at;
        return;
      }
      at += used;
      this.offset += used;
    }
    this.#have = bytes.length - at;
    if (this.#have > 0) this.#pieces.push(bytes.slice(at));
  }

  /** Bytes behind the last whole record. */
  trailing(): number {
    return this.#have + this.#skipped;
  }
}
