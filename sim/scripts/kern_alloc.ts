/* kern_alloc: kernel addresses are asked for, filled, touched, cut and given back. */
import { M_NOWAIT } from '../../src/sys/h/malloc_flags.ts';
import { ptoa } from '../../src/sys/machine/memory.ts';
import { fuword, suword } from '../../src/sys/map/vm_copy.ts';
import { kernel_map, kmem_free, kmem_malloc } from '../../src/sys/map/vm_kern.ts';
import { uvm_km_valloc } from '../../src/sys/map/vm_kern_wait.ts';
import { held, kern_script } from '../kern_ops.ts';

const put = (at: number, value: number): void => {
  if (suword(kernel_map(), ptoa(at), value) !== 0) throw new Error(`not written at ${at}`);
};
const look = (at: number, value: number): void => {
  const got = fuword(kernel_map(), ptoa(at));
  if (got !== value) throw new Error(`${got} at ${at}, not ${value}`);
};
export const script = kern_script(
  'two take kernel addresses, with pages and without, and give them back whole and in parts',
  () => {
    const at = kmem_malloc(kernel_map(), 1, M_NOWAIT);
    kmem_free(kernel_map(), at, 1);
  },
  (cpu) => [
    () => {
      held[cpu] = kmem_malloc(kernel_map(), 3, M_NOWAIT);
      if (held[cpu] === 0) throw new Error('no memory');
    },
    () => put(held[cpu] + 1, 7 + cpu),
    () => void kmem_free(kernel_map(), held[cpu], 1),
    () => look(held[cpu] + 1, 7 + cpu),
    () => void kmem_free(kernel_map(), held[cpu] + 1, 2),
    () => {
      held[cpu] = uvm_km_valloc(kernel_map(), 5000);
      if (held[cpu] === 0) throw new Error('no address');
    },
    () => put(held[cpu] + 4000, 9 + cpu),
    () => look(held[cpu] + 4000, 9 + cpu),
    () => void kmem_free(kernel_map(), held[cpu], 5000),
  ],
);
