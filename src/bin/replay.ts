/*
 * kmem replay: recorded heaps, packets, system calls and references to pages on a real machine.
 *
 * Without a file it plays the bundled recordings.  For each it shows progress,
 * then a verdict (what the recording says: peak, leaks, call sites; and what the
 * machine had of it), and `vmstat -m` and `vmstat -z` underneath, read from the
 * machine that played; under a capture `netstat -m`, under system calls a table of them and
 * `vmstat -s`, unless several bundled recordings are played.
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readdirSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { memory_size, PAGE_SIZE } from '../sys/machine/memory.ts';
import { sysctl_read } from '../sys/observe/kern_sysctl.ts';
import {
  type Compared,
  compare,
  compare_text,
  compared_damaged,
  type Setting,
} from '../replay/heap/compare.ts';
import { temporary_folder } from '../replay/temporary.ts';
import { live_types } from '../replay/heap/heap_figures.ts';
import { is_packet_outcome, live_mbufs } from '../replay/packet/packet_replay.ts';
import type { PacketOptions } from '../replay/packet/packet_task.ts';
import { packet_verdict } from '../replay/packet/packet_verdict.ts';
import {
  type AnyOutcome,
  DEFAULT_MEMORY,
  play_trace,
  type ReplayOptions,
  replay_compared,
} from '../replay/heap/replay.ts';
import { fit } from '../replay/heap/fit.ts';
import { is_rereadable, SourceError, spool, STDIN_NAME } from '../replay/read/source.ts';
import { progress_line, verdict } from '../replay/heap/verdict.ts';
import {
  is_pages_outcome,
  type PageOptions,
  pages_damaged,
  pages_too_small,
} from '../replay/vm/pages_replay.ts';
import { pages_verdict } from '../replay/vm/pages_verdict.ts';
import { is_vm_outcome, vm_damaged, vm_too_small } from '../replay/vm/vm_replay.ts';
import { has_spaces, vm_systat_text } from '../replay/vm/vm_systat.ts';
import { vm_calls_table, vm_verdict } from '../replay/vm/vm_verdict.ts';
import {
  CPUS_WANTED,
  compared_setting,
  cpus_option,
  memory_option,
  RESIDENT_WANTED,
  resident_option,
  TYPE_BY_WANTED,
  type_by_option,
} from './compare.ts';
import { TRACES } from './start.ts';
import { sysctl_main } from './sysctl.ts';
import { systat_page } from './systat.ts';
import { tool_context } from './tool.ts';
import { FoundWrong, UsageError } from './usage.ts';
import { netstat_mbuf_text } from '../sys/observe/netstat_text.ts';
import { systat_mbufs_text } from '../sys/observe/systat_mbufs.ts';
import { memstat_fetch_live } from '../sys/observe/memstat_sysctl.ts';
import { type Sum, vmstat_sums, vmstat_sums_text } from '../sys/observe/vmstat_sums.ts';
import { vmstat_malloc_text, vmstat_zone_text } from '../sys/observe/vmstat_text.ts';

export const REPLAY_HELP = `usage: kmem replay [options] [FILE...]

Plays recorded heaps (glibc mtrace, heaptrack, kmem-threads v1) through
malloc(9), captures of packets (pcap, pcapng) through mbufs, system calls
(strace -f) on address spaces, and references to pages (Valgrind's lackey,
kmem-pages v1) on one of them. Plain, gzip or zstd; \`-\` is standard input.
Without FILE: the bundled ones. A pipe that is to be played several times
(--fit, --compare, --loop) is copied to a file first.
A recording with threads keeps each thread's order and has its threads spread
over the CPUs. One without is of a single thread and plays once, on one CPU;
--programs N plays it N times at once, on N CPUs. Packets are received on one
CPU and sent by reference on each of the others. System calls: each process has
an address space, in which its memory calls are made, on the CPU it is dealt to.
References to pages play on one CPU, unless --cpus says more; what the machine
misses is told beside what exact LRU would have missed in as many pages.

  --cpus N              CPUs that play threads, packets or processes (default:
                        2, or fewer)
  --programs N          recordings without threads: N programs at once, N CPUs
  --memory SIZE         memory of the machine, such as 64M (default 1G)
  --fit                 find the smallest memory that plays without a failure
  --type-by WHAT        malloc types from: caller (default), module, none;
                        realloc leaves a block with the type it has
  --no-verify           do not fill and check blocks or pages (for timing)
  --strict              a malformed line or record, or a recording that is cut
                        or damaged, ends the replay with exit code 1; without
                        it, what stands before the damage is played
  --rate N              packets: N a second (default: as fast as they come)
  --loop N              packets: play the capture N times
  --drop                packets: drop what finds no mbuf, instead of waiting
  --write FILE          packets: write what was sent, as a pcap; with --loop
                        all of it
  --resident N          references to pages: at most N pages in memory at a
                        time; the machine's own come on top
  --readahead           references to pages: neighbours are read with a page
                        that is brought in
  --systat              packets: show systat -mbufs while they play; system
                        calls, pages: spaces, pages and faults
  --set NAME=VALUE      a boot tunable; may be repeated
                        (kmem replay --sysctl=-aT lists them)
  --compare NAME=A,B,…  play under each value, two rounds in turns, and show one
                        table; NAME: a tunable, memory, cpus, programs,
                        type-by, resident, readahead or verify (yes,no)
  --json                one JSON document on stdout, and nothing else
  --sysctl='ARGUMENTS'  print sysctl(8) of the machine: vm.stats, or -a, -da …
  --sysctl-dump NAME=FILE   write a node's raw bytes after the replay
  --quiet               no progress, no tables: the verdict alone

exit codes: 0 played; 1 the memory was too small for some requests (row
\`too small\`, or \`fit\` none; with --compare see row \`failed\`), verify errors,
bytes, mbufs or pages lost, or with --strict malformed lines or damage; 2 wrong
usage or unreadable input

examples:
  kmem replay
  kmem replay --programs 2 --type-by module app.mtrace.gz
  zcat app.mtrace.gz | kmem replay --json - | jq .trace.never_freed_bytes
  kmem replay --fit app.mtrace.gz
  kmem replay --loop 100 capture.pcapng
  strace -f -o app.strace app; kmem replay app.strace
  kmem replay --compare type-by=caller,module,none heaptrack.app.1234.zst
  valgrind --tool=lackey --trace-mem=yes --log-file=app.lackey app
  kmem replay --compare resident=64,256,1024 app.lackey
`;

interface Wanted {
  files: string[];
  json: boolean;
  quiet: boolean;
  systat: boolean;
  fit: boolean;
  compare: Setting | null;
  /** --cpus, if it was given. */
  asked: number | undefined;
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
  const some = String(Math.min(2, availableParallelism()));
  const { programs } = v;
  if (programs !== undefined && v.cpus !== undefined) usage('--programs N has N CPUs, no --cpus');
  const many = programs === undefined ? `--cpus ${v.cpus}` : `--programs ${programs}`;
  const cpus = cpus_option(programs ?? v.cpus ?? some) ?? usage(`${many}: ${CPUS_WANTED}`);
  const by = v['type-by'] ?? 'caller';
  const type_by = type_by_option(by) ?? usage(`--type-by ${by}: ${TYPE_BY_WANTED}`);
  const memory = v.memory === undefined ? 0 : memory_option(v.memory);
  if (typeof memory === 'string') usage(`--memory: ${memory}`);
  const set = Object.fromEntries((v.set ?? []).map((s) => pair(s, '--set', 'NAME=VALUE')));
  const files = given.positionals;
  if (files.includes('')) usage("'': the name of a file is empty");
  const packets = packet_options(v, files);
  if (packets && (v.fit || v.compare || programs !== undefined)) {
    const heaps = '--fit, --compare and --programs for heaps';
    usage(`--rate, --loop, --drop and --write are for captures; ${heaps}`);
  }
  const pages = page_options(v, v.cpus === undefined ? 1 : cpus, memory);
  if (pages && (v.fit || programs !== undefined || packets)) {
    const others = '--fit, --programs and what is for captures is not';
    usage(`--resident and --readahead are for references to pages; ${others}`);
  }
  return {
    files,
    json: v.json ?? false,
    quiet: v.quiet ?? false,
    systat: v.systat ?? false,
    fit: v.fit ?? false,
    compare: comparison(v, set),
    asked: v.cpus === undefined ? undefined : cpus,
    sysctl: v.sysctl ?? [],
    dumps: (v['sysctl-dump'] ?? []).map((d) => pair(d, '--sysctl-dump', 'NAME=FILE')),
    options: {
      cpus,
      ...(v.cpus === undefined ? {} : { asked_cpus: cpus }),
      ...(programs === undefined ? {} : { programs: cpus }),
      memory: v.memory,
      type_by,
      verify: !v['no-verify'],
      strict: v.strict ?? false,
      set,
      ...(packets ? { packets } : {}),
      ...(pages ? { pages } : {}),
    },
  };
}
const RATE_MAX = 1e9;
const LOOP_MAX = 1e6;
/** How captures are played; null: nothing was said about that. */
function packet_options(
  v: ReturnType<typeof args>['values'],
  files: readonly string[],
): PacketOptions | null {
  const { rate, loop, drop, write } = v;
  if (rate === undefined && loop === undefined && !drop && write === undefined) return null;
  const number = (name: string, text: string | undefined, most: number): number => {
    const n = Number(text);
    if (/^\d+$/.test(text ?? '') && n >= 1 && n <= most) return n;
    return usage(`--${name} ${text}: a whole number from 1 to ${most} is wanted`);
  };
  const times = loop === undefined ? 1 : number('loop', loop, LOOP_MAX);
  if (write === '') usage("--write '': the name of a file is empty");
  if (write !== undefined && files.length > 1) usage('--write goes with one capture');
  return {
    rate: rate === undefined ? 0 : number('rate', rate, RATE_MAX),
    loop: times,
    drop: drop ?? false,
    write: write ?? '',
  };
}
/** Pages of each of several players: with fewer they take them from each other for ever. */
const PAGES_EACH = 8;
/** How references to pages are played; null: nothing was said about that. */
function page_options(
  v: ReturnType<typeof args>['values'],
  players: number,
  memory: number,
): PageOptions | null {
  const { resident, readahead } = v;
  if (resident === undefined && !readahead) return null;
  const pages = resident === undefined ? 0 : resident_option(resident);
  if (pages === null) return usage(`--resident ${resident}: ${RESIDENT_WANTED}`);
  const least = players * PAGES_EACH;
  if (pages > 0 && players > 1 && pages < least) {
    usage(`--resident ${resident}: ${players} players want ${least} pages at least`);
  }
  const most = Math.floor((memory || memory_size(DEFAULT_MEMORY)) / PAGE_SIZE);
  if (pages > most) {
    usage(`--resident ${resident}: the machine has fewer than ${most} pages; give more --memory`);
  }
  return { resident: pages, readahead: readahead ?? false };
}
/** What --compare varies; nothing else may say the same, or need one machine at the end. */
function comparison(v: ReturnType<typeof args>['values'], set: Record<string, string>) {
  const [text, more] = v.compare ?? [];
  if (text === undefined) return null;
  if (more !== undefined) usage(`--compare ${more}: one setting at a time, in one --compare`);
  const setting = compared_setting(text);
  const { name } = setting;
  const said: Record<string, unknown> = { ...v, verify: v.verify ?? v['no-verify'], ...set };
  if (said[name] !== undefined) usage(`--compare ${name}: it is also set to one value`);
  const other = { cpus: 'programs', programs: 'cpus' }[name];
  if (other !== undefined && said[other] !== undefined) {
    usage(`--compare ${name}: --${other} says how many CPUs there are, too`);
  }
  if (name === 'memory' && v.fit) usage('--compare memory: --fit finds the memory itself');
  for (const one of ['sysctl', 'sysctl-dump'] as const) {
    if (v[one]) usage(`--compare plays on several machines: --${one} looks at one`);
  }
  return setting;
}
function args(argv: readonly string[]) {
  return parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      cpus: { type: 'string' },
      programs: { type: 'string' },
      memory: { type: 'string' },
      fit: { type: 'boolean' },
      'type-by': { type: 'string' },
      verify: { type: 'boolean' },
      'no-verify': { type: 'boolean' },
      strict: { type: 'boolean' },
      rate: { type: 'string' },
      loop: { type: 'string' },
      drop: { type: 'boolean' },
      resident: { type: 'string' },
      readahead: { type: 'boolean' },
      write: { type: 'string' },
      systat: { type: 'boolean' },
      set: { type: 'string', multiple: true },
      compare: { type: 'string', multiple: true },
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
/** The recordings that come with the package, smallest first. */
export function bundled_traces(): string[] {
  if (!existsSync(TRACES)) return [];
  return readdirSync(TRACES)
    .filter((f) => /\.(mtrace|threads|pcap|strace|pages|lackey)\.gz$/.test(f))
    .map((f) => join(TRACES, f))
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
  for (const [, to] of wanted.dumps) writable('--sysctl-dump', to, files);
  const { write } = wanted.options.packets ?? { write: '' };
  if (write !== '') writable('--write', write, files);
  const several = wanted.fit || wanted.compare !== null || (wanted.options.packets?.loop ?? 1) > 1;
  const documents: unknown[] = [];
  let code = 0;
  for (const [i, file] of files.entries()) {
    const source = several ? await rereadable(file) : { files: [file], remove: () => {} };
    const place = { first: i === 0, last: i === files.length - 1, bundled, source };
    try {
      const out = wanted.compare
        ? await compared(wanted, wanted.compare, file, place)
        : await one(wanted, file, place);
      documents.push({ file, ...out });
      if (damaged(out) || too_small(out)) code = 1;
    } finally {
      source.remove();
    }
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
  source: Source;
}
/** The files that are read for one on the command line, and what messages call them. */
interface Source {
  files: string[];
  names?: string[];
  remove: () => void;
}
/** What can be read again and again: the file itself, or a copy of what comes out of a pipe. */
async function rereadable(file: string): Promise<Source> {
  if (is_rereadable(file)) return { files: [file], remove: () => {} };
  const { path, remove } = temporary_folder();
  const copy = join(path, 'recording');
  try {
    await spool(file, copy);
  } catch (e) {
    remove();
    throw e;
  }
  return { files: [copy], names: [file === STDIN_NAME ? 'standard input' : file], remove };
}
async function one(wanted: Wanted, file: string, place: Place): Promise<AnyOutcome> {
  const say = (text: string): void => {
    if (!wanted.json) process.stdout.write(text);
  };
  const bar = progress_line(process.stderr, !wanted.quiet && !wanted.json, file);
  const page = systat_page(process.stderr);
  const show_page = (): void => {
    const figures = live_mbufs();
    if (figures.mbufs.total > 0) page(systat_mbufs_text(figures));
    else if (has_spaces()) page(vm_systat_text());
  };
  let tables = '';
  let netstat = '';
  let sums: readonly Sum[] = [];
  let variables = '';
  const options: ReplayOptions = {
    ...wanted.options,
    files: place.source.files,
    names: place.source.names,
    prepare: () => look_up(wanted),
    progress: wanted.systat && !wanted.quiet && !wanted.json ? show_page : bar.show,
    inspect: () => {
      for (const [name, to] of wanted.dumps) dump(name, to);
      if (!wanted.quiet && !wanted.json && (!place.bundled || place.last)) tables = live_tables();
      if (!wanted.quiet && !wanted.json) netstat = netstat_mbuf_text(live_mbufs());
      sums = vmstat_sums(memstat_fetch_live());
      for (const line of wanted.sysctl) variables += live_sysctl(line);
    },
  };
  try {
    const out = wanted.fit ? await fit(options, bar.note) : await play_trace(options);
    bar.end();
    say(place.first ? '' : '\n');
    if (is_vm_outcome(out) || is_pages_outcome(out)) {
      const calls = is_pages_outcome(out) ? '' : `${vm_calls_table(out)}\n`;
      say(is_pages_outcome(out) ? pages_verdict(file, out) : vm_verdict(file, out));
      if (!wanted.quiet && !place.bundled) {
        say(`\n${calls}vmstat -s\n${vmstat_sums_text(sums)}`);
      }
      const figures = Object.fromEntries(sums.map((s) => [s.key, s.value]));
      Object.assign(out, { 'summary-statistics': figures });
      tables = '';
    } else if (is_packet_outcome(out)) {
      say(packet_verdict(file, out));
      if (netstat !== '') say(`\nnetstat -m\n${netstat}`);
    } else {
      say(verdict(file, out, wanted.asked));
      if (tables !== '') say(`\n${tables}`);
    }
    if (variables !== '') say(tables !== '' ? variables : `\n${variables}`);
    return out;
  } catch (e) {
    bar.end();
    throw wanted.options.strict ? strict_error(e) : e;
  }
}
/** The same trace under each value, and one table. */
async function compared(
  wanted: Wanted,
  setting: Setting,
  file: string,
  place: Place,
): Promise<Compared> {
  const bar = progress_line(process.stderr, !wanted.quiet && !wanted.json, file);
  const { files, names } = place.source;
  const options = { ...wanted.options, files, names, progress: bar.show };
  const play = (o: ReplayOptions) => (wanted.fit ? fit(o, bar.note) : replay_compared(o));
  try {
    const out = await compare(options, setting, play, bar.note);
    bar.end();
    if (!wanted.json) {
      process.stdout.write(`${place.first ? '' : '\n'}${compare_text(file, out)}`);
    }
    return out;
  } catch (e) {
    bar.end();
    throw wanted.options.strict ? strict_error(e) : e;
  }
}
function damaged(out: AnyOutcome | Compared): boolean {
  if (is_vm_outcome(out)) return vm_damaged(out);
  if (is_pages_outcome(out)) return pages_damaged(out);
  if (is_packet_outcome(out)) return !out.verdict.good;
  return 'compare' in out ? compared_damaged(out) : out.heap.verify_errors > 0;
}
/** Requests failed for want of memory; those that were made to fail do not count. */
function too_small(out: AnyOutcome | Compared): boolean {
  if (is_vm_outcome(out)) return vm_too_small(out);
  if (is_pages_outcome(out)) return pages_too_small(out);
  if (is_packet_outcome(out) || 'compare' in out) return false;
  const { estimated_enough_bytes, fit_bytes } = out.memory;
  return estimated_enough_bytes !== undefined || fit_bytes === null;
}
/** Malformed lines and damage can be played around; under --strict they are what was looked for. */
function strict_error(e: unknown): unknown {
  const malformed = e instanceof SourceError && e.fault === 'strict';
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
/** Finds out before a long replay what will not be there after it. */
function look_up(wanted: Wanted): void {
  for (const [name] of wanted.dumps) node_bytes(name);
  for (const line of wanted.sysctl) if (!line.includes('=')) live_sysctl(line);
}
function node_bytes(name: string): Uint8Array {
  const bytes = sysctl_read(name);
  if (typeof bytes !== 'number') return bytes;
  return usage(`--sysctl-dump ${name}: no such node, or it cannot be read`);
}
function dump(name: string, to: string): void {
  const bytes = node_bytes(name);
  try {
    writeFileSync(to, bytes);
  } catch (e) {
    cannot_write('--sysctl-dump', to, e);
  }
}
/** Finds out before a long replay, and leaves what is in the file until there is something new. */
function writable(option: string, to: string, read: readonly string[]): void {
  const over = read.find((file) => is_same_file(file, to));
  if (over !== undefined) usage(`${option} ${to}: this is what is read (${over}); name another`);
  try {
    closeSync(openSync(to, 'a'));
  } catch (e) {
    cannot_write(option, to, e);
  }
}
/** Whether two names, '-' for standard input, are one regular file. */
function is_same_file(a: string, b: string): boolean {
  const [one, other] = [a, b].map((name) => {
    try {
      return name === STDIN_NAME ? fstatSync(0) : statSync(name);
    } catch {
      return null; // what is not there is told by whoever reads or writes it
    }
  });
  return !!one?.isFile() && one.ino === other?.ino && one.dev === other.dev;
}
function cannot_write(option: string, to: string, e: unknown): never {
  const { code } = e as NodeJS.ErrnoException;
  throw new UsageError(`${option} ${to}: cannot be written (${code}); name another`, 'replay');
}
