/*
 * vmstat_text: the tables of vmstat, in BSD's columns.
 *
 * Made from the memstat library's records, so that the command, the replay's
 * report and a program that asks for them print the same.  Two zones of one name are
 * two rows.
 */
import {
  ALLOCATOR_MALLOC,
  ALLOCATOR_UMA,
  type memory_type,
  memstat_malloc_sizes,
} from './memstat.ts';
import { kprintf } from '../machine/subr_prf.ts';

/** Whole kilobytes that hold so many bytes. */
export function kilobytes(bytes: number): number {
  return Math.floor((bytes + 1023) / 1024);
}
/** Types that were never used are not shown. */
export function malloc_types(types: readonly memory_type[]): memory_type[] {
  return types.filter(
    (t) => t.allocator === ALLOCATOR_MALLOC && (t.numallocs !== 0 || t.count !== 0),
  );
}

/** The table of `vmstat -m`. */
export function vmstat_malloc_text(types: readonly memory_type[]): string {
  let text = kprintf(
    '%13s %5s %6s %7s %8s  Size(s)\n',
    'Type',
    'InUse',
    'MemUse',
    'HighUse',
    'Requests',
  );
  for (const t of malloc_types(types)) {
    text += kprintf(
      '%13s %5u %5uK %7s %8u  %s\n',
      t.name,
      t.count,
      kilobytes(t.bytes),
      '-',
      t.numallocs,
      memstat_malloc_sizes(t.sizemask).join(','),
    );
  }
  return text;
}
/** A zone as reports and `vmstat -z --json` name its figures. */
export interface ZoneRow {
  name: string;
  /** Bytes of an item. */
  size: number;
  /** Most items at a time; 0: no limit. */
  limit: number;
  used: number;
  free: number;
  requests: number;
  fail: number;
  sleep: number;
  /** The sample is not exact; absent if it is. */
  approximate?: true;
}
/** What a row says of a sample that is not exact; of others nothing. */
export function approximate(t: memory_type): { approximate?: true } {
  return t.approximate ? { approximate: true } : {};
}
export function vmstat_zone_rows(types: readonly memory_type[]): ZoneRow[] {
  return types
    .filter((t) => t.allocator === ALLOCATOR_UMA)
    .map((t) => ({
      name: t.name,
      size: t.size,
      limit: t.countlimit,
      used: t.count,
      free: t.free,
      requests: t.numallocs,
      fail: t.failures,
      sleep: t.sleeps,
      ...approximate(t),
    }));
}
/** The table of `vmstat -z`. */
export function vmstat_zone_text(types: readonly memory_type[]): string {
  const titles = ['ITEM', 'SIZE', 'LIMIT', 'USED', 'FREE', 'REQ', 'FAIL', 'SLEEP'];
  let text = kprintf('%-20s %6s %6s %8s %8s %8s %4s %4s\n\n', ...titles);
  for (const t of types) {
    if (t.allocator !== ALLOCATOR_UMA) continue;
    text += kprintf(
      '%-20s %6u, %6u,%8u,%8u,%8u,%4u,%4u\n',
      `${t.name}:`,
      t.size,
      t.countlimit,
      t.count,
      t.free,
      t.numallocs,
      t.failures,
      t.sleeps,
    );
  }
  return `${text}\n`;
}
