/*
 * sniff: which trace format a file is in, from its first bytes.
 *
 * Every format kmem knows of has a mark at its beginning: a magic number, a
 * header line, or the shape of its first line.  Formats without a reader yet are
 * recognised too, so that the user is told what the file is instead of being
 * shown a thousand malformed lines.
 */

import { PCAP_MAGICS } from './pcap.ts';
import { PCAPNG_MAGIC } from './pcapng.ts';

/** Bytes after which a decision is always made. */
export const SNIFF_BYTES = 4096;

export type TraceFormat =
  | 'mtrace'
  | 'kmem-threads v1'
  | 'kmem-threads'
  | 'pages'
  | 'lackey'
  | 'strace'
  | 'heaptrack'
  | 'pcap'
  | 'pcapng'
  | 'empty'
  | 'unknown';

/* First line of each text format; the end of the bytes counts as the end of a line. */
const FIRST_LINES: [TraceFormat, RegExp][] = [
  ['mtrace', /^(= Start|= End|@ )/],
  ['kmem-threads v1', /^# kmem-threads v1\s*(\n|$)/],
  ['kmem-threads', /^# kmem-threads\b/],
  ['pages', /^# kmem-pages\b/],
  ['lackey', /^(==\d+== |I {2}[0-9a-f]+,\d+| [LSM] [0-9a-f]+,\d+)/i],
  ['heaptrack', /^v [0-9a-f]+( [0-9a-f]+)?\r?(\n|$)/],
  ['strace', /^(\d+ +)?(\d+(:\d+:\d+)?(\.\d+)? )?([a-z_][a-z0-9_]*\(|<\.\.\. |--- SIG|\+\+\+ )/],
];

/** Needs the first SNIFF_BYTES bytes, or all of a shorter file. */
export function sniff(head: Uint8Array): TraceFormat {
  if (head.length === 0) return 'empty';
  if (head.length >= 4) {
    const magic = new DataView(head.buffer, head.byteOffset).getUint32(0);
    if (PCAP_MAGICS.includes(magic)) return 'pcap';
    if (magic === PCAPNG_MAGIC) return 'pcapng';
  }
  const text = Buffer.from(head.buffer, head.byteOffset, Math.min(head.length, 256)).toString(
    'latin1',
  );
  for (const [format, first_line] of FIRST_LINES) if (first_line.test(text)) return format;
  return 'unknown';
}

/** True when `head` already shows a format's mark, or is long enough to show none. */
export function sniff_decided(head: Uint8Array): boolean {
  return head.length >= SNIFF_BYTES || (head.length >= 64 && sniff(head) !== 'unknown');
}

/** Why a format cannot be replayed, and what to do: two halves of one error line. */
export function refusal(format: TraceFormat): { reason: string; advice: string } {
  const advice =
    'give one of glibc mtrace, heaptrack, kmem-threads v1, pcap or pcapng (see traces/README.md)';
  if (format === 'empty') return { reason: 'the trace is empty', advice };
  if (format === 'unknown') return { reason: 'not a trace format kmem knows', advice };
  if (format === 'kmem-threads') {
    return { reason: 'recognised as kmem-threads, but not version 1', advice };
  }
  const reason = `recognised as ${format}, which this version does not replay yet`;
  return { reason, advice };
}
