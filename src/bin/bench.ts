/*
 * kmem bench contig: how often contiguous memory is had from a memory in use, by each algorithm.
 *
 *      memory      | o o o o k o o o o . o o k . o o |       k blocks of the kernel: they stay
 *                    used, and some of it given back         o pages of a space, all dirty
 *
 * A machine is filled with pages of a space, the first and the last of each part at the start, so
 * that what the kernel needs for them lies together, the others in an order by lot, and in between
 * with stretches of blocks of malloc that stay.  Then parts of the space are unmapped by lot until
 * just so much is in use; what is free lies in small pieces everywhere.  One request is made of it.
 * The next cell of the table begins with a new machine, and the same lot for each algorithm.
 *
 *      old         before 2004: a place by luck, and everything is paged out
 *      2004        one place after the other is paged out
 *      relocation  the pages of one place move elsewhere
 */
import { parseArgs } from 'node:util';
import { boot, KmemError, type Machine, type Region } from '../lib/index.ts';
import { sizeOf } from '../lib/space_args.ts';
import { UsageError } from './usage.ts';

export const BENCH_HELP = `usage: kmem bench contig [options]

Fills a machine, gives parts back by lot until 50, 75, 90, 95 % are in use, and asks for
contiguous blocks of 4, 16, 64, 256, 1024 pages.  Shows how many requests each algorithm
served, and what one took on average: time, pages moved, pages written.

  --rounds N       machines for each cell of the table, each with another lot (default 3)
  --memory SIZE    of a machine, 16M to 1G (default 64M)
  --pages N,N      requests of so many pages alone
  --in-use N,N     so many percent in use alone
  --json           one JSON document

Pages are written to a swap file in the folder of temporary files, which is removed.

examples:
  kmem bench contig
  kmem bench contig --rounds 20 --json > contig.json
`;

const PAGE = 4096;
const PAGES = [4, 16, 64, 256, 1024];
const IN_USE = [50, 75, 90, 95];
const ALGORITHMS = ['old', '2004', 'relocation'] as const;
type Algorithm = (typeof ALGORITHMS)[number];
/** A part of the space has 1 to so many pages. */
const PART_PAGES = 8;
/** Of so many stretches of memory one is the kernel's. */
const STRETCHES = 20;
const STRETCH_PAGES = 128;
/** Filling ends when so little is free, of 100; that lies together, and the kernel gets it. */
const FULL_PERCENT = 2;

/** One cell. */
interface Cell {
  readonly algorithm: Algorithm;
  readonly inUse: number;
  readonly pages: number;
  readonly requests: number;
  served: number;
  /** Of one request on average, served or not. */
  ms: number;
  moved: number;
  written: number;
}
interface Wanted {
  readonly pages: readonly number[];
  readonly inUse: readonly number[];
  readonly rounds: number;
  readonly memory: number;
  readonly json: boolean;
}

/** Runs the command; returns the exit code. */
export function bench_main(argv: readonly string[]): number {
  const wanted = asked(argv);
  const cells: Cell[] = [];
  for (const inUse of wanted.inUse) {
    for (const pages of wanted.pages) {
      for (const algorithm of ALGORITHMS) cells.push(cell(wanted, algorithm, inUse, pages));
    }
    if (!wanted.json) process.stdout.write(table(cells.filter((c) => c.inUse === inUse)));
  }
  const { rounds, memory } = wanted;
  if (wanted.json) process.stdout.write(`${JSON.stringify({ rounds, memory, cells })}\n`);
  return 0;
}
function asked(argv: readonly string[]): Wanted {
  let values: Partial<Record<'rounds' | 'memory' | 'pages' | 'in-use', string>> & {
    json?: boolean;
  };
  let positionals: string[];
  try {
    const text = { type: 'string' } as const;
    const numbers = { rounds: text, memory: text, pages: text, 'in-use': text };
    const options = { json: { type: 'boolean' }, ...numbers } as const;
    ({ values, positionals } = parseArgs({ args: [...argv], options, allowPositionals: true }));
  } catch (e) {
    throw new UsageError((e as Error).message.split('. ')[0], 'bench');
  }
  if (positionals.length !== 1 || positionals[0] !== 'contig') {
    throw new UsageError('say which: kmem bench contig', 'bench');
  }
  const rounds = Number(values.rounds ?? 3);
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > 1000) {
    throw new UsageError(`--rounds ${values.rounds}: give 1 to 1000`, 'bench');
  }
  const given = values.memory ?? '64M';
  const memory = sizeOf('bench', '--memory', /^\d+$/.test(given) ? Number(given) : given);
  if (memory < 2 ** 24 || memory > 2 ** 30) {
    throw new UsageError(`--memory ${given}: give 16M to 1G`, 'bench');
  }
  const pages = list('pages', values.pages, PAGES, memory / PAGE);
  return {
    pages,
    inUse: list('in-use', values['in-use'], IN_USE, 97),
    rounds,
    memory,
    json: values.json ?? false,
  };
}
function list(
  name: string,
  given: string | undefined,
  all: readonly number[],
  most: number,
): readonly number[] {
  if (given === undefined) return all;
  const numbers = given.split(',').map(Number);
  if (numbers.every((n) => Number.isInteger(n) && n >= 1 && n <= most)) return numbers;
  throw new UsageError(`--${name} ${given}: give numbers from 1 to ${most}, as 4,16`, 'bench');
}

// --- one cell ---------------------------------------------------------------------------------

function cell(wanted: Wanted, algorithm: Algorithm, inUse: number, pages: number): Cell {
  const c = { algorithm, inUse, pages, requests: wanted.rounds, served: 0, ms: 0, moved: 0 };
  const all: Cell = { ...c, written: 0 };
  for (let round = 0; round < wanted.rounds; round++) {
    const machine = boot({ memory: wanted.memory, cpus: 1, fresh: true, pagedaemon: false });
    try {
      fill(machine, inUse, round + 1);
      machine.sysctl('vm.old_contigmalloc', algorithm === 'old' ? 1 : 0);
      machine.sysctl('vm.contig_relocate', algorithm === 'relocation' ? 1 : 0);
      request(machine, all);
    } finally {
      machine.shutdown();
    }
  }
  all.ms /= wanted.rounds;
  all.moved /= wanted.rounds;
  all.written /= wanted.rounds;
  return all;
}
const number_of = (machine: Machine, name: string): number => Number(machine.sysctl(name));
const WRITTEN = 'vm.stats.vm.v_swappgsout';
const MOVED = 'vm.contig.moved';
function request(machine: Machine, c: Cell): void {
  const before = [number_of(machine, MOVED), number_of(machine, WRITTEN)];
  const start = performance.now();
  try {
    machine.contiguous(c.pages * PAGE);
    c.served++;
  } catch (e) {
    if (!(e instanceof KmemError) || e.code !== 'ENOMEM') throw e;
  }
  c.ms += performance.now() - start;
  c.moved += number_of(machine, MOVED) - before[0];
  c.written += number_of(machine, WRITTEN) - before[1];
}
function dice(seed: number): (n: number) => number {
  let s = (seed * 2654435761) >>> 0;
  return (n) => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return Math.floor((s / 2 ** 32) * n);
  };
}
function shuffle<T>(all: T[], draw: (n: number) => number): T[] {
  for (let i = all.length - 1; i > 0; i--) {
    const k = draw(i + 1);
    [all[i], all[k]] = [all[k], all[i]];
  }
  return all;
}
/** Fills the machine, and gives back until so much of 100 is in use. */
function fill(machine: Machine, inUse: number, seed: number): void {
  const draw = dice(seed);
  const total = number_of(machine, 'vm.stats.vm.v_page_count');
  const free = (): number => (number_of(machine, 'vm.stats.vm.v_free_count') / total) * 100;
  const space = machine.space('bench');
  const kernel = machine.type('bench');
  const parts: Region[] = [];
  const touches: { m: Region; at: number }[] = [];
  for (let n = 0; n < total && free() > FULL_PERCENT; ) {
    const pages = 1 + draw(PART_PAGES);
    const m = space.mmap({ length: pages * PAGE });
    parts.push(m);
    for (const i of [0, pages - 1]) m.setU32(i * PAGE, n);
    for (let i = 1; i < pages - 1; i++) touches.push({ m, at: i * PAGE });
    n += pages;
  }
  shuffle(touches, draw);
  for (let next = 0; free() > FULL_PERCENT && next < touches.length; ) {
    if (draw(STRETCHES) === 0) {
      for (let i = 0; i < STRETCH_PAGES; i++) kernel.alloc(PAGE);
      continue;
    }
    const end = Math.min(next + STRETCH_PAGES, touches.length);
    for (; next < end; next++) touches[next].m.setU32(touches[next].at, next);
  }
  kernel.tryAlloc(number_of(machine, 'vm.longest_run') * PAGE);
  for (const m of shuffle(parts, draw)) {
    if (free() >= 100 - inUse) break;
    m.unmap();
  }
}

// --- the table --------------------------------------------------------------------------------

function table(cells: readonly Cell[]): string {
  const lines = [`${cells[0].inUse} % in use`];
  const columns = ALGORITHMS.map((name) => name.padStart(32)).join('');
  lines.push(`${'pages'.padStart(7)}${columns}`);
  lines.push(' '.repeat(7) + '  served      ms  moved  written'.padStart(32).repeat(3));
  for (const pages of new Set(cells.map((c) => c.pages))) {
    const row = cells.filter((c) => c.pages === pages);
    lines.push(String(pages).padStart(7) + row.map(text).join(''));
  }
  return `${lines.join('\n')}\n\n`;
}
function text(c: Cell): string {
  const served = `${Math.round((c.served / c.requests) * 100)} %`;
  const [ms, moved, written] = [c.ms.toFixed(1), c.moved.toFixed(0), c.written.toFixed(0)];
  return served.padStart(8) + ms.padStart(8) + moved.padStart(7) + written.padStart(9);
}
