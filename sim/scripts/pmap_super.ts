/*
 * pmap_super: a superpage comes with its last page and goes with any, while another CPU uses it.
 *
 * All but the last page are mapped and used beforehand, by both pmaps.  Two pages are freed in the
 * middle: what is left of the superpage must lead to the others, and to no page that was freed.
 */
import {
  view_free,
  view_map,
  view_renew,
  view_sample,
  view_unmap,
  view_use,
  views_check,
  views_end,
  views_make,
} from '../../src/sys/pmap/pmap_views.test.lib.ts';
import { check_account } from '../account.ts';
import type { SimScript } from '../script.ts';

const LAST = 1023;
const use = (p: number, i: number, write: boolean) => (): void => void view_use(p, i, write, 0);
const map = (p: number, i: number, write: boolean) => (): void => {
  view_map(p, i, write);
  view_use(p, i, write, 0);
};

export const script: SimScript = {
  help: 'superpages: promoted, used by their one tag, demoted; never to a page that was freed',
  cpus: 2,
  memory: '8M',
  set: { 'vm.pmap.pg_ps_enabled': 1 },
  victim: 1,
  kill_seeds: 1,
  setup() {
    if (!views_make(true)) throw new Error('no memory for the first page tables');
    view_renew();
    for (let i = 0; i < LAST; i++) map(0, i, true)();
  },
  ops: (cpu) =>
    cpu === 0
      ? [
          use(0, 7, false),
          use(0, LAST, true),
          () => view_sample(LAST),
          use(0, 8, true),
          () => view_free(7),
          use(0, 9, false),
        ]
      : [
          map(0, LAST, true),
          use(0, 5, true),
          () => view_unmap(0, 5, 1),
          map(0, 5, true),
          () => view_free(8),
          use(0, 8, false),
        ],
  check() {
    views_check();
    views_end();
    return check_account();
  },
};
