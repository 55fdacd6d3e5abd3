/*
 * vm_stretch: what is mapped in a space, as plain numbers.
 *
 *      entry of the map      [4, 9) rw private
 *      asked for [6, 20)     [6, 9) rw private
 *
 * A stretch is the part of a map's entry that lies in the range that was asked for.  It is good as
 * long as nobody changes the space; among the players that is whoever has its turn.
 */
import type { vm_object_t } from '../../sys/h/vm_object.ts';
import {
  MAP_ENTRY_NEEDS_COPY,
  VM_INHERIT_SHARE,
  vm_map_entry,
  type vm_map_t,
} from '../../sys/h/vm_map.ts';
import { vm_map_lock_read, vm_map_unlock_read } from '../../sys/map/vm_map.ts';
import { entry_covers, map_header, vm_map_lookup_entry } from '../../sys/map/vm_map_tree.ts';

const entry = vm_map_entry;

export interface Stretch {
  /** Pages of the map: the first, and the first beyond. */
  readonly start: number;
  readonly end: number;
  /** VM_PROT_* */
  readonly prot: number;
  /** A fork shares it. */
  readonly shared: boolean;
  /** What is mapped, and which page of it is at `start`; NULL: nothing yet. */
  readonly object: vm_object_t;
  readonly offset: number;
  /** Writes go to a copy of it. */
  readonly copies: boolean;
}
/**
 * Calls `each` with what is mapped from page `from` up to `to`, in order, until it answers
 * true.
 */
export function each_stretch(
  mp: vm_map_t,
  from: number,
  to: number,
  each: (stretch: Stretch) => boolean,
): void {
  const header = map_header(mp);
  for (let at = from; at < to; ) {
    vm_map_lock_read(mp);
    let e = vm_map_lookup_entry(mp, at);
    if (!entry_covers(mp, e, at)) e = entry.next[e];
    const start = Math.max(entry.start[e], at);
    const there = e !== header && start < to;
    const stretch: Stretch = {
      start,
      end: Math.min(entry.end[e], to),
      prot: entry.protection[e],
      shared: entry.inheritance[e] === VM_INHERIT_SHARE,
      object: entry.object[e],
      offset: entry.offset[e] + start - entry.start[e],
      copies: (entry.eflags[e] & MAP_ENTRY_NEEDS_COPY) !== 0,
    };
    vm_map_unlock_read(mp);
    if (!there || each(stretch)) return;
    at = stretch.end;
  }
}
/** What is mapped in a range, in order. */
export function stretches(mp: vm_map_t, from: number, to: number): Stretch[] {
  const all: Stretch[] = [];
  each_stretch(mp, from, to, (stretch) => {
    all.push(stretch);
    return false;
  });
  return all;
}
