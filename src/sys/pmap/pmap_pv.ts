/*
 * pmap_pv: where a page is mapped.
 *
 * Most pages are mapped once: that mapping stands in the page array itself.  Each further one
 * is a pv entry on a list that begins there.
 *
 *      pv_enter    before the page table says so
 *      pv_remove   after the page table does not say so any more, and all CPUs were asked
 *
 * So a list may say too much, never too little; after a death it may go on saying too much.
 * Whoever goes by it looks into the page table, under the lock of the pmap, and takes out
 * what is not true.  Pages of devices have no list: they are never freed.  The list's lock
 * stands inside that of the pmap.
 */
import { pcpu as pcpu_, thr as thr_ } from '../machine/cpu.ts';
import { boot_alloc, M, machine as machine_, ROOT_PMAP } from '../machine/header.ts';
import { elem, field_word, NULL } from '../machine/struct.ts';
import { zone_declared } from '../machine/zone_decl.ts';
import { M_NORECLAIM, M_NOWAIT } from '../h/malloc_flags.ts';
import {
  type pmap_root_t,
  PV_LISTS,
  pmap_root as pmap_root_,
  type pmap_t,
  pv_entry,
  type pv_entry_t,
  pv_list as pv_list_,
  type pv_list_t,
} from '../h/pmap.ts';
import type { zone_t } from '../h/uma.ts';
import { PG_FICTITIOUS, vm_page } from '../h/vm_page.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_PV } from '../sync/lock_order.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { zone_alloc_hand, zone_free_at } from '../uma/uma_core.ts';
import { item_in_hand, item_settle } from '../uma/uma_keg.ts';
import { uma_zcreate } from '../uma/uma_zone.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const thr = thr_;
const pcpu = pcpu_;
const pv_list = pv_list_;
const pmap_root = pmap_root_;
const machine = machine_;
const page = vm_page;
const pv = pv_entry;

const Z_ENTRIES = zone_declared('PV ENTRY', 'Further mappings of pages that are mapped twice');

/** The record of all pmaps. */
export function pmap_root_of(): pmap_root_t {
  return machine.roots[elem(M, ROOT_PMAP)] as pmap_root_t;
}
/** Lays out the root and the locks of the lists, while boot_alloc still works. */
export function pmap_boot(): void {
  const r = boot_alloc(pmap_root.sizeof, 'page tables', 32) as pmap_root_t;
  machine.roots[elem(M, ROOT_PMAP)] = r;
  for (let i = 0; i < PV_LISTS; i++) mtx_init(pv_list.lock, list_of(i), LC_PV);
}
/** Makes the zone of pv entries. */
export function pv_startup(): void {
  pmap_root.entries[pmap_root_of()] = uma_zcreate(Z_ENTRIES, pv.sizeof * 4);
}
function list_of(m: number): pv_list_t {
  const lists = field_word(pmap_root.lists, pmap_root_of());
  return (lists + (m % PV_LISTS) * pv_list.sizeof) as pv_list_t;
}
function zone(): zone_t {
  return pmap_root.entries[pmap_root_of()] as zone_t;
}

/** Notes that a pmap maps page m at page number `at`. False: no memory for that. */
export function pv_enter(m: number, pm: pmap_t, at: number): boolean {
  if (page.flags[m] & PG_FICTITIOUS) return true;
  const l = list_of(m);
  mtx_lock(pv_list.lock, l);
  let done = true;
  if (page.map_pmap[m] === NULL) {
    undo_begin(pv_list.lock, l);
    save(page.map_pmap, m);
    save(page.map_page, m);
    page.map_pmap[m] = pm;
    page.map_page[m] = at;
    undo_end();
  } else if (page.map_pmap[m] !== pm || page.map_page[m] !== at) done = enter_more(l, m, pm, at);
  mtx_unlock(pv_list.lock, l);
  return done;
}
function enter_more(l: pv_list_t, m: number, pm: pmap_t, at: number): boolean {
  const e = zone_alloc_hand(zone(), M_NOWAIT | M_NORECLAIM) as pv_entry_t;
  if (e === NULL) return false;
  checked_fresh(e, pv.sizeof);
  pv.page[e] = m;
  pv.pmap[e] = pm;
  pv.at[e] = at;
  pv.next[e] = page.map_more[m] as pv_entry_t;
  checked_publish(e);
  undo_begin(pv_list.lock, l);
  save(page.map_more, m);
  save(pcpu.in_hand_items, thr.pc);
  page.map_more[m] = e;
  item_settle();
  undo_end();
  return true;
}
/** A pmap does not map page m at that page number any more. */
export function pv_remove(m: number, pm: pmap_t, at: number): void {
  if (page.flags[m] & PG_FICTITIOUS) return;
  const l = list_of(m);
  mtx_lock(pv_list.lock, l);
  remove_more(l, m, pm, at);
  if (page.map_pmap[m] === pm && page.map_page[m] === at) remove_first(l, m);
  mtx_unlock(pv_list.lock, l);
}
/** Takes all entries for that mapping out: after a death there may be two. */
function remove_more(l: pv_list_t, m: number, pm: pmap_t, at: number): void {
  let prev = NULL as pv_entry_t;
  for (let e = page.map_more[m] as pv_entry_t; e !== NULL; ) {
    const next = pv.next[e];
    if (pv.pmap[e] === pm && pv.at[e] === at) {
      undo_begin(pv_list.lock, l);
      unlink(m, prev, e);
      undo_end();
      zone_free_at(zone(), e, 0);
    } else prev = e;
    e = next;
  }
}
/** Takes an entry off the list into this CPU's hand. Inside a section. */
function unlink(m: number, prev: pv_entry_t, e: pv_entry_t): void {
  save(pcpu.in_hand_items, thr.pc);
  if (prev === NULL) {
    save(page.map_more, m);
    page.map_more[m] = pv.next[e];
  } else {
    save(pv.next, prev);
    pv.next[prev] = pv.next[e];
  }
  item_in_hand(e);
}
/** The first mapping goes; the next one takes its place. */
function remove_first(l: pv_list_t, m: number): void {
  const e = page.map_more[m] as pv_entry_t;
  undo_begin(pv_list.lock, l);
  save(page.map_pmap, m);
  save(page.map_page, m);
  if (e !== NULL) {
    page.map_pmap[m] = pv.pmap[e];
    page.map_page[m] = pv.at[e];
    unlink(m, NULL as pv_entry_t, e);
  } else {
    page.map_pmap[m] = NULL;
    page.map_page[m] = 0;
  }
  undo_end();
  if (e !== NULL) zone_free_at(zone(), e, 0);
}

/** A mapping of a page. */
export interface Mapping {
  readonly pm: pmap_t;
  readonly at: number;
}
/** Every mapping of page m that its list knows of: each may be over by now. */
export function pv_all(m: number): Mapping[] {
  if (page.map_pmap[m] === NULL) return [];
  const l = list_of(m);
  const all: Mapping[] = [];
  mtx_lock(pv_list.lock, l);
  const pm = page.map_pmap[m] as pmap_t;
  if (pm !== NULL) all.push({ pm, at: page.map_page[m] });
  for (let e = page.map_more[m] as pv_entry_t; e !== NULL; e = pv.next[e]) {
    all.push({ pm: pv.pmap[e], at: pv.at[e] });
  }
  mtx_unlock(pv_list.lock, l);
  return all;
}
