/*
 * vm: the kernel's virtual memory beside the system's, and against its own bounds.
 *
 *      pattern against a peer    a process of ours (us_vm.ts) and one of the peer's in turn
 *      growth                    the same search in a small map and in a large one, of ours alone
 *
 * Every answer is the shortest batch of its sample, and every figure the shortest of all rounds:
 * a ratio is one of two minima.  Each has the bound beside it that it is to stay below.
 *
 * A pattern that is measured against something else than the system is a line of PATTERNS
 * with that peer, a sampler in `competitors`, and its loop in us_vm.ts.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Result } from './alloc.ts';
import { find_nodes, name_for, type Node, US } from './competitors.ts';
import { type Competitor, type Figure, measure, type Outcome, type Plan } from './harness.ts';
import { ratios, type Row } from './harness.ts';
import { machine_line } from './markdown.ts';
import { build_plain } from './native.ts';

/** The system that the bench runs on. */
const SYSTEM = 'linux';

/** A plain typed array. */
const RAW = 'raw';

interface Pattern {
  readonly name: string;
  /** What it is measured against. */
  readonly peer: string;
  /** It is to take at most so many times what the peer takes. */
  readonly most: number;
  readonly help: string;
}
const PATTERNS: readonly Pattern[] = [
  {
    name: 'zero-fill ascending',
    peer: SYSTEM,
    most: 0.4,
    help: 'first writes to the pages of one region, one after another',
  },
  {
    name: 'zero-fill random',
    peer: SYSTEM,
    most: 0.5,
    help: 'first writes in 10 000 mappings of a page, in random order',
  },
  {
    name: 'zero-fill pre-zeroed',
    peer: SYSTEM,
    most: 0.25,
    help: 'as the first, of pages that an idle CPU zeroed ahead',
  },
  {
    name: 'copy-on-write',
    peer: SYSTEM,
    most: 0.5,
    help: 'a child writes to the pages of one region after a fork',
  },
  {
    name: 'copy-on-write 10000',
    peer: SYSTEM,
    most: 0.6,
    help: 'the same in 10 000 mappings of a page',
  },
  { name: 'fork 10000', peer: SYSTEM, most: 0.04, help: 'a fork of 10 000 mappings of a page' },
  {
    name: 'protect split',
    peer: SYSTEM,
    most: 0.25,
    help: 'a page amid a region loses the right to write',
  },
  {
    name: 'lock 1000',
    peer: SYSTEM,
    most: 0.15,
    help: 'mlock and munlock of 1000 pages that are in memory',
  },
  {
    name: 'kernel pages',
    peer: SYSTEM,
    most: 0.34,
    help: 'kmem_alloc of 4 pages that are written to, and kmem_free, against mmap and munmap',
  },
  {
    name: 'load',
    peer: RAW,
    most: 6,
    help: 'getU32 at ascending offsets, against a typed array',
  },
  { name: 'load random', peer: RAW, most: 3.5, help: 'the same at random offsets in 1 MiB' },
  {
    name: 'window',
    peer: RAW,
    most: 2,
    help: 'a window of 64 KiB opened, its numbers summed, and closed',
  },
  { name: 'window open', peer: RAW, most: 1.1, help: 'the numbers of a window that stays open' },
];
interface Growth {
  readonly name: string;
  readonly small: string;
  readonly large: string;
  /** The second takes at most so many times what the first takes. */
  readonly most: number;
  readonly help: string;
}
const GROWTHS: readonly Growth[] = [
  {
    name: 'lookup 1000→100000',
    small: 'lookup 1000',
    large: 'lookup 100000',
    most: 2.5,
    help: 'what covers a page, in a map of 100 000 entries against one of 1000',
  },
  {
    name: 'find-space 1000→100000',
    small: 'find-space 1000',
    large: 'find-space 100000',
    most: 2.5,
    help: 'where a hole of 4 pages is, likewise',
  },
  {
    name: 'read→lend 64K',
    small: 'read 64K',
    large: 'lend 64K',
    most: 0.5,
    help: '16 pages lent and given back, against copied',
  },
  {
    name: 'read→lend 64K cold',
    small: 'read 64K cold',
    large: 'lend 64K cold',
    most: 0.25,
    help: 'the same where no cache has them',
  },
  {
    name: 'kernel find 1000→100000',
    small: 'kernel find 1000',
    large: 'kernel find 100000',
    most: 2.5,
    help: 'the same from the first kernel address on, where the hole is the last',
  },
];

/** What a pattern is called in a question: a name there has no spaces. */
const asked = (name: string): string => name.replaceAll(' ', '-');

function names_against(peer: string): string[] {
  return PATTERNS.filter((p) => p.peer === peer).map((p) => asked(p.name));
}
function us(node: Node): Competitor {
  const script = fileURLToPath(new URL('./us_vm.ts', import.meta.url));
  const searches = GROWTHS.flatMap(({ small, large }) => [asked(small), asked(large)]);
  const patterns = [...PATTERNS.map((p) => asked(p.name)), ...searches];
  const args = ['--no-warnings', script];
  return { name: `${US} @${node.version}`, command: node.binary, args, patterns };
}
function raw(node: Node): Competitor {
  const script = fileURLToPath(new URL('./raw_vm.ts', import.meta.url));
  const args = ['--no-warnings', script];
  return {
    name: `${RAW} @${node.version}`,
    command: node.binary,
    args,
    patterns: names_against(RAW),
  };
}
/** All who take part; says what is skipped and why. */
function competitors(nodes: readonly Node[], folder: string, say: Say): Competitor[] {
  const all = nodes.flatMap((node) => [us(node), raw(node)]);
  if (process.platform !== 'linux') say(`${SYSTEM}: skipped: this is ${process.platform}`);
  else {
    const { program, problem } = build_plain('vm', folder);
    if (program === undefined) say(`${SYSTEM}: ${problem}`);
    else all.push({ name: SYSTEM, command: program, args: [], patterns: names_against(SYSTEM) });
  }
  return all;
}

/** A row, its bound and what it says. */
interface Line {
  readonly row: Row;
  readonly figure: Figure | undefined;
  readonly most: number;
  readonly help: string;
}
type Find = (competitor: string, pattern: string) => Figure | undefined;

function against_peer(find: Find, { name, peer, most, help }: Pattern, suffix: string): Line {
  const figure = find(US, asked(name));
  const other = find(peer, asked(name));
  const peers: Row['peers'] = other === undefined ? {} : { [peer]: other.min };
  const min = figure?.min ?? null;
  const ratio = ratios(min, peers);
  const row = { bench: 'vm', pattern: name + suffix, unit: 'ns', us: min, peers, ratio };
  return { row, figure, most, help };
}
function growth(find: Find, { name, small, large, most, help }: Growth, suffix: string): Line {
  const few = find(US, asked(small))?.min;
  const figure = find(US, asked(large));
  const times = few === undefined || figure === undefined ? null : figure.min / few;
  const row = {
    bench: 'vm',
    pattern: name + suffix,
    unit: 'times',
    us: times,
    peers: {},
    ratio: {},
  };
  return { row, figure, most, help };
}
function lines_of(outcomes: readonly Outcome[], node: Node, suffix: string): Line[] {
  const find: Find = (competitor, pattern) =>
    outcomes.find((o) => name_for(o.name, node) === competitor)?.figures.get(pattern);
  return [
    ...PATTERNS.map((p) => against_peer(find, p, suffix)),
    ...GROWTHS.map((g) => growth(find, g, suffix)),
  ];
}

/** Three figures, as long as a number of them is. */
function short(n: number): string {
  if (n >= 1000) return Math.round(n).toLocaleString('en-US');
  return n >= 100 ? n.toFixed(0) : n.toPrecision(3);
}
/** How many times the peer's time a row takes; of a growth, how many times the small map's. */
function times_of({ pattern, us: ours, unit, ratio }: Row): number | undefined {
  if (unit === 'times') return ours ?? undefined;
  const peer = PATTERNS.find((p) => p.name === pattern.split('@')[0])?.peer ?? SYSTEM;
  return ratio[peer];
}
function tell({ row, figure, most, help }: Line, say: Say): void {
  const ns = figure === undefined ? ['–', '–'] : [short(figure.min), short(figure.median)];
  const [peer] = Object.values(row.peers);
  const times = times_of(row);
  const mark = times !== undefined && times > most ? '  MORE' : '';
  say(
    row.pattern.padEnd(33) +
      ns.map((n) => n.padStart(11)).join('') +
      (peer === undefined ? '' : short(peer)).padStart(12) +
      (times === undefined ? '–' : times.toFixed(3)).padStart(9) +
      `  at most ${most}${mark}   ${help}`,
  );
}

type Say = (line: string) => void;
/** Runs the bench; a table for each Node. */
export async function bench_vm(plan: Plan, say: Say, progress: Say): Promise<Result> {
  const nodes = find_nodes(say);
  const folder = mkdtempSync(join(tmpdir(), 'kmem-bench-'));
  try {
    const all = competitors(nodes, folder, say);
    const patterns = us(nodes[0]).patterns;
    const outcomes = await measure(all, patterns, plan, progress);
    for (const { name, problem } of outcomes) if (problem !== undefined) say(`${name}: ${problem}`);
    const rows = nodes.flatMap((node, i) => {
      say(`\nNode ${node.version}; ${plan.rounds} rounds; ns`);
      say(`${''.padEnd(33)}        min     median        peer    times`);
      const lines = lines_of(outcomes, node, i === 0 ? '' : `@${node.version}`);
      for (const line of lines) tell(line, say);
      return lines.map(({ row }) => row);
    });
    return { rows, versions: nodes.map((node) => node.version) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The table for a page. */
export function vm_markdown(
  rows: readonly Row[],
  versions: readonly string[],
  rounds: number,
): string[] {
  const patterns = rows.map((row) => row.pattern).filter((pattern) => !pattern.includes('@'));
  const cells = (pattern: string): string => {
    const row = rows.find((one) => one.pattern === pattern);
    const times = row && times_of(row);
    if (row === undefined || row.us === null) return '– | –';
    const ns = row.unit === 'times' ? '' : short(row.us);
    return `${ns} | ${times === undefined ? '–' : times.toFixed(times < 0.1 ? 3 : 2)}`;
  };
  const heads = versions.map((version) => `Node ${version}, ns | times the peer |`).join(' ');
  const lines = ['', `| pattern | ${heads}`, `|---|${'--:|--:|'.repeat(versions.length)}`];
  for (const pattern of patterns) {
    const all = versions.map((version, i) => cells(i === 0 ? pattern : `${pattern}@${version}`));
    lines.push(`| ${pattern} | ${all.join(' | ')} |`);
  }
  return [...lines, '', `Minimum of ${rounds} interleaved rounds; ${machine_line()}.`];
}
