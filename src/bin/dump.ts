/*
 * dump: the memory of a running program, written to a file from outside.
 *
 *      kmem dump [PID] [-o FILE] [-z] [--machine ID]
 *
 *      a control socket answers   the program writes its dump itself (the variable vm.dump)
 *      none, or none that answers /proc/PID/mem is read, which needs no answer of the program
 *
 * So a program can be dumped that never called machine.listen(), or whose event loop is stuck.
 * What is read so is a machine that may be at work: it is copied twice, and the dump says whether
 * anything moved meanwhile (sys/observe/kvm.ts).  Nobody is stopped in either case.
 *
 * The file is made anew, for its owner alone; it holds every secret that the program keeps there.
 */
import { resolve } from 'node:path';
import '../lib/index.ts';
import type { Hello } from '../lib/wire.ts';
import { EOPNOTSUPP, errno_name, KmemError } from '../sys/machine/errno.ts';
import { packing_here } from '../sys/observe/dump_pack.ts';
import { type DumpResult, name_packed, source_dump } from '../sys/observe/kern_dump.ts';
import { kvm_open_source } from '../sys/observe/kvm.ts';
import { machine_id } from '../sys/observe/memory_source.ts';
import { process_source } from '../sys/observe/source_proc.ts';
import { Connection, ConnectError, find_machines, type Found } from './connect.ts';
import { live_context } from './live.ts';
import { EXIT_FAIL, EXIT_OK, EXIT_USAGE, tool_flags } from './tool.ts';

const USAGE = 'dump [PID] [-o FILE] [-z] [--machine ID] [--timeout SECONDS] [--json]';
/** How long a program may take to greet, seconds, unless --timeout says otherwise. */
const GREET = 5;
const GREET_MAX = 3600;
/** How long it may take to write, seconds: its disk may be slow, and its memory large. */
const WRITE = 3600;

export const DUMP_HELP = `usage: kmem dump [PID] [-o FILE] [-z] [--machine ID] [--timeout SECONDS]
                 [--json]

Writes the memory of a running program to a new file, which kmem vmstat -M reads.
The program does it, if its control socket answers; otherwise its memory is read
from /proc, also while its event loop is stuck.  It holds all of its secrets.

  PID              its process (without: the one program that listens)
  -o FILE          the file, which must not be there (default kmem-ID-PID-TIME.core)
  -z               compressed, as is a FILE whose name ends in .zst or .gz
  --machine ID     the machine that is meant, if the process has several
  --timeout SECONDS    how long its control socket may take to answer (default ${GREET})
  --json           what was done as one JSON document

Exit codes: 0 done; 1 it could not be dumped; 2 wrong usage.

examples:
  kmem dump 4711
  kmem dump 4711 -o app.core.zst
  kmem vmstat -mz -M app.core.zst
`;

/** What is dumped, and where to. */
interface Asked {
  readonly pid: number | undefined;
  readonly machine: string | undefined;
  readonly timeout: number;
  /** The path for the machine of that id. */
  file(id: string, pid: number): string;
}
interface Done extends Omit<DumpResult, 'size'> {
  readonly machine: string;
  readonly by: 'program' | '/proc';
}
/** It cannot be dumped, for a reason that a line says. */
class Refused extends Error {}

function asked(argv: readonly string[], err: (text: string) => void): Asked | null {
  const flags = tool_flags(argv, 'o:z', USAGE, { err }, ['machine', 'timeout']);
  if (!flags) return null;
  const { on, values, operands, refuse } = flags;
  const [pid, ...more] = operands;
  const timeout = values.get('timeout') ?? String(GREET);
  const seconds = Number(timeout);
  let wrong = '';
  if (more.length > 0) wrong = `${more[0]}: one process at a time`;
  if (pid !== undefined && !/^[1-9]\d{0,9}$/.test(pid)) {
    wrong = `${pid}: give the number of a process`;
  }
  if (!/^\d*\.?\d+$/.test(timeout) || seconds <= 0 || seconds > GREET_MAX) {
    wrong = `--timeout ${timeout}: give seconds, above 0 and at most ${GREET_MAX}`;
  }
  const machine = values.get('machine');
  if (machine !== undefined && !/^[0-9a-f]{1,8}$/i.test(machine)) {
    wrong = `--machine ${machine}: give its id, hexadecimal`;
  }
  const packing = packing_here(false);
  if (on.has('z') && typeof packing === 'number') wrong = '-z: this host cannot compress';
  if (wrong !== '') {
    refuse(wrong);
    return null;
  }
  const suffix = on.has('z') && typeof packing !== 'number' ? packing.suffix : '';
  return {
    pid: pid === undefined ? undefined : Number(pid),
    machine,
    timeout: seconds,
    file: (id, of) => {
      const path = values.get('o') ?? `kmem-${id}-${of}-${Date.now()}.core`;
      return resolve(name_packed(path) ? path : path + suffix);
    },
  };
}
function id_of({ machine }: Hello): string {
  return machine_id({ id: machine });
}
/** No control socket answers: why, and whose memory can be read. */
interface Silent {
  readonly why: string;
  readonly pid: number | undefined;
}
/**
 * The program's socket that answers, or why none does.  Throws Refused if several programs have
 * one and none was chosen, also if all but one are stuck: that one need not be what is meant.
 */
async function find(a: Asked): Promise<{ at: Found; hello: Hello } | Silent> {
  const { found, faults } = await find_machines(a.timeout * 1000, a.pid);
  const answers = found.flatMap((at) => (at.hello ? [{ at, hello: at.hello }] : []));
  const meant = answers.filter(({ hello }) => !a.machine || id_of(hello) === a.machine);
  if (meant.length > 1) {
    const all = meant.map(({ at, hello }) => `${id_of(hello)} of pid ${at.pid}`);
    throw new Refused(`${meant.length} machines are running: choose one: ${all.join(', ')}`);
  }
  const pids = [...new Set(found.map(({ pid }) => pid))];
  const stuck = found.length > answers.length;
  if (stuck && pids.length > 1 && !a.machine) {
    throw new Refused(`${pids.length} programs listen: give the process: ${pids.join(', ')}`);
  }
  if (meant.length === 1) return meant[0];
  const silent = (why: string): Silent => {
    return { why, pid: a.pid ?? (pids.length === 1 ? pids[0] : undefined) };
  };
  if (stuck) return silent(`no answer (${a.timeout} s): its event loop is busy`);
  if (found.length > 0) return silent(`no machine ${a.machine} answers`);
  return silent(`it has no control socket${faults.map((fault) => ` (${fault})`).join('')}`);
}
/** The program writes it. A text says why it does not do such things. */
async function by_program(a: Asked, at: Found, hello: Hello): Promise<Done | string> {
  const to = new Connection(at, WRITE);
  try {
    const ctx = live_context(
      to,
      () => {},
      () => {},
    );
    const mib = ctx.fetch_mib('vm.dump');
    if (typeof mib === 'number') return `${errno_name(mib)}: it has no vm.dump`;
    const path = new TextEncoder().encode(a.file(id_of(hello), at.pid));
    const said = new Uint8Array(4096);
    const { error, oldlen, reason } = ctx.sysctl(mib, said, path);
    if (error === EOPNOTSUPP && reason === undefined) return 'it has loaded kmem/core alone';
    if (error !== 0) throw new Refused(reason ?? errno_name(error));
    const text = new TextDecoder().decode(said.subarray(0, oldlen)).replace(/\0.*$/s, '');
    return { ...JSON.parse(text), machine: id_of(hello), by: 'program' };
  } finally {
    await to.close();
  }
}
/** Its memory is read. `why`: the program does not write it. */
function by_reading(a: Asked, pid: number, why: string): Done {
  const source = process_source(pid, a.machine);
  if (typeof source === 'string') throw new Refused(`pid ${pid}: ${why}; its memory: ${source}`);
  try {
    const id = machine_id(source.head);
    // A memory that cannot be looked at, because it is wrong, is written as it is read.
    const k = kvm_open_source(source);
    const copy = typeof k === 'string' ? null : k;
    const { path, written, quiet } = source_dump(a.file(id, pid), source, copy);
    return { path, written, quiet, machine: id, by: '/proc' };
  } finally {
    source.close(); // errno: it was only read
  }
}
async function dumped(a: Asked): Promise<Done> {
  const found = await find(a);
  let why = '';
  if ('at' in found) {
    const done = await by_program(a, found.at, found.hello);
    if (typeof done !== 'string') return done;
    why = done;
  } else why = found.why;
  const { pid } = 'at' in found ? found.at : found;
  if (pid === undefined) throw new Refused(`no running machine is found: give its process: ${why}`);
  return by_reading(a, pid, why);
}
/** The command. Returns its exit code. */
export async function dump_main(argv: readonly string[]): Promise<number> {
  if (argv.includes('--help')) {
    process.stdout.write(DUMP_HELP);
    return EXIT_OK;
  }
  const err = (text: string): void => void process.stderr.write(`kmem ${text}`);
  const a = asked(argv, err);
  if (!a) return EXIT_USAGE;
  try {
    const done = await dumped(a);
    const { path, written, quiet, machine, by } = done;
    const moved = quiet ? '' : '; threads ran while it was written';
    const text = `${path}: ${written} bytes of machine ${machine}, by ${by}${moved}\n`;
    process.stdout.write(argv.includes('--json') ? `${JSON.stringify(done)}\n` : text);
    return EXIT_OK;
  } catch (e) {
    const known = e instanceof Refused || e instanceof KmemError || e instanceof ConnectError;
    if (!known) throw e;
    err(`dump: ${e.message}\n`);
    return EXIT_FAIL;
  }
}
