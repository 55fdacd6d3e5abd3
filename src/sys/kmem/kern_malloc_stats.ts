/*
 * kern_malloc_stats: the stream kern.malloc_stats.
 *
 * The published 64-bit little-endian layout: a header of 16 bytes; per type 32
 * bytes of name, then 64 bytes for each CPU slot.  Newest type first, as on the
 * list.  The malloc lock is held for the walk, so the number of types is exact; what
 * a type has in use is a sample (kern_malloc_sums.ts).
 *
 * The layout has no room to say that a sample is approximate.  Each type counts its
 * approximate samples, and kern.malloc_approximate shows these counts: a reader
 * that fetches it before and after the stream knows which rows of it were.
 *
 * The walks themselves take no lock: a request holds the malloc lock around them, and a
 * reader of a dump, whose memory nobody changes, has none to take (observe/kvm.ts).
 */
import { M, machine } from '../machine/header.ts';
import { mem } from '../machine/memory.ts';
import { field_word, NULL } from '../machine/struct.ts';
import { sysctl_proc, sysctl_value } from '../machine/sysctl_decl.ts';
import { malloc_root, malloc_type, type malloc_type_t } from '../h/malloc.ts';
import { type StreamOut, stream_mark, stream_record, stream_report } from '../uma/uma_stats.ts';
import { malloc_cpu_sums, malloc_type_approximate } from './kern_malloc_sums.ts';
import { malloc_anchor } from './kern_malloc_type.ts';

export const MALLOC_TYPE_STREAM_VERSION = 1;
const HEADER = 16;
const NAME = 32;
const PERCPU = 64;

function type_record(t: malloc_type_t, cpus: number): Uint8Array {
  const r = stream_record(NAME + cpus * PERCPU);
  const at = field_word(malloc_type.name, t) * 4;
  r.bytes.set(mem.U8.subarray(at, at + NAME - 1));
  for (const [cpu, s] of malloc_cpu_sums(t).entries()) {
    const base = NAME + cpu * PERCPU;
    r.u64(base, s.memalloced);
    r.u64(base + 8, s.memfreed);
    r.u64(base + 16, s.numallocs);
    r.u64(base + 24, s.numfrees);
    r.u64(base + 32, s.sizes);
  }
  return r.bytes;
}
/** Name and count of approximate samples of each type. The malloc lock, or a dump. */
export function malloc_marks_walk(out: StreamOut): number {
  let error = 0;
  const r = malloc_anchor();
  for (let t = malloc_root.types[r]; t !== NULL && error === 0; t = malloc_type.next[t]) {
    const at = field_word(malloc_type.name, t) * 4;
    error = out(stream_mark(mem.U8.subarray(at, at + NAME - 1), malloc_type_approximate(t)));
  }
  return error;
}
/** The stream of all types. The malloc lock, or a dump. */
export function malloc_stats_walk(out: StreamOut): number {
  const r = malloc_anchor();
  const cpus = machine.maxcpus[M];
  const head = stream_record(HEADER);
  head.u32(0, MALLOC_TYPE_STREAM_VERSION);
  head.u32(4, cpus);
  head.u32(8, malloc_root.count[r]);
  let error = out(head.bytes);
  for (let t = malloc_root.types[r]; t !== NULL && error === 0; t = malloc_type.next[t]) {
    error = out(type_record(t, cpus));
  }
  return error;
}
sysctl_proc(
  'kern.malloc_stats',
  {
    type: 'opaque',
    fmt: 's,malloc_type_ustats',
    help: 'Statistics of all malloc types, as a stream',
  },
  stream_report(malloc_root.lock, malloc_anchor, malloc_stats_walk),
);
sysctl_proc(
  'kern.malloc_approximate',
  {
    type: 'opaque',
    fmt: 'S,malloc_type_marks',
    help: 'Samples of each malloc type that were not exact: its name, 32 bytes, and a 64-bit count',
  },
  stream_report(malloc_root.lock, malloc_anchor, malloc_marks_walk),
);
sysctl_value(
  'kern.malloc_count',
  { type: 'int', help: 'Number of malloc types' },
  () => malloc_root.count[malloc_anchor()],
);
