/*
 * swap_io: reading and writing the pages of swap areas.
 *
 * Whoever does it holds no lock.  A slot that is in use keeps its area where it is: an area goes
 * only when none of its slots is.  The thread is parked meanwhile, so that nobody waits for its
 * store.
 *
 * A file that somebody else cuts off loses the pages that lay there: reading them is EIO.
 */
import { pcpu, thr } from '../machine/cpu.ts';
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { EIO } from '../machine/errno.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { NULL } from '../machine/struct.ts';
import { swap_area, type swap_area_t } from '../h/swap.ts';
import { VM_STORE_FILE, vm_store } from '../h/vm_store.ts';
import { swap_area_at, swap_note_failed } from './swap_area.ts';
import { vm_store_readv, vm_store_size, vm_store_writev } from './vm_store.ts';

const area = swap_area;
const store = vm_store;

const v_swapin = counter_u64('vm.stats.vm.v_swapin', 'Reads of swap areas');
const v_swapout = counter_u64('vm.stats.vm.v_swapout', 'Writes to swap areas');
const v_swappgsin = counter_u64('vm.stats.vm.v_swappgsin', 'Pages read from swap areas');
const v_swappgsout = counter_u64('vm.stats.vm.v_swappgsout', 'Pages written to swap areas');

function bytes_of(views: readonly Uint8Array[]): number {
  let n = 0;
  for (let k = 0; k < views.length; k++) n += views[k].length;
  return n;
}
/** The area of slot `s`, and of all that so many bytes take. */
function area_with(s: number, bytes: number): swap_area_t {
  const a = swap_area_at(s);
  const n = bytes / PAGE_SIZE;
  if (a === NULL || n === 0 || !Number.isInteger(n) || s + n > area.end[a]) {
    panic('swap: no such slots', s, n);
  }
  return a;
}
function place(a: swap_area_t, s: number): number {
  return (s - area.first[a]) * PAGE_SIZE;
}
/** Reads the pages from slot `s` on into the views, one after the other. 0, or an errno. */
export function swap_read(s: number, views: readonly Uint8Array[]): number {
  const bytes = bytes_of(views);
  const a = area_with(s, bytes);
  const n = vm_store_readv(area.store[a], place(a, s), views);
  counter_add(v_swapin, 1);
  counter_add(v_swappgsin, bytes / PAGE_SIZE);
  if (n < 0) return -n;
  return n === bytes ? 0 : EIO; // somebody has made the file shorter
}
/**
 * Whether somebody has made the file of an area shorter.  Nothing is written to it any more then:
 * it would be long again, and what was cut off would be read as zeros and not as an error.
 */
function cut(a: swap_area_t): boolean {
  const s = area.store[a];
  if (store.kind[s] !== VM_STORE_FILE) return false; // nobody else has it
  const bytes = vm_store_size(s);
  return bytes >= 0 && bytes < (area.end[a] - area.first[a]) * PAGE_SIZE;
}
/**
 * Writes the views to the slots from `s` on: those that are noted or, where none is, one that a
 * page of the caller's has.  0, or an errno: then noted ones are so no more, and those that were
 * at fault are not given again.
 */
export function swap_write(s: number, views: readonly Uint8Array[]): number {
  const bytes = bytes_of(views);
  const a = area_with(s, bytes);
  const noted = pcpu.swap_n[thr.pc] > 0;
  if (opt.INVARIANTS && noted && s !== pcpu.swap_first[thr.pc])
    panic('swap_write: slots of others', s);
  const error = cut(a) ? EIO : vm_store_writev(area.store[a], place(a, s), views);
  counter_add(v_swapout, 1);
  counter_add(v_swappgsout, bytes / PAGE_SIZE);
  if (error !== 0) swap_note_failed(error);
  return error;
}
