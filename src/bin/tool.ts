/*
 * tool: what a command gets from whoever runs it.
 *
 * A command never reaches for the machine or the terminal itself: it asks by
 * sysctl, and writes to the functions it was given.  So the same command
 * looks at the machine of this thread, at another process, or at kept bytes,
 * and a test reads what it printed.
 *
 * Exit codes: 0 done; 1 something asked for could not be had; 2 wrong usage.
 */
import { parseArgs } from 'node:util';
import { sysctl } from '../sys/observe/kern_sysctl.ts';
import { type memstat_fetch, memstat_fetch_live } from '../sys/observe/memstat_sysctl.ts';

export const EXIT_OK = 0;
export const EXIT_FAIL = 1;
export const EXIT_USAGE = 2;

export interface ToolContext {
  /** One request to the machine that is looked at. */
  sysctl(
    mib: readonly number[],
    oldp: Uint8Array | null,
    newp: Uint8Array | null,
  ): { error: number; oldlen: number };
  /** A node's bytes by name, at most `max`; an errno otherwise. */
  fetch: memstat_fetch;
  out(data: string | Uint8Array): void;
  err(text: string): void;
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
  operands: string[];
}
/**
 * Reads clustered one-letter flags and --json.  Null: an unknown one, after the
 * usage went to err in one line.
 */
export function tool_flags(
  argv: readonly string[],
  letters: string,
  usage: string,
  ctx: ToolContext,
): Flags | null {
  const boolean = { type: 'boolean' } as const;
  const options: Record<string, { type: 'boolean'; short?: string }> = { json: boolean };
  for (const c of letters) options[`-${c}`] = { type: 'boolean', short: c };
  try {
    const r = parseArgs({ args: [...argv], options, allowPositionals: true, strict: true });
    const on = new Set(Object.keys(r.values).map((k) => (k.startsWith('-') ? k.slice(1) : k)));
    return { on, operands: r.positionals };
  } catch (e) {
    const bad = /'([^']*)'/.exec((e as Error).message)?.[1] ?? argv.join(' ');
    ctx.err(`${usage.split(' ')[0]}: ${bad}: no such option; usage: ${usage}\n`);
    return null;
  }
}
