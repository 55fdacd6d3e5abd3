/*
 * kmem explain: what a word on a screen of the tools means, in a paragraph.
 *
 *      a column of vmstat -m or -z       declared with the printer (observe/vmstat_text.ts)
 *      a column of procstat -v, vmstat -o   the same (observe/procstat_text.ts)
 *      a line or figure of netstat -m    the same (observe/netstat_text.ts)
 *      a row of systat -mbufs            the same (observe/systat_mbufs.ts)
 *      a line of vmstat -s               the variable that it shows
 *      a variable, counter or group      declared beside the code that reads it
 *      a zone, a malloc type             declared beside the code that makes it
 *      why a thread sleeps              machine/wmesg.ts
 *      a row of a replay's verdict       declared before it is used (replay/rows.ts)
 *      a figure for Prometheus           lib/metrics.ts
 *      a word of address spaces          lib/space_words.ts
 *      a way to find faults              lib/debug_words.ts
 *      an errno, the text of an error, its `reason`: lib/error_table.ts
 *
 * Nothing is written down here a second time: terms are gathered from the
 * declarations, without a machine.  A word may mean several things (`FREE` and the
 * `free` of something else); all are told.  Capitals do not matter, nor do brackets and
 * colons that a screen puts around a word.  Of a variable the last part will do.
 *
 * A text is taken for that of an error if it holds the name of an errno, or ends in what
 * the tools say instead of one.
 */
import { DEBUG_WORDS } from '../lib/debug_words.ts';
import { ERRORS, REASONS } from '../lib/error_table.ts';
import { families } from '../lib/metrics.ts';
import { SPACE_WORDS } from '../lib/space_words.ts';
import { ROWS, WORDS } from '../replay/rows.ts';
import '../sys/boot/whole.ts'; // where everything is declared
import { counters } from '../sys/machine/counter.ts';
import { errno_name, errno_of_code, errnos } from '../sys/machine/errno.ts';
import {
  CTLFLAG_TUN,
  CTLFLAG_WR,
  type SysctlDecl,
  help_of,
  sysctl_decls,
} from '../sys/machine/sysctl_decl.ts';
import { zone_decls } from '../sys/machine/zone_decl.ts';
import { declared_types } from '../sys/kmem/kern_malloc_type.ts';
import { wmesgs } from '../sys/machine/wmesg.ts';
import { swapctl_columns } from '../sys/observe/swap_info.ts';
import type { Column } from '../sys/observe/columns.ts';
import { NETSTAT_FIGURES, NETSTAT_LINES } from '../sys/observe/netstat_text.ts';
import { OBJECT_COLUMNS, PROCSTAT_COLUMNS } from '../sys/observe/procstat_text.ts';
import { group_help } from '../sys/observe/sysctl_names.ts';
import { SYSTAT_ALL, SYSTAT_ROWS } from '../sys/observe/systat_mbufs.ts';
import { VMSTAT_COLUMNS } from '../sys/observe/vmstat_rates.ts';
import { MALLOC_COLUMNS, MALLOC_DELTA_COLUMNS, ZONE_COLUMNS } from '../sys/observe/vmstat_text.ts';
import { nearest_of } from './nearest.ts';
import { STRERROR } from './sysctl.ts';
import { FoundWrong, UsageError } from './usage.ts';
import { SUMS_LINES } from '../sys/observe/vmstat_sums.ts';

export const EXPLAIN_HELP = `usage: kmem explain [--json] TERM

Says in a paragraph what a word on the screens of the tools means: a column of
vmstat -m, -z and -o and of procstat -v, a line of vmstat -s, netstat -m and
systat -mbufs, a row of what replay says, a variable of sysctl, a zone, a malloc
type, why a thread sleeps, a figure for Prometheus, a word of address spaces, a
way to find faults, an errno, the text of an error or the reason that it has.

  --json           a list of what it means, on stdout

exit codes: 0 told; 1 no such term: the nearest ones are named; 2 wrong usage

examples:
  kmem explain HighUse
  kmem explain never freed
  kmem explain requests for mbufs denied
  kmem explain vm.lowmem_period
  kmem explain mbuf_packet
  kmem explain redzone
  kmem explain ENOMEM
`;

/** Something that can be explained. */
export interface Term {
  readonly name: string;
  /** What kind of thing it is, for a sentence: `a column of vmstat -m`. */
  readonly kind: string;
  readonly text: string;
}

function of_columns<Row>(columns: readonly Column<Row>[], where: string): Term[] {
  return columns.map((c) => ({ name: c.title, kind: `a column of ${where}`, text: c.help }));
}
/** A phrase as a sentence. */
function sentence(phrase: string): string {
  const whole = phrase.charAt(0).toUpperCase() + phrase.slice(1);
  return /[.?!]$/.test(whole) ? whole : `${whole}.`;
}
function of_netstat(): Term[] {
  const lines = NETSTAT_LINES.map((line) => ({
    name: line.words,
    kind: 'a line of netstat -m',
    text: [line.help, ...line.keys.map((key) => `${key}: ${NETSTAT_FIGURES[key]}`)].join(' '),
  }));
  const figures = Object.entries(NETSTAT_FIGURES).map(([name, text]) => {
    const there = NETSTAT_LINES.filter((line) => line.keys.includes(name)).length;
    const where = there === 1 ? 'a line' : `${there} lines`;
    return { name, kind: `a figure in ${where} of netstat -m`, text };
  });
  return [...lines, ...figures];
}
/** How a variable may be set, and to what. */
function of_variable(d: SysctlDecl): Term {
  const facts = [d.unit === '' ? d.type : `${d.type}, ${d.unit}`];
  const settable = (d.flags & CTLFLAG_WR) !== 0;
  const tunable = (d.flags & CTLFLAG_TUN) !== 0;
  const values = d.bytes > 0 ? `${d.bytes - 1} bytes at most` : `${d.min} to ${d.max}`;
  if (d.handler === null && (settable || tunable)) facts.push(values);
  const when = [tunable ? 'at boot' : '', settable ? 'while it runs' : ''].filter(Boolean);
  facts.push(when.length === 0 ? 'read only' : `set ${when.join(' and ')}`);
  if (d.needs !== null) facts.push(`without ${d.needs} it does nothing`);
  const kind = `a variable of sysctl (${facts.join('; ')})`;
  return { name: d.name, kind, text: sentence(help_of(d)) };
}
function of_groups(names: readonly string[]): Term[] {
  const groups = new Map<string, number>();
  for (const name of names) {
    for (let at = name.indexOf('.'); at >= 0; at = name.indexOf('.', at + 1)) {
      const group = name.slice(0, at);
      groups.set(group, (groups.get(group) ?? 0) + 1);
    }
  }
  return [...groups].map(([name, n]) => ({
    name,
    kind: n === 1 ? 'a group of one variable of sysctl' : `a group of ${n} variables of sysctl`,
    text: sentence(group_help(name)),
  }));
}
function of_sysctl(): Term[] {
  const leaves = [
    ...sysctl_decls.map(of_variable),
    ...counters.map((c) => ({
      name: c.name,
      kind: 'a counter of sysctl (since boot)',
      text: sentence(help_of(c)),
    })),
  ];
  const help = new Map(leaves.map((t) => [t.name, t.text]));
  const sums = SUMS_LINES.flatMap(([variable, , words]) => {
    const text = help.get(`vm.stats.${variable}`);
    const line = { name: words.trim(), kind: 'a line of vmstat -s' };
    return text === undefined ? [] : [{ ...line, text: `${text} It is vm.stats.${variable}.` }];
  });
  const known = new Set(leaves.map((t) => t.name));
  const groups = of_groups([...known]).filter((t) => !known.has(t.name) && t.text !== '.');
  return [...leaves, ...groups, ...sums];
}
function of_errors(): Term[] {
  return errnos().map((errno) => {
    const entry = ERRORS.find((e) => e.errno === errno);
    let text = 'A number of the kernel that no call of the library throws.';
    if (entry) {
      const advice = entry.advice.charAt(0).toLowerCase() + entry.advice.slice(1);
      text = `${sentence(entry.means)} What to do: ${advice}.`;
    }
    return { name: errno_name(errno), kind: `errno ${errno}`, text };
  });
}
function under(kind: string, words: Readonly<Record<string, string>>): Term[] {
  return Object.entries(words).map(([name, text]) => ({ name, kind, text }));
}
function of_replay(): Term[] {
  return [...under('a row of what replay says', ROWS), ...under('a word of replay', WORDS)];
}
function of_metrics(): Term[] {
  return families().map(([name, kind, help]) => {
    return { name, kind: `a ${kind} of machine.collect(), for Prometheus`, text: sentence(help) };
  });
}
/** Everything that can be explained. */
export function terms(): Term[] {
  const rows = [...SYSTAT_ROWS, SYSTAT_ALL];
  const zones = zone_decls.map(({ name, help }) => ({
    name,
    kind: 'a zone',
    text: sentence(help),
  }));
  const types = declared_types().map(({ name, help }) => ({
    name,
    kind: 'a malloc type of the kernel',
    text: sentence(help),
  }));
  return [
    ...of_columns([...MALLOC_COLUMNS, ...MALLOC_DELTA_COLUMNS], 'vmstat -m'),
    ...of_columns(ZONE_COLUMNS, 'vmstat -z'),
    ...of_columns(VMSTAT_COLUMNS, 'vmstat'),
    ...of_columns(OBJECT_COLUMNS, 'vmstat -o'),
    ...of_columns(PROCSTAT_COLUMNS, 'procstat -v'),
    ...of_columns(swapctl_columns({ bytes: 512, name: '512-blocks' }), 'swapctl -l'),
    ...of_netstat(),
    ...rows.map((r) => ({ name: r.name, kind: 'a row of systat -mbufs', text: r.help })),
    ...zones,
    ...types,
    ...wmesgs.map(({ name, help }) => ({ name, kind: 'why a thread sleeps', text: help })),
    ...of_sysctl(),
    ...of_replay(),
    ...of_metrics(),
    ...under('a word of address spaces', SPACE_WORDS),
    ...under('a way to find faults', DEBUG_WORDS),
    ...under('the reason of an error', REASONS),
    ...of_errors(),
  ];
}

// --- finding -------------------------------------------------------------------------------

/** A word without what a screen puts around it. */
function bare(text: string): string {
  return text
    .trim()
    .toLowerCase()
    .replace(/\s*\([^()]*\/[^()]*\)$/, '') // (current/cache/total)
    .replace(/\(s\)$/, '')
    .replace(/[:,]+$/, '');
}
/** The errno that a text speaks of; 0: of none. */
function errno_in(text: string): number {
  for (const [word] of text.matchAll(/\bE[A-Z0-9]+\b/gi)) {
    const errno = errno_of_code(word.toUpperCase());
    if (errno !== 0) return errno;
  }
  const said = bare(text);
  const found = Object.entries(STRERROR).find(([, means]) => said.endsWith(means.toLowerCase()));
  return found ? Number(found[0]) : /^\d+$/.test(said) && errnos().includes(+said) ? +said : 0;
}
/** What a text means; empty: nothing that is known. */
export function explained(text: string, all: readonly Term[] = terms()): Term[] {
  const wanted = bare(text);
  const errno = errno_in(text);
  const found = all.filter(
    (t) => bare(t.name) === wanted || (errno !== 0 && t.kind === `errno ${errno}`),
  );
  if (found.length > 0) return found;
  return all.filter((t) => t.kind.includes(' of sysctl') && t.name.endsWith(`.${wanted}`));
}

/** Names that somebody may have meant, likeliest first. */
export function nearest(text: string, all: readonly Term[] = terms()): string[] {
  const names = all.map(({ name }) => name);
  return nearest_of(bare(text), names, (name) => [bare(name), bare(name).split('.').at(-1) ?? '']);
}

// --- the command ---------------------------------------------------------------------------

const WIDTH = 80;
/** A text in lines that fit. */
function wrapped(text: string): string {
  let out = '';
  let line = '';
  for (const word of text.split(/\s+/)) {
    if (line !== '' && line.length + 1 + word.length > WIDTH) {
      out += `${line}\n`;
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return `${out}${line}\n`;
}

/** The command. Returns its exit code. */
export function explain_main(argv: readonly string[]): number {
  const words = argv.filter((word) => word !== '--json');
  if (words.includes('--help') || words.includes('-h')) {
    process.stdout.write(EXPLAIN_HELP);
    return 0;
  }
  const option = words.find((word) => /^-[^\d\s]/.test(word));
  if (option !== undefined) {
    throw new UsageError(`${option}: no such option (kmem explain --help)`, 'explain');
  }
  const text = words.join(' ');
  if (text.trim() === '') throw new UsageError('give a TERM (kmem explain --help)', 'explain');
  const all = terms();
  const found = explained(text, all);
  if (found.length === 0) {
    const near = nearest(text, all);
    const hint =
      near.length > 0
        ? `near it: ${near.join(', ')}`
        : 'what a program itself named is not known here; kmem sysctl -ad lists variables';
    throw new FoundWrong(`${text}: no such term; ${hint}`);
  }
  if (words.length < argv.length) process.stdout.write(`${JSON.stringify(found, null, 1)}\n`);
  else {
    const paragraphs = found.map((t) => wrapped(`${t.name}, ${t.kind}. ${t.text}`));
    process.stdout.write(paragraphs.join('\n'));
  }
  return 0;
}
