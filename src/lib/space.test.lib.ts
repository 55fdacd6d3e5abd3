/* space.test.lib: the walkers of virtual memory, for machines that the façade made. */
import { checked_quiet } from '../sys/machine/parts.ts';
import { NULL } from '../sys/machine/struct.ts';
import { reg_space } from '../sys/h/registry.ts';
import { vm_map, type vm_map_t } from '../sys/h/vm_map.ts';
import { registry_each, registry_lock, registry_unlock } from '../sys/client/kern_registry.ts';
import { maps_all, vm_maps_check } from '../sys/map/vm_map_check.ts';
import { vm_page_check } from '../sys/page/vm_page.ts';
import { pmap_check } from '../sys/pmap/pmap_check.ts';

/** Proves maps, objects, pages and page tables. The machine is quiet. */
export function vm_checks(): void {
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
  vm_page_check();
}
