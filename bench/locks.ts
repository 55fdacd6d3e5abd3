/*
 * locks: what taking a lock that nobody else wants costs, against a mutex.
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

const MUTEX = 'mutex';
/** What each pair may cost at most, mutex pairs. */
const BOUNDS: readonly [pattern: string, help: string, most: number][] = [
  ['read', 'a shared hold', 1.5],
  ['nested', 'a shared hold while another lock is read', 2],
  ['again', 'a lock read again', 2],
  ['write', 'an exclusive hold, two CPU slots of 64 in use', 3],
];
const PATTERNS = [MUTEX, ...BOUNDS.map(([pattern]) => pattern)];

function competitor(node: Node): Competitor {
  const script = fileURLToPath(new URL('./us_locks.ts', import.meta.url));
  const args = ['--no-warnings', script];
  return { name: `${US} @${node.version}`, command: node.binary, args, patterns: PATTERNS };
}
function rows_of(outcomes: readonly Outcome[], node: Node, suffix: string): Row[] {
  const figures = outcomes.find((o) => o.name === `${US} @${node.version}`)?.figures;
  const mutex = figures?.get(MUTEX)?.min;
  return PATTERNS.map((pattern): Row => {
    const us = figures?.get(pattern)?.min ?? null;
    const peers: Record<string, number> =
      mutex === undefined || pattern === MUTEX ? {} : { [MUTEX]: mutex };
    const ratio = ratios(us, peers);
    return { bench: 'locks', pattern: pattern + suffix, unit: 'ns', us, peers, ratio };
  });
}

/** Runs the bench; some lines for each Node. */
export async function bench_locks(
  plan: Plan,
  say: (line: string) => void,
  progress: (text: string) => void,
): Promise<Result> {
  const nodes = find_nodes(say);
  const outcomes = await measure(nodes.map(competitor), PATTERNS, plan, progress);
  for (const { name, problem } of outcomes) if (problem !== undefined) say(`${name}: ${problem}`);
  const rows = nodes.flatMap((node, i) => {
    const list = rows_of(outcomes, node, i === 0 ? '' : `@${node.version}`);
    say(`\nNode ${node.version}; ${plan.rounds} rounds; one operation is a lock and an unlock`);
    for (const { pattern, us, ratio } of list) {
      const ns = us === null ? '–' : `${us.toFixed(1)} ns`;
      const bound = BOUNDS.find(([name]) => name === pattern.split('@')[0]);
      const times = ratio[MUTEX];
      if (!bound || times === undefined) say(`${pattern.padEnd(10)}${ns.padStart(9)}`);
      else {
        const [, help, most] = bound;
        const mark = times > most ? '  MORE' : '';
        say(
          `${pattern.padEnd(10)}${ns.padStart(9)}   ${times.toFixed(2)} mutex pairs` +
            `   at most ${most}${mark}   ${help}`,
        );
      }
    }
    return list;
  });
  return { rows, versions: nodes.map((node) => node.version) };
}

/** The table for a page. */
export function locks_markdown(
  rows: readonly Row[],
  versions: readonly string[],
  rounds: number,
): string[] {
  const lines = ['', '| lock and unlock | ns | mutex pairs |', '|---|--:|--:|'];
  for (const { pattern, us, ratio } of rows) {
    const ns = us === null ? '–' : us.toFixed(1);
    lines.push(`| ${pattern} | ${ns} | ${ratio[MUTEX]?.toFixed(2) ?? ''} |`);
  }
  return [
    ...lines,
    '',
    `Minimum of ${rounds} interleaved rounds; Node ${versions.join(' and ')}; ${machine_line()}.`,
  ];
}
