/*
 * loan_write: pages are lent while the other CPU writes to them, lends them as well, and copies
 * their space.
 */
import { COMMON, drop, fork, look, mine, space_script, write } from '../space_ops.ts';
import { as_storage, give_back, lend, shows } from '../loan_ops.ts';

export const script = space_script(
  'loans of pages that two CPUs write to, lend, and copy',
  (cpu) =>
    cpu === 0
      ? [
          write(COMMON, 0, 0),
          lend(COMMON, 0, 2),
          write(COMMON, 0, 0),
          shows(0, 0, 0),
          look(COMMON, 1),
          give_back,
          lend(COMMON, 0, 3),
          as_storage,
          write(COMMON, 0, 0),
        ]
      : [
          write(COMMON, 1, 1),
          lend(COMMON, 1, 1),
          fork(COMMON, mine(1)),
          write(COMMON, 1, 1),
          shows(0, 1, 1),
          write(mine(1), 1, 1),
          drop(mine(1)),
          give_back,
          look(COMMON, 0),
        ],
);
