/*
 * stats: where every byte is, as objects and as the tables of vmstat.
 *
 * All of it comes out of the kernel's two statistics streams, over all threads,
 * without stopping any: a sample.  A row is exact or off by a few blocks that moved
 * while it was read; where it may be off by more it says `approximate`.  Never is a
 * number in use negative, or more than the memory holds.  Two zones of one name are
 * two rows.
 */
import { cpus_attached } from '../sys/machine/death.ts';
import { PAGE_SIZE } from '../sys/machine/memory.ts';
import { M, machine } from '../sys/machine/header.ts';
import { get64 } from '../sys/machine/struct.ts';
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
import {
  approximate,
  vmstat_malloc_text,
  vmstat_zone_rows,
  vmstat_zone_text,
} from '../sys/observe/vmstat_text.ts';
import { vm_page_count, vm_page_free_count } from '../sys/page/vm_page.ts';
import { phys_longest } from '../sys/page/vm_phys.ts';
import { EINVAL } from '../sys/machine/errno.ts';
import { kmemError } from './errors.ts';
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
export interface MemoryStats {
  /** Bytes of the whole memory. */
  readonly size: number;
  /** Bytes that are managed as pages: all but what the kernel took at boot. */
  readonly managed: number;
  /** Bytes in free pages. */
  readonly free: number;
  /** Bytes in pages that types, zones and their caches hold. */
  readonly held: number;
  /** Bytes in the longest run of free pages: the largest block to be had. */
  readonly longestRun: number;
  /** Threads that are attached. */
  readonly cpus: number;
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
/** Figures of the memory as a whole. */
export function memoryStats(): MemoryStats {
  const managed = vm_page_count() * PAGE_SIZE;
  const free = vm_page_free_count() * PAGE_SIZE;
  return {
    size: get64(machine.size_bytes, M),
    managed,
    free,
    held: managed - free,
    longestRun: phys_longest() * PAGE_SIZE,
    cpus: cpus_attached(),
  };
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

/** The table of `vmstat -m`: types that were used, one line each. */
export function vmstatTypes(): string {
  return vmstat_malloc_text(rows());
}
/** The table of `vmstat -z`: all zones, one line each. */
export function vmstatZones(): string {
  return vmstat_zone_text(rows());
}
/** The text of netstat -m. */
export function netstatText(): string {
  const figures = mbuf_figures(memstat_fetch_live());
  if (typeof figures === 'string') throw kmemError(EINVAL, 'netstat', figures);
  return netstat_mbuf_text(figures);
}
