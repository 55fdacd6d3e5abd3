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
  MEMSTAT_PERCPU as PERCPU,
  type memory_type,
  type memory_type_list,
  memstat_parse,
  memstat_wrap,
} from './memstat.ts';

const TYPE_HEADER = 32;

/** Brings the list up to date from the stream's bytes. Returns a MEMSTAT_ERROR. */
export function memstat_parse_malloc(list: memory_type_list, bytes: Uint8Array): number {
  return memstat_parse(list, bytes, ALLOCATOR_MALLOC, TYPE_HEADER, sum_type);
}

function sum_type(t: memory_type, v: DataView, start: number, maxcpus: number): void {
  let [memalloced, memfreed, numallocs, numfrees, mask] = [0n, 0n, 0n, 0n, 0n];
  for (let cpu = 0; cpu < maxcpus; cpu++) {
    const at = start + TYPE_HEADER + cpu * PERCPU;
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
