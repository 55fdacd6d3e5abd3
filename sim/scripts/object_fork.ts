/* object_fork: two spaces over one object are written to, forked, looked at and dropped. */
import { look, object_script, write } from '../object_ops.ts';
import { space_drop, space_fork } from '../../src/sys/object/object_spaces.test.lib.ts';

export const script = object_script(
  'copies of copies of memory: a page is written, forked, looked at, dropped',
  (cpu, first, second) => [
    write(first, 0, cpu),
    () => void space_fork(first, second),
    write(second, 1, cpu),
    look(first, 1, cpu, false),
    look(second, 0, cpu, true),
    () => space_drop(first),
    look(second, 2, cpu, false),
  ],
);
