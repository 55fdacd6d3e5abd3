/*
 * witness_vars: what WITNESS keeps in the memory, and what can be asked of it and set.
 *
 * Every program declares it, also one that has not loaded WITNESS itself (witness.ts), because
 * the memory and the tree of variables look the same in every thread (machine/parts.ts).
 * Without the option there are no tables, and the variables say that it does not run.
 */
import { EINVAL } from '../machine/errno.ts';
import { M, machine, ROOT_WITNESS } from '../machine/header.ts';
import { opt } from '../machine/opt.ts';
import { kernel_parts } from '../machine/parts.ts';
import { type sbuf, sbuf_cat, sbuf_text_report } from '../machine/sbuf.ts';
import { elem, i32, NULL, type Ptr, ptr, struct, words } from '../machine/struct.ts';
import {
  CTLFLAG_RWTUN,
  sysctl_get,
  sysctl_int,
  sysctl_proc,
  sysctl_value,
} from '../machine/sysctl_decl.ts';

/** Words of a stack that is kept. */
export const STACK_WORDS = 128;

export type witness_t = Ptr<'witness'>;
export type wstack_t = Ptr<'witness_stack'>;

/*
 * Locks: (a) atomic  (c) constant once booted  (o) written before its number is published
 */
export const witness = struct<witness_t>('witness')({
  ids: i32('c', 'identities: classes, then user locks'),
  classes: i32('c', 'identities of classes'),
  relations: i32('c', 'first word of the matrix, ids x ids'),
  users: i32('c', 'first word of the table of user locks: their addresses'),
  users_used: i32('a', 'user locks known'),
  users_lost: i32('a', 'user locks for which there was no room'),
  stacks: ptr<wstack_t>('c', 'first stored stack'),
  stacks_max: i32('c', 'room for stacks'),
  stacks_used: i32('a', 'stacks stored'),
  reports: i32('a', 'violations reported'),
});
export const wstack = struct<wstack_t>('witness_stack')({
  text: words('o', 'the stack, cut to fit', STACK_WORDS),
});

export const witness_watch = sysctl_int('debug.witness.watch', {
  value: 1,
  min: -1,
  max: 1,
  flags: CTLFLAG_RWTUN,
  help: 'Lock order checks: 1 on, 0 off, -1 off until the next boot',
  check: (value) =>
    (value !== 0 && value !== 1 && value !== -1) ||
    (sysctl_get(witness_watch) === -1 && value !== -1)
      ? EINVAL
      : 0,
});
export const witness_trace = sysctl_int('debug.witness.trace', {
  value: 1,
  min: 0,
  max: 1,
  flags: CTLFLAG_RWTUN,
  help: 'Print the stacks of a lock order violation',
});

/** Whether a violation enters the debugger. */
export const witness_kdb = sysctl_int('debug.witness.kdb', {
  value: 0,
  min: 0,
  max: 1,
  flags: CTLFLAG_RWTUN,
  help: 'Enter the debugger on a lock order violation, if the program has a terminal',
});

/** The anchor of its tables; NULL while the option is off. */
export function witness_root(): witness_t {
  return machine.roots[elem(M, ROOT_WITNESS)] as witness_t;
}

/** What writes a report; that there is none, if WITNESS does not run. */
function running(write: (s: sbuf) => void): (s: sbuf) => void {
  const runs = opt.WITNESS && witness_root() !== NULL && sysctl_get(witness_watch) !== -1;
  return runs ? write : (s) => void sbuf_cat(s, 'Witness not running');
}
const text_type = { type: 'string', fmt: 'A' } as const;
sysctl_proc(
  'debug.witness.badstacks',
  { help: 'Pairs of locks taken in both orders, with the stacks of each', ...text_type },
  (req) => sbuf_text_report(req, running(kernel_parts.witness_badstacks)),
);
sysctl_proc(
  'debug.witness.fullgraph',
  { help: 'Orders of locks seen: "parent","child" lines', ...text_type },
  (req) => sbuf_text_report(req, running(kernel_parts.witness_fullgraph)),
);
function number_of(read: (r: witness_t) => number): () => number {
  return () => (witness_root() === NULL ? 0 : read(witness_root()));
}
sysctl_value(
  'debug.witness.free_cnt',
  { type: 'int', help: 'User locks that can still be told apart' },
  number_of((r) => witness.ids[r] - witness.classes[r] - witness.users_used[r]),
);
sysctl_value(
  'debug.witness.sleep_cnt',
  { type: 'int', help: 'Lock types and user locks known' },
  number_of((r) => witness.classes[r] - 1 + witness.users_used[r]),
);
sysctl_value(
  'debug.witness.lost_cnt',
  { type: 'int', help: 'Acquisitions of user locks for which there was no room' },
  number_of((r) => witness.users_lost[r]),
);
sysctl_value(
  'debug.witness.reports',
  { type: 'int', help: 'Violations reported since boot' },
  number_of((r) => witness.reports[r]),
);
