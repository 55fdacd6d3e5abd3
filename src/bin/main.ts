/*
 * main: the command `kmem`.
 *
 * One binary with subcommands named as in BSD.  Each loads its code only when
 * it is called.  Exit codes: 0 done, 1 the run found something wrong, 2 usage
 * or input that cannot be read; then one line on stderr says what, where, and
 * what to do.
 */
import type { LiveCommand } from './live.ts';
import { FoundWrong, UsageError } from './usage.ts';

const HELP = `kmem: a kernel's memory subsystem for multi-threaded JavaScript

usage: kmem COMMAND [options]

  start              the first screen: some recordings, and what you saw
  replay [FILE...]   play recorded heaps and captured packets on several CPUs
  vmstat -m|-z|-s|-o what the allocators of a running program hold, or of a dump
  netstat -m         what its network buffers hold, or those of a dump
  procstat -v        what is mapped in its address spaces
  swapctl -l         its swap areas, or those of a dump
  systat -mbufs      the same as bars, again and again
  sysctl NAME...     its kernel's variables, shown and set
  ddb                the kernel's debugger, of a running program or of a dump
  saved FILE         what is in the file of a saved address space
  dump [PID]         the memory of a running program, written to a file
  narrow -- COMMAND  which malloc type damages memory, by runs of the program
  bench contig       how often contiguous memory is had from a memory in use
  explain TERM       what a column, a variable, a zone, a type, an error means
  help [COMMAND]     this text, or a command's

A running program is found when it has called machine.listen(); with several of
them, -p PID chooses.

examples:
  kmem start                           the bundled recordings, in one screen
  kmem replay app.mtrace.gz            one recording: leaks, call sites, tables
  kmem replay --json app.mtrace.gz     one JSON document on stdout
  kmem vmstat -mz                      types and zones of the running program
  kmem vmstat -mz -M app.core          the same, of a dump that it wrote
  kmem sysctl vm.lowmem_period=5       set while it runs
  kmem ddb -e 'show allchains'         who waits for whom
  kmem explain HighUse                 what a column means
`;

/** Runs a command line; returns the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  // Whoever read our output has seen enough (`kmem replay | head`): that is no error.
  process.stdout.on('error', (e: NodeJS.ErrnoException) => {
    if (e.code !== 'EPIPE') process.stderr.write(`kmem: standard output: ${e.message}\n`);
    process.exit(e.code === 'EPIPE' ? 0 : 1);
  });
  const [command, ...rest] = argv;
  try {
    if (is_live(command)) {
      const { live_main } = await import('./live.ts');
      return await live_main(command, rest);
    }
    switch (command) {
      case 'ddb': {
        const { ddb_live } = await import('./ddb_live.ts');
        return await ddb_live(rest);
      }
      case 'start': {
        const { start_main } = await import('./start.ts');
        return await start_main(rest);
      }
      case 'explain': {
        const { explain_main } = await import('./explain.ts');
        return explain_main(rest);
      }
      case 'saved': {
        const { saved_main } = await import('./saved.ts');
        return saved_main(rest);
      }
      case 'dump': {
        const { dump_main } = await import('./dump.ts');
        return await dump_main(rest);
      }
      case 'narrow': {
        const { narrow_main } = await import('./narrow.ts');
        return await narrow_main(rest);
      }
      case 'bench': {
        const { bench_main } = await import('./bench.ts');
        return bench_main(rest);
      }
      case 'replay': {
        const { replay_main } = await import('./replay.ts');
        return await replay_main(rest);
      }
      case undefined:
      case 'help':
      case '--help':
      case '-h':
        process.stdout.write(await help(rest[0]));
        return 0;
      case '--version':
      case '-V': {
        const { KMEM_RELEASE } = await import('../sys/observe/sysctl_std.ts');
        process.stdout.write(`kmem ${KMEM_RELEASE}\n`);
        return 0;
      }
      default:
        throw await no_such(command);
    }
  } catch (e) {
    return failure(command ?? '', e);
  }
}

const LIVE_COMMANDS: readonly string[] = [
  'vmstat',
  'netstat',
  'procstat',
  'swapctl',
  'systat',
  'sysctl',
];
/** Whether a command looks at a running program. */
function is_live(command: string | undefined): command is LiveCommand {
  return command !== undefined && LIVE_COMMANDS.includes(command);
}
async function help(command: string | undefined): Promise<string> {
  if (command === undefined) return HELP;
  if (is_live(command)) return await (await import('./live.ts')).live_help(command);
  if (command === 'ddb') return (await import('./ddb_live.ts')).ddb_help();
  if (command === 'start') return (await import('./start.ts')).START_HELP;
  if (command === 'explain') return (await import('./explain.ts')).EXPLAIN_HELP;
  if (command === 'narrow') return (await import('./narrow.ts')).NARROW_HELP;
  if (command === 'saved') return (await import('./saved.ts')).SAVED_HELP;
  if (command === 'dump') return (await import('./dump.ts')).DUMP_HELP;
  if (command === 'bench') return (await import('./bench.ts')).BENCH_HELP;
  if (command === 'replay') return (await import('./replay.ts')).REPLAY_HELP;
  throw await no_such(command);
}
const COMMANDS = [
  ...LIVE_COMMANDS,
  'ddb',
  'start',
  'replay',
  'saved',
  'dump',
  'narrow',
  'bench',
  'explain',
  'help',
];
async function no_such(command: string): Promise<UsageError> {
  const { nearest_of } = await import('./nearest.ts');
  const near = nearest_of(command.toLowerCase(), COMMANDS);
  const hint = near.length > 0 ? `; near it: ${near.join(', ')}` : '';
  return new UsageError(`${command}: no such command${hint} (kmem help lists them)`);
}

/** Errors that a user can do something about, or must know of, and their exit codes. */
const EXIT_CODES: Record<string, number> = {
  SourceError: 2,
  KmemError: 2,
  KernelPanic: 1,
  PlayerError: 1,
  ConnectError: 1,
};

/** One line for what a user can do something about; a stack for what only we can. */
function failure(command: string, e: unknown): number {
  if (!(e instanceof Error)) throw e;
  let code: number | undefined = EXIT_CODES[e.name];
  let of = command;
  if (e instanceof UsageError) {
    code = 2;
    of = e.command;
  } else if (e instanceof FoundWrong) code = 1;
  if (code === undefined) throw e;
  const text = e.message.replace(/\s*[\0-\x1f\x7f]+\s*/g, ' '); // names may hold line ends
  process.stderr.write(`kmem${of ? ` ${of}` : ''}: ${text}\n`);
  return code;
}
