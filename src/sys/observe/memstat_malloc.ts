/*
 * memstat_malloc: the stream kern.malloc_stats, taken apart.
 *
 *      header         16 bytes: version 1, records per type, types, 0
 *      for each type  32 bytes: name
 *                     64 bytes for each CPU slot:
 *                       bytes allocated, bytes freed, allocations, frees,
 *                       sizes used (bit n is 16 << n), three reserved
 *
 * All little-endian, nothing between the records and nothing after the last.
 * Allocations and frees of one block may be counted by different CPUs, so only
 * the sums mean anything.
 */
import {
  ALLOCATOR_MALLOC,
  MEMSTAT_ERROR_DATAERROR,
  MEMSTAT_ERROR_UNDEFINED,
  MEMSTAT_ERROR_VERSION,
  type memory_type,
  type memory_type_list,
  memstat_finder,
  memstat_mt_allocate,
  memstat_mt_reset,
  memstat_name,
  memstat_wrap,
} from './memstat.ts';

export const MALLOC_TYPE_STREAM_VERSION = 1;
const HEADER = 16;
const TYPE_HEADER = 32;
const PERCPU = 64;

/** Brings the list up to date from the stream's bytes. Returns a MEMSTAT_ERROR. */
export function memstat_parse_malloc(list: memory_type_list, bytes: Uint8Array): number {
  if (bytes.length === 0) return MEMSTAT_ERROR_UNDEFINED;
  if (bytes.length < HEADER) return MEMSTAT_ERROR_VERSION;
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (v.getUint32(0, true) !== MALLOC_TYPE_STREAM_VERSION) return MEMSTAT_ERROR_VERSION;
  const maxcpus = v.getUint32(4, true);
  const count = v.getUint32(8, true);
  const each = TYPE_HEADER + PERCPU * maxcpus;
  if (bytes.length !== HEADER + count * each) return MEMSTAT_ERROR_DATAERROR;
  const known = new memstat_finder(list, ALLOCATOR_MALLOC);
  for (let i = 0; i < count; i++) {
    const at = HEADER + i * each;
    const name = memstat_name(bytes, at);
    let t = known.take(name);
    if (t) memstat_mt_reset(t, maxcpus);
    else t = memstat_mt_allocate(list, ALLOCATOR_MALLOC, name, maxcpus);
    sum_type(t, v, at + TYPE_HEADER, maxcpus);
  }
  return MEMSTAT_ERROR_UNDEFINED;
}

function sum_type(t: memory_type, v: DataView, first: number, maxcpus: number): void {
  let [memalloced, memfreed, numallocs, numfrees, mask] = [0n, 0n, 0n, 0n, 0n];
  for (let cpu = 0; cpu < maxcpus; cpu++) {
    const at = first + cpu * PERCPU;
    const [a, f, na, nf, m] = [0, 8, 16, 24, 32].map((o) => v.getBigUint64(at + o, true));
    memalloced += a;
    memfreed += f;
    numallocs += na;
    numfrees += nf;
    mask |= m;
    const c = t.percpu[cpu];
    c.memalloced = Number(a);
    c.memfreed = Number(f);
    c.numallocs = Number(na);
    c.numfrees = Number(nf);
    c.sizemask = Number(m);
  }
  t.memalloced = memstat_wrap(memalloced);
  t.memfreed = memstat_wrap(memfreed);
  t.numallocs = memstat_wrap(numallocs);
  t.numfrees = memstat_wrap(numfrees);
  t.sizemask = memstat_wrap(mask);
  t.bytes = memstat_wrap(memalloced - memfreed);
  t.count = memstat_wrap(numallocs - numfrees);
}
