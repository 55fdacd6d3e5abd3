/*
 * compare: one recording under several values of one setting, side by side.
 *
 *      value        a       b       c
 *      round 1      1 ───►  2 ───►  3
 *      round 2      6 ◄───  5 ◄───  4
 *
 * Each run is a machine of its own.  Times on a machine that others use, too,
 * mean little, so the values take turns, forth and back: what drifts touches all
 * of them alike.  What is told of a value is its faster round, a damaged one
 * before any other; both stand in the document.
 *
 * A figure is marked as the best of its row only if it means something: the runs
 * did the same work, none failed a request, and the value was clearly better in its
 * worse round than every other value in its better one.  Equal figures have no best.
 *
 * A value under which no machine comes up is a column without figures, unless it
 * is so for all.
 *
 * Recordings of heaps and of references to pages are compared; which figures they have, and what
 * the table calls these, is of each kind (HEAPS, and PAGES of vm/pages_compare.ts).
 */
import { sysctl_read } from '../../sys/observe/kern_sysctl.ts';
import type { ComparedOutcome, ReplayOptions, ReplayOutcome } from './replay.ts';
import { SourceError } from '../read/source.ts';
import { PAGES } from '../vm/pages_compare.ts';
import { is_pages_outcome, type PagesOutcome } from '../vm/pages_replay.ts';
import { count, mega, SPEED_MIN_EVENTS, title } from './verdict.ts';

/** What is varied. */
export interface Setting {
  /** A tunable, or memory, cpus, programs, type-by, verify, resident, readahead. */
  name: string;
  values: { text: string; options: (o: ReplayOptions) => ReplayOptions }[];
}

/** The verdict in figures, under the names of the document. */
export type Figures = Record<string, number | null>;

/** One value, with what a replay under it tells; of references to pages see PagesOutcome. */
export interface ComparedRun
  extends Partial<Omit<ReplayOutcome, 'trace'>>,
    Partial<Pick<PagesOutcome, 'vm' | 'resident' | 'readahead'>> {
  value: string;
  /** Why no machine came up under this value; then there is nothing else. */
  error?: string;
  verdict?: Figures;
  /** The verdicts of all rounds, in the order they were played. */
  rounds?: Figures[];
}
export interface Comparison {
  name: string;
  rounds: number;
  runs: ComparedRun[];
}
export interface Compared {
  trace: ComparedOutcome['trace'];
  compare: Comparison;
}

/** Rounds in which every value is played once. */
export const COMPARE_ROUNDS = 2;

/** What recordings of one kind have to compare. */
export interface Kind<Outcome> {
  readonly rows: readonly Row[];
  /** The verdict in figures; `machine`: what only the machine knew. */
  readonly figures: (out: Outcome, machine: Figures) => Figures;
  /** How much came out that must not. */
  readonly damage: (out: Outcome) => number;
  /** The first line of the table; null: what varies is how many CPUs play. */
  readonly title: (
    file: string,
    trace: ComparedOutcome['trace'],
    played: Pick<ReplayOutcome, 'cpus' | 'programs'> | null,
  ) => string;
}
export interface Row {
  key: string;
  label: string;
  text: (n: number) => string;
  /** Which way is better; null: neither. */
  best: 'least' | 'most' | null;
  /** Settings under which the figure differs because there is other work to do. */
  of_work?: readonly string[];
}
const share = (n: number): string => `${(n * 100).toFixed(1)} %`;
const PROGRAMS = ['programs'];
const ROWS: readonly Row[] = [
  { key: 'seconds', label: 'seconds', text: (n) => n.toFixed(2), best: 'least', of_work: PROGRAMS },
  { key: 'events_per_second', label: 'events/s', text: count, best: 'most' },
  { key: 'ns_per_event', label: 'ns an event', text: count, best: 'least' },
  { key: 'playing_ns_per_event', label: '  once decoded', text: count, best: 'least' },
  { key: 'peak_pages', label: 'pages at the peak', text: count, best: 'least', of_work: PROGRAMS },
  { key: 'fragmentation', label: '  not asked for', text: share, best: 'least', of_work: PROGRAMS },
  { key: 'end_pages', label: 'pages at the end', text: count, best: null },
  { key: 'cached_bytes', label: 'free in caches', text: mega, best: null },
  { key: 'fit_bytes', label: 'least memory', text: mega, best: 'least', of_work: PROGRAMS },
  { key: 'requests', label: 'requests served', text: count, best: null },
  { key: 'failed', label: '  failed', text: count, best: null },
  { key: 'never_freed_blocks', label: 'in use at the end', text: count, best: null },
  { key: 'never_freed_bytes', label: '  bytes, in size classes', text: count, best: null },
  { key: 'verify_errors', label: 'damaged blocks', text: count, best: null },
  { key: 'types', label: 'malloc types', text: count, best: null },
  { key: 'slab_headers', label: 'slab headers', text: count, best: null },
  { key: 'buckets', label: 'buckets', text: count, best: null },
  { key: 'reclaims', label: 'reclaims', text: count, best: null },
  { key: 'drains', label: 'drains of CPUs', text: count, best: null },
];

function counter(name: string): number {
  const bytes = sysctl_read(name);
  if (typeof bytes === 'number') return 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return bytes.byteLength === 4 ? view.getUint32(0, true) : Number(view.getBigUint64(0, true));
}

/** What only the machine knows, while it is up. */
function machine_figures(): Figures {
  return {
    end_pages: counter('vm.stats.vm.v_wire_count'),
    reclaims: counter('vm.reclaims'),
    drains: counter('vm.drains'),
    types: counter('kern.malloc_count'),
  };
}
function figures(out: ReplayOutcome, machine: Figures): Figures {
  const { heap, memory, time } = out;
  const zones = (name: RegExp): number =>
    heap.zones.filter((z) => name.test(z.name)).reduce((sum, z) => sum + z.used, 0);
  return {
    seconds: time.seconds,
    events_per_second: time.events_per_second,
    ns_per_event: time.ns_per_event,
    playing_ns_per_event: time.playing_ns_per_event,
    peak_pages: Math.round(memory.kernel_peak_bytes / 4096),
    fragmentation: memory.fragmentation,
    ...(memory.fit_bytes === undefined ? {} : { fit_bytes: memory.fit_bytes }),
    requests: heap.requests,
    failed: heap.failed,
    never_freed_blocks: heap.inuse,
    never_freed_bytes: heap.memuse,
    verify_errors: out.verified ? heap.verify_errors : null,
    types: (machine.types ?? 0) - heap.kernel.types.length,
    cached_bytes: heap.zones.reduce((sum, z) => sum + z.free * z.size, 0),
    slab_headers: zones(/^UMA (RCnt)?Slabs$/),
    buckets: zones(/^\d+ Bucket$/),
    end_pages: machine.end_pages,
    reclaims: machine.reclaims,
    drains: machine.drains,
  };
}

const HEAPS: Kind<ReplayOutcome> = {
  rows: ROWS,
  figures,
  damage: (out) => out.heap.verify_errors,
  title: (file, trace, played) => title(file, trace as ReplayOutcome['trace'], played),
};
/** What is compared of a recording of one kind or the other. */
function figures_of(out: ComparedOutcome, machine: Figures): Figures {
  return is_pages_outcome(out) ? PAGES.figures(out, machine) : HEAPS.figures(out, machine);
}
function damage_of(out: ComparedOutcome): number {
  return is_pages_outcome(out) ? PAGES.damage(out) : HEAPS.damage(out);
}
/** Whether a trace is one of references to pages. */
function of_pages(trace: Compared['trace']): boolean {
  return 'lru_curve' in trace;
}
/** Whether something came out of a comparison that must not. */
export function compared_damaged({ compare: c }: Compared): boolean {
  const damage = (f: Figures): boolean => (f.verify_errors ?? 0) + (f.pages_left ?? 0) > 0;
  return c.runs.some((r) => r.rounds?.some(damage));
}

/** Plays the trace in turns under each value.  `play`: what plays it once. */
export async function compare(
  o: ReplayOptions,
  setting: Setting,
  play: (o: ReplayOptions) => Promise<ComparedOutcome>,
  note: (text: string) => void,
): Promise<Compared> {
  const played: Round[][] = setting.values.map(() => []);
  const errors: (Error | null)[] = setting.values.map(() => null);
  for (let round = 0; round < COMPARE_ROUNDS; round++) {
    const order = [...setting.values.keys()];
    if (round % 2 === 1) order.reverse();
    for (const i of order) {
      const { text, options } = setting.values[i];
      note(`${setting.name}=${text}, round ${round + 1} of ${COMPARE_ROUNDS}`);
      try {
        if (errors[i] === null) played[i].push(await play_round(options(o), play));
      } catch (e) {
        errors[i] = no_machine(e, `${setting.name}=${text}`);
      }
    }
  }
  const first = played.flat()[0];
  if (first && setting.name === 'cpus' && plays_on_one(first.outcome)) {
    const reason = 'is a recording with one thread, which plays on one CPU';
    const advice = 'compare programs=1,2,… to play it several times at once';
    throw new SourceError(String(o.names ?? o.files), null, reason, advice);
  }
  if (first === undefined) throw errors[0];
  const runs = setting.values.map(({ text }, i) => compared_run(text, played[i], errors[i]));
  return {
    trace: first.outcome.trace,
    compare: { name: setting.name, rounds: COMPARE_ROUNDS, runs },
  };
}

/** Whether a recording plays on one CPU, however many there are. */
function plays_on_one(out: ComparedOutcome): boolean {
  return !is_pages_outcome(out) && out.trace.threads === undefined;
}
interface Round {
  outcome: ComparedOutcome;
  figures: Figures;
}
async function play_round(
  o: ReplayOptions,
  play: (o: ReplayOptions) => Promise<ComparedOutcome>,
): Promise<Round> {
  let machine: Figures = {};
  const inspect = (): void => {
    machine = machine_figures();
    o.inspect?.();
  };
  const outcome = await play({ ...o, inspect });
  return { outcome, figures: figures_of(outcome, machine) };
}

/** A machine that cannot come up is a finding; anything else ends the comparison. */
function no_machine(e: unknown, value: string): Error {
  if (!(e instanceof Error)) throw e;
  if (e.name === 'KmemError') return e;
  if (e.name === 'KernelPanic') e.message = `${value}: ${e.message}`;
  throw e;
}

function compared_run(value: string, rounds: Round[], error: Error | null): ComparedRun {
  if (error !== null) return { value, error: error.message };
  const damage = (r: Round): number => damage_of(r.outcome);
  const speed = (r: Round): number => r.outcome.time.seconds;
  const kept = [...rounds].sort((a, b) => damage(b) - damage(a) || speed(a) - speed(b))[0];
  const { trace, ...outcome } = kept.outcome;
  // What both kinds have under one name differs by some fields.
  const told = outcome as Partial<Omit<ReplayOutcome, 'trace'>>;
  return { value, verdict: kept.figures, ...told, rounds: rounds.map((r) => r.figures) };
}

// --- the table -----------------------------------------------------------------------------

/** The table of a comparison. */
export function compare_text(file: string, { trace, compare: c }: Compared): string {
  const { runs } = c;
  const { rows, title } = of_pages(trace) ? PAGES : HEAPS;
  const played = runs.find((r) => r.cpus !== undefined);
  const { cpus = 1, programs = 1 } = played ?? {};
  const varied = c.name === 'cpus' || c.name === 'programs';
  const lines = [[c.name, ...runs.map((r) => `${r.value}  `)]];
  let marked = false;
  for (const row of rows) {
    const values = runs.map((r) => r.verdict?.[row.key]);
    if (values.every((v) => v === undefined)) continue;
    const best = best_run(row, trace, c);
    marked ||= best >= 0;
    lines.push([row.label, ...values.map((v, i) => cell(row, v) + (i === best ? ' *' : '  '))]);
  }
  const widths = lines[0].map((_, i) => Math.max(...lines.map((line) => line[i].length)));
  let text = `${title(file, trace, varied ? null : { cpus, programs })}\n`;
  for (const [label, ...cells] of lines) {
    const columns = cells.map((text, i) => text.padStart(widths[i + 1] + 2));
    text += `  ${label.padEnd(widths[0])}${columns.join('')}`.trimEnd() + '\n';
  }
  for (const r of runs) if (r.error !== undefined) text += `  ${r.value}: ${r.error}\n`;
  if (trace.event_lines < SPEED_MIN_EVENTS) text += '  too short to speak of speed\n';
  text += `  ${c.rounds} rounds, forth and back; figures of each value's faster round\n`;
  if (marked) text += '  * better by 2 % or more in each round than any other value in any\n';
  return text;
}
function cell(row: Row, value: number | null | undefined): string {
  if (value === null && row.key === 'fit_bytes') return 'none';
  return value === null || value === undefined ? '-' : row.text(value);
}

/** A best figure is better than any other by this factor. */
const CLEARLY = 1.02;
const SPEEDS = /seconds|second$|ns_per_event/;

/** The run whose figure is clearly the best of the row; -1: there is none. */
export function best_run(
  row: Pick<Row, 'key' | 'best' | 'of_work'>,
  trace: Compared['trace'],
  c: Comparison,
): number {
  if (row.best === null) return -1;
  if (row.of_work?.includes(c.name)) return -1;
  if (SPEEDS.test(row.key) && trace.event_lines < SPEED_MIN_EVENTS) return -1;
  const ranges = c.runs.map((r, i) => {
    const rounds = r.rounds ?? [];
    const found = rounds.map((f) => f[row.key]).filter((n) => typeof n === 'number');
    const whole = rounds.length > 0 && found.length === rounds.length;
    const sound = whole && rounds.every((f) => f.failed === 0);
    return { i, sound, low: Math.min(...found), high: Math.max(...found) };
  });
  const beats = (a: (typeof ranges)[0], b: (typeof ranges)[0]): boolean =>
    row.best === 'least' ? a.high * CLEARLY < b.low : a.low > b.high * CLEARLY;
  const sound = ranges.filter((r) => r.sound);
  if (sound.length < 2) return -1;
  const best = sound.find((r) => sound.every((other) => other === r || beats(r, other)));
  return best?.i ?? -1;
}
