/*
 * main: npm run bench -- NAME [--quick] [--rounds N] [--json FILE] [--plot FILE.svg] [--markdown]
 *
 * Tables go to stdout, progress to stderr when that is a terminal, and figures
 * for programs to the file --json names.  --plot writes a chart of the means,
 * --markdown prints the table for a page behind the others.  Ends with 0 when the bench ran and
 * we were measured, 1 when we or a figure of ours are missing (peers may be
 * missing: they are named), 2 when the command line is wrong or FILE cannot be
 * written.
 */
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { bench_alloc } from './alloc.ts';
import { bench_chain, chain_markdown } from './chain.ts';
import { bench_domains } from './domains.ts';
import { bench_examples, examples_markdown } from './examples.ts';
import type { Plan } from './harness.ts';
import { bench_locks, bench_pages, bounded_markdown } from './bounded.ts';
import { markdown } from './markdown.ts';
import { bench_metrics } from './metrics.ts';
import { bench_packets, packets_markdown } from './packets.ts';
import { bench_paging, paging_markdown } from './paging.ts';
import { plot } from './plot.ts';
import { bench_vm, vm_markdown } from './vm.ts';

interface Bench {
  about: string;
  run: typeof bench_alloc;
  markdown: typeof markdown;
}

const BENCHES: Record<string, Bench> = {
  alloc: {
    about: 'malloc and zones beside native and WebAssembly allocators and JavaScript objects',
    run: bench_alloc,
    markdown,
  },
  chain: {
    about: 'buffer chains beside Buffers and the package bl',
    run: bench_chain,
    markdown: chain_markdown,
  },
  domains: {
    about: 'the share of local slabs on a machine with several memory domains',
    run: bench_domains,
    markdown: () => [],
  },
  examples: {
    about: 'the examples beside the same programs as they are written today',
    run: bench_examples,
    markdown: examples_markdown,
  },
  locks: {
    about: 'read, nested and write pairs of an rwlock against pairs of a mutex',
    run: bench_locks,
    markdown: bounded_markdown,
  },
  metrics: {
    about: 'one answer to Prometheus on a machine with 100 types',
    run: bench_metrics,
    markdown: () => [],
  },
  pages: {
    about: 'single pages and runs from the CPU caches and the free queues',
    run: bench_pages,
    markdown: bounded_markdown,
  },
  packets: {
    about: 'packets through two threads beside Buffers and postMessage',
    run: bench_packets,
    markdown: packets_markdown,
  },
  paging: {
    about: 'page-in, page-out, mapped files and faults in them beside readSync, writeSync and lmdb',
    run: bench_paging,
    markdown: paging_markdown,
  },
  vm: {
    about: 'faults, forks and changes of protection beside those of the system',
    run: bench_vm,
    markdown: vm_markdown,
  },
};

const FULL: Plan = { rounds: 6, sample_ms: 100 };
const QUICK: Plan = { rounds: 3, sample_ms: 30 };
const MAX_ROUNDS = 1000;
const USAGE =
  'npm run bench -- NAME [--quick] [--rounds N] [--json FILE] [--plot FILE.svg] [--markdown]';

/** A command line that cannot be followed. */
class Usage extends Error {}

interface Wanted {
  name: string | undefined;
  plan: Plan;
  json: string | undefined;
  plot: string | undefined;
  markdown: boolean;
}

function parse(args: readonly string[]): Wanted {
  let name: string | undefined;
  let quick = false;
  let rounds: number | undefined;
  let json: string | undefined;
  let chart: string | undefined;
  let table = false;
  for (let i = 0; i < args.length; i++) {
    const [arg, ...rest] = args[i].startsWith('--') ? args[i].split('=') : [args[i]];
    const value = (): string => {
      const given = rest.length > 0 ? rest.join('=') : args[++i];
      if (given === undefined || given === '') throw new Usage(`${arg} needs a value: ${USAGE}`);
      return given;
    };
    if (arg === '--quick' && rest.length === 0) quick = true;
    else if (arg === '--markdown' && rest.length === 0) table = true;
    else if (arg === '--json') json = value();
    else if (arg === '--plot') chart = value();
    else if (arg === '--rounds') {
      rounds = Number(value());
      if (!Number.isInteger(rounds) || rounds < 1 || rounds > MAX_ROUNDS) {
        throw new Usage(`--rounds: '${args[i]}' is not a whole number from 1 to ${MAX_ROUNDS}`);
      }
    } else if (arg.startsWith('-')) throw new Usage(`unknown flag '${args[i]}': ${USAGE}`);
    else if (name !== undefined) throw new Usage(`one bench at a time, '${arg}' is a second`);
    else name = arg;
  }
  if (name !== undefined && !Object.hasOwn(BENCHES, name)) {
    throw new Usage(`no bench '${name}': there is ${Object.keys(BENCHES).join(', ')}`);
  }
  if (name === undefined && args.length > 0) throw new Usage(`which bench? ${USAGE}`);
  const base = quick ? QUICK : FULL;
  const plan = { ...base, rounds: rounds ?? base.rounds };
  return { name, plan, json, plot: chart, markdown: table };
}

function list(): void {
  console.log(USAGE);
  for (const [name, { about }] of Object.entries(BENCHES))
    console.log(`  ${name.padEnd(10)}${about}`);
}

/** Fails before the run, not after it, when FILE cannot be written. */
function claim(flag: string, path: string): void {
  try {
    closeSync(openSync(path, 'a'));
  } catch (error) {
    throw new Usage(`${flag} ${path}: cannot write (${(error as NodeJS.ErrnoException).code})`);
  }
}

function show_progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

async function main(): Promise<number> {
  const wanted = parse(process.argv.slice(2));
  const { name, plan, json } = wanted;
  if (name === undefined) {
    list();
    return 0;
  }
  if (json !== undefined) claim('--json', json);
  if (wanted.plot !== undefined) claim('--plot', wanted.plot);
  const bench = BENCHES[name];
  const { rows, versions } = await bench.run(plan, console.log, show_progress);
  if (json !== undefined) writeFileSync(json, `${JSON.stringify(rows, null, 2)}\n`);
  if (wanted.plot !== undefined) {
    const drawn = plot(rows, versions);
    if (drawn === null) console.error('bench: --plot: no means to draw');
    else writeFileSync(wanted.plot, drawn);
  }
  if (wanted.markdown) {
    for (const text of bench.markdown(rows, versions, plan.rounds)) console.log(text);
  }
  const missing = rows.filter((row) => row.us === null).map((row) => row.pattern);
  if (missing.length === 0) return 0;
  console.error(
    `bench: no figure of ours for ${missing.join(', ')}: the reason is above the tables`,
  );
  return 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof Usage)) throw error;
  console.error(`bench: ${error.message}`);
  process.exitCode = 2;
}
