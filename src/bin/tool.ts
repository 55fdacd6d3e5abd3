/*
 * tool: what a command gets from whoever runs it.
 *
 * A command never reaches for the machine or the terminal itself: it asks by
 * sysctl, and writes to the functions it was given.  So the same command
 * looks at the machine of this thread, at another process, or at a dump,
 * and a test reads what it printed.
 *
 * Exit codes: 0 done; 1 something asked for could not be had; 2 wrong usage.
 */
import { parseArgs } from 'node:util';
import { ENOMEM, errno_name } from '../sys/machine/errno.ts';
import { sysctl, type SysctlResult } from '../sys/observe/kern_sysctl.ts';
import { type memstat_fetch, memstat_fetch_live } from '../sys/observe/memstat_sysctl.ts';

export const EXIT_OK = 0;
export const EXIT_FAIL = 1;
export const EXIT_USAGE = 2;

/** The running program that is looked at. */
export interface Program {
  readonly pid: number;
  /** Bytes of its machine. */
  readonly memory: number;
  /** Where in the program the machine was booted. */
  readonly booted_at: string;
}
/** In a line. */
function program_text({ pid, memory, booted_at }: Program): string {
  return `pid ${pid}, ${memory / 2 ** 20}M, booted at ${booted_at}`;
}

export interface ToolContext {
  /** One request to the machine that is looked at. */
  sysctl(mib: readonly number[], oldp: Uint8Array | null, newp: Uint8Array | null): SysctlResult;
  /** A node's bytes by name, at most `max`; an errno otherwise. */
  fetch: memstat_fetch;
  out(data: string | Uint8Array): void;
  err(text: string): void;
  /** The program, if it is not this one. */
  readonly program?: Program;
  /** The output is a terminal. */
  readonly terminal?: boolean;
  /** It is a dump that is looked at, which does not change; absent: a machine that runs. */
  readonly dump?: {
    /** Threads ran while it was written: no figure is certain to fit the others. */
    readonly approximate: boolean;
    /** What of its memory was wrong; '' if nothing was met. */
    damage(): string;
  };
}

/** A context over the machine of this thread. */
export function tool_context(
  out: ToolContext['out'],
  err: ToolContext['err'],
  options: { user?: boolean } = {},
): ToolContext {
  return {
    sysctl: (mib, oldp, newp) => sysctl(mib, oldp, newp, options),
    fetch: memstat_fetch_live(options),
    out,
    err,
  };
}

export interface Flags {
  on: ReadonlySet<string>;
  /** Values of the letters that take one. */
  values: ReadonlyMap<string, string>;
  operands: string[];
  /** As tool_refuse. */
  refuse: (text: string) => number;
}
/** Says on one line what is wrong, and the usage, which begins with the tool's name; EXIT_USAGE. */
export function tool_refuse(
  ctx: Pick<ToolContext, 'err'>,
  usage: string,
): (text: string) => number {
  return (text) => {
    ctx.err(`${usage.split(' ')[0]}: ${text}; usage: ${usage}\n`);
    return EXIT_USAGE;
  };
}
/**
 * Reads clustered one-letter flags and --json.  `letters` as in getopt(3): one
 * that a colon follows takes a value; so do the long options in `longs`.  Null: a
 * wrong one, after the usage went to err in one line.
 */
export function tool_flags(
  argv: readonly string[],
  letters: string,
  usage: string,
  ctx: Pick<ToolContext, 'err'>,
  longs: readonly string[] = [],
): Flags | null {
  const refuse = tool_refuse(ctx, usage);
  type Option = { type: 'boolean' | 'string'; short?: string };
  const options: Record<string, Option> = { json: { type: 'boolean' } };
  for (const name of longs) options[name] = { type: 'string' };
  for (const [, c, colon] of letters.matchAll(/(\w)(:?)/g)) {
    options[`-${c}`] = { type: colon ? 'string' : 'boolean', short: c };
  }
  try {
    const r = parseArgs({ args: [...argv], options, allowPositionals: true, strict: true });
    const given = Object.entries(r.values).map(
      ([k, v]) => [k.startsWith('-') ? k.slice(1) : k, v] as const,
    );
    const values = given.filter((g): g is readonly [string, string] => typeof g[1] === 'string');
    return {
      on: new Set(given.map(([k]) => k)),
      values: new Map(values),
      operands: r.positionals,
      refuse,
    };
  } catch (e) {
    refuse(flag_fault(argv, e as Error));
    return null;
  }
}
/** What parseArgs did not like, in our words. */
function flag_fault(argv: readonly string[], e: Error): string {
  const quoted = /'([^']*)'/.exec(e.message)?.[1] ?? argv.join(' ');
  const { code } = e as NodeJS.ErrnoException;
  if (code !== 'ERR_PARSE_ARGS_INVALID_OPTION_VALUE') return `${quoted}: no such option`;
  const [name] = quoted.split(','); // short form, long form
  return e.message.includes('does not take') ? `${name}: takes no value` : `${name}: give a value`;
}

/** Most bytes of a variable that a command asks for: what goes over a socket at a time. */
const FETCH_MAX = 2 ** 24;
/** The bytes of a variable, however many there are; a text: why they cannot be had. */
export function tool_fetch(ctx: ToolContext, name: string): Uint8Array | string {
  for (let room = 2 ** 16; ; room *= 16) {
    const bytes = ctx.fetch(name, room);
    if (typeof bytes !== 'number') return bytes;
    if (bytes !== ENOMEM || room >= FETCH_MAX) return `${name}: ${errno_name(bytes)}`;
  }
}

/** How often a command shows its page, and how long it waits in between. */
export interface Rounds {
  /** Seconds. */
  readonly wait: number;
  /** Infinity: for ever. */
  readonly count: number;
}
const WAIT_MAX = 86_400;
/**
 * What -w and -c say, as in BSD: -w alone goes on for ever, -c alone waits a
 * second, neither is once.  A string says what is wrong.
 */
export function tool_rounds(wait: string | undefined, count: string | undefined): Rounds | string {
  const seconds = Number(wait ?? 1);
  if (!/^\d*\.?\d+$/.test(wait ?? '1') || seconds <= 0 || seconds > WAIT_MAX) {
    return `-w ${wait}: give seconds, above 0 and at most ${WAIT_MAX}`;
  }
  if (count === undefined) {
    return { wait: seconds, count: wait === undefined ? 1 : Number.POSITIVE_INFINITY };
  }
  if (/^[1-9]\d{0,14}$/.test(count)) return { wait: seconds, count: Number(count) };
  return `-c ${count}: give a whole number from 1 on`;
}
/** Runs `round` as often as is wanted, or until it returns other than 0; returns that. */
export async function tool_repeat(
  rounds: Rounds,
  round: (number: number) => number,
): Promise<number> {
  const from = performance.now();
  for (let n = 0; ; ) {
    const code = round(n++);
    if (code !== EXIT_OK || n >= rounds.count) return code;
    // Counted from the start, so that slow rounds do not add up.
    const left = from + n * rounds.wait * 1000 - performance.now();
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, left)));
  }
}
/**
 * What a command returns that has shown something: of a dump whose memory is wrong it says where,
 * in a line, below what could be read.
 */
export function tool_end(tool: string, ctx: ToolContext, code: number): number {
  const damage = ctx.dump?.damage() ?? '';
  if (damage === '') return code;
  ctx.err(`${tool}: ${damage}\n`);
  return EXIT_FAIL;
}
/** What a command shows: as text, and with --json. */
export interface Page {
  readonly text: string;
  readonly document: object;
}
/** On a terminal a line says first which program it is about. */
export function tool_opening(ctx: ToolContext, json: boolean): void {
  if (ctx.terminal && ctx.program && !json) ctx.out(`${program_text(ctx.program)}\n`);
}
/**
 * Shows what `page` returns, each time anew; a string from it says why that cannot be told.  As
 * JSON the document stands beside the program that it is about.
 */
export async function tool_show(
  tool: string,
  ctx: ToolContext,
  how: { rounds: Rounds; json: boolean },
  page: () => Page | string,
): Promise<number> {
  tool_opening(ctx, how.json);
  return await tool_repeat(how.rounds, (n) => {
    const shown = page();
    if (typeof shown === 'string') {
      ctx.err(`${tool}: ${shown}\n`);
      return EXIT_FAIL;
    }
    const program = ctx.program ? { program: ctx.program } : {};
    if (how.json) ctx.out(`${JSON.stringify({ ...program, ...shown.document })}\n`);
    else ctx.out(n > 0 ? `\n${shown.text}` : shown.text);
    return EXIT_OK;
  });
}
