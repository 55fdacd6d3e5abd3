/*
 * vm_verdict: the outcome of a recording of system calls, for people.
 *
 * First rows as of every replay: what was recorded, and what came of it.  Then a table of
 * the calls by name, most first: how many ended, how many of them failed when they were
 * recorded and so leave nothing to play, and how many were not played.
 */
import { count, counted, damage_row, mega, short_name, SPEED_MIN_EVENTS } from '../heap/verdict.ts';
import type { StraceDocument } from '../read/read_trace.ts';
import { row } from '../rows.ts';
import type { VmOutcome } from './vm_replay.ts';

const ERRORS_SHOWN = 5;

/** What the recording says, and what was played of it. */
export function vm_verdict(file: string, out: VmOutcome): string {
  const { trace } = out;
  const ids = counted(trace.thread_ids_seen, 'process or thread', 'processes and threads');
  let text = `${short_name(file)}: ${trace.format}, ${counted(trace.lines, 'line')} of ${ids}\n`;
  const made = `${count(trace.processes_created)} made, ${count(trace.threads_created)} threads`;
  const over = `${count(trace.exits)} exited, ${count(trace.killed)} killed`;
  text += row('processes', `${made}; ${over}; ${counted(trace.signals, 'signal')}`);
  text += row('calls', calls(trace));
  const away = `${mega(trace.munmap_bytes)} by munmap`;
  text += row('mapped', `${mega(trace.mmap_bytes)} by mmap, taken away ${away}`);
  const written = `${mega(trace.write_bytes)} by write`;
  text += row('moved', `${mega(trace.read_bytes)} by read, ${written}`);
  text += blocks(trace) + odd(trace);
  const left = sum(out.not_played);
  const ended = counted(left, 'call');
  text += row('not played', left === 0 ? 'none' : `${ended}: no memory call is run yet`);
  return text + row('time', speed(out));
}
function calls(trace: StraceDocument): string {
  const kinds = Object.keys(trace.calls).length;
  const all = `${count(sum(trace.calls))} of ${counted(kinds, 'name')}`;
  const errors = Object.entries(trace.errors);
  const shown = errors.slice(0, ERRORS_SHOWN).map(([name, n]) => `${count(n)} ${name}`);
  if (errors.length > ERRORS_SHOWN) shown.push('…');
  return errors.length === 0 ? all : `${all}; failed ${shown.join(', ')}`;
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
function sum(counts: Record<string, number>): number {
  return Object.values(counts).reduce((a, b) => a + b, 0);
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
