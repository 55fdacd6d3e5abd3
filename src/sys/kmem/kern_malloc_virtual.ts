/*
 * kern_malloc_virtual: blocks of malloc beyond the memory.
 *
 *      malloc            | block of n pages, side by side in memory |      a flat view
 *      malloc_virtual    kernel_map  | n addresses |
 *                                      |  |  |        .-- pages wherever there are any
 *                                      v  v  v  <-----'
 *
 * Where memory is full of small things no run of n pages may be left, though n pages are.  A caller
 * who can do with translated loads and stores gets a block of kernel addresses then, if it has
 * vm.kmem_virtual_min bytes.  It counts under its type and towards vm.kmem_size as any block.
 *
 * Such a block is a page number, not a word of the memory: malloc's fast paths never see one.  Its
 * entry in the map says whose it is; block, count and entry change in one section, so that a thread
 * that dies leaves a block that is counted, or none.
 *
 * A window shows a part of one as flat memory (map/vm_window.ts); meanwhile it cannot be freed.
 */
import { poll } from '../machine/cpu.ts';
import { EFAULT } from '../machine/errno.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { add64, NULL } from '../machine/struct.ts';
import { sysctl_get } from '../machine/sysctl_decl.ts';
import { type malloc_type_t, mtstats, type mtstats_t } from '../h/malloc.ts';
import { KVA_END } from '../h/vm_kern.ts';
import { vm_map_entry, type vm_map_entry_t } from '../h/vm_map.ts';
import { VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { vm_access } from '../map/vm_copy.ts';
import { kernacc } from '../map/vm_kern_fault.ts';
import { kernel_map_there } from '../map/vm_kern_vars.ts';
import { kernel_map, kmem_block, kmem_free, kmem_inside, kmem_malloc } from '../map/vm_kern.ts';
import { vm_window_open } from '../map/vm_window.ts';
import { kernel_enter, kernel_leave, kernel_threw } from '../sync/subr_trap.ts';
import { save, save64_two } from '../sync/undo.ts';
import { budget_enter, budget_hold, budget_large, budget_leave } from '../uma/uma_budget.ts';
import { large_type, malloc_fail } from './kern_malloc.ts';
import {
  malloc_late_free_large,
  malloc_stats_block,
  malloc_type_check,
} from './kern_malloc_type.ts';
import { kmem_virtual_min } from './kmem_size.ts';

const entry = vm_map_entry;
const stats = mtstats;

/**
 * A block of `size` bytes of zeros for type t, beyond the memory: its first page number.  0: it is
 * too small for that, or there are not so many pages.  `flags` as malloc's.
 */
export function malloc_virtual(size: number, t: malloc_type_t, flags: number): number {
  if (size < sysctl_get(kmem_virtual_min)) return 0;
  const outer = kernel_enter();
  let at = 0;
  try {
    at = alloc(Math.ceil(size / PAGE_SIZE), t, flags);
  } catch (e) {
    kernel_threw(e, outer, 'malloc');
  }
  kernel_leave(outer);
  return at;
}
function alloc(n: number, t: malloc_type_t, flags: number): number {
  malloc_type_check(t, 'malloc');
  poll();
  const mp = kernel_map();
  const s = malloc_stats_block(t, flags);
  if (s === NULL || mp === NULL || !budget_enter(n)) return malloc_fail(t, s, -1);
  const at = kmem_malloc(mp, n, flags, (e) => {
    count(s, n, false);
    save(entry.grow_prot, e);
    entry.grow_prot[e] = t;
  });
  budget_leave(n);
  return at === 0 ? malloc_fail(t, s, -1) : at;
}
/** Counts a block of n pages as allocated, or as freed. Inside the section of its entry. */
function count(s: mtstats_t, n: number, freed: boolean): void {
  const [bytes, blocks] = freed
    ? [stats.large_freed, stats.large_frees]
    : [stats.large_alloced, stats.large_allocs];
  save64_two(bytes, blocks, s);
  budget_large(n, freed);
  add64(bytes, s, n * PAGE_SIZE);
  add64(blocks, s, 1);
}
/** Pages of the block that begins at page number `at`, 0: none does. */
export function virtual_pages(at: number): number {
  return kmem_block(at, (e) => entry.end[e] - entry.start[e]);
}
/**
 * Calls `move` for each piece of a range of addresses beyond the memory, which are bytes: with its
 * place in the memory, its length, and how many bytes came before.  False: some of it is nobody's,
 * and nothing was moved.
 */
export function virtual_access(
  at: number,
  n: number,
  write: boolean,
  move: (at: number, n: number, done: number) => void,
): boolean {
  const mp = kernel_map_there();
  const first = Math.floor(at / PAGE_SIZE);
  const pages = Math.floor((at + n - 1) / PAGE_SIZE) - first + 1;
  const prot = write ? VM_PROT_READ | VM_PROT_WRITE : VM_PROT_READ;
  if (mp === NULL || first + pages > KVA_END || !kernacc(mp, first, pages, prot)) return false;
  return vm_access(mp, at, n, write, move).error === 0;
}
/**
 * Opens a window onto n bytes from an address on, all of one block: as vm_window_open; -EFAULT:
 * they are not of one.
 */
export function virtual_window(at: number, n: number, write: boolean): number {
  const first = Math.floor(at / PAGE_SIZE);
  const end = Math.floor((at + n - 1) / PAGE_SIZE) + 1;
  if (end > KVA_END || !kmem_inside(first, end)) return -EFAULT;
  const prot = write ? VM_PROT_READ | VM_PROT_WRITE : VM_PROT_READ;
  return vm_window_open(kernel_map_there(), first, end, prot);
}
/** Gives a block back that malloc_virtual gave. False: a window is open there. */
export function free_virtual(at: number, given: malloc_type_t): boolean {
  const outer = kernel_enter();
  let done = false;
  try {
    done = free(at, given);
  } catch (e) {
    kernel_threw(e, outer, 'free');
  }
  kernel_leave(outer);
  return done;
}
function free(at: number, given: malloc_type_t): boolean {
  malloc_type_check(given, 'free');
  poll();
  const n = virtual_pages(at);
  if (n === 0) panic(`free: address ${at * PAGE_SIZE} has not been allocated.`);
  const of = kmem_block(at, (e) => entry.grow_prot[e]) as malloc_type_t;
  const t = large_type((at * PAGE_SIZE) / 4, given, of);
  const s = malloc_stats_block(t);
  budget_hold(n);
  const also = (_e: vm_map_entry_t): void => {
    if (s !== NULL) count(s, n, true);
    else budget_large(n, true);
  };
  const done = kmem_free(kernel_map(), at, n, also);
  budget_leave(n);
  if (done && s === NULL) malloc_late_free_large(t, n);
  return done;
}
