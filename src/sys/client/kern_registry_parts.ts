/*
 * kern_registry_parts: what named objects are made of, and how each part comes
 * and goes without ever belonging to nobody.
 *
 *      zone      a zone
 *      records   a run of pages --> slabs of a zone, page by page
 *                a table, and a block for each column
 *      queue     a ring (kern_queue.ts)
 *      space     a reference to an address space
 *
 * Every part has a word in its entry, its anchor, that leads to it.  A part comes
 * into being, moves or goes in one undo section together with its anchor: a block
 * by malloc_at and free_at, a zone when it is published or marked going, pages
 * when they move between the anchor and the hand of the CPU.  So at each
 * instruction a part is its anchor's, or in a hand that the reaper empties.
 *
 * registry_end_parts ends whatever an entry leads to, be it whole, half made or
 * half ended.  It may be called again and again.
 *
 * Numbers of records come from a zone of 16-byte items whose slabs are the pages
 * of one run, so that the place of an item in memory is its number.  The zone
 * may not grow: its limit is the run.  The items of the last page above the
 * capacity are withheld for good (uma_keg.ts).  A number whose generations are used up
 * stays allocated, by nobody, until the records end (kern_records.ts).
 */
import { pcpu, thr } from '../machine/cpu.ts';
import { ENOMEM } from '../machine/errno.ts';
import { PAGE_SIZE, page_word } from '../machine/memory.ts';
import { kernel_parts } from '../machine/parts.ts';
import { elem, field_word, NULL } from '../machine/struct.ts';
import {
  number,
  REG_KINDS,
  reg_entry,
  type reg_entry_t,
  reg_records,
  reg_root,
  type reg_root_t,
  reg_space,
  reg_zone,
} from '../h/registry.ts';
import type { vm_map_t } from '../h/vm_map.ts';
import { M_NORECLAIM, M_NOWAIT } from '../h/malloc_flags.ts';
import { UMA_ZFLAG_PROGRAM, UMA_ZONE_NOFREE, UMA_ZONE_OFFPAGE, UMA_ZONE_ZINIT } from '../h/uma.ts';
import { VM_ALLOC_SYSTEM } from '../h/vm_page.ts';
import { M, machine, ROOT_LIB } from '../machine/header.ts';
import { vm_map_anchor, vm_map_deallocate, vm_map_unanchor } from '../map/vm_map.ts';
import { free_at, malloc_at } from '../kmem/kern_malloc.ts';
import { malloc_type_find_or_make } from '../kmem/kern_malloc_type.ts';
import {
  vm_page_alloc_run,
  vm_page_free_run,
  vm_page_in_hand,
  vm_page_settle,
  vm_page_wired,
} from '../page/vm_page.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { uma_zone_going } from '../uma/uma_going.ts';
import { uma_zcreate_nowait, uma_zone_add_page, uma_zone_set_max } from '../uma/uma_zone.ts';
import { queue_end } from './kern_queue.ts';
import { records_end } from './kern_records.ts';

const entry = reg_entry;
const records = reg_records;

const NUMBER_BYTES = number.sizeof * 4;
const PER_PAGE = PAGE_SIZE / NUMBER_BYTES;

// --- zones -----------------------------------------------------------------------------------

/** Makes the zone of an entry. 0, or ENOMEM. */
export function part_zone(
  e: reg_entry_t,
  name: string,
  size: number,
  align: number,
  limit: number,
): number {
  const anchor = field_word(reg_zone.zone, e);
  const flags = UMA_ZFLAG_PROGRAM;
  const z = uma_zcreate_nowait(name, size, { align: align - 1, anchor, flags });
  if (z === 0) return ENOMEM;
  if (limit > 0) uma_zone_set_max(z, limit);
  kernel_parts.memguard?.zone_made(z);
  return 0;
}

// --- numbers of records ------------------------------------------------------------------------

/** Moves `n` pages from the end of the anchored run into this CPU's hand, or back. */
function run_move(e: reg_entry_t, n: number, to_hand: boolean): number {
  const r = machine.roots[elem(M, ROOT_LIB)] as reg_root_t;
  const pages = records.run_pages[e] + (to_hand ? -n : n);
  const m = records.run[e] + (to_hand ? pages : pages - n);
  undo_begin(reg_root.lock, r);
  save(records.run_pages, e);
  save(pcpu.in_hand_n, thr.pc);
  if (to_hand) vm_page_in_hand(m, n);
  else vm_page_settle();
  records.run_pages[e] = pages;
  undo_end();
  return m;
}
/** Takes a run for the numbers of `capacity` records. 0, or ENOMEM. */
function part_run(e: reg_entry_t, pages: number): number {
  const m = vm_page_alloc_run(pages, VM_ALLOC_SYSTEM);
  if (m === 0) return ENOMEM;
  vm_page_wired(m, pages);
  records.run[e] = m;
  records.base[e] = page_word(m) - number.sizeof;
  run_move(e, pages, false);
  return 0;
}
/** Makes the zone of the numbers 1 to `capacity`, all of its pages with it. 0, or ENOMEM. */
export function part_numbers(e: reg_entry_t, name: string, capacity: number): number {
  const pages = Math.ceil(capacity / PER_PAGE);
  const error = part_run(e, pages);
  if (error !== 0) return error;
  const flags = UMA_ZONE_OFFPAGE | UMA_ZONE_NOFREE | UMA_ZONE_ZINIT;
  const anchor = field_word(records.zone, e);
  const z = uma_zcreate_nowait(name, NUMBER_BYTES, { flags, anchor });
  if (z === 0) return ENOMEM;
  uma_zone_set_max(z, pages * PER_PAGE);
  records.capacity[e] = capacity;
  let withheld = pages * PER_PAGE - capacity;
  while (records.run_pages[e] > 0) {
    const m = run_move(e, 1, true);
    if (!uma_zone_add_page(z, m, withheld)) {
      run_move(e, 1, false);
      return ENOMEM;
    }
    withheld = 0; // the last page of the run came first
  }
  return 0;
}
/** Bytes that part_numbers wants in one piece: for messages. */
export function part_numbers_bytes(capacity: number): number {
  return Math.ceil(capacity / PER_PAGE) * PAGE_SIZE;
}

// --- columns -----------------------------------------------------------------------------------

/** Makes a block for each column, and the table of their words. 0, or the bytes missing. */
export function part_columns(e: reg_entry_t, name: string, bytes: readonly number[]): number {
  const t = malloc_type_find_or_make(name, M_NOWAIT | M_NORECLAIM);
  if (t === 0) return PAGE_SIZE;
  records.type[e] = t;
  const table = malloc_at(bytes.length * 4, t, field_word(records.columns, e));
  if (table === 0) return bytes.length * 4;
  records.ncolumns[e] = bytes.length; // its words count only now that they are zero
  for (const [i, size] of bytes.entries()) if (malloc_at(size, t, table + i) === 0) return size;
  return 0;
}

// --- spaces ------------------------------------------------------------------------------------

/** The name leads to the space, by the reference in this CPU's hand. */
export function part_space(e: reg_entry_t, mp: vm_map_t): void {
  undo_begin(reg_root.lock, machine.roots[elem(M, ROOT_LIB)] as reg_root_t);
  save(reg_space.map, e);
  reg_space.map[e] = mp;
  vm_map_anchor(mp);
  undo_end();
}
function end_space(e: reg_entry_t): void {
  const mp = reg_space.map[e];
  if (mp === NULL) return;
  undo_begin(reg_root.lock, machine.roots[elem(M, ROOT_LIB)] as reg_root_t);
  save(reg_space.map, e);
  reg_space.map[e] = NULL as vm_map_t;
  vm_map_unanchor(mp);
  undo_end();
  vm_map_deallocate(mp);
}

// --- the end -----------------------------------------------------------------------------------

/** Ends every part that the entry leads to. The registry's lock is held. */
export function registry_end_parts(e: reg_entry_t): void {
  switch (REG_KINDS[entry.kind[e] - 1]) {
    case 'queue':
      return queue_end(e);
    case 'zone':
      if (reg_zone.zone[e] !== NULL) uma_zone_going(reg_zone.zone[e], field_word(reg_zone.zone, e));
      return;
    case 'records':
      return end_records(e);
    case 'space':
      return end_space(e);
  }
}
function end_records(e: reg_entry_t): void {
  const z = records.zone[e];
  if (z !== NULL) {
    records_end(e);
    uma_zone_going(z, field_word(records.zone, e));
  }
  const t = records.type[e];
  const table = records.columns[e];
  for (let i = records.ncolumns[e] - 1; i >= 0; i--) free_at(table + i, t);
  records.ncolumns[e] = 0; // before the table goes: its words count no longer
  if (table !== NULL) free_at(field_word(records.columns, e), t);
  const pages = records.run_pages[e];
  if (pages > 0) vm_page_free_run(run_move(e, pages, true), pages);
}
