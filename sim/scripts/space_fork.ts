/* space_fork: one CPU copies a space to which the other one writes; both write and drop copies. */
import { COMMON, drop, fork, look, mine, space_script, write } from '../space_ops.ts';

export const script = space_script(
  'copies of an address space against faults in it, and copies that go while chains collapse',
  (cpu) =>
    cpu === 0
      ? [
          write(COMMON, 0, 0),
          look(COMMON, 1),
          write(COMMON, 2, 0),
          fork(COMMON, mine(0)),
          write(mine(0), 1, 0),
          drop(mine(0)),
          write(COMMON, 1, 0),
        ]
      : [
          fork(COMMON, mine(1)),
          write(mine(1), 0, 1),
          look(mine(1), 1),
          fork(mine(1), mine(1, 1)),
          drop(mine(1)),
          write(mine(1, 1), 2, 1),
          look(mine(1, 1), 0),
        ],
);
