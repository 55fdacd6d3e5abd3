/*
 * stats: where every byte is, as objects and as the tables of vmstat.
 *
 * All of it comes out of the kernel's two statistics streams, over all threads,
 * without stopping any: a sample.  A row is exact or off by a few blocks that moved
 * while it was read; where it may be off by more it says `approximate`.  Never is a
 * number in use negative, or more than the memory holds.  Two zones of one name are
 * two rows.
 */
import {
  ALLOCATOR_MALLOC,
  type memory_type,
  memstat_malloc_sizes,
} from '../sys/observe/memstat.ts';
import {
  memstat_fetch_live,
  memstat_read,
  memstat_sysctl_all,
} from '../sys/observe/memstat_sysctl.ts';
import { mbuf_figures, netstat_mbuf_text } from '../sys/observe/netstat_text.ts';
import { procstat_vm_text, vmstat_object_text } from '../sys/observe/procstat_text.ts';
import { procstat_vm, vm_objects } from '../sys/observe/procstat_vm.ts';
import { vmstat_sums, vmstat_sums_text } from '../sys/observe/vmstat_sums.ts';
import {
  approximate,
  vmstat_malloc_text,
  vmstat_zone_rows,
  vmstat_zone_text,
} from '../sys/observe/vmstat_text.ts';
import { EINVAL } from '../sys/machine/errno.ts';
import { shown } from './args.ts';
import { kmemError } from './errors.ts';
import { memoryStats, type MemoryStats } from './memory_stats.ts';
import type { ZoneStats } from './zone.ts';

/** A malloc type, as vmstat -m shows it. */
export interface TypeRow {
  /** Its name, as given to machine.type(). */
  readonly name: string;
  /** Blocks in use. */
  readonly inUse: number;
  /** Bytes in use, as size classes round them. */
  readonly bytes: number;
  /** Allocations since boot; a realloc that moves a block is one. */
  readonly requests: number;
  /** Size classes that were asked for, bytes. */
  readonly sizes: readonly number[];
  /** Present if the sample may be off by more than 64 blocks. */
  readonly approximate?: true;
}
/** What machine.stats() gives: a sample of all threads, while they run. */
export interface Stats {
  /** The memory as a whole. */
  readonly memory: MemoryStats;
  /** The malloc types that were used, the kernel's own among them. */
  readonly types: readonly TypeRow[];
  /** All zones, the kernel's own among them. */
  readonly zones: readonly ZoneStats[];
}

function rows(): memory_type[] {
  const all = memstat_read(memstat_sysctl_all, memstat_fetch_live());
  if (typeof all === 'string') throw kmemError(EINVAL, 'stats', all);
  return all;
}
/** Memory, types and zones. */
export function stats(): Stats {
  const all = rows();
  const types = all.filter((t) => t.allocator === ALLOCATOR_MALLOC);
  return {
    memory: memoryStats(),
    types: types.map((t) => ({
      name: t.name,
      inUse: t.count,
      bytes: t.bytes,
      requests: t.numallocs,
      sizes: memstat_malloc_sizes(t.sizemask),
      ...approximate(t),
    })),
    zones: vmstat_zone_rows(all).map(({ fail, sleep, ...row }) => ({
      ...row,
      fails: fail,
      sleeps: sleep,
    })),
  };
}

/** The tables of vmstat, by the letter of each. */
const VMSTAT: Readonly<Record<'m' | 'z' | 'o' | 's', () => string>> = {
  m: () => vmstat_malloc_text(rows()),
  z: () => vmstat_zone_text(rows()),
  o: () => vmstat_object_text(vm_objects()),
  s: () => vmstat_sums_text(vmstat_sums(memstat_fetch_live())),
};
/** What makes one of them. Throws EINVAL. */
export function vmstatText(what: keyof typeof VMSTAT): () => string {
  if (Object.keys(VMSTAT).includes(what)) return VMSTAT[what];
  throw kmemError(EINVAL, 'vmstat', `${shown(what)} is no table: 'm', 'z', 'o' or 's'`);
}
/** The text of procstat -v, of all address spaces. */
export function procstatText(): string {
  return procstat_vm_text(procstat_vm());
}
/** The text of netstat -m. */
export function netstatText(): string {
  const figures = mbuf_figures(memstat_fetch_live());
  if (typeof figures === 'string') throw kmemError(EINVAL, 'netstat', figures);
  return netstat_mbuf_text(figures);
}
