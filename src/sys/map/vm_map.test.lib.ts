/*
 * vm_map.test.lib: what tests of maps share: memory that is read and written through a map by
 * hand, as a fault does without page tables, and a table where threads find maps.
 */
import { M, machine, ROOT_TEST } from '../machine/header.ts';
import { hw, mem, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { elem, field_word, lock_words, NULL, type Ptr, struct, words } from '../machine/struct.ts';
import type { pmap_t } from '../h/pmap.ts';
import {
  MAP_ENTRY_NEEDS_COPY,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import type { vm_object_t } from '../h/vm_object.ts';
import { VM_PROT_ALL, VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { VM_ALLOC_SYSTEM } from '../h/vm_page.ts';
import {
  contents_read,
  contents_write,
  object_read,
  object_write,
} from '../object/object_spaces.test.lib.ts';
import { pmap_enter, pmap_translate } from '../pmap/pmap.ts';
import { vm_page_alloc, vm_page_wire } from '../page/vm_page.ts';
import { MTX_WORDS, mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_REGISTRY } from '../sync/lock_order.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import {
  vm_map_anchor,
  vm_map_create,
  vm_map_deallocate,
  vm_map_lock_downgrade,
  vm_map_lock_read,
  vm_map_lock_upgrade,
  vm_map_unanchor,
  vm_map_unlock,
  vm_map_unlock_read,
} from './vm_map.ts';
import { vm_map_entry_make_object, vm_map_entry_shadow } from './vm_map_entry.ts';
import type { Mapping } from './vm_map_insert.ts';
import { vm_map_lookup } from './vm_map_tree.ts';

const entry = vm_map_entry;

/** Memory that is zero at first and may be used in any way. */
export const ANON: Mapping = {
  object: NULL as vm_object_t,
  offset: 0,
  protection: VM_PROT_ALL,
  max_protection: VM_PROT_ALL,
  cow: 0,
};
/** A map without a pmap, in hand. */
export function map_make(min: number, max: number): vm_map_t {
  const mp = vm_map_create(NULL as pmap_t, min, max);
  if (mp === NULL) throw new Error('no memory for a map');
  return mp;
}
const index = (e: vm_map_entry_t, vpn: number): number => entry.offset[e] + vpn - entry.start[e];
/** Makes the memory at `vpn` the map's own. With the map locked shared, in the end. */
function owned(mp: vm_map_t, vpn: number): 'yes' | 'unmapped' | 'no memory' {
  for (;;) {
    vm_map_lock_read(mp);
    const e = vm_map_lookup(mp, vpn);
    if (e === NULL) {
      vm_map_unlock_read(mp);
      return 'unmapped';
    }
    if (entry.object[e] !== NULL && (entry.eflags[e] & MAP_ENTRY_NEEDS_COPY) === 0) return 'yes';
    if (!vm_map_lock_upgrade(mp)) continue;
    const done = vm_map_entry_shadow(mp, e) && vm_map_entry_make_object(mp, e);
    if (!done) {
      vm_map_unlock(mp);
      return 'no memory';
    }
    vm_map_lock_downgrade(mp);
    return 'yes';
  }
}
/** What became of a write. */
export type Wrote = 'yes' | 'unmapped' | 'no memory' | 'protection';
/**
 * Writes a value to page `vpn`: through this CPU's translations where the map has a pmap, which
 * is mapped as a fault would.  Without one nobody asks for the protection.
 */
export function memory_write(mp: vm_map_t, vpn: number, value: number): Wrote {
  const pm = map_pmap(mp);
  if (pm !== NULL) {
    const frame = pmap_translate(pm, vpn, true);
    if (frame === -1) return 'no memory';
    if (frame !== 0) {
      contents_write(frame / PAGE_WORDS, value);
      return 'yes';
    }
  }
  const mine = owned(mp, vpn);
  if (mine !== 'yes') return mine;
  const e = vm_map_lookup(mp, vpn);
  const prot = entry.protection[e];
  let result: Wrote = 'protection';
  if (pm === NULL || prot & VM_PROT_WRITE) {
    const done = object_write(
      entry.object[e],
      index(e, vpn),
      value,
      (m) => pm === NULL || pmap_enter(pm, vpn, m, prot | VM_PROT_READ),
    );
    result = done ? 'yes' : 'no memory';
  }
  vm_map_unlock_read(mp);
  return result;
}
function map_pmap(mp: vm_map_t): pmap_t {
  vm_map_lock_read(mp);
  const pm = vm_map.pmap[mp];
  vm_map_unlock_read(mp);
  return pm;
}
/** A page that may not be read, in place of what it holds. */
export const FORBIDDEN = -2;
/**
 * What page `vpn` holds, FORBIDDEN, -1: it is half written; undefined: it is not mapped.  As
 * with writes; memory that may be written to may be read.
 */
export function memory_read(mp: vm_map_t, vpn: number): number | undefined {
  const pm = map_pmap(mp);
  if (pm !== NULL) {
    const frame = pmap_translate(pm, vpn, false);
    if (frame > 0) return contents_read(frame / PAGE_WORDS);
  }
  vm_map_lock_read(mp);
  const e = vm_map_lookup(mp, vpn);
  const o = e === NULL ? NULL : entry.object[e];
  let value: number | undefined;
  if (e !== NULL) {
    const may = pm === NULL || (entry.protection[e] & (VM_PROT_READ | VM_PROT_WRITE)) !== 0;
    value = may ? 0 : FORBIDDEN;
    if (may && o !== NULL) {
      value = object_read(o as vm_object_t, index(e, vpn), (m) => {
        if (pm !== NULL) pmap_enter(pm, vpn, m, VM_PROT_READ); // no memory: not mapped
      });
    }
  }
  vm_map_unlock_read(mp);
  return value;
}

// --- a table of maps -----------------------------------------------------------------------------

export const MAPS = 16;
/** Of a map that several threads change: pages that are everybody's, then each one's part. */
export const COMMON = 200;
export const PART = 250;
type maps_t = Ptr<'test_maps'>;
/* Locks: (s) the lock */
const maps = struct<maps_t>('test_maps')({
  lock: lock_words(MTX_WORDS, 'registry', 'the table'),
  map: words('s', 'each map, 0: none', MAPS),
  counts: words('-', 'whether to stop, and operations done by all', 2),
});
function table(): maps_t {
  return machine.roots[elem(M, ROOT_TEST)] as maps_t;
}
export const stop_word = (): number => field_word(maps.counts, table());
export const done_word = (): number => stop_word() + 1;
/** Makes the table, where every thread finds it. */
export function maps_make(): void {
  const m = vm_page_alloc(-1, VM_ALLOC_SYSTEM);
  vm_page_wire(m, 1);
  hw.fill(page_word(m), 0, PAGE_WORDS);
  machine.roots[elem(M, ROOT_TEST)] = page_word(m);
  mtx_init(maps.lock, table(), LC_REGISTRY);
}
export function map_at(i: number): vm_map_t {
  return mem.I32[field_word(maps.map, table()) + i] as vm_map_t;
}
/** The map in hand gets a place in the table. */
export function map_put(i: number, mp: vm_map_t): void {
  change(i, mp, () => vm_map_anchor(mp));
}
/** The map at a place ends, unless others refer to it. */
export function map_drop(i: number): void {
  const mp = map_at(i);
  change(i, NULL as vm_map_t, () => vm_map_unanchor(mp));
  vm_map_deallocate(mp);
}
function change(i: number, mp: vm_map_t, hand: () => void): void {
  const t = table();
  mtx_lock(maps.lock, t);
  undo_begin(maps.lock, t);
  save(maps.map, elem(t, i));
  maps.map[elem(t, i)] = mp;
  hand();
  undo_end();
  mtx_unlock(maps.lock, t);
}
/** References to a map that stand in the table. */
export function map_anchors(mp: vm_map_t): number {
  let n = 0;
  for (let i = 0; i < MAPS; i++) if (map_at(i) === mp) n++;
  return n;
}
