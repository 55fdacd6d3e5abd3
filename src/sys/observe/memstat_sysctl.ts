/*
 * memstat_sysctl: fills a memstat list from sysctl nodes.
 *
 * The reader takes a function that fetches a node's raw bytes by name.  So the
 * same code reads the machine it runs in, another process that answers over a
 * socket, or bytes that were kept in files.
 *
 * The number of types may grow between asking for it and reading the stream:
 * then the stream does not fit, and everything is asked for again.
 */
import { EACCES, ENOMEM, EPERM } from '../machine/errno.ts';
import {
  MEMSTAT_ERROR_DATAERROR,
  MEMSTAT_ERROR_PERMISSION,
  MEMSTAT_ERROR_UNDEFINED,
  MEMSTAT_ERROR_VERSION,
  type memory_type_list,
} from './memstat.ts';
import { memstat_parse_malloc } from './memstat_malloc.ts';
import { memstat_parse_uma } from './memstat_uma.ts';

/**
 * Fetches the bytes of a node, at most `max` of them; an errno where it cannot:
 * ENOMEM says that there are more.
 */
export type memstat_fetch = (name: string, max: number) => Uint8Array | number;

/** Times the stream may grow under the reader before it gives up. */
const RESTARTS = 100;

/** A number of 4 bytes; null: not there, or of another length. */
function fetch_int(fetch: memstat_fetch, name: string): number | null {
  const bytes = fetch(name, 4);
  if (typeof bytes === 'number' || bytes.length !== 4) return null;
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
}
interface Stream {
  cpus: string;
  /** Added to the value of `cpus`. */
  plus: number;
  count: string;
  stats: string;
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
    const bytes = fetch(s.stats, s.header + count * (s.header + 64 * (cpus + s.plus)));
    if (bytes === ENOMEM) continue; // a type was added in between
    if (typeof bytes === 'number') {
      const denied = bytes === EACCES || bytes === EPERM;
      return fail(list, denied ? MEMSTAT_ERROR_PERMISSION : MEMSTAT_ERROR_VERSION);
    }
    const error = s.parse(list, bytes);
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
    header: 120,
    parse: memstat_parse_uma,
  });
}
/** Both, malloc first; stops at the first failure. */
export function memstat_sysctl_all(list: memory_type_list, fetch: memstat_fetch): number {
  if (memstat_sysctl_malloc(list, fetch) !== 0) return -1;
  return memstat_sysctl_uma(list, fetch);
}
