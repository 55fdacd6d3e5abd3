/*
 * pages_replay: references to pages, played on an address space, and held against exact LRU.
 *
 *      file ─► reader's thread ─► ring ─► player on CPU 1 ─┐
 *                │                    └─► player on CPU 2 ─┴─► one address space
 *                └─► exact LRU of as many pages
 *
 * The part of replay.ts that is about these.  With a limit of pages (--resident) the machine
 * keeps no more than so many pages of the space in memory: active, inactive and cached ones; its
 * own are not among them.  Beside it the reader counts what exact LRU would have missed in as many
 * pages, which no kernel can do, because it would have to note each use.
 *
 * A reference *misses* if its page is not in memory: it was never used, and is filled with
 * zeros, or it comes back from where it was put.  All other faults are soft: the page was there,
 * and had no translation any more, because the kernel had taken it away to see whether the page is
 * still used.
 *
 * Several players do not keep the order of the recording, which what exact LRU misses is of.
 */
import { vm_page_limbo_free } from '../../sys/page/vm_page_limbo.ts';
import { live_number } from '../heap/heap_figures.ts';
import type { PlayerThread } from '../heap/player_thread.ts';
import type { PagesDocument, TraceResult } from '../read/read_trace.ts';
import type { Reader } from '../read/reader.ts';
import type { PagesTotals } from './pages_player.ts';
import { pages_of_spaces } from './vm_replay.ts';
import { vm_shared_buffers } from './vm_shared.ts';

/** How references to pages are played. */
export interface PageOptions {
  /** Pages that may be in memory at a time; 0: as many as there is room for. */
  readonly resident: number;
  /** Neighbours of a page that is brought in come with it. */
  readonly readahead: boolean;
}
/** The boot tunable that limits the pages in memory. */
export const RESIDENT_TUNABLE = 'vm.v_resident_max';

/** What the players and the kernel did. */
export interface PagesFigures {
  references: number;
  /** References that found their page not in memory, first ones included. */
  misses: number;
  faults: number;
  faults_soft: number;
  /** Faults that had their page brought in, and those that made one of zeros. */
  faults_hard: number;
  zero_fills: number;
  /** Pages that were brought in, and written out. */
  pageins: number;
  pageouts: number;
  cow: number;
  shootdowns: number;
  /** What exact LRU misses in as many pages, and how many times that the machine missed. */
  lru_misses: number;
  lru_ratio: number;
  /** References for which there was no memory, and that failed otherwise. */
  no_memory: number;
  failed: number;
  /** References that were left out: none of many before them found memory. */
  left_out: number;
  verify_errors: number;
}
export interface PagesOutcome {
  trace: PagesDocument;
  vm: PagesFigures;
  /** Pages that might be in memory at a time; null: there was no limit. */
  resident: number | null;
  readahead: boolean;
  memory: { size_bytes: number; kernel_peak_bytes: number; pages_left: number };
  time: {
    seconds: number;
    references_per_second: number;
    reading_seconds: number;
    playing_seconds: number;
    playing_ns_per_reference: number;
  };
  cpus: number;
  /** The contents of pages were looked at. */
  verified: boolean;
  complaints: string[];
}

/** Whether an outcome is that of references to pages. */
export function is_pages_outcome(out: object): out is PagesOutcome {
  return 'readahead' in out;
}
/** Whether a format is one of references to pages. */
export function is_pages_format(format: string): boolean {
  return format === 'kmem-pages v1' || format === 'lackey';
}
export function pages_too_small({ vm }: PagesOutcome): boolean {
  return vm.no_memory > 0;
}
export function pages_damaged({ vm, memory }: PagesOutcome): boolean {
  return vm.verify_errors > 0 || vm.failed > 0 || memory.pages_left !== 0;
}

const COUNTS = {
  faults: 'vm.stats.vm.v_vm_faults',
  faults_hard: 'vm.stats.vm.v_io_faults',
  zero_fills: 'vm.stats.vm.v_zfod',
  pageins: 'vm.stats.vm.v_swappgsin',
  pageouts: 'vm.stats.vm.v_swappgsout',
  cow: 'vm.stats.vm.v_cow_faults',
  shootdowns: 'vm.stats.tlb.shootdowns',
} as const;
type Counts = Record<keyof typeof COUNTS, number>;

export interface PagesPlayed {
  read: TraceResult<PagesDocument>;
  totals: PagesTotals[];
  pages_left: number;
  counts: Counts;
}
/** What the kernel of this machine counted so far. */
function live_counts(): Counts {
  const all = Object.entries(COUNTS).map(([key, name]) => [key, live_number(name)]);
  return Object.fromEntries(all);
}
/** Gives the players their parts, and waits for them and the reader. */
export async function play_references(
  players: readonly PlayerThread[],
  reader: Reader,
  verify: boolean,
  readahead: boolean,
): Promise<PagesPlayed> {
  vm_page_limbo_free();
  const before = pages_of_spaces();
  const counted = live_counts();
  const pages = vm_shared_buffers();
  const common = { ring: reader.ring_handle, pages, players: players.length, verify, readahead };
  for (const p of players) p.start(reader, { ...common, index: p.index });
  const totals = (await Promise.all(players.map((p) => p.end))) as PagesTotals[];
  const read = (await reader.done) as unknown as TraceResult<PagesDocument>;
  const counts = live_counts();
  for (const key of Object.keys(counts) as (keyof Counts)[]) counts[key] -= counted[key];
  return { read, totals, pages_left: pages_of_spaces() - before, counts };
}

/** What came of it. */
export function pages_outcome(
  { read, totals, pages_left, counts }: PagesPlayed,
  seconds: number,
  memory: { size_bytes: number; kernel_peak_bytes: number },
  { resident, readahead }: PageOptions,
  verified: boolean,
): PagesOutcome {
  const sum = (f: (t: PagesTotals) => number): number => totals.reduce((n, t) => n + f(t), 0);
  const { asked_misses, ...trace } = read.trace;
  const misses = counts.zero_fills + counts.faults_hard;
  const lru_misses = asked_misses ?? trace.pages;
  const references = sum((t) => t.references);
  return {
    trace,
    vm: {
      references,
      misses,
      faults: counts.faults,
      faults_soft: counts.faults - misses,
      faults_hard: counts.faults_hard,
      zero_fills: counts.zero_fills,
      pageins: counts.pageins,
      pageouts: counts.pageouts,
      cow: counts.cow,
      shootdowns: counts.shootdowns,
      lru_misses,
      lru_ratio: lru_misses === 0 ? 1 : misses / lru_misses,
      no_memory: sum((t) => t.no_memory),
      failed: sum((t) => t.failed),
      left_out: sum((t) => t.left_out),
      verify_errors: sum((t) => t.verify_errors),
    },
    resident: resident === 0 ? null : resident,
    readahead,
    memory: { ...memory, pages_left },
    time: {
      seconds,
      references_per_second: references / seconds,
      reading_seconds: read.read_seconds - read.waited_seconds,
      playing_seconds: Math.max(...totals.map((t) => t.play_seconds)),
      playing_ns_per_reference: (sum((t) => t.play_seconds) * 1e9) / Math.max(1, references),
    },
    cpus: totals.length,
    verified,
    complaints: totals.flatMap((t) => t.complaints),
  };
}
