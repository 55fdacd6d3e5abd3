/*
 * pcap: the classic format of packet captures.
 *
 *      file header   magic · version 2.4 · zone · 0 · snaplen · link type     24 bytes
 *      record        seconds · fraction · captured · on the wire              16 bytes
 *                    the captured bytes
 *
 * The magic number tells the byte order, and whether fractions are micro- or
 * nanoseconds.  A third one marks the modified format, whose records have 8 more
 * bytes (interface, protocol, packet type).  Before version 2.3 the two lengths
 * stood in the other order.
 *
 * There is no mark between records: an absurd length means that everything behind
 * it is lost, so it ends the reading.  A file that ends inside its last record is
 * what a stopped recorder leaves; its whole records are good.
 */
import { PACKET_MAX_BYTES, packet_max_bytes } from './packet_links.ts';
import {
  type CaptureFormat,
  type CaptureSink,
  capture_error,
  type RecordParser,
} from './pcap_stream.ts';

const MAGIC_US = 0xa1b2c3d4;
const MAGIC_NS = 0xa1b23c4d;
const MAGIC_MODIFIED = 0xa1b2cd34;
/** The first four bytes of a capture, as a big-endian number; both byte orders. */
export const PCAP_MAGICS: readonly number[] = [MAGIC_US, MAGIC_NS, MAGIC_MODIFIED].flatMap((m) => [
  m,
  swapped(m),
]);
const FILE_HEADER = 24;
const RECORD_HEADER = 16;
const RECORD_HEADER_MODIFIED = 24;
/** The upper bits of the link type say whether frames end in a checksum, and how long it is. */
const LINK_MASK = 0xffff;

function swapped(n: number): number {
  return (((n & 0xff) << 24) | ((n & 0xff00) << 8) | ((n >>> 8) & 0xff00) | (n >>> 24)) >>> 0;
}

export class PcapParser implements RecordParser {
  records = 0;
  readonly #file: string;
  readonly #sink: CaptureSink;
  readonly #offset: () => number;
  /** The file header was read: what it says. */
  #header = RECORD_HEADER;
  #begun = false;
  #little = true;
  #modified = false;
  #ns_per_unit = 1000;
  #minor = 4;
  #most = PACKET_MAX_BYTES;
  #iface = 0;

  constructor(file: string, sink: CaptureSink, offset: () => number) {
    this.#file = file;
    this.#sink = sink;
    this.#offset = offset;
  }

  step(bytes: Uint8Array, at: number): number {
    const there = bytes.length - at;
    if (!this.#begun) return there < FILE_HEADER ? -FILE_HEADER : this.#file_header(bytes, at);
    const header = this.#header;
    if (there < header) return -header;
    const v = new DataView(bytes.buffer, bytes.byteOffset + at, header);
    let captured = v.getUint32(8, this.#little);
    let wire = v.getUint32(12, this.#little);
    if (this.#minor < 3 || (this.#minor === 3 && captured > wire)) {
      [captured, wire] = [wire, captured];
    }
    if (captured > this.#most) this.#absurd(captured);
    if (there < header + captured) return -(header + captured);
    const sec = v.getUint32(0, this.#little);
    const nsec = v.getUint32(4, this.#little) * this.#ns_per_unit;
    const data = bytes.subarray(at + header, at + header + captured);
    this.records++;
    this.#sink.packet(this.#iface, sec, nsec, data, wire);
    return header + captured;
  }

  #absurd(captured: number): never {
    const most = `at most ${this.#most} can be`;
    const reason = `packet ${this.records + 1} claims ${captured} captured bytes, ${most}`;
    throw capture_error(this.#file, this.#offset(), reason);
  }

  #file_header(bytes: Uint8Array, at: number): number {
    const v = new DataView(bytes.buffer, bytes.byteOffset + at, FILE_HEADER);
    const magic = v.getUint32(0);
    this.#little = ![MAGIC_US, MAGIC_NS, MAGIC_MODIFIED].includes(magic);
    const kind = this.#little ? swapped(magic) : magic;
    if (!PCAP_MAGICS.includes(magic)) {
      throw capture_error(this.#file, 0, 'the magic number is none of a capture');
    }
    const major = v.getUint16(4, this.#little);
    this.#minor = v.getUint16(6, this.#little);
    if (major !== 2 || this.#minor > 4) {
      const version = `${major}.${this.#minor}`;
      throw capture_error(this.#file, 4, `pcap version ${version}; 2.0 to 2.4 can be read`);
    }
    this.#modified = kind === MAGIC_MODIFIED;
    this.#header = this.#modified ? RECORD_HEADER_MODIFIED : RECORD_HEADER;
    const digits = kind === MAGIC_NS ? 9 : 6;
    this.#ns_per_unit = kind === MAGIC_NS ? 1 : 1000;
    const link = v.getUint32(20, this.#little) & LINK_MASK;
    const snaplen = v.getUint32(16, this.#little);
    this.#most = packet_max_bytes(link);
    this.#iface = this.#sink.interface(link, snaplen, digits === 9 ? 'ns' : 'us', digits);
    this.#begun = true;
    return FILE_HEADER;
  }

  unfinished(): string | null {
    return this.#begun ? null : `its file header of ${FILE_HEADER} bytes`;
  }

  document(): CaptureFormat {
    return {
      format: 'pcap',
      byte_order: this.#little ? 'little' : 'big',
      ...(this.#modified ? { variant: 'modified' } : {}),
    };
  }
}
