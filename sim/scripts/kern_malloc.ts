/* kern_malloc: blocks of malloc beyond the memory, whose counts change with them. */
import { M_NOWAIT } from '../../src/sys/h/malloc_flags.ts';
import type { malloc_type_t } from '../../src/sys/h/malloc.ts';
import { vm_map_entry } from '../../src/sys/h/vm_map.ts';
import { malloc_type_attach } from '../../src/sys/kmem/kern_malloc.ts';
import { free_virtual, malloc_virtual } from '../../src/sys/kmem/kern_malloc_virtual.ts';
import { kernel_map } from '../../src/sys/map/vm_kern.ts';
import { map_entries } from '../../src/sys/map/vm_map_check.ts';
import { held, kern_script } from '../kern_ops.ts';

const BYTES = 3 * 4096;
const type = (): malloc_type_t => malloc_type_attach('far');
const take = (cpu: number): void => {
  held[cpu] = malloc_virtual(BYTES, type(), M_NOWAIT);
  if (held[cpu] === 0) throw new Error('no memory');
};
const base = kern_script(
  'two take blocks beyond the memory and give them back',
  () => {
    free_virtual(malloc_virtual(BYTES, type(), M_NOWAIT), type());
  },
  (cpu) => [
    () => take(cpu),
    () => free_virtual(held[cpu], type()),
    () => take(cpu),
    () => free_virtual(held[cpu], type()),
  ],
);
export const script = {
  ...base,
  check() {
    // What the dead one had been given is its program's: that would free it.
    for (const e of map_entries(kernel_map())) free_virtual(vm_map_entry.start[e], type());
    return base.check();
  },
};
