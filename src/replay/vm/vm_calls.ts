/*
 * vm_calls: a recorded call on memory, as system calls of the machine's kernel.
 *
 *      recorded on Linux                     made here
 *      mmap(NULL, …) = 0x7f36…               mmap(0x7f36…, FIXED, EXCL): nothing was there
 *      mmap(0x7f36…, … MAP_FIXED …)          mmap(0x7f36…, FIXED)
 *      brk(0x561c…)                          break; the first one says where data begins
 *      mremap(…) = 0x7f40…                   the objects are mapped there, and the old range goes
 *      madvise(…, MADV_DONTNEED)             new memory in place of private memory
 *      mlock, mlockall and their ends        the same: what the machine may not hold is no memory
 *      msync                                 the same, of memory: whether all of it is mapped
 *      munmap, mprotect, other advice        the same
 *
 * Everything comes to lie where it lay when it was recorded.  A call that succeeded then and
 * fails here, or answers with another address, is a mismatch, which the caller counts.  It is
 * one, too, if something is in the place that the recorded kernel chose because nothing was
 * there; the mapping takes that place all the same, so that what follows is not a
 * consequence.
 *
 * Files are files with contents of ours (vm_files.ts).  MAP_GROWSDOWN maps the range as it is,
 * because what it grew by is not in a recording.
 *
 * A call that a CPU did not answer in time changed nothing, and is made again.
 */
import { EAGAIN, EINVAL, ENOMEM, ETIMEDOUT } from '../../sys/machine/errno.ts';
import { PAGE_SIZE } from '../../sys/machine/memory.ts';
import { NULL } from '../../sys/machine/struct.ts';
import { MAP_ANON, MAP_EXCL, MAP_FIXED, MAP_PRIVATE, MAP_SHARED } from '../../sys/h/mman.ts';
import {
  KERN_SUCCESS,
  MAP_COPY_ON_WRITE,
  VM_INHERIT_COPY,
  VM_INHERIT_SHARE,
  VM_MAP_MAX,
  vm_map,
  type vm_map_t,
} from '../../sys/h/vm_map.ts';
import { VM_PROT_ALL } from '../../sys/h/vm_prot.ts';
import { bank_room, to_address, to_page } from '../../sys/map/vm_bank.ts';
import {
  vm_map_lock,
  vm_map_lock_read,
  vm_map_unlock,
  vm_map_unlock_read,
} from '../../sys/map/vm_map.ts';
import { vm_map_fixed } from '../../sys/map/vm_map_insert.ts';
import type { MapFile, Sysret } from '../../sys/map/vm_mmap.ts';
import { vm_map_file } from '../../sys/map/vm_msync.ts';
import { vm_syscall } from '../../sys/map/vm_syscalls.ts';
import { vmspace_limits, vmspace_segments } from '../../sys/map/vm_unix.ts';
import type { vm_object_t } from '../../sys/h/vm_object.ts';
import { vm_object_deallocate, vm_object_reference } from '../../sys/object/vm_object.ts';
import {
  V_ADDRESS,
  V_FLAGS,
  V_LENGTH,
  V_OP,
  V_PROT,
  V_TO,
  V_TO_LENGTH,
  VM_ADVICE_DISCARD,
  VM_BRK,
  VM_KEEP,
  VM_MADVISE,
  VM_MINHERIT,
  VM_MLOCK,
  VM_MLOCKALL,
  VM_MMAP,
  VM_MPROTECT,
  VM_MREMAP,
  VM_MSYNC,
  VM_MUNLOCK,
  VM_MUNLOCKALL,
  VM_MUNMAP,
  VM_READ,
  VM_WRITE,
} from '../ring/vm_events.ts';
import { type Stretch, stretches } from './vm_stretch.ts';

const map = vm_map;

/** The call answered, but not as it did when it was recorded. */
export const OTHERWISE = -1;
/** How often a call is made that a CPU did not answer in time. */
const TRIES = 200;
const SHARINGS = MAP_SHARED | MAP_PRIVATE;
const PROT = VM_PROT_ALL;
const NO_FILE = -1;
/** A descriptor that stands for what is given beside it. */
const FILE = 0;

/** Calls that the player makes; others it leaves out. */
export const PLAYED: ReadonlySet<number> = new Set([
  ...[VM_MMAP, VM_MUNMAP, VM_MPROTECT, VM_MREMAP, VM_MADVISE, VM_MINHERIT, VM_BRK],
  ...[VM_MLOCK, VM_MUNLOCK, VM_MLOCKALL, VM_MUNLOCKALL, VM_MSYNC],
]);

/** Sets what a space may have: the recorded limits are not known, but were not exceeded. */
export function without_limits(mp: vm_map_t): void {
  const bytes = VM_MAP_MAX * PAGE_SIZE;
  vmspace_limits(mp, { data: bytes, data_max: bytes, stack: bytes, all: bytes });
}
/** What is mapped of a file. The reference to the object in hand is used up. */
export interface CallFile {
  readonly object: vm_object_t;
  readonly offset: number;
}
/**
 * Makes one recorded call in a space: 0, it answered as recorded; OTHERWISE; or the errno with
 * which it failed here.
 */
export function play_call(mp: vm_map_t, rows: Float64Array, at: number, file?: CallFile): number {
  const address = rows[at + V_ADDRESS];
  const length = rows[at + V_LENGTH];
  const flags = rows[at + V_FLAGS];
  const prot = rows[at + V_PROT] & PROT;
  switch (rows[at + V_OP]) {
    case VM_MMAP: {
      const error = map_memory(mp, address, length, prot, flags, file);
      if (file !== undefined) vm_object_deallocate(file.object);
      return error;
    }
    case VM_MUNMAP:
      return call(mp, 'munmap', [address, length]).error;
    case VM_MPROTECT:
      return call(mp, 'mprotect', [address, length, prot]).error;
    case VM_MREMAP: {
      const [to, to_length] = [rows[at + V_TO], rows[at + V_TO_LENGTH]];
      return remap(mp, address, length, to, to_length, (flags & VM_KEEP) !== 0);
    }
    case VM_MADVISE:
      if (flags === VM_ADVICE_DISCARD) return discard(mp, address, length);
      return call(mp, 'madvise', [address, length, flags]).error;
    case VM_MINHERIT:
      return call(mp, 'minherit', [address, length, flags]).error;
    case VM_BRK:
      return move_break(mp, address, length);
    case VM_MLOCK:
      return locked(call(mp, 'mlock', [address, length]).error);
    case VM_MLOCKALL:
      return flags === 0 ? 0 : locked(call(mp, 'mlockall', [flags]).error); // MCL_ONFAULT alone
    case VM_MUNLOCK:
      return whole(call(mp, 'munlock', [address, length]).error);
    case VM_MUNLOCKALL:
      return call(mp, 'munlockall', []).error;
    case VM_MSYNC:
      return whole(call(mp, 'msync', [address, Math.max(length, 1), 0]).error);
    default:
      throw new Error(`vm_calls: operation ${rows[at + V_OP]} is none that is played`);
  }
}
/** A lock that the machine has no room for is memory that it has not. */
function locked(error: number): number {
  return error === EAGAIN ? ENOMEM : error;
}
/** Of calls that want no memory ENOMEM is a hole, where there was none. */
function whole(error: number): number {
  return error === ENOMEM ? OTHERWISE : error;
}
/**
 * Whether a call that found no memory found no room instead: its addresses have no bank, or
 * something is in the way of the break.
 */
export function no_room(mp: vm_map_t, rows: Float64Array, at: number): boolean {
  const [address, length] = [rows[at + V_ADDRESS], rows[at + V_LENGTH]];
  switch (rows[at + V_OP]) {
    case VM_MMAP:
      return !has_bank(mp, address, length);
    case VM_MREMAP:
      return !has_bank(mp, rows[at + V_TO], rows[at + V_TO_LENGTH]);
    case VM_BRK:
      if (address <= length) return false;
      return (
        mapped(mp, round(length), round(address) - round(length)).length > 0 ||
        !has_bank(mp, length, address - length)
      );
    default:
      return false;
  }
}
function has_bank(mp: vm_map_t, address: number, length: number): boolean {
  const pages = Math.max(1, Math.ceil(length / PAGE_SIZE));
  vm_map_lock(mp);
  const room = bank_room(mp, Math.floor(address / PAGE_SIZE), pages);
  vm_map_unlock(mp);
  return room !== null;
}
function call(mp: vm_map_t, name: string, args: readonly number[], file?: MapFile): Sysret {
  for (let n = 1; ; n++) {
    const answer = vm_syscall(mp, name, args, file);
    if (answer.error !== ETIMEDOUT || n === TRIES) return answer;
  }
}
/** Memory or a file, which is referred to once more then, in place of what is there. */
function memory_at(
  mp: vm_map_t,
  address: number,
  length: number,
  prot: number,
  how: number,
  file?: CallFile,
): Sysret {
  if (file !== undefined) {
    const { object, offset } = file;
    vm_object_reference(object);
    const of = { object, readable: true, writable: true };
    const answer = call(mp, 'mmap', [address, length, prot, how | MAP_FIXED, FILE, offset], of);
    if (answer.error !== 0) vm_object_deallocate(object);
    return answer;
  }
  return call(mp, 'mmap', [address, length, prot, how | MAP_ANON | MAP_FIXED, NO_FILE, 0]);
}
function map_memory(
  mp: vm_map_t,
  address: number,
  length: number,
  prot: number,
  flags: number,
  file?: CallFile,
): number {
  const sharing = flags & SHARINGS;
  const replaces = (flags & MAP_FIXED) !== 0 && (flags & MAP_EXCL) === 0;
  const how = sharing | (replaces ? 0 : MAP_EXCL);
  const { error } = memory_at(mp, address, length, prot, how, file);
  if (error !== EINVAL || replaces) return error;
  const there = memory_at(mp, address, length, prot, sharing, file);
  return there.error === 0 ? OTHERWISE : there.error;
}

/** Pages of a range of addresses, in the map. Null: nothing was ever mapped near it. */
function pages_of(mp: vm_map_t, address: number, length: number): [number, number] | null {
  const first = to_page(mp, address);
  return first < 0 ? null : [first, first + Math.ceil(length / PAGE_SIZE)];
}
function mapped(mp: vm_map_t, address: number, length: number): Stretch[] {
  const range = pages_of(mp, address, length);
  return range === null ? [] : stretches(mp, ...range);
}
/** Private memory of a range is new memory, or what its file has; what others see stays. */
function discard(mp: vm_map_t, address: number, length: number): number {
  const range = pages_of(mp, address, length);
  if (range === null) return 0;
  for (const { start, end, prot, shared } of stretches(mp, ...range)) {
    if (shared) continue;
    const from = address + (start - range[0]) * PAGE_SIZE;
    const bytes = (end - start) * PAGE_SIZE;
    const of = vm_map_file(mp, start);
    const file = of === null ? undefined : { object: of.o, offset: of.first * PAGE_SIZE };
    const { error } = memory_at(mp, from, bytes, prot, MAP_PRIVATE, file);
    if (of !== null) vm_object_deallocate(of.o);
    if (error !== 0) return error;
  }
  return 0;
}
/**
 * The memory of a range comes to lie elsewhere, or is longer or shorter.  What it grows by is
 * as its last page is.
 */
function remap(
  mp: vm_map_t,
  address: number,
  length: number,
  to: number,
  to_length: number,
  keep: boolean,
): number {
  const old_bytes = round(length);
  const new_bytes = round(to_length);
  const last = mapped(mp, address, old_bytes).at(-1);
  const prot = last?.prot ?? VM_READ | VM_WRITE;
  const how = last?.shared ? MAP_SHARED : MAP_PRIVATE;
  if (to === address) {
    if (new_bytes < old_bytes) {
      return call(mp, 'munmap', [to + new_bytes, old_bytes - new_bytes]).error;
    }
    if (new_bytes === old_bytes) return 0;
    return map_memory(mp, to + old_bytes, new_bytes - old_bytes, prot, how);
  }
  if (to < address + old_bytes && address < to + new_bytes) {
    // No kernel moves memory over itself; a recording of one that did is damaged.
    const { error } = call(mp, 'munmap', [address, old_bytes]);
    return error !== 0 ? error : memory_at(mp, to, new_bytes, prot, how).error;
  }
  const { error } = memory_at(mp, to, new_bytes, prot, how);
  if (error !== 0) return error;
  const moved = move(mp, address, Math.min(old_bytes, new_bytes), to);
  if (moved !== 0) return moved;
  return keep ? discard(mp, address, old_bytes) : call(mp, 'munmap', [address, old_bytes]).error;
}
const round = (length: number): number => Math.ceil(length / PAGE_SIZE) * PAGE_SIZE;
/** The objects of a range are mapped at `to`, too, where there is memory already. */
function move(mp: vm_map_t, address: number, length: number, to: number): number {
  const range = pages_of(mp, address, length);
  const target = pages_of(mp, to, length);
  if (range === null || target === null) return 0;
  for (const { start, end, prot, shared, object, offset, copies } of stretches(mp, ...range)) {
    if (object === NULL) continue;
    const first = target[0] + start - range[0];
    vm_object_reference(object);
    const result = vm_map_fixed(mp, first, first + end - start, {
      object,
      offset,
      protection: prot,
      max_protection: VM_PROT_ALL,
      cow: copies ? MAP_COPY_ON_WRITE : 0,
      inheritance: shared ? VM_INHERIT_SHARE : VM_INHERIT_COPY,
    });
    if (result === KERN_SUCCESS) continue;
    vm_object_deallocate(object);
    return ENOMEM;
  }
  return 0;
}
/** The break is at an address. What it was before is where data begins, if that is not known. */
function move_break(mp: vm_map_t, address: number, before: number): number {
  const { base, bytes } = data_of(mp);
  const wanted = round(address);
  if (bytes < 0 || (wanted < base && bytes === 0)) {
    const from = bytes < 0 ? Math.min(round(before), wanted) : wanted;
    const error = vmspace_segments(mp, { data: { address: from, bytes: 0 } });
    if (error !== 0) return error;
  } else if (wanted < base) {
    // It went below what was seen first: there the recorded program had data before.
    const { error } = call(mp, 'break', [base]);
    return error !== 0 ? error : vmspace_segments(mp, { data: { address: wanted, bytes: 0 } });
  }
  const { error, value } = call(mp, 'break', [address]);
  return error !== 0 || value === wanted ? error : OTHERWISE;
}
/** Where data of a space begins, and how long it is; bytes -1: it was not said yet. */
function data_of(mp: vm_map_t): { base: number; bytes: number } {
  vm_map_lock_read(mp);
  const first = map.daddr[mp];
  const base = to_address(mp, first);
  const bytes = first === 0 ? -1 : map.dsize[mp] * PAGE_SIZE;
  vm_map_unlock_read(mp);
  return { base, bytes };
}
