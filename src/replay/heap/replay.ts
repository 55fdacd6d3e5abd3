/*
 * replay: a recorded heap, played on a real machine.
 *
 *      file ─► reader's thread ─► ring ─► player on CPU 1 ─┐
 *                                     └─► player on CPU 2 ─┴─► one heap
 *
 * How many play.  A recording without threads is of a program with one thread: it is
 * played once, on CPU 1, whatever the machine has.  One that keeps its threads apart
 * has them spread over all CPUs.  With `programs`, a recording without threads is played
 * by so many programs at once, each on a CPU of its own: the figures of the trace stay
 * those of one, the machine's are those of all together.
 *
 * This thread boots the machine and stays its CPU 0: it shows progress, and at
 * the end reads every figure back from the kernel, by sysctl, as any tool
 * would.  A machine too small for the trace is no error: requests fail, are
 * counted, and the outcome says what would have been enough.
 */
import { boot, shutdown } from '../../sys/boot/whole.ts';
import type { Options } from '../../sys/machine/opt.ts';
import { heap_figures, type HeapFigures, live_number } from './heap_figures.ts';
import {
  is_packet_outcome,
  type PacketOutcome,
  packet_outcome,
  play_capture,
} from '../packet/packet_replay.ts';
import type { PacketOptions } from '../packet/packet_task.ts';
import { is_capture } from '../read/pcap_reading.ts';
import { live_lines, type PlayerTotals } from './player.ts';
import { PlayerThread } from './player_thread.ts';
import type { PlayerStart } from './player_worker.ts';
import { open_reader, type Reader, type TraceResult } from '../read/reader.ts';
import type { RingProgress } from '../ring/ring.ts';
import { SourceError } from '../read/source.ts';
import type { TypeBy } from '../read/sites.ts';
import type { TraceDocument } from '../read/trace_stats.ts';
import { turns_buffer } from '../ring/turns.ts';
import {
  is_pages_format,
  is_pages_outcome,
  type PageOptions,
  pages_outcome,
  type PagesOutcome,
  play_references,
  RESIDENT_TUNABLE,
} from '../vm/pages_replay.ts';
import { is_vm_outcome, play_strace, vm_outcome, type VmOutcome } from '../vm/vm_replay.ts';

export interface ReplayOptions {
  readonly files: string[];
  /** What messages call them, when not so. */
  readonly names?: string[];
  /** CPUs for players. */
  readonly cpus: number;
  /** The same, if somebody said so: references to pages play on one CPU where nobody did. */
  readonly asked_cpus?: number;
  /** So many programs play the trace at once, no more than there are CPUs; absent: one. */
  readonly programs?: number;
  /** Bytes or '64M'; absent: as much as the trace will need. */
  readonly memory?: string | number;
  readonly type_by: TypeBy;
  readonly verify: boolean;
  readonly strict: boolean;
  readonly set: Record<string, string>;
  readonly options?: Partial<Options>;
  /** How a capture of packets is played; of a heap it is an error to give it. */
  readonly packets?: PacketOptions;
  /** How references to pages are played; of another recording it is an error to give it. */
  readonly pages?: PageOptions;
  /** Called some times a second. */
  readonly progress?: (p: RingProgress, free_pages: number, pages: number) => void;
  /** Called before anything is read, when the machine is up. */
  readonly prepare?: () => void;
  /** Called at the end, while the machine is still up. */
  readonly inspect?: () => void;
}
/** What may be compared under several values of a setting. */
export type ComparedOutcome = ReplayOutcome | PagesOutcome;
export type AnyOutcome = ReplayOutcome | PacketOutcome | VmOutcome | PagesOutcome;
export interface ReplayOutcome {
  trace: TraceDocument;
  heap: HeapFigures;
  memory: {
    size_bytes: number;
    kernel_peak_bytes: number;
    /** Share of what was taken at the peak that nobody had asked for. */
    fragmentation: number;
    /** --fit: the smallest memory that plays without a failed request; null: not found. */
    fit_bytes?: number | null;
    estimated_enough_bytes?: number;
    estimated?: true;
  };
  time: {
    seconds: number;
    ns_per_event: number;
    events_per_second: number;
    reading_seconds: number;
    playing_seconds: number;
    playing_ns_per_event: number;
  };
  /** CPUs that played: 1 to `cpus`. */
  cpus: number;
  /** Times that the trace was played, all at once. */
  programs: number;
  /** Blocks were filled and looked at. */
  verified: boolean;
  complaints: string[];
}

/** Memory of a machine whose trace nobody has measured; only what is used of it is taken. */
export const DEFAULT_MEMORY = '1G';
const PROGRESS_MS = 100;
/** The format that keeps threads apart. */
const WITH_THREADS = 'kmem-threads v1';
/** What enough memory is estimated from: part-full slabs, the kernel itself, each CPU's caches. */
const ENOUGH_SHARE = 1.15;
const ENOUGH_KERNEL = 256 * 1024;
const ENOUGH_EACH_CPU = 384 * 1024;

/** Plays a recorded heap and returns what happened. Throws as play_trace does. */
export async function replay(o: ReplayOptions): Promise<ReplayOutcome> {
  const out = await play_trace(o, 'heap');
  if (!is_packet_outcome(out) && !is_vm_outcome(out) && !is_pages_outcome(out)) return out;
  throw new Error('replay: no heap was played as a heap');
}
/** Plays a recorded heap, or references to pages. Throws as play_trace does. */
export async function replay_compared(o: ReplayOptions): Promise<ComparedOutcome> {
  const out = await play_trace(o, 'compared');
  if (!is_packet_outcome(out) && !is_vm_outcome(out)) return out;
  throw new Error('replay: it was played as what cannot be compared');
}
/** What is to be played: anything, what can be compared, or heaps. */
type Kinds = 'any' | 'compared' | 'heap';
/**
 * Plays a trace of any kind, or only some, and returns what happened.  Throws
 * SourceError, KmemError, PlayerError or KernelPanic.
 */
export async function play_trace(o: ReplayOptions, kinds: Kinds = 'any'): Promise<AnyOutcome> {
  const resident = o.pages?.resident ?? 0;
  // One player gets pages back by itself, and does it in each replay alike.
  const daemon = o.pages !== undefined && (o.asked_cpus ?? 1) > 1;
  const machine = boot({
    memory: o.memory ?? DEFAULT_MEMORY,
    cpus: o.cpus + (daemon ? 2 : 1),
    pagedaemon: daemon,
    set: resident === 0 ? o.set : { ...o.set, [RESIDENT_TUNABLE]: String(resident) },
    options: o.options ?? {},
    fresh: true,
  });
  try {
    o.prepare?.();
    return await play(o, kinds, machine.handle);
  } finally {
    shutdown();
  }
}

function progress_timer(o: ReplayOptions, reader: Reader): NodeJS.Timeout {
  const pages = live_number('vm.stats.vm.v_page_count');
  return setInterval(() => {
    o.progress?.(reader.progress(), live_number('vm.stats.vm.v_free_count'), pages);
  }, PROGRESS_MS);
}

interface Played {
  read: TraceResult;
  totals: PlayerTotals[];
}
/** Starts the players, then the reader, and waits for all of them. */
async function play(
  o: ReplayOptions,
  kinds: Kinds,
  handle: PlayerStart['machine'],
): Promise<AnyOutcome> {
  const players = Array.from({ length: o.cpus }, (_, index) => new PlayerThread(handle, index));
  let reader: Reader | null = null;
  let timer: NodeJS.Timeout | null = null;
  try {
    await Promise.all(players.map((p) => p.up));
    reader = open_reader({
      files: o.files,
      names: o.names,
      cpus: o.cpus,
      type_by: o.type_by,
      strict: o.strict,
      loop: o.packets?.loop,
      lru_pages: o.pages?.resident,
    });
    const open = reader;
    timer = progress_timer(o, reader);
    const started = reader.done.then((r) => performance.now() - r.read_seconds * 1000);
    started.catch(() => {}); // reported by whoever waits for the players
    const seconds = async (read: TraceResult | { read_seconds: number }): Promise<number> =>
      Math.max(read.read_seconds, (performance.now() - (await started)) / 1000);
    const format = await format_of(reader, players);
    if (is_capture(format)) {
      if (kinds !== 'any') throw not_a_heap(o.names ?? o.files, format);
      if (o.programs !== undefined) throw not_a_program(o.names ?? o.files, format);
      const played = await play_capture(o, players, reader);
      const took = await seconds(played.read);
      o.inspect?.();
      const { size_bytes, taken } = memory_taken();
      return packet_outcome(o, played, took, { size_bytes, kernel_peak_bytes: taken });
    }
    if (o.packets) throw not_a_capture(o.names ?? o.files, format);
    if (is_pages_format(format)) {
      if (kinds === 'heap') throw not_a_heap(o.names ?? o.files, format);
      if (o.programs !== undefined) throw not_a_program(o.names ?? o.files, format);
      const how = o.pages ?? { resident: 0, readahead: false };
      const some = players.slice(0, o.asked_cpus ?? 1);
      await Promise.all(players.slice(some.length).map((p) => p.dismiss(open)));
      const played = await play_references(some, reader, o.verify, how.readahead);
      const took = await seconds(played.read);
      o.inspect?.();
      const { size_bytes, taken } = memory_taken();
      const memory = { size_bytes, kernel_peak_bytes: taken };
      return pages_outcome(played, took, memory, how, o.verify);
    }
    if (o.pages) throw not_pages(o.names ?? o.files, format);
    if (format === 'strace') {
      if (kinds !== 'any') throw not_a_heap(o.names ?? o.files, format);
      if (o.programs !== undefined) throw not_a_program(o.names ?? o.files, format);
      const played = await play_strace(players, reader, o.verify);
      const took = await seconds(played.read);
      o.inspect?.();
      const { size_bytes, taken } = memory_taken();
      return vm_outcome(played, took, { size_bytes, kernel_peak_bytes: taken }, o.verify);
    }
    const some = players.slice(0, cpus_for(o, format));
    await Promise.all(players.slice(some.length).map((p) => p.dismiss(open)));
    const played = await play_heap(o, some, reader);
    const took = await seconds(played.read);
    o.inspect?.();
    return outcome(o, played.read, played.totals, took);
  } catch (e) {
    // Not even a reader that waits for a silent pipe may hold us up.
    if (reader) await reader.abort();
    await Promise.all(players.map((p) => p.worker.terminate()));
    throw await first_cause(reader, e);
  } finally {
    if (timer) clearInterval(timer);
  }
}
/** What the trace is; a player that dies before it is known is not waited for. */
async function format_of(reader: Reader, players: PlayerThread[]): Promise<string> {
  const format = await Promise.race([reader.format, ...players.map((p) => p.end)]);
  if (typeof format === 'string') return format;
  throw new Error('a player ended before it was given a task');
}
function not_a_heap(files: string[], format: string): SourceError {
  const calls = is_pages_format(format) ? 'references to pages' : 'recordings of system calls';
  const what = is_capture(format) ? 'captures of packets' : calls;
  const without = is_pages_format(format) ? '--fit' : '--fit and --compare';
  const advice = `${what} are played without ${without}`;
  return new SourceError(String(files), null, `is ${format}, no recording of a heap`, advice);
}
/** How many CPUs have something to play. */
function cpus_for(o: ReplayOptions, format: string): number {
  if (format !== WITH_THREADS) return o.programs ?? 1;
  if (o.programs === undefined) return o.cpus;
  const reason = 'is a recording with threads, which play on all CPUs as they are';
  const advice = 'say how many with --cpus; --programs is for recordings without';
  throw new SourceError(String(o.names ?? o.files), null, reason, advice);
}
function not_a_program(files: string[], format: string): SourceError {
  const advice = '--programs is for recordings of heaps';
  return new SourceError(String(files), null, `is ${format}`, advice);
}
function not_pages(files: string[], format: string): SourceError {
  const advice = '--resident and --readahead are for recordings of references to pages';
  return new SourceError(String(files), null, `is ${format}`, advice);
}
function not_a_capture(files: string[], format: string): SourceError {
  const advice = '--rate, --loop, --drop and --write are for captures of packets';
  return new SourceError(String(files), null, `is ${format}, no capture`, advice);
}
async function play_heap(
  o: ReplayOptions,
  players: PlayerThread[],
  reader: Reader,
): Promise<Played> {
  const common = {
    ring: reader.ring_handle,
    players: players.length,
    verify: o.verify,
    turns: turns_buffer(),
    live: live_lines(players.length),
  };
  for (const p of players) p.start(reader, { ...common, index: p.index });
  const totals = (await Promise.all(players.map((p) => p.end))) as PlayerTotals[];
  return { read: await reader.done, totals };
}
/** Unreadable input also ends the players; the input is then what to report. */
async function first_cause(reader: Reader | null, e: unknown): Promise<unknown> {
  if (!reader) return e;
  return await reader.done.then(
    () => e,
    (cause) => (cause instanceof Error && /called off/.test(cause.message) ? e : cause),
  );
}

/** Bytes of the machine, and those of its pages that were taken at once. */
function memory_taken(): { size_bytes: number; pages: number; taken: number } {
  const pages = live_number('vm.stats.vm.v_page_count');
  const taken = (pages - live_number('vm.stats.vm.v_free_lowest')) * 4096;
  return { size_bytes: live_number('hw.physmem'), pages, taken };
}
function outcome(
  o: ReplayOptions,
  read: TraceResult,
  totals: PlayerTotals[],
  seconds: number,
): ReplayOutcome {
  const sum = (f: (t: PlayerTotals) => number): number => totals.reduce((a, t) => a + f(t), 0);
  const { size_bytes: size, pages, taken } = memory_taken();
  const cpus = totals.length;
  const programs = read.trace.threads === undefined ? cpus : 1;
  const events = sum((t) => t.events);
  const busiest = Math.max(...totals.map((t) => t.play_seconds));
  const failed = sum((t) => t.failed);
  const requested = Math.max(...totals.map((t) => t.peak_requested_bytes));
  const memory: ReplayOutcome['memory'] = {
    size_bytes: size,
    kernel_peak_bytes: taken,
    fragmentation: taken > 0 ? Math.max(0, 1 - requested / taken) : 0,
  };
  if (failed > live_number('debug.malloc.failure_count')) {
    const blocks = Math.max(...totals.map((t) => t.peak_rounded_bytes)) * ENOUGH_SHARE;
    const kernel = size - pages * 4096 + ENOUGH_KERNEL + cpus * ENOUGH_EACH_CPU;
    memory.estimated_enough_bytes = Math.ceil((blocks + kernel) / 65536) * 65536;
    memory.estimated = true;
  }
  return {
    trace: read.trace,
    heap: heap_figures({
      failed,
      verify_errors: sum((t) => t.verify_errors),
      skipped_events: sum((t) => t.skipped_events),
    }),
    memory,
    time: {
      seconds,
      ns_per_event: (seconds * 1e9) / Math.max(1, read.trace.event_lines * programs),
      events_per_second: (read.trace.event_lines * programs) / seconds,
      reading_seconds: read.read_seconds - read.waited_seconds,
      playing_seconds: busiest,
      playing_ns_per_event: (sum((t) => t.play_seconds) * 1e9) / Math.max(1, events),
    },
    cpus,
    programs,
    verified: o.verify,
    complaints: totals.flatMap((t) => t.complaints),
  };
}
