/*
 * object_tree: three CPUs grow and cut a tree of copies with one root: what the drop of one leaves
 * over, a second collapses, while a third copies it.
 */
import { look, object_script, write } from '../object_ops.ts';
import { space_drop, space_fork } from '../../src/sys/object/object_spaces.test.lib.ts';

export const script = object_script(
  'a tree of copies is grown and cut by three at once',
  (cpu, first, second) => {
    const fork = (): void => void space_fork(first, second);
    const drop = (s: number) => (): void => space_drop(s);
    if (cpu === 0) {
      return [
        write(first, 0, cpu),
        fork,
        write(first, 1, cpu),
        drop(first),
        look(second, 2, 0, false),
      ];
    }
    if (cpu === 1) {
      return [fork, drop(first), write(second, 2, cpu), look(second, 0, cpu, false), drop(second)];
    }
    return [
      fork,
      write(second, 0, cpu),
      drop(second),
      write(first, 2, cpu),
      look(first, 2, cpu, true),
    ];
  },
  3,
);
