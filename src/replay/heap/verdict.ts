/*
 * verdict: the outcome of a replay for people, and the progress line.
 *
 * It has two parts.  The first tells of the recording: bytes as the program asked for
 * them, blocks by call site, the peak and when it was, what was never freed and what
 * lived for a moment only.  None of it depends on how the recording is played.  The
 * second tells of the machine that played it, whose blocks are of size classes, and whose
 * memory is pages.
 */
import type { ReplayOutcome } from './replay.ts';
import type { RingProgress } from '../ring/ring.ts';
import type { SiteRow, TraceDocument } from '../read/trace_stats.ts';
import { short_site } from '../read/type_names.ts';
import { row, type ROWS } from '../rows.ts';

const MB = 2 ** 20;
const PAGE_BYTES = 4096;
/** Call sites shown by what they never freed, and by another figure. */
const LEAKS_SHOWN = 5;
const SITES_SHOWN = 3;
/** Speeds of shorter traces say how fast the code gets warm, and nothing else. */
export const SPEED_MIN_EVENTS = 10_000;

export function mega(bytes: number): string {
  if (bytes < MB / 10) return `${(bytes / 1024).toFixed(bytes > 0 && bytes < 10240 ? 1 : 0)}K`;
  return bytes >= 10 * MB ? `${(bytes / MB).toFixed(0)}M` : `${(bytes / MB).toFixed(2)}M`;
}
export function count(n: number): string {
  return Math.round(n).toLocaleString('en-US');
}
export function counted(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** CPUs as they are numbered; the machine's CPU 0 watches. */
export function cpu_list(cpus: number): string {
  if (cpus === 1) return 'CPU 1';
  return cpus === 2 ? 'CPUs 1 and 2' : `CPUs 1 to ${cpus}`;
}
/** What the trace was; and, unless that is what varies, how it was played. */
export function title(
  file: string,
  trace: TraceDocument,
  played: Pick<ReplayOutcome, 'cpus' | 'programs'> | null,
): string {
  const { threads } = trace;
  const of_threads = threads === undefined ? '' : ` of ${counted(threads, 'thread')}`;
  const events = `${counted(trace.event_lines, 'event')}${of_threads}`;
  const what = `${short_name(file)}: ${trace.format}, ${events}`;
  if (played === null) return what;
  const { cpus, programs } = played;
  const who = programs > 1 ? `by ${programs} programs at once` : 'once';
  return `${what}, played ${who} on ${cpu_list(cpus)}`;
}

/**
 * The verdict: what the trace says, and what the machine had of it.  `asked` are the CPUs that
 * somebody said are to play; there may be nothing to play for some of them.
 */
export function verdict(file: string, out: ReplayOutcome, asked = out.cpus): string {
  const { trace, cpus } = out;
  const few = `${cpus} of ${asked}: one thread was recorded (--programs ${asked} plays it on each)`;
  const note = cpus < asked ? row('CPUs', few) : '';
  return `${title(file, trace, out)}\n${note}${recording(trace)}${machine(out)}`;
}
/** A path's last part, or what standard input is called. */
export function short_name(file: string): string {
  return file === '-' ? 'standard input' : (file.split('/').pop() ?? file);
}

// --- the recording -------------------------------------------------------------------------

function recording(trace: TraceDocument): string {
  const served = trace.acquisitions;
  const kinds = trace.threads === undefined ? 'call site' : 'kind'; // such a trace has no callers
  const from = counted(trace.call_sites ?? 0, kinds);
  const all = `${count(served)} for ${bytes(trace.requested_bytes_total)}, of ${from}`;
  let text =
    ' the recording, in bytes asked for\n' + row('requests', all) + row('peak', peak(trace));
  const share = served === 0 ? 0 : (100 * trace.temporary) / served;
  const soon = 'freed by the next event';
  text += row('temporary', `${counted(trace.temporary, 'block')} (${share.toFixed(0)} %), ${soon}`);
  const { never_freed_blocks: blocks, never_freed_bytes: lost } = trace;
  const leaked = `${bytes(lost)} in ${counted(blocks, 'block')}`;
  text += row('never freed', blocks === 0 ? 'none: every block was freed' : leaked);
  text += sites('most of it by', trace.top_never_freed_sites, LEAKS_SHOWN, in_blocks);
  text += sites('peak held by', trace.top_call_sites_at_peak, SITES_SHOWN, in_blocks);
  const calls = ([, n, of]: SiteRow): string => `${counted(n, 'request')} for ${bytes(of)}`;
  text += sites('most calls by', trace.top_call_sites_by_requests, SITES_SHOWN, calls);
  return text + oddities(trace);
}
function bytes(n: number): string {
  return counted(n, 'byte');
}
/** How much was live at most, and when that was. */
function peak(trace: TraceDocument): string {
  const { peak_live_bytes, live_blocks_at_peak_bytes, peak_live_bytes_at_event: at } = trace;
  const what = `${bytes(peak_live_bytes)} in ${counted(live_blocks_at_peak_bytes, 'block')}`;
  const { peak_live_ms: ms, recorded_ms: all } = trace;
  if (ms !== undefined && all !== undefined) {
    return `${what}, after ${(ms / 1000).toFixed(2)} of ${(all / 1000).toFixed(2)} s`;
  }
  const part = trace.event_lines === 0 ? 0 : (100 * at) / trace.event_lines;
  return `${what}, at event ${count(at)} (${part.toFixed(0)} %)`;
}
function in_blocks([, n, of]: SiteRow): string {
  return `${bytes(of)} in ${counted(n, 'block')}`;
}
function sites(
  label: keyof typeof ROWS,
  rows: readonly SiteRow[] | undefined,
  most: number,
  figures: (row: SiteRow) => string,
): string {
  const shown = (rows ?? []).slice(0, most).map((r) => [figures(r), short_site(r[0])]);
  const wide = Math.max(0, ...shown.map(([what]) => what.length));
  return shown
    .map(([what, by], i) => row(i === 0 ? label : '', `${what.padEnd(wide)}  ${by}`))
    .join('');
}
/** Where nothing more could be read of the trace, and why. */
export function damage_row(trace: Pick<TraceDocument, 'damaged_at' | 'damage'>): string {
  const { damaged_at, damage = '' } = trace;
  if (damaged_at === undefined) return '';
  const why = damage.replace(/^.*?: (byte \d+: )?/, ''); // the title names the file
  return row('recording', `damaged, played up to byte ${count(damaged_at)}: ${why}`);
}
/** What is unusual about it. */
function oddities(trace: TraceDocument): string {
  const odd = [
    counted_odd(trace.malformed_lines, 'malformed line'),
    counted_odd(trace.free_of_unknown, 'free of an unknown block', 'frees of unknown blocks'),
    counted_odd(
      trace.realloc_of_unknown,
      'realloc of an unknown block',
      'reallocs of unknown blocks',
    ),
    counted_odd(
      trace.acquired_while_live,
      'block obtained while live',
      'blocks obtained while live',
    ),
    counted_odd(trace.failed, 'request refused when recorded', 'requests refused when recorded'),
  ].filter((what) => what !== '');
  const damage = damage_row(trace);
  const label = (i: number): 'recording' | '' => (i + damage.length === 0 ? 'recording' : '');
  let text = damage + odd.map((what, i) => row(label(i), what)).join('');
  const first = trace.malformed[0];
  if (first !== undefined) text += row('', `first: ${first}`);
  return text;
}
function counted_odd(n: number, one: string, many?: string): string {
  return n > 0 ? counted(n, one, many) : '';
}

// --- the machine ---------------------------------------------------------------------------

function machine(out: ReplayOutcome): string {
  const { heap, memory, programs } = out;
  const whose = programs > 1 ? `, of the ${programs} programs together` : '';
  let text = ` the machine, in size classes${whose}\n`;
  text += row(
    'memory',
    `${mega(memory.kernel_peak_bytes)} of ${mega(memory.size_bytes)} taken at the peak, ` +
      `${(memory.fragmentation * 100).toFixed(1)} % of it not asked for`,
  );
  if (memory.fit_bytes === null) text += row('fit', 'none: this memory is too small');
  else if (memory.fit_bytes !== undefined) {
    text += row('fit', `${mega(memory.fit_bytes)} is the least that plays without a failure`);
  }
  text += row('requests', `${count(heap.requests)} served, ${count(heap.failed)} failed`);
  const held = `${bytes(heap.memuse)} in ${counted(heap.inuse, 'block')}`;
  text += row('in use', `${held} at the end`);
  if (memory.estimated_enough_bytes !== undefined) {
    const enough = `about ${mega(memory.estimated_enough_bytes)} would be enough`;
    text += row('too small', `${enough} (estimated; --fit finds out)`);
  }
  text += row('contents', contents(out));
  for (const c of out.complaints) text += row('', c);
  return text + row('time', speed(out));
}
function speed({ trace, time }: ReplayOutcome): string {
  const seconds = `${time.seconds.toFixed(2)} s`;
  if (trace.event_lines < SPEED_MIN_EVENTS) return `${seconds}, too short to speak of speed`;
  const each = `${time.playing_ns_per_event.toFixed(0)} ns an event once decoded`;
  return `${seconds}, ${count(time.events_per_second)} events/s, ${each}`;
}
function contents({ heap, verified }: ReplayOutcome): string {
  if (!verified) return 'not looked at (--no-verify)';
  if (heap.verify_errors === 0) return 'every block held what was written into it';
  return `${counted(heap.verify_errors, 'BLOCK WAS', 'BLOCKS WERE')} DAMAGED`;
}

/** Seconds as people count them. */
function lasting(seconds: number): string {
  const s = Math.ceil(seconds);
  return s < 100 ? `${s} s` : `${Math.ceil(s / 60)} min`;
}
/** Progress that is shown at once; a rest is told when its length is no mere guess. */
const REST_AFTER_MS = 500;

/** One line that is written over, on a terminal only. */
export function progress_line(
  to: NodeJS.WriteStream,
  on: boolean,
  file: string,
): {
  show: (p: RingProgress, free: number, pages: number) => void;
  note: (text: string) => void;
  end: () => void;
} {
  const live = on && to.isTTY === true;
  const name = short_name(file);
  let prefix = '';
  let began = performance.now();
  let read_before = 0;
  /** How long it will still take, as fast as it went so far. */
  const rest = (p: RingProgress): string => {
    if (p.bytes_read < read_before) began = performance.now(); // the next of several runs
    read_before = p.bytes_read;
    const ms = performance.now() - began;
    if (ms < REST_AFTER_MS || p.bytes_read === 0 || p.bytes_total === 0) return '';
    const left = (ms / 1000) * (p.bytes_total / p.bytes_read - 1);
    return left > 0 ? `, ${lasting(left)} left` : '';
  };
  const write = (text: string): void => {
    if (live) to.write(`\r${text.slice(0, (to.columns ?? 80) - 1)}\x1b[K`);
  };
  return {
    show: (p, free, pages) => {
      const part =
        p.bytes_total > 0 ? `${((100 * p.bytes_read) / p.bytes_total).toFixed(0)} %, ` : '';
      const taken = mega((pages - free) * PAGE_BYTES);
      write(`${prefix}${name}: ${part}${count(p.events)} events${rest(p)}, ${taken} taken`);
    },
    note: (text) => {
      prefix = `${text}: `;
      write(text);
    },
    end: () => {
      if (live) to.write('\r\x1b[K');
    },
  };
}
