/*
 * detect_format: which trace format a file is in, from its first bytes.
 *
 * Every format kmem knows of has a mark at its beginning: a magic number, a
 * header line, or the shape of its first line.  Versions without a reader are
 * recognised too, so that the user is told what the file is instead of being
 * shown a thousand malformed lines.
 *
 * A recording of text may have something in front of it: a byte order mark that
 * an editor put there, or lines that the program itself wrote into the same file.
 * So when the first line has no mark, those behind it are looked at, and what
 * stands before the mark counts as malformed lines.
 */

import { FOREIGN_BYTES, type Foreign, foreign_file } from './foreign.ts';
import { PCAP_MAGICS } from './pcap.ts';
import { PCAPNG_MAGIC } from './pcapng.ts';
import { is_strace_call, looks_like_strace } from './strace_line.ts';

/** Bytes after which a decision is always made. */
export const SNIFF_BYTES = 65536;

export type TraceFormat =
  | 'mtrace'
  | 'kmem-threads v1'
  | 'kmem-threads'
  | 'kmem-pages v1'
  | 'kmem-pages'
  | 'lackey'
  | 'strace'
  | 'heaptrack'
  | 'pcap'
  | 'pcapng'
  | 'empty'
  | 'unknown';

/* First line of each text format; the end of the bytes counts as the end of a line. */
type Shape = Pick<RegExp, 'test'>;
const FIRST_LINES: [TraceFormat, Shape][] = [
  ['mtrace', /^(= Start|= End|@ )/],
  ['kmem-threads v1', /^# kmem-threads v1\s*$/],
  ['kmem-threads', /^# kmem-threads\b/],
  ['kmem-pages v1', /^# kmem-pages v1\b/],
  ['kmem-pages', /^# kmem-pages\b/],
  ['heaptrack', /^v [0-9a-f]+( [0-9a-f]+)?$/],
];
/* The same, but for shapes that lines of other programs may have. */
const LIKELY_LINES: [TraceFormat, Shape][] = [
  ['lackey', /^(==\d+== Lackey|I {2}[0-9a-f]+,\d+| [LSM] [0-9a-f]+,\d+)/i],
  ['strace', { test: looks_like_strace }],
];
/* Lines that no program writes by chance, wherever they stand. */
const MARKS: [TraceFormat, Shape][] = [
  ['mtrace', /^= Start$/],
  ['kmem-threads v1', /^# kmem-threads v1\s*$/],
  ['kmem-pages v1', /^# kmem-pages v1\b.*=/],
  ['heaptrack', /^v [0-9a-f]{5,6} [0-9a-f]$/],
];
/* An event of mtrace, of a file whose beginning is missing; a call, among what a program wrote. */
const EVENTS: [TraceFormat, Shape][] = [
  ['mtrace', /^(@ .* |[^ ]*\] )?[-+<>!] (0x[0-9a-f]+|\(nil\))( 0x[0-9a-f]+|)$/i],
  ['lackey', /^(I {2}| [LSM] )[0-9a-f]{8,16},\d{1,3}$/i],
  ['strace', { test: is_strace_call }],
];

/** A format, and where in the file its first line begins. */
interface Found {
  format: TraceFormat;
  at: number;
  /** More of the file might show something else. */
  likely?: true;
}

function find(head: Uint8Array): Found {
  if (head.length === 0) return { format: 'empty', at: 0 };
  if (head.length >= 4) {
    const magic = new DataView(head.buffer, head.byteOffset).getUint32(0);
    if (PCAP_MAGICS.includes(magic)) return { format: 'pcap', at: 0 };
    if (magic === PCAPNG_MAGIC) return { format: 'pcapng', at: 0 };
  }
  const start = bom_bytes(head);
  const lines = lines_of(head.subarray(start, SNIFF_BYTES));
  const found = (list: [TraceFormat, Shape][], from: number, to: number): Found | null => {
    for (const { text, at } of lines.slice(from, to)) {
      const match = list.find(([, shape]) => shape.test(text));
      if (match) return { format: match[0], at: start + at };
    }
    return null;
  };
  const first = found(FIRST_LINES, 0, 1);
  if (first !== null) return first;
  if (foreign_file(head) !== null) return { format: 'unknown', at: 0 };
  const mark = found(MARKS, 1, lines.length);
  if (mark !== null) return mark;
  const likely = found(LIKELY_LINES, 0, 1);
  if (likely !== null) return { ...likely, likely: true };
  return found(EVENTS, 0, lines.length) ?? { format: 'unknown', at: 0 };
}
function lines_of(bytes: Uint8Array): { text: string; at: number }[] {
  const lines: { text: string; at: number }[] = [];
  let at = 0;
  for (const line of Buffer.from(bytes).toString('latin1').split('\n')) {
    lines.push({ text: line.endsWith('\r') ? line.slice(0, -1) : line, at });
    at += line.length + 1;
  }
  return lines;
}
/** Bytes of the byte order mark in front of a text. */
export function bom_bytes(head: Uint8Array): number {
  return head[0] === 0xef && head[1] === 0xbb && head[2] === 0xbf ? 3 : 0;
}

/** Needs the first SNIFF_BYTES bytes, or all of a shorter file. */
export function detect_format(head: Uint8Array): TraceFormat {
  return find(head).format;
}
/** Byte at which the first line of a format begins; what is in front of it is none of its own. */
export function sniff_begin(head: Uint8Array): number {
  return find(head).at;
}

/** True when `head` already shows a format's mark, or is long enough to show none. */
export function sniff_decided(head: Uint8Array): boolean {
  if (head.length >= SNIFF_BYTES) return true;
  if (head.length < 64) return false;
  const { format, likely } = find(head);
  return (format !== 'unknown' && !likely) || is_foreign(head);
}
function is_foreign(head: Uint8Array): boolean {
  return head.length >= FOREIGN_BYTES && foreign_file(head) !== null;
}

/** Why a format cannot be replayed, and what to do. */
export function refusal(format: TraceFormat, head: Uint8Array): Foreign {
  const advice =
    'give one of glibc mtrace, heaptrack, kmem-threads v1, kmem-pages v1, lackey, strace, ' +
    'pcap or pcapng (see traces/README.md)';
  if (format === 'empty') return { what: 'the trace is empty', advice };
  if (format === 'unknown') {
    return foreign_file(head) ?? { what: 'not a trace format kmem knows', advice };
  }
  return { what: `recognised as ${format}, but not version 1`, advice };
}
