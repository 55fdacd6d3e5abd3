/*
 * pcap (model): captures read the simple way, whole and in memory.
 *
 * What a reader has to find: the packets up to the first thing that is wrong, where
 * that is, and what is left behind the last whole record.  Written from the formats'
 * descriptions, with loops over one buffer and none of the readers' code.
 */
export interface ModelPacket {
  bytes: Uint8Array;
  wire: number;
}
export interface ModelReading {
  packets: ModelPacket[];
  /** Byte at which something is wrong; null: nothing is. */
  wrong_at: number | null;
  /** Bytes behind the last whole record. */
  trailing: number;
}

const MOST = 262144;
const MOST_LARGE = 128 * 1024 * 1024;
/** Link types of USB, D-Bus and the like. */
const LARGE = [189, 220, 231, 249, 266, 279];
const most_of = (link: number): number => (LARGE.includes(link & 0xffff) ? MOST_LARGE : MOST);

/** Numbers in a capture, in its byte order. */
class Numbers {
  readonly #v: DataView;
  little = false;
  constructor(file: Uint8Array) {
    this.#v = new DataView(file.buffer, file.byteOffset, file.length);
  }
  u32 = (at: number): number => this.#v.getUint32(at, this.little);
  /** Signed; exact where it matters. */
  u64 = (at: number): number => Number(this.#v.getBigInt64(at, this.little));
  u16 = (at: number): number => this.#v.getUint16(at, this.little);
  /** Whether `wanted` stands there in either byte order, which is the capture's from now on. */
  order(at: number, ...wanted: number[]): boolean {
    for (const little of [false, true]) {
      if (!wanted.includes(this.#v.getUint32(at, little))) continue;
      this.little = little;
      return true;
    }
    return false;
  }
}

/** A capture that begins with a magic number of pcap. */
export function pcap_model(file: Uint8Array): ModelReading {
  const packets: ModelPacket[] = [];
  if (file.length < 24) return { packets, wrong_at: file.length, trailing: 0 };
  const n = new Numbers(file);
  n.order(0, 0xa1b2c3d4, 0xa1b23c4d, 0xa1b2cd34);
  const minor = n.u16(6);
  if (n.u16(4) !== 2 || minor > 4) return { packets, wrong_at: 4, trailing: 0 };
  const header = n.u32(0) === 0xa1b2cd34 ? 24 : 16;
  let at = 24;
  while (at + header <= file.length) {
    let [captured, wire] = [n.u32(at + 8), n.u32(at + 12)];
    const swapped = minor < 3 || (minor === 3 && captured > wire);
    if (swapped) [captured, wire] = [wire, captured];
    if (captured > most_of(n.u32(20))) return { packets, wrong_at: at, trailing: 0 };
    if (at + header + captured > file.length) break;
    packets.push({ bytes: file.subarray(at + header, at + header + captured), wire });
    at += header + captured;
  }
  return { packets, wrong_at: null, trailing: file.length - at };
}

interface Interface {
  link: number;
  snaplen: number;
}
const SECTION = 0x0a0d0d0a;
const INTERFACE = 1;
const READ = [SECTION, INTERFACE, 2, 3, 6];

/** A capture that begins with the type of a section header of pcapng. */
export function pcapng_model(file: Uint8Array): ModelReading {
  const packets: ModelPacket[] = [];
  const n = new Numbers(file);
  const interfaces: Interface[] = [];
  let sections = 0;
  let foreign = false; // in a section of another version
  let first_version_wrong = false;
  let at = 0;
  const wrong = (): ModelReading => ({ packets, wrong_at: at, trailing: 0 });
  while (at + 12 <= file.length) {
    const section = n.u32(at) === SECTION;
    if (section && !n.order(at + 8, 0x1a2b3c4d)) return wrong();
    if (!section && sections === 0 && !foreign) return wrong();
    const type = n.u32(at);
    const length = n.u32(at + 4);
    if (length < (section ? 28 : 12) || length % 4 !== 0) return wrong();
    const most = Math.max(MOST, ...interfaces.map((i) => most_of(i.link)));
    const huge = length > most + 3 * MOST;
    if (huge && (section || (READ.includes(type) && !foreign))) return wrong();
    if (at + length > file.length) break;
    if (!huge && n.u32(at + length - 4) !== length) return wrong();
    if (section) {
      foreign = n.u16(at + 12) !== 1;
      interfaces.length = 0;
      if (!foreign) sections++;
      else {
        first_version_wrong ||= sections === 0;
        const rest = n.u64(at + 16);
        if (rest > 0 && rest <= 2 ** 52 && rest % 4 === 0) {
          if (at + length + rest > file.length) break;
          at += rest;
        }
      }
    } else if (foreign) {
      // passed over
    } else if (type === INTERFACE) {
      if (length < 20 || !options_fit(n, at + 16, at + length - 4)) return wrong();
      interfaces.push({ link: n.u16(at + 8), snaplen: n.u32(at + 12) });
    } else if (READ.includes(type)) {
      const packet = pcapng_packet(file, n, interfaces, at);
      if (packet === null) return wrong();
      packets.push(packet);
    }
    at += length;
  }
  // What ends before its first section header is over is no capture.
  if (sections === 0) {
    return { packets, wrong_at: first_version_wrong ? 0 : file.length, trailing: 0 };
  }
  return { packets, wrong_at: null, trailing: file.length - at };
}
function options_fit(n: Numbers, from: number, end: number): boolean {
  for (let at = from; at + 4 <= end && n.u16(at) !== 0; ) {
    if (at + 4 + n.u16(at + 2) > end) return false;
    at += 4 + Math.ceil(n.u16(at + 2) / 4) * 4;
  }
  return true;
}
/** The packet of the block at `at`; null: it cannot be. */
function pcapng_packet(
  file: Uint8Array,
  n: Numbers,
  interfaces: Interface[],
  at: number,
): ModelPacket | null {
  const type = n.u32(at);
  const simple = type === 3;
  const data = at + (simple ? 12 : 28);
  const room = at + n.u32(at + 4) - 4 - data;
  if (room < 0) return null;
  const iface = interfaces[simple ? 0 : type === 2 ? n.u16(at + 8) : n.u32(at + 8)];
  if (iface === undefined) return null;
  const { snaplen, link } = iface;
  const wire = n.u32(data - 4);
  const cut = snaplen === 0 ? wire : Math.min(wire, snaplen);
  const captured = simple ? cut : n.u32(data - 8);
  if (captured > room || captured > most_of(link)) return null;
  return { bytes: file.subarray(data, data + captured), wire };
}
