/*
 * vm_replay: a recording of system calls, played on address spaces.
 *
 *      file ─► reader's thread ─► ring ─► player on CPU 1
 *
 * The part of replay.ts that is about these.  The reader turns calls into operations
 * (strace_plan.ts); the player runs them.  What is not played is counted by the name of
 * the call: what the reader makes no operation of, and what the player leaves out.
 */
import type { PlayerThread } from '../heap/player_thread.ts';
import type { Reader } from '../read/reader.ts';
import type { StraceDocument, TraceResult } from '../read/read_trace.ts';
import type { VmTotals } from './vm_player.ts';

export interface VmOutcome {
  trace: StraceDocument;
  /** Calls by name that were recorded and changed nothing here, most first. */
  not_played: Record<string, number>;
  /** What the player was given. */
  operations: number;
  memory: { size_bytes: number; kernel_peak_bytes: number };
  time: {
    seconds: number;
    lines_per_second: number;
    reading_seconds: number;
    playing_seconds: number;
  };
  cpus: number;
}

/** Whether an outcome is that of a recording of system calls. */
export function is_vm_outcome(out: object): out is VmOutcome {
  return 'not_played' in out;
}

export interface VmPlayed {
  read: TraceResult<StraceDocument>;
  totals: VmTotals;
}
/** Gives the player its part, and waits for it and the reader. */
export async function play_strace(player: PlayerThread, reader: Reader): Promise<VmPlayed> {
  player.start(reader, { ring: reader.ring_handle, index: player.index, spaces: true });
  const totals = (await player.end) as VmTotals;
  const read = (await reader.done) as unknown as TraceResult<StraceDocument>;
  return { read, totals };
}

/** What came of it. */
export function vm_outcome(
  { read, totals }: VmPlayed,
  seconds: number,
  memory: VmOutcome['memory'],
): VmOutcome {
  const { trace } = read;
  return {
    trace,
    not_played: summed(trace.plan.not_played, totals.not_played),
    operations: totals.operations,
    memory,
    time: {
      seconds,
      lines_per_second: trace.lines / seconds,
      reading_seconds: read.read_seconds - read.waited_seconds,
      playing_seconds: totals.play_seconds,
    },
    cpus: 1,
  };
}
/** Two counts by name as one, most first, then by name. */
function summed(a: Record<string, number>, b: Record<string, number>): Record<string, number> {
  const sum = new Map(Object.entries(a));
  for (const [name, n] of Object.entries(b)) sum.set(name, (sum.get(name) ?? 0) + n);
  const rows = [...sum].sort((x, y) => y[1] - x[1] || (x[0] < y[0] ? -1 : 1));
  return Object.fromEntries(rows);
}
