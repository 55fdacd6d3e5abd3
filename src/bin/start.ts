/*
 * kmem start: the first screen, which `npm start` shows.
 *
 * Some bundled recordings are played, one after another, and each is told in two or
 * three lines: what it is and where it plays, before it plays; then what came of it.  All
 * bytes are those that the recorded programs asked for, because the kernel's own figures
 * (size classes, pages, speeds of so short a run) say little to somebody who has not met
 * them; `kmem replay FILE` shows both.  Under the recording with threads stands its
 * `vmstat -m`, read from the machine that played it.
 *
 * On a terminal a line of progress is drawn and wiped; elsewhere the line that stands
 * before each recording plays that part.
 */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { live_types } from '../replay/heap/heap_figures.ts';
import { is_packet_outcome, type PacketOutcome } from '../replay/packet/packet_replay.ts';
import { play_trace, type ReplayOptions, type ReplayOutcome } from '../replay/heap/replay.ts';
import { short_site } from '../replay/read/type_names.ts';
import {
  count,
  counted,
  cpu_list,
  damage_row,
  mega,
  progress_line,
} from '../replay/heap/verdict.ts';
import { is_pages_outcome, type PagesOutcome } from '../replay/vm/pages_replay.ts';
import { is_vm_outcome, sum_of, type VmOutcome } from '../replay/vm/vm_replay.ts';
import { vmstat_malloc_text } from '../sys/observe/vmstat_text.ts';
import { UsageError } from './usage.ts';

/** What is played, in this order. */
const RECORDINGS: readonly (readonly [file: string, what: string])[] = [
  ['make.mtrace.gz', 'make, a dry run of a build'],
  ['gm.mtrace.gz', 'an image converter, few blocks and large ones'],
  ['gitlog.mtrace.gz', 'git log, with all patches of 120 commits'],
  ['redis.threads.gz', 'a key-value server, its threads on one heap'],
  ['http2.pcap.gz', 'packets of HTTP/2 and UDP, in buffer chains'],
  ['make.strace.gz', 'a build, its processes in address spaces'],
  ['matmul.pages.gz', 'a matrix product, in a quarter of the pages it uses'],
];

/** Pages of memory in which references to pages are played. */
const FEW_PAGES = 64;

const INTRO = `kmem is a BSD kernel's memory subsystem inside one memory that JavaScript
threads share; the threads are its CPUs. Here they do what real programs did:
each request that was recorded is made of the kernel's malloc, each block is
filled when it is obtained, and looked at before it is freed.
`;

/** What to do now; the first is one of the recordings, as it is named from here. */
function try_next(): string {
  const first = `npx kmem replay ${relative('', join(TRACES, RECORDINGS[0][0]))}`;
  const commands = [
    [first, 'one in full, or a recording of yours'],
    ['npx kmem explain MemUse', 'a column, variable or error'],
    ['npx node examples/hello.ts', 'two threads of one program'],
  ];
  const wide = Math.max(...commands.map(([command]) => command.length));
  return commands.map(([command, what]) => `  ${command.padEnd(wide)}  ${what}\n`).join('');
}

export const START_HELP = `usage: kmem start

Plays some of the bundled recordings, and tells in a screen what you saw: heaps
of real programs, one with several threads on two CPUs, captured packets, the
system calls of a build, and a program in fewer pages than it uses.

exit codes: 0 all played; 1 a block, packet or page came out damaged; 2 wrong
usage, or no recordings are here

examples:
  kmem start
  kmem replay traces/make.mtrace.gz    one recording in full
`;

/** The folder of the bundled recordings. */
export const TRACES = join(import.meta.dirname, '..', '..', 'traces');

function usage(text: string): never {
  throw new UsageError(`${text} (kmem start --help)`, 'start');
}

/** The command. Returns its exit code. */
export async function start_main(argv: readonly string[]): Promise<number> {
  let given: { values: { help?: boolean }; positionals: string[] };
  try {
    const options = { help: { type: 'boolean', short: 'h' } } as const;
    given = parseArgs({ args: [...argv], allowPositionals: true, options });
  } catch (e) {
    usage((e as Error).message.split('. ')[0]);
  }
  const say = (text: string): void => void process.stdout.write(text);
  if (given.values.help) {
    say(START_HELP);
    return 0;
  }
  const [file] = given.positionals;
  if (file !== undefined) usage(`${file}: kmem replay FILE plays a recording of yours`);
  const here = RECORDINGS.filter(([name]) => existsSync(join(TRACES, name)));
  if (here.length === 0) usage('no recordings are bundled here: kmem replay FILE plays yours');
  say(`${INTRO}\n`);
  const seen: Seen = { events: 0, damaged: 0, crossing: 0 };
  for (const [name, what] of here) say(await one(name, what, seen, say));
  say(`\nWhat you saw\n${what_you_saw(seen, here.length)}\nTry next\n${try_next()}`);
  return seen.damaged > 0 ? 1 : 0;
}

/** What the recordings have in common. */
interface Seen {
  events: number;
  /** Blocks, packets or pages that did not come out as they went in. */
  damaged: number;
  /** Blocks that another thread released than the one that obtained them. */
  crossing: number;
}

/** Plays one; says what it is, and returns what came of it. */
async function one(
  name: string,
  what: string,
  seen: Seen,
  say: (text: string) => void,
): Promise<string> {
  const cpus = Math.min(2, availableParallelism());
  say(`${what}: ${where(name, cpus)}\n`);
  const bar = progress_line(process.stderr, true, name);
  let table = '';
  const options: ReplayOptions = {
    files: [join(TRACES, name)],
    cpus,
    type_by: 'caller',
    verify: true,
    strict: false,
    set: {},
    ...(name.includes('.pages.') ? { pages: { resident: FEW_PAGES, readahead: false } } : {}),
    progress: bar.show,
    inspect: () => {
      if (name.includes('.threads.')) table = vmstat_malloc_text(live_types().types);
    },
  };
  try {
    const out = await play_trace(options);
    if (is_vm_outcome(out)) return of_spaces(out, seen);
    if (is_pages_outcome(out)) return of_pages(out, seen);
    return (is_packet_outcome(out) ? of_packets(out, seen) : of_heap(out, seen)) + table;
  } finally {
    bar.end();
  }
}
/** Which CPUs play it. */
function where(name: string, cpus: number): string {
  if (name.includes('.pcap.')) {
    return cpus === 1 ? 'in and out on CPU 1' : 'in on CPU 1, out on CPU 2';
  }
  return /\.(threads|strace)\./.test(name) ? cpu_list(cpus) : `one thread, ${cpu_list(1)}`;
}
function of_heap(out: ReplayOutcome, seen: Seen): string {
  const { trace, heap } = out;
  seen.events += trace.event_lines;
  seen.damaged += heap.verify_errors;
  const { threads, released_by_other_thread: crossing = 0 } = trace;
  const who = threads === undefined ? '' : ` of ${counted(threads, 'thread')}`;
  const most = `at most ${count(trace.peak_live_bytes)} bytes in use at once`;
  let text = `  ${counted(trace.event_lines, 'event')}${who}; ${most}\n`;
  const [site] = trace.top_never_freed_sites ?? [];
  if (threads !== undefined) {
    seen.crossing += crossing;
    const blocks = counted(crossing, 'block was', 'blocks were');
    text += `  ${blocks} freed by another thread than the one that got them\n`;
  } else if (site !== undefined) {
    const lost = `${count(trace.never_freed_bytes)} bytes`;
    text += `  never freed ${lost}; ${count(site[2])} of them by ${short_site(site[0])}\n`;
  }
  if (heap.failed > 0) text += `  ${counted(heap.failed, 'request')} FAILED: no memory\n`;
  return text + damage_row(trace);
}
function of_packets({ trace, packets, verdict }: PacketOutcome, seen: Seen): string {
  seen.events += packets.received;
  seen.damaged += packets.verify_errors + (verdict.bytes_equal === false ? 1 : 0);
  const all = `${counted(packets.received, 'packet')}, ${mega(trace.captured_bytes)}B`;
  const left = verdict.mbufs_left + verdict.clusters_left + verdict.tags_left;
  const back = left === 0 ? 'all buffers given back' : `${counted(left, 'BUFFER')} LEFT`;
  const same = verdict.bytes_equal === false ? 'OTHER BYTES THAN CAME IN' : 'each byte as it came';
  return `  ${all}: ${same}; ${back}\n${damage_row(trace)}`;
}
function of_pages({ trace, vm, memory }: PagesOutcome, seen: Seen): string {
  seen.events += vm.references;
  seen.damaged += vm.verify_errors + vm.failed + memory.pages_left;
  const all = `${counted(vm.references, 'reference')} to ${counted(trace.pages, 'page')}`;
  const lru = `${vm.lru_ratio.toFixed(2)} times what exact LRU misses`;
  return `  ${all}; ${count(vm.misses)} missed, ${lru}\n${damage_row(trace)}`;
}
function of_spaces({ trace, vm, memory }: VmOutcome, seen: Seen): string {
  const calls = sum_of(trace.calls);
  const left = memory.pages_left;
  seen.events += calls;
  seen.damaged += vm.verify_errors + left;
  const of = counted(trace.thread_ids_seen, 'process', 'processes');
  const on_memory = `${count(sum_of(vm.calls))} of them on memory`;
  const most = `at most ${count(vm.most_spaces)} at a time`;
  const back = left === 0 ? 'all given back' : `${counted(left, 'PAGE')} LEFT`;
  let text = `  ${counted(calls, 'system call')} of ${of}, ${on_memory}\n`;
  const faults = counted(vm.faults, 'page fault');
  text += `  ${counted(vm.spaces, 'space')}, ${most}; ${faults}; ${back}\n`;
  const other = sum_of(vm.mismatches);
  if (other > 0) text += `  ${counted(other, 'call')} ANSWERED OTHERWISE THAN RECORDED\n`;
  return text + damage_row(trace);
}
function what_you_saw(seen: Seen, recordings: number): string {
  const damaged = counted(seen.damaged, 'BLOCK, PACKET OR PAGE', 'BLOCKS, PACKETS OR PAGES');
  const good = seen.damaged === 0;
  const whole = good ? 'each block, packet and page came out whole' : `${damaged} DAMAGED`;
  let text = `  ${count(seen.events)} events of ${recordings} recordings; ${whole}.\n`;
  text += '  What a program never freed is told to the byte, with the call site.\n';
  if (seen.crossing > 0) {
    text += '  Threads on two CPUs obtain blocks of one heap, hand them over and free them,\n';
    text += '  nearly always without a lock; the counts by type (vmstat -m) are exact.\n';
  }
  return text;
}
