/*
 * kmem narrow: which malloc type damages memory, by runs of the program.
 *
 *      run 1   offset 0 of 8 zones   damage in zone 64-3   session cookie socket
 *      run 2   offset 1 of 8 zones   no damage seen
 *      run 3   offset 5 of 7 zones   damage in zone 64-0   cookie
 *
 * Under MALLOC_DEBUG_MAXZONES (sys/kmem/kern_multizone.ts) a type's blocks come from some of the
 * zones of a size, so damage that is found in a zone was done by a type of its class, and the
 * report says which these are.  Each run deals the types out otherwise; what is left is the types
 * that were in the damaged class each time.  The program is told by its environment (KMEM_SET), and
 * need not know.
 *
 * Which runs.  The first one takes any offset.  From then on the names that are left are known,
 * so the next one is that which deals them out most evenly: few runs suffice.  Where
 * nothing parts the names that are left, or after RUNS runs, it ends.
 */
import { spawn } from 'node:child_process';
import { closeSync, createReadStream, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { MULTIZONE_DAMAGE, multizone_class } from '../sys/kmem/kern_multizone.ts';
import { UsageError } from './usage.ts';

export const NARROW_HELP = `usage: kmem narrow [options] -- COMMAND [ARGUMENT...]

Runs a program that damages memory, at most 12 times, and says which malloc type did it.
Each run is a machine with INVARIANTS and several zones for each size, among which types
are dealt out by a letter of their names: damage stays in the zone of the type that did it.
A run counts when the program's messages name a damaged zone; the types that were in
it each time are left.  The program's machine is booted with KMEM_SET in its environment.

  --runs N         at most so many runs, 1 to 12 (default 12)
  --timeout SECS   a run that takes longer is ended; what it had said counts
  --verbose        shows what the program says

exit codes: 0 one type is left; 1 several are, or none; 2 no damage was seen, or wrong usage

examples:
  kmem narrow -- node app.js
  kmem narrow --timeout 60 -- npm test
`;

const RUNS = 12;
/** Numbers of zones that are tried: letters that are the same by one are not by another. */
const ZONES = [8, 7, 5];
/** Offsets that are looked at for the next run: longer than a name. */
const OFFSETS = 32;

/** How types are dealt out in a run. */
export interface Deal {
  readonly offset: number;
  readonly zones: number;
}
/** What a run said. */
export interface Damage {
  readonly zone: string;
  readonly types: readonly string[];
}
interface Wanted {
  readonly command: string;
  readonly args: readonly string[];
  readonly runs: number;
  readonly timeout_ms: number;
  readonly verbose: boolean;
}

/** The damage that a program's messages tell of first; null: none. */
export function damage_of(text: string): Damage | null {
  const line = new RegExp(`^${MULTIZONE_DAMAGE} (\\d+-\\d+) of types (".*")$`, 'm').exec(text);
  if (line === null) return null;
  try {
    return { zone: line[1], types: JSON.parse(`[${line[2]}]`) as string[] };
  } catch {
    return null; // another's line
  }
}
/**
 * The next deal: of those that were not yet, the one that parts the names best, by the size of the
 * class that a name is in on average.  null: none parts them at all.
 */
export function next_deal(left: readonly string[] | null, done: readonly Deal[]): Deal | null {
  let best: Deal | null = null;
  let least = left === null ? Number.POSITIVE_INFINITY : left.length ** 2;
  for (const zones of ZONES) {
    for (let offset = 0; offset < OFFSETS; offset++) {
      if (done.some((d) => d.offset === offset && d.zones === zones)) continue;
      const classes = new Map<number, number>();
      for (const name of left ?? []) {
        const c = multizone_class(name, zones, offset);
        classes.set(c, (classes.get(c) ?? 0) + 1);
      }
      const sum = [...classes.values()].reduce((all, n) => all + n ** 2, 0);
      if (sum >= least) continue;
      best = { offset, zones };
      least = sum;
    }
  }
  return best;
}

/** The command; what it shows goes to `say`. Returns its exit code. */
export async function narrow_main(
  argv: readonly string[],
  say = (text: string): void => void process.stdout.write(text),
): Promise<number> {
  const wanted = asked(argv);
  if (wanted === null) {
    say(NARROW_HELP);
    return 0;
  }
  const done: Deal[] = [];
  let left: readonly string[] | null = null;
  while (done.length < wanted.runs && (left === null || left.length > 1)) {
    const deal = next_deal(left, done);
    if (deal === null) break;
    done.push(deal);
    const damage = damage_of(await run(wanted, deal));
    if (damage !== null) left = left === null ? damage.types : both(left, damage.types);
    say(run_line(done.length, deal, damage, left));
  }
  say(verdict(left));
  if (left === null) return 2;
  return left.length === 1 ? 0 : 1;
}
function both(a: readonly string[], b: readonly string[]): string[] {
  return a.filter((name) => b.includes(name));
}
function asked(argv: readonly string[]): Wanted | null {
  const usage = (text: string): never => {
    throw new UsageError(`${text} (kmem narrow --help)`, 'narrow');
  };
  const end = argv.indexOf('--');
  const own = end < 0 ? argv : argv.slice(0, end);
  const options = {
    runs: { type: 'string' },
    timeout: { type: 'string' },
    verbose: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  } as const;
  let values: { runs?: string; timeout?: string; verbose?: boolean; help?: boolean } = {};
  let positionals: string[] = [];
  try {
    ({ values, positionals } = parseArgs({ args: [...own], options, allowPositionals: true }));
  } catch (e) {
    usage((e as Error).message.split('. ')[0]);
  }
  if (values.help) return null;
  const [command, ...args] = end < 0 ? [] : argv.slice(end + 1);
  if (positionals.length > 0 || command === undefined) usage('give the command after --');
  const runs = Number(values.runs ?? RUNS);
  if (!Number.isInteger(runs) || runs < 1 || runs > RUNS)
    usage(`--runs ${values.runs}: 1 to ${RUNS}`);
  const timeout = Number(values.timeout ?? 0);
  if (!(timeout >= 0 && timeout <= 86_400))
    usage(`--timeout ${values.timeout}: seconds, 1 to 86400`);
  return { command, args, runs, timeout_ms: timeout * 1000, verbose: values.verbose ?? false };
}

/**
 * Runs the program under a deal; what it said of damage.  Its messages go to a file, because what a
 * program writes into a pipe may be lost when it dies.
 */
async function run(wanted: Wanted, deal: Deal): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'kmem-narrow-'));
  try {
    const file = join(folder, 'said');
    const fd = openSync(file, 'wx', 0o600);
    await ended(wanted, deal, fd).finally(() => closeSync(fd));
    return await said(file, wanted.verbose);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
/** The program, started under a deal, has ended. */
function ended(wanted: Wanted, deal: Deal, fd: number): Promise<void> {
  const ours = `debug.malloc.numzones=${deal.zones} debug.malloc.zone_offset=${deal.offset}`;
  const KMEM_SET = `${process.env.KMEM_SET ?? ''} ${ours}`.trim();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const child = spawn(wanted.command, wanted.args, {
    stdio: ['ignore', wanted.verbose ? 'inherit' : 'ignore', fd],
    env: { ...process.env, KMEM_SET },
    ...(wanted.timeout_ms > 0 ? { timeout: wanted.timeout_ms, killSignal: 'SIGKILL' } : {}),
  });
  child.on('error', (e: NodeJS.ErrnoException) => {
    reject(new UsageError(`${wanted.command}: cannot be run: ${e.code ?? e.message}`, 'narrow'));
  });
  child.on('close', () => resolve());
  return promise;
}
/** The lines that speak of damage, among whatever else the program said. */
async function said(file: string, show: boolean): Promise<string> {
  const found: string[] = [];
  for await (const line of createInterface({ input: createReadStream(file) })) {
    if (show) process.stderr.write(`${line}\n`);
    if (line.startsWith(MULTIZONE_DAMAGE)) found.push(line);
  }
  return found.join('\n');
}

/** Names of so many types are shown in a line. */
const SHOWN = 8;
function run_line(
  n: number,
  { offset, zones }: Deal,
  damage: Damage | null,
  left: readonly string[] | null,
): string {
  const where = `run ${`${n}`.padStart(2)}  offset ${`${offset}`.padStart(2)} of ${zones} zones`;
  if (damage === null) return `${where}  no damage seen\n`;
  const names = (left ?? []).slice(0, SHOWN).map((name) => JSON.stringify(name));
  const more = (left ?? []).length - names.length;
  const which = `${names.join(' ')}${more > 0 ? ` and ${more} more` : ''}`;
  return `${where}  damage in zone ${damage.zone.padEnd(8)}  ${which || 'no type is left'}\n`;
}
function verdict(left: readonly string[] | null): string {
  if (left === null) return 'no damage was seen\n';
  if (left.length === 0) return 'no type is left: not one alone, or from outside its blocks\n';
  const names = left.map((name) => `  ${JSON.stringify(name)}\n`).join('');
  return `${left.length === 1 ? 'the type' : `${left.length} types are left`}\n${names}`;
}
