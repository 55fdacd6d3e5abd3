/*
 * examples: each example beside the program that people write today.
 *
 * examples/NAME.ts and examples/before/NAME.ts do the same work and print the
 * same result; the tests see to that.  Here both are run as a user runs them,
 * each run a process of its own, taking turns within every round.
 *
 *      start   a run with almost no work: loading, joining the workers, ending
 *      warm    long enough for the compiler to have done its part
 *      long    the same and much more
 *
 *      time for one   (long - warm) / how many more, of the minima over the rounds
 *
 * So a figure is what a program that goes on for hours pays; what it pays at its
 * beginning is the figure of `start`.  CPU time is that of all threads together,
 * and holds where the machine is busy with other things.  Memory is the most
 * that the whole process had resident at any time of its long run.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Result } from './alloc.ts';
import { find_nodes, type Node } from './competitors.ts';
import { type Plan, type Row, ratios, telling_line } from './harness.ts';
import { machine_line } from './markdown.ts';

interface Program {
  /** Rows and lines are called so. */
  name: string;
  script: string;
  /** What is counted; `each` of them for every one that the command line asks for. */
  what: string;
  each: number;
  /** What the command line asks for, in the three runs. */
  start: number;
  warm: number;
  long: number;
  /** We do so many times more, where noise would cover the difference of two runs. */
  ours?: number;
  /** Further arguments. */
  more?: readonly string[];
}

/* Sizes for which a long run takes two to three seconds. */
const PROGRAMS: readonly Program[] = [
  {
    name: 'sessions',
    script: 'sessions.ts',
    what: 'a request',
    each: 2,
    start: 16,
    warm: 20_000,
    long: 120_000,
    ours: 5,
  },
  {
    name: 'particles',
    script: 'particles.ts',
    what: 'a step',
    each: 1,
    start: 2,
    warm: 1000,
    long: 9000,
  },
  {
    name: 'pipeline',
    script: 'pipeline.ts',
    what: 'a block of 64K',
    each: 1,
    start: 16,
    warm: 10_000,
    long: 50_000,
  },
  {
    name: 'pipeline:4K',
    script: 'pipeline.ts',
    what: 'a block of 4K',
    each: 1,
    start: 256,
    warm: 50_000,
    long: 300_000,
    more: ['4'],
  },
  {
    name: 'tiles',
    script: 'tiles.ts',
    what: 'a tile',
    each: 1,
    start: 16,
    warm: 100_000,
    long: 600_000,
  },
];

const US = 'kmem';
const TODAY = 'today';
const SIDES = [
  { side: US, folder: '../examples/' },
  { side: TODAY, folder: '../examples/before/' },
] as const;
type Side = (typeof SIDES)[number]['side'];

/** A full sample of the plan stands for the sizes above; a quick one for a part of them. */
const FULL_SAMPLE_MS = 100;
const RUN_MS = 120_000;
const KIB_IN_MIB = 1024;
const NOISE = 'a long run took no longer than a warm one: the machine is busy, run again';

/* Written by each process when it ends: what it had resident at most, KiB; its CPU time, us. */
const LAST_WORDS = `import { isMainThread } from 'node:worker_threads';
import { writeSync } from 'node:fs';
if (isMainThread) process.on('exit', () => {
  const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage();
  writeSync(2, 'used ' + maxRSS + ' ' + (userCPUTime + systemCPUTime));
});`;

interface Run {
  wall_ns: number;
  cpu_ns: number;
  peak_kib: number;
}

/** Runs a program once. Rejects with the line of its error output that says most. */
function run_once(node: Node, path: string, given: readonly string[]): Promise<Run> {
  const { promise, resolve, reject } = Promise.withResolvers<Run>();
  const hook = `data:text/javascript,${encodeURIComponent(LAST_WORDS)}`;
  const args = ['--no-warnings', '--import', hook, path, ...given];
  const start = performance.now();
  const child = spawn(node.binary, args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: RUN_MS,
    killSignal: 'SIGKILL',
  });
  let errors = '';
  child.stderr.on('data', (bytes: Buffer) => {
    errors += bytes.toString();
  });
  child.on('error', reject);
  child.on('close', (code, signal) => {
    const wall_ns = (performance.now() - start) * 1e6;
    const used = /used (\d+) (\d+)$/.exec(errors);
    if (code === 0 && used !== null) {
      resolve({ wall_ns, peak_kib: Number(used[1]), cpu_ns: Number(used[2]) * 1000 });
    } else reject(new Error(telling_line(errors) || `ended with ${signal ?? `exit code ${code}`}`));
  });
  return promise;
}

const LENGTHS = ['start', 'warm', 'long'] as const;
type Length = (typeof LENGTHS)[number];

/** All runs of one program, of one side, on one Node. */
class Series {
  problem: string | undefined;
  readonly program: Program;
  readonly node: Node;
  readonly side: Side;
  readonly #path: string;
  readonly #size: Record<Length, number>;
  readonly #runs: Record<Length, Run[]> = { start: [], warm: [], long: [] };

  constructor(
    program: Program,
    node: Node,
    { side, folder }: (typeof SIDES)[number],
    scale: number,
  ) {
    this.program = program;
    this.node = node;
    this.side = side;
    this.#path = fileURLToPath(new URL(folder + program.script, import.meta.url));
    const times = side === US ? (program.ours ?? 1) : 1;
    const more = Math.ceil((program.long - program.warm) * scale) * times;
    const warm = program.warm * times;
    this.#size = { start: program.start, warm, long: warm + more };
  }
  async round(): Promise<void> {
    for (const length of LENGTHS) {
      if (this.problem !== undefined) return;
      const args = [String(this.#size[length]), ...(this.program.more ?? [])];
      try {
        this.#runs[length].push(await run_once(this.node, this.#path, args));
      } catch (error) {
        this.problem = (error as Error).message;
      }
    }
  }
  #least(length: Length, of: keyof Run): number | null {
    if (this.problem !== undefined) return null;
    return Math.min(...this.#runs[length].map((run) => run[of]));
  }
  /** Nanoseconds for one of what is counted; null if noise covers them. */
  each(of: 'wall_ns' | 'cpu_ns'): number | null {
    const [warm, long] = [this.#least('warm', of), this.#least('long', of)];
    if (warm === null || long === null || long <= warm) return null;
    return (long - warm) / ((this.#size.long - this.#size.warm) * this.program.each);
  }
  get start_ns(): number | null {
    return this.#least('start', 'wall_ns');
  }
  get peak_mib(): number | null {
    const kib = this.#least('long', 'peak_kib');
    return kib === null ? null : kib / KIB_IN_MIB;
  }
}

/** What is compared: name of the rows, unit, and the figure of one series. */
const FIGURES: readonly [string, string, (series: Series) => number | null][] = [
  ['', 'ns', (series) => series.each('wall_ns')],
  [':cpu', 'ns', (series) => series.each('cpu_ns')],
  [':memory', 'MiB', (series) => series.peak_mib],
  [':start', 'ns', (series) => series.start_ns],
];

function rows_of(us: Series, today: Series, suffix: string): Row[] {
  return FIGURES.map(([name, unit, figure]) => {
    const peer = figure(today);
    const peers: Record<string, number> = peer === null ? {} : { [TODAY]: peer };
    const mine = figure(us);
    const pattern = us.program.name + name + suffix;
    return { bench: 'examples', pattern, unit, us: mine, peers, ratio: ratios(mine, peers) };
  });
}

/** Runs the bench; `rows` is what the JSON document lists. */
export async function bench_examples(
  plan: Plan,
  say: (line: string) => void,
  progress: (text: string) => void,
): Promise<Result> {
  const nodes = find_nodes(say);
  const scale = plan.sample_ms / FULL_SAMPLE_MS;
  const series = nodes.flatMap((node) =>
    PROGRAMS.flatMap((program) => SIDES.map((side) => new Series(program, node, side, scale))),
  );
  for (let round = 1; round <= plan.rounds; round++) {
    // Who goes first changes from round to round.
    const order = round % 2 === 0 ? series : series.toReversed();
    for (const one of order) {
      progress(`round ${round} of ${plan.rounds}: ${one.program.name}, ${one.side}`);
      await one.round();
    }
  }
  progress('');
  for (const one of series) {
    const why = one.problem ?? (one.each('wall_ns') === null ? NOISE : undefined);
    if (why !== undefined) say(`${one.program.name}, ${one.side}: ${why}`);
  }
  const rows: Row[] = [];
  for (const [i, node] of nodes.entries()) {
    const suffix = i === 0 ? '' : `@${node.version}`;
    const own = series.filter((one) => one.node === node);
    for (let n = 0; n < own.length; n += 2) rows.push(...rows_of(own[n], own[n + 1], suffix));
    say('');
    say(`Node ${node.version}; minimum of ${plan.rounds} rounds`);
    for (const line of table(rows, suffix)) say(line);
  }
  return { rows, versions: nodes.map((node) => node.version) };
}

// --- printing --------------------------------------------------------------------

const HEADS = ['kmem / today', 'kmem', 'today', 'time', 'CPU time', 'start', 'memory'];
const NONE = '–';

function time(ns: number | null | undefined): string {
  if (ns === null || ns === undefined) return NONE;
  return ns < 1000 ? `${ns.toFixed(0)} ns` : `${(ns / 1000).toFixed(ns < 1e5 ? 1 : 0)} us`;
}
function times(n: number | undefined): string {
  return n === undefined ? NONE : n.toFixed(2);
}
/** Ours and today's, in one cell. */
function both(row: Row | undefined, unit: string, text: (n: number) => string): string {
  const today = row?.peers[TODAY];
  if (row === undefined || row.us === null || today === undefined) return NONE;
  return `${text(row.us)} / ${text(today)} ${unit}`;
}
/** The cells of a program's line; what a row lacks is a dash. */
function cells(rows: readonly Row[], { name, what }: Program, suffix: string): string[] {
  const row = (figure: string): Row | undefined =>
    rows.find(({ pattern }) => pattern === name + figure + suffix);
  const [wall, cpu, start, memory] = ['', ':cpu', ':start', ':memory'].map(row);
  return [
    `${name.replace(/:.*/, '')}, ${what}`,
    time(wall?.us),
    time(wall?.peers[TODAY]),
    times(wall?.ratio[TODAY]),
    times(cpu?.ratio[TODAY]),
    both(start, 's', (ns) => (ns / 1e9).toFixed(2)),
    both(memory, 'MiB', (mib) => mib.toFixed(0)),
  ];
}
function table(rows: readonly Row[], suffix: string): string[] {
  return [HEADS, ...PROGRAMS.map((program) => cells(rows, program, suffix))].map(
    ([head, ...rest]) => head.padEnd(26) + rest.map((text) => text.padStart(16)).join(''),
  );
}

/** The table of examples/README.md. */
export function examples_markdown(
  rows: readonly Row[],
  versions: readonly string[],
  rounds: number,
): string[] {
  const line = (texts: readonly string[]): string => `| ${texts.join(' | ')} |`;
  const tables = versions.flatMap((version, i) => [
    '',
    `Node ${version}:`,
    '',
    line(HEADS),
    line(['---', ...HEADS.slice(1).map(() => '--:')]),
    ...PROGRAMS.map((program) => line(cells(rows, program, i === 0 ? '' : `@${version}`))),
  ]);
  const how = `Ratios are kmem divided by today; minimum of ${rounds} interleaved rounds`;
  return [...tables, '', `${how}; ${machine_line()}.`];
}
