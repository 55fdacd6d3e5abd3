/*
 * space_calls: two CPUs do system calls on a space that both use, one of them shares it with a
 * copy, and both write through either.
 */
import { ENOMEM, ETIMEDOUT } from '../../src/sys/machine/errno.ts';
import { PAGE_SIZE } from '../../src/sys/machine/memory.ts';
import { MADV_FREE, MADV_WILLNEED, VM_INHERIT_SHARE } from '../../src/sys/h/vm_map.ts';
import { MAP_ANON, MAP_FIXED } from '../../src/sys/h/mman.ts';
import { map_at } from '../../src/sys/map/vm_map.test.lib.ts';
import { FIRST } from '../../src/sys/map/vm_space.test.lib.ts';
import { vm_syscall } from '../../src/sys/map/vm_syscalls.ts';
import { vmspace_segments } from '../../src/sys/map/vm_unix.ts';
import { COMMON, drop, fork, look, mine, space_script, write } from '../space_ops.ts';

const RW = 3;
/** Pages from the i-th of the window on. */
const at = (i: number, pages: number): number[] => [(FIRST + i) * PAGE_SIZE, pages * PAGE_SIZE];
const call =
  (s: number, name: string, ...args: number[]): (() => void) =>
  () => {
    if (map_at(s) === 0) return;
    const { error } = vm_syscall(map_at(s), name, args);
    if (error !== 0 && error !== ENOMEM && error !== ETIMEDOUT) {
      throw new Error(`${name} ${args}: errno ${error}`);
    }
  };
const map = (s: number, i: number): (() => void) =>
  call(s, 'mmap', ...at(i, 1), RW, MAP_ANON | MAP_FIXED, -1, 0);
/** Data far from the window. */
const DATA = 0x5500_0000_0000;
const data =
  (s: number): (() => void) =>
  () =>
    void vmspace_segments(map_at(s), { data: { address: DATA, bytes: 0 } });

export const script = space_script(
  'system calls of two CPUs on one address space, and memory that is shared after a copy',
  (cpu) =>
    cpu === 0
      ? [
          map(COMMON, 2),
          call(COMMON, 'minherit', ...at(0, 3), VM_INHERIT_SHARE),
          fork(COMMON, mine(0)),
          look(COMMON, 0),
          write(mine(0), 0, 0),
          look(COMMON, 0),
          call(COMMON, 'mprotect', ...at(1, 1), 1),
          call(COMMON, 'mprotect', ...at(1, 1), RW),
          drop(mine(0)),
        ]
      : [
          map(COMMON, 2),
          fork(COMMON, mine(1)),
          write(COMMON, 0, 1),
          call(COMMON, 'madvise', ...at(0, 3), MADV_WILLNEED),
          data(COMMON),
          call(COMMON, 'break', DATA + 3 * PAGE_SIZE),
          call(mine(1), 'minherit', ...at(0, 2), VM_INHERIT_SHARE),
          fork(mine(1), mine(1, 1)),
          write(mine(1, 1), 1, 1),
          look(mine(1), 1),
          call(COMMON, 'break', DATA + PAGE_SIZE),
          call(mine(1), 'madvise', ...at(2, 1), MADV_FREE),
          call(COMMON, 'munmap', ...at(1, 1)),
        ],
);
