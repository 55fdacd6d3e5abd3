/* wire_hold: one CPU wires pages for itself, the other one takes them out of the space. */
import { COMMON, look, map, space_script, unmap, write } from '../space_ops.ts';
import { hold, lock, release } from '../wire_ops.ts';

export const script = space_script(
  'a deletion waits for pages that another thread has wired, and for nothing if that thread dies',
  (cpu) =>
    cpu === 0
      ? [unmap(COMMON, 0, 1), map(COMMON, 0), unmap(COMMON, 1, 2), look(COMMON, 0)]
      : [hold(0, 2), write(COMMON, 0, 1), release, lock(COMMON, 0, 3, true), hold(0, 1), release],
);
