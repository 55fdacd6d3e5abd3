/*
 * dump_vars: the variables by which a machine is dumped.
 *
 * What writes a dump is a part that a small program does without (machine/parts.ts): there a
 * request for one answers EOPNOTSUPP.  They are declared where every program has them.
 */
import { EOPNOTSUPP } from '../machine/errno.ts';
import { kernel_parts } from '../machine/parts.ts';
import {
  CTLFLAG_RW,
  CTLFLAG_RWTUN,
  CTLFLAG_SKIP,
  sysctl_int,
  sysctl_proc,
} from '../machine/sysctl_decl.ts';

export const dump_on_nomem = sysctl_int('vm.dump_on_nomem', {
  value: 0,
  min: 0,
  max: 1,
  flags: CTLFLAG_RWTUN,
  help:
    'The first request that finds no memory has the machine dumped: to the folder that boot was ' +
    'given for dumps, or to the one for temporary files',
});
export const dump_compress = sysctl_int('vm.dump_compress', {
  value: 0,
  min: 0,
  max: 1,
  flags: CTLFLAG_RWTUN,
  help: 'Dumps are compressed that a panic, a want of memory or vm.dump has written',
});
sysctl_proc(
  'vm.dump',
  {
    type: 'string',
    fmt: 'A',
    flags: CTLFLAG_RW | CTLFLAG_SKIP,
    help: 'A path that is set is that of a new file, into which the machine is dumped at once',
  },
  (req) => kernel_parts.dump_request?.(req) ?? EOPNOTSUPP,
);
