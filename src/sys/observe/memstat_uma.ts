/*
 * memstat_uma: the stream vm.zone_stats, taken apart.
 *
 *      header         16 bytes: version 1, records per zone, zones, 0
 *      for each zone  120 bytes: name, sizes, limit, free items, counters
 *                      64 bytes for each CPU: allocations and frees that the
 *                      zone has not heard of yet, items in the cache
 *
 * The zone's counters do not include what the CPU caches still hold back, so
 * each sum takes both.  Free items of a keg that several zones share are
 * counted for the first zone only.
 */
import {
  ALLOCATOR_UMA,
  MEMSTAT_PERCPU as PERCPU,
  type memory_type,
  type memory_type_list,
  memstat_parse,
  memstat_wrap,
} from './memstat.ts';

const UTH_ZONE_SECONDARY = 1;
const TYPE_HEADER = 120;

/** Brings the list up to date from the stream's bytes. Returns a MEMSTAT_ERROR. */
export function memstat_parse_uma(list: memory_type_list, bytes: Uint8Array): number {
  return memstat_parse(list, bytes, ALLOCATOR_UMA, TYPE_HEADER, fill_zone);
}

function fill_zone(t: memory_type, v: DataView, at: number, maxcpus: number): void {
  let allocs = v.getBigUint64(at + 72, true);
  let frees = v.getBigUint64(at + 80, true);
  let cached = 0n;
  for (let cpu = 0; cpu < maxcpus; cpu++) {
    const from = at + TYPE_HEADER + cpu * PERCPU;
    const free = v.getBigUint64(from + 16, true);
    allocs += v.getBigUint64(from, true);
    frees += v.getBigUint64(from + 8, true);
    cached += free;
    t.percpu[cpu].free = Number(free);
  }
  const size = v.getUint32(at + 36, true);
  const secondary = (v.getUint32(at + 68, true) & UTH_ZONE_SECONDARY) !== 0;
  t.size = size;
  t.numallocs = memstat_wrap(allocs);
  t.numfrees = memstat_wrap(frees);
  t.failures = Number(v.getBigUint64(at + 88, true));
  t.sleeps = Number(v.getBigUint64(at + 96, true));
  t.memalloced = memstat_wrap(allocs * BigInt(size));
  t.memfreed = memstat_wrap(frees * BigInt(size));
  t.bytes = memstat_wrap((allocs - frees) * BigInt(size));
  t.count = memstat_wrap(allocs - frees);
  t.countlimit = v.getUint32(at + 48, true);
  t.byteslimit = t.countlimit * size;
  t.zonefree = v.getUint32(at + 60, true);
  t.kegfree = secondary ? 0 : v.getUint32(at + 56, true);
  t.free = Number(cached) + t.zonefree + t.kegfree;
}
