/*
 * kdb_vars: how the debugger is asked for, and what a panic does.
 *
 *      debug.kdb.enter=1           the thread that is asked enters it, on the program's terminal
 *      debug.kdb.panic=1           a panic; debug.kdb.trap=1: the same, as if by a bad access
 *      debug.debugger_on_panic=1   a panic enters it, then the dump is written
 *      debug.trace_on_panic=1      a panic prints where the thread was
 *
 * The debugger itself is a part that a small program does without (machine/parts.ts): there
 * these variables can be set, and entering it is EOPNOTSUPP.
 */
import { EBUSY, EINVAL, EOPNOTSUPP } from '../machine/errno.ts';
import { kdb_active } from '../machine/kdb.ts';
import { panic } from '../machine/panic.ts';
import { kernel_parts } from '../machine/parts.ts';
import {
  CTLFLAG_RD,
  CTLFLAG_RW,
  CTLFLAG_RWTUN,
  type SysctlHandler,
  sysctl_int,
  sysctl_number,
  sysctl_proc,
} from '../machine/sysctl_decl.ts';

const BACKEND = 'ddb';
const string_of =
  (set: (text: string) => number): SysctlHandler =>
  (req) => {
    const error = req.out(new TextEncoder().encode(`${BACKEND}\0`));
    if (error !== 0 || !req.new_bytes) return error;
    return set(new TextDecoder().decode(req.new_bytes.slice()).replace(/\0+$/, ''));
  };
const text = { type: 'string', fmt: 'A' } as const;
sysctl_proc(
  'debug.kdb.available',
  { ...text, flags: CTLFLAG_RD, help: 'Debuggers that there are' },
  string_of(() => EINVAL),
);
sysctl_proc(
  'debug.kdb.current',
  { ...text, flags: CTLFLAG_RW, help: 'The debugger that is entered' },
  string_of((name) => (kdb_active() ? EBUSY : name === BACKEND ? 0 : EINVAL)),
);
/** A variable that is 0, and does something when another value is written. */
function act(name: string, help: string, run: () => number): void {
  sysctl_proc(name, { type: 'int', fmt: 'I', flags: CTLFLAG_RW, help }, (req) => {
    const error = req.out(sysctl_number('int', 0));
    if (error !== 0 || !req.new_bytes) return error;
    if (req.new_bytes.length !== 4) return EINVAL;
    if (req.new_bytes.every((b) => b === 0)) return 0;
    return kdb_active() ? EBUSY : run();
  });
}
act(
  'debug.kdb.enter',
  'Set to 1, the thread that is asked enters the debugger; ENXIO if it has no terminal',
  () => kernel_parts.kdb_enter?.('sysctl', 'sysctl debug.kdb.enter') ?? EOPNOTSUPP,
);
act('debug.kdb.panic', 'Set to 1, the machine panics', () => panic('kdb_sysctl_panic'));
act('debug.kdb.trap', 'Set to 1, the machine panics as by a bad access of the kernel', () =>
  panic('trap: kdb_sysctl_trap'),
);
/** Whether the others are held while a thread is in the debugger. */
export const kdb_stop_cpus = sysctl_int('debug.kdb.stop_cpus', {
  value: 1,
  min: 0,
  max: 1,
  flags: CTLFLAG_RWTUN,
  help: 'Hold all other CPUs while a thread is in the debugger',
});
export const debugger_on_panic = sysctl_int('debug.debugger_on_panic', {
  value: 0,
  min: 0,
  max: 1,
  flags: CTLFLAG_RWTUN,
  help: 'A panic enters the debugger if there is a terminal; the dump is written afterwards',
});
export const trace_on_panic = sysctl_int('debug.trace_on_panic', {
  value: 0,
  min: 0,
  max: 1,
  flags: CTLFLAG_RWTUN,
  help: 'A panic prints its text, the CPU, and where its thread was',
});
