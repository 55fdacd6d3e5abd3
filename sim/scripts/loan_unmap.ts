/* loan_unmap: lent pages are unmapped, mapped anew, and shown by windows, by two CPUs. */
import { COMMON, drop, fork, look, map, mine, space_script, unmap, write } from '../space_ops.ts';
import { as_storage, give_back, lend, shows } from '../loan_ops.ts';
import { close, open } from '../window_ops.ts';

export const script = space_script(
  'loans of pages that are unmapped, and that windows want to show',
  (cpu) =>
    cpu === 0
      ? [
          write(COMMON, 0, 0),
          lend(COMMON, 0, 1),
          unmap(COMMON, 0, 3),
          shows(0, 0, 0),
          map(COMMON, 0),
          give_back,
          look(COMMON, 0),
          lend(COMMON, 0, 2),
          give_back,
        ]
      : [
          lend(COMMON, 1, 1),
          open(COMMON, 0, 2),
          close,
          map(COMMON, 1),
          fork(COMMON, mine(1)),
          give_back,
          lend(mine(1), 0, 2),
          drop(mine(1)),
          as_storage,
        ],
);
