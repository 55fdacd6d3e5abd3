/* swap_fork: copies of a space whose pages are in the swap area; chains collapse over them. */
import { COMMON, drop, fork, look, mine, out, swap_script, write } from '../space_ops.ts';

export const script = swap_script(
  'copies of an address space whose pages are in the swap area, and chains that collapse over them',
  (cpu) =>
    cpu === 0
      ? [out(COMMON, 0), write(COMMON, 1, 0), look(COMMON, 0), out(COMMON, 1), look(COMMON, 1)]
      : [
          fork(COMMON, mine(1)),
          write(mine(1), 0, 1),
          out(mine(1), 0),
          fork(mine(1), mine(1, 1)),
          out(mine(1), 1),
          drop(mine(1)),
          look(mine(1, 1), 0),
          look(mine(1, 1), 1),
        ],
);
