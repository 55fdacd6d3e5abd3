/*
 * live: the commands that look at a running program.
 *
 *      kmem vmstat | netstat | procstat | swapctl | sysctl | systat  [their flags]  [-p PID]
 *           [--socket PATH]
 *      kmem vmstat | netstat | swapctl  [their flags]  -M FILE  [--machine ID]
 *
 * Each is a function over a context that asks by sysctl (tool.ts).  Here the context
 * is a program's control socket: the options that choose the program are taken off
 * the command line, the machine is found, and the rest is the command's own.  With -M
 * the context is a dump's (dump_context.ts), and no program is asked.
 *
 * Exit codes are the command's; 1 also if no machine is found, it does not answer,
 * or it goes away; 2 if several are running and none was chosen.
 */
import { ENOMEM } from '../sys/machine/errno.ts';
import {
  choose_machine,
  Connection,
  type ConnectOptions,
  type Found,
  SeveralError,
} from './connect.ts';
import { EXIT_FAIL, EXIT_USAGE, type ToolContext } from './tool.ts';
import { UsageError } from './usage.ts';

export type LiveCommand = 'vmstat' | 'netstat' | 'procstat' | 'swapctl' | 'sysctl' | 'systat';

const TIMEOUT = 5;
const TIMEOUT_MAX = 3600;

export const CHOICE_HELP = `
which program, and how patient:
  -p PID           its process (one machine running is found without)
  --socket PATH    its control socket, as machine.listen() gave it
  --timeout SECONDS    how long an answer may take (default ${TIMEOUT})

The program calls machine.listen(). Exit codes: 0 done; 1 something asked for could
not be had, or there is no such machine; 2 wrong usage, or several machines run.
`;

interface Command {
  run(argv: readonly string[], ctx: ToolContext): number | Promise<number>;
  readonly help: string;
}
async function load(command: LiveCommand): Promise<Command> {
  switch (command) {
    case 'vmstat': {
      const { VMSTAT_HELP, vmstat_main } = await import('./vmstat.ts');
      return { run: vmstat_main, help: VMSTAT_HELP };
    }
    case 'netstat': {
      const { NETSTAT_HELP, netstat_main } = await import('./netstat.ts');
      return { run: netstat_main, help: NETSTAT_HELP };
    }
    case 'procstat': {
      const { PROCSTAT_HELP, procstat_main } = await import('./procstat.ts');
      return { run: procstat_main, help: PROCSTAT_HELP };
    }
    case 'swapctl': {
      const { SWAPCTL_HELP, swapctl_main } = await import('./swapctl.ts');
      return { run: swapctl_main, help: SWAPCTL_HELP };
    }
    case 'sysctl': {
      const { SYSCTL_HELP, sysctl_main } = await import('./sysctl.ts');
      return { run: sysctl_main, help: SYSCTL_HELP };
    }
    case 'systat': {
      const { SYSTAT_HELP, systat_main } = await import('./systat.ts');
      return { run: (argv, ctx) => systat_main(argv, ctx), help: SYSTAT_HELP };
    }
  }
}
/** What --help prints. */
export async function live_help(command: LiveCommand): Promise<string> {
  return (await load(command)).help + CHOICE_HELP;
}

/** Commands that read dumps; of the others -M is not ours. */
const READS_DUMPS: ReadonlySet<string> = new Set<LiveCommand>(['vmstat', 'netstat', 'swapctl']);
/** The file that is read, and which machine of a core file. */
export interface DumpChoice {
  readonly path: string;
  readonly machine: string | undefined;
}
/** Takes the options that choose a program, or a dump, off a command line. Throws UsageError. */
export function split_choice(
  argv: readonly string[],
  command: string,
): { options: ConnectOptions; rest: string[]; help: boolean; dump: DumpChoice | null } {
  const rest: string[] = [];
  const given: Record<string, string | undefined> = {};
  const words = [...argv];
  const value = (name: string, inside: string | undefined): string => {
    const text = inside ?? words.shift();
    if (text === undefined || text === '') throw new UsageError(`${name}: give a value`, command);
    return text;
  };
  let help = false;
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    const long = /^--(socket|timeout|machine)(?:=(.*))?$/s.exec(word);
    const short = /^-([A-Za-z]*)p(\d*)$/.exec(word);
    const core = READS_DUMPS.has(command) ? /^-([A-Za-z]*?)M(.*)$/s.exec(word) : null;
    if (/^-M/.test(word) && core === null) {
      const read = [...READS_DUMPS].join(', ');
      throw new UsageError(`-M: ${command} has no view of a dump; ${read} have`, command);
    }
    if (word === '--') {
      rest.push(word, ...words.splice(0));
    } else if (word === '--help') help = true;
    else if (core) {
      given.dump = value('-M', core[2] || undefined);
      if (core[1] !== '') rest.push(`-${core[1]}`);
    } else if (long) given[long[1]] = value(`--${long[1]}`, long[2]);
    else if (short) {
      given.pid = value('-p', short[2] || undefined);
      if (short[1] !== '') rest.push(`-${short[1]}`);
    } else rest.push(word);
  }
  const { pid, socket, dump, machine, timeout = String(TIMEOUT) } = given;
  if (dump !== undefined && (pid ?? socket ?? given.timeout) !== undefined) {
    throw new UsageError('-M: a dump is read, no program is asked: no -p, no --socket', command);
  }
  if (machine !== undefined && dump === undefined) {
    throw new UsageError('--machine: it chooses a machine of a core file, with -M', command);
  }
  if (pid !== undefined && !/^[1-9]\d{0,9}$/.test(pid)) {
    throw new UsageError(`-p ${pid}: give the number of a process`, command);
  }
  const seconds = Number(timeout);
  if (!/^\d*\.?\d+$/.test(timeout) || seconds <= 0 || seconds > TIMEOUT_MAX) {
    const text = `--timeout ${timeout}: give seconds, above 0 and at most ${TIMEOUT_MAX}`;
    throw new UsageError(text, command);
  }
  const options = { pid: pid === undefined ? undefined : Number(pid), socket, timeout: seconds };
  return { options, rest, help, dump: dump === undefined ? null : { path: dump, machine } };
}

/** A context over a connection. */
export function live_context(
  to: Connection,
  out: ToolContext['out'],
  err: ToolContext['err'],
): ToolContext & { fetch_mib(name: string): number[] | number } {
  const encoder = new TextEncoder();
  const ask = (mib: readonly number[], room: number | null, value: Uint8Array | null) =>
    to.request({ mib, room, value });
  /** The numbers of a name, or an errno. */
  const fetch_mib = (name: string): number[] | number => {
    const { error, bytes } = ask([0, 3], 96, encoder.encode(name));
    if (error !== 0) return error;
    const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    return Array.from({ length: v.byteLength >> 2 }, (_, i) => v.getInt32(4 * i, true));
  };
  return {
    fetch_mib,
    sysctl: (mib, oldp, newp) => {
      const { error, oldlen, bytes } = ask(mib, oldp ? oldp.length : null, newp);
      const why = error !== 0 && error !== ENOMEM && bytes.length > 0;
      if (why) return { error, oldlen, reason: new TextDecoder().decode(bytes) };
      oldp?.set(bytes);
      return { error, oldlen };
    },
    fetch: (name, max) => {
      const mib = fetch_mib(name);
      if (typeof mib === 'number') return mib;
      const { error, bytes } = ask(mib, max, null);
      return error !== 0 ? error : bytes;
    },
    out,
    err,
  };
}

/** Runs a command against a running program. Returns its exit code. */
export async function live_main(command: LiveCommand, argv: readonly string[]): Promise<number> {
  const { options, rest, help, dump } = split_choice(argv, command);
  if (help) {
    process.stdout.write(await live_help(command));
    return 0;
  }
  const { run } = await load(command);
  const out = (data: string | Uint8Array): void => void process.stdout.write(data);
  const err = (text: string): void => void process.stderr.write(`kmem ${text}`);
  if (dump !== null) {
    const { dump_context } = await import('./dump_context.ts');
    const ctx = await dump_context(dump, command, out, err);
    return ctx ? await run(rest, ctx) : EXIT_FAIL;
  }
  let found: Found;
  try {
    found = await choose_machine(options);
  } catch (e) {
    if (!(e instanceof SeveralError)) throw e;
    process.stderr.write(`kmem ${command}: ${e.message}\n${e.table}`);
    return EXIT_USAGE;
  }
  const to = new Connection(found, options.timeout);
  const { pid, hello } = found;
  const program = hello && { pid, memory: hello.memory, booted_at: hello.bootedAt };
  const terminal = process.stdout.isTTY === true;
  try {
    const ctx = live_context(to, out, err);
    return await run(rest, { ...ctx, terminal, ...(program ? { program } : {}) });
  } finally {
    await to.close();
  }
}
