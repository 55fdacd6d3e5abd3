/* wire_lock: a space is locked, forked, unmapped and written to by two CPUs at once. */
import { COMMON, drop, fork, look, map, mine, space_script, unmap, write } from '../space_ops.ts';
import { lock, unlock } from '../wire_ops.ts';

export const script = space_script(
  'pages that a program locks, while another thread unmaps and copies them',
  (cpu) =>
    cpu === 0
      ? [
          lock(COMMON, 0, 2),
          write(COMMON, 0, 0),
          unmap(COMMON, 1, 1),
          unlock(COMMON, 0, 1),
          fork(COMMON, mine(0)),
          lock(mine(0), 0, 3, true),
          look(mine(0), 0),
          drop(mine(0)),
        ]
      : [
          lock(COMMON, 1, 2),
          fork(COMMON, mine(1)),
          write(COMMON, 2, 1),
          look(mine(1), 2),
          map(COMMON, 1),
          lock(COMMON, 0, 3, true),
          unlock(COMMON, 1, 2),
          drop(mine(1)),
        ],
);
