/* kern_make: two want kernel addresses first, at the same time, and parts of them with maps. */
import { VM_MAP_PAGED, VM_MAP_SYSTEM } from '../../src/sys/h/vm_map.ts';
import { kernel_map, kmem_suballoc } from '../../src/sys/map/vm_kern.ts';
import { kern_script } from '../kern_ops.ts';

const made = (what: string, mp: number): void => {
  if (mp === 0) throw new Error(`no memory for ${what}`);
};
export const script = {
  ...kern_script(
    'two make kernel_map, and a submap each; either may die on the way',
    () => {},
    (cpu) => [
      () => made('kernel_map', kernel_map()),
      () => made('a submap', kmem_suballoc(kernel_map(), 8, cpu ? VM_MAP_PAGED : VM_MAP_SYSTEM)),
    ],
  ),
  setup() {}, // no kernel_map
};
