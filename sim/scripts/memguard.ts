/* memguard: guarded blocks that two take, resize and give back; freed ones wait, or do not. */
import { M_NOWAIT } from '../../src/sys/h/malloc_flags.ts';
import type { malloc_type_t } from '../../src/sys/h/malloc.ts';
import { sysctl_set } from '../../src/sys/machine/sysctl_decl.ts';
import { malloc_type_attach } from '../../src/sys/kmem/kern_malloc.ts';
import {
  memguard_alloc,
  memguard_empty,
  memguard_free,
  memguard_realloc,
} from '../../src/sys/kmem/memguard.ts';
import { memguard_check } from '../../src/sys/kmem/memguard_check.ts';
import { guarded_of } from '../../src/sys/kmem/memguard_held.ts';
import { guard_map_there, quarantine } from '../../src/sys/kmem/memguard_vars.ts';
import { map_entries } from '../../src/sys/map/vm_map_check.ts';
import { guard_script } from '../guard_ops.ts';
import { held } from '../kern_ops.ts';

const PAGE = 4096;
const type = (): malloc_type_t => malloc_type_attach('far');
const take = (cpu: number, size: number): void => {
  held[cpu] = memguard_alloc(size, 16, type(), 0, M_NOWAIT);
  if (held[cpu] === 0) throw new Error('no memory');
};
const give = (cpu: number): void => {
  if (memguard_free(held[cpu], type(), 0) !== 0) throw new Error('no block');
};
const resize = (cpu: number): void => {
  const q = memguard_realloc(held[cpu], 100, type(), M_NOWAIT);
  if (q > 0) held[cpu] = q;
};
const base = guard_script(
  'two take guarded blocks, resize them and give them back, and one page of them waits',
  () => {
    take(0, 100); // map and ring are there
    give(0);
    sysctl_set(quarantine, PAGE);
  },
  (cpu) => [
    () => take(cpu, cpu === 0 ? PAGE + 1 : 20),
    () => (cpu === 0 ? give(cpu) : resize(cpu)),
    () => (cpu === 0 ? take(cpu, 20) : give(cpu)),
  ],
);
export const script = {
  ...base,
  check() {
    memguard_check();
    // What the dead one had been given is its program's: that would free it.
    memguard_empty();
    sysctl_set(quarantine, 0);
    for (const e of map_entries(guard_map_there())) memguard_free(guarded_of(e).at, type(), 0);
    memguard_check();
    const left = map_entries(guard_map_there()).length;
    return left === 0 ? base.check() : `${left} blocks are left`;
  },
};
