/*
 * packets: packets from one thread to another, beside Buffers and postMessage.
 *
 * One operation is one packet of the bundled capture: received, its headers looked
 * at, handed over, sent by reference, kept a while, let go, every byte hashed.  The
 * hash is the same call on all sides.
 */
import { fileURLToPath } from 'node:url';
import type { Result } from './alloc.ts';
import { find_nodes, type Node, US } from './competitors.ts';
import { type Competitor, measure, type Outcome, type Plan, ratios, type Row } from './harness.ts';
import { machine_line } from './markdown.ts';

const PATTERN = 'packets';
const PEERS: readonly [name: string, kind: string][] = [
  ['postMessage', 'clone'],
  ['postMessage, transferred', 'transfer'],
  ['postMessage, 64 at once, transferred', 'batch'],
];

const file = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const tagged = (name: string, node: Node): string => `${name} @${node.version}`;

function competitors(node: Node): Competitor[] {
  const one = (name: string, script: string, ...more: string[]): Competitor => ({
    name: tagged(name, node),
    command: node.binary,
    args: ['--no-warnings', file(script), ...more],
    patterns: [PATTERN],
  });
  const peers = PEERS.map(([name, kind]) => one(name, './peers/packets_js.ts', kind));
  return [one(US, './us_packets.ts'), ...peers];
}

function row_of(outcomes: readonly Outcome[], node: Node, suffix: string): Row {
  const min = (name: string): number | undefined =>
    outcomes.find((o) => o.name === tagged(name, node))?.figures.get(PATTERN)?.min;
  const us = min(US) ?? null;
  const peers = Object.fromEntries(
    PEERS.flatMap(([name]): [string, number][] => {
      const ns = min(name);
      return ns === undefined ? [] : [[name, ns]];
    }),
  );
  const ratio = ratios(us, peers);
  return { bench: PATTERN, pattern: PATTERN + suffix, unit: 'ns', us, peers, ratio };
}

const rate = (ns: number): string => `${Math.round(1e9 / ns).toLocaleString('en-US')} packets/s`;

/** Runs the bench; some lines for each Node. */
export async function bench_packets(
  plan: Plan,
  say: (line: string) => void,
  progress: (text: string) => void,
): Promise<Result> {
  const nodes = find_nodes(say);
  const outcomes = await measure(nodes.flatMap(competitors), [PATTERN], plan, progress);
  for (const { name, problem } of outcomes) if (problem !== undefined) say(`${name}: ${problem}`);
  const rows = nodes.map((node, i) => {
    const row = row_of(outcomes, node, i === 0 ? '' : `@${node.version}`);
    const { us, peers } = row;
    say(`\nNode ${node.version}; ${plan.rounds} rounds; through two threads`);
    if (us !== null) say(`${US.padEnd(38)}${rate(us)}`);
    for (const [name, ns] of Object.entries(peers)) {
      const times = us === null ? '' : `   we are ${(ns / us).toFixed(1)} times as fast`;
      say(`${name.padEnd(38)}${rate(ns)}${times}`);
    }
    return row;
  });
  return { rows, versions: nodes.map((node) => node.version) };
}

/** The table for a page. */
export function packets_markdown(
  rows: readonly Row[],
  versions: readonly string[],
  rounds: number,
): string[] {
  const lines = [
    '',
    '| packets through two threads | a second | kmem is faster, times |',
    '|---|--:|--:|',
  ];
  for (const { pattern, us, peers } of rows) {
    const [, node] = pattern.split('@');
    const where = node === undefined ? '' : ` (Node ${node})`;
    const all: [string, number | null][] = [[US, us], ...Object.entries(peers)];
    for (const [name, ns] of all) {
      const times = us === null || ns === null || name === US ? '' : (ns / us).toFixed(1);
      lines.push(`| ${name}${where} | ${ns === null ? '–' : rate(ns)} | ${times} |`);
    }
  }
  return [
    ...lines,
    '',
    `Minimum of ${rounds} interleaved rounds; Node ${versions.join(' and ')}; ${machine_line()}.`,
  ];
}
