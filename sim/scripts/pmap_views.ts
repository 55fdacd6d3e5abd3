/* pmap_views: two CPUs map, use, unmap and free the same pages by two pmaps. */
import {
  view_free,
  view_freeze,
  view_map,
  view_unmap,
  view_use,
  views_check,
  views_end,
  views_make,
} from '../../src/sys/pmap/pmap_views.test.lib.ts';
import { check_account } from '../account.ts';
import type { SimScript } from '../script.ts';

const use = (p: number, i: number, write: boolean) => (): void => void view_use(p, i, write, 0);
const map = (p: number, i: number, write: boolean) => (): void => void view_map(p, i, write);

export const script: SimScript = {
  help: 'mappings and translations: what is taken back is used by nobody once it is another',
  cpus: 2,
  memory: '1M',
  victim: 1,
  kill_seeds: 1,
  setup() {
    if (!views_make()) throw new Error('no memory for the first page tables');
    view_map(0, 1, true);
    view_map(1, 1, false);
  },
  ops: (cpu) =>
    cpu === 0
      ? [
          use(0, 1, true),
          use(1, 1, false),
          map(0, 2, true),
          use(0, 2, true),
          () => view_unmap(0, 1, 2),
          map(1, 2, false),
          () => view_free(1),
          use(0, 2, false),
        ]
      : [
          use(0, 1, false),
          map(1, 2, true),
          use(1, 2, true),
          () => view_free(1),
          map(0, 1, true),
          use(0, 1, true),
          () => view_freeze(0),
          () => view_free(2),
        ],
  check() {
    views_check();
    views_end();
    return check_account();
  },
};
