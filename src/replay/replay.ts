/*
 * replay: a recorded heap, played on a real machine.
 *
 *      file ─► reader's thread ─► ring ─► player on CPU 1 ─┐
 *                                     └─► player on CPU 2 ─┴─► one heap
 *
 * This thread boots the machine and stays its CPU 0: it shows progress, and at
 * the end reads every figure back from the kernel, by sysctl, as any tool
 * would.  A machine too small for the trace is no error: requests fail, are
 * counted, and the outcome says what would have been enough.
 */
import { Worker } from 'node:worker_threads';
import { boot, shutdown } from '../sys/boot/main.ts';
import { KmemError } from '../sys/machine/errno.ts';
import { sysctl_read } from '../sys/observe/kern_sysctl.ts';
import type { Options } from '../sys/machine/opt.ts';
import { heap_figures, type HeapFigures } from './heap_figures.ts';
import { live_lines, type PlayerTask, type PlayerTotals } from './player.ts';
import type { PlayerStart } from './player_worker.ts';
import { open_reader, type Reader, type TraceResult } from './reader.ts';
import type { RingProgress } from './ring.ts';
import type { TypeBy } from './sites.ts';
import type { TraceDocument } from './trace_stats.ts';
import { turns_buffer } from './turns.ts';

export interface ReplayOptions {
  readonly files: string[];
  readonly cpus: number;
  /** Bytes or '64M'; absent: as much as the trace will need. */
  readonly memory?: string | number;
  readonly type_by: TypeBy;
  readonly verify: boolean;
  readonly strict: boolean;
  readonly set: Record<string, string>;
  readonly options?: Partial<Options>;
  /** Called some times a second. */
  readonly progress?: (p: RingProgress, free_pages: number, pages: number) => void;
  /** Called at the end, while the machine is still up. */
  readonly inspect?: () => void;
}
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
  cpus: number;
  /** Blocks were filled and looked at. */
  verified: boolean;
  complaints: string[];
}

/** A player's thread died of something that is not a kernel's error. */
export class PlayerError extends Error {
  override readonly name = 'PlayerError';
}

/** Memory of a machine whose trace nobody has measured; only what is used of it is taken. */
export const DEFAULT_MEMORY = '1G';
const PROGRESS_MS = 100;
/** What enough memory is estimated from: part-full slabs, the kernel itself, each CPU's caches. */
const ENOUGH_SHARE = 1.15;
const ENOUGH_KERNEL = 256 * 1024;
const ENOUGH_EACH_CPU = 384 * 1024;

/** Plays a trace and returns what happened. Throws SourceError, KmemError or KernelPanic. */
export async function replay(o: ReplayOptions): Promise<ReplayOutcome> {
  const machine = boot({
    memory: o.memory ?? DEFAULT_MEMORY,
    cpus: o.cpus + 1,
    set: o.set,
    options: o.options ?? {},
    fresh: true,
  });
  try {
    const { read, totals, seconds } = await play(o, machine.handle);
    o.inspect?.();
    return outcome(o, read, totals, seconds);
  } finally {
    shutdown();
  }
}

function number_of(name: string): number {
  const r = sysctl_read(name);
  if (typeof r === 'number') throw new KmemError(r, 'replay', `sysctl ${name}`);
  const view = new DataView(r.buffer, r.byteOffset, r.byteLength);
  return r.byteLength === 4 ? view.getUint32(0, true) : Number(view.getBigUint64(0, true));
}

function progress_timer(o: ReplayOptions, reader: Reader): NodeJS.Timeout {
  const pages = number_of('vm.stats.vm.v_page_count');
  return setInterval(() => {
    o.progress?.(reader.progress(), number_of('vm.stats.vm.v_free_count'), pages);
  }, PROGRESS_MS);
}

interface Played {
  read: TraceResult;
  totals: PlayerTotals[];
  /** From the first byte read to the last event played. */
  seconds: number;
}
/** Starts the players, then the reader, and waits for all of them. */
async function play(o: ReplayOptions, handle: PlayerStart['machine']): Promise<Played> {
  const turns = turns_buffer();
  const live = live_lines(o.cpus);
  const players = Array.from({ length: o.cpus }, (_, index) => new PlayerThread(handle, index));
  let reader: Reader | null = null;
  let timer: NodeJS.Timeout | null = null;
  try {
    await Promise.all(players.map((p) => p.up));
    reader = open_reader({
      files: o.files,
      cpus: o.cpus,
      type_by: o.type_by,
      strict: o.strict,
    });
    timer = progress_timer(o, reader);
    const started = reader.done.then((r) => performance.now() - r.read_seconds * 1000);
    started.catch(() => {}); // reported by whoever waits for the players
    for (const p of players) {
      p.start(reader, { players: o.cpus, verify: o.verify, turns, live });
    }
    const totals = await Promise.all(players.map((p) => p.end));
    const ended = performance.now();
    const read = await reader.done;
    const seconds = Math.max(read.read_seconds, (ended - (await started)) / 1000);
    return { read, totals, seconds };
  } catch (e) {
    // Not even a reader that waits for a silent pipe may hold us up.
    if (reader) await reader.abort();
    await Promise.all(players.map((p) => p.worker.terminate()));
    throw await first_cause(reader, e);
  } finally {
    if (timer) clearInterval(timer);
  }
}
/** Unreadable input also ends the players; the input is then what to report. */
async function first_cause(reader: Reader | null, e: unknown): Promise<unknown> {
  if (!reader) return e;
  return await reader.done.then(
    () => e,
    (cause) => (cause instanceof Error && /called off/.test(cause.message) ? e : cause),
  );
}

/** One player's thread, as its parent sees it. */
class PlayerThread {
  readonly worker: Worker;
  readonly index: number;
  readonly up: Promise<void>;
  readonly end: Promise<PlayerTotals>;
  #reader: Reader | null = null;

  constructor(machine: PlayerStart['machine'], index: number) {
    const start = { workerData: { machine } satisfies PlayerStart };
    this.index = index;
    this.worker = import.meta.url.endsWith('.ts')
      ? new Worker(new URL('./player_worker.ts', import.meta.url), start)
      : new Worker(new URL('./player_worker.js', import.meta.url), start);
    let is_up: () => void = () => {};
    let not_up: (e: Error) => void = () => {};
    this.up = new Promise((resolve, reject) => {
      is_up = resolve;
      not_up = reject;
    });
    this.end = new Promise((resolve, reject) => {
      let totals: PlayerTotals | null = null;
      const fail = (e: Error): void => {
        this.#reader?.reader_gone(index);
        not_up(e);
        reject(e);
      };
      this.worker.on('message', (m: PlayerTotals | 'up') => {
        if (m === 'up') is_up();
        else totals = m;
      });
      this.worker.on('error', (e: Error) => fail(player_error(index, e)));
      this.worker.on('exit', (code) => {
        if (totals) resolve(totals);
        else fail(player_error(index, new Error(`it ended early, with exit code ${code}`)));
      });
    });
    this.end.catch(() => {}); // whoever waits for `up` hears of it first
  }
  start(reader: Reader, task: Omit<PlayerTask, 'ring' | 'index'>): void {
    this.#reader = reader;
    this.worker.postMessage({ ...task, ring: reader.ring_handle, index: this.index });
  }
}

/** An error of the kernel as it is; any other with the CPU and the place, in one line. */
function player_error(index: number, e: Error): Error {
  if (e.name === 'KmemError' || e.name === 'KernelPanic') return e;
  const place = /([^/\s]+\.[jt]s:\d+)(:\d+)?\)?$/m.exec(e.stack ?? '')?.[1];
  const where = place && !place.startsWith('replay') ? ` (${place})` : '';
  const text = `the player on CPU ${index + 1} died: ${e.message}${where}`;
  return new PlayerError(text, { cause: e });
}

function outcome(
  o: ReplayOptions,
  read: TraceResult,
  totals: PlayerTotals[],
  seconds: number,
): ReplayOutcome {
  const sum = (f: (t: PlayerTotals) => number): number => totals.reduce((a, t) => a + f(t), 0);
  const pages = number_of('vm.stats.vm.v_page_count');
  const size = number_of('hw.physmem');
  const taken = (pages - number_of('vm.stats.vm.v_free_lowest')) * 4096;
  const programs = read.trace.format === 'mtrace' ? o.cpus : 1;
  const events = sum((t) => t.events);
  const busiest = Math.max(...totals.map((t) => t.play_seconds));
  const failed = sum((t) => t.failed);
  const requested = Math.max(...totals.map((t) => t.peak_requested_bytes));
  const memory: ReplayOutcome['memory'] = {
    size_bytes: size,
    kernel_peak_bytes: taken,
    fragmentation: taken > 0 ? Math.max(0, 1 - requested / taken) : 0,
  };
  if (failed > 0) {
    const blocks = Math.max(...totals.map((t) => t.peak_rounded_bytes)) * ENOUGH_SHARE;
    const kernel = size - pages * 4096 + ENOUGH_KERNEL + o.cpus * ENOUGH_EACH_CPU;
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
    cpus: o.cpus,
    verified: o.verify,
    complaints: totals.flatMap((t) => t.complaints),
  };
}
