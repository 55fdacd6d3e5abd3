/* swap_page: pages of one space go out and come in while both CPUs use them. */
import { COMMON, look, out, swap_script, write } from '../space_ops.ts';

export const script = swap_script(
  'pages of an address space go to the swap area and come back, against stores and loads',
  (cpu) =>
    cpu === 0
      ? [out(COMMON, 0), write(COMMON, 1, 0), out(COMMON, 1), look(COMMON, 0), look(COMMON, 1)]
      : [look(COMMON, 0), out(COMMON, 1), write(COMMON, 0, 1), out(COMMON, 0), look(COMMON, 1)],
);
