/*
 * vm_hold (header): a range of a map that a thread of the kernel has wired for a while.
 *
 *      map ──> hold ──> hold        each of one thread, which ends it itself
 *
 *      | entry | entry | entry |    `start` up to `to` is wired for it: all of it, unless the
 *      start        to       end    thread is at work on it, or died there
 */
import { i32, type Ptr, ptr, struct } from '../machine/struct.ts';
import type { vm_map_t } from './vm_map.ts';

export type vm_hold_t = Ptr<'vm_hold'>;

/* Locks: (m) that of the map; of one that is in no map, whoever has it */
export const vm_hold = struct<vm_hold_t>('vm_hold')({
  map: ptr<vm_map_t>('m', 'the map; 0: none'),
  start: i32('m', 'first page'),
  end: i32('m', 'first page beyond'),
  to: i32('m', 'the pages before this one are wired for it'),
  tid: i32('m', 'thread that wired them'),
  next: ptr<vm_hold_t>('m', 'the one before'),
});
