/*
 * bounded: our own calls against one of them, each with a bound.
 *
 *      locks   what taking a lock that nobody else wants costs, against a mutex
 *      pages   what a page costs from the CPU's cache, against one from the queues
 *
 * One process, all patterns in turn in every round; a ratio is one of minima of
 * the same run.  Each has a bound, which the bench prints beside it and marks
 * when it is passed; on a busy machine run it again before you believe a mark.
 */
import { fileURLToPath } from 'node:url';
import type { Result } from './alloc.ts';
import { find_nodes, type Node, US } from './competitors.ts';
import { type Competitor, measure, type Outcome, type Plan, ratios, type Row } from './harness.ts';
import { machine_line } from './markdown.ts';

interface Bounded {
  readonly name: string;
  /** The script that plays the patterns. */
  readonly script: string;
  /** The pattern that the others are measured against. */
  readonly base: string;
  readonly operation: string;
  /** What each operation may cost at most, operations of the base. */
  readonly bounds: readonly (readonly [pattern: string, help: string, most: number])[];
}
const LOCKS: Bounded = {
  name: 'locks',
  script: './us_locks.ts',
  base: 'mutex',
  operation: 'a lock and an unlock',
  bounds: [
    ['read', 'a shared hold', 1.5],
    ['nested', 'a shared hold while another lock is read', 2],
    ['again', 'a lock read again', 2],
    ['write', 'an exclusive hold, two CPU slots of 64 in use', 3],
  ],
};
const PAGES: Bounded = {
  name: 'pages',
  script: './us_pages.ts',
  base: 'queue',
  operation: 'a page obtained and given back',
  bounds: [
    ['page', "one page, from the CPU's cache", 0.125],
    ['pages', '1000 pages, then 1000 frees', 1],
    ['run', 'a run of 16, for each of its pages', 0.25],
    ['kept', "a run of 4, from the CPU's cache", 0.5],
    ['block', 'a block of two pages, and its free', 1.5],
  ],
};
const patterns_of = (b: Bounded): string[] => [b.base, ...b.bounds.map(([pattern]) => pattern)];

function competitor(b: Bounded, node: Node): Competitor {
  const script = fileURLToPath(new URL(b.script, import.meta.url));
  const args = ['--no-warnings', script];
  return { name: `${US} @${node.version}`, command: node.binary, args, patterns: patterns_of(b) };
}
function rows_of(b: Bounded, outcomes: readonly Outcome[], node: Node, suffix: string): Row[] {
  const figures = outcomes.find((o) => o.name === `${US} @${node.version}`)?.figures;
  const base = figures?.get(b.base)?.min;
  return patterns_of(b).map((pattern): Row => {
    const us = figures?.get(pattern)?.min ?? null;
    const peers: Record<string, number> =
      base === undefined || pattern === b.base ? {} : { [b.base]: base };
    const ratio = ratios(us, peers);
    return { bench: b.name, pattern: pattern + suffix, unit: 'ns', us, peers, ratio };
  });
}

type Say = (line: string) => void;
/** Runs the bench of the locks; some lines for each Node. */
export function bench_locks(plan: Plan, say: Say, progress: Say): Promise<Result> {
  return bench_bounded(LOCKS, plan, say, progress);
}
/** Runs the bench of the pages. */
export function bench_pages(plan: Plan, say: Say, progress: Say): Promise<Result> {
  return bench_bounded(PAGES, plan, say, progress);
}
async function bench_bounded(b: Bounded, plan: Plan, say: Say, progress: Say): Promise<Result> {
  const nodes = find_nodes(say);
  const all = nodes.map((node) => competitor(b, node));
  const outcomes = await measure(all, patterns_of(b), plan, progress);
  for (const { name, problem } of outcomes) if (problem !== undefined) say(`${name}: ${problem}`);
  const rows = nodes.flatMap((node, i) => {
    const list = rows_of(b, outcomes, node, i === 0 ? '' : `@${node.version}`);
    say(`\nNode ${node.version}; ${plan.rounds} rounds; one operation is ${b.operation}`);
    for (const { pattern, us, ratio } of list) {
      const ns = us === null ? '–' : `${us.toFixed(1)} ns`;
      const bound = b.bounds.find(([name]) => name === pattern.split('@')[0]);
      const times = ratio[b.base];
      if (!bound || times === undefined) say(`${pattern.padEnd(10)}${ns.padStart(9)}`);
      else {
        const [, help, most] = bound;
        const mark = times > most ? '  MORE' : '';
        say(
          `${pattern.padEnd(10)}${ns.padStart(9)}   ${times.toFixed(2)} x ${b.base}` +
            `   at most ${most}${mark}   ${help}`,
        );
      }
    }
    return list;
  });
  return { rows, versions: nodes.map((node) => node.version) };
}

/** The table for a page. */
export function bounded_markdown(
  rows: readonly Row[],
  versions: readonly string[],
  rounds: number,
): string[] {
  const base = rows[0]?.pattern ?? '';
  const lines = ['', `| pattern | ns | x ${base} |`, '|---|--:|--:|'];
  for (const { pattern, us, ratio } of rows) {
    const ns = us === null ? '–' : us.toFixed(1);
    lines.push(`| ${pattern} | ${ns} | ${ratio[base]?.toFixed(2) ?? ''} |`);
  }
  return [
    ...lines,
    '',
    `Minimum of ${rounds} interleaved rounds; Node ${versions.join(' and ')}; ${machine_line()}.`,
  ];
}
