/*
 * kern_space_check: proves all address spaces of a quiet machine: maps, memory objects, windows,
 * page tables, tags, and pages.  A name of the registry is a reference to its space.
 */
import { checked_quiet } from '../machine/parts.ts';
import { NULL } from '../machine/struct.ts';
import { reg_space } from '../h/registry.ts';
import { vm_map, type vm_map_t } from '../h/vm_map.ts';
import { pageout_still } from '../map/vm_pageout_still.ts';
import { maps_all, vm_maps_check } from '../map/vm_map_check.ts';
import { swap_stores } from '../object/swap_area.ts';
import { vm_store_check } from '../object/vm_store_check.ts';
import { vnode_stores } from '../object/vm_vnode.ts';
import { vm_page_check } from '../page/vm_page.ts';
import { vm_reserv_check } from '../page/vm_reserv.ts';
import { pmap_check } from '../pmap/pmap_check.ts';
import { registry_each, registry_lock, registry_unlock } from './kern_registry.ts';

/** Panics if something is wrong. Threads that page out hold still meanwhile. */
export function spaces_check(): void {
  pageout_still(prove);
}
function prove(): void {
  const named = new Map<vm_map_t, number>();
  registry_lock();
  registry_each((e, kind) => {
    if (kind !== 'space') return;
    const mp = reg_space.map[e];
    named.set(mp, (named.get(mp) ?? 0) + 1);
  });
  registry_unlock();
  vm_maps_check((mp) => named.get(mp) ?? 0);
  checked_quiet(true);
  for (const mp of maps_all()) if (vm_map.pmap[mp] !== NULL) pmap_check(vm_map.pmap[mp]);
  checked_quiet(false);
  vm_store_check([...swap_stores(), ...vnode_stores()]);
  vm_page_check();
  vm_reserv_check();
}
