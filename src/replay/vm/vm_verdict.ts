/*
 * vm_verdict: the outcome of a recording of system calls, for people.
 *
 * First rows as of every replay: what was recorded, and what the machine had of it.  Then a table
 * of the calls by name, most first: how many ended, how many of them failed when they were
 * recorded and so leave nothing to play, and how many were not played.
 */
import {
  count,
  counted,
  cpu_list,
  damage_row,
  mega,
  short_name,
  SPEED_MIN_EVENTS,
} from '../heap/verdict.ts';
import type { StraceDocument } from '../read/read_trace.ts';
import { row } from '../rows.ts';
import type { ByCall } from './vm_player.ts';
import { sum_of, vm_too_small, type VmOutcome } from './vm_replay.ts';

const ERRORS_SHOWN = 5;
/** Columns of a row's text. */
const TEXT_MOST = 64;
const PAGE_BYTES = 4096;

/** What the recording says, and what was played of it. */
export function vm_verdict(file: string, out: VmOutcome): string {
  const { trace } = out;
  const ids = counted(trace.thread_ids_seen, 'process or thread', 'processes and threads');
  const what = `${short_name(file)}: ${trace.format}, ${counted(trace.lines, 'line')} of ${ids}`;
  return `${what}\n${recording(trace)}${machine(out)}`;
}
function recording(trace: StraceDocument): string {
  const made = `${count(trace.processes_created)} made, ${count(trace.threads_created)} threads`;
  const over = `${count(trace.exits)} exited, ${count(trace.killed)} killed`;
  let text = ' the recording\n';
  text += row('processes', `${made}; ${over}; ${counted(trace.signals, 'signal')}`);
  text += row('calls', calls(trace));
  const away = `${mega(trace.munmap_bytes)} by munmap`;
  text += row('mapped', `${mega(trace.mmap_bytes)} by mmap, taken away ${away}`);
  const written = `${mega(trace.write_bytes)} by write`;
  text += row('moved', `${mega(trace.read_bytes)} by read, ${written}`);
  return text + blocks(trace) + odd(trace);
}
function machine(out: VmOutcome): string {
  const { vm, memory } = out;
  let text = ` the machine, in pages of 4K, played on ${cpu_list(out.cpus)}\n`;
  const left = vm.spaces_left > 0 ? `; ${count(vm.spaces_left)} left when it ended` : '';
  text += row(
    'spaces',
    `${count(vm.spaces)} made, at most ${count(vm.most_spaces)} at a time${left}`,
  );
  text += row('memory', taken(out));
  text += row('answers', answers(out));
  for (const { line, what } of vm.different) text += row('', `line ${count(line)}: ${what}`);
  const made = `${count(vm.zero_fills)} zero fills, ${count(vm.cow)} of copy-on-write`;
  text += row('faults', `${count(vm.faults)}: ${made}; ${counted(vm.shootdowns, 'shoot-down')}`);
  if (vm.pageins > 0) text += row('', files(out));
  if (vm.forks > 0) text += row('forks', forks(out));
  if (vm_too_small(out)) text += row('too small', too_small(out));
  text += row('contents', contents(out));
  for (const c of out.complaints) text += row('', c);
  const { pages_left } = memory;
  const back = 'none: every page was given back';
  text += row(
    'pages left',
    pages_left === 0 ? back : `${counted(pages_left, 'PAGE')} NOT GIVEN BACK`,
  );
  text += row('not played', by_name(out.not_played));
  return text + row('time', speed(out));
}
function taken({ vm, memory }: VmOutcome): string {
  const all = `${mega(memory.kernel_peak_bytes)} of ${mega(memory.size_bytes)} at the peak`;
  const { holder } = vm;
  if (holder === null) return all;
  const program = short_name(holder.program);
  const who = program === '' ? `process ${holder.pid}` : `${program} (${holder.pid})`;
  return `${all}; most by ${who}, ${mega(holder.pages * PAGE_BYTES)}`;
}
/** Whether the calls answered as they did when they were recorded. */
function answers({ vm }: VmOutcome): string {
  const good = `${counted(sum_of(vm.calls), 'call')} answered as recorded`;
  const other = sum_of(vm.mismatches);
  if (other === 0) return good;
  const text = `${good}, ${count(other)} OTHERWISE: `;
  return text + names(vm.mismatches, text.length);
}
function files({ vm }: VmOutcome): string {
  const out = vm.pageouts === 0 ? '' : `, ${count(vm.pageouts)} written`;
  return `${counted(vm.pageins, 'page')} of files read${out}`;
}
function forks({ vm }: VmOutcome): string {
  const copies = counted(vm.cow - vm.cow_moved, 'page');
  const moved = vm.cow_moved === 0 ? '' : ` and ${count(vm.cow_moved)} moved`;
  const all = counted(vm.fork_pages, 'page');
  return `${count(vm.forks)} of spaces with ${all}; ${copies} copied${moved}`;
}
function too_small({ vm }: VmOutcome): string {
  const lost = sum_of(vm.no_memory);
  const touches = vm.no_memory_touches;
  const some: string[] = [];
  if (lost > 0) some.push(counted(lost, 'call'));
  if (touches > 0) some.push(counted(touches, 'load or store', 'loads and stores'));
  const skipped = sum_of(vm.skipped);
  const after = skipped === 0 ? '' : `; ${count(skipped)} calls left out`;
  return `${some.join(', ')} found no memory${after} (--memory)`;
}
function contents({ vm, verified }: VmOutcome): string {
  if (!verified) return 'not looked at (--no-verify)';
  if (vm.verify_errors === 0) return 'every page held what its space, or the one it came of, wrote';
  return `${counted(vm.verify_errors, 'PAGE HELD', 'PAGES HELD')} WHAT ANOTHER SPACE WROTE`;
}
function by_name(counts: ByCall): string {
  const all = sum_of(counts);
  if (all === 0) return 'none';
  const text = `${counted(all, 'call')}: `;
  return text + names(counts, text.length);
}
/** Counts with their names, most first, as far as there is room behind what stands before. */
function names(counts: ByCall, before = 0): string {
  const all = Object.entries(counts).map(([name, n]) => `${count(n)} ${name}`);
  let text = all[0] ?? '';
  for (const [i, one] of all.entries()) {
    if (i === 0) continue;
    const rest = i + 1 < all.length ? 3 : 0; // `, …`
    if (before + text.length + 2 + one.length + rest > TEXT_MOST) return `${text}, …`;
    text += `, ${one}`;
  }
  return text;
}
function calls(trace: StraceDocument): string {
  const kinds = Object.keys(trace.calls).length;
  const all = `${count(sum_of(trace.calls))} of ${counted(kinds, 'name')}`;
  if (sum_of(trace.errors) === 0) return all;
  const failed = `${all}; failed `;
  return failed + names(trace.errors, failed.length);
}
function blocks(trace: StraceDocument): string {
  const { blocks: n, files, references, written_blocks, lru_misses } = trace;
  if (n === undefined) return '';
  const what = `${counted(n, 'block')} of ${counted(files ?? 0, 'file')}`;
  const uses = counted(references ?? 0, 'time');
  const used = `${count(written_blocks ?? 0)} of them written, used ${uses}`;
  const misses = Object.entries(lru_misses ?? {});
  const sizes = misses.map(([size]) => size).join(', ');
  const missed = misses.map(([, m]) => count(m)).join(', ');
  return row('blocks', `${what}, ${used}`) + row('', `LRU of ${sizes} would miss ${missed}`);
}
/** What is unusual about the recording. */
function odd(trace: StraceDocument): string {
  const lost = Object.entries(trace.never_resumed_calls).map(([name, n]) => `${count(n)} ${name}`);
  const odds = [
    trace.malformed_lines > 0 ? counted(trace.malformed_lines, 'malformed line') : '',
    trace.malformed[0] === undefined ? '' : `first: ${trace.malformed[0]}`,
    lost.length === 0 ? '' : `never resumed: ${lost.slice(0, ERRORS_SHOWN).join(', ')}`,
    trace.plan.guessed > 0
      ? `${counted(trace.plan.guessed, 'process', 'processes')} of an unknown parent`
      : '',
  ].filter((what) => what !== '');
  const damage = damage_row(trace);
  const label = (i: number): 'recording' | '' => (i + damage.length === 0 ? 'recording' : '');
  return damage + odds.map((what, i) => row(label(i), what)).join('');
}
function speed({ trace, time }: VmOutcome): string {
  const seconds = `${time.seconds.toFixed(2)} s`;
  if (trace.lines < SPEED_MIN_EVENTS) return `${seconds}, too short to speak of speed`;
  return `${seconds}, ${count(time.lines_per_second)} lines/s`;
}
/** The calls by name. */
export function vm_calls_table({ trace, not_played }: VmOutcome): string {
  let text = 'CALL                  ENDED  REFUSED  NOT PLAYED\n';
  for (const [name, n] of Object.entries(trace.calls)) {
    const refused = trace.plan.refused[name] ?? 0;
    const cells = [String(n).padStart(9), String(refused).padStart(9)];
    text += `${name.padEnd(18)}${cells.join('')}${String(not_played[name] ?? 0).padStart(12)}\n`;
  }
  return text;
}
