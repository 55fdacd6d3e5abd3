/*
 * vmstat_text: the tables of vmstat, in BSD's columns.
 *
 * Below the types stands their sum.  A table that follows another (-w) has columns
 * more, of what changed since.
 *
 * Made from the memstat library's records, so that the command, the replay's
 * report and a program that asks for them print the same.  Two zones of one name are
 * two rows.
 */
import { type Column, columns_text } from './columns.ts';
import {
  ALLOCATOR_MALLOC,
  ALLOCATOR_UMA,
  type memory_type,
  memstat_malloc_sizes,
} from './memstat.ts';

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

/** A row of `vmstat -m`: a type, or the sum of all. */
export interface MallocLine {
  readonly name: string;
  readonly count: number;
  readonly bytes: number;
  readonly requests: number;
  /** The most that `bytes` was; null: not known. */
  readonly high: number | null;
  readonly sizes: readonly number[];
  /** The sample is not exact. */
  readonly approximate: boolean;
  /** What is more than there was before; absent: nothing was before. */
  readonly more?: MallocFigures;
}
interface MallocFigures {
  readonly count: number;
  readonly bytes: number;
  readonly requests: number;
}
/** By what rows of `vmstat -m` may be sorted, most first. */
export const MALLOC_SORTS = {
  inuse: (t: MallocFigures): number => t.count,
  memuse: (t: MallocFigures): number => t.bytes,
  requests: (t: MallocFigures): number => t.requests,
} as const;
export type MallocSort = keyof typeof MALLOC_SORTS;

/** The columns of `vmstat -m`. */
export const MALLOC_COLUMNS: readonly Column<MallocLine>[] = [
  {
    title: 'Type',
    help:
      'A kind of memory, with a name that whoever asks for memory chose. Each malloc names one, ' +
      'and is counted there; the block must be freed under the same.',
    width: 13,
    gap: '',
    text: (t) => t.name,
  },
  {
    title: 'InUse',
    help: 'Blocks of this type that were obtained and are not freed yet.',
    width: 5,
    gap: ' ',
    text: (t) => String(t.count),
  },
  {
    title: 'MemUse',
    help:
      'Memory of the blocks in use, in whole kilobytes, rounded up. A block counts as what was ' +
      'handed out: a size class (16, 32 … 4096 bytes), or whole pages above, which is no less ' +
      'than what the program asked for.',
    width: 6,
    gap: ' ',
    text: (t) => `${kilobytes(t.bytes)}K`,
  },
  {
    title: 'HighUse',
    help:
      'The most that MemUse ever was. It is known exactly, and shown, for a type of which ' +
      'nothing was ever freed; `-` otherwise, because malloc keeps no highest value: that would ' +
      'be work on each allocation.',
    width: 7,
    gap: ' ',
    text: (t) => (t.high === null ? '-' : `${kilobytes(t.high)}K`),
  },
  {
    title: 'Requests',
    help: 'Blocks of this type that were handed out since boot, those freed since included.',
    width: 8,
    gap: ' ',
    text: (t) => String(t.requests),
  },
  {
    title: 'Size(s)',
    help: 'Size classes, in bytes, of which blocks were handed out for this type.',
    width: -7,
    gap: '  ',
    text: (t) => t.sizes.join(','),
  },
];
/** What stands behind them when a table follows another: -w. */
export const MALLOC_DELTA_COLUMNS: readonly Column<MallocLine>[] = [
  {
    title: '+InUse',
    help: 'How many blocks more are in use than in the table before (-w); blank if none.',
    width: 6,
    gap: '  ',
    text: (t) => signed(t.more?.count ?? 0),
  },
  {
    title: '+MemUse',
    help: 'How many kilobytes more are in use than in the table before (-w), rounded away from 0.',
    width: 7,
    gap: ' ',
    text: (t) => signed(away_from_zero((t.more?.bytes ?? 0) / 1024), 'K'),
  },
  {
    title: '+Requests',
    help: 'Blocks that were handed out since the table before (-w).',
    width: 9,
    gap: ' ',
    text: (t) => signed(t.more?.requests ?? 0),
  },
];
function signed(n: number, unit = ''): string {
  if (n === 0) return '';
  return n > 0 ? `+${n}${unit}` : `${n}${unit}`;
}
function away_from_zero(n: number): number {
  return n < 0 ? Math.floor(n) : Math.ceil(n);
}

export interface MallocTable {
  readonly sort?: MallocSort;
  /** The rows of the table before this. */
  readonly before?: readonly MallocLine[];
}
/** The rows of `vmstat -m`, in order. */
export function malloc_lines(types: readonly memory_type[], o: MallocTable = {}): MallocLine[] {
  const before = new Map(o.before?.map((t) => [t.name, t]));
  const lines = malloc_types(types).map((t): MallocLine => {
    const now = { count: t.count, bytes: t.bytes, requests: t.numallocs };
    return {
      name: t.name,
      ...now,
      high: malloc_high(t),
      sizes: memstat_malloc_sizes(t.sizemask),
      approximate: t.approximate,
      ...(o.before ? { more: less(now, before.get(t.name)) } : {}),
    };
  });
  const { sort } = o;
  if (sort === undefined) return lines;
  const figure = MALLOC_SORTS[sort];
  const by_name = (a: MallocLine, b: MallocLine): number => (a.name < b.name ? -1 : 1);
  return lines.sort((a, b) => figure(b) - figure(a) || by_name(a, b));
}
/** The most bytes that a type ever had in use: what it has, if it never gave any back. */
export function malloc_high(t: memory_type): number | null {
  return t.numfrees === 0 && !t.approximate ? t.bytes : null;
}
function less(now: MallocFigures, then: MallocFigures | undefined): MallocFigures {
  return {
    count: now.count - (then?.count ?? 0),
    bytes: now.bytes - (then?.bytes ?? 0),
    requests: now.requests - (then?.requests ?? 0),
  };
}
/** All rows as one. */
export function malloc_total(lines: readonly MallocLine[], o: MallocTable = {}): MallocLine {
  const sum = (rows: readonly MallocLine[]): MallocFigures => ({
    count: rows.reduce((n, t) => n + t.count, 0),
    bytes: rows.reduce((n, t) => n + t.bytes, 0),
    requests: rows.reduce((n, t) => n + t.requests, 0),
  });
  const now = sum(lines);
  return {
    name: 'total',
    ...now,
    high: lines.every((t) => t.high !== null) ? now.bytes : null,
    sizes: [],
    approximate: lines.some((t) => t.approximate),
    ...(o.before ? { more: less(now, sum(o.before)) } : {}),
  };
}

/** The table of `vmstat -m`. */
export function vmstat_malloc_text(types: readonly memory_type[], o: MallocTable = {}): string {
  return malloc_lines_text(malloc_lines(types, o), o);
}
/** The same of rows, with the sum of all as the last one. */
export function malloc_lines_text(lines: readonly MallocLine[], o: MallocTable = {}): string {
  const columns = o.before ? [...MALLOC_COLUMNS, ...MALLOC_DELTA_COLUMNS] : MALLOC_COLUMNS;
  const rows = lines.length > 0 ? [...lines, malloc_total(lines, o)] : [];
  const text = columns_text(columns, rows);
  return [text.titles, ...text.lines].map((line) => `${line.trimEnd()}\n`).join('');
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
/** The columns of `vmstat -z`. */
export const ZONE_COLUMNS: readonly Column<memory_type>[] = [
  {
    title: 'ITEM',
    help:
      'A zone, by name: a supply of items of one size, with a cache of ready ones for each CPU. ' +
      'malloc takes its blocks from the zones named by a size.',
    width: -20,
    gap: '',
    text: (t) => `${t.name}:`,
  },
  {
    title: 'SIZE',
    help: 'Bytes of an item.',
    width: 6,
    gap: ' ',
    text: (t) => String(t.size),
  },
  {
    title: 'LIMIT',
    help: 'The most items that there may be at a time; 0 if there is no limit.',
    width: 6,
    gap: ', ',
    title_gap: ' ',
    text: (t) => String(t.countlimit),
  },
  {
    title: 'USED',
    help: 'Items that were handed out and not given back yet.',
    width: 8,
    gap: ',',
    title_gap: ' ',
    text: (t) => String(t.count),
  },
  {
    title: 'FREE',
    help:
      'Items that are ready to be handed out: in the caches of the CPUs, with the zone, and in ' +
      'the pages it has taken. They go back when memory is short.',
    width: 8,
    gap: ',',
    title_gap: ' ',
    text: (t) => String(t.free),
  },
  {
    title: 'REQ',
    help: 'Items that were handed out since boot.',
    width: 8,
    gap: ',',
    title_gap: ' ',
    text: (t) => String(t.numallocs),
  },
  {
    title: 'FAIL',
    help: 'Requests that got no item: no memory, or the limit was reached.',
    width: 4,
    gap: ',',
    title_gap: ' ',
    text: (t) => String(t.failures),
  },
  {
    title: 'SLEEP',
    help: 'How often a request waited because the limit was reached.',
    width: 4,
    gap: ',',
    title_gap: ' ',
    text: (t) => String(t.sleeps),
  },
];
/** The table of `vmstat -z`. */
export function vmstat_zone_text(types: readonly memory_type[]): string {
  const zones = types.filter((t) => t.allocator === ALLOCATOR_UMA);
  const { titles, lines } = columns_text(ZONE_COLUMNS, zones);
  return `${titles}\n\n${lines.map((line) => `${line}\n`).join('')}\n`;
}
