/*
 * vm_syscalls: the system calls of address spaces, by number and by name.
 *
 *      vm_syscall(space, 477, [0, 8192, 3, 0x1002, -1, 0])       what a program calls
 *      vm_syscall(space, 'mmap', ...)                            what a recording names
 *
 * One table: the numbers and the names are FreeBSD's, of its present versions.  Arguments are
 * numbers, one for each of C's; what is missing is 0.  What is not a whole number is EINVAL.
 */
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { EINVAL, ENOSYS } from '../machine/errno.ts';
import type { vm_map_t } from '../h/vm_map.ts';
import { sys_mincore } from './vm_mincore.ts';
import { sys_mlock, sys_mlockall, sys_munlock, sys_munlockall } from './vm_mlock.ts';
import {
  fails,
  type MapFile,
  type Sysret,
  sys_madvise,
  sys_minherit,
  sys_mmap,
  sys_mprotect,
  sys_munmap,
} from './vm_mmap.ts';
import { sys_msync } from './vm_msync.ts';
import { sys_break, sys_getpagesize, sys_sbrk, sys_sstk, sys_vadvise } from './vm_unix.ts';

const v_syscall = counter_u64('vm.stats.sys.v_syscall', 'System calls');

/** A line of the table. */
export interface Syscall {
  readonly number: number;
  readonly name: string;
  /** Arguments that it takes. */
  readonly args: number;
  readonly call: (mp: vm_map_t, args: readonly number[], file?: MapFile) => Sysret;
}
const call = (number: number, name: string, args: number, to: Syscall['call']): Syscall => ({
  number,
  name,
  args,
  call: to,
});
export const vm_syscalls: readonly Syscall[] = [
  call(17, 'break', 1, sys_break),
  call(64, 'getpagesize', 0, sys_getpagesize),
  call(65, 'msync', 3, sys_msync),
  call(69, 'sbrk', 1, sys_sbrk),
  call(70, 'sstk', 1, sys_sstk),
  call(72, 'vadvise', 1, sys_vadvise),
  call(73, 'munmap', 2, sys_munmap),
  call(74, 'mprotect', 3, sys_mprotect),
  call(75, 'madvise', 3, sys_madvise),
  call(78, 'mincore', 3, sys_mincore),
  call(203, 'mlock', 2, sys_mlock),
  call(204, 'munlock', 2, sys_munlock),
  call(250, 'minherit', 3, sys_minherit),
  call(324, 'mlockall', 1, sys_mlockall),
  call(325, 'munlockall', 0, sys_munlockall),
  call(477, 'mmap', 6, sys_mmap),
];
const by_key = new Map<number | string, Syscall>(
  vm_syscalls.flatMap((s) => [
    [s.number, s],
    [s.name, s],
  ]),
);

/**
 * Does a system call on an address space.  The caller holds no lock; it may sleep.  `file`: what
 * is behind the descriptor among the arguments, if there is one.
 */
export function vm_syscall(
  mp: vm_map_t,
  which: number | string,
  args: readonly number[] = [],
  file?: MapFile,
): Sysret {
  counter_add(v_syscall, 1);
  const s = by_key.get(which);
  if (s === undefined) return fails(ENOSYS);
  const given = Array.from({ length: s.args }, (_, i) => args[i] ?? 0);
  return given.every(Number.isInteger) ? s.call(mp, given, file) : fails(EINVAL);
}
