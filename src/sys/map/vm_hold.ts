/*
 * vm_hold: ranges that threads of the kernel have wired for a while, each with a record of whose.
 *
 *      vm_hold_wire     record, then its pages: wired from the first one on
 *      vm_hold_unwire   from the last one down, then no record
 *
 * A thread that uses pages of a space where they are, without faults, wires them (SYSTEM) and ends
 * that itself.  Nothing is taken out of the map there meanwhile: whoever wants to waits.  A thread
 * may die with a range wired: nobody but the record would know of it.  So the record goes up with
 * the entries, in the same sections, and says how far that came.
 *
 * Whoever waits for a range, and finds that a thread is dead that has it wired, ends the wiring
 * itself (holds_settle); so does an idle CPU after a death.  The reaper cannot, because the thread
 * that runs it may have the map locked.
 *
 * An entry that is wired so is merged with no other one.  So the edges of the range are there when
 * it ends, which needs no memory.
 */
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { pcpu, thr } from '../machine/cpu.ts';
import { tid_alive } from '../machine/death.ts';
import { panic } from '../machine/panic.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { field_word, NULL } from '../machine/struct.ts';
import { zone_declared } from '../machine/zone_decl.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import type { zone_t } from '../h/uma.ts';
import { vm_hold, type vm_hold_t } from '../h/vm_hold.ts';
import {
  KERN_INVALID_ADDRESS,
  KERN_INVALID_ARGUMENT,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  MAP_ENTRY_NOFAULT,
  VM_MAP_WIRE_NOHOLES,
  VM_MAP_WIRE_SYSTEM,
  vm_map,
  vm_map_entry,
  vm_map_root,
  type vm_map_root_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { zone_give_hand, zone_take_hand } from '../uma/uma_core.ts';
import { item_in_hand, item_settle } from '../uma/uma_keg.ts';
import { uma_zcreate } from '../uma/uma_zone.ts';
import {
  map_root,
  vm_map_deallocate,
  vm_map_lock,
  vm_map_trylock,
  vm_map_unanchor,
  vm_map_unlock,
  vm_map_wakeup,
} from './vm_map.ts';
import { vm_map_simplify_entry } from './vm_map_entry.ts';
import { vm_map_lookup } from './vm_map_tree.ts';
import { entry_unwire, vm_map_wire_locked } from './vm_map_wire.ts';

const map = vm_map;
const entry = vm_map_entry;
const hold = vm_hold;
const root = vm_map_root;

const Z_HOLDS = zone_declared('VM HOLD', 'Ranges that threads of the kernel have wired');
const zone = (): zone_t => root.holds[map_root()] as zone_t;

/** Makes the zone. */
export function vm_hold_startup(): void {
  root.holds[map_root()] = uma_zcreate(Z_HOLDS, hold.sizeof * 4);
}

/**
 * Wires the pages from `start` up to `end`, each of which must be mapped, for this thread.  A
 * KERN_* code, as of vm_map_wire.  The caller refers to the map and holds no lock; it may sleep.
 */
export function vm_hold_wire(mp: vm_map_t, start: number, end: number): number {
  const h = zone_take_hand(zone(), M_NOWAIT) as vm_hold_t;
  if (h === NULL) return KERN_RESOURCE_SHORTAGE;
  checked_fresh(h, hold.sizeof);
  for (const f of [hold.start, hold.to]) f[h] = start;
  hold.end[h] = end;
  hold.tid[h] = thr.tid;
  checked_publish(h);
  vm_map_lock(mp);
  undo_begin(map.lock, mp);
  save(map.holds, mp);
  save(hold.map, h);
  save(pcpu.in_hand_items, thr.pc);
  hold.next[h] = map.holds[mp];
  hold.map[h] = mp;
  map.holds[mp] = h;
  item_settle();
  undo_end();
  const flags = VM_MAP_WIRE_SYSTEM | VM_MAP_WIRE_NOHOLES;
  const result = start < end ? vm_map_wire_locked(mp, start, end, flags, h) : KERN_INVALID_ADDRESS;
  if (result !== KERN_SUCCESS) record_out(mp, h);
  vm_map_unlock(mp);
  return result;
}
/** Ends that of just these pages, which this thread wired: KERN_INVALID_ARGUMENT if it did not. */
export function vm_hold_unwire(mp: vm_map_t, start: number, end: number): number {
  vm_map_lock(mp);
  let h = map.holds[mp];
  const mine = (at: vm_hold_t): boolean =>
    hold.tid[at] === thr.tid && hold.start[at] === start && hold.end[at] === end;
  while (h !== NULL && !mine(h)) h = hold.next[h];
  if (h !== NULL) drop(mp, h);
  vm_map_unlock(mp);
  return h === NULL ? KERN_INVALID_ARGUMENT : KERN_SUCCESS;
}
/** What is wired for a record is so no more, from the last page down, and it goes. */
function drop(mp: vm_map_t, h: vm_hold_t): void {
  while (hold.to[h] > hold.start[h]) {
    const e = vm_map_lookup(mp, hold.to[h] - 1);
    if (e === NULL || entry.start[e] < hold.start[h]) {
      panic('vm_hold: an edge of what is wired is gone', mp * 4, hold.to[h]);
    }
    if (entry.eflags[e] & MAP_ENTRY_NOFAULT) {
      undo_begin(map.lock, mp);
      save(hold.to, h);
      hold.to[h] = entry.start[e];
      undo_end();
    } else entry_unwire(mp, e, false, h);
    vm_map_simplify_entry(mp, e);
  }
  record_out(mp, h);
  vm_map_wakeup(mp); // whoever waits to take them out
}
/** A record by which nothing is wired goes. The map is locked exclusively. */
function record_out(mp: vm_map_t, h: vm_hold_t): void {
  let before = NULL as vm_hold_t;
  for (let at = map.holds[mp]; at !== h; at = hold.next[at]) before = at;
  undo_begin(map.lock, mp);
  if (before === NULL) {
    save(map.holds, mp);
    map.holds[mp] = hold.next[h];
  } else {
    save(hold.next, before);
    hold.next[before] = hold.next[h];
  }
  save(pcpu.in_hand_items, thr.pc);
  save(hold.map, h);
  hold.map[h] = NULL as vm_map_t;
  item_in_hand(h);
  undo_end();
  zone_give_hand(zone(), h);
}

// --- deaths ------------------------------------------------------------------------------------

/**
 * Ends the wirings of threads that are dead. True: there were some.  The map is locked
 * exclusively.
 */
export function holds_settle(mp: vm_map_t): boolean {
  let settled = false;
  for (let h = map.holds[mp]; h !== NULL; ) {
    if (tid_alive(hold.tid[h])) h = hold.next[h];
    else {
      drop(mp, h);
      settled = true;
      h = map.holds[mp];
    }
  }
  return settled;
}
/** A thread died: somebody is to look whether it had something wired. */
export function holds_died(r: vm_map_root_t): void {
  mtx_lock(root.lock, r);
  let mp = root.first[r];
  while (mp !== NULL && map.holds[mp] === NULL) mp = map.next[mp];
  mtx_unlock(root.lock, r);
  if (mp !== NULL) atomic_store(field_word(root.holds_due, r), 1);
}
/** Does that. A line of the idle table. */
export function vm_hold_idle(): void {
  const r = map_root();
  const due = field_word(root.holds_due, r);
  if (r === 0 || atomic_load(due) === 0) return;
  atomic_store(due, 0);
  const seen = new Set<vm_map_t>();
  for (;;) {
    mtx_lock(root.lock, r);
    let mp = root.first[r];
    while (mp !== NULL && (map.holds[mp] === NULL || seen.has(mp))) mp = map.next[mp];
    if (mp !== NULL) {
      undo_begin(root.lock, r);
      save(map.refs, mp);
      map.refs[mp]++;
      vm_map_unanchor(mp); // a reference in hand
      undo_end();
    }
    mtx_unlock(root.lock, r);
    if (mp === NULL) return;
    seen.add(mp);
    if (vm_map_trylock(mp)) {
      holds_settle(mp);
      vm_map_unlock(mp);
    } else atomic_store(due, 1);
    vm_map_deallocate(mp);
  }
}
