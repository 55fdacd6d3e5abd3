/*
 * procstat_vars: the variables that show address spaces and memory objects.
 *
 * What makes them is a part that a small program does without (machine/parts.ts): there each
 * answers EOPNOTSUPP.  They are declared where every program has them.
 */
import { EOPNOTSUPP } from '../machine/errno.ts';
import { kernel_parts } from '../machine/parts.ts';
import {
  CTLFLAG_RD,
  CTLFLAG_SKIP,
  type SysctlHandler,
  sysctl_proc,
} from '../machine/sysctl_decl.ts';

type Report = 'vmmap_report' | 'objects_report' | 'vmtotal_report';
const by =
  (part: Report): SysctlHandler =>
  (req) =>
    kernel_parts[part]?.(req) ?? EOPNOTSUPP;
const flags = CTLFLAG_RD | CTLFLAG_SKIP;

sysctl_proc(
  'kern.proc.vmmap',
  {
    type: 'node',
    fmt: 'S,kinfo_vmentry',
    flags,
    number: 32,
    help: 'What is mapped in address spaces; a number behind it: in the space with that number',
  },
  by('vmmap_report'),
);
sysctl_proc(
  'vm.objects',
  { type: 'opaque', fmt: 'S,kinfo_vmobject', flags, help: 'All memory objects' },
  by('objects_report'),
);
sysctl_proc(
  'vm.vmtotal',
  {
    type: 'opaque',
    fmt: 'S,vmtotal',
    unit: 'pages',
    help: 'Threads by what they do, virtual and real memory of objects, free memory',
  },
  by('vmtotal_report'),
);
