/*
 * kmem replay: recorded heaps on a real machine.
 *
 * Without a file it plays the bundled recordings.  For each it shows progress,
 * then a verdict (what it cost, how full and how fragmented memory was, what
 * leaked and from where), and `vmstat -m` and `vmstat -z` underneath, read from
 * the machine that played.
 */
import { closeSync, existsSync, openSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { KmemError } from '../sys/machine/errno.ts';
import { memory_size } from '../sys/machine/memory.ts';
import { sysctl_read } from '../sys/observe/kern_sysctl.ts';
import { live_types } from '../replay/heap_figures.ts';
import { type ReplayOptions, type ReplayOutcome, replay } from '../replay/replay.ts';
import type { TypeBy } from '../replay/sites.ts';
import { fit } from '../replay/fit.ts';
import { SourceError } from '../replay/source.ts';
import { progress_line, verdict } from '../replay/verdict.ts';
import { sysctl_main } from './sysctl.ts';
import { tool_context } from './tool.ts';
import { FoundWrong, UsageError } from './usage.ts';
import { vmstat_malloc_text, vmstat_zone_text } from '../sys/observe/vmstat_text.ts';

export const REPLAY_HELP = `usage: kmem replay [options] [FILE...]

Plays recorded heaps (glibc mtrace, kmem-threads v1; plain, gzip or zstd;
\`-\` is standard input) through malloc(9). Without FILE: the bundled recordings.
A recording of one program runs as N programs with --cpus N; one with threads
keeps each thread's order and spreads the threads over the CPUs.

  --cpus N              CPUs that play (default: 2, or fewer cores)
  --memory SIZE         memory of the machine, such as 64M (default 1G)
  --fit                 find the smallest memory that plays without a failure
  --type-by WHAT        malloc types from: caller (default), module, none
  --no-verify           do not fill and check blocks (for timing)
  --strict              a malformed line ends the replay, exit code 1
  --set NAME=VALUE      a boot tunable; may be repeated
  --json                one JSON document on stdout, and nothing else
  --sysctl='ARGUMENTS'  print sysctl(8) of the machine: vm.stats, or -a, -da …
  --sysctl-dump NAME=FILE   write a node's raw bytes after the replay
  --quiet               no progress, no tables: the verdict alone

exit codes: 0 played; 1 verify errors, or malformed lines with --strict;
2 wrong usage or unreadable input

examples:
  kmem replay
  kmem replay --cpus 1 --type-by module app.mtrace.gz
  zcat app.mtrace.gz | kmem replay --json - | jq .heap.inuse
  kmem replay --fit app.mtrace.gz
`;

interface Wanted {
  files: string[];
  json: boolean;
  quiet: boolean;
  fit: boolean;
  /** Arguments for sysctl(8), to be run on the machine of the replay. */
  sysctl: string[];
  dumps: [string, string][];
  options: Omit<ReplayOptions, 'files'>;
}

function usage(text: string): never {
  throw new UsageError(`${text} (kmem replay --help)`, 'replay');
}

function parse(argv: readonly string[]): Wanted | null {
  let given: ReturnType<typeof args>;
  try {
    given = args(argv);
  } catch (e) {
    return usage((e as Error).message.split('. ')[0]);
  }
  const v = given.values;
  if (v.help) return null;
  const cpus = v.cpus === undefined ? Math.min(2, availableParallelism()) : Number(v.cpus);
  if (!Number.isInteger(cpus) || cpus < 1 || cpus > 63) {
    usage(`--cpus ${v.cpus}: a whole number from 1 to 63 is wanted`);
  }
  const type_by = (v['type-by'] ?? 'caller') as TypeBy;
  if (!['caller', 'module', 'none'].includes(type_by)) {
    usage(`--type-by ${type_by}: one of caller, module, none is wanted`);
  }
  if (v.memory !== undefined) size_of(v.memory);
  const files = given.positionals;
  if (files.includes('')) usage("'': the name of a file is empty");
  if (v.fit && files.includes('-')) usage('--fit plays a trace several times: give a file, not -');
  return {
    files,
    json: v.json ?? false,
    quiet: v.quiet ?? false,
    fit: v.fit ?? false,
    sysctl: v.sysctl ?? [],
    dumps: (v['sysctl-dump'] ?? []).map((d) => pair(d, '--sysctl-dump', 'NAME=FILE')),
    options: {
      cpus,
      memory: v.memory,
      type_by,
      verify: !v['no-verify'],
      strict: v.strict ?? false,
      set: Object.fromEntries((v.set ?? []).map((s) => pair(s, '--set', 'NAME=VALUE'))),
    },
  };
}
function args(argv: readonly string[]) {
  return parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      cpus: { type: 'string' },
      memory: { type: 'string' },
      fit: { type: 'boolean' },
      'type-by': { type: 'string' },
      verify: { type: 'boolean' },
      'no-verify': { type: 'boolean' },
      strict: { type: 'boolean' },
      set: { type: 'string', multiple: true },
      json: { type: 'boolean' },
      sysctl: { type: 'string', multiple: true },
      'sysctl-dump': { type: 'string', multiple: true },
      quiet: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
}
function pair(text: string, option: string, form: string): [string, string] {
  const at = text.indexOf('=');
  if (at <= 0) usage(`${option} ${text}: ${form} is wanted`);
  return [text.slice(0, at), text.slice(at + 1)];
}
function size_of(text: string): number {
  try {
    return memory_size(text);
  } catch (e) {
    if (e instanceof KmemError) usage(`--memory: ${e.message.replace(/^.*?: boot: memory: /, '')}`);
    throw e;
  }
}

/** The recordings that come with the package, smallest first. */
export function bundled_traces(): string[] {
  const folder = join(import.meta.dirname, '..', '..', 'traces');
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((f) => /\.(mtrace|threads)\.gz$/.test(f))
    .map((f) => join(folder, f))
    .sort((a, b) => statSync(a).size - statSync(b).size);
}

/** The command. Returns its exit code. */
export async function replay_main(argv: readonly string[]): Promise<number> {
  const wanted = parse(argv);
  if (wanted === null) {
    process.stdout.write(REPLAY_HELP);
    return 0;
  }
  const bundled = wanted.files.length === 0;
  const files = bundled ? bundled_traces() : wanted.files;
  if (files.length === 0) usage('no file is given, and none is bundled here');
  if (wanted.dumps.length > 0 && files.length > 1) usage('--sysctl-dump goes with one file');
  for (const [, to] of wanted.dumps) writable(to);
  const documents: unknown[] = [];
  let code = 0;
  for (const [i, file] of files.entries()) {
    const out = await one(wanted, file, { first: i === 0, last: i === files.length - 1, bundled });
    documents.push({ file, ...out });
    if (out.heap.verify_errors > 0) code = 1;
  }
  if (wanted.json) {
    process.stdout.write(
      `${JSON.stringify(files.length === 1 ? documents[0] : documents, null, 1)}\n`,
    );
  }
  return code;
}

interface Place {
  first: boolean;
  last: boolean;
  bundled: boolean;
}
async function one(wanted: Wanted, file: string, place: Place): Promise<ReplayOutcome> {
  const say = (text: string): void => {
    if (!wanted.json) process.stdout.write(text);
  };
  const bar = progress_line(process.stderr, !wanted.quiet && !wanted.json, file);
  let tables = '';
  const options: ReplayOptions = {
    ...wanted.options,
    files: [file],
    progress: bar.show,
    inspect: () => {
      for (const [name, to] of wanted.dumps) dump(name, to);
      if (!wanted.quiet && !wanted.json && (!place.bundled || place.last)) tables = live_tables();
      for (const line of wanted.sysctl) tables += live_sysctl(line);
    },
  };
  try {
    const out = wanted.fit ? await fit(options, bar.note) : await replay(options);
    bar.end();
    say(`${place.first ? '' : '\n'}${verdict(file, out)}`);
    if (tables !== '') say(`\n${tables}`);
    return out;
  } catch (e) {
    bar.end();
    throw wanted.options.strict ? strict_error(e) : e;
  }
}
/** A malformed line is input that can be read; under --strict it is what was looked for. */
function strict_error(e: unknown): unknown {
  const malformed = e instanceof SourceError && /^line \d+: /.test(e.reason);
  return malformed ? new FoundWrong(e.message) : e;
}
function live_tables(): string {
  const { types, zones } = live_types();
  return `vmstat -m\n${vmstat_malloc_text(types)}\nvmstat -z\n${vmstat_zone_text(zones)}`;
}
/** What sysctl(8) prints of the machine of the replay. */
function live_sysctl(line: string): string {
  let text = '';
  const take = (more: string | Uint8Array): void => {
    text += typeof more === 'string' ? more : new TextDecoder().decode(more);
  };
  const code = sysctl_main(line.split(/\s+/).filter(Boolean), tool_context(take, take));
  if (code !== 0) usage(`--sysctl '${line}': ${text.trim().split('\n')[0]}`);
  return `\nsysctl ${line}\n${text}`;
}
function dump(name: string, to: string): void {
  const bytes = sysctl_read(name);
  if (typeof bytes === 'number') usage(`--sysctl-dump ${name}: no such node, or it cannot be read`);
  try {
    writeFileSync(to, bytes);
  } catch (e) {
    cannot_write(to, e);
  }
}
/** Finds out before a long replay. */
function writable(to: string): void {
  try {
    closeSync(openSync(to, 'w'));
  } catch (e) {
    cannot_write(to, e);
  }
}
function cannot_write(to: string, e: unknown): never {
  const { code } = e as NodeJS.ErrnoException;
  throw new UsageError(`--sysctl-dump ${to}: cannot be written (${code}); name another`, 'replay');
}
