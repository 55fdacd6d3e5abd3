/* loan_map: lent pages are mapped, stored to, unmapped where they came from, and adopted. */
import { COMMON, drop, fork, look, map, mine, space_script, unmap, write } from '../space_ops.ts';
import { adopt, give_back, lend, shown, shows } from '../loan_ops.ts';

export const script = space_script(
  'loans that are mapped, whose owners write to the pages, and let go of them',
  (cpu) =>
    cpu === 0
      ? [
          fork(COMMON, mine(0)),
          write(COMMON, 0, 0),
          lend(COMMON, 0, 2),
          shown(mine(0), 0),
          shows(0, 0, 0),
          give_back,
          unmap(COMMON, 0, 2),
          adopt,
          look(mine(0), 0),
          write(mine(0), 1, 0),
          map(COMMON, 0),
        ]
      : [
          write(COMMON, 1, 1),
          fork(COMMON, mine(1)),
          lend(mine(1), 1, 1),
          shown(COMMON, 1),
          drop(mine(1)),
          give_back,
          look(COMMON, 1),
          adopt,
        ],
);
