/*
 * packet_feed: a capture in memory, for those who race packets through two threads.
 *
 * Everyone gets the bundled capture of whole Ethernet frames, over and over; reading
 * and unpacking it is not timed.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';

const CAPTURE = fileURLToPath(new URL('../traces/http2.pcap.gz', import.meta.url));
/** Passes of the capture between two waits for the last packet. */
export const PASSES = 8;
const FILE_HEADER = 24;
const RECORD_HEADER = 16;

/** The capture's file, unpacked. */
export function capture_bytes(): Buffer {
  return gunzipSync(readFileSync(CAPTURE));
}
/** Its packets. */
export function capture_packets(): Buffer[] {
  const file = capture_bytes();
  const packets: Buffer[] = [];
  for (let at = FILE_HEADER; at < file.length; ) {
    const n = file.readUInt32LE(at + 8);
    packets.push(file.subarray(at + RECORD_HEADER, at + RECORD_HEADER + n));
    at += RECORD_HEADER + n;
  }
  return packets;
}
