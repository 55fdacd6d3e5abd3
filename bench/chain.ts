/*
 * chain: buffer chains beside Buffers and the package bl, in one interleaved run.
 *
 * For `share` and `build` bl plays with each of its two calls that copy by
 * reference; the kernel's calls and the façade's stand in rows of their own.
 */
import { fileURLToPath } from 'node:url';
import type { Result } from './alloc.ts';
import { find_nodes, type Node, US } from './competitors.ts';
import { type Competitor, measure, type Outcome, type Plan, ratios, type Row } from './harness.ts';
import { machine_line } from './markdown.ts';

const OURS = ['pair', 'share', 'build', 'chain:share', 'chain:build'];
const TITLES: Record<string, string> = {
  pair: 'cluster obtained and given back',
  share: '3 clusters copied by reference',
  build: '3 x 1500 bytes copied in',
  'chain:share': 'the same, chain.clone()',
  'chain:build': 'the same, chain.append()',
};
const PEERS: readonly [name: string, kind: string, patterns: readonly string[]][] = [
  ['Buffer.allocUnsafe(2048)', 'buffer', ['pair']],
  ['Buffer.allocUnsafeSlow(2048)', 'slow', ['pair']],
  ['bl duplicate()', 'duplicate', ['share', 'build']],
  ['bl shallowSlice()', 'slice', ['share', 'build']],
];

const file = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const tagged = (name: string, node: Node): string => `${name} @${node.version}`;

function competitors(node: Node): Competitor[] {
  const command = node.binary;
  const script = (name: string): string[] => ['--no-warnings', file(name)];
  const us = { name: tagged(US, node), command, args: script('./us_chain.ts'), patterns: OURS };
  const peers = PEERS.map(([name, kind, patterns]): Competitor => {
    const args = [...script('./peers/chain_js.ts'), kind];
    return { name: tagged(name, node), command, args, patterns };
  });
  return [us, ...peers];
}

function rows_of(outcomes: readonly Outcome[], node: Node, suffix: string): Row[] {
  const min = (name: string, pattern: string): number | undefined =>
    outcomes.find((o) => o.name === tagged(name, node))?.figures.get(pattern)?.min;
  return OURS.map((pattern): Row => {
    const us = min(US, pattern) ?? null;
    const asked = pattern.replace('chain:', '');
    const peers = PEERS.flatMap(([name]): [string, number][] => {
      const ns = min(name, asked);
      return ns === undefined ? [] : [[name, ns]];
    });
    const all = Object.fromEntries(peers);
    return {
      bench: 'chain',
      pattern: pattern + suffix,
      unit: 'ns',
      us,
      peers: all,
      ratio: ratios(us, all),
    };
  });
}

/** Runs the bench; a table for each Node. */
export async function bench_chain(
  plan: Plan,
  say: (line: string) => void,
  progress: (text: string) => void,
): Promise<Result> {
  const nodes = find_nodes(say);
  const patterns = ['pair', 'share', 'build', 'chain:share', 'chain:build'];
  const outcomes = await measure(nodes.flatMap(competitors), patterns, plan, progress);
  for (const { name, problem } of outcomes) if (problem !== undefined) say(`${name}: ${problem}`);
  const rows = nodes.flatMap((node, i) => {
    const made = rows_of(outcomes, node, i === 0 ? '' : `@${node.version}`);
    say(
      `\nNode ${node.version}; ${plan.rounds} rounds; ns, and how many times faster than the peer`,
    );
    for (const { pattern, us, peers } of made) {
      const title = TITLES[pattern.split('@')[0]];
      const beside = Object.entries(peers).map(
        ([name, ns]) => `${name} ${ns.toFixed(0)} (${us === null ? '-' : (ns / us).toFixed(1)}x)`,
      );
      say(`${title.padEnd(34)}${(us?.toFixed(1) ?? '-').padStart(8)}   ${beside.join('   ')}`);
    }
    return made;
  });
  return { rows, versions: nodes.map((node) => node.version) };
}

/** The table for the README: how many times faster we are. */
export function chain_markdown(
  rows: readonly Row[],
  versions: readonly string[],
  rounds: number,
): string[] {
  const lines = ['', '| operation | kmem, ns | times faster than |', '|---|--:|---|'];
  for (const { pattern, us, ratio } of rows) {
    const [name, node = versions[0]] = pattern.split('@');
    const than = Object.entries(ratio).map(([peer, r]) => `${peer} ${(1 / r).toFixed(1)}`);
    const where = versions.length > 1 ? ` (Node ${node})` : '';
    lines.push(`| ${TITLES[name]}${where} | ${us?.toFixed(0) ?? '–'} | ${than.join(', ')} |`);
  }
  return [
    ...lines,
    '',
    `Minimum of ${rounds} interleaved rounds; Node ${versions.join(' and ')}; ${machine_line()}.`,
  ];
}
