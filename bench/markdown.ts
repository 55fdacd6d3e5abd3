/*
 * markdown: the README's table, out of the rows of a run.
 *
 * One table for each Node: a line for each peer, a column for each pattern, in
 * each cell our time divided by the peer's.  Below 1 we are faster.  The last
 * line says on what it was measured: without that a ratio is worth little.
 */
import { cpus, release, type as system } from 'node:os';
import type { Row } from './harness.ts';

const COLUMNS: readonly [string, string][] = [
  ['a', 'a'],
  ['b', 'b'],
  ['c', 'c'],
  ['d', 'd'],
  ['geomean', '**mean**'],
  ['a2', 'a, two threads'],
  ['b2', 'b, two threads'],
  ['x', 'handed over one by one'],
  ['xb', 'handed over in batches'],
];
const US = 'kmem itself, ns';
const NONE = '–';

export function machine_line(): string {
  const all = cpus();
  const model = all[0]?.model.trim().replace(/\s+/g, ' ') ?? 'unknown processor';
  return `${all.length} CPUs (${model}), ${system()} ${release()}`;
}

function line(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}

function ratio(n: number | undefined): string {
  if (n === undefined) return NONE;
  return n < 0.095 ? n.toFixed(3) : n.toFixed(2);
}

/** The table of the Node whose patterns end with `suffix`. */
function table(rows: readonly Row[], suffix: string): string[] {
  const row = (pattern: string): Row | undefined =>
    rows.find((one) => one.pattern === pattern + suffix);
  const replays = rows
    .map(({ pattern }) => pattern)
    .filter((p) => p.startsWith('replay:') && (suffix === '' ? !p.includes('@') : true))
    .filter((p) => p.endsWith(suffix))
    .map((p): [string, string] => {
      const bare = p.slice(0, p.length - suffix.length);
      return [bare, bare.replace(':', ' ')];
    });
  const columns = [...COLUMNS, ...replays].filter(([pattern]) => row(pattern) !== undefined);
  const peers = new Set(columns.flatMap(([pattern]) => Object.keys(row(pattern)!.peers)));
  const ours = columns.map(([pattern]) => row(pattern)!.us?.toFixed(1) ?? NONE);
  return [
    line(['kmem / peer', ...columns.map(([, title]) => title)]),
    line(['---', ...columns.map(() => '--:')]),
    ...[...peers].map((peer) =>
      line([peer, ...columns.map(([pattern]) => ratio(row(pattern)!.ratio[peer]))]),
    ),
    line([US, ...ours]),
  ];
}

/** The whole text. */
export function markdown(
  rows: readonly Row[],
  versions: readonly string[],
  rounds: number,
): string[] {
  const tables = versions.flatMap((version, i) => [
    '',
    `Node ${version}:`,
    '',
    ...table(rows, i === 0 ? '' : `@${version}`),
  ]);
  const how = `minimum of ${rounds} interleaved rounds, statistics on`;
  return [...tables, '', `Our time divided by the peer's; ${how}; ${machine_line()}.`];
}
