/*
 * heap_figures: what the machine did, read back from the kernel.
 *
 * The figures come from the two binary streams by way of the memstat library.
 * Types that the kernel declares for itself are kept apart from those the
 * players made.  Beyond ROWS_MAX types the smallest are folded into `other`, so
 * that a report stays readable; sums are over all.
 */
import { KmemError } from '../../sys/machine/errno.ts';
import { sysctl_read } from '../../sys/observe/kern_sysctl.ts';
import { memstat_malloc_sizes, type memory_type } from '../../sys/observe/memstat.ts';
import {
  memstat_fetch_live,
  memstat_read,
  memstat_sysctl_malloc,
  memstat_sysctl_uma,
} from '../../sys/observe/memstat_sysctl.ts';
import { vmstat_zone_rows, type ZoneRow } from '../../sys/observe/vmstat_text.ts';
import { declared_type_names } from '../../sys/kmem/kern_malloc_type.ts';
import { OTHER } from '../read/type_names.ts';

export const ROWS_MAX = 300;

export interface TypeFigures {
  name: string;
  inuse: number;
  memuse: number;
  requests: number;
  sizes: number[];
}
export interface HeapFigures {
  requests: number;
  inuse: number;
  memuse: number;
  failed: number;
  verify_errors: number;
  skipped_events: number;
  types: TypeFigures[];
  zones: ZoneRow[];
  kernel: { requests: number; inuse: number; memuse: number; types: TypeFigures[] };
}

/** The value of a node of this thread's machine that holds a number. */
export function live_number(name: string): number {
  const r = sysctl_read(name);
  if (typeof r === 'number') throw new KmemError(r, 'replay', `sysctl ${name}`);
  const view = new DataView(r.buffer, r.byteOffset, r.byteLength);
  return r.byteLength === 4 ? view.getUint32(0, true) : Number(view.getBigUint64(0, true));
}

/** Types and zones of this thread's machine, in the order the tools print. */
export function live_types(): { types: memory_type[]; zones: memory_type[] } {
  const types = memstat_read(memstat_sysctl_malloc, memstat_fetch_live());
  const zones = memstat_read(memstat_sysctl_uma, memstat_fetch_live());
  if (typeof types === 'string') throw new Error(`kern.malloc_stats: ${types}`);
  if (typeof zones === 'string') throw new Error(`vm.zone_stats: ${zones}`);
  return { types, zones };
}

function figures(t: memory_type): TypeFigures {
  return {
    name: t.name,
    inuse: t.count,
    memuse: t.bytes,
    requests: t.numallocs,
    sizes: memstat_malloc_sizes(t.sizemask),
  };
}
function sums(rows: readonly TypeFigures[]): { requests: number; inuse: number; memuse: number } {
  const total = { requests: 0, inuse: 0, memuse: 0 };
  for (const r of rows) {
    total.requests += r.requests;
    total.inuse += r.inuse;
    total.memuse += r.memuse;
  }
  return total;
}
/**
 * The rows with the most requests or the most memory still held, and one for all
 * the others.
 */
export function folded(rows: readonly TypeFigures[], most: number): TypeFigures[] {
  if (rows.length <= most) return [...rows];
  const holders = [...rows].sort((a, b) => b.memuse - a.memuse).slice(0, most >> 2);
  const busiest = [...rows].sort((a, b) => b.requests - a.requests);
  const chosen = [...new Set([...holders, ...busiest])].slice(0, most - 1);
  const kept = new Set(chosen.filter((r) => r.name !== OTHER));
  const rest = rows.filter((r) => !kept.has(r));
  const sizes = [...new Set(rest.flatMap((r) => r.sizes))].sort((a, b) => a - b);
  return [...rows.filter((r) => kept.has(r)), { name: OTHER, ...sums(rest), sizes }];
}

/** The figures of the machine of this thread, with the counts that only the players know. */
export function heap_figures(player: {
  failed: number;
  verify_errors: number;
  skipped_events: number;
}): HeapFigures {
  const { types, zones } = live_types();
  const own = new Set(declared_type_names());
  const rows = types.map(figures);
  const played = rows.filter((r) => !own.has(r.name));
  const kernel = rows.filter((r) => own.has(r.name));
  return {
    ...sums(played),
    ...player,
    types: folded(played, ROWS_MAX),
    zones: vmstat_zone_rows(zones),
    kernel: { ...sums(kernel), types: kernel },
  };
}
