/* kern_wake: a thread waits for kernel addresses, and may die on the way. */
import { VM_MAP_PAGED } from '../../src/sys/h/vm_map.ts';
import { kern_maps_make, kern_sub } from '../../src/sys/map/vm_kern.test.lib.ts';
import { kmem_alloc_wait, kmem_free_wakeup } from '../../src/sys/map/vm_kern_wait.ts';
import { held, kern_script } from '../kern_ops.ts';

export const script = kern_script(
  'one waits for room in a full map of pageable kernel memory, the other one makes some',
  () => {
    kern_maps_make(VM_MAP_PAGED, 4);
    held[0] = kmem_alloc_wait(kern_sub(), 4);
  },
  (cpu) =>
    cpu === 0
      ? [
          () => void kmem_free_wakeup(kern_sub(), held[0], 1),
          () => void kmem_free_wakeup(kern_sub(), held[0] + 1, 3),
        ]
      : [
          () => {
            const at = kmem_alloc_wait(kern_sub(), 3);
            if (at === 0) throw new Error('it was not served');
            kmem_free_wakeup(kern_sub(), at, 3);
          },
        ],
);
