/*
 * window_move: pages move to be side by side under a window, and away from there when it is closed,
 * while the other CPU stores to them and shares the window.
 */
import { COMMON, look, map, space_script, write } from '../space_ops.ts';
import { close, keeps, open, put } from '../window_ops.ts';

export const script = space_script(
  'pages that move under a window, and stores to them meanwhile',
  (cpu) =>
    cpu === 0
      ? [
          map(COMMON, 0),
          write(COMMON, 2, 0), // not side by side with the others
          write(COMMON, 0, 0),
          open(COMMON, 0, 3),
          put(2, 0),
          keeps(0, 0),
          close,
          keeps(2, 0),
        ]
      : [
          write(COMMON, 1, 1),
          keeps(1, 1),
          open(COMMON, 1, 2, false),
          close,
          open(COMMON, 1, 1),
          put(1, 1),
          close,
          write(COMMON, 1, 1),
          keeps(1, 1),
          look(COMMON, 0),
        ],
);
