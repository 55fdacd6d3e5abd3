/*
 * pmap_table: the page tables of one address space.
 *
 *      index (vm_radix.ts)          page number >> 10 ──> table
 *      table, a page of its own     1024 entries ──> page of memory, and what may be done with it
 *
 * A table comes with the first entry that needs it and goes with its last one; how many it has is
 * noted in its own row of the page array (`state`).  The one that was used last is remembered in
 * the pmap, so that most accesses walk no index.
 *
 * An entry of the index is the number of the table's page; it is negative while the entries of that
 * table are a superpage (pmap_super.ts).
 *
 * Locks: all calls want the pmap locked.  A table that is made, or is about to be free, is busy by
 * its CPU: after a death the reaper asks table_unowned.
 *
 * Read next: pmap.ts, which fills the entries.
 */
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { mem as mem_, page_word } from '../machine/memory.ts';
import { field_word, NULL } from '../machine/struct.ts';
import {
  PTE_WIRED,
  pmap as pmap_,
  pmap_root as pmap_root_,
  type pmap_t,
  TABLE_ENTRIES,
  TABLE_SHIFT,
} from '../h/pmap.ts';
import type { zone_t } from '../h/uma.ts';
import { PG_ZERO, PK_TABLE, VM_ALLOC_ZERO, vm_page } from '../h/vm_page.ts';
import type { vm_radix_t } from '../h/vm_radix.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, save_word, undo_begin, undo_end } from '../sync/undo.ts';
import { pmap_zero_page } from '../page/vm_page.ts';
import {
  vm_page_alloc_busy,
  vm_page_busy,
  vm_page_free_now,
  vm_page_unbusy,
} from '../page/vm_page_busy.ts';
import { pmap_root_of } from './pmap_pv.ts';
import {
  radix_clear,
  radix_lookup,
  radix_peek,
  radix_reserve,
  radix_store,
  radix_trim,
} from './vm_radix.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const mem = mem_;
const pmap = pmap_;
const pmap_root = pmap_root_;
const page = vm_page;

const v_tables = counter_u64('vm.stats.pmap.tables', 'Page tables that were made');

/** The zone of the nodes of indexes. */
export const pmap_nodes = (): zone_t => pmap_root.nodes[pmap_root_of()] as zone_t;
/** The index of a pmap's page tables. */
export function pmap_index(pm: pmap_t): vm_radix_t {
  return field_word(pmap.index, pm) as vm_radix_t;
}

/** The page of the table that has page number `at`, 0: there is none. Locked. */
export function table_of(pm: pmap_t, at: number): number {
  const key = at >>> TABLE_SHIFT;
  if (pmap.table_key[pm] === key) return pmap.table[pm];
  const m = Math.abs(radix_lookup(pmap_index(pm), key));
  if (m !== 0) {
    pmap.table[pm] = m;
    pmap.table_key[pm] = key;
  }
  return m;
}
/** The same; it is made if there is none. 0: no memory. */
export function table_make(pm: pmap_t, at: number): number {
  const there = table_of(pm, at);
  if (there !== 0) return there;
  const key = at >>> TABLE_SHIFT;
  const t = pmap_index(pm);
  if (!radix_reserve(t, key, pmap_nodes())) return 0;
  const m = vm_page_alloc_busy(PK_TABLE, pm, key, VM_ALLOC_ZERO);
  if (m === 0) {
    radix_trim(t, key, pmap_nodes());
    return 0;
  }
  if ((page.flags[m] & PG_ZERO) === 0) pmap_zero_page(m);
  page.state[m] = 0;
  undo_begin(pmap.lock, pm);
  radix_store(t, key, m);
  vm_page_unbusy(m);
  save(pmap.tables, pm);
  pmap.tables[pm]++;
  undo_end();
  counter_add(v_tables, 1);
  return m;
}
/** Frees the table at `key`, which has no entry any more: it is all zeros. */
export function table_free(pm: pmap_t, key: number): void {
  const t = pmap_index(pm);
  pmap.table_key[pm] = -1;
  undo_begin(pmap.lock, pm);
  const m = radix_clear(t, key);
  page.ref[m] = 0; // of a superpage that a dead CPU had ended
  vm_page_busy(m);
  save(pmap.tables, pm);
  pmap.tables[pm]--;
  undo_end();
  vm_page_free_now(m, true); // nobody reads a table without the lock
  radix_trim(t, key, pmap_nodes());
}
/** How the reaper sees whether a page table that was busy has an owner. Takes the pmap's lock. */
export function table_unowned(m: number): boolean {
  const pm = page.owner[m] as pmap_t;
  if (pm === NULL) return true;
  mtx_lock(pmap.lock, pm);
  const found = Math.abs(radix_peek(pmap_index(pm), page.index[m])) === m;
  mtx_unlock(pmap.lock, pm);
  return !found;
}
/** The word of the entry of page number `at` in its table. */
export function pte_word(table: number, at: number): number {
  return page_word(table) + (at & (TABLE_ENTRIES - 1));
}
/** The entry of page number `at`; 0: nothing is mapped there. Locked. */
export function pmap_pte(pm: pmap_t, at: number): number {
  const table = table_of(pm, at);
  return table === 0 ? 0 : mem.I32[pte_word(table, at)];
}
/** The page that an entry leads to. */
export function pte_page(pte: number): number {
  return pte >>> TABLE_SHIFT;
}
/** Changes an entry, which there was and is: the counts follow. Inside a section. */
export function pte_change(pm: pmap_t, w: number, pte: number): void {
  save_word(w);
  if ((mem.I32[w] ^ pte) & PTE_WIRED) {
    save(pmap.wired, pm);
    pmap.wired[pm] += pte & PTE_WIRED ? 1 : -1;
  }
  mem.I32[w] = pte;
}
