/* object_collapse: what one drops, the other collapses into its own. */
import { look, object_script, write } from '../object_ops.ts';
import { space_drop, space_fork } from '../../src/sys/object/object_spaces.test.lib.ts';

export const script = object_script(
  'chains of two spaces become one where the other is dropped, while it writes',
  (cpu, first, second) =>
    cpu === 0
      ? [
          write(first, 2, cpu),
          look(first, 0, cpu, false),
          write(first, 0, cpu),
          look(first, 2, cpu, true),
          look(first, 1, cpu, false),
        ]
      : [
          () => void space_fork(first, second),
          () => space_drop(first),
          write(second, 0, cpu),
          () => space_drop(second),
        ],
);
