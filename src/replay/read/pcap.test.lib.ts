/*
 * pcap.test.lib: captures made by hand, and what a reader makes of them.
 */
import { createHash } from 'node:crypto';
import { OP_END, OP_MASK } from '../ring/events.ts';
import {
  INTERFACE_SHIFT,
  OP_INTERFACE,
  OP_PACKET,
  OP_PAD,
  OP_PASS,
  OP_PIECE,
  PACKET_UNITS,
  packet_units,
  piece_units,
} from '../ring/packet_events.ts';
import type { CaptureDocument } from './pcap_stats.ts';
import { open_reader, type ReaderOptions } from './reader.ts';
import { RingReader } from '../ring/ring.ts';
import type { SourceError } from './source.ts';

export interface Packet {
  sec: number;
  nsec: number;
  bytes: Uint8Array;
  wire: number;
  iface?: number;
}
export function packet(bytes: Uint8Array, sec = 1, nsec = 0, wire = bytes.length): Packet {
  return { bytes, sec, nsec, wire };
}
export function sha256(packets: readonly Packet[]): string {
  const hash = createHash('sha256');
  for (const p of packets) hash.update(p.bytes);
  return hash.digest('hex');
}

export interface PcapShape {
  big?: boolean;
  magic?: number;
  minor?: number;
  link?: number;
  snaplen?: number;
}
export const MAGIC_US = 0xa1b2c3d4;
export const MAGIC_NS = 0xa1b23c4d;
export const MAGIC_MODIFIED = 0xa1b2cd34;

/** A classic capture. */
export function pcap(packets: readonly Packet[], shape: PcapShape = {}): Buffer {
  const { big = false, magic = MAGIC_US, minor = 4, link = 1, snaplen = 262144 } = shape;
  const words = (...list: number[]): Buffer => {
    const b = Buffer.alloc(list.length * 4);
    list.forEach((n, i) => {
      if (big) b.writeUInt32BE(n, i * 4);
      else b.writeUInt32LE(n, i * 4);
    });
    return b;
  };
  const version = big ? (2 << 16) | minor : (minor << 16) | 2;
  const parts = [words(magic, version, 0, 0, snaplen, link)];
  for (const p of packets) {
    const fraction = magic === MAGIC_NS ? p.nsec : Math.floor(p.nsec / 1000);
    const lengths = minor < 3 ? [p.wire, p.bytes.length] : [p.bytes.length, p.wire];
    parts.push(words(p.sec, fraction, ...lengths));
    if (magic === MAGIC_MODIFIED) parts.push(Buffer.from('0100000000080000', 'hex'));
    parts.push(Buffer.from(p.bytes));
  }
  return Buffer.concat(parts);
}

/** Blocks of a pcapng section. */
export class Ng {
  readonly parts: Buffer[] = [];
  readonly big: boolean;
  /** A section of this version; one of another says how many bytes follow, or -1. */
  constructor(big = false, major = 1, bytes = -1) {
    this.big = big;
    const [high, low] = [Math.floor(bytes / 2 ** 32), bytes];
    const length = big ? this.u32(high, low) : this.u32(low, high);
    this.block(0x0a0d0d0a, [this.u32(0x1a2b3c4d), this.u16(major, 0), length]);
  }
  u32(...list: number[]): Buffer {
    const b = Buffer.alloc(list.length * 4);
    list.forEach((n, i) => {
      if (this.big) b.writeUInt32BE(n >>> 0, i * 4);
      else b.writeUInt32LE(n >>> 0, i * 4);
    });
    return b;
  }
  u16(...list: number[]): Buffer {
    const b = Buffer.alloc(list.length * 2);
    list.forEach((n, i) => {
      if (this.big) b.writeUInt16BE(n, i * 2);
      else b.writeUInt16LE(n, i * 2);
    });
    return b;
  }
  block(type: number, body: Buffer[]): this {
    const whole = padded(Buffer.concat(body));
    const length = whole.length + 12;
    this.parts.push(this.u32(type, length), whole, this.u32(length));
    return this;
  }
  iface(link: number, snaplen = 0, resolution: number | null = null): this {
    const options =
      resolution === null
        ? []
        : [this.u16(9, 1), Buffer.from([resolution, 0, 0, 0]), this.u16(0, 0)];
    return this.block(1, [this.u16(link, 0), this.u32(snaplen), ...options]);
  }
  /** `units`: units of a second's time stamps. */
  enhanced(p: Packet, units = 1_000_000n, options: Buffer[] = []): this {
    const [high, low] = stamp(p, units);
    const { bytes, wire, iface = 0 } = p;
    const head = this.u32(iface, high, low, bytes.length, wire);
    return this.block(6, [head, padded(Buffer.from(bytes)), ...options]);
  }
  old(p: Packet, units = 1_000_000n): this {
    const [high, low] = stamp(p, units);
    const head = [this.u16(p.iface ?? 0, 0), this.u32(high, low, p.bytes.length, p.wire)];
    return this.block(2, [...head, Buffer.from(p.bytes)]);
  }
  simple(p: Packet): this {
    return this.block(3, [this.u32(p.wire), Buffer.from(p.bytes)]);
  }
  bytes(): Buffer {
    return Buffer.concat(this.parts);
  }
}
function padded(b: Buffer): Buffer {
  return Buffer.concat([b, Buffer.alloc((4 - (b.length % 4)) % 4)]);
}
function stamp(p: Packet, units: bigint): [number, number] {
  const t = BigInt(p.sec) * units + (BigInt(p.nsec) * units) / 1_000_000_000n;
  return [Number(t >> 32n), Number(t & 0xffffffffn)];
}

export interface Read {
  trace?: CaptureDocument;
  error?: SourceError;
  packets: Packet[];
  passes: number;
}
/** Reads a capture with the reader's real thread; this thread takes the packets. */
export async function read_capture(
  files: string[],
  more: Partial<ReaderOptions> = {},
): Promise<Read> {
  const reader = open_reader({ files, cpus: 1, ...more });
  const ring = new RingReader(reader.ring_handle, 0);
  const bytes = new Uint8Array(reader.ring_handle.buffer);
  const read: Read = { packets: [], passes: 0 };
  let pieces: Uint8Array[] = [];
  for (;;) {
    const n = ring.next_batch();
    if (n <= 0) break;
    for (let left = n; left > 0; ) {
      const at = ring.word_of(0);
      const word0 = ring.words[at];
      const op = word0 & OP_MASK;
      let units = 1;
      if (op === OP_PACKET) {
        const [, captured, wire, pieced, sec, nsec] = ring.words.subarray(at, at + 6);
        units = pieced ? PACKET_UNITS : packet_units(captured);
        const from = (at + 8) * 4;
        const iface = word0 >>> INTERFACE_SHIFT;
        const data = pieced ? Buffer.concat(pieces) : bytes.slice(from, from + captured);
        pieces = [];
        read.packets.push({ sec, nsec, bytes: data, wire: wire >>> 0, iface });
      } else if (op === OP_PIECE) {
        const n = ring.words[at + 1];
        units = piece_units(n);
        pieces.push(bytes.slice((at + 4) * 4, (at + 4) * 4 + n));
      } else if (op === OP_PAD) units = ring.words[at + 1];
      else if (op === OP_PASS) read.passes++;
      else if (op !== OP_INTERFACE && op !== OP_END) throw new Error(`op ${op}`);
      ring.release(units);
      left -= units;
    }
  }
  await reader.done.then(
    (r) => {
      read.trace = r.trace as unknown as CaptureDocument;
    },
    (e) => {
      read.error = e;
    },
  );
  return read;
}
