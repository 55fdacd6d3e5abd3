/*
 * pmap_check: proves a pmap of a quiet machine.
 *
 * Its counts are what its tables hold; each table is found by its number and says so; each
 * mapping is on the list of its page; every tag of every CPU is what the table says.  The entries
 * of a superpage's table are a row, each page was written to if it may be, and nobody has a tag of
 * a superpage that is none.
 */
import { mem, page_word } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { checked_quiet } from '../machine/parts.ts';
import {
  PTE_FLAGS,
  PTE_VALID,
  PTE_WIRED,
  PTE_WRITE,
  pmap,
  type pmap_t,
  TABLE_ENTRIES,
} from '../h/pmap.ts';
import { PG_FICTITIOUS, PK_LOAN, PK_MASK, PK_OBJECT, PK_TABLE, vm_page } from '../h/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { pv_all } from './pmap_pv.ts';
import { pmap_index, pte_page } from './pmap_table.ts';
import { super_row } from './pmap_super.ts';
import { tlb_each, tlb_each_super } from './pmap_tlb.ts';
import { radix_check } from './vm_radix.ts';

const page = vm_page;

/** The proof. `each`, if given, is called with every mapping: page number, page, may be written. */
export function pmap_check(
  pm: pmap_t,
  each?: (at: number, m: number, write: boolean) => void,
): void {
  // A CPU may have died between a change and its shoot-down: whoever has the lock next ends that.
  mtx_lock(pmap.lock, pm);
  mtx_unlock(pmap.lock, pm);
  checked_quiet(true);
  const found = new Map<number, number>();
  let tables = 0;
  const supers = new Map<number, number>();
  radix_check(pmap_index(pm), false, (key, v) => {
    tables++;
    table_check(pm, key, Math.abs(v), found);
    if (v < 0) supers.set(key, super_check(-v));
  });
  if (supers.size !== pmap.supers[pm]) panic('pmap_check: supers', pmap.supers[pm], supers.size);
  tlb_each_super(pm, (key, frame, store, cpu) => {
    const pte = supers.get(key) ?? 0;
    const may = pte !== 0 && (!store || (pte & PTE_WRITE) !== 0);
    if (!may || (pte & ~PTE_FLAGS) !== frame) {
      panic(`pmap_check: a stale superpage on cpu${cpu}`, key, frame);
    }
  });
  let wired = 0;
  for (const [at, pte] of found) {
    if (pte & PTE_WIRED) wired++;
    mapping_check(pm, at, pte);
    each?.(at, pte_page(pte), (pte & PTE_WRITE) !== 0);
  }
  if (tables !== pmap.tables[pm]) panic('pmap_check: tables', pmap.tables[pm], tables);
  if (found.size !== pmap.resident[pm])
    panic('pmap_check: resident', pmap.resident[pm], found.size);
  if (wired !== pmap.wired[pm]) panic('pmap_check: wired', pmap.wired[pm], wired);
  tlb_each(pm, (at, frame, store, cpu) => {
    const pte = found.get(at) ?? 0;
    const need = store ? PTE_VALID | PTE_WRITE : PTE_VALID;
    if ((pte & need) !== need || (pte & ~PTE_FLAGS) !== frame) {
      panic(`pmap_check: a stale translation on cpu${cpu}`, at, frame);
    }
  });
  checked_quiet(false);
}
function table_check(pm: pmap_t, key: number, m: number, found: Map<number, number>): void {
  const own = page.owner[m] === pm && page.index[m] === key;
  if (!own || (page.info[m] & PK_MASK) !== PK_TABLE) panic('pmap_check: table', key, m);
  let n = 0;
  for (let i = 0; i < TABLE_ENTRIES; i++) {
    const pte = mem.I32[page_word(m) + i];
    if (pte === 0) continue;
    n++;
    if ((pte & PTE_VALID) === 0) panic('pmap_check: entry', key * TABLE_ENTRIES + i, pte);
    found.set(key * TABLE_ENTRIES + i, pte);
  }
  if (n !== page.state[m]) panic('pmap_check: entries of a table', page.state[m], n);
}
/** Proves that a table is a superpage's. Its first entry. */
function super_check(table: number): number {
  const w = page_word(table);
  const pte = mem.I32[w];
  if (!super_row(w)) panic('pmap_check: a superpage whose entries are no row', table, pte);
  for (let k = 0; pte & PTE_WRITE && k < TABLE_ENTRIES; k++) {
    if (page.mod[pte_page(pte) + k] === 0)
      panic('pmap_check: a store there is not noted', table, k);
  }
  return pte;
}
function mapping_check(pm: pmap_t, at: number, pte: number): void {
  const m = pte_page(pte);
  if (page.flags[m] & PG_FICTITIOUS) {
    if (pte & PTE_WRITE) panic('pmap_check: a page of a device may be written to', at, m);
    return;
  }
  const kind = page.info[m] & PK_MASK;
  if (kind === PK_LOAN && pte & PTE_WRITE) panic('pmap_check: lent, and may be written to', at, m);
  if (kind !== PK_OBJECT && kind !== PK_LOAN) panic('pmap_check: a page of no object', at, m);
  if (!pv_all(m).some((v) => v.pm === pm && v.at === at)) {
    panic('pmap_check: a mapping that is not on its page', at, m);
  }
}
