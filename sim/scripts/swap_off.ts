/*
 * swap_off: the swap area goes while pages go out to it, come in, are copied and dropped.
 *
 * The area lies in memory, so its path is empty.  The CPU that takes it out of use may die anywhere
 * in that: then the area is closing, and whoever lives can do it.  Afterwards every page holds what
 * it held, in memory, and no area is there.
 */
import { EBUSY, EINVAL } from '../../src/sys/machine/errno.ts';
import { swap_off } from '../../src/sys/map/vm_swapoff.ts';
import { swap_areas } from '../../src/sys/object/swap_area.ts';
import type { SimScript } from '../script.ts';
import { COMMON, drop, fork, look, mine, out, swap_script, write } from '../space_ops.ts';

function off(): void {
  const error = swap_off('');
  if (error !== 0 && error !== EBUSY && error !== EINVAL)
    throw new Error(`swapoff: errno ${error}`);
}
const shared = swap_script(
  'the swap area goes while pages go out to it and come in, and are copied',
  (cpu) =>
    cpu === 0
      ? [
          out(COMMON, 0),
          write(COMMON, 1, 0),
          out(COMMON, 1),
          fork(COMMON, mine(0)),
          write(mine(0), 0, 0),
          out(mine(0), 0),
          drop(mine(0)),
          look(COMMON, 0),
          look(COMMON, 1),
        ]
      : [out(COMMON, 0), off, look(COMMON, 0), out(COMMON, 1), off, look(COMMON, 1)],
);
export const script: SimScript = {
  ...shared,
  check(): string | undefined {
    const error = swap_off('');
    if (error !== 0 && error !== EINVAL) return `swapoff at the end: errno ${error}`;
    return swap_areas().length === 0 ? shared.check() : 'an area is left';
  },
};
