/*
 * paging: the kernel's pagers beside the calls of a program that pages by itself.
 *
 *      fs                  readSync and writeSync, into and out of a buffer as large as what the
 *                          kernel keeps resident (peers/paging_js.ts)
 *      fs, one buffer      the same by way of one buffer, which stays in the processor's caches
 *      lmdb                a database's fastest call; left out if the package is not there
 *      kmem                ourselves (us_paging.ts): two threads against one
 *
 * All files are in the system's page cache.  Every figure is the shortest batch of all rounds, and
 * a ratio one of two such.  Each has the bound beside it that it is to stay below.  How
 * two threads get on depends on the whole of the machine: that ratio needs two idle processors.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Result } from './alloc.ts';
import { find_nodes, name_for, type Node, US } from './competitors.ts';
import { type Competitor, measure, type Outcome, type Plan, ratios, type Row } from './harness.ts';
import { machine_line } from './markdown.ts';
import { SET_BYTES } from './paging_loops.ts';

const FS = 'fs';
const HOT = 'fs, one buffer';
const LMDB = 'lmdb';

interface Wanted {
  readonly name: string;
  /** It is to take at most so many times what a peer takes. */
  readonly most: Readonly<Record<string, number>>;
  readonly help: string;
}
/* Bounds of rates: 0.9 times as fast takes 1 / 0.9 of the time. */
const ROWS: readonly Wanted[] = [
  {
    name: 'in-runs',
    most: { [FS]: 1.3 },
    help: 'a fault brings in 16 pages that lie side by side in memory: 64 KiB by readSync',
  },
  { name: 'in-scattered', most: { [FS]: 2.3 }, help: 'the same where no two of them do' },
  { name: 'in-single', most: { [FS]: 1.4 }, help: 'a fault brings in a page: 4 KiB by readSync' },
  { name: 'out-runs', most: { [FS]: 1.3 }, help: '16 dirty pages go out: 64 KiB by writeSync' },
  { name: 'out-scattered', most: { [FS]: 2.3 }, help: 'the same of pages apart' },
  { name: 'resident', most: { [LMDB]: 1 / 4 }, help: 'a page in memory, at random, is copied out' },
  {
    name: 'resident-word',
    most: { [LMDB]: 1 / 4 },
    help: 'a number in such a page is read where it is',
  },
  {
    name: 'scan',
    most: { [FS]: 1 / 0.9, [HOT]: 1 / 0.7 },
    help: 'a file is read by windows of 64 KiB, a word of each page looked at',
  },
  {
    name: 'scan-large',
    most: { [FS]: 1 / 0.9, [HOT]: 1 / 0.7 },
    help: 'by windows of 1 MiB, against calls that read as much',
  },
  { name: 'scan-again', most: { [FS]: 1 / 3 }, help: 'of 64 KiB, while all of it is in memory' },
  { name: 'scan-large-again', most: { [FS]: 1 / 3 }, help: 'of 1 MiB, likewise' },
];
/** Two threads take so many times what one takes, each with the whole work of one. */
const TWO = {
  name: 'fault-two',
  base: 'fault-one',
  most: 2 / 1.5,
  help: 'faults in two files by two threads at once, against one',
};
const PATTERNS = [...ROWS.map(({ name }) => name), TWO.base, TWO.name];

type Say = (line: string) => void;
const file = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** The module of the package lmdb: KMEM_BENCH_LMDB, or as installed; null: it is not there. */
function find_lmdb(say: Say): string | null {
  const { resolve } = createRequire(import.meta.url);
  const at = process.env['KMEM_BENCH_LMDB'];
  try {
    return at === undefined || at === '' ? resolve('lmdb') : resolve(at);
  } catch {
    say(`${LMDB}: skipped: not installed (npm install --no-save lmdb, or KMEM_BENCH_LMDB=FOLDER)`);
    return null;
  }
}
function competitors(nodes: readonly Node[], folder: string, say: Say): Competitor[] {
  const lmdb = find_lmdb(say);
  const peers: [string, readonly string[]][] = [
    [FS, [file('./peers/paging_js.ts'), 'set', join(folder, 'peer')]],
    [HOT, [file('./peers/paging_js.ts'), 'hot', join(folder, 'peer')]],
  ];
  if (lmdb !== null) peers.push([LMDB, [file('./peers/paging_lmdb.ts'), lmdb, folder]]);
  return nodes.flatMap(({ binary: command, version }) => {
    const one = (name: string, args: readonly string[], patterns: readonly string[]) => {
      return { name: `${name} @${version}`, command, args: ['--no-warnings', ...args], patterns };
    };
    return [
      one(US, [file('./us_paging.ts'), folder], PATTERNS),
      ...peers.map(([name, args]) => one(name, args, asked_of(name))),
    ];
  });
}
/** The patterns that a peer plays. */
function asked_of(peer: string): string[] {
  const files = ROWS.filter(({ most }) => most[FS] !== undefined).map(({ name }) => name);
  return peer === LMDB ? ROWS.filter(({ most }) => LMDB in most).map(({ name }) => name) : files;
}
function figures(
  outcomes: readonly Outcome[],
  node: Node,
): (of: string, p: string) => number | null {
  return (of, pattern) => {
    const outcome = outcomes.find((o) => name_for(o.name, node) === of);
    return outcome?.figures.get(pattern)?.min ?? null;
  };
}
function rows_of(outcomes: readonly Outcome[], node: Node, suffix: string): Row[] {
  const min = figures(outcomes, node);
  const row = (pattern: string, us: number | null, of: readonly [string, number | null][]): Row => {
    const peers = Object.fromEntries(of.flatMap(([n, ns]) => (ns === null ? [] : [[n, ns]])));
    const ratio = ratios(us, peers);
    return { bench: 'paging', pattern: pattern + suffix, unit: 'ns', us, peers, ratio };
  };
  const rows = ROWS.map(({ name }) => {
    return row(
      name,
      min(US, name),
      [FS, HOT, LMDB].map((of) => [of, min(of, name)] as const),
    );
  });
  return [...rows, row(TWO.name, min(US, TWO.name), [[TWO.base, min(US, TWO.base)]])];
}
/** What is said of a row beside each of its peers. */
function most_of(pattern: string): { most: Readonly<Record<string, number>>; help: string } {
  const plain = pattern.split('@')[0];
  if (plain === TWO.name) return { most: { [TWO.base]: TWO.most }, help: TWO.help };
  return ROWS.find(({ name }) => name === plain) ?? { most: {}, help: '' };
}
function tell({ pattern, us, peers, ratio }: Row, say: Say): void {
  const { most, help } = most_of(pattern);
  const ns = us === null ? '–' : Math.round(us).toLocaleString('en-US');
  say(`${pattern.padEnd(22)}${ns.padStart(9)}   ${help}`);
  for (const [name, peer] of Object.entries(peers)) {
    const bound = most[name];
    const times = ratio[name];
    const mark = bound !== undefined && times > bound ? '  MORE' : '';
    const at_most = bound === undefined ? '' : `  at most ${bound.toFixed(2)}${mark}`;
    const took = Math.round(peer).toLocaleString('en-US').padStart(9);
    say(`    ${name.padEnd(18)}${took}${(times?.toFixed(2) ?? '–').padStart(8)}${at_most}`);
  }
}
/** Runs the bench; a table for each Node. */
export async function bench_paging(plan: Plan, say: Say, progress: Say): Promise<Result> {
  const nodes = find_nodes(say);
  const folder = mkdtempSync(join(tmpdir(), 'kmem-bench-'));
  try {
    const bytes = new Uint8Array(SET_BYTES).map((_, i) => (i >>> 12) + i);
    for (const name of ['one', 'two', 'peer']) writeFileSync(join(folder, name), bytes);
    const all = competitors(nodes, folder, say);
    const outcomes = await measure(all, PATTERNS, plan, progress);
    for (const { name, problem } of outcomes) if (problem !== undefined) say(`${name}: ${problem}`);
    const rows = nodes.flatMap((node, i) => {
      say(`\nNode ${node.version}; ${plan.rounds} rounds; ns, and times the peer`);
      const of_node = rows_of(outcomes, node, i === 0 ? '' : `@${node.version}`);
      for (const row of of_node) tell(row, say);
      return of_node;
    });
    return { rows, versions: nodes.map((node) => node.version) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The table for a page. */
export function paging_markdown(
  rows: readonly Row[],
  versions: readonly string[],
  rounds: number,
): string[] {
  const lines = ['', '| pattern | Node | ns | times the peer |', '|---|--:|--:|---|'];
  for (const { pattern, us, ratio } of rows) {
    const [name, version = versions[0]] = pattern.split('@');
    const times = Object.entries(ratio).map(([peer, n]) => `${peer} ${n.toFixed(2)}`);
    lines.push(`| ${name} | ${version} | ${us?.toFixed(0) ?? '–'} | ${times.join(', ')} |`);
  }
  return [...lines, '', `Minimum of ${rounds} interleaved rounds; ${machine_line()}.`];
}
