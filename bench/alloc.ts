/*
 * alloc: the allocators side by side, and what the figures say.
 *
 * Whatever is JavaScript runs once on this Node and once on each that
 * KMEM_BENCH_NODES names; the native peers run once and are compared with every
 * Node.  All take turns in one run (harness.ts).
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BASE, find_competitors, find_nodes, TWO, ZONE } from './competitors.ts';
import { replay_pattern, write_event_files } from './event_file.ts';
import { measure, type Plan, type Row } from './harness.ts';
import { Report, sheet_of } from './report.ts';

export interface Result {
  rows: Row[];
  /** Versions of the Nodes; the first one's patterns carry no version. */
  versions: string[];
}

/** Runs the bench; `rows` is what the JSON document lists. */
export async function bench_alloc(
  plan: Plan,
  say: (line: string) => void,
  progress: (text: string) => void,
): Promise<Result> {
  const nodes = find_nodes(say);
  const folder = mkdtempSync(join(tmpdir(), 'kmem-bench-'));
  try {
    progress('reading traces, building peers');
    const traces = await write_event_files(folder);
    if (traces.length === 0) say('replay: skipped: needs traces, in traces/ or KMEM_TRACES');
    const competitors = await find_competitors(nodes, folder, traces, say);
    const replays = traces.map(({ name }) => replay_pattern(name));
    const patterns = [...BASE, ...ZONE, ...TWO, ...replays];
    const outcomes = await measure(competitors, patterns, plan, progress);
    for (const { name, problem } of outcomes) if (problem !== undefined) say(`${name}: ${problem}`);
    const rows = nodes.flatMap((node, i) => {
      say('');
      say(`Node ${node.version}; ${plan.rounds} rounds; one operation is one alloc and one free`);
      const suffix = i === 0 ? '' : `@${node.version}`;
      const report = new Report(sheet_of(outcomes, node), traces, suffix, say);
      report.all();
      return report.rows;
    });
    return { rows, versions: nodes.map((node) => node.version) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
