/* kern_wait: a map of kernel addresses that is too small for two: they wait for each other. */
import { ptoa } from '../../src/sys/machine/memory.ts';
import { VM_MAP_SYSTEM } from '../../src/sys/h/vm_map.ts';
import { suword } from '../../src/sys/map/vm_copy.ts';
import { kern_maps_make, kern_sub } from '../../src/sys/map/vm_kern.test.lib.ts';
import { kmem_alloc_wait, kmem_free_wakeup } from '../../src/sys/map/vm_kern_wait.ts';
import { held, kern_script } from '../kern_ops.ts';

const take = (cpu: number, n: number): void => {
  held[cpu] = kmem_alloc_wait(kern_sub(), n);
  if (held[cpu] === 0) throw new Error('it was not served');
};
const give = (cpu: number, n: number): void => {
  kmem_free_wakeup(kern_sub(), held[cpu], n);
  held[cpu] = 0;
};
const turns = (cpu: number): (() => void)[] => [
  () => {
    take(cpu, 3);
    if (suword(kern_sub(), ptoa(held[cpu]), cpu) !== 0) throw new Error('not written');
    give(cpu, 3);
  },
  () => {
    take(cpu, 2);
    give(cpu, 2);
  },
];
const { victim: _none, ...both } = kern_script(
  'two take most of a small map in turn; who gives back wakes the other',
  () => kern_maps_make(VM_MAP_SYSTEM, 4),
  turns,
);
// Without a victim: it may die with what it was given, and the other one would wait for that.
export const script = both;
