/* memguard_make: two want something guarded first, at the same time. */
import { M_NOWAIT } from '../../src/sys/h/malloc_flags.ts';
import { malloc_type_attach } from '../../src/sys/kmem/kern_malloc.ts';
import { memguard_alloc, memguard_free } from '../../src/sys/kmem/memguard.ts';
import { memguard_check } from '../../src/sys/kmem/memguard_check.ts';
import { guarded_of } from '../../src/sys/kmem/memguard_held.ts';
import { guard_map_there } from '../../src/sys/kmem/memguard_vars.ts';
import { map_entries } from '../../src/sys/map/vm_map_check.ts';
import { guard_script } from '../guard_ops.ts';

const base = guard_script(
  'two make the map of guarded blocks; either may die on the way',
  () => {
    malloc_type_attach('far');
  },
  () => [
    () => {
      const t = malloc_type_attach('far');
      const p = memguard_alloc(100, 16, t, 0, M_NOWAIT);
      if (p === 0 || memguard_free(p, t, 0) !== 0) throw new Error('no block');
    },
  ],
);
export const script = {
  ...base,
  check() {
    memguard_check();
    const t = malloc_type_attach('far');
    if (guard_map_there() === 0) return 'nobody made it';
    for (const e of map_entries(guard_map_there())) memguard_free(guarded_of(e).at, t, 0);
    return base.check();
  },
};
