/*
 * verdict: the outcome of a replay for people, and the progress line.
 */
import type { ReplayOutcome } from './replay.ts';
import type { RingProgress } from './ring.ts';
import type { TraceDocument } from './trace_stats.ts';

const MB = 2 ** 20;
const PAGE_BYTES = 4096;
const LEAKS_SHOWN = 5;
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
export function row(label: string, text: string): string {
  return `  ${label.padEnd(14)}${text}\n`;
}

/** What the trace was; and, unless that is what varies, how it was played. */
export function title(file: string, trace: TraceDocument, cpus: number | null): string {
  const what = `${short_name(file)}: ${trace.format}, ${counted(trace.event_lines, 'event')}`;
  if (cpus === null) return what;
  const { threads } = trace;
  const who = threads === undefined ? counted(cpus, 'program') : counted(threads, 'thread');
  return `${what}, played as ${who} on ${counted(cpus, 'CPU')}`;
}

/** The verdict: what the trace was, what it cost, how memory held, what leaked. */
export function verdict(file: string, out: ReplayOutcome): string {
  const { trace, heap, memory } = out;
  let text = `${title(file, trace, out.cpus)}\n`;
  text += row('time', speed(out));
  text += row(
    'memory',
    `${mega(memory.kernel_peak_bytes)} of ${mega(memory.size_bytes)} taken at the peak, ` +
      `${(memory.fragmentation * 100).toFixed(1)} % of it not asked for`,
  );
  if (memory.fit_bytes === null) text += row('fit', 'none: this memory is too small');
  else if (memory.fit_bytes !== undefined) {
    text += row('fit', `${mega(memory.fit_bytes)} is the least that plays without a failure`);
  }
  text += row(
    'requests',
    `${count(heap.requests)} served, ${count(heap.failed)} failed; ` +
      `${counted(heap.inuse, 'block')} (${mega(heap.memuse)}) never freed`,
  );
  return text + health(out) + leaks(out);
}
/** A path's last part, or what standard input is called. */
export function short_name(file: string): string {
  return file === '-' ? 'standard input' : (file.split('/').pop() ?? file);
}
function speed({ trace, time }: ReplayOutcome): string {
  const seconds = `${time.seconds.toFixed(2)} s`;
  if (trace.event_lines < SPEED_MIN_EVENTS) return `${seconds}, too short to speak of speed`;
  const each = `${time.playing_ns_per_event.toFixed(0)} ns an event once decoded`;
  return `${seconds}, ${count(time.events_per_second)} events/s, ${each}`;
}
/** Where nothing more could be read of the trace, and why. */
export function damage_row(trace: Pick<TraceDocument, 'damaged_at' | 'damage'>): string {
  const { damaged_at, damage } = trace;
  if (damaged_at === undefined) return '';
  const text = `damaged, played up to byte ${count(damaged_at)}`;
  return row('recording', text) + row('', damage ?? '');
}
function contents({ heap, verified }: ReplayOutcome): string {
  if (!verified) return 'not looked at (--no-verify)';
  if (heap.verify_errors === 0) return 'every block held what was written into it';
  return `${counted(heap.verify_errors, 'BLOCK WAS', 'BLOCKS WERE')} DAMAGED`;
}
function health(out: ReplayOutcome): string {
  const { trace, memory } = out;
  let text = row('contents', contents(out));
  for (const c of out.complaints) text += row('', c);
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
  text += damage;
  for (const [i, what] of odd.entries()) {
    text += row(i + damage.length === 0 ? 'recording' : '', what);
  }
  const first = trace.malformed[0];
  if (first !== undefined) text += row('', `first: ${first}`);
  if (memory.estimated_enough_bytes !== undefined) {
    const enough = `about ${mega(memory.estimated_enough_bytes)} would be enough`;
    text += row('too small', `${enough} (estimated; --fit finds out)`);
  }
  return text;
}
function counted_odd(n: number, one: string, many?: string): string {
  return n > 0 ? counted(n, one, many) : '';
}
function leaks(out: ReplayOutcome): string {
  const held = out.heap.types.filter((t) => t.inuse > 0).sort((a, b) => b.memuse - a.memuse);
  if (held.length === 0) return row('leaks', 'none: every block was freed');
  let text = '';
  for (const [i, t] of held.slice(0, LEAKS_SHOWN).entries()) {
    const what = `${count(t.memuse)} bytes in ${counted(t.inuse, 'block')} by ${t.name}`;
    text += row(i === 0 ? 'never freed' : '', what);
  }
  const more = held.length - LEAKS_SHOWN;
  if (more > 0) text += row('', `and ${counted(more, 'more type')}`);
  return text;
}

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
  const write = (text: string): void => {
    if (live) to.write(`\r${text.slice(0, (to.columns ?? 80) - 1)}\x1b[K`);
  };
  return {
    show: (p, free, pages) => {
      const part =
        p.bytes_total > 0 ? `${((100 * p.bytes_read) / p.bytes_total).toFixed(0)} %, ` : '';
      const taken = mega((pages - free) * PAGE_BYTES);
      write(`${prefix}${name}: ${part}${count(p.events)} events, ${taken} taken`);
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
