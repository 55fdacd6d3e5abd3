/* wire_window: pages that a program has locked move under a window, and are unlocked meanwhile. */
import { COMMON, fork, look, mine, space_script, write } from '../space_ops.ts';
import { close, open, put } from '../window_ops.ts';
import { lock, unlock } from '../wire_ops.ts';

export const script = space_script(
  'locked pages that move to lie side by side, while others lock and unlock them',
  (cpu) =>
    cpu === 0
      ? [
          lock(COMMON, 0, 3),
          open(COMMON, 0, 2),
          put(0, 0),
          unlock(COMMON, 0, 1),
          close,
          lock(COMMON, 0, 2),
          look(COMMON, 0),
        ]
      : [
          write(COMMON, 2, 1), // not side by side with the others
          lock(COMMON, 2, 1),
          open(COMMON, 1, 2),
          put(2, 1),
          close,
          unlock(COMMON, 2, 1),
          fork(COMMON, mine(1)),
          look(mine(1), 2),
        ],
);
