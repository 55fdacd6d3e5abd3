/*
 * report: the tables of the bench `alloc` for one Node, and the same as rows.
 *
 * Ratios are ours divided by the peer's, both minima of the same run.  In the
 * rows patterns of another Node than this one are named `a@v22.18.0`.
 */
import { BASE, type Node, name_for, OURS, US, US_BOOTED, US_REBOOTED } from './competitors.ts';
import { type EventFile, replay_pattern } from './event_file.ts';
import { type Figure, geometric_mean, type Outcome, type Row, ratios } from './harness.ts';

const BENCH = 'alloc';
const REBOOT = 'reboot';
const NAME_COLUMNS = 25;

/** Each table: our pattern, the peers' pattern it is held against, and its meaning. */
const TABLES: readonly { us: string; peer: string; title: string }[] = [
  { us: 'a', peer: 'a', title: '64 B, allocated and freed at once' },
  { us: 'b', peer: 'b', title: '64 allocations, then 64 frees, last first' },
  { us: 'c', peer: 'c', title: '1000 live objects, the oldest replaced' },
  { us: 'd', peer: 'd', title: '10 000 live objects of 16..2048 B, a random one replaced' },
  { us: 'za', peer: 'a', title: 'pattern a from a zone; peers as in a' },
  { us: 'zb', peer: 'b', title: 'pattern b from a zone; peers as in b' },
  { us: 'zc', peer: 'c', title: 'pattern c from a zone; peers as in c' },
  { us: 'a2', peer: 'a2', title: 'pattern a in two threads, each' },
  { us: 'b2', peer: 'b2', title: 'pattern b in two threads, each' },
  { us: 'x', peer: 'x', title: 'one thread allocates, another frees, a flag for each object' },
  { us: 'xb', peer: 'xb', title: 'one thread allocates, another frees, 64 at a time' },
];

/** Two-thread figures held against one thread of the same competitor. */
const SLOWDOWNS: readonly [string, string][] = [
  ['a2', 'a'],
  ['b2', 'b'],
];

/** Figures of one competitor name, from all its processes. */
export type Sheet = Map<string, Map<string, Figure>>;

export function sheet_of(outcomes: readonly Outcome[], node: Node): Sheet {
  const sheet: Sheet = new Map();
  for (const outcome of outcomes) {
    const name = name_for(outcome.name, node);
    if (name === undefined) continue;
    const figures = sheet.get(name) ?? new Map<string, Figure>();
    for (const [pattern, figure] of outcome.figures) figures.set(pattern, figure);
    sheet.set(name, figures);
  }
  return sheet;
}

function cell(n: number | undefined): string {
  return (n === undefined ? '-' : n.toFixed(n < 100 ? 2 : 0)).padStart(10);
}

function print_table(
  head: string,
  columns: readonly string[],
  rows: readonly [string, ...(number | undefined)[]][],
  say: (line: string) => void,
): void {
  say('');
  say(head);
  say(''.padEnd(NAME_COLUMNS + 2) + columns.map((c) => c.padStart(10)).join(''));
  for (const [name, ...cells] of rows)
    say(`  ${name.padEnd(NAME_COLUMNS)}${cells.map(cell).join('')}`);
}

/** Tables and rows for one Node. */
export class Report {
  readonly rows: Row[] = [];
  private readonly sheet: Sheet;
  private readonly suffix: string;
  private readonly traces: readonly EventFile[];
  private readonly say: (line: string) => void;

  constructor(
    sheet: Sheet,
    traces: readonly EventFile[],
    suffix: string,
    say: (line: string) => void,
  ) {
    this.sheet = sheet;
    this.traces = traces;
    this.suffix = suffix;
    this.say = say;
  }

  private min(name: string, pattern: string): number | undefined {
    return this.sheet.get(name)?.get(pattern)?.min;
  }

  private peers(value: (name: string) => number | undefined): Record<string, number> {
    const found: Record<string, number> = {};
    for (const name of this.sheet.keys()) {
      const n = OURS.includes(name) ? undefined : value(name);
      if (n !== undefined) found[name] = n;
    }
    return found;
  }

  private add(pattern: string, unit: string, us: number | null, peers: Row['peers']): Row {
    const ratio = ratios(us, peers);
    const row = { bench: BENCH, pattern: pattern + this.suffix, unit, us, peers, ratio };
    this.rows.push(row);
    return row;
  }

  /** One value for each competitor, and our ratio to it. */
  private simple(
    pattern: string,
    title: string,
    unit: string,
    us: number | null,
    peers: Row['peers'],
  ): void {
    const row = this.add(pattern, unit, us, peers);
    if (us === null && Object.keys(peers).length === 0) return;
    const lines = Object.entries(peers).map(([name, n]): [string, number, number | undefined] => [
      name,
      n,
      row.ratio[name],
    ]);
    const head = `${row.pattern}: ${title}`;
    print_table(head, [unit, 'us/peer'], [[US, us ?? undefined, undefined], ...lines], this.say);
  }

  private table(us: string, peer: string, title: string): void {
    const mine = this.sheet.get(US)?.get(us);
    const peers = this.peers((name) => this.min(name, peer));
    const row = this.add(us, 'ns', mine?.min ?? null, peers);
    const nothing = Object.keys(peers).length === 0 || us !== peer;
    if (mine === undefined && nothing) return;
    const lines = Object.keys(peers).map((name): [string, ...(number | undefined)[]] => {
      const figure = this.sheet.get(name)!.get(peer)!;
      return [name, figure.min, figure.median, row.ratio[name]];
    });
    print_table(
      `${row.pattern}: ${title}`,
      ['ns min', 'ns median', 'us/peer'],
      [[US, mine?.min, mine?.median, undefined], ...lines],
      this.say,
    );
  }

  private mean(name: string): number | undefined {
    const all = BASE.map((pattern) => this.min(name, pattern));
    return all.includes(undefined) ? undefined : geometric_mean(all as number[]);
  }

  private slowdown(name: string, two: string, one: string): number | undefined {
    const [slow, fast] = [this.min(name, two), this.min(name, one)];
    return slow === undefined || fast === undefined ? undefined : slow / fast;
  }

  all(): void {
    for (const { us, peer, title } of TABLES) this.table(us, peer, title);
    for (const { name, events, types } of this.traces) {
      const pattern = replay_pattern(name);
      const title = `a recorded heap of ${events} events, ${types} types; ns per event`;
      this.table(pattern, pattern, title);
    }
    for (const [two, one] of SLOWDOWNS) {
      const of = (name: string): number | undefined => this.slowdown(name, two, one);
      const title = `${two} divided by ${one}: what a second thread costs each`;
      this.simple(`${two}/${one}`, title, 'times', of(US) ?? null, this.peers(of));
    }
    const first = this.min(US_BOOTED, 'a');
    const again = this.min(US_REBOOTED, 'a') ?? null;
    const title = 'pattern a on a second machine in the same thread';
    const peers: Row['peers'] = first === undefined ? {} : { 'first machine': first };
    this.simple(REBOOT, title, 'ns', again, peers);
    const mean = (name: string): number | undefined => this.mean(name);
    this.simple('geomean', 'geometric mean of a-d', 'ns', mean(US) ?? null, this.peers(mean));
  }
}
