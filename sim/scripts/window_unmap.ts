/* window_unmap: windows against unmapping, mapping and faults in one address space. */
import { COMMON, look, map, space_script, unmap, write } from '../space_ops.ts';
import { close, open, put } from '../window_ops.ts';

export const script = space_script(
  'windows of two CPUs, and unmapping and faults of the same pages',
  (cpu) =>
    cpu === 0
      ? [
          open(COMMON, 0, 2),
          put(0, 0),
          unmap(COMMON, 0, 3),
          look(COMMON, 1),
          close,
          map(COMMON, 1),
          open(COMMON, 1, 2, false),
          close,
        ]
      : [
          unmap(COMMON, 1, 1),
          map(COMMON, 1),
          write(COMMON, 1, 1),
          open(COMMON, 1, 1),
          put(1, 1),
          unmap(COMMON, 1, 2),
          close,
          look(COMMON, 0),
        ],
);
