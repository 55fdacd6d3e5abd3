/*
 * vm_copy: the kernel reads and writes what is mapped in an address space.
 *
 *      copyin, copyout      a block, from and to the kernel's memory
 *      copyinstr            a text that ends with a zero
 *      fubyte .. casuword   a byte or a word
 *      vm_access            page after page, for whoever moves the bytes himself
 *
 * Nobody asks first whether memory may be used: the access is attempted, and says why it
 * failed.  A translation that was found stays good until this CPU polls: page after page it is
 * looked up again.
 *
 * Addresses are bytes of the address space, kernel addresses bytes of the machine's memory.  The
 * address space may be kernel_map, or a part of it (vm_kern_fault.ts).
 */
import { atomic_cas } from '../machine/atomic.ts';
import { bcopy } from '../machine/bytes.ts';
import { poll } from '../machine/cpu.ts';
import { EAGAIN, EFAULT, EIO, ENAMETOOLONG, ENOMEM } from '../machine/errno.ts';
import { mem, PAGE_SIZE } from '../machine/memory.ts';
import { kernel_parts } from '../machine/parts.ts';
import {
  KERN_ABORTED,
  KERN_FAILURE,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  VM_MAP_MAX,
  VM_MAP_SYSTEM,
  vm_map,
  type vm_map_t,
} from '../h/vm_map.ts';
import { VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { pmap_absent, pmap_translate } from '../pmap/pmap.ts';
import { tlb_lookup } from '../pmap/pmap_tlb.ts';
import { vm_fault } from './vm_fault.ts';
import { type Shortage, shortage_none, vm_fault_reclaim } from './vm_oom.ts';

const map = vm_map;

/**
 * The first word of the page of memory that page number `vpn` means, for a load or a store; or
 * -KERN_*.  It is good until this CPU polls.  The caller holds no lock.
 */
export function vm_frame(mp: vm_map_t, vpn: number, write: boolean): number {
  const pm = map.pmap[mp];
  let short: Shortage | null = null;
  poll();
  for (;;) {
    let frame = tlb_lookup(pm, vpn, write); // a fault leaves a tag behind
    if (frame === 0 && !pmap_absent(pm, vpn, write)) frame = pmap_translate(pm, vpn, write);
    if (frame > 0) return frame;
    if (frame < 0) {
      // No memory for this CPU's tags: it is had as a page for a fault is.
      short ??= shortage_none();
      if (vm_fault_reclaim(mp, short, 1)) continue;
      return -KERN_RESOURCE_SHORTAGE;
    }
    const access = write ? VM_PROT_WRITE : VM_PROT_READ;
    const kernel = map.kind[mp] === VM_MAP_SYSTEM;
    const fault = kernel ? (kernel_parts.kernel_fault ?? vm_fault) : vm_fault;
    const result = fault(mp, vpn, access);
    if (result !== KERN_SUCCESS) return -result;
  }
}
/** The errno of a fault that failed. */
export function fault_errno(kern: number): number {
  if (kern === KERN_RESOURCE_SHORTAGE) return ENOMEM;
  if (kern === KERN_ABORTED) return EAGAIN;
  return kern === KERN_FAILURE ? EIO : EFAULT;
}

/** How an access ended: an errno or 0, and how many bytes it came. */
export interface Access {
  readonly error: number;
  readonly done: number;
}
/** Bytes that an address space has, at most. */
const SPACE_BYTES = VM_MAP_MAX * PAGE_SIZE;
/**
 * Calls `move` for each piece of a range that lies within a page: with the piece's first byte in
 * the machine's memory, its length, and how many bytes came before.  It must not poll.
 */
export function vm_access(
  mp: vm_map_t,
  from: number,
  length: number,
  write: boolean,
  move: (at: number, n: number, done: number) => void,
): Access {
  if (length === 0) return { error: 0, done: 0 };
  if (from < 0 || from + length > SPACE_BYTES) return { error: EFAULT, done: 0 };
  for (let done = 0; done < length; ) {
    const address = from + done;
    const offset = address % PAGE_SIZE;
    const n = Math.min(PAGE_SIZE - offset, length - done);
    const frame = vm_frame(mp, Math.floor(address / PAGE_SIZE), write);
    if (frame < 0) return { error: fault_errno(-frame), done };
    move(frame * 4 + offset, n, done);
    done += n;
  }
  return { error: 0, done: length };
}
/** Copies `length` bytes of an address space to the kernel's byte `to`. */
export function copyin(mp: vm_map_t, from: number, to: number, length: number): Access {
  return vm_access(mp, from, length, false, (at, n, done) => {
    bcopy(at, to + done, n);
  });
}
/** Copies `length` bytes from the kernel's byte `from` to an address space. */
export function copyout(mp: vm_map_t, from: number, to: number, length: number): Access {
  return vm_access(mp, to, length, true, (at, n, done) => {
    bcopy(from + done, at, n);
  });
}
/**
 * Copies a text and the zero behind it to the kernel's byte `to`, at most `max` bytes.
 * ENAMETOOLONG: there is no zero among them; they were copied.
 */
export function copyinstr(mp: vm_map_t, from: number, to: number, max: number): Access {
  let done = 0;
  while (done < max) {
    const n = Math.min(PAGE_SIZE - ((from + done) % PAGE_SIZE), max - done);
    let end = -1;
    const piece = vm_access(mp, from + done, n, false, (at) => {
      const zero = mem.U8.subarray(at, at + n).indexOf(0);
      end = zero < 0 ? -1 : zero + 1;
      bcopy(at, to + done, end < 0 ? n : end);
    });
    if (piece.error !== 0) return { error: piece.error, done };
    if (end >= 0) return { error: 0, done: done + end };
    done += n;
  }
  return { error: ENAMETOOLONG, done };
}

/** A word of an address space, unsigned; -1: it could not be read, or lies across two. */
export function fuword(mp: vm_map_t, address: number): number {
  const w = word_of(mp, address, false);
  return w < 0 ? -1 : mem.U32[w];
}
/** A byte; -1: it could not be read. */
export function fubyte(mp: vm_map_t, address: number): number {
  const w = word_of(mp, address - (address % 4), false);
  return w < 0 ? -1 : mem.U8[w * 4 + (address % 4)];
}
/** Stores a word. 0, or -1: it could not be written. */
export function suword(mp: vm_map_t, address: number, value: number): number {
  const w = word_of(mp, address, true);
  if (w >= 0) mem.U32[w] = value;
  return w < 0 ? -1 : 0;
}
/** Stores a byte. 0, or -1: it could not be written. */
export function subyte(mp: vm_map_t, address: number, value: number): number {
  const w = word_of(mp, address - (address % 4), true);
  if (w >= 0) mem.U8[w * 4 + (address % 4)] = value;
  return w < 0 ? -1 : 0;
}
/** Stores `value` in the place of `old`, atomically. The word that was there; -1: none. */
export function casuword(mp: vm_map_t, address: number, old: number, value: number): number {
  const w = word_of(mp, address, true);
  return w < 0 ? -1 : atomic_cas(w, old | 0, value | 0) >>> 0;
}
function word_of(mp: vm_map_t, address: number, write: boolean): number {
  if (address < 0 || address + 4 > SPACE_BYTES || address % 4 !== 0) return -1;
  const frame = vm_frame(mp, Math.floor(address / PAGE_SIZE), write);
  return frame < 0 ? -1 : frame + (address % PAGE_SIZE) / 4;
}
