/*
 * pmap_super: superpages, the 1024 entries of a page table as one.
 *
 *      index of the pmap     | ... | table | -table | table | ... |
 *                                               |
 *      the table, aside      | m, rights | m+1, rights | ... | m+1023, rights |
 *
 * A table is *promoted* when all its entries are there, lead to pages that lie side by side, and
 * say the same: equal rights, all wired or none, every page used; where they allow writing, every
 * page written to as well.  Its entry in the index becomes negative.  From then on a CPU may
 * translate the 4 MiB by one tag (pmap_tlb_super.ts), and notes at a single place, `ref` of the
 * table's own page, that some of them was used.
 *
 * Where no page was written to yet, though writing is allowed, the entries lose that right first:
 * else a store by the one tag would not be noted at its page.  The first one faults and gets it
 * back for its page, after the demotion.  Where some pages were written to and some not, the
 * promotion fails, and is tried again when the next one is used or written to for the first time.
 *
 * The table stays as it is, aside.  So *demotion* is one word, needs no memory and cannot fail;
 * it comes before any change of a part:
 *
 *      rights of a part, or of one page      pmap_protect, pmap_remove_write, a write fault
 *      a part unmapped, a page taken away    pmap_remove, pmap_remove_all, pmap_remove_page
 *      another page in one place             pmap_enter: a copy on write, a page that moved
 *      one page wired, or no more            pmap_enter, pmap_change_wiring
 *      a write to one page to be noted anew  pmap_clear_modify, while writing is allowed
 *
 * A change of the whole (all rights, all unmapped) is no demotion: super_open ends the superpage
 * quietly, and super_close makes it one again, if the entries say the same still.
 *
 * Locks: the pmap's, in all calls but pmap_supers.  Always true, and proved by pmap_check: the
 * entries of a promoted table are a row, and a CPU has a tag for no other range.
 *
 * Unlike FreeBSD: a run need not begin at a multiple of 1024 pages of memory, and each page keeps
 * its own entry on its list of mappings: the first one costs no memory here.
 */
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { M, machine as machine_ } from '../machine/header.ts';
import { mem as mem_, PAGE_SIZE, page_word } from '../machine/memory.ts';
import { CTLFLAG_RWTUN, sysctl_get, sysctl_int } from '../machine/sysctl_decl.ts';
import {
  PTE_WIRED,
  PTE_WRITE,
  pmap as pmap_,
  type pmap_t,
  SUPER_MEMORY_MIN,
  TABLE_ENTRIES,
  TABLE_SHIFT,
} from '../h/pmap.ts';
import { vm_page } from '../h/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, save_word, undo_begin, undo_end } from '../sync/undo.ts';
import { pmap_index, pte_page } from './pmap_table.ts';
import { tlb_shoot, tlb_unsuper } from './pmap_tlb.ts';
import { radix_lookup, radix_next, radix_peek, radix_replace } from './vm_radix.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const mem = mem_;
const machine = machine_;
const pmap = pmap_;
const page = vm_page;

const AUTO = -1;
const enabled = sysctl_int('vm.pmap.pg_ps_enabled', {
  value: AUTO,
  min: AUTO,
  max: 1,
  flags: CTLFLAG_RWTUN,
  help: 'Superpages: 1 they are made, 0 no more are; -1: in a memory of 64 MiB or more',
});
const v_promotions = counter_u64(
  'vm.pmap.pde.promotions',
  'Page tables whose 1024 entries became a superpage',
);
const v_demotions = counter_u64(
  'vm.pmap.pde.demotions',
  'Superpages that are single pages again, because a part of them changed',
);
const v_failures = counter_u64(
  'vm.pmap.pde.p_failures',
  'Full page tables of a run of pages that could not be promoted: rights or uses differ',
);

const v_mappings = counter_u64(
  'vm.pmap.pde.mappings',
  'Superpages that were mapped ahead as such, of pages that were all there',
);

/** Whether superpages are made in this machine. */
export function super_enabled(): boolean {
  const v = sysctl_get(enabled);
  return v === AUTO ? machine.npages[M] * PAGE_SIZE >= SUPER_MEMORY_MIN : v !== 0;
}
const LAST = TABLE_ENTRIES - 1;
/** Entries that lose a right in one section. */
const BATCH = 8;

/** Whether page number `at` lies in a superpage. Locked. */
export function super_is(pm: pmap_t, at: number): boolean {
  return pmap.supers[pm] !== 0 && radix_lookup(pmap_index(pm), at >>> TABLE_SHIFT) < 0;
}

/** Superpages that lie in a range of page numbers as a whole: a sample. */
export function pmap_supers(pm: pmap_t, from: number, to: number): number {
  let n = 0;
  mtx_lock(pmap.lock, pm);
  each_super(pm, from, to, (_key, whole) => {
    if (whole) n++;
  });
  mtx_unlock(pmap.lock, pm);
  return n;
}

// --- promoted ----------------------------------------------------------------------------------

/** Makes the full table of page number `at` a superpage, if its entries say the same. */
export function super_try(pm: pmap_t, at: number, table: number): void {
  const w = page_word(table);
  const m = pte_page(mem.I32[w]);
  if (pte_page(mem.I32[w + LAST]) - m !== LAST) return; // most tables are of no run
  if (super_is(pm, at) || !super_enabled()) return;
  const write = (mem.I32[w] & PTE_WRITE) !== 0;
  const to_read_only = write && page.mod[m] === 0;
  const wired = (mem.I32[w] & PTE_WIRED) !== 0;
  if (!used_alike(pm, w, m, write) || (to_read_only && wired)) {
    counter_add(v_failures, 1);
    return;
  }
  if (to_read_only) cut_all(pm, at, w);
  super_make(pm, at >>> TABLE_SHIFT, table);
  counter_add(v_promotions, 1);
}
/** Whether the entries from word w on are a row that begins at page m, and are used alike. */
function used_alike(pm: pmap_t, w: number, m: number, write: boolean): boolean {
  const first = mem.I32[w];
  const mod = page.mod[m];
  const alike = (k: number): boolean =>
    mem.I32[w + k] === first + (k << TABLE_SHIFT) &&
    page.ref[m + k] !== 0 &&
    (!write || page.mod[m + k] === mod);
  // What failed last most often fails still; and most ranges fill upwards.
  if (!alike(pmap.super_failed[pm])) return false;
  for (let k = LAST; k >= 0; k--) {
    if (alike(k)) continue;
    pmap.super_failed[pm] = k;
    return false;
  }
  return true;
}
/** Whether the entries from word w on are a row. */
export function super_row(w: number): boolean {
  const first = mem.I32[w];
  for (let k = LAST; k > 0; k--) {
    if (mem.I32[w + k] !== first + (k << TABLE_SHIFT)) return false;
  }
  return first !== 0;
}
/** Takes the right to write from all entries, whose pages nobody wrote to. */
function cut_all(pm: pmap_t, at: number, w: number): void {
  for (let k = 0; k < TABLE_ENTRIES; k += BATCH) {
    undo_begin(pmap.lock, pm);
    for (let i = k; i < k + BATCH; i++) {
      save_word(w + i);
      mem.I32[w + i] &= ~PTE_WRITE;
    }
    undo_end();
  }
  tlb_shoot(pm, at - (at & LAST), TABLE_ENTRIES, true);
}
function super_make(pm: pmap_t, key: number, table: number, used = true): void {
  page.ref[table] = used ? 1 : 0;
  undo_begin(pmap.lock, pm);
  radix_replace(pmap_index(pm), key, -table);
  save(pmap.supers, pm);
  pmap.supers[pm]++;
  undo_end();
}
/** Of entries that were made by one call for pages that are all there, and are a row. */
export function super_mapped(pm: pmap_t, at: number, table: number): void {
  super_make(pm, at >>> TABLE_SHIFT, table, false);
  counter_add(v_mappings, 1);
}

// --- demoted -----------------------------------------------------------------------------------

/** A part is about to change around page number `at`: it is single pages from here on. */
export function super_demote(pm: pmap_t, at: number): void {
  if (!super_is(pm, at)) return;
  end(pm, at >>> TABLE_SHIFT);
  counter_add(v_demotions, 1);
}
function end(pm: pmap_t, key: number): void {
  const table = -radix_lookup(pmap_index(pm), key);
  undo_begin(pmap.lock, pm);
  radix_replace(pmap_index(pm), key, table);
  save(pmap.supers, pm);
  pmap.supers[pm]--;
  undo_end();
  tlb_unsuper(pm, key);
  if (page.ref[table] === 0) return;
  page.ref[table] = 0;
  const m = pte_page(mem.I32[page_word(table)]);
  for (let k = 0; k < TABLE_ENTRIES; k++) page.ref[m + k] = 1;
}
/** Calls `each` with every superpage that a range touches, and whether all of it lies there. */
function each_super(
  pm: pmap_t,
  from: number,
  to: number,
  each: (key: number, whole: boolean) => void,
): void {
  if (pmap.supers[pm] === 0) return;
  const t = pmap_index(pm);
  const last = (to - 1) >>> TABLE_SHIFT;
  for (let key = radix_next(t, from >>> TABLE_SHIFT); key >= 0 && key <= last; ) {
    const first = key * TABLE_ENTRIES;
    if (radix_peek(t, key) < 0) each(key, from <= first && first + TABLE_ENTRIES <= to);
    key = radix_next(t, key + 1);
  }
}
/**
 * All entries of a range are about to change alike: what lies in it as a whole is no superpage for
 * so long, and what does so with a part is one no more.  The keys of the former.
 */
export function super_open(pm: pmap_t, from: number, to: number): readonly number[] {
  const whole: number[] = [];
  each_super(pm, from, to, (key, all) => {
    if (!all) super_demote(pm, key * TABLE_ENTRIES);
    else {
      end(pm, key);
      whole.push(key);
    }
  });
  return whole;
}
/** They have changed, under the same hold of the lock. */
export function super_close(pm: pmap_t, keys: readonly number[]): void {
  for (const key of keys) {
    const table = radix_lookup(pmap_index(pm), key);
    if (table > 0 && super_row(page_word(table))) super_make(pm, key, table);
  }
}

// --- used --------------------------------------------------------------------------------------

/** The page whose sample clears the note: of pages that came in order, the one asked last. */
const SAMPLED = LAST;
/**
 * Whether some of a superpage was used, asked for the page at page number `at`; `table` is its
 * table.  All of its pages are asked in turn, so one of them alone clears the note: then the next
 * use by the one tag is noted anew.
 */
export function super_sampled(pm: pmap_t, at: number, table: number): boolean {
  const used = page.ref[table] !== 0;
  if (used && (at & LAST) === SAMPLED) {
    page.ref[table] = 0;
    tlb_unsuper(pm, at >>> TABLE_SHIFT);
  }
  return used;
}
