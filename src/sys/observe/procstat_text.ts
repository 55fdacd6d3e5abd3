/*
 * procstat_text: the tables of `procstat -v` and `vmstat -o`, in BSD's columns.
 *
 * Both say of an object, in two letters, what it is: df memory, sw memory that may be in a swap
 * area, ph memory that is never reclaimed, dv a device, dd what it held is gone, -- none.
 */
import { VM_PROT_EXECUTE, VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { type Column, columns_text } from './columns.ts';
import {
  KVME_FLAG_COW,
  KVME_FLAG_GROWS_DOWN,
  KVME_FLAG_GROWS_UP,
  KVME_FLAG_NEEDS_COPY,
  KVME_FLAG_SUPER,
  KVME_TYPE_DEAD,
  KVME_TYPE_DEFAULT,
  KVME_TYPE_DEVICE,
  KVME_TYPE_NONE,
  KVME_TYPE_PHYS,
  KVME_TYPE_SWAP,
  type kinfo_vmentry,
  type kinfo_vmobject,
} from './kinfo_vm.ts';

/** Two letters, and BSD's word for machines. */
const TYPES = new Map<number, readonly [string, string]>([
  [KVME_TYPE_NONE, ['--', 'none']],
  [KVME_TYPE_DEFAULT, ['df', 'default']],
  [KVME_TYPE_SWAP, ['sw', 'swap']],
  [KVME_TYPE_PHYS, ['ph', 'physical']],
  [KVME_TYPE_DEVICE, ['dv', 'device']],
  [KVME_TYPE_DEAD, ['dd', 'dead']],
]);
const type_of = (type: number): readonly [string, string] => TYPES.get(type) ?? ['??', 'unknown'];
const PROTECTIONS = [
  [VM_PROT_READ, 'r', 'read'],
  [VM_PROT_WRITE, 'w', 'write'],
  [VM_PROT_EXECUTE, 'x', 'exec'],
] as const;
const FLAGS = [
  [KVME_FLAG_COW, 'C', 'copy_on_write'],
  [KVME_FLAG_NEEDS_COPY, 'N', 'needs_copy'],
  [KVME_FLAG_SUPER, 'S', 'super_pages'],
  [KVME_FLAG_GROWS_UP, 'U', 'grows_up'],
  [KVME_FLAG_GROWS_DOWN, 'D', 'grows_down'],
] as const;
type Bits = readonly (readonly [number, string, string])[];
const letters = (value: number, all: Bits): string =>
  all.map(([bit, letter]) => (value & bit ? letter : '-')).join('');
const told = (value: number, all: Bits): Record<string, boolean> =>
  Object.fromEntries(all.map(([bit, , name]) => [name, (value & bit) !== 0]));
const hex = (address: number): string => `0x${address.toString(16)}`;
const rows = <T>(columns: readonly Column<T>[], all: readonly T[], titled = true): string => {
  const { titles, lines } = columns_text(columns, all);
  return [...(titled ? [titles] : []), ...lines].map((row) => `${row.trimEnd()}\n`).join('');
};

/** The columns of `procstat -v`. */
export const PROCSTAT_COLUMNS: readonly Column<kinfo_vmentry>[] = [
  {
    title: 'PID',
    help: 'Number of the address space. Of spaces that live each has its own.',
    width: 5,
    gap: '',
    text: (e) => String(e.space),
  },
  {
    title: 'START',
    help: 'The first address.',
    width: 18,
    gap: ' ',
    text: (e) => hex(e.start),
  },
  {
    title: 'END',
    help: 'The first address beyond.',
    width: 18,
    gap: ' ',
    text: (e) => hex(e.end),
  },
  {
    title: 'PRT',
    help: 'What may be done there: read, write, run.',
    width: 3,
    gap: ' ',
    text: (e) => letters(e.protection, PROTECTIONS),
  },
  {
    title: 'RES',
    help: 'Pages in memory, of the object that is mapped there or of one below it.',
    width: 4,
    gap: ' ',
    text: (e) => String(e.resident),
  },
  {
    title: 'PRES',
    help: 'Of these, pages of an object that nothing else refers to.',
    width: 4,
    gap: ' ',
    text: (e) => String(e.private_resident),
  },
  {
    title: 'REF',
    help: 'References to the object.',
    width: 3,
    gap: ' ',
    text: (e) => String(e.refs),
  },
  {
    title: 'SHD',
    help: 'Objects above it that show its pages where they have none.',
    width: 3,
    gap: ' ',
    text: (e) => String(e.shadows),
  },
  {
    title: 'FLAG',
    help:
      'C: writes go to a copy. N: which is yet to be made. S: large pages, which no page table ' +
      'here has. U, D: it grows up, down.',
    width: -5,
    gap: ' ',
    text: (e) => letters(e.flags, FLAGS),
  },
  {
    title: 'TP',
    help: 'Its object: df memory, sw swap, ph never reclaimed, dv device, dd dead; --: none.',
    width: -2,
    gap: ' ',
    text: (e) => type_of(e.type)[0],
  },
  {
    title: 'PATH',
    help: 'The name of the address space and, behind a slash, of its part; blank: it has none.',
    width: 0,
    gap: ' ',
    text: (e) => e.path,
  },
];
/** The columns of `vmstat -o`. */
export const OBJECT_COLUMNS: readonly Column<kinfo_vmobject>[] = [
  {
    title: 'RES',
    help: 'Pages of the object that are in memory.',
    width: 5,
    gap: '',
    text: (o) => String(o.resident),
  },
  {
    title: 'ACT',
    help: 'Of these, pages on the active queue: they were used of late.',
    width: 5,
    gap: ' ',
    text: (o) => String(o.active),
  },
  {
    title: 'INACT',
    help: 'Of these, pages on the inactive queue: they are reclaimed first.',
    width: 5,
    gap: ' ',
    text: (o) => String(o.inactive),
  },
  {
    title: 'REF',
    help: 'References to the object: of address spaces that show it, and of objects above it.',
    width: 3,
    gap: ' ',
    text: (o) => String(o.refs),
  },
  {
    title: 'SHD',
    help: 'Objects above it that show its pages where they have none.',
    width: 3,
    gap: ' ',
    text: (o) => String(o.shadows),
  },
  {
    title: 'CM',
    help: 'How processors cache it: WB, written back. All memory of the machine is.',
    width: -3,
    gap: ' ',
    text: () => 'WB',
  },
  {
    title: 'TP',
    help: 'What it is: df memory, sw swap, ph never reclaimed, dv device, dd dead.',
    width: -2,
    gap: ' ',
    text: (o) => type_of(o.type)[0],
  },
  {
    title: 'PATH',
    help: 'The file behind it; blank: there is none.',
    width: 0,
    gap: ' ',
    text: () => '',
  },
];

/** The table of `procstat -v`; without its titles if `titled` is false. */
export function procstat_vm_text(entries: readonly kinfo_vmentry[], titled = true): string {
  return rows(PROCSTAT_COLUMNS, entries, titled);
}
/** The table of `vmstat -o`. */
export function vmstat_object_text(objects: readonly kinfo_vmobject[]): string {
  return rows(OBJECT_COLUMNS, objects);
}
/** An entry under the names of BSD's machine-readable output. */
export function procstat_vm_row(e: kinfo_vmentry): Record<string, unknown> {
  return {
    kve_start: hex(e.start),
    kve_end: hex(e.end),
    kve_protection: told(e.protection, PROTECTIONS),
    kve_resident: e.resident,
    kve_private_resident: e.private_resident,
    kve_ref_count: e.refs,
    kve_shadow_count: e.shadows,
    kve_flags: told(e.flags, FLAGS),
    kve_type: type_of(e.type)[1],
    kve_path: e.path,
  };
}
/** What is mapped, by space, as `procstat -v --json` has it. */
export function procstat_vm_document(entries: readonly kinfo_vmentry[]): Record<string, unknown> {
  const spaces = new Map<number, { process_id: number; vm: unknown[] }>();
  for (const e of entries) {
    const { space } = e;
    if (!spaces.has(space)) spaces.set(space, { process_id: space, vm: [] });
    spaces.get(space)?.vm.push(procstat_vm_row(e));
  }
  return { vm: Object.fromEntries(spaces) };
}
/** An object as `vmstat -o --json` has it. */
export function vmstat_object_row(o: kinfo_vmobject): Record<string, unknown> {
  return {
    resident: o.resident,
    active: o.active,
    inactive: o.inactive,
    refcount: o.refs,
    shadowcount: o.shadows,
    attribute: 'WB',
    type: type_of(o.type)[0],
    path: '',
  };
}
