/*
 * pcapng: captures as a chain of typed blocks.
 *
 *      block   type · length · body, padded to 4 bytes · length again
 *
 *      section header     byte order; interfaces are numbered anew
 *      interface          link type, snaplen, unit of its time stamps
 *      enhanced packet    interface, time, lengths, bytes, options
 *      packet             the same as older tools wrote it
 *      simple packet      length and bytes of interface 0; no time
 *      any other          skipped, whatever its length; a huge one unseen
 *
 * Options follow a body: code, length, value padded to 4 bytes; code 0 ends them.
 * The section header's type reads the same in both byte orders; the order stands
 * in a magic number behind its length.
 *
 * A section of a major version other than 1 is passed over: by the length in its
 * header, or, where that is not given, block by block, which all versions chain
 * alike.  A capture of such sections alone is refused.
 *
 * Time stamps count units of 10^-n or 2^-n seconds in 64 bits; what is finer than
 * a nanosecond is cut off.
 */
import { PACKET_MAX_BYTES, packet_max_bytes } from './packet_links.ts';
import {
  type CaptureFormat,
  type CaptureSink,
  capture_error,
  NO_TIME,
  type RecordParser,
} from './pcap_stream.ts';

export const PCAPNG_MAGIC = 0x0a0d0d0a;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;

/** The version that can be read. */
const MAJOR = 1;
/** A section that claims more bytes than this is passed over block by block. */
const SECTION_MAX = 2n ** 52n;

const BT_SECTION = 0x0a0d0d0a;
const BT_INTERFACE = 1;
const BT_PACKET = 2;
const BT_SIMPLE = 3;
const BT_ENHANCED = 6;

const OPT_END = 0;
const OPT_TSRESOL = 9;
const OPT_TSOFFSET = 14;

/** Type, length, and length again. */
const BLOCK_FRAME = 12;
const BLOCK_MIN = BLOCK_FRAME;
const SECTION_MIN = 28;
/** A block that is looked into is a packet, and options and lengths that need no more than this. */
const BLOCK_BESIDES = PACKET_MAX_BYTES * 3;
/** Interfaces of a capture, all sections together; each is kept to the end. */
const INTERFACES_MAX = 65536;
const NS = 1_000_000_000n;
const UNITS: Record<number, string> = { 0: 's', 3: 'ms', 6: 'us', 9: 'ns' };

interface Interface {
  number: number;
  snaplen: number;
  /** Captured bytes that a packet may have. */
  most: number;
  per_second: bigint;
  offset: bigint;
}

export class PcapngParser implements RecordParser {
  records = 0;
  readonly #file: string;
  readonly #sink: CaptureSink;
  readonly #offset: () => number;
  #little = true;
  #first_little: boolean | null = null;
  #interfaces: Interface[] = [];
  #interfaces_seen = 0;
  /** The most that any interface of the section lets a packet have. */
  #most = PACKET_MAX_BYTES;
  #sections = 0;
  #skipped = 0;
  /** The section is of another version; that of the first such one. */
  #foreign = false;
  #version: string | null = null;

  constructor(file: string, sink: CaptureSink, offset: () => number) {
    this.#file = file;
    this.#sink = sink;
    this.#offset = offset;
  }

  step(bytes: Uint8Array, at: number): number {
    const there = bytes.length - at;
    if (there < BLOCK_FRAME) return -BLOCK_FRAME;
    const v = new DataView(bytes.buffer, bytes.byteOffset + at, there);
    const section = v.getUint32(0) === BT_SECTION;
    if (section) this.#byte_order(v);
    else if (this.#sections === 0 && !this.#foreign)
      this.#wrong('a block stands before the first section header');
    const type = v.getUint32(0, this.#little);
    const length = v.getUint32(4, this.#little);
    if (length < (section ? SECTION_MIN : BLOCK_MIN) || length % 4 !== 0) {
      this.#wrong(`block ${this.records + 1} claims a length of ${length} bytes`);
    }
    const read = [BT_INTERFACE, BT_PACKET, BT_SIMPLE, BT_ENHANCED].includes(type);
    const known = section || (read && !this.#foreign);
    const block_most = this.#most + BLOCK_BESIDES;
    if (length > block_most) {
      if (!known) return this.#skip(length);
      const most = `at most ${block_most} can be`;
      this.#wrong(`block ${this.records + 1} claims a length of ${length} bytes, ${most}`);
    }
    if (there < length) return -length;
    const again = v.getUint32(length - 4, this.#little);
    if (again !== length) {
      this.#wrong(`block ${this.records + 1} is ${length} bytes long and ends with ${again}`);
    }
    if (!known) return this.#skip(length);
    this.records++;
    const body = bytes.subarray(at + 8, at + length - 4);
    const b = new DataView(bytes.buffer, bytes.byteOffset + at + 8, length - BLOCK_FRAME);
    if (section) return length + this.#section(b);
    if (type === BT_INTERFACE) this.#interface(b);
    else if (type === BT_SIMPLE) this.#simple(b, body);
    else this.#packet(b, body, type === BT_PACKET);
    return length;
  }

  #skip(length: number): number {
    this.records++;
    this.#skipped++;
    return length;
  }
  #wrong(reason: string): never {
    throw capture_error(this.#file, this.#offset(), reason);
  }
  /** A body too short for what it has to hold. */
  #holds(b: DataView, bytes: number, what: string): void {
    if (b.byteLength >= bytes) return;
    this.#wrong(`block ${this.records} is too short for ${what}`);
  }

  #byte_order(v: DataView): void {
    const big = v.getUint32(8) === BYTE_ORDER_MAGIC;
    const little = v.getUint32(8, true) === BYTE_ORDER_MAGIC;
    if (!big && !little) this.#wrong('the section header has no byte order magic');
    this.#little = little;
    this.#first_little ??= little;
  }
  /* Answers the bytes behind the header that are to be passed over. */
  #section(b: DataView): number {
    const little = this.#little;
    const major = b.getUint16(4, little);
    this.#interfaces = [];
    this.#most = PACKET_MAX_BYTES;
    this.#foreign = major !== MAJOR;
    if (!this.#foreign) {
      this.#sections++;
      return 0;
    }
    this.#skipped++;
    this.#version ??= `${major}.${b.getUint16(6, little)}`;
    const bytes = b.getBigInt64(8, little);
    return bytes > 0n && bytes % 4n === 0n && bytes <= SECTION_MAX ? Number(bytes) : 0;
  }

  #interface(b: DataView): void {
    this.#holds(b, 8, 'an interface');
    const link = b.getUint16(0, this.#little);
    const snaplen = b.getUint32(4, this.#little);
    let per_second = 1_000_000n;
    let unit = 'us';
    let digits = 6;
    let offset = 0n;
    this.#options(b, 8, (code, at, length) => {
      if (code === OPT_TSRESOL && length >= 1) {
        const n = b.getUint8(at) & 0x7f;
        const binary = (b.getUint8(at) & 0x80) !== 0;
        per_second = (binary ? 2n : 10n) ** BigInt(n);
        unit = binary ? `2^-${n} s` : (UNITS[n] ?? `10^-${n} s`);
        digits = binary ? Math.ceil(n * Math.log10(2)) : n;
      } else if (code === OPT_TSOFFSET && length >= 8) offset = b.getBigInt64(at, this.#little);
    });
    if (++this.#interfaces_seen > INTERFACES_MAX) {
      const most = `at most ${INTERFACES_MAX} can be`;
      this.#wrong(`block ${this.records} is interface ${this.#interfaces_seen}, ${most}`);
    }
    const number = this.#sink.interface(link, snaplen, unit, digits);
    const most = packet_max_bytes(link);
    this.#most = Math.max(this.#most, most);
    this.#interfaces.push({ number, snaplen, most, per_second, offset });
  }
  #options(
    b: DataView,
    from: number,
    found: (code: number, at: number, length: number) => void,
  ): void {
    for (let at = from; at + 4 <= b.byteLength; ) {
      const code = b.getUint16(at, this.#little);
      const length = b.getUint16(at + 2, this.#little);
      if (code === OPT_END) return;
      if (at + 4 + length > b.byteLength) this.#wrong(`block ${this.records}: an option is cut`);
      found(code, at + 4, length);
      at += 4 + Math.ceil(length / 4) * 4;
    }
  }

  #of(number: number): Interface {
    const iface = this.#interfaces[number];
    if (iface) return iface;
    const there = `${this.#interfaces.length} so far`;
    return this.#wrong(`block ${this.records} names interface ${number}, of ${there}`);
  }

  #packet(b: DataView, body: Uint8Array, old: boolean): void {
    this.#holds(b, 20, 'a packet');
    const little = this.#little;
    const iface = this.#of(old ? b.getUint16(0, little) : b.getUint32(0, little));
    const captured = b.getUint32(12, little);
    if (captured > body.length - 20 || captured > iface.most) {
      this.#wrong(`block ${this.records} claims ${captured} captured bytes in ${body.length - 20}`);
    }
    const stamp = (BigInt(b.getUint32(4, little)) << 32n) | BigInt(b.getUint32(8, little));
    const sec = stamp / iface.per_second + iface.offset;
    const nsec = ((stamp % iface.per_second) * NS) / iface.per_second;
    const wire = b.getUint32(16, little);
    const data = body.subarray(20, 20 + captured);
    this.#sink.packet(iface.number, Number(sec), Number(nsec), data, wire);
  }
  #simple(b: DataView, body: Uint8Array): void {
    this.#holds(b, 4, 'a packet');
    const iface = this.#of(0);
    const wire = b.getUint32(0, this.#little);
    const most = iface.snaplen === 0 ? wire : Math.min(wire, iface.snaplen);
    if (most > body.length - 4 || most > iface.most) {
      this.#wrong(`block ${this.records} claims ${most} captured bytes in ${body.length - 4}`);
    }
    this.#sink.packet(iface.number, 0, NO_TIME, body.subarray(4, 4 + most), wire);
  }

  unfinished(): string | null {
    if (this.#sections > 0) return null;
    if (this.#version === null) return 'its section header';
    const reason = `pcapng version ${this.#version}; 1.x can be read`;
    throw capture_error(this.#file, 0, reason);
  }

  document(): CaptureFormat {
    return {
      format: 'pcapng',
      byte_order: (this.#first_little ?? true) ? 'little' : 'big',
      sections: this.#sections,
      blocks_skipped: this.#skipped,
    };
  }
}
