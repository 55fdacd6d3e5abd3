/* window_fork: a space is copied while the other CPU has a window on it, and both write. */
import { COMMON, drop, fork, look, mine, space_script, write } from '../space_ops.ts';
import { close, open, put, shows } from '../window_ops.ts';

export const script = space_script(
  'copies of an address space with windows on it, through which is stored',
  (cpu) =>
    cpu === 0
      ? [
          open(COMMON, 0, 2),
          put(0, 0),
          write(COMMON, 0, 0),
          shows(0, 0),
          close,
          fork(COMMON, mine(0)),
          look(mine(0), 0),
          drop(mine(0)),
        ]
      : [
          write(COMMON, 2, 1),
          open(COMMON, 2, 1),
          fork(COMMON, mine(1)),
          put(2, 1),
          write(mine(1), 0, 1),
          look(mine(1), 2),
          drop(mine(1)),
          shows(2, 1),
          close,
        ],
);
