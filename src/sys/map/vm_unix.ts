/*
 * vm_unix: the parts of a process's address space, its limits, and the break.
 *
 *      text      data ........ break            mappings ...             stack
 *      |--------||-----------|>>>>>  dlimit_max |                 <<<<<<|------|
 *
 * Data grows at its end, the break, by one call that says where the break is to be.  Other
 * mappings get their place above what data may ever become.  sbrk, which C programs call, is
 * made of that by their library; the system calls sbrk, sstk and vadvise are numbers that were
 * given away once, and only fail.
 */
import { EBUSY, EINVAL, ENOMEM, EOPNOTSUPP } from '../machine/errno.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { NULL } from '../machine/struct.ts';
import {
  KERN_BUSY,
  KERN_NO_SPACE,
  KERN_SUCCESS,
  VM_MAP_MAX,
  vm_map,
  type vm_map_t,
} from '../h/vm_map.ts';
import type { vm_object_t } from '../h/vm_object.ts';
import { VM_PROT_ALL, VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { bank_bind, bank_room, type Room, to_address } from './vm_bank.ts';
import { vm_map_lock, vm_map_lock_read, vm_map_unlock, vm_map_unlock_read } from './vm_map.ts';
import { vm_map_insert, vm_map_mapped } from './vm_map_insert.ts';
import { entries_wait, vm_map_delete } from './vm_map_range.ts';
import { windows_settle } from './vm_window.ts';
import { vm_future_wire } from './vm_wire_limits.ts';
import { fails, type Sysret, succeeds, unsigned, with_memory } from './vm_mmap.ts';

const map = vm_map;
const DATA = {
  object: NULL as vm_object_t,
  offset: 0,
  protection: VM_PROT_READ | VM_PROT_WRITE,
  max_protection: VM_PROT_ALL,
  cow: 0,
};

// --- what a process has --------------------------------------------------------------------------

/** Addresses that are one part of a process. */
export interface Segment {
  readonly address: number;
  readonly bytes: number;
}
/** The parts of a process; what is absent it has not. */
export interface Segments {
  readonly text?: Segment;
  /** It may have no byte yet. */
  readonly data?: Segment;
  /** All that the stack may ever be; it is mapped already (MAP_STACK). */
  readonly stack?: Segment;
}
/**
 * Says which mappings, made by mmap, are text, data and stack of a program.  ENOMEM: an address
 * has no bank, and there is none left; else 0.
 */
export function vmspace_segments(mp: vm_map_t, segments: Segments): number {
  vm_map_lock(mp);
  const rooms: Room[] = [];
  const pages = (part: Segment | undefined): number => Math.ceil((part?.bytes ?? 0) / PAGE_SIZE);
  const page_of = (part: Segment | undefined): number => {
    if (part === undefined) return 0;
    const room = bank_room(mp, Math.floor(part.address / PAGE_SIZE), Math.max(pages(part), 1));
    if (room === null) return -1;
    bank_bind(mp, room);
    rooms.push(room);
    return room.page;
  };
  const { text, data, stack } = segments;
  const [t, d, s] = [page_of(text), page_of(data), page_of(stack)];
  const fits = t >= 0 && d >= 0 && s >= 0;
  if (fits) {
    undo_begin(map.lock, mp);
    const all = [map.taddr, map.tsize, map.daddr, map.dsize, map.maxsaddr, map.ssize];
    for (const f of all) save(f, mp);
    [map.taddr[mp], map.tsize[mp]] = [t, pages(text)];
    [map.daddr[mp], map.dsize[mp]] = [d, pages(data)];
    [map.maxsaddr[mp], map.ssize[mp]] = [s, vm_map_mapped(mp, s, s + pages(stack))];
    undo_end();
  } else for (const room of rooms.reverse()) bank_bind(mp, room, false);
  vm_map_unlock(mp);
  return fits ? 0 : ENOMEM;
}

/** Limits of an address space in bytes, as setrlimit has them; what is absent stays. */
export interface Limits {
  /** RLIMIT_DATA, and its maximum. */
  readonly data?: number;
  readonly data_max?: number;
  /** RLIMIT_STACK. */
  readonly stack?: number;
  /** RLIMIT_AS: all that is mapped. */
  readonly all?: number;
  /** RLIMIT_MEMLOCK: all that is locked. */
  readonly memlock?: number;
  /** RLIMIT_RSS: what is translated at a time; 0: any number. */
  readonly resident?: number;
}
/** Sets limits; what is there already stays. */
export function vmspace_limits(mp: vm_map_t, limits: Limits): void {
  const values = [
    { f: map.dlimit, bytes: limits.data },
    { f: map.dlimit_max, bytes: limits.data_max },
    { f: map.slimit, bytes: limits.stack },
    { f: map.limit, bytes: limits.all },
    { f: map.wire_limit, bytes: limits.memlock },
    { f: map.rss_limit, bytes: limits.resident },
  ];
  vm_map_lock(mp);
  undo_begin(map.lock, mp);
  for (const { f, bytes } of values) {
    if (bytes === undefined) continue;
    save(f, mp);
    f[mp] = Math.min(Math.floor(bytes / PAGE_SIZE), VM_MAP_MAX);
  }
  undo_end();
  vm_map_unlock(mp);
}

/** The same in pages, for programs: of all that is mapped, and of all that is locked. */
export function vmspace_limit_pages(
  mp: vm_map_t,
  size: number | undefined,
  locked: number | undefined,
): void {
  const bytes = (pages: number | undefined): number | undefined =>
    pages === undefined ? undefined : pages * PAGE_SIZE;
  vmspace_limits(mp, { all: bytes(size), memlock: bytes(locked) });
}

// --- the break -----------------------------------------------------------------------------------

/** Moves the end of the data to an address, which is the value, rounded up to a page. */
export function sys_break(mp: vm_map_t, [address]: readonly number[]): Sysret {
  const last = Math.ceil(unsigned(address) / PAGE_SIZE);
  let error = 0;
  let [old, from, to] = [0, 0, 0];
  const result = with_memory(() => {
    vm_map_lock(mp);
    const base = to_address(mp, map.daddr[mp]) / PAGE_SIZE;
    error = last < base ? EINVAL : 0;
    old = map.dsize[mp];
    const kern = error === 0 ? move_break(mp, base, last - base) : KERN_SUCCESS;
    [from, to] = [map.daddr[mp] + old, map.daddr[mp] + map.dsize[mp]];
    vm_map_unlock(mp);
    return kern;
  });
  if (result !== KERN_SUCCESS) error = result === KERN_BUSY ? EBUSY : ENOMEM;
  if (error === 0 && to > from && vm_future_wire(mp, from, to) !== 0) {
    vm_map_lock(mp);
    // Nobody moves it meanwhile who expects an answer of his own; it fits, as it did.
    if (map.dsize[mp] === to - map.daddr[mp]) move_break(mp, 0, old); // errno: less needs no place
    vm_map_unlock(mp);
    error = ENOMEM;
  }
  return error === 0 ? succeeds(last * PAGE_SIZE) : fails(error);
}
/**
 * Makes the data, which begins at page number `vpn`, so many pages long.  The map is locked
 * exclusively.  A thread that dies in the middle leaves memory behind the break, which cannot
 * be grown into until it is unmapped.
 */
function move_break(mp: vm_map_t, vpn: number, pages: number): number {
  const base = map.daddr[mp];
  const has = (): number => map.dsize[mp];
  const waits = (from: number, to: number): boolean =>
    entries_wait(mp, from, to, true) || windows_settle(mp, from, to);
  while (pages < has() && waits(base + pages, base + has()));
  const old = has();
  if (pages === old) return KERN_SUCCESS;
  let result = KERN_NO_SPACE;
  if (pages < old) result = vm_map_delete(mp, base + pages, base + old);
  else if (base > 0 && pages <= map.dlimit[mp]) {
    const room = bank_room(mp, vpn, pages);
    if (room === null || room.page !== base) return KERN_NO_SPACE;
    bank_bind(mp, room);
    result = vm_map_insert(mp, base + old, base + pages, DATA);
    if (result !== KERN_SUCCESS) bank_bind(mp, room, false);
  }
  if (result !== KERN_SUCCESS) return result;
  undo_begin(map.lock, mp);
  save(map.dsize, mp);
  map.dsize[mp] = pages;
  undo_end();
  return KERN_SUCCESS;
}
/** Moves the break by so many bytes, as the library does it: the old one is the value. */
export function sbrk(mp: vm_map_t, increment: number): Sysret {
  vm_map_lock_read(mp);
  const old = to_address(mp, map.daddr[mp]) + map.dsize[mp] * PAGE_SIZE;
  vm_map_unlock_read(mp);
  if (increment === 0) return succeeds(old);
  const { error } = sys_break(mp, [old + increment]);
  return error === 0 ? succeeds(old) : fails(error);
}

// --- numbers without a use -----------------------------------------------------------------------

export const sys_sbrk = (): Sysret => fails(EOPNOTSUPP);
export const sys_sstk = (): Sysret => fails(EOPNOTSUPP);
export const sys_vadvise = (): Sysret => fails(EINVAL);
export const sys_getpagesize = (): Sysret => succeeds(PAGE_SIZE);
