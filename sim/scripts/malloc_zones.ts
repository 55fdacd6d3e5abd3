/*
 * malloc_zones: each size has three zones, and types are dealt out among them.
 *
 * Two CPUs take, resize, hand over and free blocks, and a block that a type left which is no more
 * is freed under another one, whose class it is not.  One dies anywhere: what each zone gave out is
 * what the types of its class have counted.
 */
import { M_NOWAIT, malloc } from '../../src/sys/kmem/kern_malloc.ts';
import { malloc_type_attach, malloc_uninit } from '../../src/sys/kmem/kern_malloc_type.ts';
import { kconsole } from '../../src/sys/machine/kconsole.ts';
import { check_account } from '../account.ts';
import { burst, clear, lay, reclaim, resize, setup, swap } from '../malloc_ops.ts';
import type { SimScript } from '../script.ts';

export const script: SimScript = {
  help: 'malloc with several zones for a size; a block of a type that is no more',
  options: { MALLOC_DEBUG_MAXZONES: 3 },
  victim: 1,
  kill_seeds: 1,
  setup() {
    setup();
    const { print } = kconsole;
    kconsole.print = () => {}; // it leaks a block, and that is meant
    const gone = malloc_type_attach('gone');
    for (const i of [2, 3]) lay(i, malloc(100, gone, M_NOWAIT));
    malloc_uninit(gone);
    kconsole.print = print;
  },
  ops: (cpu) =>
    cpu === 0
      ? [swap(0, 100), clear(2), resize(0, 700), reclaim, burst(4, 60)]
      : [swap(0, 60), clear(3), resize(0, 3000), burst(4, 700), clear(0)],
  check: check_account,
};
