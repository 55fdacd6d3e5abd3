/*
 * vm_window (header): windows, through which a thread uses mapped memory as flat memory.
 *
 *      map ──> run ──> run         pages of memory that lie side by side, wired
 *               ^  ^
 *      root ─> window   window ─>  each shows all of a run, or a part
 *
 * A run is made by the first window on it and goes with the last one.  Runs of a map do not
 * overlap.  Both are items of one zone.
 */
import { i32, lock_words, type Ptr, ptr, struct } from '../machine/struct.ts';
import type { vm_map_t } from './vm_map.ts';

export type vm_window_t = Ptr<'vm_window'>;
export type vm_window_run_t = Ptr<'vm_window_run'>;
export type vm_window_root_t = Ptr<'vm_window_root'>;

/* Locks: (w) that of the root  (c) constant once it is on the list  (h) read by all */
export const vm_window = struct<vm_window_t>('vm_window')({
  map: ptr<vm_map_t>('c', 'the address space; the window has a reference to it'),
  run: ptr<vm_window_run_t>('c', 'what it shows a part of'),
  start: i32('c', 'first page'),
  pages: i32('c', 'how many'),
  prot: i32('c', 'VM_PROT_*: what it was opened for'),
  frame: i32('c', 'page of memory that is its first one; the others follow'),
  tid: i32('c', 'thread that opened it'),
  next: ptr<vm_window_t>('w', 'the one that was opened before'),
  prev: ptr<vm_window_t>('w', 'the one that was opened after'),
});
/* Locks: (w), (c), (h) as above  (u) the lock of the page queues */
export const vm_window_run = struct<vm_window_run_t>('vm_window_run')({
  start: i32('c', 'first page'),
  pages: i32('c', 'how many'),
  frame: i32('c', 'page of memory that is the first one; the others follow'),
  refs: i32('w', 'windows on it'),
  next: ptr<vm_window_run_t>('w', 'next run of the same map'),
  wired: i32('uh', 'so many are wired, the last ones; fewer than all: its thread died'),
});
/* Locks: (w) the lock  (c) constant once up  (h) read by all */
export const vm_window_root = struct<vm_window_root_t>(
  'vm_window_root',
  32,
)({
  lock: lock_words(4, 'VM windows', 'windows, and the runs of all maps'),
  first: ptr<vm_window_t>('wh', 'newest window'),
  count: i32('wh', 'windows'),
  runs: i32('wh', 'runs'),
  pages: i32('wh', 'pages of all runs'),
  zone: i32('c', 'zone of windows and runs'),
});
