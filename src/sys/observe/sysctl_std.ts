/*
 * sysctl_std: the variables that belong to no floor, and the building of the tree.
 *
 * Who this kernel is, what it runs on, how many processors there are.  Boot
 * calls sysctl_tree_boot once all floors have declared theirs; importing this
 * file brings the whole of sysctl in.
 */
import { cpus_attached } from '../machine/death.ts';
import { EPERM } from '../machine/errno.ts';
import { boot_alloc, M, machine } from '../machine/header.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { get64 } from '../machine/struct.ts';
import {
  CTLFLAG_RW,
  sysctl_get,
  sysctl_int,
  sysctl_proc,
  sysctl_value,
} from '../machine/sysctl_decl.ts';
import { securelevel_hook, sysctl_handle_string, type sysctl_req } from './kern_sysctl.ts';
import './sysctl_freebsd.ts';
import './dump_vars.ts';
import './procstat_vars.ts';
import './swap_info.ts';
import './sysctl_netbsd.ts';
import { HOSTNAME_BYTES, str_write, sysctl_root, tree, tree_build } from './sysctl_tree.ts';

/** The version of the package, as kern.osrelease shows it. */
export const KMEM_RELEASE = '0.1.0';
/** Clock ticks a second: time is kept in milliseconds. */
const HZ = 1000;

const encoder = new TextEncoder();
function constant(name: string, help: string, text: () => string): void {
  sysctl_proc(name, { type: 'string', fmt: 'A', help }, (req) =>
    req.out(encoder.encode(`${text()}\0`)),
  );
}
constant('kern.ostype', 'Name of the kernel', () => 'kmem');
constant('kern.osrelease', 'Release of the kernel', () => KMEM_RELEASE);
constant('kern.version', 'Name, release and size of the machine', () => {
  const mib = get64(machine.size_bytes, M) / 2 ** 20;
  return `kmem ${KMEM_RELEASE}: ${mib}M, ${machine.maxcpus[M]} cpus\n`;
});
constant('hw.machine', 'Kind of machine: threads over one shared memory', () => 'js');

sysctl_proc(
  'kern.hostname',
  {
    type: 'string',
    fmt: 'A',
    flags: CTLFLAG_RW,
    help: 'Name of the machine, as its owner calls it',
  },
  (req) => {
    const at = sysctl_root.hostname[tree()];
    return sysctl_handle_string(req as sysctl_req, at, HOSTNAME_BYTES);
  },
);

/** Numbers as a structure of 32-bit integers. */
function ints(...values: number[]): Uint8Array {
  return new Uint8Array(Int32Array.from(values).buffer);
}
sysctl_proc(
  'kern.clockrate',
  {
    type: 'opaque',
    fmt: 'S,clockinfo',
    help: 'Rates of the clocks: hz, tick, spare, stathz, profhz',
  },
  (req) => req.out(ints(HZ, 1e6 / HZ, 0, HZ, HZ)),
);
sysctl_proc(
  'kern.boottime',
  { type: 'opaque', fmt: 'S,timeval', help: 'When the machine booted' },
  (req) => {
    const ms = get64(machine.boot_time, M);
    const bytes = new Uint8Array(16);
    const v = new DataView(bytes.buffer);
    v.setBigInt64(0, BigInt(Math.floor(ms / 1000)), true);
    v.setBigInt64(8, BigInt(Math.floor((ms % 1000) * 1000)), true);
    return req.out(bytes);
  },
);

const online = (): number => cpus_attached();
sysctl_value(
  'kern.smp.maxcpus',
  { type: 'int', help: 'CPU slots: per-CPU records of each malloc type in kern.malloc_stats' },
  () => machine.maxcpus[M],
);
sysctl_value(
  'kern.smp.maxid',
  { type: 'uint', help: 'Highest CPU number: one below the per-CPU records in vm.zone_stats' },
  () => machine.maxcpus[M] - 1,
);
sysctl_value('kern.smp.cpus', { type: 'int', help: 'Threads attached as CPUs now' }, online);
sysctl_value('hw.ncpu', { type: 'int', help: 'Threads attached as CPUs now' }, online);
sysctl_value(
  'hw.pagesize',
  { type: 'int', help: 'Size of a page', unit: 'bytes' },
  () => PAGE_SIZE,
);
sysctl_value('hw.physmem', { type: 'ulong', help: 'Memory of the machine', unit: 'bytes' }, () =>
  get64(machine.size_bytes, M),
);
sysctl_value(
  'hw.byteorder',
  { type: 'int', help: 'Order of the bytes in a word: 1234 is little-endian' },
  () => (new Uint8Array(Uint32Array.of(1).buffer)[0] === 1 ? 1234 : 4321),
);

const securelevel = sysctl_int('kern.securelevel', {
  value: -1,
  min: -1,
  max: 3,
  flags: CTLFLAG_RW,
  help: 'Level of restrictions; it can be raised, never lowered',
  check: (value): number => (value < sysctl_get(securelevel) ? EPERM : 0),
});
securelevel_hook.get = () => sysctl_get(securelevel);

/**
 * Builds the tree from every declaration.  Runs on the booting CPU, while boot
 * memory can still be had, or with another source of zeroed words.
 */
export function sysctl_tree_boot(
  alloc: (words: number, what: string, align: number) => number = boot_alloc,
): void {
  tree_build(alloc);
  str_write(sysctl_root.hostname[tree()], 'kmem');
}
