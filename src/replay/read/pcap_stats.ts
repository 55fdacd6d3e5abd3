/*
 * pcap_stats: what a capture says, as one document.
 *
 * Names and meaning are those of traces/truth.json:
 *
 *   captured_bytes     bytes that are in the file; original_bytes and wire_bytes
 *                      those that were on the wire
 *   truncated_packets  those of which the recorder kept less than there was
 *   size_histogram     by captured bytes; a bucket holds sizes up to its name,
 *                      above the one before
 *   duration_seconds   from the earliest packet to the latest, rounded to
 *                      microseconds
 *   trailing_bytes     behind the last whole record
 *   sha256_of_captured_bytes   of the packets' bytes alone, in file order
 */
import type { Hash } from 'node:crypto';
import { link_name } from './packet_links.ts';
import { type CaptureFormat, type CaptureSink, NO_TIME } from './pcap_stream.ts';
import { source_hash } from './source.ts';

export interface InterfaceRow {
  link_type: number;
  link: string;
  snaplen: number;
  timestamp_unit: string;
  packets: number;
}
export interface CaptureDocument extends CaptureFormat {
  timestamp_unit: string;
  /** Of the first interface; null: a pcapng without any. */
  link_type: number | null;
  link: string;
  snaplen: number;
  interfaces?: InterfaceRow[];
  packets: number;
  captured_bytes: number;
  original_bytes: number;
  wire_bytes: number;
  truncated_packets: number;
  largest: number;
  duration_seconds: number;
  timestamps_backwards: number;
  trailing_bytes: number;
  size_histogram: Record<string, number>;
  sha256_of_captured_bytes: string;
  uncompressed_bytes: number;
  compressed_bytes: number;
  sha256: string;
  /** Byte of the unpacked capture behind which nothing could be read, and why; absent: none. */
  damaged_at?: number;
  damage?: string;
}

const BUCKETS = [
  64,
  128,
  256,
  512,
  1024,
  1518,
  2048,
  4096,
  9216,
  16384,
  65536,
  1048576,
  2 ** 24,
  2 ** 27,
];
/** Bytes gathered for the digest: a call of it costs as much as hashing a kilobyte. */
const HASH_BYTES = 1 << 18;

/** Feeds a digest in large pieces. */
export class Digest {
  #hash: Hash = source_hash();
  /** As large as the largest packet. */
  #bytes = new Uint8Array(HASH_BYTES);
  #at = 0;

  /** Where the next n bytes go; they count at once. */
  place(n: number): { bytes: Uint8Array; at: number } {
    if (this.#at + n > this.#bytes.length) this.#flush();
    if (n > this.#bytes.length) this.#bytes = new Uint8Array(n);
    const at = this.#at;
    this.#at += n;
    return { bytes: this.#bytes, at };
  }
  update(bytes: Uint8Array): void {
    const to = this.place(bytes.length);
    to.bytes.set(bytes, to.at);
  }
  #flush(): void {
    this.#hash.update(this.#bytes.subarray(0, this.#at));
    this.#at = 0;
  }
  /** The digest so far, and a new beginning. */
  take(): string {
    this.#flush();
    const hex = this.#hash.digest('hex');
    this.#hash = source_hash();
    return hex;
  }
}

export class CaptureStats implements CaptureSink {
  packets = 0;
  trailing_bytes = 0;
  readonly interfaces: InterfaceRow[] = [];
  readonly #digest = new Digest();
  readonly #histogram = new Array<number>(BUCKETS.length).fill(0);
  #captured = 0;
  #wire = 0;
  #truncated = 0;
  #largest = 0;
  #backwards = 0;
  #timed = false;
  #first_sec = 0;
  #first_nsec = 0;
  /* Since the first packet. */
  #last = 0;
  #earliest = 0;
  #latest = 0;

  interface(link_type: number, snaplen: number, unit: string, _digits: number): number {
    const row = { link_type, link: link_name(link_type), snaplen, timestamp_unit: unit };
    return this.interfaces.push({ ...row, packets: 0 }) - 1;
  }
  packet(iface: number, sec: number, nsec: number, bytes: Uint8Array, wire: number): void {
    const n = bytes.length;
    this.packets++;
    this.interfaces[iface].packets++;
    this.#captured += n;
    this.#wire += wire;
    if (n < wire) this.#truncated++;
    if (n > this.#largest) this.#largest = n;
    let bucket = 0;
    while (n > BUCKETS[bucket]) bucket++;
    this.#histogram[bucket]++;
    this.#digest.update(bytes);
    if (nsec !== NO_TIME) this.#time(sec, nsec);
  }
  /* Differences of seconds and of nanoseconds: the sum is exact where the times are not. */
  #time(sec: number, nsec: number): void {
    if (!this.#timed) {
      this.#timed = true;
      this.#first_sec = sec;
      this.#first_nsec = nsec;
      return;
    }
    const now = sec - this.#first_sec + (nsec - this.#first_nsec) / 1e9;
    if (now < this.#last) this.#backwards++;
    this.#last = now;
    if (now < this.#earliest) this.#earliest = now;
    if (now > this.#latest) this.#latest = now;
  }

  document(format: CaptureFormat) {
    const first = this.interfaces[0];
    const buckets = BUCKETS.map((name, i): [string, number] => [String(name), this.#histogram[i]]);
    return {
      ...format,
      timestamp_unit: first?.timestamp_unit ?? 'us',
      link_type: first?.link_type ?? null,
      link: first?.link ?? 'no interface',
      snaplen: first?.snaplen ?? 0,
      ...(format.format === 'pcapng' || this.interfaces.length > 1
        ? { interfaces: this.interfaces }
        : {}),
      packets: this.packets,
      captured_bytes: this.#captured,
      original_bytes: this.#wire,
      wire_bytes: this.#wire,
      truncated_packets: this.#truncated,
      largest: this.#largest,
      duration_seconds: Math.round((this.#latest - this.#earliest) * 1e6) / 1e6,
      timestamps_backwards: this.#backwards,
      trailing_bytes: this.trailing_bytes,
      size_histogram: Object.fromEntries(buckets.filter(([, n]) => n > 0)),
      sha256_of_captured_bytes: this.#digest.take(),
    };
  }
}
