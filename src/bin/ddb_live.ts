/*
 * ddb_live: which memory `kmem ddb` looks at.
 *
 * The program is chosen as for the other commands (live.ts), or -M names a dump, which this
 * process opens.  A program that was named by -p and has no socket, or does not answer because
 * its event loop computes, is looked at from outside, where the system allows it: its memory is
 * copied (observe/source_proc.ts).  The command itself is ddb.ts.
 */
import { choose_machine, ConnectError, Connection, type Found, SeveralError } from './connect.ts';
import { DDB_HELP, ddb_line, ddb_main, live_target, local_target } from './ddb.ts';
import { CHOICE_HELP, split_choice } from './live.ts';
import { EXIT_FAIL, EXIT_OK, EXIT_USAGE } from './tool.ts';
import { UsageError } from './usage.ts';

/** What --help prints. */
export function ddb_help(): string {
  return DDB_HELP + CHOICE_HELP;
}
const say = (text: string): void => void process.stdout.write(text);
const err = (text: string): void => void process.stderr.write(`kmem ${text}`);

/** The same to a copy of the memory of a process. */
async function open_process(pid: number): Promise<number | string> {
  await import('../lib/index.ts');
  const { kvm_take } = await import('../sys/observe/kvm.ts');
  const { process_source } = await import('../sys/observe/source_proc.ts');
  const k = kvm_take(process_source(pid));
  return typeof k === 'string' ? k : k.head.time;
}
/** Binds this thread to a dump: of which time it is; or why not, in a line. */
async function open_dump(path: string): Promise<number | string> {
  await import('../lib/index.ts'); // by what is declared there dumps are told apart
  const { kvm_load } = await import('../sys/observe/kvm.ts');
  const k = await kvm_load(path);
  if (typeof k === 'string') return `${path}: ${k}`;
  if (!k.quiet) err(`ddb: ${path}: threads ran while it was written\n`);
  return k.head.time;
}

/** Runs the command line. Returns the exit code. */
export async function ddb_live(argv: readonly string[]): Promise<number> {
  const { commands, dump, rest: others } = ddb_line(argv);
  const { options, rest, help } = split_choice(others, 'ddb');
  if (help) {
    say(ddb_help());
    return EXIT_OK;
  }
  if (rest.length > 0) throw new UsageError(`${rest[0]}: no operand is taken here`, 'ddb');
  if (dump !== undefined) {
    const time = await open_dump(dump);
    if (typeof time === 'number') return await ddb_main(commands, local_target(time), say);
    err(`ddb: ${time}\n`);
    return EXIT_FAIL;
  }
  let found: Found;
  try {
    found = await choose_machine(options);
  } catch (e) {
    if (e instanceof ConnectError && options.pid !== undefined) {
      const time = await open_process(options.pid);
      if (typeof time === 'string') {
        throw new ConnectError(`${e.message}; and its memory: ${time}`);
      }
      err(`ddb: ${e.message}; shown is its memory as it was just now\n`);
      return await ddb_main(commands, local_target(time), say);
    }
    if (!(e instanceof SeveralError)) throw e;
    process.stderr.write(`kmem ddb: ${e.message}\n${e.table}`);
    return EXIT_USAGE;
  }
  const to = new Connection(found, options.timeout);
  try {
    return await ddb_main(commands, live_target(to), say);
  } finally {
    await to.close();
  }
}
