/*
 * vm_kern.test.lib: what tests of kernel maps share: a submap where all threads find it, and the
 * end of what a program left in kernel addresses.
 */
import {
  VM_MAP_PAGED,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import { kernel_map, kmem_suballoc, system_maps } from './vm_kern.ts';
import { kmem_free_wakeup } from './vm_kern_wait.ts';
import { map_entries } from './vm_map_check.ts';
import { entry_submap } from './vm_map_insert.ts';

const entry = vm_map_entry;

function submap(e: vm_map_entry_t): vm_map_t {
  return entry_submap(e);
}
/** Makes kernel_map, and as its only entry a submap of n pages. */
export function kern_maps_make(kind: number, n: number): void {
  if (kmem_suballoc(kernel_map(), n, kind) === 0) throw new Error('no memory for a map');
}
/** That submap. */
export function kern_sub(): vm_map_t {
  return submap(map_entries(kernel_map())[0]);
}
/** Gives everything back that lies in kernel addresses; submaps stay. */
export function kern_free_all(): void {
  const paged = map_entries(kernel_map())
    .map(submap)
    .filter((mp) => mp !== 0 && vm_map.kind[mp] === VM_MAP_PAGED);
  for (const mp of [...system_maps(), ...paged]) {
    for (const e of map_entries(mp)) {
      if (submap(e) !== 0) continue;
      kmem_free_wakeup(mp, entry.start[e], entry.end[e] - entry.start[e]);
    }
  }
}
