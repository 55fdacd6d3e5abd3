/*
 * vm_replay: a recording of system calls, played on address spaces.
 *
 *      file ─► reader's thread ─► ring ─► player on CPU 1 ─┐
 *                                     └─► player on CPU 2 ─┴─► address spaces
 *
 * The part of replay.ts that is about these.  The reader turns calls into operations
 * (strace_plan.ts); the players run them (vm_player.ts).  At the end the counts are read
 * from the kernel, by sysctl, as any tool would, and the pages: what belongs to a space, an
 * object or a page table was not there before the replay, so there is to be none of it.
 *
 * What is not played is counted by the name of the call: what the reader makes no operation
 * of, and what the players leave out.
 */
import { PK_LIMBO, PK_OBJECT, PK_TABLE } from '../../sys/h/vm_page.ts';
import { vm_page_census } from '../../sys/page/vm_page.ts';
import { vm_page_limbo_free } from '../../sys/page/vm_page_limbo.ts';
import { live_number } from '../heap/heap_figures.ts';
import type { PlayerThread } from '../heap/player_thread.ts';
import { temporary_folder } from '../temporary.ts';
import type { Reader } from '../read/reader.ts';
import type { StraceDocument, TraceResult } from '../read/read_trace.ts';
import {
  type ByCall,
  DIFFERENT_KEPT,
  type Different,
  type Holder,
  type VmTotals,
} from './vm_player.ts';
import { VmShared, vm_shared_buffers } from './vm_shared.ts';

/** What the players and the kernel did. */
export interface VmFigures {
  /** Spaces that were made, that were there at a time at most, and when the recording ended. */
  spaces: number;
  most_spaces: number;
  spaces_left: number;
  /** Calls by name that were made and answered as recorded. */
  calls: ByCall;
  /** Those that answered otherwise, and the first of these by line. */
  mismatches: ByCall;
  different: Different[];
  /** Those that found no memory; and those for whose space there had been none. */
  no_memory: ByCall;
  skipped: ByCall;
  /** Pages that the programs were taken to load and store (vm_touch.ts). */
  loads: number;
  stores: number;
  /** Of these, those that found no memory, and that failed otherwise. */
  no_memory_touches: number;
  failed_touches: number;
  verify_errors: number;
  /** The kernel's counts. */
  faults: number;
  zero_fills: number;
  /** Private pages that were made by writing; of these those that were moved and not copied. */
  cow: number;
  cow_moved: number;
  shootdowns: number;
  /** Pages that were read from files, and written to them. */
  pageins: number;
  pageouts: number;
  /** Spaces that were copied; pages they had mapped, all of which a plain copy would copy. */
  forks: number;
  fork_pages: number;
  /** Pages that all spaces mapped at a time, at most; one in several counts for each. */
  resident_peak: number;
  /** The process that mapped most. */
  holder: Holder | null;
}
export interface VmOutcome {
  trace: StraceDocument;
  vm: VmFigures;
  /** Calls by name that were recorded and changed nothing here, most first. */
  not_played: Record<string, number>;
  /** What the players were given. */
  operations: number;
  memory: { size_bytes: number; kernel_peak_bytes: number; pages_left: number };
  time: {
    seconds: number;
    lines_per_second: number;
    reading_seconds: number;
    playing_seconds: number;
  };
  cpus: number;
  /** The contents of private pages were looked at. */
  verified: boolean;
  complaints: string[];
}

/** Whether an outcome is that of a recording of system calls. */
export function is_vm_outcome(out: object): out is VmOutcome {
  return 'not_played' in out;
}
/** Whether some of it found no memory. */
export function vm_too_small({ vm }: VmOutcome): boolean {
  return sum_of(vm.no_memory) + vm.no_memory_touches > 0;
}
/** Whether something came out that must not. */
export function vm_damaged({ vm, memory }: VmOutcome): boolean {
  return vm.verify_errors > 0 || memory.pages_left !== 0;
}

export interface VmPlayed {
  read: TraceResult<StraceDocument>;
  totals: VmTotals[];
  resident_peak: number;
  pages_left: number;
  /** What the kernel counted meanwhile. */
  counts: Record<keyof typeof COUNTS, number>;
}
const COUNTS = {
  faults: 'vm.stats.vm.v_vm_faults',
  zero_fills: 'vm.stats.vm.v_zfod',
  cow: 'vm.stats.vm.v_cow_faults',
  cow_moved: 'vm.stats.vm.v_cow_optim',
  shootdowns: 'vm.stats.tlb.shootdowns',
  pageins: 'vm.stats.vm.v_vnodepgsin',
  pageouts: 'vm.stats.vm.v_vnodepgsout',
} as const;
/** What the kernel of this machine counted so far. */
export function live_counts(): VmPlayed['counts'] {
  const all = Object.entries(COUNTS).map(([key, name]) => [key, live_number(name)]);
  return Object.fromEntries(all);
}
/** Pages of spaces, objects and page tables, on their way to be free included. */
export function pages_of_spaces(): number {
  vm_page_limbo_free();
  const kinds = vm_page_census();
  return kinds[PK_OBJECT] + kinds[PK_TABLE] + kinds[PK_LIMBO];
}
/** Gives the players their parts, and waits for them and the reader. */
export async function play_strace(
  players: readonly PlayerThread[],
  reader: Reader,
  verify: boolean,
): Promise<VmPlayed> {
  const spaces = vm_shared_buffers();
  const before = pages_of_spaces();
  const counted = live_counts();
  const ring = reader.ring_handle;
  const files = temporary_folder();
  const common = { ring, spaces, players: players.length, verify, folder: files.path };
  let totals: VmTotals[];
  let read: TraceResult<StraceDocument>;
  try {
    for (const p of players) p.start(reader, { ...common, index: p.index });
    totals = (await Promise.all(players.map((p) => p.end))) as VmTotals[];
    read = (await reader.done) as unknown as TraceResult<StraceDocument>;
  } finally {
    files.remove();
  }
  const counts = live_counts();
  for (const key of Object.keys(counts) as (keyof typeof counts)[]) counts[key] -= counted[key];
  const pages_left = pages_of_spaces() - before;
  return { read, totals, resident_peak: new VmShared(spaces).most_pages(), pages_left, counts };
}

/** What came of it. */
export function vm_outcome(
  { read, totals, resident_peak, pages_left, counts }: VmPlayed,
  seconds: number,
  memory: { size_bytes: number; kernel_peak_bytes: number },
  verified: boolean,
): VmOutcome {
  const { trace } = read;
  const sum = (f: (t: VmTotals) => number): number => totals.reduce((n, t) => n + f(t), 0);
  const by_call = (f: (t: VmTotals) => ByCall): ByCall => summed(totals.map(f));
  const { recorded } = totals[0];
  const holders = totals.map((t) => t.holder).filter((h) => h !== null);
  const different = totals.flatMap((t) => t.different).sort((a, b) => a.line - b.line);
  return {
    trace,
    vm: {
      spaces: recorded.spaces,
      most_spaces: recorded.most_spaces,
      spaces_left: recorded.left,
      calls: by_call((t) => t.calls),
      mismatches: by_call((t) => t.mismatches),
      different: different.slice(0, DIFFERENT_KEPT),
      no_memory: by_call((t) => t.no_memory),
      skipped: by_call((t) => t.skipped),
      loads: sum((t) => t.touch.loads),
      stores: sum((t) => t.touch.stores),
      no_memory_touches: sum((t) => t.touch.failed),
      failed_touches: sum((t) => t.touch.refused),
      verify_errors: sum((t) => t.touch.verify_errors),
      ...counts,
      forks: sum((t) => t.forks),
      fork_pages: sum((t) => t.fork_pages),
      resident_peak,
      holder: holders.sort((a, b) => b.pages - a.pages)[0] ?? null,
    },
    not_played: summed([trace.plan.not_played, ...totals.map((t) => t.not_played)]),
    operations: recorded.operations,
    memory: { ...memory, pages_left },
    time: {
      seconds,
      lines_per_second: trace.lines / seconds,
      reading_seconds: read.read_seconds - read.waited_seconds,
      playing_seconds: Math.max(...totals.map((t) => t.play_seconds)),
    },
    cpus: totals.length,
    verified,
    complaints: totals.flatMap((t) => t.touch.complaints),
  };
}
/** Counts by name as one, most first, then by name. */
function summed(all: readonly ByCall[]): ByCall {
  const sum = new Map<string, number>();
  for (const counts of all) {
    for (const [name, n] of Object.entries(counts)) sum.set(name, (sum.get(name) ?? 0) + n);
  }
  const rows = [...sum].sort((x, y) => y[1] - x[1] || (x[0] < y[0] ? -1 : 1));
  return Object.fromEntries(rows);
}
/** All of a count by name. */
export function sum_of(counts: ByCall): number {
  return Object.values(counts).reduce((a, b) => a + b, 0);
}
