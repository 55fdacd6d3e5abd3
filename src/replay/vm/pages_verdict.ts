/*
 * pages_verdict: the outcome of references to pages, for people.
 *
 * First what was recorded, and how much memory it would want; then what the machine missed,
 * beside what exact LRU would have, and what that cost.
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
import type { PagesDocument } from '../read/read_trace.ts';
import { row } from '../rows.ts';
import { type PagesOutcome, pages_too_small } from './pages_replay.ts';

const PAGE_BYTES = 4096;
/** A memory that misses less of the references than this does well. */
const FEW = 0.01;

/** What the recording says, and what the machine made of it. */
export function pages_verdict(file: string, out: PagesOutcome): string {
  return `${pages_title(file, out.trace)}\n${recording(out.trace)}${machine(out)}`;
}
export function pages_title(file: string, trace: PagesDocument): string {
  const what = `${counted(trace.references, 'reference')} to ${counted(trace.pages, 'page')}`;
  return `${short_name(file)}: ${trace.format}, ${what}`;
}

function recording(trace: PagesDocument): string {
  let text = ` the recording, in pages of ${bytes(trace.page_bytes)}\n`;
  text += row('references', kinds(trace));
  const written = `${count(trace.written_pages)} of ${counted(trace.pages, 'page')}`;
  text += row('written', written);
  const sizes = Object.entries(trace.lru_misses);
  const misses = sizes.map(([, n]) => count(n)).join(', ');
  text += row('LRU', `of ${sizes.map(([n]) => n).join(', ')} pages would miss ${misses}`);
  return text + row('enough', enough(trace)) + odd(trace);
}
const NAMES: Record<string, string> = {
  r: 'reads',
  w: 'writes',
  I: 'fetches',
  L: 'loads',
  S: 'stores',
  M: 'both',
};
function kinds(trace: PagesDocument): string {
  const all = Object.entries(trace.lines_by_op).map(([op, n]) => `${count(n)} ${NAMES[op]}`);
  return all.join(', ');
}
/** A size that is a whole number of K, or M. */
function bytes(n: number): string {
  return n < 2 ** 20 ? `${Math.round(n / 1024)}K` : mega(n);
}
/** Memories with which it would do well. */
function enough(trace: PagesDocument): string {
  const curve = Object.entries(trace.lru_curve);
  const most = trace.references * FEW;
  const few = curve.find(([, misses]) => misses <= most);
  const last = curve.at(-1);
  const size = ([n]: [string, number]): string =>
    `${count(Number(n))} (${bytes(Number(n) * trace.page_bytes)})`;
  const parts: string[] = [];
  if (few !== undefined && few !== last) parts.push(`${size(few)} miss less than 1 %`);
  if (last?.[1] === trace.pages) parts.push(`${size(last)} nothing but first uses`);
  return parts.length === 0 ? 'more than was looked for' : parts.join('; ');
}
/** What is unusual about the recording. */
function odd(trace: PagesDocument): string {
  const odds = [
    trace.malformed_lines > 0 ? counted(trace.malformed_lines, 'malformed line') : '',
    trace.malformed[0] === undefined ? '' : `first: ${trace.malformed[0]}`,
  ].filter((what) => what !== '');
  const damage = damage_row(trace);
  const label = (i: number): 'recording' | '' => (i === 0 && damage === '' ? 'recording' : '');
  return damage + odds.map((what, i) => row(label(i), what)).join('');
}

function machine(out: PagesOutcome): string {
  const { vm, memory, trace, resident } = out;
  let text = ` the machine, in pages of 4K, played on ${cpu_list(out.cpus)}\n`;
  const taken = `${mega(memory.kernel_peak_bytes)} of ${mega(memory.size_bytes)} at the peak`;
  text += row('memory', `${taken}, the kernel's own included`);
  text += row('resident', limit(out));
  text += row('misses', misses(out));
  if (resident !== null && resident < (trace.exact_from ?? 1)) {
    text += row('', `of a recording that tells them from ${trace.exact_from} pages on`);
  }
  const hard = `${count(vm.zero_fills)} zero fills, ${count(vm.faults_hard)} page-ins`;
  text += row('faults', `${count(vm.faults)}: ${hard}, ${count(vm.faults_soft)} soft`);
  const moved = `${counted(vm.pageins, 'page')} in, ${count(vm.pageouts)} out`;
  text += row('paged', vm.pageins + vm.pageouts === 0 ? 'nothing' : moved);
  if (pages_too_small(out)) {
    const lost = counted(vm.no_memory, 'reference');
    const rest = vm.left_out === 0 ? '' : `, ${count(vm.left_out)} were left out`;
    text += row('too small', `${lost} found no memory${rest} (--memory)`);
  }
  text += row('contents', contents(out));
  for (const c of out.complaints) text += row('', c);
  const { pages_left } = memory;
  const back = 'none: every page was given back';
  const left = `${counted(pages_left, 'PAGE')} NOT GIVEN BACK`;
  text += row('pages left', pages_left === 0 ? back : left);
  return text + row('time', speed(out));
}
function limit({ resident, readahead }: PagesOutcome): string {
  const ahead = readahead ? '; neighbours are read with a page' : '';
  if (resident === null) return `as many as there is room for (--resident N)${ahead}`;
  return `at most ${counted(resident, 'page')} (${bytes(resident * PAGE_BYTES)})${ahead}`;
}
function misses({ vm, resident, cpus }: PagesOutcome): string {
  const share = `${((100 * vm.misses) / Math.max(1, vm.references)).toFixed(2)} % of references`;
  const all = `${count(vm.misses)}, ${share}`;
  if (resident === null) return all;
  if (cpus > 1) return `${all}, in the players' own order`;
  return `${all}: ${vm.lru_ratio.toFixed(2)} times exact LRU's ${count(vm.lru_misses)}`;
}
function contents({ vm, verified }: PagesOutcome): string {
  const failed = vm.failed === 0 ? '' : `; ${counted(vm.failed, 'REFERENCE')} FAILED`;
  if (!verified) return `not looked at (--no-verify)${failed}`;
  if (vm.verify_errors > 0) {
    return `${counted(vm.verify_errors, 'TIME')} A PAGE HELD SOMETHING ELSE${failed}`;
  }
  return `every page held what was last written to it${failed}`;
}
function speed({ trace, time }: PagesOutcome): string {
  const seconds = `${time.seconds.toFixed(2)} s`;
  if (trace.references < SPEED_MIN_EVENTS) return `${seconds}, too short to speak of speed`;
  return `${seconds}, ${count(time.references_per_second)} references/s`;
}
