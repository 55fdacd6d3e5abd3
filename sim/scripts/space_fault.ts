/* space_fault: two CPUs fault on the same pages, and one of them unmaps and maps them meanwhile. */
import { COMMON, look, map, space_script, unmap, write } from '../space_ops.ts';

export const script = space_script(
  'faults against faults and against unmapping, in one address space',
  (cpu) =>
    cpu === 0
      ? [write(COMMON, 2, 0), look(COMMON, 0), unmap(COMMON, 0, 2), map(COMMON, 1), look(COMMON, 1)]
      : [
          write(COMMON, 2, 1),
          write(COMMON, 1, 1),
          look(COMMON, 1),
          map(COMMON, 0),
          look(COMMON, 2),
        ],
);
