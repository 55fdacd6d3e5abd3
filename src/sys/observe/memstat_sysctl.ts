/*
 * memstat_sysctl: fills a memstat list from sysctl nodes.
 *
 * The reader takes a function that fetches a node's raw bytes by name.  So the
 * same code reads another process that answers over a socket, bytes that were
 * kept in files, or, with memstat_fetch_live(), the machine of this thread.
 *
 * The number of types may grow between asking for it and reading the stream:
 * then the stream does not fit, and everything is asked for again.
 *
 * The kernel counts for each type and zone the samples that were not exact.  The
 * counts are fetched before and after a stream: where they moved, this sample was
 * one of them, or another reader's meanwhile, and the entry is marked.  A source
 * that has no such counts marks nothing.
 */
import { EACCES, ENOMEM, EPERM } from '../machine/errno.ts';
import {
  ALLOCATOR_MALLOC,
  ALLOCATOR_UMA,
  MEMSTAT_ERROR_DATAERROR,
  MEMSTAT_ERROR_PERMISSION,
  MEMSTAT_ERROR_UNDEFINED,
  MEMSTAT_ERROR_VERSION,
  memstat_mtl_alloc,
  memstat_mtl_geterror,
  memstat_mtl_types,
  memstat_name,
  memstat_strerror,
  MEMTYPE_MAXNAME,
  type memory_type,
  type memory_type_list,
} from './memstat.ts';
import { type SysctlOptions, sysctl, sysctlnametomib } from './kern_sysctl.ts';
import { memstat_parse_malloc } from './memstat_malloc.ts';
import { memstat_parse_uma } from './memstat_uma.ts';

/**
 * Fetches the bytes of a node, at most `max` of them; an errno where it cannot:
 * ENOMEM says that there are more.
 */
export type memstat_fetch = (name: string, max: number) => Uint8Array | number;

/** A fetcher that reads the machine of this thread. */
export function memstat_fetch_live(options: SysctlOptions = {}): memstat_fetch {
  return (name, max) => {
    const { error, mib } = sysctlnametomib(name, options);
    if (error !== 0) return error;
    const old = new Uint8Array(max);
    const r = sysctl(mib, old, null, options);
    return r.error !== 0 ? r.error : old.subarray(0, r.oldlen);
  };
}

/** Times the stream may grow under the reader before it gives up. */
const RESTARTS = 100;

/** A number of 4 bytes; null: not there, or of another length. */
function fetch_int(fetch: memstat_fetch, name: string): number | null {
  const bytes = fetch(name, 4);
  if (typeof bytes === 'number' || bytes.length !== 4) return null;
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
}
/** A row of the marks: a name and a count. */
const MARK = MEMTYPE_MAXNAME + 8;
/** Rows that may come while a stream is read. */
const MARKS_MORE = 64;
/** By name, how many samples were not exact; null: the source does not say. */
function fetch_marks(
  fetch: memstat_fetch,
  name: string,
  count: number,
): Map<string, number> | null {
  const bytes = fetch(name, (count + MARKS_MORE) * MARK);
  if (!(bytes instanceof Uint8Array) || bytes.length % MARK !== 0) return null;
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const all = new Map<string, number>();
  for (let at = 0; at < bytes.length; at += MARK) {
    const type = memstat_name(bytes, at);
    const n = Number(v.getBigUint64(at + MEMTYPE_MAXNAME, true));
    all.set(type, (all.get(type) ?? 0) + n);
  }
  return all;
}
/** Marks the entries whose counts moved; of two of a name, both. */
function mark(
  list: memory_type_list,
  allocator: number,
  before: Map<string, number>,
  after: Map<string, number> | null,
): void {
  for (let t = list.first; t; t = t.next) {
    if (t.allocator !== allocator) continue;
    t.approximate = after === null || (after.get(t.name) ?? 0) !== (before.get(t.name) ?? 0);
  }
}
interface Stream {
  cpus: string;
  /** Added to the value of `cpus`. */
  plus: number;
  count: string;
  stats: string;
  marks: string;
  allocator: number;
  header: number;
  parse: (list: memory_type_list, bytes: Uint8Array) => number;
}
function fail(list: memory_type_list, error: number): number {
  list.error = error;
  return -1;
}
function sysctl_stream(list: memory_type_list, fetch: memstat_fetch, s: Stream): number {
  for (let tries = 0; tries < RESTARTS; tries++) {
    const cpus = fetch_int(fetch, s.cpus);
    if (cpus === null) return fail(list, MEMSTAT_ERROR_DATAERROR);
    const count = fetch_int(fetch, s.count);
    if (count === null) return fail(list, MEMSTAT_ERROR_VERSION);
    const before = fetch_marks(fetch, s.marks, count);
    const bytes = fetch(s.stats, s.header + count * (s.header + 64 * (cpus + s.plus)));
    if (bytes === ENOMEM) continue; // a type was added in between
    if (typeof bytes === 'number') {
      const denied = bytes === EACCES || bytes === EPERM;
      return fail(list, denied ? MEMSTAT_ERROR_PERMISSION : MEMSTAT_ERROR_VERSION);
    }
    const error = s.parse(list, bytes);
    if (before) mark(list, s.allocator, before, fetch_marks(fetch, s.marks, count));
    return error !== MEMSTAT_ERROR_UNDEFINED ? fail(list, error) : 0;
  }
  return fail(list, MEMSTAT_ERROR_VERSION);
}
/** Reads the malloc types. 0, or -1 with the list's error set. */
export function memstat_sysctl_malloc(list: memory_type_list, fetch: memstat_fetch): number {
  return sysctl_stream(list, fetch, {
    cpus: 'kern.smp.maxcpus',
    plus: 0,
    count: 'kern.malloc_count',
    stats: 'kern.malloc_stats',
    marks: 'kern.malloc_approximate',
    allocator: ALLOCATOR_MALLOC,
    header: 32,
    parse: memstat_parse_malloc,
  });
}
/** Reads the zones. 0, or -1 with the list's error set. */
export function memstat_sysctl_uma(list: memory_type_list, fetch: memstat_fetch): number {
  return sysctl_stream(list, fetch, {
    cpus: 'kern.smp.maxid',
    plus: 1,
    count: 'vm.zone_count',
    stats: 'vm.zone_stats',
    marks: 'vm.zone_approximate',
    allocator: ALLOCATOR_UMA,
    header: 120,
    parse: memstat_parse_uma,
  });
}
/** Both, malloc first; stops at the first failure. */
export function memstat_sysctl_all(list: memory_type_list, fetch: memstat_fetch): number {
  if (memstat_sysctl_malloc(list, fetch) !== 0) return -1;
  return memstat_sysctl_uma(list, fetch);
}
/**
 * The rows that one of the three readers above finds, in the order the tools print
 * them; a string says why there are none.
 */
export function memstat_read(
  fill: (list: memory_type_list, fetch: memstat_fetch) => number,
  fetch: memstat_fetch,
): memory_type[] | string {
  const list = memstat_mtl_alloc();
  if (fill(list, fetch) === 0) return memstat_mtl_types(list);
  return memstat_strerror(memstat_mtl_geterror(list));
}
