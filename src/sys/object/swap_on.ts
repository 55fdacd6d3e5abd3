/*
 * swap_on: files become swap areas, and what becomes of them at the end.
 *
 *      swap_on(path, { size, priority })     a file of the program's choice; it stays afterwards
 *      swap_prepare()                        where there is no area: a file of the kernel's own
 *
 * A file that swap_on makes is this user's alone (0600) and written to its end, so that there is
 * room for every page: where there is not, it is removed, and that is told at once and not
 * when a page is to go there.  A file that is there must be a swap file (swap_label.ts), or
 * empty; of another length than is wanted it is made longer or shorter.
 *
 * The kernel's own is made when pages are to be written out for the first time and no area is
 * there: four times as long as the memory (vm.swap_default), with nothing in it, so that it
 * takes room page by page.  It lies in the folder of temporary files, this user's alone, under the
 * name of the machine and its process, and goes when the machine is shut down.  What processes
 * left that are gone is removed at the next boot of the same user, and before a file is made.
 *
 * A CPU that dies in the middle leaves an area, or none: until it is one, the reference to
 * its store is in the CPU's hand.  A file may be left, with the label of a process that will be
 * gone.
 */
import { thr } from '../machine/cpu.ts';
import { reap_all, tid_alive } from '../machine/death.ts';
import { EBUSY, EEXIST, EFBIG, ENXIO } from '../machine/errno.ts';
import { M, machine } from '../machine/header.ts';
import {
  host_process,
  host_process_gone,
  host_user_files,
  host_user_folder,
  host_user_folder_make,
  host_user_remove,
} from '../machine/host_process.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { STORE_NEW, STORE_WRITE, store_files } from '../machine/store.ts';
import { CTLFLAG_RWTUN, sysctl_get, sysctl_int } from '../machine/sysctl_decl.ts';
import { W_SWAPMK } from '../machine/wmesg.ts';
import {
  SWAP_AREA_MAX,
  SWAP_DEFAULT,
  SWAP_FILE,
  SWAP_LABEL,
  SWAP_MADE,
  swap_area,
  swap_root,
} from '../h/swap.ts';
import type { vm_store_t } from '../h/vm_store.ts';
import { tsleep, wakeup } from '../sync/subr_sleepqueue.ts';
import {
  swap_area_add,
  swap_areas,
  swap_came,
  swap_claim,
  swap_coming,
  swap_made,
  swap_stores,
  swap_unmade,
  the_swap_root,
} from './swap_area.ts';
import { swap_label_check, swap_label_write } from './swap_label.ts';
import {
  vm_store_drop,
  vm_store_make,
  vm_store_remove,
  vm_store_same,
  vm_store_size,
  vm_store_truncate,
  vm_store_writev,
} from './vm_store.ts';

const area = swap_area;
const root = swap_root;

/** Bytes of zeros that are written at a time. */
const FILL_BYTES = 2 ** 20;
/** How many times the memory the kernel's own file is long. */
const DEFAULT_TIMES = 4;
const SLICE_MS = 20;

const swap_default = sysctl_int('vm.swap_default', {
  value: -1,
  min: -1,
  max: SWAP_AREA_MAX,
  unit: 'pages',
  flags: CTLFLAG_RWTUN,
  help:
    'Most pages of the swap file that is made where there is none; -1: 4 times the memory; ' +
    '0: none is made',
});

export interface SwapOn {
  /** Bytes; 0: as long as the file is. */
  readonly size: number;
  readonly priority: number;
}
/**
 * Makes a file a swap area.  Returns the number of the area or, negated, what vm_store_make says;
 * EBUSY: it is one, of this machine or of another that lives; EINVAL: it is there and no swap
 * file; ENXIO: too small for a page; EFBIG: too large; EMFILE: there are 16 areas; ENOMEM: for
 * its maps; ENOSPC and others of its store.  A file that was not there before is not there then.
 */
export function swap_on(path: string, want: SwapOn): number {
  const size = Math.floor(want.size / PAGE_SIZE) * PAGE_SIZE;
  if (want.size !== 0 && size <= SWAP_LABEL * PAGE_SIZE) return -ENXIO;
  if (size > SWAP_AREA_MAX * PAGE_SIZE) return -EFBIG;
  if (store_files()) leftovers_remove();
  const r = the_swap_root();
  for (let by = swap_coming(); by !== thr.tid; by = swap_coming()) {
    if (!tid_alive(by)) reap_all();
    tsleep(r, W_SWAPMK, SLICE_MS, () => root.coming[r] === by); // errno: looks again
  }
  const i = file_on(path, size, want.priority);
  swap_came();
  wakeup(r);
  return i;
}
/** One file at a time: of two threads that want the same one the second must find it in use. */
function file_on(path: string, size: number, priority: number): number {
  let s = size > 0 ? vm_store_make(path, STORE_NEW) : -EEXIST;
  const made = s > 0;
  if (s === -EEXIST) s = vm_store_make(path, STORE_WRITE);
  if (s < 0) return s;
  const store = s as vm_store_t;
  const was = made ? 0 : usable(store);
  const slots = was < 0 ? was : fit(store, was, size || was);
  const i = slots < 0 ? slots : swap_area_add({ store, slots, priority, flags: SWAP_FILE });
  if (i >= 0) return i;
  if (made)
    vm_store_remove(store); // errno: the first one is told
  else if (slots >= 0) swap_label_write(store, false); // errno: the same
  vm_store_drop(store);
  return i;
}
/** Bytes of a file that was there and may be used; or the errno, negated. */
function usable(s: vm_store_t): number {
  if (swap_stores().some((other) => vm_store_same(s, other))) return -EBUSY;
  const was = vm_store_size(s);
  if (was <= 0) return was;
  const error = swap_label_check(s);
  return error === 0 ? was : -error;
}
/** Makes a file so long, and this machine's, with room for all of it. Its slots, or an errno. */
function fit(s: vm_store_t, was: number, size: number): number {
  const slots = Math.floor(size / PAGE_SIZE);
  if (slots <= SWAP_LABEL) return -ENXIO;
  if (slots > SWAP_AREA_MAX) return -EFBIG;
  let error = size < was ? vm_store_truncate(s, size) : 0;
  if (error === 0) error = swap_label_write(s, true);
  const zeros = new Uint8Array(Math.min(FILL_BYTES, size));
  for (let at = Math.max(was, PAGE_SIZE); at < size && error === 0; at += zeros.length) {
    error = vm_store_writev(s, at, [zeros.subarray(0, size - at)]);
  }
  if (error === 0) return slots;
  if (was > 0) {
    swap_label_write(s, false); // errno: the first one is told
    if (size > was) vm_store_truncate(s, was); // errno: the same
  } else vm_store_truncate(s, 0); // errno: the same
  return -error;
}
/** What was an area is none any more: the file is nobody's, or goes. Its reference is in hand. */
export function swap_store_end(s: vm_store_t, flags: number): void {
  if (flags & SWAP_DEFAULT)
    vm_store_remove(s); // errno: it is not used any more
  else if (flags & SWAP_FILE) swap_label_write(s, false); // errno: the same
  vm_store_drop(s);
}

// --- the kernel's own file --------------------------------------------------------------------

/** Slots that the kernel's own file would have; 0: none is made. */
function default_slots(): number {
  const pages = sysctl_get(swap_default);
  const wanted = pages < 0 ? machine.npages[M] * DEFAULT_TIMES : pages;
  return Math.min(wanted, SWAP_AREA_MAX);
}
/**
 * Where there is no swap area, makes one, if that was not tried before.  For whoever is about to
 * write pages out, holding no lock; it may sleep.  Whether there is one.
 */
export function swap_prepare(): boolean {
  const r = the_swap_root();
  for (;;) {
    if (root.count[r] > 0) return true;
    const maker = swap_claim(swap_default_possible());
    if (maker === thr.tid) break;
    if (maker === SWAP_MADE) return false;
    tsleep(r, W_SWAPMK, SLICE_MS, () => root.maker[r] === maker && tid_alive(maker));
  }
  default_make();
  swap_made();
  wakeup(r);
  return root.count[r] > 0;
}
/** Whether the kernel would make a file of its own. */
export function swap_default_possible(): boolean {
  return !opt.SIM && store_files() && default_slots() > SWAP_LABEL;
}
const PREFIX = 'swap-';
function default_make(): void {
  if (host_user_folder_make() !== 0) return;
  leftovers_remove();
  const name = `${PREFIX}${host_process()}-${machine.id_low[M]}-${machine.generation[M]}`;
  const store = vm_store_make(`${host_user_folder()}/${name}`, STORE_NEW);
  if (store < 0) return;
  const s = store as vm_store_t;
  let slots = default_slots();
  let error = swap_label_write(s, true) || vm_store_truncate(s, slots * PAGE_SIZE);
  const flags = SWAP_FILE | SWAP_DEFAULT;
  // Where memory for the maps is short, a smaller one is better than none.
  for (; error === 0; slots = Math.floor(slots / 2)) {
    error = -Math.min(0, swap_area_add({ store: s, slots, priority: 0, flags }));
    if (error === 0) return;
    if (slots <= DEFAULT_LEAST) break;
    error = 0;
  }
  swap_store_end(s, flags);
}
const DEFAULT_LEAST = 64;
/** Before a machine is shut down: its own file goes, and others are nobody's. */
export function swap_shutdown(): void {
  for (const a of swap_areas()) {
    const { store, flags } = { store: area.store[a], flags: area.flags[a] };
    if (flags & SWAP_DEFAULT)
      vm_store_remove(store); // errno: nobody is left to hear it
    else if (flags & SWAP_FILE) swap_label_write(store, false); // errno: the same
  }
}
/** Where there is no area yet, but there would be one if need be, there is room. At boot. */
export function swap_startup(): void {
  if (swap_default_possible()) swap_unmade();
}
let looked = false;
/** What killed processes left is removed at boot, once in a thread. */
export function swap_leftovers(): void {
  if (looked || opt.SIM) return;
  looked = true;
  leftovers_remove();
}
/** Removes files that processes left that are gone: they may have the room that is wanted. */
function leftovers_remove(): void {
  for (const name of host_user_files(PREFIX)) {
    const process = /^swap-(\d+-\d+-\d+)-/.exec(name)?.[1];
    if (process !== undefined && host_process_gone(process)) host_user_remove(name);
  }
}
